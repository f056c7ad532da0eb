//! The access file, and what the identity service answers.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use subjobs::access::{Access, AccessHandle, AccessSource, Token};
use subjobs::metrics::Metrics;

use crate::Bound;

const SIZE: usize = 64 * 1024;

pub(crate) fn files() {
    let mut bound = Bound::new("access file", 110);
    let long = |piece: &str| piece.repeat(SIZE / piece.len());
    let numbered = |piece: &dyn Fn(usize) -> String| {
        let mut text = String::new();
        let mut n = 0;
        while text.len() < SIZE {
            text += &piece(n);
            n += 1;
        }
        text
    };
    let principal = "[[principal]]\nname = \"a\"\nkind = \"account\"\nprojects = [\"*\"]\n";
    for (name, text) in [
        ("tokens", format!("{principal}tokens = [{}]", numbered(&|n| format!("{{sha256=\"{n:064x}\"}},")))),
        ("principals", numbered(&|n| format!("[[principal]]\nname='{n}'\nkind='user'\nprojects=[]\npolicies=[]\n"))),
        ("projects", format!("projects=[{}]", numbered(&|n| format!("'{n}',")))),
        ("named projects", numbered(&|n| format!("[[project]]\nid='{n}'\nname=''\n"))),
        ("keys", format!("{principal}access_keys=[{}]", numbered(&|n| format!("{{id='{n}',secret='s'}},")))),
        ("policies", numbered(&|n| format!("[[policy.{n}.Statement]]\nEffect='Allow'\nAction=['*']\n"))),
        ("actions", format!("[[policy.a.Statement]]\nEffect='Allow'\nAction=[{}]", long("'*',"))),
        ("empty arrays", format!("projects=[{}", long("[],"))),
        ("deep arrays", format!("a={}", long("["))),
        ("deep tables", format!("[{}a]", long("a."))),
        ("dotted keys", format!("{}a=1", long("a."))),
        ("inline tables", format!("a={}", long("{a="))),
        ("keys of nothing", numbered(&|n| format!("a{n}=1\n"))),
        ("tables", numbered(&|n| format!("[a{n}]\n"))),
        ("one table again and again", long("[a]\n")),
        ("comments", long("#\n")),
        ("line ends", long("\n")),
        ("brackets", long("]")),
        ("equals signs", long("=")),
        ("a long string", format!("a=\"{}\"", long("\\u00e9"))),
        ("a string without an end", format!("a='''{}", long("x"))),
    ] {
        bound.hold(name, text.len(), || Access::parse(&text).is_ok());
    }
}

/// A service that answers every question with the same bytes, and takes no memory for it.
fn serve(listener: &TcpListener, answer: &[u8], questions: usize) {
    for _ in 0..questions {
        let (mut socket, _) = listener.accept().unwrap();
        let mut head = [0; 4096];
        let mut read = 0;
        while !head[..read].ends_with(b"\r\n\r\n") {
            match socket.read(&mut head[read..]).unwrap() {
                0 => break,
                more => read += more,
            }
        }
        // The client may have had enough before the end.
        let _ = socket.write_all(answer);
    }
}

pub(crate) fn answers_of_the_identity_service() {
    const MOST: usize = 1024 * 1024;
    let mut bound = Bound::new("answer of the identity service", 8);
    bound.base = 256 * 1024;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let metrics = Metrics::new().unwrap();
    let identity = metrics.identity().unwrap();
    let fill = |piece: &str, around: usize| piece.repeat((MOST - around) / piece.len());
    let token = |roles: &str| {
        format!(
            r#"{{"token":{{"expires_at":"2099-01-01T00:00:00Z","user":{{"name":"u","id":"u"}},"project":{{"id":"p"}},"roles":[{roles}]}}}}"#
        )
    };
    for (name, body) in [
        ("roles without a name", token(fill(r#"{"name":""},"#, 300).trim_end_matches(','))),
        ("roles", token(fill(r#"{"name":"a","id":"b"},"#, 300).trim_end_matches(','))),
        ("a long role of escapes", token(&format!("{{\"name\":\"{}\"}}", fill("\\u00e9", 300)))),
        ("unknown fields", format!("{{\"token\":{{{}", fill("\"a\":1,", 300))),
        ("deep arrays", fill("[", 0)),
        ("a string", format!("\"{}\"", fill("\\n", 10))),
        ("nothing", fill(" ", 0)),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/v3", listener.local_addr().unwrap());
        let access = format!("[identity]\nurl = \"{url}\"\ntimeout = \"30s\"\n[identity.roles]\na = \"account\"\n");
        let handle = AccessHandle::open(AccessSource::Text(access), Vec::new(), identity.clone()).unwrap();
        let head = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
        let answer = (head + &body).into_bytes();
        std::thread::scope(|scope| {
            scope.spawn(|| serve(&listener, &answer, 1));
            let access = handle.load();
            bound.hold(name, body.len(), || {
                runtime.block_on(access.authenticate(Token::new(name.as_bytes()).unwrap())).is_ok()
            });
        });
    }
}
