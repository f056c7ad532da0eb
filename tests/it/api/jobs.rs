//! ShowJobDetail, ShowJob, ShowImageJob and ListImageJobs: their responses for a job, and for a job that does not exist.

use serde_json::{Value, json};

use crate::support::connection::{exchange, request};
use crate::support::fixtures::{DASHBOARD, OPS, PROJECT, code, config};
use crate::support::response::Response;
use crate::support::server::Running;

async fn get(server: &Running, target: &str) -> Response {
    exchange(server.public, request("GET", target, OPS, &[])).await
}

async fn shown(server: &Running, target: &str) -> Value {
    let response = get(server, target).await;
    assert_eq!(response.status, 200, "{target}: {}", response.text());
    response.json()
}

/// The path of a job. The caller encodes the id.
fn path(operation: &str, job: &str) -> String {
    match operation {
        "v2" => format!("/v2/{PROJECT}/job/{job}"),
        "v1" => format!("/v1/{PROJECT}/job/{job}"),
        _ => format!("/v1/{PROJECT}/image-server-jobs/{job}"),
    }
}

async fn report(server: &Running, records: impl IntoIterator<Item = Value>) {
    let body: Vec<_> = records.into_iter().map(|record| record.to_string()).collect();
    assert_eq!(server.report(OPS, body.join("\n")).send().await.unwrap().status(), 200);
}

fn record(id: &str, job: &str, status: &str) -> Value {
    json!({ "id": id, "job_id": job, "job_type": "CREATE_SERVER", "status": status })
}

fn with(mut record: Value, fields: Value) -> Value {
    record.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    record
}

fn image(record: Value) -> Value {
    with(record, json!({ "family": "image" }))
}

#[tokio::test]
async fn each_operation_shows_a_job_in_its_form() {
    let server = Running::start(config()).await;
    let failed = json!({
        "begin_time": "2022-03-07T18:40:43.858+08:00", "end_time": "2022-03-07T10:45:00.5Z", "job_type": "DELETE_SERVER",
        "job_execute_info": { "error_code": "E", "error_message": "no" },
    });
    let first = json!({ "begin_time": "2022-03-07T10:41:00.9Z", "end_time": "2022-03-07T10:44:00Z",
        "job_resource_info": { "resource_id": "r", "size": 1.50 } });
    report(
        &server,
        [
            with(record("1", "j", "SUCCESS"), first),
            with(record("2", "j", "FAILED"), failed),
            record("3", "j", "ABNORMAL"),
        ],
    )
    .await;
    let expected = json!({
        "id": "j", "job_type": "CREATE_SERVER", "begin_time": "2022-03-07T10:40:43.858Z",
        "end_time": "2022-03-07T10:45:00.5Z", "status": "FAILED", "sub_jobs_total": 3,
        "sub_jobs": [
            { "id": "1", "job_id": "j", "job_type": "CREATE_SERVER", "project_id": PROJECT, "status": "SUCCESS",
              "begin_time": "2022-03-07T10:41:00.9Z", "end_time": "2022-03-07T10:44:00Z",
              "job_resource_info": { "resource_id": "r", "size": 1.50 } },
            { "id": "2", "job_id": "j", "job_type": "DELETE_SERVER", "project_id": PROJECT, "status": "FAILED",
              "begin_time": "2022-03-07T10:40:43.858Z", "end_time": "2022-03-07T10:45:00.5Z",
              "error_code": "E", "error_message": "no",
              "job_execute_info": { "error_code": "E", "error_message": "no" } },
            { "id": "3", "job_id": "j", "job_type": "CREATE_SERVER", "project_id": PROJECT, "status": "ABNORMAL" },
        ],
    });
    assert_eq!(shown(&server, &path("v2", "j")).await, expected);
    let expected = json!({ "job": {
        "job_id": "j", "job_type": 1, "job_status": 0, "begin_time": "2022-03-07T10:40:43Z",
        "end_time": "2022-03-07T10:45:00Z", "execute_code": "E", "execute_message": "no",
        "sub_jobs": [
            { "job_id": "1", "job_type": 2, "job_status": 1, "begin_time": "2022-03-07T10:41:00Z",
              "end_time": "2022-03-07T10:44:00Z", "execute_code": "", "execute_message": "",
              "entities": [{ "resource_id": "r", "size": 1.50 }] },
            { "job_id": "2", "job_type": 2, "job_status": 0, "begin_time": "2022-03-07T10:40:43Z",
              "end_time": "2022-03-07T10:45:00Z", "execute_code": "E", "execute_message": "no", "entities": [] },
            { "job_id": "3", "job_type": 2, "job_status": 0, "execute_code": "", "execute_message": "", "entities": [] },
        ],
    } });
    assert_eq!(shown(&server, &path("v1", "j")).await, expected);
    // While one subtask runs, the job has no end time and no error. The other subtasks keep theirs.
    report(&server, [record("4", "j", "ROLLBACK")]).await;
    let v2 = shown(&server, &path("v2", "j")).await;
    assert_eq!((&v2["status"], &v2["end_time"], &v2["sub_jobs_total"]), (&json!("RUNNING"), &Value::Null, &json!(4)));
    let v1 = shown(&server, &path("v1", "j")).await["job"].take();
    assert_eq!([&v1["job_status"], &v1["execute_code"], &v1["end_time"]], [&json!(2), &json!(""), &Value::Null]);
    assert_eq!([&v1["sub_jobs"][3]["job_status"], &v1["sub_jobs"][1]["execute_code"]], [&json!(2), &json!("E")]);
}

