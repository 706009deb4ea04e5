//! A session that a real TPM opened with a real verifier, handed to another implementation of OSCORE
//! (`tests/interop/aiocoap.sh`): starts both, says hello as the agent does, and prints what follows
//! from it as one line of JSON: the verifier's port, the session's master secret, the agent's kid,
//! and an open that is true at this moment. Then each line on standard input restarts the
//! verifier by `kill -9` and is answered by `restarted`; at the end of input everything ends.

use std::fmt::Write as _;
use std::io::{BufRead, Write as _};
use std::net::UdpSocket;
use std::process::ExitCode;
use std::time::Duration;

use mote_agent::config::parse_pcrs;
use mote_agent::tpm::{self, TpmOptions};
use mote_agent::verifier_key::VerifierKey;
use mote_schemas::cbor::{self, Bytes};
use mote_schemas::coap::{Code, Message, Type, Writer, option};
use mote_schemas::limits::MAX_MESSAGE;
use mote_schemas::message::{
    DeviceId, DeviceKeys, FullQuote, Hello, Open, PcrBank, PcrBanks, VERSION, path,
};
use mote_schemas::transcript::HelloDigest;
use mote_tests::{Device, Verifier};

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mote-oscore-session: {error}");
            ExitCode::FAILURE
        }
    }
}

fn debug(error: impl std::fmt::Debug) -> Failure {
    format!("{error:?}").into()
}

fn run() -> Result<(), Failure> {
    let device = Device::new("oscore-session")?;
    let mut verifier = Verifier::start(&[])?;
    let key = std::fs::read_to_string(verifier.state().join("verifier.pub"))?;
    let key = VerifierKey::from_bytes(&from_pem(&key)?).map_err(debug)?;
    let mut tpm = tpm::open(&TpmOptions {
        address: format!("swtpm:127.0.0.1:{}", device.kernel().port())
            .parse()
            .map_err(debug)?,
        ..TpmOptions::default()
    })?;
    let identity = tpm.identity()?;
    let hello = Hello {
        version: VERSION,
        random: [7; 16],
        device: DeviceId::of_ek(&identity.ek),
        keys: Some(DeviceKeys {
            ek_public: Bytes::new(&identity.ek).ok_or("EK")?,
            ak_public: Bytes::new(&identity.ak).ok_or("AK")?,
            ek_certificate: None,
        }),
    };
    let mut payload = [0; MAX_MESSAGE];
    let len = cbor::encode(&hello, &mut payload).map_err(debug)?;
    let hello = &payload[..len];
    let reply = say_hello(&verifier.address(), hello)?;
    let answer = key.check(HelloDigest::of(hello), &reply).map_err(debug)?;
    let challenge = answer.challenge();
    let secret = tpm.activate_credential(
        challenge.credential_blob.get(),
        challenge.encrypted_secret.get(),
    )?;
    let transcript = answer.transcript();

    let selection = parse_pcrs("sha256:10").map_err(debug)?;
    let quote = tpm.quote(&selection, &transcript.qualifying_data(&challenge.random))?;
    let mut values = [0; 32];
    tpm.read_pcrs(&selection, &mut values)?;
    let bank = PcrBank {
        hash_alg: selection[0].bank,
        mask: selection[0].mask,
        values: Bytes::new(&values).ok_or("values")?,
    };
    let open = Open {
        quote: FullQuote {
            attest: Bytes::new(&quote.attest).ok_or("attest")?,
            signature: Bytes::new(&quote.signature).ok_or("signature")?,
        },
        pcrs: PcrBanks::new([bank]).ok_or("banks")?,
        records: u64::try_from(device.kernel().records()?)?,
        boot_log: None,
        software: None,
        anchor: None,
    };
    let mut buffer = [0; MAX_MESSAGE];
    let len = cbor::encode(&open, &mut buffer).map_err(debug)?;
    println!(
        "{{\"port\": {}, \"secret\": \"{}\", \"kid\": \"{}\", \"open\": \"{}\"}}",
        verifier.address().rsplit(':').next().unwrap_or_default(),
        hex(&*transcript.master_secret(secret.as_bytes())),
        challenge.kid,
        hex(&buffer[..len]),
    );
    std::io::stdout().flush()?;
    for line in std::io::stdin().lock().lines() {
        line?;
        verifier.kill()?;
        verifier.launch()?;
        println!("restarted");
        std::io::stdout().flush()?;
    }
    Ok(())
}

/// hello and, after the Echo that the verifier asks for, its answer's payload.
fn say_hello(server: &str, hello: &[u8]) -> Result<Vec<u8>, Failure> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect(server)?;
    socket.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut echo = Vec::new();
    for id in 1..=2 {
        let mut request = [0; MAX_MESSAGE];
        let write = |buffer| {
            let mut writer = Writer::new(buffer, Type::Confirmable, Code::POST, id, b"hi")?
                .option(option::URI_PATH, path::HELLO.as_bytes())?;
            if !echo.is_empty() {
                writer = writer.option(option::ECHO, &echo)?;
            }
            writer.payload(hello)
        };
        let len = write(&mut request).map_err(debug)?;
        socket.send(&request[..len])?;
        let mut reply = [0; MAX_MESSAGE];
        let len = socket.recv(&mut reply)?;
        let message = Message::parse(&reply[..len]).map_err(debug)?;
        if message.code() == Code::CHANGED {
            return Ok(message.payload().to_vec());
        }
        echo = message
            .option(option::ECHO)
            .ok_or("refused, and not for want of an Echo")?
            .value
            .to_vec();
    }
    Err("no challenge".into())
}

/// The DER in a PEM file, by the alphabet of RFC 4648.
fn from_pem(text: &str) -> Result<Vec<u8>, Failure> {
    let (mut bits, mut count, mut out) = (0_u32, 0, Vec::new());
    let body = text.lines().filter(|line| !line.starts_with("-----"));
    for c in body
        .flat_map(str::chars)
        .filter(|c| *c != '=' && !c.is_whitespace())
    {
        let alphabet = ('A'..='Z')
            .chain('a'..='z')
            .chain('0'..='9')
            .chain(['+', '/']);
        let value = alphabet
            .zip(0..)
            .find(|(letter, _)| *letter == c)
            .ok_or("base64")?
            .1;
        bits = bits << 6 | value;
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count & 0xff) as u8);
        }
    }
    Ok(out)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
