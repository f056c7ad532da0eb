//! A TCP proxy between a server and its database that cuts a connection, falls silent, or holds bytes back, at an exact byte. It ends
//! when it is dropped.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

/// The most connections that are open at once. More are closed at once.
const MAX_CONNECTIONS: usize = 64;

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    ToServer,
    ToClient,
}

/// What happens to a connection at the byte of a [`Fault`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Both ends are closed.
    Cut,
    /// Both ends stay open, and no byte passes any more.
    Silence,
    /// The client's end is closed. The other stays open, and gets the rest of the bytes that were read with [`Proxy::release`].
    Hold,
}

/// One fault. It waits for the connection on which the client sends `pattern`; bytes are counted on that connection only, in both
/// directions, from the start of the read that has the pattern.
#[derive(Debug, Clone)]
pub(crate) struct Fault {
    pub(crate) pattern: Vec<u8>,
    pub(crate) direction: Direction,
    /// How many bytes of that direction still pass; without it all do, and bytes are counted only.
    pub(crate) after: Option<usize>,
    pub(crate) action: Action,
}

/// How many bytes have passed in each direction since the pattern.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Passed {
    pub(crate) to_server: usize,
    pub(crate) to_client: usize,
}

#[derive(Default)]
struct State {
    /// The open connections, each with a number: its end at the client and its end at the server.
    open: Vec<(u64, TcpStream, TcpStream)>,
    next: u64,
    fault: Option<Fault>,
    /// The connection that has sent the pattern of the fault.
    chosen: Option<u64>,
    passed: Passed,
    has_happened: bool,
    is_silent: bool,
    /// The end at the server of a connection that the client has lost, and the bytes that are still on their way.
    held: Option<(TcpStream, Vec<u8>)>,
}

/// A running proxy.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<State>>,
    is_ended: Arc<AtomicBool>,
    acceptor: Option<JoinHandle<()>>,
}

impl Proxy {
    /// A proxy before the server at this address, which need not be there yet.
    pub(crate) fn start(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (state, is_ended) = (Arc::<Mutex<State>>::default(), Arc::<AtomicBool>::default());
        let (shared, ended) = (state.clone(), is_ended.clone());
        let acceptor = thread::spawn(move || {
            for client in listener.incoming() {
                if ended.load(Ordering::Relaxed) {
                    break;
                }
                if let Ok(client) = client {
                    connect(client, server, &shared);
                }
            }
        });
        Self { address, state, is_ended, acceptor: Some(acceptor) }
    }

    /// Waits for the next connection that sends the pattern of the fault.
    pub(crate) fn set_fault(&self, fault: Fault) {
        let mut state = self.state.lock().unwrap();
        let State { fault: waiting, chosen, passed, has_happened, .. } = &mut *state;
        (*waiting, *chosen, *passed, *has_happened) = (Some(fault), None, Passed::default(), false);
    }

    /// How many bytes have passed since the pattern of the fault.
    pub(crate) fn passed(&self) -> Passed {
        self.state.lock().unwrap().passed
    }

    /// Whether the fault has happened.
    pub(crate) fn has_happened(&self) -> bool {
        self.state.lock().unwrap().has_happened
    }

    /// Sends the bytes that a fault has held back.
    pub(crate) fn release(&self) {
        let mut state = self.state.lock().unwrap();
        let (server, bytes) = state.held.as_mut().expect("bytes are held");
        server.write_all(bytes).unwrap();
        bytes.clear();
    }

    /// Cuts all connections now. Later ones pass.
    pub(crate) fn cut_all(&self) {
        self.state.lock().unwrap().open.drain(..).for_each(|(_, client, server)| close(&client, &server));
    }

