//! The access file as a whole: the permissions that it grants, and its errors.

use super::*;
use crate::metrics::IdentityMetrics;

fn hash(token: &str) -> String {
    Token::new(token.as_bytes()).unwrap().digest().to_string()
}

fn file(text: &str) -> String {
    text.replace("OPS", &hash("ops")).replace("DASH", &hash("dash")).replace("OLD", &hash("old"))
}

const GOOD: &str = r#"
projects = ["p1", "p2"]

[[principal]]
name = "ops"
kind = "account"
projects = ["*"]
tokens = [{ sha256 = "OPS" }]

[[principal]]
name = "dashboard"
kind = "user"
projects = ["p1", "p3"]
tokens = [{ sha256 = "DASH" }, { sha256 = "OLD", expires_at = 2027-01-01T08:00:00+08:00 }]
policies = ["count-only"]

[[policy.count-only.Statement]]
Effect = "Allow"
Action = ["workspace:jobs:countSubJobs"]
"#;

fn metrics() -> IdentityMetrics {
    IdentityMetrics::new(&prometheus::Registry::new()).unwrap()
}

fn project(name: &str) -> ProjectId {
    ProjectId::parse(name).unwrap()
}

fn ask<'a>(access: &'a Access, token: &str, now: &str) -> Result<&'a Arc<Principal>, AuthenticationError> {
    access.find_token(Token::new(token.as_bytes()).unwrap().digest(), || now.parse().unwrap())
}

#[test]
fn tokens_find_their_principals_until_they_expire() {
    let access = Access::parse(&file(GOOD)).unwrap();
    let name = |token, now| ask(&access, token, now).map(|principal| principal.name().to_owned());
    assert_eq!(name("ops", "2126-01-01T00:00:00Z").as_deref(), Ok("ops"));
    assert_eq!(name("dash", "2126-01-01T00:00:00Z").as_deref(), Ok("dashboard"));
    assert_eq!(name("old", "2026-12-31T23:59:59Z").as_deref(), Ok("dashboard"));
    assert_eq!(name("old", "2027-01-01T00:00:00Z"), Err(AuthenticationError::Expired));
    assert_eq!(name("Ops", "2026-01-01T00:00:00Z"), Err(AuthenticationError::Unknown));
    assert_eq!(name(&hash("ops"), "2026-01-01T00:00:00Z"), Err(AuthenticationError::Unknown));
}

#[test]
fn an_account_has_every_permission_and_a_user_those_of_its_policies() {
    let access = Access::parse(&file(GOOD)).unwrap();
    let now = "2026-01-01T00:00:00Z";
    let (ops, dashboard) = (ask(&access, "ops", now).unwrap(), ask(&access, "dash", now).unwrap());
    let (count, report) = (Action::CountSubJobs, Action::ReportSubJobs);
    for action in Action::ALL {
        assert_eq!(ops.authorize(Some(&project("anything")), action), Ok(()));
        assert_eq!(ops.authorize(None, action), Ok(()));
        assert_eq!(dashboard.authorize(None, action), Err(Denied::Project));
    }
    assert_eq!(dashboard.authorize(Some(&project("p1")), count), Ok(()));
    assert_eq!(dashboard.authorize(Some(&project("p1")), report), Err(Denied::Action(report)));
    assert_eq!(dashboard.authorize(Some(&project("p2")), count), Err(Denied::Project));
    assert!(access.project_exists(&project("p2")));
    assert!(!access.project_exists(&project("p3")));
    let without_list = file(GOOD).replace("projects = [\"p1\", \"p2\"]", "");
    assert!(Access::parse(&without_list).unwrap().project_exists(&project("p3")));
}

#[test]
fn a_user_without_policies_has_no_permission() {
    let text = "[[principal]]\nname = \"u\"\nkind = \"user\"\nprojects = [\"*\"]\ntokens = [{ sha256 = \"OPS\" }]";
    let access = Access::parse(&file(text)).unwrap();
    let user = ask(&access, "ops", "2026-01-01T00:00:00Z").unwrap();
    for action in Action::ALL {
        assert_eq!(user.authorize(Some(&project("p")), action), Err(Denied::Action(action)));
    }
}

