//! ListSubJobs, CountImageSubJobs and ListImageSubJobs: the limits of each input, and the fields of a subtask.

use crate::api::filters::server;
use crate::support::connection::{Connection, request};
use crate::support::fixtures::{DASHBOARD, OPS, PROJECT, WORKER, access, code, config};
use crate::support::response::Response;
use crate::support::server::Running;

const LISTS: [&str; 2] = ["app-server-sub-jobs", "image-server-sub-jobs"];

/// Sends a request to the public listener.
async fn ask(connection: &mut Connection, method: &str, path: &str, token: &str) -> Response {
    connection.send(request(method, &format!("/v1/{PROJECT}/{path}"), token, &[])).await;
    if method == "HEAD" { connection.response_to_head().await } else { connection.response().await }
}

async fn get(connection: &mut Connection, path: &str) -> Response {
    ask(connection, "GET", path, OPS).await
}

async fn report(server: &Running, lines: &str) {
    assert_eq!(server.report(OPS, lines.to_owned()).send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn each_input_is_accepted_up_to_its_limit() {
    let server = server().await;
    let mut connection = Connection::open(server.public).await;
    let long_id = "%C3%A9".repeat(128);
    for list in LISTS {
        for query in [
            "job_type=",
            "job_type",
            "%6Aob_type=%43REATE_SERVER",
            "job_type=CREATE_SERVER_IMAGE&status=&job_id=",
            "job_type=&status=ABORTING&job_id=a+b%2F",
            &format!("job_type=&job_id={long_id}"),
            "job_type=&offset=2147483647&limit=100",
            "job_type=&offset=0000000000&limit=0000000001",
            "job_type=&offset=%32&limit=%32",
            "job_type=&sub_job_ids=a&sub_job_ids=b&sub_job_ids=%ff&marker=1",
        ] {
            let answer = get(&mut connection, &format!("{list}?{query}")).await;
            assert_eq!((answer.status, &*answer.body), (200, &br#"{"count":0,"items":[]}"#[..]), "{list}?{query}");
            assert_eq!(answer.header("content-type"), Some("application/json"));
            assert_eq!(answer.header("cache-control"), Some("no-store"));
        }
        for (query, input) in [
            ("", "job_type"),
            ("status=RUNNING", "job_type"),
            ("job_type=CREATE_SERVER,DELETE_SERVER", "job_type"),
            ("job_type=create_server", "job_type"),
            ("job_type=+", "job_type"),
            ("job_type=&job_type=", "job_type"),
            ("job_type=%zz", "job_type"),
            ("job_type=&status=running", "status"),
            ("job_type=&status=RUNNING,FAILED", "status"),
            ("job_type=&status&status", "status"),
            ("job_type=&offset", "offset"),
            ("job_type=&offset=-1", "offset"),
            ("job_type=&offset=2147483648", "offset"),
            ("job_type=&offset=00000000000", "offset"),
            ("job_type=&offset=1&offset=1", "offset"),
            ("job_type=&offset=+1", "offset"),
            ("job_type=&offset=%2B1", "offset"),
            ("job_type=&offset=1.0", "offset"),
            ("job_type=&offset=%EF%BC%91", "offset"),
            ("job_type=&limit=", "limit"),
            ("job_type=&limit=0", "limit"),
            ("job_type=&limit=101", "limit"),
            ("job_type=&limit=4294967306", "limit"),
            ("job_type=&limit=00000000010", "limit"),
            ("job_type=&limit=ten", "limit"),
            (&format!("job_type=&job_id={long_id}a"), "job_id"),
            ("job_type=&job_id=%0A", "job_id"),
        ] {
            let message = get(&mut connection, &format!("{list}?{query}")).await.assert_error(400, code::INPUT);
            assert!(message.starts_with(&format!("{input} must ")), "{list}?{query}: {message}");
        }
    }
    get(&mut connection, "app-server-sub-jobs?job_type=DELETE_IMAGE").await.assert_error(400, code::INPUT);
    get(&mut connection, "image-server-sub-jobs?job_type=REJOIN_DOMAIN").await.assert_error(400, code::INPUT);
    let count = "image-server-sub-jobs/actions/count";
    for query in ["", "?job_type=", "?job_type=DELETE_IMAGE,CREATE_SERVER", "?status=FAILED&job_id=x"] {
        assert_eq!(get(&mut connection, &format!("{count}{query}")).await.count(), 0, "{query}");
    }
    for query in ["?job_type=REJOIN_DOMAIN", "?job_type=DELETE_IMAGE,", "?status=x", "?job_id=%00", "?status&status"] {
        get(&mut connection, &format!("{count}{query}")).await.assert_error(400, code::INPUT);
    }
}

#[tokio::test]
async fn lists_support_head_and_refuse_other_methods() {
    let server = server().await;
    let mut connection = Connection::open(server.public).await;
    for path in
        ["app-server-sub-jobs?job_type=", "image-server-sub-jobs?job_type=", "image-server-sub-jobs/actions/count"]
    {
        let (get, head) = (get(&mut connection, path).await, ask(&mut connection, "HEAD", path, OPS).await);
        assert_eq!((head.status, head.header("content-length")), (200, get.header("content-length")), "{path}");
        for method in ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
            let answer = ask(&mut connection, method, path, OPS).await;
            answer.assert_error(405, code::METHOD);
            let mut allowed: Vec<_> = answer.header("allow").unwrap().split(',').map(str::trim).collect();
            allowed.sort_unstable();
            assert_eq!(allowed, ["GET", "HEAD"], "{path}");
        }
    }
    let bad = ask(&mut connection, "HEAD", "app-server-sub-jobs", OPS).await;
    assert_eq!(bad.status, 400);
}

#[tokio::test]
async fn each_operation_needs_its_own_permission() {
    let mut with_images = config();
    let text = access().replace("[\"workspace:jobs:*\"]", "[\"workspace:imageServer:list*\"]");
    with_images.access = subjobs::access::AccessSource::Text(text);
    let (jobs, images) = (Running::start(config()).await, Running::start(with_images).await);
    let operations = [
        ("app-server-sub-jobs?job_type=", "workspace:jobs:listSubJobs"),
        ("image-server-sub-jobs?job_type=", "workspace:imageServer:listImageSubJobs"),
        ("image-server-sub-jobs/actions/count", "workspace:imageServer:countImageSubJobs"),
    ];
    for (server, token, allowed) in [
        (&jobs, DASHBOARD, &[][..]),
        (&jobs, WORKER, &["workspace:jobs:listSubJobs"]),
        (&images, WORKER, &["workspace:imageServer:listImageSubJobs"]),
        (&images, OPS, &operations.map(|(_, action)| action)),
    ] {
        let mut connection = Connection::open(server.public).await;
        for (path, action) in operations {
            let answer = ask(&mut connection, "GET", path, token).await;
            if allowed.contains(&action) {
                assert_eq!(answer.status, 200, "{token} {path}");
            } else {
                let message = answer.assert_error(403, code::PERMISSION);
                assert!(message.contains(action), "{message}");
            }
        }
    }
}

/// Lists return the reported details unchanged, from memory and from the disk.
#[tokio::test]
async fn details_are_returned_as_reported() {
    let dir = tempfile::tempdir().unwrap();
    for data_dir in [None, Some(dir.path().to_owned())] {
        let mut config = config();
        config.data_dir = data_dir;
        let server = Running::start(config).await;
        let object = r#"{"z": 1.50E+3,"a":12345678901234567890123,"\u00e9":"\ud83d\ude00é\/","n":null,"l":[ ]}"#;
        let full = r#"{"version":9,"id":"é \"1\"","job_id":"j/1","job_type":"CREATE_SERVER","status":"FAILED",
            "begin_time":"2022-03-07T10:40:43.8580Z","end_time":"2022-03-07T10:45:00.000+00:00","error_code":"E",
            "job_resource_info":OBJECT}"#;
        let full = full.replace(['\n'], "").replace("            ", "").replace("OBJECT", object);
        let image = r#"{"id":"2","job_id":"j/1","job_type":"BUILD_IMAGE","family":"image","status":"WAITING","job_execute_info":{"error_message":"m"}}"#;
        report(&server, &format!("{full}\n{image}")).await;
        let mut connection = Connection::open(server.public).await;
        let app = get(&mut connection, "app-server-sub-jobs?job_type=").await;
        let expected = format!(
            r#"{{"count":1,"items":[{{"id":"é \"1\"","job_id":"j/1","job_type":"CREATE_SERVER","project_id":"{PROJECT}","status":"FAILED","begin_time":"2022-03-07T10:40:43.858Z","end_time":"2022-03-07T10:45:00Z","error_code":"E","job_execute_info":{{"error_code":"E"}},"job_resource_info":{object}}}]}}"#
        );
        assert_eq!(String::from_utf8(app.body).unwrap(), expected);
        let built = get(&mut connection, "image-server-sub-jobs?job_type=BUILD_IMAGE").await;
        let expected = format!(
            r#"{{"count":1,"items":[{{"id":"2","job_id":"j/1","job_type":"BUILD_IMAGE","project_id":"{PROJECT}","status":"WAITING","error_message":"m","job_execute_info":{{"error_message":"m"}}}}]}}"#
        );
        assert_eq!(String::from_utf8(built.body).unwrap(), expected);
        // An empty job type stands for three types. BUILD_IMAGE is not one of them.
        let counted = get(&mut connection, "image-server-sub-jobs?job_type=").await;
        assert_eq!(&*counted.body, br#"{"count":0,"items":[]}"#);
    }
}

#[tokio::test]
async fn a_long_list_is_compressed_if_the_client_accepts_it() {
    let server = Running::start(config()).await;
    let line = |n: usize| crate::support::fixtures::record(&n.to_string(), "j", "CREATE_SERVER", "RUNNING");
    report(&server, &(0..100).map(line).collect::<Vec<_>>().join("\n")).await;
    let mut connection = Connection::open(server.public).await;
    let mut sizes = Vec::new();
    for accepted in ["identity", "gzip"] {
        let target = format!("/v1/{PROJECT}/app-server-sub-jobs?job_type=&limit=100");
        let more = [&format!("Accept-Encoding: {accepted}"), "Connection: close"];
        connection.send(request("GET", &target, OPS, &more)).await;
        let answer = connection.response_to_head().await;
        assert_eq!(answer.header("content-encoding").unwrap_or("identity"), accepted);
        sizes.push(connection.rest().await.len());
        connection = Connection::open(server.public).await;
    }
    assert!(sizes[0] > 10_000 && sizes[1] < 5_000, "{sizes:?}");
}

/// Later reports and a restart do not change the order.
#[tokio::test]
async fn a_list_is_in_the_order_of_first_reports() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config();
    config.data_dir = Some(dir.path().to_owned());
    let mut server = Running::start(config.clone()).await;
    let line =
        |id: &str, job: &str, job_type: &str, status: &str| crate::support::fixtures::record(id, job, job_type, status);
    let first = [line("c", "j", "CREATE_SERVER", "WAITING"), line("a", "k", "DELETE_SERVER", "RUNNING")];
    report(&server, &first.join("\n")).await;
    report(&server, &line("b", "j", "CREATE_SERVER", "RUNNING")).await;
    report(&server, &line("c", "k", "REINSTALL_OS", "SUCCESS")).await;
    let ids = async |server: &Running, query: &str| {
        let answer = get(&mut Connection::open(server.public).await, &format!("app-server-sub-jobs?{query}")).await;
        let items = answer.json()["items"].as_array().unwrap().clone();
        items.iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect::<String>()
    };
    for turn in 0..2 {
        assert_eq!(ids(&server, "job_type=").await, "cab");
        assert_eq!(ids(&server, "job_type=&offset=1&limit=1").await, "a");
        assert_eq!(ids(&server, "job_type=&job_id=k").await, "ca");
        assert_eq!(ids(&server, "job_type=&status=RUNNING").await, "ab");
        assert_eq!(ids(&server, "job_type=&offset=3").await, "");
        if turn == 0 {
            server.stop();
            assert_eq!(server.ended().await, 0);
            server = Running::start(config.clone()).await;
        }
    }
}