    /// From now on no byte passes, on new connections neither; or all do again. Bytes that came meanwhile are lost, and their
    /// connections are cut.
    pub(crate) fn set_silent(&self, is_silent: bool) {
        self.state.lock().unwrap().is_silent = is_silent;
        if !is_silent {
            self.cut_all();
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.is_ended.store(true, Ordering::Relaxed);
        self.cut_all();
        // Wakes the acceptor.
        let _ = TcpStream::connect(self.address);
        let _ = self.acceptor.take().map(JoinHandle::join);
        self.cut_all();
    }
}

fn close(client: &TcpStream, server: &TcpStream) {
    // The other end may have closed it already.
    let _ = client.shutdown(Shutdown::Both);
    let _ = server.shutdown(Shutdown::Both);
}

/// Forwards a connection until one end closes it. A server that refuses it closes it.
fn connect(client: TcpStream, server: SocketAddr, state: &Arc<Mutex<State>>) {
    let Ok(server) = TcpStream::connect(server) else { return };
    let (client_reader, server_reader) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    let (client_writer, server_writer) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    let number = {
        let mut state = state.lock().unwrap();
        if state.open.len() >= MAX_CONNECTIONS {
            return;
        }
        state.next += 1;
        let number = state.next;
        state.open.push((number, client, server));
        number
    };
    for (from, to, direction) in
        [(client_reader, server_writer, Direction::ToServer), (server_reader, client_writer, Direction::ToClient)]
    {
        let state = state.clone();
        thread::spawn(move || {
            forward(number, from, to, direction, &state);
            let mut state = state.lock().unwrap();
            if let Some(at) = state.open.iter().position(|(open, ..)| *open == number) {
                let (_, client, server) = state.open.swap_remove(at);
                close(&client, &server);
            }
        });
    }
}

/// Forwards one direction of a connection, until its end or until a cut.
fn forward(number: u64, mut from: TcpStream, mut to: TcpStream, direction: Direction, state: &Mutex<State>) {
    let mut buffer = [0; 16 * 1024];
    loop {
        let length = match from.read(&mut buffer) {
            Ok(0) | Err(_) => return,
            Ok(length) => length,
        };
        let (allowed, action) = state.lock().unwrap().allow(number, direction, &buffer[..length]);
        if to.write_all(&buffer[..allowed]).is_err() {
            return;
        }
        match action {
            Some(Action::Cut) => return,
            Some(Action::Hold) => {
                state.lock().unwrap().hold(number, &buffer[allowed..length]);
                return;
            }
            // Reads on, so that the sender's buffer never fills.
            Some(Action::Silence) | None => {}
        }
    }
}

impl State {
    /// Closes the end at the client, and keeps the other.
    fn hold(&mut self, number: u64, bytes: &[u8]) {
        if let Some(at) = self.open.iter().position(|(open, ..)| *open == number) {
            let (_, client, server) = self.open.swap_remove(at);
            let _ = client.shutdown(Shutdown::Both);
            self.held = Some((server, bytes.to_vec()));
        }
    }

    /// How many of these bytes pass, and what happens then.
    fn allow(&mut self, number: u64, direction: Direction, bytes: &[u8]) -> (usize, Option<Action>) {
        if self.is_silent {
            return (0, Some(Action::Silence));
        }
        let Some(fault) = &self.fault else { return (bytes.len(), None) };
        if self.chosen.is_none() && direction == Direction::ToServer && contains(bytes, &fault.pattern) {
            self.chosen = Some(number);
        }
        if self.chosen != Some(number) {
            return (bytes.len(), None);
        }
        if self.has_happened {
            // The end of a cut, or silence.
            return (0, Some(fault.action));
        }
        let passed = match direction {
            Direction::ToServer => &mut self.passed.to_server,
            Direction::ToClient => &mut self.passed.to_client,
        };
        let left = match fault.after {
            Some(after) if fault.direction == direction => after - *passed,
            _ => usize::MAX,
        };
        let allowed = bytes.len().min(left);
        *passed += allowed;
        if bytes.len() < left {
            return (allowed, None);
        }
        self.has_happened = true;
        (allowed, Some(fault.action))
    }
}

fn contains(bytes: &[u8], pattern: &[u8]) -> bool {
    bytes.windows(pattern.len()).any(|window| window == pattern)
}
