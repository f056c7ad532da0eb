//! Subtasks of apps and of images: separate in every count, together in a report, a data directory and an export.

use serde_json::{Value, json as value};

use crate::ingest::reports::accepted;
use crate::support::blocking::post;
use crate::support::fixtures::{Files, OPS, PROJECT, config, outcome, report_path};
use crate::support::program::{Program, Signal, run, subjobs, text};
use crate::support::server::Running;

fn record(id: &str, job_type: &str, family: Option<&str>) -> Value {
    let mut record = value!({ "id": id, "job_id": "j", "job_type": job_type, "status": "RUNNING" });
    if let Some(family) = family {
        record["family"] = family.into();
    }
    record
}

#[tokio::test]
async fn families_are_counted_apart_and_a_report_can_change_the_family() {
    let server = Running::start(config()).await;
    let image = |id| record(id, "CREATE_SERVER", Some("image"));
    let lines = [record("1", "CREATE_SERVER", None), image("2"), record("3", "BUILD_IMAGE", Some("image"))];
    let lines = lines.map(|line| line.to_string()).join("\n");
    assert_eq!(accepted(server.report(OPS, lines)).await, outcome(3, 0, 0, 0));
    let series = |job_type: &str| format!("subjobs_subtasks{{job_type=\"{job_type}\",status=\"RUNNING\"}}");
    let numbers = async || {
        let [app, image, built] = ["CREATE_SERVER", "image:CREATE_SERVER", "image:BUILD_IMAGE"].map(series);
        let of_metrics =
            [server.metric(&app).await, server.metric(&image).await, server.metric(&built).await].map(Option::unwrap);
        let counts = ["", "?job_id=j", "?job_type=CREATE_SERVER", "?status=RUNNING&job_id=j"];
        let mut of_apps = Vec::new();
        for query in counts {
            of_apps.push(server.count(query).await);
        }
        assert!(of_apps.iter().all(|count| *count == of_apps[0]), "{of_apps:?}");
        (of_apps[0], of_metrics)
    };
    assert_eq!(numbers().await, (1, [1.0, 1.0, 1.0]));

    assert_eq!(accepted(server.report(OPS, image("1").to_string())).await, outcome(0, 1, 0, 0));
    assert_eq!(accepted(server.report(OPS, image("1").to_string())).await, outcome(0, 0, 1, 0));
    assert_eq!(numbers().await, (0, [0.0, 2.0, 1.0]));
    let app = record("1", "CREATE_SERVER", Some("app")).to_string();
    assert_eq!(accepted(server.report(OPS, app)).await, outcome(0, 1, 0, 0));
    assert_eq!(numbers().await, (1, [1.0, 1.0, 1.0]));
    let both = [image("2"), record("2", "DELETE_SERVER", None)].map(|line| line.to_string()).join("\n");
    assert_eq!(accepted(server.report(OPS, both)).await, outcome(0, 1, 1, 0));
    assert_eq!(server.count("?job_type=DELETE_SERVER").await, 1);
}

#[test]
fn families_survive_a_restart_and_an_export() {
    let files = Files::new();
    let (access, data, copy) = (files.access(), files.arg("data"), files.arg("copy"));
    let args = ["--access", &access, "--data-dir", &data, "--job-type", "BUILD_IMAGE"];
    let program = Program::start(&args);
    let lines = [
        record("1", "CREATE_SERVER", None),
        record("2", "CREATE_SERVER", Some("image")),
        record("3", "BUILD_IMAGE", Some("image")),
        record("4", "BUILD_IMAGE", None),
    ];
    let lines = lines.map(|line| line.to_string()).join("\n");
    assert_eq!(post(program.internal, &report_path(PROJECT), OPS, &lines).status, 200);
    program.signal(Signal::Term);
    assert_eq!(program.ended().0, 0);

    let export = |data: &str| {
        let output = run(&mut subjobs(&["export", "--data-dir", data, "--job-type", "BUILD_IMAGE"]), "");
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    let exported = export(&data);
    let lines: Vec<Value> = exported.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of_line = |line: &Value| (line["id"].clone(), line["job_type"].clone(), line.get("family").cloned());
    let expected = [
        ("1", "CREATE_SERVER", None),
        ("2", "CREATE_SERVER", Some("image")),
        ("3", "BUILD_IMAGE", Some("image")),
        ("4", "BUILD_IMAGE", None),
    ];
    let expected = expected.map(|(id, job_type, family)| (id.into(), job_type.into(), family.map(Value::from)));
    assert_eq!(lines.iter().map(of_line).collect::<Vec<_>>(), expected);

    let load = files.put("load.ndjson", &exported);
    let args = ["--access", &access, "--data-dir", &copy, "--job-type", "BUILD_IMAGE", "--load", &load];
    let program = Program::start(&args);
    assert_eq!((program.count(""), program.count("?job_type=BUILD_IMAGE")), (2, 1));
    assert_eq!(program.metric(r#"subjobs_subtasks{job_type="image:BUILD_IMAGE",status="RUNNING"}"#), Some(1));
    program.signal(Signal::Term);
    assert_eq!(program.ended().0, 0);
    assert_eq!(export(&copy), exported);
}
