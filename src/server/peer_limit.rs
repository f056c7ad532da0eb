//! Limits the open connections of each peer address.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What counts as one peer: an IPv4 address, or a /64 network, which a single IPv6 host usually has for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Peer {
    V4(Ipv4Addr),
    V6Network(u64),
}

impl From<IpAddr> for Peer {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address),
            IpAddr::V6(address) => Self::V6Network((address.to_bits() >> 64) as u64),
        }
    }
}

/// The number of open connections of each peer that has any.
#[derive(Debug, Default)]
struct ConnectionCounts(Mutex<HashMap<Peer, u32>>);

impl ConnectionCounts {
    fn lock(&self) -> MutexGuard<'_, HashMap<Peer, u32>> {
        // Each change under the lock is one step, so a poisoned map is still consistent.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A limit for the connections of each peer, or none.
#[derive(Debug, Default)]
pub(super) struct PeerLimit {
    limit: Option<(u32, Arc<ConnectionCounts>)>,
}

impl PeerLimit {
    /// Without a number connections are neither limited nor counted.
    pub(super) fn new(max: Option<u32>) -> Self {
        Self { limit: max.map(|max| (max, Arc::default())) }
    }

    /// Counts one more connection of an address, or returns `None` if it has the limit already.
    pub(super) fn try_connect(&self, address: IpAddr) -> Option<PeerConnection> {
        let Some((max, counts)) = &self.limit else { return Some(PeerConnection(None)) };
        let peer = Peer::from(address);
        match counts.lock().entry(peer) {
            Entry::Occupied(entry) if entry.get() >= max => return None,
            entry => *entry.or_insert(0) += 1,
        }
        Some(PeerConnection(Some((peer, counts.clone()))))
    }
}

impl PeerConnection {
    /// A connection without a peer address, which is neither limited nor counted.
    pub(super) fn unlimited() -> Self {
        Self(None)
    }
}

/// One counted connection of a peer. Dropping it subtracts it.
#[derive(Debug)]
pub(super) struct PeerConnection(Option<(Peer, Arc<ConnectionCounts>)>);

impl Drop for PeerConnection {
    fn drop(&mut self) {
        let Some((peer, counts)) = &self.0 else { return };
        if let Entry::Occupied(mut entry) = counts.lock().entry(*peer) {
            match *entry.get() {
                0 | 1 => drop(entry.remove()),
                _ => *entry.get_mut() -= 1,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_limit_holds_for_each_address() {
        let limit = PeerLimit::new(Some(2));
        let connect = |text| limit.try_connect(address(text));
        let (first, _second) = (connect("192.0.2.1").unwrap(), connect("192.0.2.1").unwrap());
        assert!(connect("192.0.2.1").is_none());
        let other = connect("192.0.2.2").unwrap();
        drop(first);
        let third = connect("192.0.2.1").unwrap();
        assert!(connect("192.0.2.1").is_none());
        drop((third, other));
        assert_eq!(limit.limit.as_ref().unwrap().1.lock().len(), 1);
        drop(_second);
        assert_eq!(limit.limit.unwrap().1.lock().len(), 0);
    }

    #[test]
    fn an_ipv6_network_is_one_peer_and_a_mapped_address_is_ipv4() {
        for (one, other, are_one) in [
            ("2001:db8:0:1::1", "2001:db8:0:1:ffff::", true),
            ("2001:db8:0:1::1", "2001:db8:0:2::1", false),
            ("::ffff:192.0.2.1", "192.0.2.1", true),
            ("::ffff:192.0.2.1", "::ffff:192.0.2.2", false),
        ] {
            let limit = PeerLimit::new(Some(1));
            let _one = limit.try_connect(address(one)).unwrap();
            assert_eq!(limit.try_connect(address(other)).is_none(), are_one, "{one} {other}");
        }
    }

    #[test]
    fn without_a_limit_nothing_is_counted() {
        let limit = PeerLimit::new(None);
        let all: Vec<_> = (0..10_000).map(|_| limit.try_connect(address("::1")).unwrap()).collect();
        assert!(all.iter().all(|connection| connection.0.is_none()));
    }
}
