//! Every rule of a filter and of Host: valid values, invalid values, and which input the error names.

use std::net::SocketAddr;

use subjobs::access::AccessSource;

use crate::support::connection::{Connection, exchange, head, valid_count};
use crate::support::fixtures::{OPS, PROJECT, access, code, config, count_path, record, report_path};
use crate::support::response::{Response, json};
use crate::support::server::Running;

const STATUSES: [&str; 7] = ["WAITING", "RUNNING", "SUCCESS", "FAILED", "ABNORMAL", "ROLLBACK", "ABORTING"];

/// The published types, in the order of the pages that name them.
const JOB_TYPES: [&str; 19] = [
    "CREATE_SERVER",
    "CREATE_SERVER_IMAGE",
    "DELETE_SERVER",
    "UPGRADE_ACCESS_AGENT",
    "UPDATE_FREEZE_STATUS",
    "REINSTALL_OS",
    "CHANGE_SERVER_IMAGE",
    "REJOIN_DOMAIN",
    "MIGRATE_SERVER",
    "UPDATE_SERVER_TSVI",
    "SCHEDULED_TASK",
    "COLLECT_HDA_LOG",
    "COLLECT_APS_LOG",
    "CREATE_SERVER_SNAPSHOT",
    "DELETE_SERVER_SNAPSHOT",
    "RESTORE_SERVER_SNAPSHOT",
    "BATCH_INSTALL_APP",
    "INSTALL_CES_AGENT",
    "UNINSTALL_CES_AGENT",
];

/// A server in which any project may exist.
pub(crate) async fn server() -> Running {
    let (_, without_projects) =
        access().trim_start().split_once('\n').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    let mut config = config();
    config.access = AccessSource::Text(without_projects);
    Running::start(config).await
}

/// Requests counts one after another on one connection.
pub(crate) struct CountClient(Connection);

impl CountClient {
    pub(crate) async fn new(address: SocketAddr) -> Self {
        Self(Connection::open(address).await)
    }

    pub(crate) async fn project(&mut self, project: &[u8]) -> Response {
        let (before, after) = ("GET /v1/", "/app-server-sub-jobs/actions/count HTTP/1.1\r\n");
        let headers = format!("Host: h\r\nX-Auth-Token: {OPS}\r\n\r\n");
        self.0.send([before.as_bytes(), project, after.as_bytes(), headers.as_bytes()].concat()).await;
        self.0.response().await
    }

    async fn query(&mut self, query: &str) -> Response {
        self.0.send(valid_count(query, &[])).await;
        self.0.response().await
    }

    async fn refused(&mut self, query: &str, input: &str) {
        let message = self.query(query).await.assert_error(400, code::INPUT);
        assert!(message.starts_with(&format!("{input} must ")), "{query}: {message}");
    }
}

/// Compares the count of every filter with a sum over the reported records.
#[tokio::test]
async fn a_count_is_the_number_of_matching_subtasks() {
    let server = server().await;
    let of = |n: usize| (JOB_TYPES[n * n % 19], STATUSES[n % 11 % 7], ["j1", "j2", "j 3+é", "J1"][n % 13 % 4]);
    let all: Vec<_> = (0..400).map(of).collect();
    let lines =
        all.iter().enumerate().map(|(n, (job_type, status, job_id))| record(&n.to_string(), job_id, job_type, status));
    let outcome = json(server.report(OPS, lines.collect::<Vec<_>>().join("\n")).send().await.unwrap()).await;
    assert_eq!(outcome["created"], 400);

    let mut client = CountClient::new(server.public).await;
    let lists = [&[][..], &JOB_TYPES[..1], &JOB_TYPES[..5], &JOB_TYPES[4..7], &JOB_TYPES[16..], &["DELETE_SERVER"; 3]];
    for types in lists {
        for status in [""].iter().chain(&STATUSES) {
            for (job_id, written) in [("", ""), ("j1", "%6A1"), ("j 3+é", "j+3%2B%c3%a9"), ("absent", "absent")] {
                let matches = |(t, s, j): &&(&str, &str, &str)| {
                    (types.is_empty() || types.contains(t))
                        && (status.is_empty() || s == status)
                        && (job_id.is_empty() || *j == job_id)
                };
                let expected = all.iter().filter(matches).count() as u64;
                let query = format!("?job_id={written}&status={status}&job_type={}", types.join("%2C"));
                assert_eq!(client.query(&query).await.count(), expected, "{query}");
            }
        }
    }
    for job_type in JOB_TYPES {
        let expected = all.iter().filter(|(t, ..)| *t == job_type).count() as u64;
        assert_eq!(client.query(&format!("?job_type={job_type}")).await.count(), expected, "{job_type}");
    }
}

