//! The proxy that other tests put before the database.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use crate::support::proxy::{Action, Direction, Fault, Passed, Proxy};

/// Bytes that an echo through a proxy returned until the connection ended, or fell silent.
fn echo(proxy: &Proxy, sent: &[u8]) -> (Vec<u8>, bool) {
    let mut client = TcpStream::connect(proxy.address).unwrap();
    client.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    client.write_all(sent).unwrap();
    let (mut received, mut buffer) = (Vec::new(), [0; 64]);
    loop {
        match client.read(&mut buffer) {
            Ok(0) => return (received, true),
            Ok(length) => received.extend(&buffer[..length]),
            Err(_) => return (received, false),
        }
    }
}

#[test]
fn a_fault_happens_at_its_byte_and_once() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = Proxy::start(listener.local_addr().unwrap());
    thread::spawn(move || {
        for mut connection in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || std::io::copy(&mut connection.try_clone().unwrap(), &mut connection));
        }
    });
    let fault = |direction, after, action| Fault { pattern: b"bcd".into(), direction, after, action };
    assert_eq!(echo(&proxy, b"abcdef"), (b"abcdef".into(), false));
    for (direction, after, action, received) in [
        (Direction::ToServer, Some(2), Action::Cut, &b"ab"[..]),
        (Direction::ToServer, Some(0), Action::Cut, b""),
        (Direction::ToServer, Some(1), Action::Hold, b"a"),
        (Direction::ToClient, Some(3), Action::Cut, b"abc"),
        (Direction::ToClient, Some(6), Action::Cut, b"abcdef"),
        (Direction::ToServer, Some(4), Action::Silence, b"abcd"),
        (Direction::ToClient, Some(5), Action::Silence, b"abcde"),
        (Direction::ToClient, None, Action::Cut, b"abcdef"),
    ] {
        proxy.set_fault(fault(direction, after, action));
        assert_eq!(echo(&proxy, b"xyz"), (b"xyz".into(), false), "a connection without the pattern");
        let (echoed, is_cut) = echo(&proxy, b"abcdef");
        // A cut at the server's side may overtake what the server echoed.
        let is_right = match (direction, action) {
            (Direction::ToServer, Action::Cut | Action::Hold) => received.starts_with(&echoed),
            // No byte passes in either direction.
            (Direction::ToServer, Action::Silence) => echoed.is_empty(),
            (Direction::ToClient, _) => echoed == received,
        };
        assert!(is_right, "{direction:?} {after:?} {action:?}: {echoed:?}");
        assert_eq!(is_cut, after.is_some() && action != Action::Silence, "{direction:?} {after:?} {action:?}");
        assert_eq!(proxy.has_happened(), after.is_some());
        assert_eq!(echo(&proxy, b"abcdef"), (b"abcdef".into(), false), "only one connection has the fault");
    }
    assert_eq!(proxy.passed(), Passed { to_server: 6, to_client: 6 });
    proxy.set_silent(true);
    assert_eq!(echo(&proxy, b"abcdef"), (Vec::new(), false));
    proxy.set_silent(false);
    assert_eq!(echo(&proxy, b"abcdef"), (b"abcdef".into(), false));
}