#[test]
fn named_projects_exist_and_are_listed_for_their_principals() {
    let named = "[[project]]\nid = \"p1\"\nname = \"cn-north-4\"\n[[project]]\nid = \"p9\"\nname = \"eu-west-0\"\n";
    let access = Access::parse(&file(&format!("{GOOD}\n{named}"))).unwrap();
    assert!(access.project_exists(&project("p9")) && access.project_exists(&project("p2")));
    assert!(!access.project_exists(&project("p3")));
    let shown = |token| {
        let principal = ask(&access, token, "2026-01-01T00:00:00Z").unwrap();
        access.named_projects(principal).map(|(id, name)| format!("{id} {name}")).collect::<Vec<_>>()
    };
    assert_eq!(shown("ops"), ["p1 cn-north-4", "p9 eu-west-0"]);
    assert_eq!(shown("dash"), ["p1 cn-north-4"]);
    let alone = Access::parse(&file(&GOOD.replace("projects = [\"p1\", \"p2\"]", named))).unwrap();
    assert!(alone.project_exists(&project("p1")) && !alone.project_exists(&project("p2")));
    for (bad, reason) in [
        (named.replace("p9", "p1"), "line 5: id: project \"p1\" is listed twice"),
        (named.replace("p9", "a/b"), "line 5: id: project \"a/b\" must not hold"),
        (named.replace("eu-west-0", ""), "line 6: name: project \"p9\" has an empty name"),
    ] {
        let error = Access::parse(&bad).unwrap_err();
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn secrets_of_access_keys_have_three_sources() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("secret"), "from a file\n").unwrap();
    let text = |keys: &str| {
        format!("[[principal]]\nname = \"a\"\nkind = \"account\"\nprojects = [\"*\"]\naccess_keys = [{keys}]")
    };
    let path = dir.path().join("access.toml");
    let read = |keys: &str| {
        std::fs::write(&path, text(keys)).unwrap();
        Access::read(&path).map_err(|error| error.to_string())
    };
    let keys = r#"{ id = "A", secret = "s" }, { id = "B", secret_file = "secret" }, { id = "C", secret_env = "PATH" }"#;
    let access = read(keys).unwrap();
    let secret = |id: &str| access.keys[id].secret.bytes().to_owned();
    assert_eq!(secret("A"), b"s");
    assert_eq!(secret("B"), b"from a file");
    assert_eq!(secret("C"), std::env::var("PATH").unwrap().as_bytes());
    for (keys, reason) in [
        (r#"{ id = "A" }"#, "line 5: access key \"A\": give one of secret, secret_env and secret_file"),
        (r#"{ id = "A", secret = "s", secret_env = "PATH" }"#, "give one of"),
        (r#"{ id = "A", secret = "" }"#, "the secret is empty"),
        (
            r#"{ id = "A", secret_env = "SUBJOBS_NO_SUCH" }"#,
            "line 5: access key \"A\": secret_env: the environment variable is not set",
        ),
        (r#"{ id = "A", secret_file = "none" }"#, "line 5: access key \"A\": secret_file: No such file"),
        (r#"{ id = "A,B", secret = "s" }"#, "without a comma"),
        (r#"{ id = "A", secret = "s" }, { id = "A", secret = "t" }"#, "the id is used twice"),
        (r#"{ id = "A", key = "s" }"#, "unknown field `key`"),
    ] {
        let error = read(keys).unwrap_err();
        assert!(error.contains(reason), "{error:?} does not say {reason:?}");
    }
}

#[test]
fn the_identity_section_is_checked_at_start() {
    let identity = |more: &str| Access::parse(&file(&format!("{GOOD}\n[identity]\n{more}")));
    assert!(
        identity("url = \"https://iam.example.com/v3/\"\n[identity.roles]\nr = [\"count-only\"]\na = \"account\"")
            .is_ok()
    );
    for (more, reason) in [
        ("", "missing field `url`"),
        ("url = \"ftp://a\"", "identity: line 22: url must be http"),
        ("url = \"iam\"", "identity: line 22: url: "),
        ("url = \"http://a b\"", "identity: line 22: url: "),
        ("url = \"http://\"", "identity: line 22: url"),
        ("url = \"http:///v3\"", "identity: line 22: url"),
        ("url = \"/v3\"", "identity: line 22: url must be http"),
        ("url = \"http://a/v3?x=1\"", "identity: line 22: url must have no query and no fragment"),
        ("url = \"http://a/v3?\"", "identity: line 22: url must have no query and no fragment"),
        ("url = \"http://a/v3#x\"", "identity: line 22: url must have no query and no fragment"),
        ("url = \"http://a#\"", "identity: line 22: url must have no query and no fragment"),
        ("url = \"http://user@a\"", "identity: line 22: url must have no user and no password"),
        ("url = \"https://:pass@a:1/v3\"", "identity: line 22: url must have no user and no password"),
        ("url = \"http://a:99999\"", "identity: line 22: url must have a port from 1 to 65535, or none"),
        ("url = \"http://a:0\"", "identity: line 22: url must have a port from 1 to 65535, or none"),
        ("url = \"http://[::1]:x\"", "identity: line 22: url"),
        ("url = \"http://a\"\ncache = \"x\"", "identity: line 23: cache must be a time"),
        ("url = \"http://a\"\ntimeout = \"0s\"", "identity: line 23: timeout must not be zero"),
        ("url = \"http://a\"\nca_file = \"/none\"", "identity: line 23: ca_file: No such file"),
        ("url = \"http://a\"\nca_file = \"Cargo.toml\"", "identity: line 23: ca_file holds no certificate"),
        (
            "url = \"http://a\"\n[identity.roles]\nr = [\"none\"]",
            "identity: line 24: role \"r\": there is no policy \"none\"",
        ),
        ("url = \"http://a\"\n[identity.roles]\nr = \"root\"", "a role maps to"),
        ("url = \"http://a\"\nretries = 3", "unknown field `retries`"),
    ] {
        let error = identity(more).unwrap_err();
        assert!(error.contains(reason), "{error:?} does not say {reason:?}");
    }
}

#[test]
fn errors_name_the_principal_and_the_line() {
    for (from, to, reason) in [
        ("name = \"dashboard\"", "name = \"ops\"", "principal \"ops\": line 11: the name is used twice"),
        ("DASH", "OPS", "principal \"dashboard\": line 14: the token is used twice"),
        ("\"OLD\"", "\"DASH\"", "principal \"dashboard\": line 14: the token is used twice"),
        ("DASH", "abc", "principal \"dashboard\": line 14: sha256 must be 64 hexadecimal digits"),
        ("2027-01-01T08:00:00+08:00", "\"x\"", "line 14: expires_at: invalid type: string, expected a TOML datetime"),
        ("+08:00", "", "principal \"dashboard\": line 14: expires_at must be a date and time with an offset"),
        ("[\"count-only\"]", "[\"count\"]", "principal \"dashboard\": line 15: policies: there is no policy \"count\""),
        (
            "\"user\"",
            "\"account\"",
            "principal \"dashboard\": line 15: policies: an account holds every permission; it can have no policies",
        ),
        ("\"p1\", \"p3\"", "\"p1\",\n\"*\"", "principal \"dashboard\": line 14: projects: \"*\" must be the only item"),
        ("\"p1\", \"p2\"", "\"*\"", "line 2: projects: \"*\" must be the only item"),
        ("\"p1\", \"p2\"", "\"p1\",\n\"a b\"", "line 3: projects: project \"a b\" must not hold"),
        ("\"p1\", \"p2\"", "\"p1\",\n7", "line 3: projects: invalid type: integer, expected a string"),
        ("\"p1\", \"p3\"", "\"a/b\"", "principal \"dashboard\": line 13: projects: project \"a/b\" must not hold"),
        ("\"account\"", "\"root\"", "line 6: kind: unknown variant, expected `account` or `user`"),
        ("\"OPS\"", "\"OPS\", secret = \"x\"", "line 8: unknown field `secret`"),
        ("[{ sha256 = \"OPS\" }]", "[\"OPS\"]", "line 8: tokens: invalid type: string, expected { sha256 = \"…\" }"),
        ("[{ sha256 = \"OPS\" }]", "\"OPS\"", "line 8: tokens: invalid type: string, expected a sequence"),
        ("kind = \"user\"", "kind = \"user\"\nkey = 1", "line 13: unknown field `key`"),
        ("projects = [\"p1\", \"p2\"]", "projets = []", "line 2: unknown field `projets`"),
        ("Effect =", "NotAction = [\"*\"]\nEffect =", "unknown field `NotAction`"),
        ("kind = \"account\"\n", "", "missing field `kind`"),
        ("[[principal]]", "[[principal]", "line 4: "),
    ] {
        assert!(GOOD.contains(from), "{from}");
        let error = Access::parse(&file(&GOOD.replacen(from, to, 1))).unwrap_err();
        assert!(error.contains(reason), "{error:?} does not say {reason:?}");
        assert!(!error.contains(&hash("ops")[..8]) && !error.contains('\n'), "{error}");
    }
}

#[test]
fn an_account_has_no_policies_not_even_an_empty_list() {
    for list in ["[]", "[\"count-only\"]", "[\"none\"]"] {
        let more = format!("kind = \"account\"\npolicies = {list}");
        let error = Access::parse(&file(&GOOD.replacen("kind = \"account\"", &more, 1))).unwrap_err();
        assert!(error.starts_with("principal \"ops\": line 7: policies: an account holds"), "{error}");
    }
    assert!(Access::parse(&file(&GOOD.replace("[\"count-only\"]", "[]"))).is_ok());
}

#[test]
fn a_reload_replaces_the_whole_access_file_or_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("access.toml");
    std::fs::write(&path, file(GOOD)).unwrap();
    let handle = AccessHandle::open(AccessSource::File(path.clone()), Vec::new(), metrics()).unwrap();
    let known = |token| ask(&handle.load(), token, "2026-01-01T00:00:00Z").is_ok();
    assert!(known("ops") && known("dash"));

    std::fs::write(&path, "nonsense").unwrap();
    let error = handle.reload().unwrap_err().to_string();
    assert!(error.contains("access.toml: line 1: "), "{error}");
    assert!(known("ops") && known("dash"));

    std::fs::write(&path, file(&GOOD.replace("OPS", &hash("new")))).unwrap();
    handle.reload().unwrap();
    assert!(!known("ops") && known("new") && known("dash"));

    std::fs::remove_file(&path).unwrap();
    assert!(handle.reload().is_err());
    assert!(known("new"));
}

#[test]
fn a_reload_that_began_earlier_does_not_undo_a_later_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("access.toml");
    std::fs::write(&path, file(GOOD)).unwrap();
    let handle = AccessHandle::open(AccessSource::File(path.clone()), Vec::new(), metrics()).unwrap();
    let known = |token| ask(&handle.load(), token, "2026-01-01T00:00:00Z").is_ok();
    std::fs::write(&path, file(&GOOD.replace("OPS", &hash("new")))).unwrap();
    // The next reload has number 1, as if it began before two others that have finished.
    handle.activate(3, Access::read(&path).unwrap()).unwrap();
    std::fs::write(&path, file(GOOD)).unwrap();
    assert!(!handle.reload().unwrap());
    assert!(known("new") && !known("ops"));
    handle.activate(4, Access::read(&path).unwrap()).unwrap();
    assert!(known("ops"));
}
