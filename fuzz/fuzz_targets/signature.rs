//! Signed requests: no head makes the reader panic or take memory without bound, and none is right without the secret.
//!
//! The input is the target, then what `Authorization` says behind the algorithm, then headers, a line each; all of the same
//! moment.

#![no_main]

use std::sync::LazyLock;

use http::{HeaderName, HeaderValue, Request};
use libfuzzer_sys::{Corpus, fuzz_target};
use subjobs::access::{Access, Signature};
use subjobs::domain::Timestamp;

static ACCESS: LazyLock<Access> = LazyLock::new(|| {
    let file = "[[principal]]\nname = \"a\"\nkind = \"account\"\nprojects = [\"*\"]\n\
        access_keys = [{ id = \"AK\", secret = \"a secret that nobody guesses\" }]";
    Access::parse(file).expect("an access file")
});
static NOW: LazyLock<Timestamp> = LazyLock::new(|| "2022-03-07T10:40:43Z".parse().expect("a moment"));

fuzz_target!(|data: &[u8]| -> Corpus {
    let mut lines = data.split(|byte| *byte == b'\n');
    let (Some(target), Some(signature)) = (lines.next(), lines.next()) else { return Corpus::Reject };
    let authorization = [b"SDK-HMAC-SHA256 ", signature].concat();
    let mut request = Request::get(target).header("Authorization", authorization);
    for line in lines {
        let mut parts = line.splitn(2, |byte| *byte == b':');
        let (Some(name), Some(value)) = (parts.next(), parts.next()) else { return Corpus::Reject };
        let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) else {
            return Corpus::Reject;
        };
        request = request.header(name, value);
    }
    let Ok(request) = request.body(()) else { return Corpus::Reject };
    let (parts, ()) = request.into_parts();
    if let Ok(Some(signature)) = Signature::read(&parts.headers, || *NOW) {
        assert!(ACCESS.verify_signature(&signature, &parts, &[0; 32]).is_err(), "a signature was guessed");
    }
    Corpus::Keep
});
