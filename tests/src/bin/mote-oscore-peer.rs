//! One side of the interop test against aiocoap (`tests/interop/aiocoap.sh`): an OSCORE server or
//! client on 127.0.0.1, with the fixed keys of `aiocoap_oscore.py`. Plain blocking sockets.
//!
//! ```text
//! mote-oscore-peer server [--id-context HEX] [--lost-window] [--request-nonce]
//! mote-oscore-peer client PORT [--id-context HEX]
//! ```
//! The server prints `listening PORT` and ends when its standard input does. The client prints one
//! line per check and fails if one fails.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::ExitCode;
use std::time::{Duration, Instant as Clock};

use mote_schemas::coap::{
    Body, Code, Dedup, Exchange, Message, OptionSpec, Output, Parameters, Received, Seen, Type,
    Writer, option, reject,
};
use mote_schemas::oscore::{Context, OpenedRequest, OscoreOption, ReplayWindow, Unprotected};
use mote_schemas::time::Instant;

const SECRET: [u8; 16] = *b"\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10";
const SALT: [u8; 8] = *b"\x9e\x7c\xa9\x22\x23\x78\x63\x40";
const CLIENT_ID: &[u8] = &[0xa1, 0xb2, 0xc3];
const SERVER_ID: &[u8] = &[];
const MAX_MESSAGE: usize = 1280;

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let id_context = arguments
        .iter()
        .position(|argument| argument == "--id-context")
        .and_then(|at| arguments.get(at + 1))
        .map(|hex| unhex(hex));
    let outcome = match arguments.first().map(String::as_str) {
        Some("server") => serve(
            id_context.as_deref(),
            has("--lost-window"),
            has("--request-nonce"),
        ),
        Some("client") => match arguments.get(1).map(|port| port.parse()) {
            Some(Ok(port)) => check_server(port, id_context.as_deref()),
            _ => Err("client: no port given".into()),
        },
        _ => Err("first argument: server or client".into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mote-oscore-peer: {error}");
            ExitCode::FAILURE
        }
    }
}

fn unhex(hex: &str) -> Vec<u8> {
    hex.as_bytes()
        .chunks(2)
        .filter_map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}

fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// A message into a vector. What is written here fits.
fn message(
    kind: Type,
    code: Code,
    id: u16,
    token: &[u8],
    options: &[(u16, &[u8])],
    payload: &[u8],
) -> Result<Vec<u8>, Failure> {
    let mut buffer = vec![0; MAX_MESSAGE];
    let written = Writer::new(&mut buffer, kind, code, id, token)
        .and_then(|writer| {
            options.iter().try_fold(writer, |writer, (number, value)| {
                writer.option(*number, value)
            })
        })
        .and_then(|writer| writer.payload(payload))
        .map_err(|error| format!("{error:?}"))?;
    buffer.truncate(written);
    Ok(buffer)
}

// The server.

fn serve(id_context: Option<&[u8]>, lost: bool, request_nonce: bool) -> Result<(), Failure> {
    let mut context = Context::derive(&SECRET, &SALT, id_context, SERVER_ID, CLIENT_ID)
        .map_err(|error| format!("{error:?}"))?;
    if lost {
        context.set_replay_window(ReplayWindow::lost());
    }
    let challenge = random().to_be_bytes();
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    println!("listening {}", socket.local_addr()?.port());
    std::io::stdout().flush()?;
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });

    let mut seen = Dedup::<SocketAddr, Vec<u8>, 64>::new(&Parameters::default());
    let start = Clock::now();
    let mut buffer = [0; MAX_MESSAGE];
    loop {
        let (length, peer) = socket.recv_from(&mut buffer)?;
        let datagram = &buffer[..length];
        let request = match Message::parse(datagram) {
            Ok(request) if request.code().is_request() => request,
            _ => {
                if let Some(reset) = reject(datagram) {
                    socket.send_to(&reset, peer)?;
                }
                continue;
            }
        };
        let now = Instant(u64::try_from(start.elapsed().as_millis())?);
        match seen.check(now, &peer, request.message_id(), request.kind()) {
            Seen::Replied(reply) => {
                socket.send_to(reply, peer)?;
            }
            Seen::Pending => {}
            Seen::New => {
                let reply = answer(&mut context, &request, &challenge, request_nonce)?;
                socket.send_to(&reply, peer)?;
                let _ = seen.reply(&peer, request.message_id(), reply);
            }
        }
    }
}

