//! Starting with what is on the disk: how long it takes until the server is ready, and how much memory it has then.

use std::fs;
use std::path::Path;

use crate::durable::start;
use crate::support::figures::Spread;
use crate::support::process::{write_access, write_subtasks};
use crate::support::sample;

const ROUNDS: usize = 3;

pub(crate) fn run() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (access, file) = (write_access(directory.path()), directory.path().join("subtasks.ndjson"));
    let none = directory.path().join("none.ndjson");
    write_subtasks(&none, std::iter::empty());
    for subtasks in [1_000_000, 10_000_000] {
        let data = directory.path().join(format!("data-{subtasks}"));
        write_subtasks(&file, sample::skewed().take(subtasks));
        let server = start(&access, &file, Some(&data));
        let (loaded, memory) = (server.start.as_secs_f64(), server.memory());
        let written = server.written();
        server.stop();
        fs::remove_file(&file).unwrap();
        println!("{subtasks} subtasks with UUIDs as ids, {:.1} MiB on disk", mib(size(&data)));
        println!(
            "  loaded from a file in {loaded:.1} s, {:.0} a second; {:.0} bytes written a subtask; then {:.1} MiB (at most {:.1})",
            subtasks as f64 / loaded,
            written as f64 / subtasks as f64,
            mib(memory[0]),
            mib(memory[1])
        );
        let rounds: Vec<_> = (0..ROUNDS)
            .map(|_| {
                let server = start(&access, &none, Some(&data));
                let round = (server.start.as_secs_f64(), server.memory(), server.cpu().as_secs_f64());
                server.stop();
                round
            })
            .collect();
        println!("  ready in {} s", Spread::of(rounds.iter().map(|round| round.0)));
        println!("  with {} s of CPU", Spread::of(rounds.iter().map(|round| round.2)));
        for (what, at) in [("then", 0), ("at most", 1)] {
            let bytes = Spread::of(rounds.iter().map(|round| round.1[at] as f64));
            println!(
                "  {what} {:.1} MiB, {:.1} bytes a subtask",
                bytes.median / 1048576.0,
                bytes.median / subtasks as f64
            );
        }
    }
}

fn size(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).unwrap().map(Result::unwrap);
    let sizes = entries.map(|entry| if entry.path().is_dir() { size(&entry.path()) } else { occupied(&entry.path()) });
    sizes.sum()
}

/// What a file takes on the disk, which is less than its length where that was only set aside.
fn occupied(file: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    file.metadata().unwrap().blocks() * 512
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / 1024.0 / 1024.0
}