#[tokio::test]
async fn status_is_one_exact_name() {
    let server = server().await;
    let mut client = CountClient::new(server.public).await;
    for good in ["", "RUNNING", "%52UNNING", "%41BORTING"] {
        client.query(&format!("?status={good}")).await.count();
    }
    let listed = "running Running RUNNIN RUNNINGS CANCELLED RUNNING,FAILED +RUNNING RUNNING+ RUNNING%20 %00 0 \
        null * RUNNING%00 RUNNING;job_id=j RUNNING= %ff % %zz RUNNING%c3 %EF%BC%B2UNNING";
    for bad in listed.split(' ') {
        client.refused(&format!("?status={bad}"), "status").await;
    }
}

#[tokio::test]
async fn job_type_is_a_list_of_known_types() {
    let server = server().await;
    let mut client = CountClient::new(server.public).await;
    // Lists of 256 and of 257 characters.
    let list = |short, long| [vec!["REINSTALL_OS"; short], vec!["DELETE_SERVER"; long]].concat();
    let (longest, long) = (list(9, 10), list(8, 11));
    assert_eq!((longest.join(",").len(), long.join(",").len()), (256, 257));
    for good in ["", &JOB_TYPES[..10].join(","), &JOB_TYPES[10..].join("%2c"), &longest.join(","), &longest.join("%2C")]
    {
        client.query(&format!("?job_type={good}")).await.count();
    }
    for bad in [
        "create_server",
        "CREATE_SERVE",
        "CREATE_SERVERS",
        "NOPE",
        ",",
        "CREATE_SERVER,",
        ",CREATE_SERVER",
        "CREATE_SERVER,,DELETE_SERVER",
        "CREATE_SERVER,+DELETE_SERVER",
        "CREATE_SERVER+",
        "+",
        "%20",
        "CREATE_SERVER;DELETE_SERVER",
        "CREATE_SERVER%00",
        "CREATE_SERVER,NOPE",
        "CREATE_SERVER|DELETE_SERVER",
        "*",
        "%ff",
        "%",
        "CREATE_SERVER%2",
        "CREATE_SERVER,%c3",
        &long.join(","),
        &"X".repeat(5000),
    ] {
        client.refused(&format!("?job_type={bad}"), "job_type").await;
    }
}

#[tokio::test]
async fn configured_job_types_are_known() {
    let mut config = config();
    config.job_types = subjobs::domain::JobTypes::new(["BRAND_NEW_1"]).unwrap();
    let server = Running::start(config).await;
    let outcome = json(server.report(OPS, record("1", "j", "BRAND_NEW_1", "RUNNING")).send().await.unwrap()).await;
    assert_eq!(outcome["created"], 1);
    assert_eq!(server.count("?job_type=BRAND_NEW_1").await, 1);
    assert_eq!(server.count("?job_type=CREATE_SERVER").await, 0);
    let mut client = CountClient::new(server.public).await;
    client.refused("?job_type=BRAND_NEW_2", "job_type").await;
}

#[tokio::test]
async fn job_id_has_at_most_128_characters() {
    let server = server().await;
    let mut client = CountClient::new(server.public).await;
    let (longest, longest_encoded) = ("x".repeat(128), "%C3%A9".repeat(128));
    let listed = "j + %2F..%5C a=b %26 j,k é %C2%A0 %E2%80%83 {}";
    for good in listed.split(' ').chain(["", &*longest, &*longest_encoded]) {
        assert_eq!(client.query(&format!("?job_id={good}")).await.count(), 0, "{good}");
    }
    let (long, long_encoded) = ("x".repeat(129), "%C3%A9".repeat(129));
    let listed = "%00 a%00 %0a %0D %09 %1f %7f %C2%80 %c2%85 %ff%fe % %z1 %c3";
    for bad in listed.split(' ').chain([&*long, &*long_encoded]) {
        client.refused(&format!("?job_id={bad}"), "job_id").await;
    }
}

#[tokio::test]
async fn a_repeated_filter_is_refused() {
    let server = server().await;
    let mut client = CountClient::new(server.public).await;
    for (name, encoded, value) in
        [("status", "%73tatus", "RUNNING"), ("job_type", "job%5Ftype", "CREATE_SERVER"), ("job_id", "job%5fid", "j")]
    {
        assert_eq!(client.query(&format!("?{encoded}={value}")).await.count(), 0);
        for query in [
            format!("?{name}={value}&{name}={value}"),
            format!("?{name}={value}&{name}="),
            format!("?{name}=&{name}={value}"),
            format!("?{name}&{name}"),
            format!("?{name}={value}&x=1&{encoded}={value}"),
        ] {
            let message = client.query(&query).await.assert_error(400, code::INPUT);
            assert_eq!(message, format!("{name} must be given only once"), "{query}");
        }
    }
}

