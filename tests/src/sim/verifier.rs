//! The verifier of a run: an [`Engine`] that can lose power, on a [`Disk`] that stays.

use std::net::SocketAddr;
use std::sync::OnceLock;

use mote_schemas::bootlog::BootLog;
use mote_schemas::time::Instant;
use mote_verifier::admission::{AdmissionRules, EkId};
use mote_verifier::engine::{Engine, Now, Settings};
use mote_verifier::manifest::{
    BootExpectations, FileDigest, FileEntry, Manifest, StaticPcrs, sign,
};
use mote_verifier::policy::trust_and_add;
use mote_verifier::signing_key::SigningKey;
use mote_verifier::store::{Change, DeviceRecord, Durability, Store};
use sha2::{Digest, Sha256};

use super::machine::recording;
use super::store::{Disk, MemoryStore};
use crate::process::TempDir;
use mote_schemas::message::DeviceId;
use mote_schemas::tpm::{HashAlg, Public};

/// Unix milliseconds at virtual time 0.
const EPOCH: u64 = 1_790_000_000_000;

/// The verifier's side.
pub struct Verifier {
    directory: TempDir,
    disk: Disk,
    engine: Option<Engine>,
    settings: Settings,
    rules: AdmissionRules,
    started: u64,
    point: [u8; 65],
    expects_boot_logs: bool,
}

impl Verifier {
    /// A verifier with an empty disk, running since virtual time 0.
    ///
    /// # Panics
    /// When no temporary directory can be made.
    pub fn new(settings: Settings) -> Self {
        let directory = TempDir::new("sim").unwrap_or_else(|error| panic!("{error}"));
        let key =
            SigningKey::create(&directory.join("key")).unwrap_or_else(|error| panic!("{error}"));
        let mut verifier = Verifier {
            point: *key.public_key().point(),
            directory,
            disk: Disk::new(),
            engine: None,
            settings,
            rules: AdmissionRules::default(),
            started: 0,
            expects_boot_logs: false,
        };
        verifier.start(0);
        verifier
    }

    /// The public key that agents pin.
    pub fn point(&self) -> &[u8; 65] {
        &self.point
    }

    /// Adds a manifest that allows what these boot logs show in PCR 1, and nothing else there.
    ///
    /// # Panics
    /// When they are no boot logs.
    pub fn expect_boot_logs(&mut self, logs: &[Vec<u8>]) {
        let mut allowed = Vec::new();
        for log in logs {
            let log = BootLog::parse(log).unwrap_or_else(|error| panic!("{error}"));
            let events = log.events().filter(|e| e.is_extended() && e.pcr == 1);
            allowed.extend(events.filter_map(|event| event.digest(HashAlg::Sha256)));
        }
        let expected = BootExpectations {
            events: [(1, allowed)].into(),
            ..BootExpectations::default()
        };
        let added = manifest(Vec::new(), expected).unwrap_or_else(|error| panic!("{error}"));
        self.commit(&added);
        self.expects_boot_logs = true;
    }

    /// Whether there is no good verdict without a boot log.
    pub fn expects_boot_logs(&self) -> bool {
        self.expects_boot_logs
    }

    /// Keeps a boot log, as if some device had sent it before.
    ///
    /// # Panics
    /// Never: the disk takes it.
    pub fn know_boot_log(&mut self, log: &[u8]) {
        self.commit(&[Change::PutBootLog {
            digest: Sha256::digest(log).into(),
            bytes: log.to_vec(),
            at: EPOCH,
        }]);
    }

    fn commit(&mut self, changes: &[Change]) {
        let committed = self.disk.open().commit(changes, Durability::Immediate);
        committed.unwrap_or_else(|error| panic!("{error}"));
    }

