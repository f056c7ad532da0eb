//! A server as a process of its own, so that its processor time and memory are its own too.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use subjobs::access::Token;

use super::sample::{Subtask, project_id};

/// The tokens of the access file: of a user who may count in one project, of an account that may do everything.
pub(crate) const USER: &str = "Zm9yLW1lYXN1cmluZy1vbmx5LWEtdXNlci1fLTAxMjM";
pub(crate) const ACCOUNT: &str = "Zm9yLW1lYXN1cmluZy1vbmx5LWFuLWFjY291bnQtMDE";

/// How long a server that has been told to end may take for that.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Process {
    child: Child,
    pub(crate) public: SocketAddr,
    pub(crate) internal: Option<SocketAddr>,
    /// From the start of the process until it was ready.
    pub(crate) start: Duration,
}

impl Process {
    /// The server itself, as it is built and run by its users.
    pub(crate) fn full(access: &Path, load: &Path) -> Self {
        Self::start(full_command(access, load))
    }

    /// Starts a server and waits until it is ready.
    pub(crate) fn start(mut command: Command) -> Self {
        let start = Instant::now();
        let mut child = command.stderr(Stdio::piped()).stdin(Stdio::null()).spawn().unwrap();
        let (mut public, mut internal) = (None, None);
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
        loop {
            let line = log.next().expect("the server ended before it was ready");
            let event: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line}"));
            let address = || Some(event["address"].as_str().unwrap().parse().unwrap());
            match (event["message"].as_str(), event["listener"].as_str()) {
                (Some("listening"), Some("public")) => public = address(),
                (Some("listening"), Some("internal")) => internal = address(),
                (Some("ready"), _) => break,
                _ => {}
            }
        }
        let start = start.elapsed();
        // What else it says must be read, or the server would wait; what is wrong with it must not be lost.
        std::thread::spawn(move || {
            log.filter(|line| line.contains(r#""level":"ERROR""#)).for_each(|line| eprintln!("{line}"));
        });
        Self { child, public: public.unwrap(), internal, start }
    }

    /// The number of the process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Processor time used so far, in user and in system mode, of all threads.
    pub(crate) fn cpu(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let (_, fields) = stat.rsplit_once(") ").unwrap();
        // The 14th and 15th field of all, the third being the first behind the name; in hundredths of a second.
        let ticks: u64 = fields.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum();
        Duration::from_millis(10 * ticks)
    }

    /// Bytes of memory in use now, and at most so far.
    pub(crate) fn memory(&self) -> [u64; 2] {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        ["VmRSS:", "VmHWM:"].map(|field| {
            let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
            1024 * line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
        })
    }

    /// Bytes written to files so far.
    pub(crate) fn written(&self) -> u64 {
        let io = fs::read_to_string(format!("/proc/{}/io", self.child.id())).unwrap();
        io.lines().find_map(|line| line.strip_prefix("wchar: ")).unwrap().parse().unwrap()
    }

    /// How many file descriptors are open.
    pub(crate) fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }

    /// Lets the server end as an operator does, and waits for that; how it has ended.
    pub(crate) fn stop(mut self) -> ExitStatus {
        Command::new("kill").arg(self.child.id().to_string()).status().unwrap();
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(start.elapsed() < PATIENCE, "the server does not end");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Ends the server in the middle of whatever it does.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
    }
}

pub(crate) fn full_command(access: &Path, load: &Path) -> Command {
    let mut command = serve_command(access);
    command.arg("--load").arg(load);
    command
}

/// The program of this build.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_subjobs");

/// The server on any two ports, without a subtask.
pub(crate) fn serve_command(access: &Path) -> Command {
    serve_command_of(Path::new(PROGRAM), access)
}

/// The same of another build.
pub(crate) fn serve_command_of(program: &Path, access: &Path) -> Command {
    let mut command = Command::new(program);
    command.args(["serve", "--listen", "127.0.0.1:0", "--internal-listen", "127.0.0.1:0", "--log-format", "json"]);
    command.arg("--access").arg(access);
    command
}

/// Writes an access file with both tokens.
pub(crate) fn write_access(directory: &Path) -> PathBuf {
    let [user, account] = [USER, ACCOUNT].map(|token| Token::new(token.as_bytes()).unwrap().digest().to_string());
    let project = project_id(0);
    let text = format!(
        r#"
        [[principal]]
        name = "user"
        kind = "user"
        projects = ["{project}"]
        tokens = [{{ sha256 = "{user}" }}]
        policies = ["count-only"]

        [[principal]]
        name = "account"
        kind = "account"
        projects = ["*"]
        tokens = [{{ sha256 = "{account}" }}]

        [[policy.count-only.Statement]]
        Effect = "Allow"
        Action = ["workspace:jobs:countSubJobs"]
        "#
    );
    let path = directory.join("access.toml");
    fs::write(&path, text).unwrap();
    path
}

/// Writes subtasks as a file to load, with the required fields only.
pub(crate) fn write_subtasks(path: &Path, subtasks: impl Iterator<Item = Subtask>) {
    let mut file = std::io::BufWriter::new(fs::File::create(path).unwrap());
    for subtask in subtasks {
        let project = project_id(subtask.project);
        writeln!(file, r#"{{"project_id":"{project}",{}}}"#, subtask.fields()).unwrap();
    }
    file.flush().unwrap();
}
