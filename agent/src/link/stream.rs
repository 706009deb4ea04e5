//! CoAP over TLS (RFC 8323): one connection, opened when there is something to say.
//!
//! The session goes on speaking in datagrams, which are transcribed here. The other end may be anyone
//! that the TLS settings let through; what it says counts only as far as the session can check it.

use std::io;

use log::debug;
use mote_schemas::coap::stream::{Closed, Connection, Event, from_datagram};
use mote_schemas::coap::{Message, Type};
use mote_schemas::limits::MAX_MESSAGE;

use super::tls::{Tls, TlsClient};

/// An open connection.
pub struct Stream {
    tls: Tls,
    connection: Connection<MAX_MESSAGE>,
}

impl Stream {
    /// Connects to `server` (`host:port`), shakes hands, and sends our CSM.
    pub async fn open(server: &str, client: &TlsClient) -> io::Result<Self> {
        let mut tls = Tls::connect(server, client).await?;
        tls.write(&Connection::<MAX_MESSAGE>::greeting()).await?;
        Ok(Stream {
            tls,
            connection: Connection::new(),
        })
    }

    /// Sends a message that is written as a datagram.
    pub async fn send(&mut self, datagram: &[u8]) -> io::Result<()> {
        let message = Message::parse(datagram)
            .map_err(|error| io::Error::other(format!("not a message: {error:?}")))?;
        let mut frame = [0; MAX_MESSAGE];
        let len = from_datagram(&message, datagram, &mut frame)
            .ok_or_else(|| io::Error::other("a message too long for a frame"))?;
        // RFC 8323, 5.3.1. Until its CSM comes, the peer takes 1,152 bytes.
        if self.connection.is_greeted() && len as u64 > u64::from(self.connection.peer_max()) {
            return Err(io::Error::other(format!(
                "the verifier takes {} bytes, this message has {len}",
                self.connection.peer_max()
            )));
        }
        self.tls.write(&frame[..len]).await
    }

    /// The next message, as a datagram in `buffer`; its length. May be dropped and called again.
    pub async fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.connection.poll() {
                Event::Message(frame) => {
                    // No acknowledgement belongs to it: the transport has seen to that.
                    if let Some(len) = frame.to_datagram(Type::NonConfirmable, 0, buffer) {
                        return Ok(len);
                    }
                    debug!("ignored a message longer than any of ours");
                }
                Event::Send(signal) => self.tls.write(&signal).await?,
                Event::Close(signal, why) => {
                    // Said in vain if the peer has gone already.
                    let _ = self.tls.write(&signal).await;
                    let kind = match why {
                        Closed::Released | Closed::Aborted => io::ErrorKind::ConnectionReset,
                        _ => io::ErrorKind::InvalidData,
                    };
                    return Err(io::Error::new(kind, format!("connection closed: {why:?}")));
                }
                Event::Idle => {
                    let mut bytes = [0; MAX_MESSAGE];
                    let room = self.connection.room();
                    let len = self.tls.read(&mut bytes[..room]).await?;
                    self.connection.feed(&bytes[..len]);
                }
            }
        }
    }
}
