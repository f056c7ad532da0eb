//! An identity service that closes connections, hangs and recovers, over real sockets.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use subjobs::access::AccessSource;
use subjobs::config::Config;

use crate::support::fixtures::{OPS, access};
use crate::support::server::Running;

/// How the service reacts to a request.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Behaviour {
    Answer,
    /// Reads the request and closes the connection.
    Close,
    /// Closes the connection without reading the request, which resets it.
    Reset,
    /// Closes the connection within the head of the response.
    Break,
    /// Sends nothing.
    Hang,
}

/// Chooses the behaviour by the number of the connection and of the request on it, both from 1.
type Plan = Box<dyn Fn(usize, usize) -> Behaviour + Send>;

#[derive(Clone)]
struct Service {
    url: String,
    asked: Arc<AtomicUsize>,
    connections: Arc<AtomicUsize>,
    plan: Arc<Mutex<Plan>>,
}

impl Service {
    fn start(plan: impl Fn(usize, usize) -> Behaviour + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/v3", listener.local_addr().unwrap());
        let plan: Plan = Box::new(plan);
        let service =
            Self { url, asked: Arc::default(), connections: Arc::default(), plan: Arc::new(Mutex::new(plan)) };
        let own = service.clone();
        thread::spawn(move || {
            for socket in listener.incoming() {
                let (own, connection) = (own.clone(), own.connections.fetch_add(1, Ordering::SeqCst) + 1);
                thread::spawn(move || own.serve(socket.unwrap(), connection));
            }
        });
        service
    }

    fn serve(&self, mut socket: TcpStream, connection: usize) {
        for question in 1.. {
            if socket.peek(&mut [0]).ok().is_none_or(|read| read == 0) {
                return;
            }
            self.asked.fetch_add(1, Ordering::SeqCst);
            let does = self.plan.lock().unwrap()(connection, question);
            if does == Behaviour::Reset {
                return;
            }
            let (mut head, mut part) = (Vec::new(), [0; 4096]);
            while !head.ends_with(b"\r\n\r\n") {
                let read = socket.read(&mut part).unwrap();
                head.extend_from_slice(&part[..read]);
            }
            let body = r#"{"token":{"expires_at":"9999-12-31T23:59:59.999999999Z","user":{"id":"u"},"project":{"id":"2b31ed520ab14c7bebedb6e57f00aa11"},"roles":[{"name":"admin"}]}}"#;
            match does {
                Behaviour::Answer => {
                    write!(socket, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
                }
                Behaviour::Break => {
                    write!(socket, "HTTP/1.1 200 O").unwrap();
                    return;
                }
                Behaviour::Hang => {
                    // Until the client closes the connection.
                    let _ = socket.read(&mut part);
                    let _ = socket.shutdown(Shutdown::Both);
                    return;
                }
                Behaviour::Close | Behaviour::Reset => return,
            }
        }
    }

    fn now(&self, does: Behaviour) {
        *self.plan.lock().unwrap() = Box::new(move |_, _| does);
    }

    fn requests(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

async fn server(url: &str, timeout: &str) -> Running {
    let identity =
        format!("[identity]\nurl = \"{url}\"\ntimeout = \"{timeout}\"\n[identity.roles]\nadmin = \"account\"\n");
    Running::start(Config::on_any_port(AccessSource::Text(access() + &identity))).await
}

async fn status(server: &Running, token: &str) -> u16 {
    server.ask(token, "").send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn a_request_on_a_closed_pooled_connection_is_retried_on_a_new_one() {
    for does in [Behaviour::Close, Behaviour::Reset, Behaviour::Break] {
        let service = Service::start(move |_, question| if question == 1 { Behaviour::Answer } else { does });
        let server = server(&service.url, "20s").await;
        for n in 1..=5 {
            assert_eq!(status(&server, &format!("t{n}")).await, 200, "{does:?}");
        }
        assert!(service.requests() > 5, "{does:?}: no kept connection was closed");
    }
}

#[tokio::test]
async fn a_failed_request_is_retried_once() {
    for does in [Behaviour::Close, Behaviour::Reset, Behaviour::Break] {
        let service = Service::start(move |_, _| does);
        let server = server(&service.url, "20s").await;
        assert_eq!(status(&server, "t").await, 503);
        assert_eq!(service.requests(), 2, "{does:?}");
        let service = Service::start(move |connection, _| if connection == 1 { does } else { Behaviour::Answer });
        let server = self::server(&service.url, "20s").await;
        assert_eq!(status(&server, "t").await, 200, "{does:?}");
    }
    // No socket listens: a refused connection is not retried.
    let server = server("http://127.0.0.1:1", "20s").await;
    assert_eq!(status(&server, "t").await, 503);
}

#[tokio::test]
async fn a_service_that_is_down_is_called_rarely_until_it_recovers() {
    let service = Service::start(|_, _| Behaviour::Hang);
    let server = server(&service.url, "200ms").await;
    for n in 0..5 {
        assert_eq!(status(&server, &format!("slow{n}")).await, 503);
    }
    let (start, before) = (Instant::now(), service.requests());
    for n in 0..200 {
        assert_eq!(status(&server, &format!("fast{n}")).await, 503);
    }
    let (took, asked) = (start.elapsed(), service.requests() - before);
    assert!(asked as u64 <= took.as_secs() + 1, "{asked} calls within {took:?}");
    assert_eq!(status(&server, OPS).await, 200, "a token of the access file needs no identity service");

    service.now(Behaviour::Answer);
    let start = Instant::now();
    while status(&server, "back").await != 200 {
        assert!(start.elapsed() < Duration::from_secs(10), "it is not found again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for n in 0..20 {
        assert_eq!(status(&server, &format!("new{n}")).await, 200);
    }
}

#[tokio::test]
async fn a_call_above_the_concurrency_limit_is_refused_at_once() {
    let service = Service::start(|_, _| Behaviour::Hang);
    let server = Arc::new(server(&service.url, "30s").await);
    let held: Vec<_> = (0..32)
        .map(|n| {
            let server = server.clone();
            tokio::spawn(async move { status(&server, &format!("held{n}")).await })
        })
        .collect();
    while service.requests() < 32 {
        tokio::task::yield_now().await;
    }
    for n in 0..20 {
        assert_eq!(status(&server, &format!("more{n}")).await, 503);
    }
    assert_eq!(service.requests(), 32);
    assert_eq!(status(&server, OPS).await, 200);
    held.iter().for_each(|task| task.abort());
}
