//! Access files that are long, empty, or have a secret in the wrong field.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use super::*;

fn read(text: &str) -> Result<Access, String> {
    parse(text, Path::new(""))
}

fn principal(name: &str, more: &str) -> String {
    format!("[[principal]]\nname = \"{name}\"\nkind = \"user\"\nprojects = [\"p\"]\n{more}\n")
}

/// A release build reads these in a second. A quadratic algorithm needed a minute for less than half of them.
fn assert_quick(start: Instant) {
    let took = start.elapsed();
    assert!(took < Duration::from_secs(if cfg!(debug_assertions) { 30 } else { 3 }), "{took:?}");
}

#[test]
fn a_hundred_thousand_principals_are_read_quickly() {
    let mut text = String::new();
    for n in 0..100_000 {
        let more = format!("tokens = [{{ sha256 = \"{n:064x}\" }}]");
        write!(text, "{}", principal(&format!("u{n}"), &more)).unwrap();
    }
    let start = Instant::now();
    let access = read(&text).unwrap();
    assert_quick(start);
    assert_eq!(access.tokens.len(), 100_000);
    assert_eq!(read(&principal("u", "").repeat(2)).unwrap_err(), "principal \"u\": line 7: the name is used twice");
}

#[test]
fn digests_with_equal_first_words_are_stored_quickly() {
    let hashes: Vec<_> = (0..100_000).map(|n| format!("{{ sha256 = \"{:048x}{n:016x}\" }}", 0)).collect();
    let text = principal("u", &format!("tokens = [{}]", hashes.join(",\n")));
    let start = Instant::now();
    assert_eq!(read(&text).unwrap().tokens.len(), 100_000);
    assert_quick(start);
}

/// A policy is evaluated once, not for each principal that names it.
#[test]
fn a_long_policy_is_read_once() {
    let mut text: String = (0..20_000).map(|n| principal(&format!("u{n}"), "policies = [\"long\"]")).collect();
    text += &principal("last", &format!("policies = [\"long\"]\ntokens = [{{ sha256 = \"{:064x}\" }}]", 1));
    let actions = vec!["\"workspace:*:x*\""; 20_000].join(",");
    write!(text, "[[policy.long.Statement]]\nEffect = \"Allow\"\nAction = [{actions}, \"*:count*\"]\n").unwrap();
    let start = Instant::now();
    let access = read(&text).unwrap();
    assert_quick(start);
    let entry = access.tokens.values().next().unwrap();
    assert!(entry.principal.authorize(ProjectId::parse("p").ok().as_ref(), super::super::Action::CountSubJobs).is_ok());
}

#[test]
fn a_file_without_credentials_is_refused() {
    for text in ["", "\n# nothing\n", "projects = []", "projects = [\"p\"]\n", &principal("u", ""), "\u{feff}"] {
        let error = read(text).unwrap_err();
        assert!(error.starts_with("it has no credentials"), "{error}");
    }
    let token = format!("tokens = [{{ sha256 = \"{:064x}\" }}]", 1);
    for more in [&*token, "access_keys = [{ id = \"A\", secret = \"s\" }]"] {
        assert!(read(&principal("u", more)).is_ok());
    }
    assert!(read("[identity]\nurl = \"http://a\"").is_ok());
}

#[test]
fn a_byte_order_mark_is_skipped() {
    let text = "[identity]\nurl = \"http://a\"\n";
    assert!(read(&format!("\u{feff}{text}")).is_ok());
    assert!(read(&format!("{text}\u{feff}")).is_err());
    // One only. The file is parsed in parts, each of which the parser would let begin with one.
    let table = principal("u", "");
    for text in [text.to_owned(), format!("{table}{text}"), format!("{text}{table}{table}")] {
        let twice = read(&format!("\u{feff}\u{feff}{text}")).unwrap_err();
        assert_eq!(twice, "line 1: it begins with two byte order marks");
        for (at, _) in text.match_indices('[').filter(|(at, _)| *at > 0) {
            let (before, after) = text.split_at(at);
            assert!(read(&format!("{before}\u{feff}{after}")).is_err(), "{before:?} and then {after:?}");
        }
    }
    let error = read(&format!("\u{feff}{text}nothing = 1")).unwrap_err();
    assert!(error.starts_with("line 3: "), "{error}");
}

