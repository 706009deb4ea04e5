//! The link to the verifier and the loop that drives a [`Session`] over it: sockets, clock and
//! signals, and no protocol.
//!
//! | module | what |
//! |---|---|
//! | `udp` | `coap://` (RFC 7252) |
//! | [`stream`], [`tls`] | `coaps+tcp://` (RFC 8323), with the feature `tls` |
//! | [`watch`] | poll(2): all the waiting |
//!
//! One thread, one socket, and nothing allocated between one datagram and the next. The session speaks
//! in datagrams on both links; on a connection it need not retransmit.
//!
//! Not by an executor: there is one thing to wait for at a time. Measured on the default build, smol was
//! 45 kB of program, 0.1 MB of memory, a thread (async-io's, which waits for sockets) and 28 crates.

#[cfg(feature = "tls")]
pub mod stream;
#[cfg(feature = "tls")]
pub mod tls;
mod udp;
pub mod watch;

use std::io;
use std::time::{Duration, Instant as Clock};

use log::warn;
use mote_schemas::limits::MAX_MESSAGE;
use mote_schemas::time::Instant;

use crate::session::{Device, Event, Output, Session};
#[cfg(feature = "tls")]
use stream::Stream;
#[cfg(feature = "tls")]
use tls::TlsClient;
use udp::Udp;
use watch::{Unfinished, Watch};

/// Pause before another attempt to make a socket, while the network is not up.
const RECONNECT: Duration = Duration::from_secs(1);

/// How long a connection may take to be made, handshake included, and how long to take a message.
#[cfg(feature = "tls")]
const PATIENCE: Duration = Duration::from_secs(30);

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
/// signal asks to stop. Returns an error only when the process cannot watch for signals, or wait.
pub fn run<T>(
    route: &Route,
    session: &mut Session,
    device: &mut Device<'_>,
    start: Clock,
    handle: impl FnMut(&Event) -> Option<T>,
) -> io::Result<Ended<T>> {
    let watch = Watch::signals()?;
    match drive(route, session, device, start, &watch, handle) {
        Ok(result) => Ok(Ended::Done(result)),
        Err(Stop::Signal) => Ok(Ended::Signal),
        Err(Stop::Failed(error)) => Err(error),
    }
}

/// What ends the loop from outside.
enum Stop {
    Signal,
    Failed(io::Error),
}

fn drive<T>(
    route: &Route,
    session: &mut Session,
    device: &mut Device<'_>,
    start: Clock,
    watch: &Watch,
    mut handle: impl FnMut(&Event) -> Option<T>,
) -> Result<T, Stop> {
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
                    return Ok(result);
                }
            }
            Output::Transmit(len) => {
                if link.is_none() {
                    link = open(route, watch)?;
                }
                if !send(route, &mut link, &buffer[..len], watch)? {
                    link = None;
                    session.disconnected(now(start), device);
                }
            }
            Output::Wait(until) => {
                let until = start + Duration::from_millis(until.0);
                match receive(&mut link, &mut buffer, watch, until)? {
                    Came::Datagram(len) => session.receive(now(start), &buffer[..len], device),
                    Came::Nothing => {}
                    #[cfg(feature = "tls")]
                    Came::End => {
                        link = None;
                        session.disconnected(now(start), device);
                    }
                }
            }
        }
    }
}

/// Milliseconds since `start`.
pub fn now(start: Clock) -> Instant {
    Instant(u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX))
}

fn open(route: &Route, watch: &Watch) -> Result<Option<Link>, Stop> {
    let (server, opened) = match route {
        Route::Udp(server) => {
            let opened = Udp::open(server).map(Link::Udp);
            (server, opened.map_err(Unfinished::Broken))
        }
        #[cfg(feature = "tls")]
        Route::Tls(server, client) => {
            let opened = Stream::open(server, client, watch, Clock::now() + PATIENCE);
            (server, opened.map(|stream| Link::Tls(Box::new(stream))))
        }
    };
    let error = match opened {
        Ok(link) => return Ok(Some(link)),
        Err(Unfinished::Signal) => return Err(Stop::Signal),
        Err(error) => error,
    };
    warn!("no way to {server} yet: {error}");
    match watch.pause(Clock::now() + RECONNECT) {
        Unfinished::Deadline => Ok(None),
        Unfinished::Signal => Err(Stop::Signal),
        Unfinished::Broken(error) => Err(Stop::Failed(error)),
    }
}

/// Whether the exchange may go on. A lost datagram is sent again; a lost connection is not.
#[cfg_attr(
    not(feature = "tls"),
    expect(unused_variables, clippy::unnecessary_wraps)
)]
fn send(
    route: &Route,
    link: &mut Option<Link>,
    datagram: &[u8],
    watch: &Watch,
) -> Result<bool, Stop> {
    match link {
        None => Ok(matches!(route, Route::Udp(_))),
        Some(Link::Udp(udp)) => {
            udp.send(datagram);
            Ok(true)
        }
        #[cfg(feature = "tls")]
        Some(Link::Tls(stream)) => match stream.send(datagram, watch, Clock::now() + PATIENCE) {
            Ok(()) => Ok(true),
            Err(Unfinished::Signal) => Err(Stop::Signal),
            Err(error) => {
                warn!("not sent: {error}");
                Ok(false)
            }
        },
    }
}

/// What came until a deadline.
enum Came {
    /// A message of this length.
    Datagram(usize),
    Nothing,
    /// The end of the connection.
    #[cfg(feature = "tls")]
    End,
}

fn receive(
    link: &mut Option<Link>,
    buffer: &mut [u8],
    watch: &Watch,
    until: Clock,
) -> Result<Came, Stop> {
    let received = match link {
        None => Err(watch.pause(until)),
        Some(Link::Udp(udp)) => udp.receive(buffer, watch, until),
        #[cfg(feature = "tls")]
        Some(Link::Tls(stream)) => match stream.receive(buffer, watch, until) {
            Err(Unfinished::Broken(error)) => {
                warn!("connection lost: {error}");
                return Ok(Came::End);
            }
            other => other,
        },
    };
    match received {
        Ok(len) => Ok(Came::Datagram(len)),
        Err(Unfinished::Deadline) => Ok(Came::Nothing),
        Err(Unfinished::Signal) => Err(Stop::Signal),
        Err(Unfinished::Broken(error)) => Err(Stop::Failed(error)),
    }
}
