//! A device without a TPM as a command, for the interop tests (`tests/interop/eat.sh`) and to try things out: what
//! a Cortex-M's firmware would do, over a socket.
//!
//! ```text
//! mote-token-device --key FILE --public                             its public key, PEM; makes FILE if it is not there
//! mote-token-device --key FILE --nonce HEX [...]                    a token in a wrapper, to standard output
//! mote-token-device --key FILE --verifier HOST:PORT --verifier-key FILE [...]    attests once
//! ```
//! `--key` is the private key, 32 bytes. `--component NAME=FILE` hashes a file as its bootloader would. Prints the verdict;
//! exit code 0 if that is trusted or a warning.

use std::fs;
use std::io::Write;
use std::net::UdpSocket;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant as Clock};

use clap::Parser;
use mote_schemas::cbor;
use mote_schemas::coap::{Code, Exchange, Output, Parameters, Received};
use mote_schemas::eat::DebugState;
use mote_schemas::limits::MAX_MESSAGE;
use mote_schemas::message::{ErrorReply, Reasons, Tier, path};
use mote_schemas::time::Instant;
use mote_tests::hex;
use mote_tests::token_device::{TokenDevice, post, verified_reply};
use mote_verifier::signing_key::PublicKey;
use sha2::{Digest, Sha256};

type Failure = Box<dyn std::error::Error>;

#[derive(Parser)]
struct Arguments {
    /// The private key: 32 bytes, made when absent.
    #[arg(long)]
    key: PathBuf,
    /// Print the public key.
    #[arg(long)]
    public: bool,
    /// Print a token for this nonce.
    #[arg(long)]
    nonce: Option<String>,
    #[arg(long)]
    verifier: Option<String>,
    #[arg(long)]
    verifier_key: Option<PathBuf>,
    #[arg(long)]
    component: Vec<String>,
    #[arg(long)]
    name: Option<String>,
    #[arg(long, requires = "name")]
    version: Option<String>,
    #[arg(long)]
    boot_count: Option<u64>,
    /// Say that the debug port is open.
    #[arg(long)]
    debug: bool,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("mote-token-device: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let device = device(arguments)?;
    if arguments.public {
        print!("{}", PublicKey::from_point(&device.point())?.to_pem()?);
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(nonce) = &arguments.nonce {
        let nonce = hex::decode(nonce).ok_or("--nonce: not hexadecimal")?;
        std::io::stdout().write_all(&device.wrapped(&nonce))?;
        return Ok(ExitCode::SUCCESS);
    }
    let verifier = arguments
        .verifier
        .as_deref()
        .ok_or("--verifier HOST:PORT")?;
    let key = arguments
        .verifier_key
        .as_deref()
        .ok_or("--verifier-key FILE")?;
    attest(&device, verifier, *PublicKey::load(key)?.point())
}

fn device(arguments: &Arguments) -> Result<TokenDevice, Failure> {
    let mut device = TokenDevice::new(&private_key(&arguments.key)?);
    device.ueid = None;
    device.boot_count = arguments.boot_count;
    device.software = arguments.name.clone().map(|name| {
        let version = arguments.version.clone().unwrap_or_else(|| "0".to_owned());
        (name, version)
    });
    if arguments.debug {
        device.debug = Some(DebugState::Enabled);
    }
    device.components.clear();
    for text in &arguments.component {
        let (name, file) = text.split_once('=').ok_or("--component NAME=FILE")?;
        let digest = Sha256::digest(fs::read(file)?).into();
        device.components.push((name.to_owned(), digest));
    }
    Ok(device)
}

fn private_key(file: &Path) -> Result<[u8; 32], Failure> {
    if !file.exists() {
        let mut key = [0; 32];
        aws_lc_rs::rand::fill(&mut key).map_err(|_| "no randomness to be had")?;
        // Below the order of P-256, which begins with 32 bits of ones.
        key[0] &= 0x7f;
        let mut options = fs::OpenOptions::new();
        let options = options.write(true).create_new(true).mode(0o600);
        options.open(file)?.write_all(&key)?;
    }
    let bytes = fs::read(file)?;
    Ok(bytes.try_into().map_err(|_| "--key: not 32 bytes")?)
}

fn attest(device: &TokenDevice, verifier: &str, key: [u8; 65]) -> Result<ExitCode, Failure> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect(verifier)?;
    let (code, reply) = ask(&socket, 1, path::NONCE, &device.nonce_request())?;
    let nonce = TokenDevice::nonce_of(&reply).filter(|_| code == Code::CONTENT);
    let nonce = nonce.ok_or_else(|| refusal(code, &reply))?;
    let wrapper = device.wrapped(&nonce);
    let (code, reply) = ask(&socket, 2, path::EVIDENCE, &wrapper)?;
    if code != Code::CHANGED {
        return Err(refusal(code, &reply).into());
    }
    let verdict =
        verified_reply(&key, &wrapper, &reply).ok_or("the reply is not the verifier's")?;
    let reasons: Vec<_> = verdict.reasons.iter().flat_map(Reasons::tokens).collect();
    println!("{} {}", verdict.tier.word(), reasons.join(" "));
    Ok(match verdict.tier {
        Tier::Affirming | Tier::Warning => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

fn refusal(code: Code, payload: &[u8]) -> String {
    match cbor::decode::<ErrorReply<'_>>(payload) {
        Ok(error) => {
            let detail = error.detail.map_or("", |detail| detail.get());
            format!("refused ({code}): {} {detail}", error.reason.get())
        }
        Err(_) => format!("refused ({code})"),
    }
}

/// One confirmable request, repeated as long as it takes.
fn ask(socket: &UdpSocket, id: u16, to: &str, payload: &[u8]) -> Result<(Code, Vec<u8>), Failure> {
    let start = Clock::now();
    let now = || Instant(u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX));
    let mut exchange = Exchange::<MAX_MESSAGE>::new(Parameters::default(), id);
    let id = exchange.next_message_id();
    let request = post(to, id, payload);
    exchange
        .start(now(), &request, 0)
        .map_err(|error| format!("{error:?}"))?;
    let mut buffer = [0; MAX_MESSAGE];
    loop {
        match exchange.poll(now()) {
            Output::Transmit(bytes) => drop(socket.send(bytes)?),
            Output::TimedOut | Output::Idle => return Err("no answer".into()),
            Output::Wait(until) => {
                let wait = until.since(now()).max(Duration::from_millis(1));
                socket.set_read_timeout(Some(wait))?;
                let Ok(len) = socket.recv(&mut buffer) else {
                    continue;
                };
                if let Received::Response(response) = exchange.receive(now(), &buffer[..len]) {
                    exchange.accept(&response);
                    let body = response.body();
                    return Ok((body.code(), body.payload().to_vec()));
                }
            }
        }
    }
}
