//! The program is killed while it takes reports, again and again.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::durable_support::{Worker, access_to_all, assert_stored};
use crate::faults_bench::Random;
use crate::program_support::{BOUND, Files, Program, Signal, serve};

/// More kills than the usual: `SUBJOBS_TEST_KILLS=500 cargo test --test it durable_kills`.
const KILLS: &str = "SUBJOBS_TEST_KILLS";

/// So many kills see one directory: its journal grows, and with it the time that every start takes.
const OF_A_DIRECTORY: usize = 150;

#[test]
fn a_kill_loses_nothing_acknowledged_and_leaves_no_half_report() {
    let kills: usize = std::env::var(KILLS).map_or(50, |kills| kills.parse().unwrap());
    for (round, from) in (0..kills).step_by(OF_A_DIRECTORY).enumerate() {
        kill_often(OF_A_DIRECTORY.min(kills - from), round);
    }
}

fn kill_often(kills: usize, round: usize) {
    let files = Files::new();
    let access = files.put("all.toml", &access_to_all());
    let args = ["--access", &access, "--data-dir", &files.arg("data")];
    let mut random = Random::new(round as u64);
    let worker = |number| Worker::new(round * 6 + number, &format!("project-{}", number / 2));
    let mut workers: Vec<_> = (0..6).map(worker).collect();
    let mut reports = 0;
    for kill in 1..=kills {
        if kill % 4 == 0 {
            // At times it does not even come to be ready.
            let mut child = serve(&args).spawn().unwrap();
            moment(&mut random, 30_000);
            child.kill().unwrap();
            child.wait().unwrap();
        }
        let program = Program::start(&args);
        assert_stored(&program, &workers, &format!("after {} kills", kill - 1));
        let (address, (acknowledged, wait)) = (program.internal, mpsc::channel());
        thread::scope(|scope| {
            for worker in &mut workers {
                let acknowledged = acknowledged.clone();
                scope.spawn(|| worker.work(address, move || acknowledged.send(()).unwrap()));
            }
            for _ in 0..random.below(40) {
                wait.recv_timeout(BOUND).unwrap();
                reports += 1;
            }
            moment(&mut random, 5_000);
            drop(program);
        });
        drop(acknowledged);
        reports += wait.iter().count();
    }
    let program = Program::start(&args);
    assert_stored(&program, &workers, "in the end");
    program.signal(Signal::Term);
    assert_eq!(program.ended().0, 0);
    let program = Program::start(&args);
    assert_stored(&program, &workers, "after a clean stop");
    assert!(reports > kills, "only {reports} reports");
    eprintln!("{kills} kills, {reports} reports acknowledged");
}

/// Lets some time pass, so that what follows comes at no particular moment.
fn moment(random: &mut Random, at_most: usize) {
    thread::sleep(Duration::from_micros(random.below(at_most) as u64));
}
