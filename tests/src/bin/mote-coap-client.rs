//! Mote's client of CoAP as a command, for the interop tests (`tests/interop/libcoap.sh`): one request
//! at a time by the exchange and the links that the agent uses.
//!
//! ```text
//! mote-coap-client [--pin [raw:]SHA256 | --ca PEM] [--put FILE] [--block BYTES] coap[s+tcp]://HOST:PORT/PATH
//! ```
//! Prints the code to standard error and the payload to standard output. A body larger than `--block`
//! goes and comes in blocks of that size (over UDP).

use std::io::Write;
use std::net::UdpSocket;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant as Clock};

use clap::Parser;
use mote_agent::config::{Endpoint, Pin, Scheme, TlsSettings};
use mote_agent::link::stream::Stream;
use mote_agent::link::tls::TlsClient;
use mote_agent::link::watch::Watch;
use mote_schemas::coap::block::Sent;
use mote_schemas::coap::{
    Block, BlockReceiver, BlockSender, BlockSize, Body, Code, Exchange, Message, Output,
    Parameters, Received, Type, Writer, option,
};
use mote_schemas::limits::MAX_MESSAGE;
use mote_schemas::time::Instant;

type Failure = Box<dyn std::error::Error>;

#[derive(Parser)]
struct Arguments {
    #[arg(long)]
    pin: Option<String>,
    #[arg(long)]
    ca: Option<PathBuf>,
    #[arg(long)]
    put: Option<PathBuf>,
    #[arg(long, default_value_t = 1024)]
    block: usize,
    url: String,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mote-coap-client: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Failure> {
    let (scheme, rest) = arguments.url.split_once("://").ok_or("no scheme")?;
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let server: Endpoint = format!("{scheme}://{authority}").parse()?;
    let request = Request {
        path: path
            .split('/')
            .filter(|segment| !segment.is_empty())
            .collect(),
        body: arguments.put.as_ref().map(std::fs::read).transpose()?,
        size: BlockSize::fitting(arguments.block),
    };
    match server.scheme {
        Scheme::Coap => over_udp(&server.authority, &request),
        Scheme::CoapsTcp => {
            let settings = TlsSettings {
                pin: arguments.pin.as_deref().map(pin).transpose()?,
                ca: arguments.ca.clone(),
                ..TlsSettings::default()
            };
            over_tls(&server.authority, &TlsClient::new(&settings)?, &request)
        }
    }
}

fn pin(text: &str) -> Result<Pin, Failure> {
    let hex = text.strip_prefix("raw:").unwrap_or(text);
    let bytes = (0..hex.len())
        .step_by(2)
        .map(|at| Ok(u8::from_str_radix(hex.get(at..at + 2).ok_or("odd")?, 16)?))
        .collect::<Result<Vec<u8>, Failure>>()?;
    let digest = bytes.try_into().map_err(|_| "a pin has 32 bytes")?;
    Ok(match text.len() {
        64 => Pin::Certificate(digest),
        _ => Pin::RawKey(digest),
    })
}

struct Request<'a> {
    path: Vec<&'a str>,
    body: Option<Vec<u8>>,
    size: BlockSize,
}

impl Request<'_> {
    fn write(
        &self,
        id: u16,
        token: [u8; 2],
        blocks: Option<(&BlockSender, Block)>,
        out: &mut [u8],
    ) -> Result<usize, Failure> {
        let code = if self.body.is_some() {
            Code(3)
        } else {
            Code::GET
        };
        let write = |out| {
            let mut writer = Writer::new(out, Type::Confirmable, code, id, &token)?;
            for segment in &self.path {
                writer = writer.option(option::URI_PATH, segment.as_bytes())?;
            }
            let mut payload = self.body.as_deref().unwrap_or_default();
            if let Some((sender, ask)) = blocks {
                if self.body.is_none() {
                    writer = writer.option_uint(option::BLOCK2, ask.encode())?;
                } else if !sender.is_single() {
                    writer = writer.option_uint(option::BLOCK1, sender.block().encode())?;
                    payload = &payload[sender.range()];
                }
            }
            writer.payload(payload)
        };
        write(out).map_err(|error| format!("{error:?}").into())
    }
}

fn show(body: &Body<'_>, payload: &[u8]) -> Result<(), Failure> {
    eprintln!("{}", body.code());
    std::io::stdout().write_all(payload)?;
    Ok(())
}

fn over_udp(server: &str, request: &Request<'_>) -> Result<(), Failure> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect(server)?;
    let start = Clock::now();
    let now = || Instant(u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX));
    let mut exchange =
        Exchange::<MAX_MESSAGE>::new(Parameters::default(), std::process::id() as u16);
    let length = request.body.as_ref().map_or(0, Vec::len);
    let mut sender = BlockSender::new(length, request.size);
    let mut receiver = BlockReceiver::<65_536>::new();
    let mut ask = Block {
        number: 0,
        more: false,
        size: request.size,
    };
    let (mut buffer, mut token) = ([0; MAX_MESSAGE], [0_u8; 2]);
    loop {
        match exchange.poll(now()) {
            Output::Transmit(bytes) => {
                socket.send(bytes)?;
            }
            Output::TimedOut => return Err("no answer".into()),
            Output::Idle => {
                token[0] += 1;
                let id = exchange.next_message_id();
                let len = request.write(id, token, Some((&sender, ask)), &mut buffer)?;
                exchange
                    .start(now(), &buffer[..len], 0)
                    .map_err(|error| format!("{error:?}"))?;
            }
            Output::Wait(until) => {
                let wait = until.since(now()).max(Duration::from_millis(1));
                socket.set_read_timeout(Some(wait))?;
                let Ok(len) = socket.recv(&mut buffer) else {
                    continue;
                };
                let Received::Response(response) = exchange.receive(now(), &buffer[..len]) else {
                    continue;
                };
                exchange.accept(&response);
                // A separate response wants its acknowledgement.
                while let Output::Transmit(bytes) = exchange.poll(now()) {
                    socket.send(bytes)?;
                }
                let body = response.body();
                let block = |number| Block::of(&body, number).map_err(|_| "reserved block");
                if request.body.is_some()
                    && sender.answered(body.code(), block(option::BLOCK1)?) == Sent::Next
                {
                    continue;
                }
                let Some(block) = block(option::BLOCK2)? else {
                    return show(&body, body.payload());
                };
                match receiver.push(block, body.payload()) {
                    Ok(Some(next)) => ask = next,
                    Ok(None) => return show(&body, receiver.body()),
                    Err(error) => return Err(format!("{error:?}").into()),
                }
            }
        }
    }
}

fn over_tls(server: &str, client: &TlsClient, request: &Request<'_>) -> Result<(), Failure> {
    let token = [7, 7];
    let mut buffer = [0; MAX_MESSAGE];
    let len = request.write(0, token, None, &mut buffer)?;
    let (watch, until) = (Watch::nothing(), Clock::now() + Duration::from_secs(10));
    let mut stream = Stream::open(server, client, &watch, until)?;
    stream.send(&buffer[..len], &watch, until)?;
    let mut answer = [0; MAX_MESSAGE];
    loop {
        let len = stream.receive(&mut answer, &watch, until)?;
        let message = Message::parse(&answer[..len]).map_err(|error| format!("{error:?}"))?;
        if message.token() == token {
            return show(&message.body(), message.payload());
        }
    }
}
