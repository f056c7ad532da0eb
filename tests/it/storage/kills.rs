//! The program is killed many times while workers report.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::support::blocking::{get, post};
use crate::support::fixtures::{Files, OPS, access_to_any_project, count_path, report_path};
use crate::support::program::{Program, Signal, serve};
use crate::support::random::Random;
use crate::support::wait::{TEST_DEADLINE, until};
use crate::support::workers::{Worker, assert_stored};

/// The number of kills. For more: `SUBJOBS_TEST_KILLS=500 cargo test --test it storage::kills`.
const KILLS: &str = "SUBJOBS_TEST_KILLS";

/// The project of subtasks that ended long ago.
const ENDED: &str = "ended";

/// The number of kills for one directory: its log grows, and with it the time of a start.
const OF_A_DIRECTORY: usize = 150;

#[test]
fn a_kill_loses_no_acknowledged_report_and_leaves_no_partial_one() {
    let kills: usize = std::env::var(KILLS).map_or(50, |kills| kills.parse().unwrap());
    for (round, from) in (0..kills).step_by(OF_A_DIRECTORY).enumerate() {
        kill_often(OF_A_DIRECTORY.min(kills - from), round);
    }
}

fn kill_often(kills: usize, round: usize) {
    let files = Files::new();
    let access = files.put("all.toml", &access_to_any_project());
    let args = ["--access", &access, "--data-dir", &files.arg("data"), "--retain-finished", "1h"];
    let mut random = Random::new(round as u64);
    let worker = |number| Worker::new(round * 6 + number, &format!("project-{}", number / 2));
    let mut workers: Vec<_> = (0..6).map(worker).collect();
    let mut reports = 0;
    for kill in 1..=kills {
        if kill % 4 == 0 {
            // Sometimes the kill comes before the program is ready.
            let mut child = serve(&args).spawn().unwrap();
            random_pause(&mut random, 30_000);
            child.kill().unwrap();
            child.wait().unwrap();
        }
        let program = Program::start(&args);
        assert_stored(&program, &workers, &format!("after {} kills", kill - 1));
        // These expire in the next pass, mostly after the next start and concurrently with reports.
        let ended: String = (0..50).map(|id| ended(kill * 100 + id)).collect();
        assert_eq!(post(program.internal, &report_path(ENDED), OPS, &ended).status, 200);
        let (address, (acknowledged, wait)) = (program.internal, mpsc::channel());
        thread::scope(|scope| {
            for worker in &mut workers {
                let acknowledged = acknowledged.clone();
                scope.spawn(|| worker.work(address, move || acknowledged.send(()).unwrap()));
            }
            for _ in 0..random.below(40) {
                wait.recv_timeout(TEST_DEADLINE).unwrap();
                reports += 1;
            }
            random_pause(&mut random, 5_000);
            drop(program);
        });
        drop(acknowledged);
        reports += wait.iter().count();
    }
    let program = Program::start(&args);
    assert_stored(&program, &workers, "in the end");
    let of_ended = || get(program.public, &count_path(ENDED), OPS).json()["count"].as_u64();
    until("all that ended long ago is dropped", || (of_ended() == Some(0)).then_some(()));
    assert!(program.metric("subjobs_expired_total") > Some(0));
    program.signal(Signal::Term);
    assert_eq!(program.ended().0, 0);
    let program = Program::start(&args);
    assert_stored(&program, &workers, "after a clean stop");
    assert!(reports > kills, "only {reports} reports");
    eprintln!("{kills} kills, {reports} reports acknowledged");
}

/// A subtask that ended long ago.
fn ended(id: usize) -> String {
    let rest = r#""job_id":"j","job_type":"CREATE_SERVER","status":"SUCCESS","end_time":"2022-03-07T10:40:43Z""#;
    format!("{{\"id\":\"{id}\",{rest}}}\n")
}

/// Waits for a random time, so that the next step happens at a random moment.
fn random_pause(random: &mut Random, at_most: usize) {
    thread::sleep(Duration::from_micros(random.below(at_most) as u64));
}
