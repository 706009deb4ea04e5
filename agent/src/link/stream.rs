//! CoAP over TLS (RFC 8323): one connection, opened when there is something to say.
//!
//! The session goes on speaking in datagrams, which are transcribed here. The other end may be anyone
//! that the TLS settings let through; what it says counts only as far as the session can check it.

use std::io;
use std::time::Instant as Clock;

use log::debug;
use mote_schemas::coap::stream::{Closed, Connection, Event, from_datagram};
use mote_schemas::coap::{Message, Type};
use mote_schemas::limits::MAX_MESSAGE;

use super::tls::{Tls, TlsClient};
use super::watch::{Unfinished, Watch};

/// An open connection.
pub struct Stream {
    tls: Tls,
    connection: Connection<MAX_MESSAGE>,
}

impl Stream {
    /// Connects to `server` (`host:port`), shakes hands, and sends our CSM.
    pub fn open(
        server: &str,
        client: &TlsClient,
        watch: &Watch,
        until: Clock,
    ) -> Result<Self, Unfinished> {
        let mut tls = Tls::connect(server, client, watch, until)?;
        tls.write(&Connection::<MAX_MESSAGE>::greeting(), watch, until)?;
        Ok(Stream {
            tls,
            connection: Connection::new(),
        })
    }

    /// Sends a message that is written as a datagram.
    pub fn send(&mut self, datagram: &[u8], watch: &Watch, until: Clock) -> Result<(), Unfinished> {
        let message = Message::parse(datagram)
            .map_err(|error| io::Error::other(format!("not a message: {error:?}")))?;
        let mut frame = [0; MAX_MESSAGE];
        let len = from_datagram(&message, datagram, &mut frame)
            .ok_or_else(|| io::Error::other("a message too long for a frame"))?;
        // RFC 8323, 5.3.1. Until its CSM comes, the peer takes 1,152 bytes.
        if self.connection.is_greeted() && len as u64 > u64::from(self.connection.peer_max()) {
            let peer_max = self.connection.peer_max();
            let text = format!("the verifier takes {peer_max} bytes, this message has {len}");
            return Err(io::Error::other(text).into());
        }
        self.tls.write(&frame[..len], watch, until)
    }

    /// The next message, as a datagram in `buffer`; its length.
    pub fn receive(
        &mut self,
        buffer: &mut [u8],
        watch: &Watch,
        until: Clock,
    ) -> Result<usize, Unfinished> {
        loop {
            match self.connection.poll() {
                Event::Message(frame) => {
                    // No acknowledgement belongs to it: the transport has seen to that.
                    if let Some(len) = frame.to_datagram(Type::NonConfirmable, 0, buffer) {
                        return Ok(len);
                    }
                    debug!("ignored a message longer than any of ours");
                }
                Event::Send(signal) => self.tls.write(&signal, watch, until)?,
                Event::Close(signal, why) => {
                    // Said in vain if the peer has gone already.
                    let _ = self.tls.write(&signal, watch, until);
                    let kind = match why {
                        Closed::Released | Closed::Aborted => io::ErrorKind::ConnectionReset,
                        _ => io::ErrorKind::InvalidData,
                    };
                    return Err(io::Error::new(kind, format!("connection closed: {why:?}")).into());
                }
                Event::Idle => {
                    let mut bytes = [0; MAX_MESSAGE];
                    let room = self.connection.room();
                    let len = self.tls.read(&mut bytes[..room], watch, until)?;
                    self.connection.feed(&bytes[..len]);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::fd::AsRawFd as _;
    use std::time::Duration;

    use nix::sys::signal::{Signal, raise};
    use nix::sys::socket::{
        AddressFamily, SockFlag, SockType, SockaddrIn, bind, getsockname, socket,
    };

    use super::*;
    use crate::config::{Pin, TlsSettings};

    /// What opening a stream to a server that accepts and then says nothing ends with.
    fn opened(watch: &Watch, until: Clock) -> Unfinished {
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = silent.local_addr().unwrap().to_string();
        let client = TlsClient::new(&TlsSettings {
            pin: Some(Pin::Certificate([0; 32])),
            ..TlsSettings::default()
        });
        Stream::open(&server, &client.unwrap(), watch, until)
            .map(drop)
            .unwrap_err()
    }

    #[test]
    fn a_silent_server_is_given_up_at_the_deadline() {
        let until = Clock::now() + Duration::from_millis(50);
        let ended = opened(&Watch::nothing(), until);
        assert!(matches!(ended, Unfinished::Deadline), "{ended:?}");
        assert!(Clock::now() >= until);
    }

    #[test]
    fn a_signal_need_not_wait_for_a_silent_server() {
        let watch = Watch::signals().unwrap();
        raise(Signal::SIGTERM).unwrap();
        let ended = opened(&watch, Clock::now() + Duration::from_secs(600));
        assert!(matches!(ended, Unfinished::Signal), "{ended:?}");
    }

    #[test]
    fn nobody_there_is_a_broken_link() {
        // Bound, so that nobody else can listen there, and not listening.
        let held = socket(
            AddressFamily::Inet,
            SockType::Stream,
            SockFlag::empty(),
            None,
        )
        .unwrap();
        bind(held.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, 0)).unwrap();
        let server = getsockname::<SockaddrIn>(held.as_raw_fd()).unwrap();
        let server = server.to_string();
        let client = TlsClient::new(&TlsSettings {
            pin: Some(Pin::Certificate([0; 32])),
            ..TlsSettings::default()
        });
        let until = Clock::now() + Duration::from_secs(600);
        let ended = Stream::open(&server, &client.unwrap(), &Watch::nothing(), until);
        let Err(Unfinished::Broken(error)) = ended.map(drop) else {
            panic!("not refused");
        };
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }
}
