//! The order of decisions: if a request has several faults, the response names the first one in the order.

use std::net::SocketAddr;

use subjobs::access::AccessSource;
use subjobs::api;
use subjobs::config::Config;
use subjobs::ephemeral::Ephemeral;
use subjobs::web::operation::Operation;

use crate::support::connection::{Connection, exchange, head};
use crate::support::fixtures::{DASHBOARD, EXPIRED, OPS, OTHER_PROJECT, PROJECT, access, code, config, report_path};
use crate::support::server::Running;

/// A project that does not exist, although a user and the account have access to it.
const MISSING_PROJECT: &str = "gone";
/// A user with every permission in [`MISSING_PROJECT`] and [`PROJECT`] only.
const EDITOR: &str = "editor-token";
/// A user without permissions.
const IDLER: &str = "idler-token";

fn access_with_more_users() -> AccessSource {
    let hash = |token: &str| subjobs::access::Token::new(token.as_bytes()).unwrap().digest().to_string();
    let user = |name: &str, token, policies: &str| {
        let hash = hash(token);
        format!(
            "[[principal]]\nname = \"{name}\"\nkind = \"user\"\nprojects = [\"{MISSING_PROJECT}\", \"{PROJECT}\"]\n\
             tokens = [{{ sha256 = \"{hash}\" }}]\npolicies = [{policies}]\n"
        )
    };
    let (editor, idler) = (user("editor", EDITOR, "\"all\""), user("idler", IDLER, ""));
    AccessSource::Text(format!(
        "{}\n{editor}{idler}[[policy.all.Statement]]\nEffect = \"Allow\"\nAction = [\"*\"]\n",
        access()
    ))
}

/// The status and the code of each fault, in the order of the decisions. The limit of requests is between the second and the third.
const ORDER: [(u16, &str); 6] = [
    (404, code::NOT_FOUND),
    (405, code::METHOD),
    (401, code::CREDENTIAL),
    (403, code::PERMISSION),
    (400, code::INPUT),
    (404, code::NOT_FOUND),
];

/// Headers without a valid credential.
fn bad_credentials() -> Vec<Vec<String>> {
    let token = |token: &str| format!("X-Auth-Token: {token}");
    vec![
        vec![],
        vec![token("")],
        vec![token("unknown-token")],
        vec![token(EXPIRED)],
        vec![token(OPS), token(OPS)],
        vec!["Authorization: Bearer ops-token".into()],
    ]
}

/// Every combination of one index of each list. Index 0 of a list is the valid one.
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
fn combinations_yields_every_combination() {
    let all: Vec<_> = combinations([2, 3]).collect();
    assert_eq!(all, [[0, 0], [1, 0], [0, 1], [1, 1], [0, 2], [1, 2]]);
}

/// One row of the table of operations.
struct Row {
    id: &'static str,
    path: &'static str,
    method: &'static str,
    /// Methods that no row of the same path has.
    other_methods: [&'static str; 2],
    has_action: bool,
    has_project: bool,
    /// Whether it can be called without the router.
    is_direct: bool,
}

fn rows() -> Vec<Row> {
    let table = api::operations();
    let row = |operation: &Operation<_>| {
        let of_path: Vec<_> =
            table.iter().filter(|other| other.path == operation.path).map(|other| other.method.as_str()).collect();
        let other = ["POST", "PUT", "DELETE"].into_iter().find(|method| !of_path.contains(method)).unwrap();
        Row {
            id: operation.id,
            path: operation.path,
            method: ["GET", "POST", "PUT", "PATCH", "DELETE"]
                .into_iter()
                .find(|method| *method == operation.method.as_str())
                .unwrap(),
            other_methods: [other, "BREW"],
            has_action: operation.action.is_some(),
            has_project: operation.path.contains("{project_id}"),
            is_direct: operation.direct.is_some(),
        }
    };
    table.iter().map(row).collect()
}

impl Row {
    /// A path of the template in that project. Every other placeholder has a constant value.
    fn path(&self, project: &str) -> String {
        let fill = |segment: &str| match segment {
            "{project_id}" => project.to_owned(),
            placeholder if placeholder.starts_with('{') => "x".to_owned(),
            fixed => fixed.to_owned(),
        };
        self.path.split('/').map(fill).collect::<Vec<_>>().join("/")
    }