#[tokio::test]
async fn the_status_of_a_job_follows_its_subtasks() {
    let server = Running::start(config()).await;
    for (statuses, status, number) in [
        (&["WAITING"][..], "RUNNING", 3),
        (&["WAITING", "WAITING"], "RUNNING", 3),
        (&["WAITING", "SUCCESS"], "RUNNING", 2),
        (&["RUNNING"], "RUNNING", 2),
        (&["ROLLBACK"], "RUNNING", 2),
        (&["ABORTING", "FAILED"], "RUNNING", 2),
        (&["SUCCESS", "SUCCESS"], "SUCCESS", 1),
        (&["SUCCESS", "ABNORMAL"], "FAILED", 0),
        (&["FAILED"], "FAILED", 0),
        (&["ABNORMAL"], "FAILED", 0),
    ] {
        let job = statuses.join("-");
        for family in ["app", "image"] {
            let one = |(at, status): (usize, &&str)| {
                with(record(&format!("{family}{job}{at}"), &job, status), json!({ "family": family }))
            };
            report(&server, statuses.iter().enumerate().map(one)).await;
        }
        for operation in ["v2", "image"] {
            assert_eq!(shown(&server, &path(operation, &job)).await["status"], status, "{operation} {job}");
        }
        assert_eq!(shown(&server, &path("v1", &job)).await["job"]["job_status"], number, "{job}");
    }
}

#[tokio::test]
async fn a_missing_job_gets_404_with_its_own_message() {
    let server = Running::start(config()).await;
    report(&server, [record("1", "app job", "SUCCESS"), image(record("2", "image job", "SUCCESS"))]).await;
    for (operation, theirs, own) in [("v2", "image", "app"), ("v1", "image", "app"), ("image", "app", "image")] {
        let missing = get(&server, &path(operation, "absent")).await.assert_error(404, code::NOT_FOUND);
        assert_eq!(missing, "the job does not exist");
        get(&server, &path(operation, &format!("{theirs}%20job"))).await.assert_error(404, code::NOT_FOUND);
        let of_gone = path(operation, "absent").replace(PROJECT, "gone");
        let project = get(&server, &of_gone).await.assert_error(404, code::NOT_FOUND);
        assert_eq!(project, "the project does not exist");
        shown(&server, &path(operation, &format!("{own}%20job"))).await;
        exchange(server.public, request("GET", &path(operation, "j"), DASHBOARD, &[]))
            .await
            .assert_error(403, code::PERMISSION);
    }
    // A job ends with its last subtask.
    let body = "{\"items\":[\"1\"]}";
    let delete = format!("/v1/{PROJECT}/app-server-sub-jobs/actions/batch-delete");
    let more = ["Content-Type: application/json", "Content-Length: 15"];
    assert_eq!(exchange(server.public, request("POST", &delete, OPS, &more) + body).await.status, 200);
    get(&server, &path("v2", "app%20job")).await.assert_error(404, code::NOT_FOUND);
}