#[test]
fn a_secret_in_the_wrong_place_is_not_printed() {
    let hidden = "S3cret-of-a-principal";
    let key = |key: &str| principal("u", &format!("access_keys = [{{ id = \"A\", {key} }}]"));
    let identity = |more: &str| format!("[identity]\nurl = \"http://a\"\n{more}");
    for (text, line) in [
        (key("secret_env = \"HIDDEN\""), 5),
        (key("secret_env = \"HIDDEN=\\u0000\""), 5),
        (key("secret_file = \"HIDDEN\""), 5),
        (key("secret_file = \"HID\\u0000DEN\"").replace("HID\\u0000DEN", "HIDDEN\\u0000"), 5),
        (key("secret = [\"HIDDEN\"]"), 5),
        (key("HIDDEN = \"x\""), 5),
        (key("\"HIDDEN\" = 1"), 5),
        (key("secret = HIDDEN"), 5),
        (key("secret = \"HIDDEN"), 5),
        (key("secret_env = \"x\", HIDDEN"), 5),
        (principal("u", "access_keys = [{ id = \"HIDDEN \", secret = \"s\" }]"), 5),
        (principal("u", "tokens = [\"HIDDEN\"]"), 5),
        (principal("u", "tokens = \"HIDDEN\""), 5),
        (principal("u", "tokens = [{ sha256 = \"HIDDEN\" }]"), 5),
        (principal("u", "tokens = [{ sha256 = \"x\", expires_at = \"HIDDEN\" }]"), 5),
        (principal("u", "").replace("\"user\"", "\"HIDDEN\""), 3),
        (principal("u", "").replace("[\"p\"]", "\"HIDDEN\""), 4),
        (identity("ca_file = \"HIDDEN\""), 3),
        (identity("cache = \"HIDDEN\""), 3),
        (identity("timeout = \"HIDDEN\""), 3),
        (identity("HIDDEN = 1"), 3),
        (identity("[identity.roles]\nx = \"HIDDEN\""), 4),
        (identity("").replace("http://a", "http://HIDDEN:HIDDEN@a"), 2),
        (identity("").replace("http://a", "http://HIDDEN@a/x"), 2),
        (identity("").replace("http://a", "HIDDEN"), 2),
        (identity("").replace("http://a", "http://u:HIDDEN@a b"), 2),
        (identity("").replace("http://a", "http://a?HIDDEN"), 2),
        ("HIDDEN".to_owned(), 1),
        ("[[HIDDEN]]".to_owned(), 1),
        ("policy.x.HIDDEN = 1".to_owned(), 1),
        ("policy.x.Statement = [{ Effect = \"HIDDEN\", Action = [] }]".to_owned(), 1),
    ] {
        let error = read(&text.replace("HIDDEN", hidden)).unwrap_err();
        assert!(!error.contains("S3cret") && !error.contains('\n'), "{error}");
        assert!(error.contains(&format!("line {line}: ")), "{text}\n{error}");
    }
}

#[test]
fn a_token_may_expire_at_any_moment_of_rfc_3339() {
    let read = |at: &str| {
        let more = format!("tokens = [{{ sha256 = \"{:064x}\", expires_at = {at} }}]", 1);
        let access = super::tests::read(&principal("u", &more))?;
        Ok(access.tokens.into_values().next().and_then(|entry| entry.expires_at).map(|at| at.to_string()))
    };
    for (at, same) in [
        ("2027-01-01T00:00:00Z", "2027-01-01T00:00:00Z"),
        ("2027-01-01 00:00:00Z", "2027-01-01T00:00:00Z"),
        ("2027-01-01t08:00:00.5+08:00", "2027-01-01T00:00:00.5Z"),
        ("2027-01-01T00:00:00z", "2027-01-01T00:00:00Z"),
        ("9999-12-31T23:59:59.999999999Z", "9999-12-31T23:59:59.999999999Z"),
        ("9999-12-31T23:59:59-23:59", "9999-12-31T23:59:59-23:59"),
        ("0000-01-01T00:00:00Z", "0000-01-01T00:00:00Z"),
        ("2027-01-01T00:00:00.12345678901234567890Z", "2027-01-01T00:00:00.123456789Z"),
        ("2027-01-01T00:00:00-00:00", "2027-01-01T00:00:00Z"),
        ("2016-12-31T23:59:60Z", "2017-01-01T00:00:00Z"),
    ] {
        assert_eq!(read(at), Ok(Some(same.to_owned())), "{at}");
    }
    for bad in ["2027-01-01T00:00:00", "2027-01-01", "00:00:00", "2027-02-29T00:00:00Z", "2027-01-01T00:00:60Z"] {
        let error: Result<_, String> = read(bad);
        assert!(error.unwrap_err().contains("line 5: "), "{bad}");
    }
}

/// Principals are parsed in chunks, the text between them as a whole.
#[test]
fn tables_may_be_in_any_order() {
    let token = |n: u32| format!("tokens = [{{ sha256 = \"{n:064x}\" }}]");
    let statement = |action: &str| format!("[[policy.p.Statement]]\nEffect = \"Allow\"\nAction = [\"{action}\"]\n");
    let text = [
        principal("a", &format!("policies = [\"p\"]\n[[principal.tokens]]\nsha256 = \"{:064x}\"", 1)),
        statement("*:count*"),
        principal("b", &token(2)),
        "[identity]\nurl = \"http://a\"\nca_file = \"none\"\n".into(),
        principal("c", &token(3)),
        statement("*:report*"),
    ];
    let error = read(&text.concat()).unwrap_err();
    assert!(error.starts_with("identity: line 18: ca_file: "), "{error}");
    let good = text.concat().replace("ca_file = \"none\"\n", "");
    let access = read(&good).unwrap();
    assert_eq!(access.tokens.len(), 3);
    for entry in access.tokens.values().filter(|entry| entry.principal.name() == "a") {
        for action in [super::super::Action::CountSubJobs, super::super::Action::ReportSubJobs] {
            assert!(entry.principal.authorize(ProjectId::parse("p").ok().as_ref(), action).is_ok(), "{action}");
        }
    }
    for (from, to, reason) in [
        (format!("{:064x}", 3), format!("{:064x}", 2), "principal \"c\": line 22: the token is used twice"),
        ("\"c\"".into(), "\"a\"".into(), "principal \"a\": line 19: the name is used twice"),
        ("\"c\"".into(), "7".into(), "line 19: name: invalid type: integer, expected a string"),
        ("url".into(), "uri".into(), "line 17: unknown field `uri`"),
        ("[identity]".into(), "[principal]".into(), "line 16: "),
        ("[identity]".into(), "[policy.p]".into(), "line 17: unknown field `url`"),
    ] {
        let error = read(&good.replace(&from, &to)).unwrap_err();
        assert!(error.starts_with(reason), "{error:?} is not {reason:?}");
    }
}