/// The piggybacked answer to one request.
fn answer(
    context: &mut Context,
    request: &Message<'_>,
    challenge: &[u8],
    request_nonce: bool,
) -> Result<Vec<u8>, Failure> {
    let (id, token) = (request.message_id(), request.token());
    let reply = |code, options: &[(u16, &[u8])], payload: &[u8]| {
        message(Type::Acknowledgement, code, id, token, options, payload)
    };
    let mut inner = [0; MAX_MESSAGE];
    let opened = match context.unprotect_request(request, &mut inner) {
        Ok(Unprotected::Fresh(opened)) => opened,
        Ok(Unprotected::Unsynchronised(request)) => match request.synchronise(context, challenge) {
            Ok(opened) => opened,
            Err(request) => {
                let plain = reply(Code::UNAUTHORIZED, &[(option::ECHO, challenge)], b"")?;
                return protected(&plain, |plain, out| {
                    context.protect_response(request.request(), plain, out)
                });
            }
        },
        Err(error) => {
            return reply(
                error.code(),
                &[(option::MAX_AGE, b"")],
                error.diagnostic().as_bytes(),
            );
        }
    };
    let OpenedRequest { request, body } = opened;
    let plain = handle(body, reply)?;
    protected(&plain, |plain, out| {
        if request_nonce {
            context.protect_response_with_request_nonce(request, plain, out)
        } else {
            context.protect_response(&request, plain, out)
        }
    })
}

/// Two resources: `GET /hello` and `POST /echo`.
fn handle(
    body: Body<'_>,
    reply: impl Fn(Code, &[(u16, &[u8])], &[u8]) -> Result<Vec<u8>, Failure>,
) -> Result<Vec<u8>, Failure> {
    let supported = &[
        OptionSpec::URI_PATH,
        OptionSpec::CONTENT_FORMAT,
        OptionSpec::ECHO,
    ];
    if body.unrecognised_critical(supported).is_some() {
        return reply(Code::BAD_OPTION, &[], b"");
    }
    match (
        body.path_is(&["hello"]),
        body.path_is(&["echo"]),
        body.code(),
    ) {
        (true, _, Code::GET) => reply(Code::CONTENT, &[(option::CONTENT_FORMAT, b"")], b"hello"),
        (_, true, Code::POST) => reply(Code::CHANGED, &[], body.payload()),
        (false, false, _) => reply(Code::NOT_FOUND, &[], b""),
        _ => reply(Code::METHOD_NOT_ALLOWED, &[], b""),
    }
}

