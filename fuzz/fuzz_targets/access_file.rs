//! The access file: no text makes the reader panic, what is wrong is said in one line without what may be a secret, and
//! a good file never lets in a token whose hash it does not hold.

#![no_main]

use std::sync::{Arc, LazyLock};

use futures_util::FutureExt as _;
use libfuzzer_sys::{Corpus, fuzz_target};
use subjobs::access::{Access, Action, AuthenticationError, Principal, Token};
use subjobs::domain::ProjectId;

/// A token and its hash.
static KNOWN: LazyLock<[(&str, String); 3]> = LazyLock::new(|| {
    ["known-token", "other-token", "x"]
        .map(|token| (token, Token::new(token.as_bytes()).expect("bytes").digest().to_string()))
});

/// Access that is only parsed has no identity service to ask, so there is nothing to wait for.
fn authenticate(access: &Access, token: Token<'_>) -> Result<Arc<Principal>, AuthenticationError> {
    access.authenticate(token).now_or_never().expect("an answer at once")
}

fuzz_target!(|data: &[u8]| -> Corpus {
    let Ok(text) = std::str::from_utf8(data) else { return Corpus::Reject };
    match Access::parse(text) {
        Ok(access) => {
            let lower = text.to_ascii_lowercase();
            // Escapes can spell a hash, too; none of the seeds needs one.
            let is_plain = !text.contains('\\');
            for (token, hash) in KNOWN.iter() {
                let known = authenticate(&access, Token::new(token.as_bytes()).expect("bytes"));
                assert!(known.is_err() || lower.contains(hash) || !is_plain, "{token} is let in");
                if let Ok(principal) = known {
                    for action in Action::ALL {
                        // Nobody enters a project that cannot exist who may not enter all.
                        let anywhere = principal.authorize(None, action).is_ok();
                        let here = ProjectId::parse("p").expect("a project");
                        assert!(!anywhere || principal.authorize(Some(&here), action).is_ok());
                    }
                }
            }
            for stranger in [&b"unknown"[..], text.as_bytes(), KNOWN[0].1.as_bytes()] {
                if let Some(token) = Token::new(stranger) {
                    assert!(authenticate(&access, token).is_err());
                }
            }
        }
        Err(reason) => assert!(!reason.is_empty() && !reason.contains('\n'), "{reason:?}"),
    }
    Corpus::Keep
});
