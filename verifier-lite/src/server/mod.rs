//! The verifier's edges: UDP socket, TLS connections, admin socket, both clocks, the flush; no protocol.
//!
//! | module | what |
//! |---|---|
//! | `stream` | connections (RFC 8323) |
//! | [`tls`] | their certificates |
//!
//! One lock around the [`Engine`]: a heartbeat costs about one signature check, and commits are
//! serial anyway.

mod stream;
pub mod tls;

use std::io;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant as Clock, SystemTime, UNIX_EPOCH};

use log::{error, warn};
use mote_schemas::time::Instant;
use rustls::ServerConfig;

use crate::admin::{self, Effect, Request, Response, socket};
use crate::engine::{Engine, Now};
use crate::policy::Swept;
use crate::store::StoreError;
use stream::Limits;

/// Longest time for which a batched commit waits to become durable.
const FLUSH: Duration = Duration::from_secs(1);

/// How soon a request to stop is noticed.
const TICK: Duration = Duration::from_millis(200);

/// Devices looked at in one go when what is allowed has changed: the devices' messages wait that long.
const SWEEP: usize = 16;

/// How long an operator waits for devices to be appraised anew; less than
/// [`socket::PATIENCE`].
const ANSWER: Duration = Duration::from_secs(5);

/// Largest datagram that UDP carries.
const MAX_DATAGRAM: usize = 65_535;

/// Operators served at once; a further one waits for the listener's queue.
const MAX_OPERATORS: usize = 8;

/// Where connections are accepted, and how they are encrypted.
pub type Secure = (TcpListener, Arc<ServerConfig>);

/// Serves until `stop`. `operators` is the admin socket.
pub fn serve(
    engine: Engine,
    socket: &UdpSocket,
    secure: Option<&Secure>,
    operators: &UnixListener,
    stop: &Arc<AtomicBool>,
) -> io::Result<()> {
    let clock = Clock::now();
    let engine = Arc::new(Mutex::new(engine));
    socket.set_read_timeout(Some(TICK))?;
    operators.set_nonblocking(true)?;
    thread::scope(|scope| {
        scope.spawn(|| serve_operators(&engine, operators, stop));
        if let Some((listener, config)) = secure {
            let answer = |peer, datagram: &[u8]| lock(&engine).handle(now(clock), peer, datagram);
            scope.spawn(move || {
                if let Err(error) =
                    stream::serve(listener, config, Limits::default(), &answer, stop)
                {
                    error!("no connections any more: {error}");
                }
            });
        }
        let result = serve_devices(&engine, socket, clock, stop);
        stop.store(true, Ordering::Relaxed);
        result
    })?;
    let flushed = lock(&engine).flush();
    flushed.map_err(|error| io::Error::other(error.to_string()))
}

fn serve_devices(
    engine: &Mutex<Engine>,
    socket: &UdpSocket,
    clock: Clock,
    stop: &AtomicBool,
) -> io::Result<()> {
    let mut buffer = vec![0; MAX_DATAGRAM];
    let mut flushed = Clock::now();
    while !stop.load(Ordering::Relaxed) {
        match socket.recv_from(&mut buffer) {
            Ok((len, peer)) => {
                let reply = lock(engine).handle(now(clock), peer, &buffer[..len]);
                if let Some(reply) = reply
                    && let Err(error) = socket.send_to(&reply, peer)
                {
                    warn!("{peer}: reply not sent: {error}");
                }
            }
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock
                        | io::ErrorKind::TimedOut
                        | io::ErrorKind::Interrupted
                ) => {}
            // ICMP errors of earlier replies.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
            Err(error) => return Err(error),
        }
        if flushed.elapsed() >= FLUSH {
            if let Err(error) = lock(engine).flush() {
                error!("{error}");
            }
            if let Err(error) = lock(engine).sweep(unix(), SWEEP) {
                error!("{error}");
            }
            flushed = Clock::now();
        }
    }
    Ok(())
}

fn serve_operators(engine: &Mutex<Engine>, listener: &UnixListener, stop: &AtomicBool) {
    let busy = std::sync::atomic::AtomicUsize::new(0);
    thread::scope(|scope| {
        while !stop.load(Ordering::Relaxed) {
            let stream = match listener.accept() {
                Ok((stream, _)) if busy.load(Ordering::Acquire) < MAX_OPERATORS => stream,
                // Full: the connection is closed, and motectl says so.
                Ok(_) => continue,
                Err(_) => {
                    thread::sleep(TICK / 4);
                    continue;
                }
            };
            busy.fetch_add(1, Ordering::AcqRel);
            let busy = &busy;
            scope.spawn(move || {
                let served = socket::serve(&stream, &mut |request| answer(engine, request));
                if let Err(error) = served {
                    warn!("admin socket: {error}");
                }
                busy.fetch_sub(1, Ordering::AcqRel);
            });
        }
    });
}

fn answer(engine: &Mutex<Engine>, request: &Request) -> Response {
    let mut guard = lock(engine);
    let (response, effect) = admin::handle(&mut guard.office(), unix(), request);
    match effect {
        Some(Effect::AdmissionChanged(device) | Effect::DeviceRemoved(device)) => {
            guard.device_changed(&device);
        }
        Some(Effect::PolicyChanged) => {
            drop(guard);
            return with_sweep(response, |max| lock(engine).sweep(unix(), max));
        }
        Some(Effect::Renamed(_)) | None => {}
    }
    response
}

/// Appraises devices anew for [`ANSWER`] at most, and tells the operator how far that went; what is left
/// goes on beside the devices' messages.
pub(crate) fn with_sweep(
    response: Response,
    mut sweep: impl FnMut(usize) -> Result<Swept, StoreError>,
) -> Response {
    let deadline = Clock::now() + ANSWER;
    let mut total = Swept::default();
    while !total.done && Clock::now() < deadline {
        match sweep(SWEEP) {
            Ok(swept) => {
                total.appraised += swept.appraised;
                total.changed += swept.changed;
                total.done = swept.done;
            }
            // What was stored is stored; the rest is tried again.
            Err(error) => {
                error!("{error}");
                break;
            }
        }
    }
    match response {
        Response::Stored { what, .. } => Response::Stored {
            what,
            appraised: total.appraised,
            changed: total.changed,
            done: total.done,
        },
        response => response,
    }
}

/// The engine holds no state that a panic elsewhere could have left half-changed: commits are atomic.
fn lock(engine: &Mutex<Engine>) -> MutexGuard<'_, Engine> {
    engine.lock().unwrap_or_else(PoisonError::into_inner)
}

fn now(clock: Clock) -> Now {
    Now {
        monotonic: Instant(u64::try_from(clock.elapsed().as_millis()).unwrap_or(u64::MAX)),
        unix: unix(),
    }
}

/// Unix milliseconds; 0 on a machine whose clock is before 1970.
fn unix() -> u64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH);
    elapsed.map_or(0, |t| u64::try_from(t.as_millis()).unwrap_or(u64::MAX))
}