fn protected<E: std::fmt::Debug>(
    plain: &[u8],
    protect: impl FnOnce(&Message<'_>, &mut [u8]) -> Result<usize, E>,
) -> Result<Vec<u8>, Failure> {
    let plain = Message::parse(plain).map_err(|error| format!("{error:?}"))?;
    let mut out = vec![0; MAX_MESSAGE];
    let length = protect(&plain, &mut out).map_err(|error| format!("{error:?}"))?;
    out.truncate(length);
    Ok(out)
}

// The client.

struct Client {
    socket: UdpSocket,
    exchange: Exchange<MAX_MESSAGE>,
    start: Clock,
    context: Context,
    /// Damaged copies of protected responses that were taken for genuine.
    forgeries_opened: u32,
}

/// What came back: the datagram, and if it was protected its inner code, Echo and payload.
struct Answer {
    outer: Vec<u8>,
    inner: Option<(Code, Option<Vec<u8>>, Vec<u8>)>,
}

impl Answer {
    /// Code and payload of an answer that was protected.
    fn inner(&self) -> Option<(Code, &[u8])> {
        self.inner
            .as_ref()
            .map(|(code, _, payload)| (*code, &payload[..]))
    }

    /// Code and payload of an answer that was not.
    fn outer(&self) -> Option<(Code, &[u8])> {
        let message = Message::parse(&self.outer).ok()?;
        (self.inner.is_none()).then_some((message.code(), message.payload()))
    }

    fn has_partial_iv(&self) -> bool {
        Message::parse(&self.outer)
            .ok()
            .and_then(|message| OscoreOption::of(&message)?.ok()?.partial_iv)
            .is_some()
    }
}

impl Client {
    fn now(&self) -> Instant {
        Instant(self.start.elapsed().as_millis() as u64)
    }

    /// Protects a request, lets `tamper` have its way with it, and sends it.
    fn request(
        &mut self,
        code: Code,
        options: &[(u16, &[u8])],
        payload: &[u8],
        tamper: impl FnOnce(&mut Vec<u8>),
    ) -> Result<Answer, Failure> {
        let token = random().to_be_bytes();
        let id = self.exchange.next_message_id();
        let plain = message(Type::Confirmable, code, id, &token, options, payload)?;
        let plain = Message::parse(&plain).map_err(|error| format!("{error:?}"))?;
        let mut out = vec![0; MAX_MESSAGE];
        let (length, sent) = self
            .context
            .protect_request(&plain, &mut out)
            .map_err(|error| format!("{error:?}"))?;
        out.truncate(length);
        tamper(&mut out);
        let outer = self.exchange(&out)?;
        let response = Message::parse(&outer).map_err(|error| format!("{error:?}"))?;
        let mut buffer = [0; MAX_MESSAGE];
        let mut damaged = outer.clone();
        if let Some(last) = damaged.last_mut() {
            *last ^= 0x80;
        }
        let forgery = Message::parse(&damaged).map_err(|error| format!("{error:?}"))?;
        let forgery = self
            .context
            .unprotect_response(&sent, &forgery, &mut buffer);
        self.forgeries_opened += u32::from(forgery.is_ok());
        let inner = self
            .context
            .unprotect_response(&sent, &response, &mut buffer)
            .ok()
            .map(|body| {
                let echo = body.option(option::ECHO);
                (
                    body.code(),
                    echo.map(|echo| echo.value.to_vec()),
                    body.payload().to_vec(),
                )
            });
        Ok(Answer { outer, inner })
    }

    /// Sends a confirmable request and waits for whatever claims to be its answer.
    fn exchange(&mut self, request: &[u8]) -> Result<Vec<u8>, Failure> {
        let now = self.now();
        self.exchange
            .start(now, request, random() as u32)
            .map_err(|error| format!("{error:?}"))?;
        let mut buffer = [0; MAX_MESSAGE];
        let mut answer = None;
        loop {
            let now = self.now();
            let until = match self.exchange.poll(now) {
                Output::Transmit(bytes) => {
                    self.socket.send(bytes)?;
                    continue;
                }
                Output::Wait(until) => until,
                Output::TimedOut => return Err("no answer".into()),
                Output::Idle => return answer.ok_or_else(|| "no answer".into()),
            };
            let wait = until.since(now).max(Duration::from_millis(1));
            self.socket.set_read_timeout(Some(wait))?;
            let Ok(length) = self.socket.recv(&mut buffer) else {
                continue;
            };
            let now = self.now();
            match self.exchange.receive(now, &buffer[..length]) {
                Received::Response(response) => {
                    self.exchange.accept(&response);
                    answer = Some(buffer[..length].to_vec());
                }
                Received::Reset => return Err("reset".into()),
                Received::Nothing => {}
            }
        }
    }
}

/// Prints one line per check and counts what fails.
#[derive(Default)]
struct Checks {
    failures: u32,
}

impl Checks {
    fn check(&mut self, what: &str, holds: bool, found: &dyn std::fmt::Debug) {
        if holds {
            println!("ok    mote -> aiocoap: {what}");
        } else {
            println!("FAIL  mote -> aiocoap: {what}: found {found:?}");
            self.failures += 1;
        }
    }
}

const HELLO: &[(u16, &[u8])] = &[(option::URI_PATH, b"hello")];
const ANSWER: Option<(Code, &[u8])> = Some((Code::CONTENT, b"hello"));

/// The checks of a server whose replay window is lost at first.
fn check_server(port: u16, id_context: Option<&[u8]>) -> Result<(), Failure> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.connect((Ipv4Addr::LOCALHOST, port))?;
    let mut client = Client {
        socket,
        exchange: Exchange::new(Parameters::default(), random() as u16),
        start: Clock::now(),
        context: Context::derive(&SECRET, &SALT, id_context, CLIENT_ID, SERVER_ID)
            .map_err(|error| format!("{error:?}"))?,
        forgeries_opened: 0,
    };
    let mut checks = Checks::default();
    check_resynchronisation(&mut client, &mut checks)?;
    let replayable = check_answers(&mut client, &mut checks)?;
    check_refusals(&mut client, &mut checks, &replayable)?;
    match checks.failures {
        0 => Ok(()),
        failures => Err(format!("{failures} checks failed").into()),
    }
}

