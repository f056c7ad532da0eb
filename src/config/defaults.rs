//! The default value of each option, for the command line and for a [`super::Config`] made in a program.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use super::address::ListenAddress;

pub(super) const LISTEN: ListenAddress = loopback(8080);
pub(super) const INTERNAL_LISTEN: ListenAddress = loopback(9090);
pub(super) const STORE_LANES: u32 = 2;
pub(super) const MAX_IN_FLIGHT: u32 = 1024;
pub(super) const MAX_WAITERS: u32 = 10_000;
pub(super) const MAX_CONNECTIONS: u32 = 4096;
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
pub(super) const REPORT_TIMEOUT: Duration = Duration::from_secs(60);
pub(super) const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(75);
pub(super) const DRAIN: Duration = Duration::from_secs(10);
pub(super) const DRAIN_DELAY: Duration = Duration::ZERO;

/// A port of 127.0.0.1; port 0 lets the system choose a free one.
pub(super) const fn loopback(port: u16) -> ListenAddress {
    ListenAddress::Tcp(SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)))
}