#[tokio::test]
async fn other_parameters_are_ignored() {
    let server = server().await;
    let outcome = json(server.report(OPS, record("1", "j", "CREATE_SERVER", "RUNNING")).send().await.unwrap()).await;
    assert_eq!(outcome["created"], 1);
    let mut client = CountClient::new(server.public).await;
    let listed = "? ?&& ?= ?=x ?limit=1&limit=2 ?x=%zz&y=%ff&z=% ?%zz=1 ?%ff=1 ?Status=x&JOB_TYPE=x&job-id=%00 \
        ?status ?status=&job_type=&job_id= ?status[]=x ?+status=x ?status+=x ?job_type%00=x ??status=x \
        ?a?b ?x=/../&y=\\";
    for query in listed.split(' ').chain([""]) {
        assert_eq!(client.query(query).await.count(), 1, "{query}");
    }
}

/// The publisher's SDK encodes the comma, and sends a `Content-Type` without a body.
#[tokio::test]
async fn a_request_of_an_sdk_is_accepted() {
    let server = server().await;
    let outcome = json(server.report(OPS, record("1", "j", "REJOIN_DOMAIN", "RUNNING")).send().await.unwrap()).await;
    assert_eq!(outcome["created"], 1);
    let response = server
        .ask(OPS, "?job_type=CREATE_SERVER%2CREJOIN_DOMAIN")
        .header("Content-Type", "application/json")
        .header("User-Agent", "huaweicloud-usdk-python/3.0")
        .send();
    assert_eq!(json(response.await.unwrap()).await, serde_json::json!({ "count": 1 }));
}

#[tokio::test]
async fn host_is_required_exactly_once() {
    let server = server().await;
    let token = format!("X-Auth-Token: {OPS}");
    let ask = async |version: &str, target: &str, headers: &[&str]| {
        let headers: Vec<_> = headers.iter().copied().chain([&*token, "Connection: close"]).collect();
        exchange(server.public, head(&format!("GET {target} HTTP/{version}"), &headers)).await
    };
    let path = count_path(PROJECT);
    let absolute = format!("http://elsewhere.example{path}");
    for (version, hosts) in [
        ("1.1", &["Host: h"][..]),
        ("1.1", &["hOST: [::1]:80"]),
        ("1.1", &["Host:"]),
        ("1.0", &[]),
        ("1.0", &["Host: h"]),
    ] {
        assert_eq!(ask(version, &path, hosts).await.count(), 0, "{version} {hosts:?}");
    }
    assert_eq!(ask("1.1", &absolute, &["Host: h"]).await.count(), 0);
    for (hosts, reason) in [(&[][..], "Host is missing"), (&["Host: h", "Host: h"], "Host must be given once")] {
        for target in [&path, &absolute] {
            assert_eq!(ask("1.1", target, hosts).await.assert_error(400, code::INPUT), reason);
        }
    }
}

/// The rule holds on both listeners, in both versions of HTTP, and for the host of the request target.
#[tokio::test]
async fn an_invalid_host_is_refused() {
    let server = server().await;
    let token = format!("X-Auth-Token: {OPS}");
    let report = report_path(PROJECT);
    let lines = ["Content-Type: application/x-ndjson", "Content-Length: 0"];
    let ask = async |line: &str, host: &str| {
        let address = if line.starts_with("POST") { server.internal } else { server.public };
        let host = [format!("Host: {host}").into_bytes(), b"\r\n".to_vec()].concat();
        let mut request = head(line, &[&token, lines[0], lines[1]]).into_bytes();
        let at = line.len() + 2;
        request.splice(at..at, host);
        exchange(address, request).await
    };
    let get = format!("GET {} HTTP/1.1", count_path(PROJECT));
    let lines =
        [get.clone(), get.replace("1.1", "1.0"), "GET /v3/projects HTTP/1.1".into(), format!("POST {report} HTTP/1.1")];
    for line in &lines {
        for good in ["", "h", "H.example:8080", "127.0.0.1", "[::1]:9090", "h:", "a_b", "%C3%A9"] {
            assert_eq!(ask(line, good).await.status, 200, "{line} {good}");
        }
        for bad in
            ["a b", "user@a", "http://x", "a/b", "a:b:c", "[::1", "::1", "h:x", "h:65536", ":80", "é", "a?b", "a,b c"]
        {
            let message = ask(line, bad).await.assert_error(400, code::INPUT);
            assert_eq!(message, "Host must be a host, with a port or none", "{line} {bad}");
        }
    }
    let target = |authority: &str| get.replacen('/', &format!("http://{authority}/"), 1);
    assert_eq!(ask(&target("[::1]:80"), "h").await.count(), 0);
    for bad in ["user@a", "user:word@a:80"] {
        let message = ask(&target(bad), "h").await.assert_error(400, code::INPUT);
        assert_eq!(message, "the request target must have a host, with a port or none", "{bad}");
    }
}