fn check_resynchronisation(client: &mut Client, checks: &mut Checks) -> Result<(), Failure> {
    let challenged = client.request(Code::GET, HELLO, b"", |_| ())?;
    let echo = challenged
        .inner
        .as_ref()
        .and_then(|(_, echo, _)| echo.clone());
    checks.check(
        "a server that lost its window challenges with Echo",
        challenged.inner().map(|(code, _)| code) == Some(Code::UNAUTHORIZED) && echo.is_some(),
        &challenged.inner,
    );
    checks.check(
        "the challenge has a partial IV of its own",
        challenged.has_partial_iv(),
        &challenged.outer,
    );
    let echo = echo.unwrap_or_default();
    let options: &[(u16, &[u8])] = &[(option::URI_PATH, b"hello"), (option::ECHO, &echo)];
    let answer = client.request(Code::GET, options, b"", |_| ())?;
    checks.check(
        "the echoed request is answered",
        answer.inner() == ANSWER,
        &answer.inner,
    );
    Ok(())
}

/// Returns a request that has been answered.
fn check_answers(client: &mut Client, checks: &mut Checks) -> Result<Vec<u8>, Failure> {
    let mut kept = Vec::new();
    let answer = client.request(Code::GET, HELLO, b"", |bytes| kept.clone_from(bytes))?;
    checks.check(
        "a request is answered",
        answer.inner() == ANSWER,
        &answer.inner,
    );
    checks.check(
        "a response with the request's nonce is understood",
        !answer.has_partial_iv(),
        &answer.outer,
    );
    let body: Vec<u8> = (0..=255).cycle().take(900).collect();
    let options: &[(u16, &[u8])] = &[(option::URI_PATH, b"echo"), (option::CONTENT_FORMAT, &[42])];
    let answer = client.request(Code::POST, options, &body, |_| ())?;
    checks.check(
        "900 bytes come back",
        answer.inner() == Some((Code::CHANGED, &body)),
        &answer.inner,
    );
    Ok(kept)
}

fn check_refusals(
    client: &mut Client,
    checks: &mut Checks,
    replayable: &[u8],
) -> Result<(), Failure> {
    let replay = client.request(Code::GET, HELLO, b"", |bytes| {
        // The old ciphertext under the new message ID and token (a token has 8 bytes here).
        bytes.truncate(12);
        bytes.extend_from_slice(&replayable[12..]);
    })?;
    checks.check(
        "a replay is refused",
        replay.outer() == Some((Code::UNAUTHORIZED, b"Replay detected")),
        &replay.outer,
    );
    let tampered = client.request(Code::GET, HELLO, b"", |bytes| {
        if let Some(last) = bytes.last_mut() {
            *last ^= 1;
        }
    })?;
    checks.check(
        "a tampered message is refused",
        tampered.outer() == Some((Code::BAD_REQUEST, b"Decryption failed")),
        &tampered.outer,
    );
    checks.check(
        "a tampered response was refused each time",
        client.forgeries_opened == 0,
        &client.forgeries_opened,
    );
    let answer = client.request(Code::GET, HELLO, b"", |_| ())?;
    checks.check(
        "the context has survived",
        answer.inner() == ANSWER,
        &answer.inner,
    );
    Ok(())
}
