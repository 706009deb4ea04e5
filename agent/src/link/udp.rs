//! CoAP over UDP (RFC 7252, 3): one connected socket, so that the kernel drops datagrams from other
//! addresses; it listens to nobody else. A link that is not up yet, or goes away, looks like a lost
//! datagram: retransmission is the exchange's.

use std::io::{self, ErrorKind};
use std::net::{ToSocketAddrs, UdpSocket};
use std::time::Instant as Clock;

use log::debug;

use super::watch::{Unfinished, Watch};

/// A socket that is connected to the verifier.
#[derive(Debug)]
pub(super) struct Udp(UdpSocket);

impl Udp {
    /// Connected to the first address of `server` (`host:port`) that has a route.
    pub(super) fn open(server: &str) -> io::Result<Self> {
        let mut last = io::Error::new(ErrorKind::NotFound, "the name has no address");
        for address in server.to_socket_addrs()? {
            let any = if address.is_ipv4() {
                "0.0.0.0:0"
            } else {
                "[::]:0"
            };
            let opened = UdpSocket::bind(any).and_then(|socket| {
                socket.connect(address)?;
                socket.set_nonblocking(true)?;
                Ok(socket)
            });
            match opened {
                Ok(socket) => return Ok(Udp(socket)),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// A refused or unroutable datagram is a lost one.
    pub(super) fn send(&self, datagram: &[u8]) {
        if let Err(error) = self.0.send(datagram) {
            debug!("datagram not sent: {error}");
        }
    }

    /// The length of the next datagram, which is in `buffer`.
    pub(super) fn receive(
        &self,
        buffer: &mut [u8],
        watch: &Watch,
        until: Clock,
    ) -> Result<usize, Unfinished> {
        loop {
            watch.readable(&self.0, until)?;
            match self.0.recv(buffer) {
                Ok(len) => return Ok(len),
                // Of a datagram whose checksum was wrong, nothing is left by now.
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                // An ICMP error of an earlier datagram; the deadline goes on.
                Err(error) => debug!("nothing received: {error}"),
            }
        }
    }
}
