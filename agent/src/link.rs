//! The UDP link and the loop that drives a [`Session`] over it: sockets, clock and signals, and no
//! protocol (RFC 7252, 3).
//!
//! One thread. The socket is connected, so the kernel drops datagrams from other addresses; it
//! listens to nobody else. A link that is not up yet, or goes away, looks like a lost datagram.

use std::io;
use std::net::{ToSocketAddrs, UdpSocket};
use std::time::{Duration, Instant as Clock};

use log::{debug, warn};
use mote_schemas::limits::MAX_MESSAGE;
use mote_schemas::time::Instant;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use smol::future::{or, pending};
use smol::{Async, Timer};

use crate::session::{Device, Event, Output, Session};

/// Pause before another attempt to make a socket, while the network is not up.
const RECONNECT: Duration = Duration::from_secs(1);

/// Why the loop ended.
#[derive(Debug)]
pub enum Ended<T> {
    /// The owner's event handler said so.
    Done(T),
    /// SIGTERM or SIGINT.
    Signal,
}

/// Drives `session` with the verifier at `server` (`host:port`) until `handle` returns something
/// or a signal asks to stop. Returns an error only when the process cannot watch for signals.
pub fn run<T>(
    server: &str,
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
            let mut socket = None;
            let mut buffer = [0; MAX_MESSAGE];
            loop {
                match session.poll(now(start), device, &mut buffer) {
                    Output::Event(event) => {
                        if matches!(event, Event::Unreachable { .. }) {
                            // Another address may answer, or another route.
                            socket = None;
                        }
                        if let Some(result) = handle(&event) {
                            return Ok(Ended::Done(result));
                        }
                    }
                    Output::Transmit(len) => {
                        if socket.is_none() {
                            socket = connect(server).await;
                        }
                        if let Some(socket) = &socket {
                            send(socket, &buffer[..len]).await;
                        }
                    }
                    Output::Wait(until) => {
                        if let Some(len) = receive(socket.as_ref(), until, start, &mut buffer).await
                        {
                            session.receive(now(start), &buffer[..len], device);
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

async fn connect(server: &str) -> Option<Async<UdpSocket>> {
    match open(server) {
        Ok(socket) => Some(socket),
        Err(error) => {
            warn!("no route to {server} yet: {error}");
            Timer::after(RECONNECT).await;
            None
        }
    }
}

/// A socket that is connected to the first address of `server` that has a route.
fn open(server: &str) -> io::Result<Async<UdpSocket>> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in server.to_socket_addrs()? {
        let any = if address.is_ipv4() {
            "0.0.0.0:0"
        } else {
            "[::]:0"
        };
        match UdpSocket::bind(any).and_then(|socket| socket.connect(address).map(|()| socket)) {
            Ok(socket) => return Async::new(socket),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn send(socket: &Async<UdpSocket>, datagram: &[u8]) {
    // A refused or unroutable datagram is a lost one: retransmission is the exchange's.
    if let Err(error) = socket.send(datagram).await {
        debug!("datagram not sent: {error}");
    }
}

/// The next datagram, or `None` at the deadline.
async fn receive(
    socket: Option<&Async<UdpSocket>>,
    until: Instant,
    start: Clock,
    buffer: &mut [u8],
) -> Option<usize> {
    let wait = until.since(now(start));
    let datagram = async {
        let Some(socket) = socket else {
            return pending().await;
        };
        loop {
            match socket.recv(buffer).await {
                Ok(len) => return Some(len),
                // An ICMP error of an earlier datagram; the deadline goes on.
                Err(error) => debug!("nothing received: {error}"),
            }
        }
    };
    let deadline = async {
        Timer::after(wait).await;
        None
    };
    or(datagram, deadline).await
}
