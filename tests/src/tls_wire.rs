//! The far end of a [`Wire`](crate::wire::Wire) over TLS: the agent's own client, a counting [`Tap`],
//! and a verifier's process with `--listen-tls`. What is counted are the bytes of the TCP connection:
//! TLS handshake and records included, TCP's and IP's headers not.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use mote_agent::config::TlsSettings;
use mote_agent::link::stream::Stream;
use mote_agent::link::tls::TlsClient;
use mote_agent::link::watch::Watch;
use mote_agent::verifier_key::VerifierKey;
use mote_schemas::limits::MAX_MESSAGE;
use mote_verifier::signing_key::SigningKey;

use crate::fleet::{Verifier, certificate};
use crate::ports;
use crate::process::TempDir;
use crate::tap::{Passed, Tap};
use crate::wire::{Exchanged, Far, Result};

const PATIENCE: Duration = Duration::from_secs(20);

/// A verifier that is reached by TLS; knows the recorded device's files.
pub struct TlsVerifier {
    process: Verifier,
    client: TlsClient,
    server: SocketAddr,
    devices: HashMap<SocketAddr, Connection>,
    clock: u64,
    // Gone last.
    _dir: TempDir,
}

/// A device's way there.
struct Connection {
    tap: Tap,
    stream: Option<Stream>,
    counted: Passed,
}

impl TlsVerifier {
    /// Starts one that admits devices with these EKs: SHA-256 of the public area in hex, one a line.
    pub fn start(admitted: &str) -> Result<Self> {
        let dir = TempDir::new("tls-wire")?;
        certificate(dir.path(), "server")?;
        let admit = dir.join("admitted");
        fs::write(&admit, admitted)?;
        let server = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), ports::free_pair());
        let path = |name: &str| dir.join(name).display().to_string();
        let process = Verifier::start(&[
            "--listen-tls",
            &server.to_string(),
            "--tls-cert",
            &path("server.crt"),
            "--tls-key",
            &path("server.key"),
            "--admit-ek",
            &path("admitted"),
        ])?;
        let settings = TlsSettings {
            ca: Some(dir.join("server.crt")),
            ..TlsSettings::default()
        };
        Ok(Self {
            process,
            client: TlsClient::new(&settings)?,
            server,
            devices: HashMap::new(),
            clock: 0,
            _dir: dir,
        })
    }
}

impl Far for TlsVerifier {
    fn verifier_key(&self) -> Result<VerifierKey> {
        let key = SigningKey::load(&self.process.state().join("verifier.key"))?;
        let key = VerifierKey::from_bytes(key.public_key().point());
        Ok(key.map_err(|error| format!("{error:?}"))?)
    }

    /// The agent's only: the verifier's process has the system's.
    fn clock(&self) -> u64 {
        self.clock
    }

    fn pass(&mut self, milliseconds: u64) {
        self.clock += milliseconds;
    }

    fn hang_up(&mut self, peer: SocketAddr) {
        if let Some(connection) = self.devices.get_mut(&peer) {
            connection.stream = None;
        }
    }

    fn exchange(&mut self, peer: SocketAddr, request: &[u8]) -> Result<Exchanged> {
        let connection = match self.devices.entry(peer) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let any = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
                entry.insert(Connection {
                    tap: Tap::tcp(any, self.server, |_| {})?,
                    stream: None,
                    counted: Passed::default(),
                })
            }
        };
        let Connection {
            tap,
            stream,
            counted,
        } = connection;
        let server = tap.address().to_string();
        let client = &self.client;
        let mut reply = vec![0; MAX_MESSAGE];
        let (watch, until) = (Watch::nothing(), Instant::now() + PATIENCE);
        let stream = match stream {
            Some(stream) => stream,
            none => none.insert(Stream::open(&server, client, &watch, until)?),
        };
        stream.send(request, &watch, until)?;
        let len = stream.receive(&mut reply, &watch, until)?;
        reply.truncate(len);
        let passed = tap.passed();
        let since = |now: u64, then: u64| usize::try_from(now - then);
        let exchanged = Exchanged {
            up: since(passed.up, counted.up)?,
            down: since(passed.down, counted.down)?,
            reply: Some(reply),
        };
        *counted = passed;
        Ok(exchanged)
    }
}
