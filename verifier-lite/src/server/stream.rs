//! CoAP over TLS (RFC 8323): a listener and a thread for each connection, a bounded number of them.
//!
//! Messages are transcribed to datagrams and answered by the same engine. A connection that has said
//! nothing of worth must be cheap: it has a few seconds for its handshake and its hello, then as long as
//! a TPM may take. Only who has spoken with a session's keys may stay and be silent for as long as
//! devices are.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant as Clock};

use log::{debug, warn};
use mote_schemas::coap::stream::{Connection, Event, Frame, from_datagram};
use mote_schemas::coap::{Code, Message, Type, option};
use mote_schemas::limits::MAX_MESSAGE;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::engine::Peer;

/// What strangers may take of us.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Connections at once. Each is a thread with a stack, TLS buffers and [`MAX_MESSAGE`] bytes.
    connections: usize,
    /// From the first byte to a hello.
    probation: Duration,
    /// From a challenge to the session that it opens: as long as it may be answered.
    challenge: Duration,
    /// Silence after which a connection is released; its device connects again when it has something
    /// to say.
    idle: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connections: 1024,
            probation: Duration::from_secs(20),
            challenge: Duration::from_secs(180),
            idle: Duration::from_secs(900),
        }
    }
}

/// How soon a request to stop is noticed.
const TICK: Duration = Duration::from_millis(200);

/// How long the peer may take to accept what we send.
const WRITE: Duration = Duration::from_secs(10);

/// Deepest stack that answering a request needs, with room to spare.
const STACK: usize = 1024 * 1024;

/// Answers one request that is written as a datagram.
pub(super) type Answer<'a> = dyn Fn(Peer, &[u8]) -> Option<Vec<u8>> + Sync + 'a;

/// Serves connections until `stop`.
pub(super) fn serve(
    listener: &TcpListener,
    config: &Arc<ServerConfig>,
    limits: Limits,
    answer: &Answer<'_>,
    stop: &AtomicBool,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let (open, next) = (AtomicUsize::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        while !stop.load(Ordering::Relaxed) {
            let (socket, address) = match listener.accept() {
                // Full: closed at once, and its device tries again later.
                Ok(_) if open.load(Ordering::Acquire) >= limits.connections => continue,
                Ok(accepted) => accepted,
                Err(error) => {
                    if error.kind() != io::ErrorKind::WouldBlock {
                        warn!("accepting a connection: {error}");
                    }
                    thread::sleep(TICK / 4);
                    continue;
                }
            };
            let peer = Peer::Stream(next.fetch_add(1, Ordering::Relaxed));
            open.fetch_add(1, Ordering::AcqRel);
            let open = &open;
            let spawned = thread::Builder::new()
                .stack_size(STACK)
                .spawn_scoped(scope, move || {
                    let ended = connection(socket, peer, config, limits, answer, stop);
                    debug!("{peer} ({address}): {}", Ended(ended));
                    open.fetch_sub(1, Ordering::AcqRel);
                });
            if let Err(error) = spawned {
                warn!("no thread for {address}: {error}");
                open.fetch_sub(1, Ordering::AcqRel);
            }
        }
    });
    Ok(())
}

struct Ended(io::Result<&'static str>);

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Ok(why) => f.write_str(why),
            Err(error) => error.fmt(f),
        }
    }
}

type Tls = StreamOwned<ServerConnection, TcpStream>;

/// One connection from handshake to end; why it ended.
fn connection(
    socket: TcpStream,
    peer: Peer,
    config: &Arc<ServerConfig>,
    limits: Limits,
    answer: &Answer<'_>,
    stop: &AtomicBool,
) -> io::Result<&'static str> {
    socket.set_nonblocking(false)?;
    socket.set_read_timeout(Some(TICK))?;
    socket.set_write_timeout(Some(WRITE))?;
    socket.set_nodelay(true)?;
    let session = ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
    let mut tls = StreamOwned::new(session, socket);
    let mut coap = Box::new(Connection::<MAX_MESSAGE>::new());
    let mut deadline = Clock::now() + limits.probation;
    let mut greeted = false;
    let mut bytes = [0; MAX_MESSAGE];
    loop {
        if stop.load(Ordering::Relaxed) || Clock::now() >= deadline {
            release(&mut tls);
            return Ok("released");
        }
        let room = coap.room();
        match tls.read(&mut bytes[..room]) {
            Ok(0) => return Ok("closed by the peer"),
            Ok(len) => {
                coap.feed(&bytes[..len]);
            }
            Err(error) if is_timeout(&error) => {}
            Err(error) => return Err(error),
        }
        if !greeted && !tls.conn.is_handshaking() {
            greeted = true;
            send(&mut tls, &Connection::<MAX_MESSAGE>::greeting())?;
        }
        loop {
            match coap.poll() {
                Event::Message(frame) => {
                    let reply = reply(&frame, peer, limits, answer);
                    let max = coap.peer_max();
                    if let Some((reply, patience)) = reply.filter(|(reply, _)| fits(reply, max)) {
                        send(&mut tls, &reply)?;
                        deadline = deadline.max(Clock::now() + patience);
                    }
                }
                Event::Send(signal) => send(&mut tls, &signal)?,
                Event::Close(signal, why) => {
                    debug!("{peer}: {why:?}");
                    send(&mut tls, &signal)?;
                    tls.conn.send_close_notify();
                    tls.flush()?;
                    return Ok("closed");
                }
                Event::Idle => break,
            }
        }
    }
}