    /// The shortest valid query of the operation.
    fn good_query(&self) -> &'static str {
        match self.id {
            "ListSubJobs" | "ListImageSubJobs" | "ListImageJobs" => "?job_type=",
            "WaitForCount" => "?until=ge:0",
            _ => "",
        }
    }

    /// The shortest valid body of the operation, and its headers.
    fn good_body(&self) -> (Vec<&'static str>, &'static str) {
        match self.id {
            "BatchDeleteAppSubJobs" | "BatchDeleteImageSubJobs" => {
                (vec!["Content-Type: application/json", "Content-Length: 15"], "{\"items\":[\"x\"]}")
            }
            _ => (vec![], ""),
        }
    }

    /// A query that breaks a rule of this operation, if it has rules.
    fn bad_query(&self) -> Option<&'static str> {
        match self.id {
            "CountSubJobs" | "CountImageSubJobs" => Some("?status=x"),
            "ListSubJobs" | "ListImageSubJobs" | "ListImageJobs" => Some(""),
            "GetSummary" => Some("?family=x"),
            "WaitForCount" => Some("?until=ge:0&timeout=0"),
            "ListProjects" => Some("?name=%ff"),
            _ => None,
        }
    }
}

/// The faults of inputs: first those that every operation checks, then those of some operations.
#[derive(Clone, Copy, PartialEq)]
enum Input {
    Right,
    NoHost,
    TwoHosts,
    Project,
    Job,
    Query,
}

/// Sends a request for every combination of faults. `full`: the server is at its limit of requests.
async fn send_every_combination_of_faults(address: SocketAddr, row: &Row, full: bool) -> usize {
    let mut connection = Connection::open(address).await;
    // Credentials are checked before the operation is known, so one operation tries them all.
    let mut credentials = bad_credentials();
    credentials.truncate(if row.id == "CountSubJobs" { 6 } else { 3 });
    let mut inputs = vec![Input::Right, Input::NoHost, Input::TwoHosts];
    inputs.extend(row.bad_query().map(|_| Input::Query));
    inputs.extend(row.path.contains("{job_id}").then_some(Input::Job));
    inputs.extend(row.has_project.then_some(Input::Project));
    let (permissions, projects) = (if row.has_action { 3 } else { 1 }, if row.has_project { 2 } else { 1 });
    let mut asked = 0;
    // Path, method, credential, permission, input, project.
    let lens = [4, 3, credentials.len() + 1, permissions, inputs.len(), projects];
    for picks @ [path, method, credential, permission, input, project] in combinations(lens) {
        let (exists, input) = (project == 0, inputs[input]);
        let target = match (exists, input, permission) {
            (_, Input::Project, _) => "a%2Fb",
            (false, ..) => MISSING_PROJECT,
            (true, _, 2) => OTHER_PROJECT,
            (true, ..) => PROJECT,
        };
        // Permission faults: the second is a user without permissions, the third a project without access.
        let token = match (permission, exists, input) {
            (0, _, Input::Project) | (0, true, _) => OPS,
            (0, false, _) => EDITOR,
            (1, ..) => IDLER,
            (_, true, _) => EDITOR,
            (_, false, _) => DASHBOARD,
        };
        let headers: Vec<_> = match credential {
            0 => vec![format!("X-Auth-Token: {token}")],
            bad => credentials[bad - 1].clone(),
        };
        let hosts = match input {
            Input::NoHost => vec![],
            Input::TwoHosts => vec!["Host: h", "Host: h"],
            _ => vec!["Host: h"],
        };
        let (of_body, body) = row.good_body();
        let headers: Vec<_> = hosts.into_iter().chain(of_body).chain(headers.iter().map(String::as_str)).collect();
        let mut good_path = row.path(target);
        if input == Input::Job {
            good_path = good_path.replace("/x", "/%00");
        }
        let path_sent = match path {
            0 => good_path,
            1 => format!("{good_path}/"),
            2 => good_path.replace("/v", "/V"),
            _ => good_path.replacen('/', "//", 1),
        };
        let query = if input == Input::Query { row.bad_query().unwrap() } else { row.good_query() };
        let method_sent = [row.method, row.other_methods[0], row.other_methods[1]][method];
        connection.send(head(&format!("{method_sent} {path_sent}{query} HTTP/1.1"), &headers) + body).await;
        let answer = connection.response().await;
        let expected = match picks.iter().position(|pick| *pick > 0) {
            Some(first @ 0..2) => ORDER[first],
            _ if full => (503, code::UNAVAILABLE),
            Some(first) => ORDER[first],
            None => {
                assert_eq!(answer.status, 200, "{}", row.id);
                continue;
            }
        };
        assert_eq!(answer.status, expected.0, "{} {picks:?}", row.id);
        answer.assert_error(expected.0, expected.1);
        asked += 1;
    }
    asked
}

