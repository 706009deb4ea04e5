//! CoAP over UDP (RFC 7252, 3): one connected socket, so that the kernel drops datagrams from other
//! addresses; it listens to nobody else. A link that is not up yet, or goes away, looks like a lost
//! datagram: retransmission is the exchange's.

use std::io;
use std::net::{ToSocketAddrs, UdpSocket};

use log::debug;
use smol::Async;

/// A socket that is connected to the verifier.
#[derive(Debug)]
pub(super) struct Udp(Async<UdpSocket>);

impl Udp {
    /// Connected to the first address of `server` (`host:port`) that has a route.
    pub(super) fn open(server: &str) -> io::Result<Self> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in server.to_socket_addrs()? {
            let any = if address.is_ipv4() {
                "0.0.0.0:0"
            } else {
                "[::]:0"
            };
            match UdpSocket::bind(any).and_then(|socket| socket.connect(address).map(|()| socket)) {
                Ok(socket) => return Ok(Udp(Async::new(socket)?)),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    pub(super) async fn send(&self, datagram: &[u8]) {
        // A refused or unroutable datagram is a lost one.
        if let Err(error) = self.0.send(datagram).await {
            debug!("datagram not sent: {error}");
        }
    }

    pub(super) async fn receive(&self, buffer: &mut [u8]) -> usize {
        loop {
            match self.0.recv(buffer).await {
                Ok(len) => return len,
                // An ICMP error of an earlier datagram; the deadline goes on.
                Err(error) => debug!("nothing received: {error}"),
            }
        }
    }
}
