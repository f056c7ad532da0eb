//! The order of decisions: whatever is wrong with a request at once, the earliest in the order is what it is told.

use std::net::SocketAddr;

use subjobs::access::AccessSource;

use crate::support::{DASHBOARD, EXPIRED, OPS, OTHER_PROJECT, PROJECT, Running, WORKER, access, config};
use crate::wire::{Wire, code, count_path, head, report_path};

/// A project of a user's, and of the account's, that does not exist.
const GONE: &str = "gone";
/// A user who may do everything, but only in [`GONE`] and [`PROJECT`].
const EDITOR: &str = "editor-token";
/// A user who may do nothing in [`GONE`].
const IDLER: &str = "idler-token";

fn access_with_more_users() -> AccessSource {
    let hash = |token: &str| subjobs::access::Token::new(token.as_bytes()).unwrap().digest().to_string();
    let user = |name: &str, token, policies: &str| {
        let hash = hash(token);
        format!(
            "[[principal]]\nname = \"{name}\"\nkind = \"user\"\nprojects = [\"{GONE}\", \"{PROJECT}\"]\n\
             tokens = [{{ sha256 = \"{hash}\" }}]\npolicies = [{policies}]\n"
        )
    };
    let (editor, idler) = (user("editor", EDITOR, "\"all\""), user("idler", IDLER, ""));
    AccessSource::Text(format!(
        "{}\n{editor}{idler}[[policy.all.Statement]]\nEffect = \"Allow\"\nAction = [\"*\"]\n",
        access()
    ))
}

/// What each fault is told, in the order of the decisions; room comes between the second and the third.
const ORDER: [(u16, &str); 6] = [
    (404, code::NOT_FOUND),
    (405, code::METHOD),
    (401, code::CREDENTIAL),
    (403, code::PERMISSION),
    (400, code::INPUT),
    (404, code::NOT_FOUND),
];

/// Ways to have no good credential.
fn bad_credentials() -> Vec<Vec<String>> {
    let token = |token: &str| format!("X-Auth-Token: {token}");
    vec![
        vec![],
        vec![token("")],
        vec![token("nobody")],
        vec![token(EXPIRED)],
        vec![token(OPS), token(OPS)],
        vec!["Authorization: Bearer ops-token".into()],
    ]
}

/// Every way to pick an element of each list, where the first of each list is what is right.
fn combinations<const N: usize>(lens: [usize; N]) -> impl Iterator<Item = [usize; N]> {
    (0..lens.iter().product()).map(move |mut at: usize| {
        lens.map(|len| {
            let picked = at % len;
            at /= len;
            picked
        })
    })
}

#[test]
fn combinations_are_all_of_them() {
    let all: Vec<_> = combinations([2, 3]).collect();
    assert_eq!(all, [[0, 0], [1, 0], [0, 1], [1, 1], [0, 2], [1, 2]]);
}

