//! Tokens, permissions and projects of the access file.

use subjobs::access::{AccessSource, Token};

use crate::support::connection::{Connection, exchange, head};
use crate::support::fixtures::{
    DASHBOARD, EXPIRED, OPS, OTHER_PROJECT, PROJECT, WORKER, access, code, config, count_path, record,
};
use crate::support::response::assert_error;
use crate::support::server::Running;

fn hash(token: &[u8]) -> String {
    Token::new(token).unwrap().digest().to_string()
}

/// The head of a count with these header lines of any bytes.
fn asking(lines: &[&[u8]]) -> Vec<u8> {
    let mut request = format!("GET {} HTTP/1.1\r\nHost: h\r\n", count_path(PROJECT)).into_bytes();
    for line in lines {
        request.extend_from_slice(line);
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    request
}

#[tokio::test]
async fn a_count_needs_exactly_one_valid_token() {
    let server = Running::start(config()).await;
    let mut connection = Connection::open(server.public).await;
    let (hash, long) = (hash(OPS.as_bytes()), format!("X-Auth-Token: {}", "x".repeat(60_000)));
    let hash = format!("X-Auth-Token: {hash}");
    for (lines, reason) in [
        (&[][..], ""),
        (&["X-Auth-Token:"], "is empty"),
        (&["X-Auth-Token:  \t "], "is empty"),
        (&["X-Auth-Token: ops-token", "X-Auth-Token: ops-token"], "is given more than once"),
        (&["X-Auth-Token: ops-token", "x-auth-token: unknown-token"], "is given more than once"),
        (&["X-Auth-Token: ", "X-Auth-Token: ops-token"], "is given more than once"),
        (&["X-Auth-Token: unknown-token"], "is not valid"),
        (&["X-Auth-Token: ops-toke"], "is not valid"),
        (&["X-Auth-Token: ops-tokens"], "is not valid"),
        (&["X-Auth-Token: OPS-TOKEN"], "is not valid"),
        (&["X-Auth-Token: ops-token,ops-token"], "is not valid"),
        (&["X-Auth-Token: \"ops-token\""], "is not valid"),
        (&["X-Auth-Token: *"], "is not valid"),
        (&[&*hash], "is not valid"),
        (&[&*long], "is not valid"),
        (&["X-Auth-Token: expired-token"], "has expired"),
        (&["Authorization: Bearer ops-token"], ""),
        (&["Authorization: Basic b3BzOm9wcy10b2tlbg==", "X-Auth-Token: unknown-token"], "is not valid"),
        (&["X-Subject-Token: ops-token", "Cookie: X-Auth-Token=ops-token"], ""),
    ] {
        let bytes: Vec<_> = lines.iter().map(|line| line.as_bytes()).collect();
        connection.send(asking(&bytes)).await;
        let answer = connection.response().await;
        let message = answer.assert_error(401, code::CREDENTIAL);
        let expected = match reason {
            "" => "neither X-Auth-Token nor a signature is given".to_owned(),
            reason => format!("X-Auth-Token {reason}"),
        };
        assert_eq!(message, expected, "{lines:?}");
        assert_eq!(answer.header("www-authenticate"), None);
    }
    for lines in [
        &["X-Auth-Token: ops-token"][..],
        &["x-AUTH-token:ops-token  "],
        &["X-Auth-Token: ops-token", "Authorization: Bearer unknown-token"],
        &["X-Auth-Token: ops-token", "Authorization: Basic ???", "Authorization: x"],
        &["X-Auth-Token: ops-token", "Authorization:"],
    ] {
        let bytes: Vec<_> = lines.iter().map(|line| line.as_bytes()).collect();
        connection.send(asking(&bytes)).await;
        assert_eq!(connection.response().await.count(), 0, "{lines:?}");
    }
}

#[tokio::test]
async fn a_token_in_the_query_is_ignored() {
    let server = Running::start(config()).await;
    let url = server.count_url(PROJECT, "?X-Auth-Token=ops-token");
    let message = assert_error(server.client.get(url).send().await.unwrap(), 401, code::CREDENTIAL).await;
    assert_eq!(message, "neither X-Auth-Token nor a signature is given");
}

/// A token may have bytes above 0x7f. An invalid one gets 401.
#[tokio::test]
async fn a_token_may_have_any_bytes() {
    let odd = "clé-\u{1F980}";
    let mut config = config();
    config.access = AccessSource::Text(access().replace(&hash(OPS.as_bytes()), &hash(odd.as_bytes())));
    let server = Running::start(config).await;
    let mut connection = Connection::open(server.public).await;
    for (token, is_good) in [
        (odd.as_bytes(), true),
        (b"\xff\xfe", false),
        (b"cl\xe9-\xf0\x9f\xa6\x80", false),
        (b"ops\ttoken", false),
        (b"\x80", false),
    ] {
        connection.send(asking(&[&[b"X-Auth-Token: ", token].concat()])).await;
        let answer = connection.response().await;
        if is_good {
            answer.count();
        } else {
            assert_eq!(answer.assert_error(401, code::CREDENTIAL), "X-Auth-Token is not valid");
        }
    }
}

/// Tokens of the publisher's identity service have several KiB. The server accepts 32 KiB.
#[tokio::test]
async fn a_token_of_32_kib_is_accepted() {
    let long: String = (0..32 * 1024).map(|n| char::from(b'A' + (n * n % 26) as u8)).collect();
    let mut config = config();
    config.access = AccessSource::Text(access().replace(&hash(OPS.as_bytes()), &hash(long.as_bytes())));
    let server = Running::start(config).await;
    let request = |token: &str| asking(&[format!("X-Auth-Token: {token}").as_bytes()]);
    assert_eq!(exchange(server.public, request(&long)).await.count(), 0);
    exchange(server.public, request(&long[1..])).await.assert_error(401, code::CREDENTIAL);
}

#[tokio::test]
async fn no_response_repeats_a_credential() {
    let server = Running::start(config()).await;
    let secret = "s3cr3t-of-no-principal";
    let mut connection = Connection::open(server.public).await;
    for (target, lines) in [
        (count_path(PROJECT), vec![format!("X-Auth-Token: {secret}")]),
        (count_path(PROJECT), vec![format!("X-Auth-Token: {secret}"), format!("X-Auth-Token: {secret}")]),
        (count_path(PROJECT), vec![format!("Authorization: Bearer {secret}")]),
        (format!("{}?status={OPS}", count_path(PROJECT)), vec![format!("X-Auth-Token: {OPS}")]),
        (format!("/{OPS}"), vec![format!("X-Auth-Token: {OPS}")]),
    ] {
        let lines: Vec<_> = ["Host: h"].into_iter().chain(lines.iter().map(String::as_str)).collect();
        connection.send(head(&format!("GET {target} HTTP/1.1"), &lines)).await;
        let answer = connection.response().await;
        assert!(answer.status >= 400);
        let all = format!("{:?}{}", answer.headers, String::from_utf8_lossy(&answer.body));
        assert!(!all.contains(secret) && !all.contains(OPS), "{all}");
    }
}

#[tokio::test]
async fn a_user_has_the_permissions_of_its_policies() {
    let server = Running::start(config()).await;
    const COUNT: &str = "workspace:jobs:countSubJobs";
    const REPORT: &str = "workspace:jobs:reportSubJobs";
    let no_action = |action| format!("the caller has no permission for {action}");
    let no_project = || "the caller has no access to this project".to_owned();
    for (token, project, count, report) in [
        (OPS, PROJECT, None, None),
        (OPS, OTHER_PROJECT, None, None),
        (DASHBOARD, PROJECT, None, Some(no_action(REPORT))),
        (DASHBOARD, OTHER_PROJECT, Some(no_project()), Some(no_project())),
        (WORKER, PROJECT, Some(no_action(COUNT)), None),
        (WORKER, OTHER_PROJECT, Some(no_project()), Some(no_project())),
        // Only a caller with access to a project id learns whether it is valid and exists.
        (DASHBOARD, "nowhere", Some(no_project()), Some(no_project())),
        (DASHBOARD, "a%2Fb", Some(no_project()), Some(no_project())),
        (DASHBOARD, "%32b31ed520ab14c7bebedb6e57f00aa11", None, Some(no_action(REPORT))),
        (DASHBOARD, "2B31ED520AB14C7BEBEDB6E57F00AA11", Some(no_project()), Some(no_project())),
    ] {
        let url = server.count_url(project, "");
        let counted = server.client.get(url).header("X-Auth-Token", token).send().await.unwrap();
        let url = format!("http://{}/v1/{project}/app-server-sub-jobs/actions/report", server.internal);
        let reported = server.client.post(url).header("X-Auth-Token", token);
        let reported = reported.header("Content-Type", "application/x-ndjson").body("").send().await.unwrap();
        for (response, refused) in [(counted, count), (reported, report)] {
            match refused {
                None => assert_eq!(response.status(), 200, "{token} {project}"),
                Some(reason) => {
                    assert_eq!(assert_error(response, 403, code::PERMISSION).await, reason, "{token} {project}")
                }
            }
        }
    }
}

#[tokio::test]
async fn a_report_needs_a_credential() {
    let server = Running::start(config()).await;
    let body = record("1", "j", "CREATE_SERVER", "RUNNING");
    for (token, reason) in [("", "is empty"), ("unknown-token", "is not valid"), (EXPIRED, "has expired")] {
        let response = server.report(token, body.clone()).send().await.unwrap();
        assert_eq!(assert_error(response, 401, code::CREDENTIAL).await, format!("X-Auth-Token {reason}"));
    }
    let refused = server.report(DASHBOARD, body).send().await.unwrap();
    assert_error(refused, 403, code::PERMISSION).await;
    assert_eq!(server.count("").await, 0);
}

/// An account has access to every project id, so it learns which projects do not exist.
#[tokio::test]
async fn unlisted_projects_do_not_exist() {
    let server = Running::start(config()).await;
    let ask = |project: &str| server.client.get(server.count_url(project, "")).header("X-Auth-Token", OPS).send();
    for project in ["nowhere", "2b31", "2B31ED520AB14C7BEBEDB6E57F00AA11"] {
        let message = assert_error(ask(project).await.unwrap(), 404, code::NOT_FOUND).await;
        assert_eq!(message, "the project does not exist");
    }
    assert_eq!(ask(OTHER_PROJECT).await.unwrap().status(), 200);
}

/// A reload applies to every later request, also on open connections. An invalid file changes nothing.
#[tokio::test]
async fn a_reload_applies_to_open_connections() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("access.toml");
    std::fs::write(&path, access()).unwrap();
    let mut config = config();
    config.access = AccessSource::File(path.clone());
    let server = Running::start(config).await;
    let mut connection = Connection::open(server.public).await;
    let mut status = async |token: &str| {
        connection.send(asking(&[format!("X-Auth-Token: {token}").as_bytes()])).await;
        connection.response().await.status
    };
    assert_eq!((status(OPS).await, status(DASHBOARD).await, status("new").await), (200, 200, 401));

    std::fs::write(&path, access().replace(&hash(OPS.as_bytes()), &hash(b"new"))).unwrap();
    server.access.reload().unwrap();
    assert_eq!((status(OPS).await, status(DASHBOARD).await, status("new").await), (401, 200, 200));

    std::fs::write(&path, "[[principal]]").unwrap();
    assert!(server.access.reload().is_err());
    assert_eq!((status(OPS).await, status(DASHBOARD).await, status("new").await), (401, 200, 200));
}
