//! Reloads with every kind of invalid access file, and signals during the start.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::fixtures::{DASHBOARD, Files, OPS, access};
use crate::support::program::{Program, Signal, event, run, serve, subjobs, text, writer};
use crate::support::wait::until;

/// Puts something in place of the access file.
type Put = Box<dyn Fn(&PathBuf)>;

const RELOADED: &str = "access file reloaded";
const REFUSED: &str = "access file not reloaded: still using the previous file";

/// Reloads the access file and waits for the event of the log. Returns the reason if the reload failed.
struct Reloads<'a> {
    program: &'a Program,
    seen: usize,
}

impl Reloads<'_> {
    fn reload(&mut self) -> Option<String> {
        self.program.signal(Signal::Hup);
        let start = Instant::now();
        let said = self.program.log.await_in("an end of the reload", |lines| {
            let is_end = |event: &serde_json::Value| event["message"] == RELOADED || event["message"] == REFUSED;
            lines.iter().map(|line| event(line)).filter(is_end).nth(self.seen)
        });
        assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
        self.seen += 1;
        said["error"].as_str().map(str::to_owned)
    }
}

fn remove(path: &PathBuf) {
    if fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir()) {
        fs::remove_dir(path).unwrap();
    } else {
        fs::remove_file(path).unwrap();
    }
}

#[test]
fn a_reload_succeeds_after_any_failed_reload() {
    let files = Files::new();
    let program = Program::start(&["--access", &files.access()]);
    let mut reloads = Reloads { program: &program, seen: 0 };
    let path = files.path("access.toml");
    let key = |key: &str| {
        access().replace("name = \"ops\"", &format!("name = \"ops\"\naccess_keys = [{{ id = \"A\", {key} }}]"))
    };
    let identity = |more: &str| format!("{}\n[identity]\nurl = \"http://127.0.0.1:1\"\n{more}\n", access());
    files.fifo("pipe");
    let text = |text: String| -> Put { Box::new(move |path| fs::write(path, &text).unwrap()) };
    let link = |to: &'static str| -> Put { Box::new(move |path| symlink(to, path).unwrap()) };
    let bad: [(&str, Put); 16] = [
        ("a pipe, not a regular file", link("pipe")),
        ("a directory, not a regular file", Box::new(|path| fs::create_dir(path).unwrap())),
        ("a device, not a regular file", link("/dev/zero")),
        ("a device, not a regular file", link("/dev/full")),
        ("No such file", link("nowhere")),
        ("larger than 64 MiB", Box::new(|path| fs::File::create(path).unwrap().set_len(1 << 30).unwrap())),
        ("it has no credentials", text(String::new())),
        ("it has no credentials", text("projects = []\n".into())),
        ("it has no credentials", text(access().split("[[principal]]").next().unwrap().into())),
        ("line ", text(access()[..access().len() / 2].into())),
        ("it is not UTF-8", Box::new(|path| fs::write(path, b"\xff\xfe").unwrap())),
        ("secret_file: it is a pipe", text(key("secret_file = \"pipe\""))),
        ("secret_file: it is a device", text(key("secret_file = \"/dev/zero\""))),
        ("secret_file: it is larger than 64 KiB", text(key("secret_file = \"large\""))),
        ("ca_file: it is a pipe", text(identity("ca_file = \"pipe\""))),
        ("ca_file: it is a directory", text(identity("ca_file = \".\""))),
    ];
    files.put("large", &"x".repeat(64 * 1024 + 1));
    for (reason, put) in bad {
        remove(&path);
        put(&path);
        let said = reloads.reload().unwrap_or_else(|| panic!("{reason}"));
        assert!(said.contains(reason), "{said:?} does not say {reason:?}");
        assert_eq!(program.ask(OPS, "").status, 200);
        remove(&path);
        fs::write(&path, access()).unwrap();
        assert_eq!(reloads.reload(), None, "after: {reason}");
    }
    fs::write(&path, access().replace("name = \"dashboard\"", "name = \"panel\"")).unwrap();
    assert_eq!(program.ask(DASHBOARD, "").status, 200);
    program.signal(Signal::Term);
    assert_eq!(program.ended().0, 0);
}

#[test]
fn an_unusable_access_file_fails_the_start_within_a_time_limit() {
    let files = Files::new();
    let pipe = files.fifo("pipe");
    let empty = files.put("empty.toml", "");
    let directory = files.path("").to_str().unwrap().to_owned();
    for (path, reason) in [
        (pipe.as_str(), "it is a pipe whose writer did not close it within 5 s"),
        ("/dev/zero", "it is a device, not a regular file"),
        (&directory, "it is a directory, not a regular file"),
        (&empty, "it has no credentials"),
    ] {
        for mut command in [serve(&["--access", path]), subjobs(&["check", "--access", path])] {
            let output = run(&mut command, "");
            let said = text(&output.stdout) + &text(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{said}");
            assert!(said.contains(reason), "{said}");
        }
    }
}

/// A shell makes a pipe of `--access <(command)`.
#[test]
fn the_start_reads_an_access_file_from_a_pipe() {
    let files = Files::new();
    let pipe = files.fifo("pipe");
    let path = pipe.clone();
    let written = std::thread::spawn(move || writer(path).write_all(access().as_bytes()).unwrap());
    let program = Program::start(&["--access", &pipe]);
    written.join().unwrap();
    assert_eq!(program.ask(OPS, "").status, 200);
    let reason = Reloads { program: &program, seen: 0 }.reload().unwrap();
    assert!(reason.contains("a pipe, not a regular file"), "{reason}");
    assert_eq!(program.ask(OPS, "").status, 200);
}

/// The access file is a pipe, so the start waits for the test.
#[test]
fn a_signal_during_the_start_is_handled() {
    for (signal, times) in [("HUP", 20), ("TERM", 1), ("INT", 1)] {
        let files = Files::new();
        let pipe = files.fifo("pipe");
        let mut child = serve(&["--access", &pipe]).spawn().unwrap();
        // The open returns when the program has opened the pipe.
        let mut access_file = writer(&pipe);
        for _ in 0..times {
            let kill = format!("kill -{signal} {}", child.id());
            assert!(Command::new("sh").arg("-c").arg(kill).status().unwrap().success());
        }
        if signal == "HUP" {
            access_file.write_all(access().as_bytes()).unwrap();
            drop(access_file);
            let program = Program::of(child);
            program.await_log(REFUSED);
            assert_eq!(program.ask(OPS, "").status, 200);
            program.signal(Signal::Term);
            let (code, log) = program.ended();
            assert_eq!(code, 0);
            let reloads = log.iter().filter(|line| line.contains(REFUSED)).count();
            assert!(reloads <= 2, "twenty signals are not twenty reloads: {}", log.join("\n"));
        } else {
            let ended = until("the program ends", || child.try_wait().unwrap());
            assert_eq!(ended.code(), Some(0), "{signal}");
        }
    }
}
