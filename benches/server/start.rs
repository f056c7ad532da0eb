//! How long a server takes from the start of its process until it is ready, and how much memory it has then.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::figures::Spread;
use crate::support::process::{ACCOUNT, PROGRAM, Process, serve_command};
use subjobs::Token;

const STARTS: usize = 21;

pub(crate) fn run() {
    let directory = tempfile::tempdir().unwrap();
    let access = write_one_account(directory.path());
    let kinds: [(&str, &dyn Fn() -> Command); 2] =
        [("an access file with one account", &|| serve_command(&access)), ("--demo", &demo_command)];
    // Once unmeasured, so that the program is in the system's memory.
    for (_, command) in &kinds {
        Process::start(command()).stop();
    }
    let mut started = [(); 2].map(|()| (Vec::new(), Vec::new()));
    for _ in 0..STARTS {
        for ((_, command), (millis, mib)) in kinds.iter().zip(&mut started) {
            let server = Process::start(command());
            millis.push(server.start.as_secs_f64() * 1e3);
            mib.push(server.memory()[0] as f64 / 1024.0 / 1024.0);
            server.stop();
        }
    }
    println!("{STARTS} starts of each, in turns, in memory; until ready, and resident then");
    for ((what, _), (millis, mib)) in kinds.iter().zip(started) {
        println!("  {what}: {} ms, {} MiB", Spread::of(millis), Spread::of(mib));
    }
}

fn demo_command() -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(["serve", "--demo", "--listen", "127.0.0.1:0", "--internal-listen", "127.0.0.1:0"]);
    command.args(["--log-format", "json"]).stdout(Stdio::null());
    command
}

/// Without a principal that has a credential, a file is refused.
fn write_one_account(directory: &Path) -> PathBuf {
    let token = Token::new(ACCOUNT.as_bytes()).unwrap().digest();
    let text = format!(
        "[[principal]]\nname = \"account\"\nkind = \"account\"\nprojects = [\"*\"]\ntokens = [{{ sha256 = \"{token}\" }}]\n"
    );
    let path = directory.join("one-account.toml");
    std::fs::write(&path, text).unwrap();
    path
}