#[tokio::test]
async fn public_operations_report_the_earliest_fault() {
    let mut config = config();
    config.access = access_with_more_users();
    let server = Running::start(config.clone()).await;
    // Its layers make the router call every operation.
    let routed = Running::start(Config { ephemeral: Some(Ephemeral::with_access_file()), ..config.clone() }).await;
    config.max_in_flight = 0;
    let full = Running::start(config).await;
    // The job of the paths.
    let of_family = |family| {
        format!(r#"{{"id":"{family}","family":"{family}","job_id":"x","job_type":"CREATE_SERVER","status":"RUNNING"}}"#)
    };
    let body = ["app", "image"].map(of_family).join("\n");
    for server in [&server, &routed] {
        assert_eq!(server.report(OPS, body.clone()).send().await.unwrap().status(), 200);
    }
    let mut asked = Vec::new();
    for row in rows() {
        let once = send_every_combination_of_faults(server.public, &row, false).await;
        assert_eq!(send_every_combination_of_faults(full.public, &row, true).await, once + 1);
        if row.is_direct {
            assert_eq!(send_every_combination_of_faults(routed.public, &row, false).await, once);
        }
        asked.push((row.id, once));
    }
    assert!(asked.contains(&("CountSubJobs", 4 * 3 * 7 * 3 * 5 * 2 - 1)), "{asked:?}");
    for id in ["ListSubJobs", "CountImageSubJobs", "ListImageSubJobs", "ListImageJobs", "ShowJobDetail", "ShowImageJob"]
    {
        assert!(asked.contains(&(id, 4 * 3 * 4 * 3 * 5 * 2 - 1)), "{asked:?}");
    }
    assert!(asked.contains(&("ListProjects", 4 * 3 * 4 * 4 - 1)), "{asked:?}");
}

/// The order of inputs of a report: the common ones, media type, size, records.
#[tokio::test]
async fn a_report_reports_the_earliest_fault() {
    let server = Running::start(Config { access: access_with_more_users(), ..config() }).await;
    check_operation_with_body(server.internal, "POST", report_path, ["[]", "x"], 16 * 1024 * 1024).await;
}

/// The order of inputs of a delete is the same.
#[tokio::test]
async fn a_batch_delete_reports_the_earliest_fault() {
    let server = Running::start(Config { access: access_with_more_users(), ..config() }).await;
    for (method, family) in [("POST", "app"), ("PATCH", "image")] {
        let path = |project: &str| format!("/v1/{project}/{family}-server-sub-jobs/actions/batch-delete");
        let bodies = ["{\"items\":[\"x\"]}", "{}"];
        check_operation_with_body(server.public, method, path, bodies, 64 * 1024).await;
    }
}

/// Sends a request for every combination of faults. The first body is valid, the second is not.
async fn check_operation_with_body(
    address: SocketAddr,
    method: &str,
    path: impl Fn(&str) -> String,
    [good, bad]: [&str; 2],
    max: usize,
) {
    let credentials = bad_credentials();
    let path_of = path;
    for picks @ [path, other_method, credential, permission, input, media_type, body, project] in
        combinations([2, 2, 3, 2, 3, 2, 3, 2])
    {
        let target = match (input, project) {
            (2, _) => "%ff",
            (_, 0) => PROJECT,
            _ => MISSING_PROJECT,
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
        headers.push(["Content-Type: application/json", "Content-Type: text/plain"][media_type]);
        let (length, body_sent) = [(good.len(), good), (bad.len(), bad), (max + 1, "")][body];
        let length = format!("Content-Length: {length}");
        headers.push(&length);
        let (method, path_end) = ([method, "PUT"][other_method], ["", "/"][path]);
        let request = head(&format!("{method} {}{path_end} HTTP/1.1", path_of(target)), &headers) + body_sent;
        let answer = exchange(address, request).await;
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
        answer.assert_error(expected.0, expected.1);
    }
}