/// Asks with every combination of faults; `full` says that the server has no room.
async fn ask_for_counts(address: SocketAddr, full: bool) -> usize {
    let mut wire = Wire::open(address).await;
    let credentials = bad_credentials();
    let mut asked = 0;
    // Path, method, credential, permission, input, project.
    for picks @ [path, method, credential, permission, input, project] in combinations([4, 3, 7, 3, 5, 2]) {
        let exists = project == 0;
        let target = match (exists, input, permission) {
            (_, 4, _) => "a%2Fb",
            (false, ..) => GONE,
            (true, _, 2) => OTHER_PROJECT,
            (true, ..) => PROJECT,
        };
        // The second way to lack permission is to be allowed nothing, the third to ask for another's project.
        let token = match (permission, exists, input) {
            (0, _, 4) | (0, true, _) => OPS,
            (0, false, _) => EDITOR,
            (1, true, _) => WORKER,
            (1, false, _) => IDLER,
            (_, true, _) => EDITOR,
            (_, false, _) => DASHBOARD,
        };
        let headers: Vec<_> = match credential {
            0 => vec![format!("X-Auth-Token: {token}")],
            bad => credentials[bad - 1].clone(),
        };
        let hosts = match input {
            1 => vec![],
            2 => vec!["Host: h", "Host: h"],
            _ => vec!["Host: h"],
        };
        let headers: Vec<_> = hosts.into_iter().chain(headers.iter().map(String::as_str)).collect();
        let good_path = count_path(target);
        let path_sent = match path {
            0 => good_path,
            1 => format!("{good_path}/"),
            2 => good_path.replace("count", "Count"),
            _ => good_path.replace("/v1/", "/v1//"),
        };
        let query = if input == 3 { "?status=x" } else { "" };
        let method_sent = ["GET", "POST", "BREW"][method];
        wire.send(head(&format!("{method_sent} {path_sent}{query} HTTP/1.1"), &headers)).await;
        let answer = wire.answer().await;
        let expected = match picks.iter().position(|pick| *pick > 0) {
            Some(first @ 0..2) => ORDER[first],
            _ if full => (503, code::UNAVAILABLE),
            Some(first) => ORDER[first],
            None => {
                answer.count();
                continue;
            }
        };
        assert_eq!(answer.status, expected.0, "{picks:?}");
        answer.error(expected.0, expected.1);
        asked += 1;
    }
    asked
}

#[tokio::test]
async fn of_a_count() {
    let mut config = config();
    config.access = access_with_more_users();
    let server = Running::start(config.clone()).await;
    assert_eq!(ask_for_counts(server.public, false).await, 4 * 3 * 7 * 3 * 5 * 2 - 1);

    config.max_in_flight = 0;
    let full = Running::start(config).await;
    assert_eq!(ask_for_counts(full.public, true).await, 4 * 3 * 7 * 3 * 5 * 2);
}

/// A report's inputs have an order of their own: what every operation has, media type, size, records.
#[tokio::test]
async fn of_a_report() {
    let mut config = config();
    config.access = access_with_more_users();
    let server = Running::start(config).await;
    let credentials = bad_credentials();
    for picks @ [path, method, credential, permission, input, media_type, body, project] in
        combinations([2, 2, 3, 2, 3, 2, 3, 2])
    {
        let target = match (input, project) {
            (2, _) => "%ff",
            (_, 0) => PROJECT,
            _ => GONE,
        };
        let token = match (permission, project, input) {
            (0, _, 2) | (0, 0, _) => OPS,
            (0, ..) => EDITOR,
            _ => DASHBOARD,
        };
        let token = format!("X-Auth-Token: {token}");
        let mut headers: Vec<&str> = match credential {
            0 => vec![&token],
            bad => credentials[bad].iter().map(String::as_str).collect(),
        };
        if input != 1 {
            headers.push("Host: h");
        }
        headers.push(["Content-Type: application/x-ndjson", "Content-Type: text/plain"][media_type]);
        let (length, body_sent) = [("0", ""), ("1", "x"), ("16777217", "")][body];
        let length = format!("Content-Length: {length}");
        headers.push(&length);
        let (method, path_end) = (["POST", "PUT"][method], ["", "/"][path]);
        let request = head(&format!("{method} {}{path_end} HTTP/1.1", report_path(target)), &headers) + body_sent;
        let answer = crate::wire::ask(server.internal, request).await;
        let expected = match (picks.iter().position(|pick| *pick > 0), body) {
            (None, _) => {
                assert_eq!(answer.status, 200);
                continue;
            }
            (Some(first @ 0..5), _) => ORDER[first],
            (Some(5), _) => (415, code::MEDIA_TYPE),
            (Some(6), 2) => (413, code::TOO_LARGE),
            (Some(6), _) => (400, code::INPUT),
            (Some(_), _) => (404, code::NOT_FOUND),
        };
        assert_eq!(answer.status, expected.0, "{picks:?}");
        answer.error(expected.0, expected.1);
    }
}
