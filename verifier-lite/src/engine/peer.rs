//! Whom a message comes from, as far as the link can tell: enough to answer, never enough to believe.

use std::fmt;
use std::net::SocketAddr;

/// The other end of a link. It is not the device: that is known by the keys it uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Peer {
    /// Whoever wrote this address on a datagram; forged, until something comes back from there.
    Udp(SocketAddr),
    /// One connection (RFC 8323), by a number of the server's. Its handshake showed that the peer
    /// receives what is sent to it, and the transport neither repeats nor reorders.
    Stream(u64),
}

impl From<SocketAddr> for Peer {
    fn from(address: SocketAddr) -> Self {
        Peer::Udp(address)
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::Udp(address) => address.fmt(f),
            Peer::Stream(number) => write!(f, "connection {number}"),
        }
    }
}
