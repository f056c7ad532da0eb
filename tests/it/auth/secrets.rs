//! No secret is in the output of the program, at any log level.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::thread;

use crate::support::fixtures::{Files, OPS, access};
use crate::support::program::{Program, Signal, run, serve, subjobs, text};
use crate::support::wait::until;

const SECRET: &str = "s3cretOfSomebody";

/// An identity service whose responses have the token in place of other values, each response in another place.
fn echoing_service() -> (String, usize) {
    let answers = [
        r#""TOKEN""#,
        r#"{"token":"TOKEN"}"#,
        r#"{"token":{"expires_at":"TOKEN","user":{"id":"u"}}}"#,
        r#"{"token":{"expires_at":"2126-01-01T00:00:00Z","user":"TOKEN"}}"#,
        r#"{"token":{"expires_at":"2126-01-01T00:00:00Z","user":{"id":"u"},"project":"TOKEN"}}"#,
        r#"{"token":{"expires_at":"2126-01-01T00:00:00Z","user":{"id":"u"},"project":{"id":"TOKEN /"}}}"#,
        r#"{"token":{"expires_at":"2126-01-01T00:00:00Z","user":{"id":"u"},"roles":["TOKEN"]}}"#,
        r#"{"token":{"expires_at":"2126-01-01T00:00:00Z","user":{"id":"TOKEN"},"project":{"id":"TOKEN"}}}"#,
        r#"{"token":{"TOKEN":1}}"#,
        "TOKEN",
        r#"{"token":{"expires_at":"TOKEN"#,
    ];
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v3", listener.local_addr().unwrap());
    thread::spawn(move || {
        for (connection, answer) in listener.incoming().zip(answers.iter().cycle()) {
            let (mut socket, mut head) = (connection.unwrap(), Vec::new());
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                socket.read_exact(&mut byte).unwrap();
                head.extend_from_slice(&byte);
            }
            let head = String::from_utf8(head).unwrap();
            let token = head.lines().find_map(|line| line.strip_prefix("x-auth-token: ")).unwrap();
            let body = answer.replace("TOKEN", token);
            let length = body.len();
            let head =
                format!("HTTP/1.1 200 OK\r\nConnection: close\r\nX-Echo: {token}\r\nContent-Length: {length}\r\n\r\n");
            let _ = socket.write_all((head + &body).as_bytes());
        }
    });
    (url, answers.len())
}

#[test]
fn a_response_with_the_token_is_logged_without_it() {
    let (files, (url, answers)) = (Files::new(), echoing_service());
    files.put("access.toml", &format!("{}\n[identity]\nurl = \"{url}\"\n", access()));
    for filter in ["trace", "hyper=trace,hyper_util=trace,subjobs=trace"] {
        let mut command = serve(&["--access", &files.access()]);
        let program = Program::begin_with(command.env("RUST_LOG", filter));
        until("it is ready", || (program.internal_status("/readyz") == 200).then_some(()));
        for n in 0..answers {
            let status = program.ask(&format!("{SECRET}-{n}"), "").status;
            assert!(matches!(status, 403 | 503), "{status}");
        }
        program.signal(Signal::Term);
        let (code, log) = program.ended();
        assert_eq!(code, 0);
        let log = log.join("\n");
        assert!(log.contains("invalid response"), "{log}");
        assert!(!log.contains(SECRET), "{log}");
    }
}

#[test]
fn errors_of_the_access_file_have_no_value_of_it() {
    let files = Files::new();
    let key = |key: &str| {
        access().replace("name = \"ops\"", &format!("name = \"ops\"\naccess_keys = [{{ id = \"A\", {key} }}]"))
    };
    let identity = |url: &str| format!("{}\n[identity]\nurl = \"{url}\"\n", access());
    let long_path = "x".repeat(5_000);
    for (at, bad) in [
        key(&format!("secret_env = \"{SECRET}\"")),
        key(&format!("secret_file = \"{SECRET}\"")),
        key(&format!("secret_file = \"{SECRET}{long_path}\"")),
        key(&format!("{SECRET} = \"x\"")),
        key(&format!("secret = {SECRET}")),
        identity(&format!("http://user:{SECRET}@127.0.0.1:1/v3")),
        identity(&format!("http://{SECRET}@127.0.0.1")),
        identity(&format!("http://127.0.0.1/?{SECRET}")),
        identity(&format!("http://127.0.0.1/#{SECRET}")),
        identity(&format!("http://user:{SECRET} @a")),
        identity(&format!("http://127.0.0.1\"\nca_file = \"{SECRET}")),
    ]
    .iter()
    .enumerate()
    {
        let path = files.put(&format!("{at}.toml"), bad);
        for mut command in [serve(&["--access", &path]), subjobs(&["check", "--access", &path])] {
            let output = run(command.env("RUST_LOG", "trace"), "");
            let said = text(&output.stdout) + &text(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{said}");
            assert!(!said.contains(SECRET), "{said}");
        }
    }
    // The same holds for a reload.
    let mut command = serve(&["--access", &files.access()]);
    let program = Program::begin_with(command.env("RUST_LOG", "trace"));
    until("it is ready", || (program.internal_status("/readyz") == 200).then_some(()));
    files.put("access.toml", &key(&format!("secret_file = \"{SECRET}\"")));
    program.signal(Signal::Hup);
    program.await_log("access file not reloaded: still using the previous file");
    assert_eq!(program.ask(OPS, "").status, 200);
    program.signal(Signal::Term);
    let (_, log) = program.ended();
    assert!(!log.join("\n").contains(SECRET), "{}", log.join("\n"));
}