/// RFC 8323, 5.3.1.
fn fits(reply: &[u8], peer_max: u32) -> bool {
    reply.len() as u64 <= u64::from(peer_max)
}

/// The reply to a request as a frame, and how long its connection may stay. Responses to nothing get
/// none.
fn reply(
    frame: &Frame<'_>,
    peer: Peer,
    limits: Limits,
    answer: &Answer<'_>,
) -> Option<(Vec<u8>, Duration)> {
    let mut datagram = [0; MAX_MESSAGE + 4];
    let len = frame.to_datagram(Type::NonConfirmable, 0, &mut datagram)?;
    let reply = answer(peer, &datagram[..len])?;
    let message = Message::parse(&reply).ok()?;
    let mut out = vec![0; reply.len() + 4];
    let len = from_datagram(&message, &reply, &mut out)?;
    out.truncate(len);
    let patience = if message.option(option::OSCORE).is_some() {
        // The engine protects replies only for whoever holds a session's keys.
        limits.idle
    } else if message.code() == Code::CHANGED {
        limits.challenge
    } else {
        Duration::ZERO
    };
    Some((out, patience))
}

fn release(tls: &mut Tls) {
    // Whoever has gone already does not hear it.
    if !tls.conn.is_handshaking() {
        let _ = send(tls, &Connection::<MAX_MESSAGE>::farewell());
    }
    tls.conn.send_close_notify();
    let _ = tls.flush();
}

fn send(tls: &mut Tls, bytes: &[u8]) -> io::Result<()> {
    tls.write_all(bytes)?;
    tls.flush()
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::tls;
    use crate::signing_key::SigningKey;

    /// Bytes that come until the connection is closed; `None` if it stays open for `patience`.
    fn closed_within(socket: &mut TcpStream, patience: Duration) -> Option<usize> {
        socket.set_read_timeout(Some(patience)).unwrap();
        let until = Clock::now() + patience;
        let (mut buffer, mut sum) = ([0; 256], 0);
        while Clock::now() < until {
            match socket.read(&mut buffer) {
                Ok(0) => return Some(sum),
                Ok(len) => sum += len,
                Err(error) if is_timeout(&error) => {}
                // Reset: closed, too.
                Err(_) => return Some(sum),
            }
        }
        None
    }

    #[test]
    fn silent_strangers_are_few_and_do_not_stay() {
        let dir = std::env::temp_dir().join(format!("mote-stream-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let key = dir.join("key");
        let _ = std::fs::remove_file(&key);
        SigningKey::create(&key).unwrap();
        let config = tls::config(None, &key, None).unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let limits = Limits {
            connections: 2,
            probation: Duration::from_secs(2),
            ..Limits::default()
        };
        let stop = AtomicBool::new(false);
        let answer = |_: Peer, _: &[u8]| None;
        thread::scope(|scope| {
            scope.spawn(|| serve(&listener, &config, limits, &answer, &stop).unwrap());
            let connect = || TcpStream::connect(address).unwrap();
            let mut held = [connect(), connect()];
            let mut third = connect();
            let quick = Duration::from_secs(1);
            let refused = closed_within(&mut third, quick);
            let stayed = held
                .each_mut()
                .map(|socket| closed_within(socket, quick / 4));
            let ended = held
                .each_mut()
                .map(|socket| closed_within(socket, 10 * quick));
            // Their places are free again.
            let admitted = closed_within(&mut connect(), quick / 2);
            stop.store(true, Ordering::Relaxed);
            assert_eq!(refused, Some(0));
            assert_eq!(stayed, [None, None]);
            assert!(ended.iter().all(Option::is_some), "{ended:?}");
            assert_eq!(admitted, None);
        });
    }
}