#[tokio::test]
async fn a_job_id_in_a_path_is_percent_decoded() {
    let server = Running::start(config()).await;
    let names = ["a/b", "a+b", "..", ".", " ", "a?b#c", "é", "%2e", "j"];
    let long = "é".repeat(128);
    let all: Vec<_> = names.iter().copied().chain([&*long]).collect();
    report(&server, all.iter().enumerate().map(|(at, job)| record(&format!("{at}"), job, "RUNNING"))).await;
    let encode = |text: &str| text.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
    for job in &all {
        assert_eq!(shown(&server, &path("v2", &encode(job))).await["id"], *job);
        assert_eq!(shown(&server, &path("v1", &encode(job))).await["job"]["job_id"], *job);
    }
    assert_eq!(shown(&server, &path("v2", "a+b")).await["id"], "a+b");
    assert_eq!(shown(&server, &path("v2", "%2e%2e")).await["id"], "..");
    for (operation, job, status) in [
        ("v2", "%00".to_owned(), 400),
        ("v1", "a%0a".into(), 400),
        ("image", "%c2%85".into(), 400),
        ("v2", "%ff".into(), 400),
        ("v2", "%2".into(), 400),
        ("v2", "x".repeat(129), 404),
        ("v1", encode(&"é".repeat(255)), 404),
        ("v1", "x".repeat(256), 400),
        ("image", "x".repeat(128), 404),
        ("image", "x".repeat(129), 400),
        ("v2", String::new(), 404),
        ("v2", "j/".into(), 404),
    ] {
        assert_eq!(get(&server, &path(operation, &job)).await.status, status, "{operation} {job}");
    }
    assert_eq!(get(&server, &path("v2", "")).await.assert_error(404, code::NOT_FOUND), "no such path");
}

/// The response has the first 1,000 subtasks. It has times only if it has all subtasks.
#[tokio::test]
async fn a_job_shows_at_most_1000_subtasks() {
    let server = Running::start(config()).await;
    let time = json!({ "begin_time": "2022-03-07T10:40:43Z", "end_time": "2022-03-07T10:40:44Z" });
    let one = |at: usize| with(record(&at.to_string(), "j", "SUCCESS"), time.clone());
    report(&server, (0..1000).map(one)).await;
    let all = shown(&server, &path("v2", "j")).await;
    assert_eq!((&all["sub_jobs_total"], all["sub_jobs"].as_array().unwrap().len()), (&json!(1000), 1000));
    assert_eq!([&all["begin_time"], &all["end_time"]], [&time["begin_time"], &time["end_time"]]);
    let last = json!({ "error_code": "E", "error_message": "late" });
    report(&server, [with(one(1000), with(json!({ "status": "FAILED" }), last))]).await;
    let all = shown(&server, &path("v2", "j")).await;
    let sub_jobs = all["sub_jobs"].as_array().unwrap();
    assert_eq!((&all["sub_jobs_total"], sub_jobs.len(), &sub_jobs[999]["id"]), (&json!(1001), 1000, &json!("999")));
    assert_eq!([&all["status"], &all["begin_time"], &all["end_time"]], [&json!("FAILED"), &Value::Null, &Value::Null]);
    // The error is that of the first failed subtask, also if the response does not have that subtask.
    let v1 = shown(&server, &path("v1", "j")).await["job"].take();
    assert_eq!([&v1["execute_code"], &v1["execute_message"]], [&json!("E"), &json!("late")]);
    assert_eq!((v1["sub_jobs"].as_array().unwrap().len(), &v1["begin_time"]), (1000, &Value::Null));
}

