//! The link to the verifier and the loop that drives a [`Session`] over it: sockets, clock and
//! signals, and no protocol.
//!
//! | module | what |
//! |---|---|
//! | `udp` | `coap://` (RFC 7252) |
//! | [`stream`], [`tls`] | `coaps+tcp://` (RFC 8323), with the feature `tls` |
//!
//! One thread. The session speaks in datagrams on both; on a connection it need not retransmit.

#[cfg(feature = "tls")]
pub mod stream;
#[cfg(feature = "tls")]
pub mod tls;
mod udp;

use std::io;
use std::time::{Duration, Instant as Clock};

use log::warn;
use mote_schemas::limits::MAX_MESSAGE;
use mote_schemas::time::Instant;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use smol::future::{or, pending};
use smol::{Async, Timer};

use crate::session::{Device, Event, Output, Session};
#[cfg(feature = "tls")]
use stream::Stream;
#[cfg(feature = "tls")]
use tls::TlsClient;
use udp::Udp;

/// Pause before another attempt to make a socket, while the network is not up.
const RECONNECT: Duration = Duration::from_secs(1);

/// How long a connection may take to be made, handshake included.
#[cfg(feature = "tls")]
const CONNECT: Duration = Duration::from_secs(30);

/// Why the loop ended.
#[derive(Debug)]
pub enum Ended<T> {
    /// The owner's event handler said so.
    Done(T),
    /// SIGTERM or SIGINT.
    Signal,
}

/// Where the verifier is, and how to get there.
#[derive(Clone, Debug)]
pub enum Route {
    /// By UDP, to this `host:port`.
    Udp(String),
    /// By TLS, to this `host:port`.
    #[cfg(feature = "tls")]
    Tls(String, TlsClient),
}

enum Link {
    Udp(Udp),
    #[cfg(feature = "tls")]
    Tls(Box<Stream>),
}

/// Drives `session` with the verifier at the end of `route` until `handle` returns something or a
/// signal asks to stop. Returns an error only when the process cannot watch for signals.
pub fn run<T>(
    route: &Route,
    session: &mut Session,
    device: &mut Device<'_>,
    start: Clock,
    mut handle: impl FnMut(&Event) -> Option<T>,
) -> io::Result<Ended<T>> {
    let signals = Async::new(signals()?)?;
    smol::block_on(or(
        async {
            signals.readable().await?;
            Ok(Ended::Signal)
        },
        async {
            let mut link = None;
            let mut buffer = [0; MAX_MESSAGE];
            loop {
                match session.poll(now(start), device, &mut buffer) {
                    Output::Event(event) => {
                        if matches!(event, Event::Unreachable { .. }) {
                            // Another address may answer, or another route.
                            link = None;
                        }
                        if let Some(result) = handle(&event) {
                            return Ok(Ended::Done(result));
                        }
                    }
                    Output::Transmit(len) => {
                        if link.is_none() {
                            link = open(route).await;
                        }
                        if !send(route, link.as_mut(), &buffer[..len]).await {
                            link = None;
                            session.disconnected(now(start), device);
                        }
                    }
                    Output::Wait(until) => {
                        let wait = until.since(now(start));
                        match receive(link.as_mut(), wait, &mut buffer).await {
                            Ok(Some(len)) => session.receive(now(start), &buffer[..len], device),
                            Ok(None) => {}
                            Err(error) => {
                                warn!("connection lost: {error}");
                                link = None;
                                session.disconnected(now(start), device);
                            }
                        }
                    }
                }
            }
        },
    ))
}

/// Milliseconds since `start`.
pub fn now(start: Clock) -> Instant {
    Instant(u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX))
}

/// Blocks SIGTERM and SIGINT for the process and makes them readable, so that TPM objects are
/// flushed on the way out.
fn signals() -> io::Result<SignalFd> {
    let mut set = SigSet::empty();
    set.add(Signal::SIGTERM);
    set.add(Signal::SIGINT);
    set.thread_block()?;
    Ok(SignalFd::with_flags(
        &set,
        SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC,
    )?)
}

async fn open(route: &Route) -> Option<Link> {
    let (server, opened) = match route {
        Route::Udp(server) => (server, Udp::open(server).map(Link::Udp)),
        #[cfg(feature = "tls")]
        Route::Tls(server, client) => {
            let connect = async {
                let stream = Stream::open(server, client).await?;
                Ok(Link::Tls(Box::new(stream)))
            };
            let late = async {
                Timer::after(CONNECT).await;
                Err(io::ErrorKind::TimedOut.into())
            };
            (server, or(connect, late).await)
        }
    };
    match opened {
        Ok(link) => Some(link),
        Err(error) => {
            warn!("no way to {server} yet: {error}");
            Timer::after(RECONNECT).await;
            None
        }
    }
}

/// Whether the exchange may go on. A lost datagram is sent again; a lost connection is not.
async fn send(route: &Route, link: Option<&mut Link>, datagram: &[u8]) -> bool {
    match link {
        None => matches!(route, Route::Udp(_)),
        Some(Link::Udp(udp)) => {
            udp.send(datagram).await;
            true
        }
        #[cfg(feature = "tls")]
        Some(Link::Tls(stream)) => match stream.send(datagram).await {
            Ok(()) => true,
            Err(error) => {
                warn!("not sent: {error}");
                false
            }
        },
    }
}

/// The next datagram, or `None` after `wait`. An error ends a connection.
async fn receive(
    link: Option<&mut Link>,
    wait: Duration,
    buffer: &mut [u8],
) -> io::Result<Option<usize>> {
    let datagram = async {
        match link {
            None => pending().await,
            Some(Link::Udp(udp)) => Ok(Some(udp.receive(buffer).await)),
            #[cfg(feature = "tls")]
            Some(Link::Tls(stream)) => stream.receive(buffer).await.map(Some),
        }
    };
    let deadline = async {
        Timer::after(wait).await;
        Ok(None)
    };
    or(datagram, deadline).await
}
