//! Deletes survive a kill and a restart, and change nothing if they cannot be stored.

use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::support::blocking::{BlockingConnection, post};
use crate::support::connection::request;
use crate::support::fixtures::{Files, OPS, PROJECT, code, report_path};
use crate::support::program::{Program, Signal};
use crate::support::random::Random;
use crate::support::response::Response;
use crate::support::wait::TEST_DEADLINE;

/// The number of subtasks of a delete.
const ITEMS: usize = 20;

/// Deletes all subtasks of a job. Returns the response, or none if the server was killed before it.
fn delete(address: SocketAddr, job: usize) -> Option<Response> {
    let ids: Vec<_> = (0..ITEMS).map(|at| format!("{job}-{at}")).collect();
    let body = serde_json::json!({ "items": ids }).to_string();
    let path = format!("/v1/{PROJECT}/app-server-sub-jobs/actions/batch-delete");
    let length = format!("Content-Length: {}", body.len());
    let more = ["Connection: close", "Content-Type: application/json", &length];
    let mut connection = BlockingConnection::try_open(address).ok()?;
    connection.try_send(request("POST", &path, OPS, &more) + &body).ok()?;
    let answer = connection.rest();
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some(Response { body: body.into(), ..Response::parse_head(head) })
}

/// Reports the subtasks of a job with the status SUCCESS.
fn report(address: SocketAddr, job: usize) {
    let one = |at| format!(r#"{{"id":"{job}-{at}","job_id":"{job}","job_type":"CREATE_SERVER","status":"SUCCESS"}}"#);
    let lines: Vec<_> = (0..ITEMS).map(one).collect();
    assert_eq!(post(address, &report_path(PROJECT), OPS, &lines.join("\n")).status, 200);
}

fn of_job(program: &Program, job: usize) -> u64 {
    program.count(&format!("?job_id={job}"))
}

#[test]
fn a_delete_is_atomic_and_survives_a_kill() {
    const JOBS: usize = 200;
    const KILLS: usize = 8;
    let files = Files::new();
    let args = ["--access", &files.access(), "--data-dir", &files.arg("data")];
    let mut random = Random::new(11);
    let mut program = Program::start(&args);
    (0..JOBS).for_each(|job| report(program.internal, job));
    let mut next = 0;
    for _ in 0..KILLS {
        let (address, (done, wait)) = (program.public, mpsc::channel());
        let first = next;
        thread::scope(|scope| {
            scope.spawn(move || {
                for job in first..JOBS {
                    match delete(address, job) {
                        Some(answer) => assert_eq!((answer.status, answer.text()), (200, "")),
                        None => return,
                    }
                    done.send(job + 1).unwrap();
                }
            });
            for _ in 0..=random.below(JOBS / KILLS / 2) {
                next = wait.recv_timeout(TEST_DEADLINE).unwrap();
            }
            thread::sleep(Duration::from_micros(random.below(2000) as u64));
            program.kill();
            // A response that was sent before the kill also counts.
            wait.iter().for_each(|job| next = job);
        });
        program = Program::start(&args);
        assert!((0..next).all(|job| of_job(&program, job) == 0), "of the first {next} some came back");
        // A delete without a response is applied as a whole or not at all.
        let unanswered = of_job(&program, next);
        assert!([0, ITEMS as u64].contains(&unanswered), "{unanswered} of job {next}");
        assert!((next + 1..JOBS).all(|job| of_job(&program, job) == ITEMS as u64));
        next += usize::from(unanswered == 0);
    }
    assert!(next > KILLS && next < JOBS, "{next}");
    program.signal(Signal::Term);
    assert_eq!(program.ended().0, 0);
    let program = Program::start(&args);
    assert_eq!(program.count(""), ((JOBS - next) * ITEMS) as u64);
    // A deleted subtask is created again.
    report(program.internal, 0);
    assert_eq!(of_job(&program, 0), ITEMS as u64);
}

#[test]
fn a_delete_that_cannot_be_stored_gets_503_and_removes_nothing() {
    let files = Files::new();
    let data = files.arg("data");
    let program = Program::start(&["--access", &files.access(), "--data-dir", &data]);
    report(program.internal, 1);
    std::fs::rename(&data, files.arg("moved")).unwrap();
    for _ in 0..2 {
        delete(program.public, 1).unwrap().assert_error(503, code::UNAVAILABLE);
        assert_eq!(of_job(&program, 1), ITEMS as u64);
    }
}
