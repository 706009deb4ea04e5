//! The link of builds without TLS: sockets, clock and signals around a [`Session`] with poll(2)
//! alone. No executor, no second thread, nothing allocated between one datagram and the next.
//!
//! Otherwise like the UDP link beside TLS: the socket is connected, so the kernel drops
//! datagrams from other addresses; a link that is not up yet, or goes away, looks like a lost datagram.

use std::io::{self, ErrorKind};
use std::net::{ToSocketAddrs, UdpSocket};
use std::os::fd::AsFd;
use std::time::{Duration, Instant as Clock};

use log::{debug, warn};
use mote_schemas::limits::MAX_MESSAGE;
use mote_schemas::time::Instant;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

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

/// Where the verifier is, and how to get there.
#[derive(Clone, Debug)]
pub enum Route {
    /// By UDP, to this `host:port`.
    Udp(String),
}

/// What ended a wait.
enum Woken {
    Signal,
    Datagram(usize),
    Deadline,
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
    let Route::Udp(server) = route;
    let signals = signals()?;
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
                    match open(server) {
                        Ok(opened) => socket = Some(opened),
                        Err(error) => {
                            warn!("no way to {server} yet: {error}");
                            let until = now(start) + RECONNECT;
                            if let Woken::Signal = wait(&signals, None, until, start, &mut buffer)?
                            {
                                return Ok(Ended::Signal);
                            }
                        }
                    }
                }
                // A refused or unroutable datagram is a lost one: retransmission is the exchange's.
                if let Some(Err(error)) = socket.as_ref().map(|socket| socket.send(&buffer[..len]))
                {
                    debug!("datagram not sent: {error}");
                }
            }
            Output::Wait(until) => {
                match wait(&signals, socket.as_ref(), until, start, &mut buffer)? {
                    Woken::Signal => return Ok(Ended::Signal),
                    Woken::Datagram(len) => session.receive(now(start), &buffer[..len], device),
                    Woken::Deadline => {}
                }
            }
        }
    }
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

/// A socket that is connected to the first address of `server` that has a route.
fn open(server: &str) -> io::Result<UdpSocket> {
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
            Ok(socket) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Until a signal, a datagram, or the deadline.
fn wait(
    signals: &SignalFd,
    socket: Option<&UdpSocket>,
    until: Instant,
    start: Clock,
    buffer: &mut [u8],
) -> io::Result<Woken> {
    loop {
        let left = until.since(now(start)).as_millis();
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let watch = |fd| PollFd::new(fd, PollFlags::POLLIN);
        // Without a socket, the signals are watched twice.
        let mut fds = [
            watch(signals.as_fd()),
            watch(socket.map_or(signals.as_fd(), AsFd::as_fd)),
        ];
        match poll(&mut fds, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        if fds[0].any() == Some(true) {
            return Ok(Woken::Signal);
        }
        match socket.map(|socket| socket.recv(buffer)) {
            Some(Ok(len)) => return Ok(Woken::Datagram(len)),
            // An ICMP error of an earlier datagram; the deadline goes on.
            Some(Err(error)) if error.kind() != ErrorKind::WouldBlock => {
                debug!("nothing received: {error}");
            }
            _ => {}
        }
        if until <= now(start) {
            return Ok(Woken::Deadline);
        }
    }
}