#[tokio::test]
async fn image_jobs_are_filtered_by_the_type_and_status_of_the_job() {
    let server = Running::start(config()).await;
    let of = |id: &str, job: &str, job_type: &str, status: &str| {
        with(image(record(id, job, status)), json!({ "job_type": job_type }))
    };
    let time = json!({ "begin_time": "2022-03-07T10:40:43.5Z", "end_time": "2022-03-07T10:40:44Z" });
    report(
        &server,
        [
            of("1", "c", "BUILD_IMAGE", "SUCCESS"),
            with(of("2", "b", "CREATE_SERVER", "WAITING"), time.clone()),
            record("3", "a", "RUNNING"),
            with(of("4", "a", "CREATE_SERVER", "SUCCESS"), time),
            of("5", "a", "DELETE_SERVER", "SUCCESS"),
            of("6", "c", "CREATE_SERVER", "ABNORMAL"),
        ],
    )
    .await;
    let list = async |query: &str| {
        let all = shown(&server, &format!("/v1/{PROJECT}/image-server-jobs{query}")).await;
        let items = all["items"].as_array().unwrap();
        let ids: Vec<_> = items.iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect();
        (all["count"].as_u64().unwrap(), ids.join(" "))
    };
    for (query, count, ids) in [
        ("?job_type=", 2, "b a"),
        ("?job_type=&status=&offset=1&limit=1&job_id=x", 2, "a"),
        ("?job_type=&offset=2", 2, ""),
        ("?job_type=CREATE_SERVER", 2, "b a"),
        ("?job_type=BUILD_IMAGE", 1, "c"),
        ("?job_type=DELETE_SERVER", 0, ""),
        ("?job_type=&status=WAITING", 0, ""),
        ("?job_type=&status=RUNNING", 1, "b"),
        ("?job_type=&status=SUCCESS", 1, "a"),
        ("?job_type=BUILD_IMAGE&status=FAILED", 1, "c"),
    ] {
        assert_eq!(list(query).await, (count, ids.into()), "{query}");
    }
    let all = shown(&server, &format!("/v1/{PROJECT}/image-server-jobs?job_type=")).await;
    let expected = json!([
        { "id": "b", "job_type": "CREATE_SERVER", "begin_time": "2022-03-07T10:40:43.5Z", "status": "RUNNING",
          "sub_jobs_total": 1 },
        { "id": "a", "job_type": "CREATE_SERVER", "begin_time": "2022-03-07T10:40:43.5Z",
          "end_time": "2022-03-07T10:40:44Z", "status": "SUCCESS", "sub_jobs_total": 2 },
    ]);
    assert_eq!(all["items"], expected);
    for query in ["", "?job_type=&status=ABNORMAL", "?job_type=REINSTALL_OS", "?job_type=&limit=0"] {
        let response = get(&server, &format!("/v1/{PROJECT}/image-server-jobs{query}")).await;
        response.assert_error(400, code::INPUT);
    }
    // A job of more than 100 subtasks has no times in the list. ShowImageJob has them.
    let time = json!({ "begin_time": "2022-03-07T10:40:43Z" });
    let one = |at: usize| with(of(&format!("l{at}"), "large", "CREATE_SERVER_IMAGE", "RUNNING"), time.clone());
    report(&server, (0..100).map(one)).await;
    let large = async || shown(&server, &format!("/v1/{PROJECT}/image-server-jobs?job_type=CREATE_SERVER_IMAGE")).await;
    assert_eq!(large().await["items"][0]["begin_time"], time["begin_time"]);
    report(&server, [one(100)]).await;
    assert_eq!(large().await["items"][0]["begin_time"], Value::Null);
    assert_eq!(shown(&server, &path("image", "large")).await["begin_time"], time["begin_time"]);
}

/// The publisher's infrastructure tool polls a job until its status is not RUNNING, fails unless it is SUCCESS, and then uses the
/// resource of the first subtask.
#[tokio::test]
async fn the_polling_loop_of_the_infrastructure_tool_succeeds() {
    let server = Running::start(config()).await;
    let steps = [["WAITING", "WAITING"], ["RUNNING", "WAITING"], ["SUCCESS", "RUNNING"], ["SUCCESS", "SUCCESS"]];
    let mut seen = Vec::new();
    for [first, second] in steps {
        let resource = json!({ "job_resource_info": { "resource_id": "server-1" } });
        let first = record("1", "j", first);
        let first = if first["status"] == "SUCCESS" { with(first, resource) } else { first };
        report(&server, [first, record("2", "j", second)]).await;
        let job = shown(&server, &path("v2", "j")).await;
        seen.push(job["status"].as_str().unwrap().to_owned());
        if job["status"] != "RUNNING" {
            assert_eq!(job["sub_jobs"][0]["job_resource_info"]["resource_id"], "server-1");
        }
    }
    assert_eq!(seen, ["RUNNING", "RUNNING", "RUNNING", "SUCCESS"]);
}

#[tokio::test]
async fn a_job_supports_head_and_compression() {
    let server = Running::start(config()).await;
    report(&server, (0..50).map(|at| record(&format!("subtask {at}"), "j", "RUNNING"))).await;
    let plain = get(&server, &path("v2", "j")).await;
    let target = path("v2", "j");
    let mut connection = crate::support::connection::Connection::open(server.public).await;
    connection.send(request("HEAD", &target, OPS, &[])).await;
    let head = connection.response_to_head().await;
    assert_eq!((head.status, head.header("content-length")), (200, plain.header("content-length")));
    connection.send(request("GET", &target, OPS, &["Accept-Encoding: gzip"])).await;
    let coded = connection.response_to_head().await;
    assert_eq!((coded.status, coded.header("content-encoding")), (200, Some("gzip")));
    let other = exchange(server.public, request("PUT", &target, OPS, &[])).await;
    other.assert_error(405, code::METHOD);
}