    /// Admits the device with this endorsement key; takes effect at the next start.
    ///
    /// # Panics
    /// When it is no key.
    pub fn admit(&mut self, ek_public: &[u8]) {
        match Public::parse(ek_public) {
            Ok(ek) => self.rules.allow(EkId::of(&ek)),
            Err(error) => panic!("{error}"),
        }
    }

    /// Starts the process, with what the disk has.
    ///
    /// # Panics
    /// When the engine does not start, which is a failure of this machine.
    pub fn start(&mut self, now: u64) {
        let key = SigningKey::load(&self.directory.join("key"));
        let engine = key.map_err(|error| error.to_string()).and_then(|key| {
            let mut store = self.disk.open();
            let known = store.generation().map_err(|error| error.to_string())?;
            if known == 0 {
                let added = store.commit(references(), Durability::Immediate);
                added.map_err(|error| error.to_string())?;
            }
            let (rules, settings) = (self.rules.clone(), self.settings.clone());
            Engine::new(Box::new(store), key, rules, settings).map_err(|e| e.to_string())
        });
        self.engine = Some(engine.unwrap_or_else(|error| panic!("{error}")));
        self.started = now;
    }

    /// The power goes: no flush, no farewell.
    pub fn crash(&mut self) {
        self.engine = None;
        self.disk.crash();
    }

    /// Whether the process is there.
    pub fn is_up(&self) -> bool {
        self.engine.is_some()
    }

    /// The answer to one datagram, if there is one.
    pub fn handle(&mut self, now: u64, peer: SocketAddr, datagram: &[u8]) -> Option<Vec<u8>> {
        let now = Now {
            monotonic: Instant(now - self.started),
            unix: EPOCH + now,
        };
        self.engine.as_mut()?.handle(now, peer, datagram)
    }

    /// What the daemon does once a second.
    pub fn flush(&mut self) -> Result<(), String> {
        match &mut self.engine {
            Some(engine) => engine.flush().map_err(|error| error.to_string()),
            None => Ok(()),
        }
    }

    /// Whether a crash would lose anything now.
    pub fn has_batched(&self) -> bool {
        self.disk.has_batched()
    }

    /// What it knows, whether or not the process is there.
    pub fn store(&self) -> MemoryStore {
        self.disk.open()
    }

    /// What it knows of one device.
    pub fn device(&self, id: &DeviceId) -> Option<DeviceRecord> {
        self.store().device(id).ok().flatten()
    }

    /// A time of the store as virtual time.
    pub fn virtual_time(unix: u64) -> u64 {
        unix.saturating_sub(EPOCH)
    }
}

/// Reference values for every file of the recording, made once.
fn references() -> &'static [Change; 2] {
    static REFERENCES: OnceLock<[Change; 2]> = OnceLock::new();
    let make = || -> Result<[Change; 2], String> {
        let mut files = Vec::new();
        for record in &recording().files {
            let (_, digest) = record.file_digest().map_err(|error| error.to_string())?;
            let digest = <[u8; 32]>::try_from(digest).map_err(|error| error.to_string())?;
            files.push(FileEntry {
                path: record.path.as_str().into(),
                digests: vec![FileDigest(digest)],
            });
        }
        manifest(files, BootExpectations::default())
    };
    REFERENCES.get_or_init(|| make().unwrap_or_else(|error| panic!("{error}")))
}

fn manifest(files: Vec<FileEntry>, boot: BootExpectations) -> Result<[Change; 2], String> {
    let name = if files.is_empty() { "boot" } else { "recorded" };
    let key = SigningKey::generate().map_err(|error| error.to_string())?;
    let (exclusions, pcrs) = (Vec::new(), StaticPcrs::default());
    let manifest = Manifest::new(name, "1", None, files, exclusions, pcrs)
        .and_then(|manifest| manifest.with_boot(boot))
        .map_err(|error| error.to_string())?;
    let bytes = sign(&manifest, &key).map_err(|error| error.to_string())?;
    trust_and_add(key.public_key(), bytes).map_err(|error| error.to_string())
}
