//! The verifier's engine in a test's hands: no sockets, no clock, a store on disk, and everything
//! that it stores laid open.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

use mote_schemas::time::Instant;
use mote_verifier::admin::{self, Effect, Request, Response};
use mote_verifier::admission::AdmissionRules;
use mote_verifier::engine::{Engine, Now, Settings};
use mote_verifier::ima_signature::Keyring;
use mote_verifier::manifest::{
    BootExpectations, BufferExpectations, ComponentEntry, FileDigest, FileEntry, Manifest,
    StaticPcrs, sign,
};
use mote_verifier::policy::{
    self, TrustedKey, Uses, binding_bytes, ima_keys_bytes, policy_object_name, trust_and_add,
};
use mote_verifier::signing_key::{PublicKey, SigningKey};
use mote_verifier::store::{
    Admission, Change, Deviation, DeviceId, DeviceRecord, Durability, Kid, ObjectKind, RecordId,
    RedbStore, SessionRecord, Store, VerdictRecord,
};

use crate::hex;
use crate::process::TempDir;
use crate::soft_device::digest_of;
use crate::token_device::TokenDevice;

/// Unix time at which every lab opens, in milliseconds.
const START: u64 = 1_800_000_000_000;

/// Everything that a store holds, comparable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Devices, with the boot state of each.
    pub devices: BTreeMap<DeviceId, DeviceRecord>,
    /// Sessions.
    pub sessions: BTreeMap<Kid, SessionRecord>,
    /// The log of each device's current boot.
    pub logs: BTreeMap<DeviceId, Vec<RecordId>>,
    /// Verdicts, newest first.
    pub verdicts: BTreeMap<DeviceId, Vec<(u64, VerdictRecord)>>,
    /// Deviations.
    pub deviations: BTreeMap<DeviceId, Vec<Deviation>>,
}

/// An engine, its store, and the time.
pub struct Lab {
    engine: Option<Engine>,
    rules: AdmissionRules,
    references: [Change; 2],
    settings: Settings,
    /// Both of the engine's clocks, in milliseconds since the lab opened.
    pub now: u64,
    /// Every datagram that the engine sent, across restarts.
    pub sent: Vec<Vec<u8>>,
    generation: u32,
    dir: TempDir,
}

impl std::fmt::Debug for Lab {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lab")
            .field("now", &self.now)
            .field("generation", &self.generation)
            .finish_non_exhaustive()
    }
}

impl Lab {
    /// An engine that knows the files `/bin/0` to `/bin/99` and admits nobody by itself.
    pub fn new() -> Self {
        Self::with(AdmissionRules::default(), Settings::default())
    }

    /// The same, with rules and settings.
    pub fn with(rules: AdmissionRules, settings: Settings) -> Self {
        let files = (0..100u8).map(|number| {
            let path = format!("/bin/{number}");
            let digests = vec![FileDigest(digest_of(&path))];
            FileEntry {
                path: path.into(),
                digests,
            }
        });
        Self::knowing(files.collect(), rules, settings)
    }

    /// An engine that knows these files.
    ///
    /// # Panics
    /// When the system gives no directory for temporary files, or the files are no manifest.
    pub fn knowing(files: Vec<FileEntry>, rules: AdmissionRules, settings: Settings) -> Self {
        Self::expecting(files, BootExpectations::default(), rules, settings)
    }

    /// The same, that also expects something of the boot log.
    ///
    /// # Panics
    /// As [`Lab::knowing`].
    pub fn expecting(
        files: Vec<FileEntry>,
        boot: BootExpectations,
        rules: AdmissionRules,
        settings: Settings,
    ) -> Self {
        let dir = TempDir::new("lab").unwrap_or_else(|error| panic!("{error}"));
        let key = SigningKey::create(&dir.join("verifier.key"));
        key.unwrap_or_else(|error| panic!("{error}"));
        let mut lab = Self {
            engine: None,
            rules,
            references: references(files, boot),
            settings,
            now: 1_000_000,
            sent: Vec::new(),
            generation: 0,
            dir,
        };
        lab.start();
        lab
    }

    fn state(&self) -> PathBuf {
        self.dir.join(format!("state.{}", self.generation))
    }

    fn start(&mut self) {
        let state = self.state();
        let key = self.key();
        let (rules, references) = (self.rules.clone(), self.references.clone());
        let settings = self.settings.clone();
        let start = || -> Result<Engine, String> {
            let mut store = RedbStore::open_or_create(&state).map_err(|error| error.to_string())?;
            store
                .commit(&references, Durability::Immediate)
                .map_err(|error| error.to_string())?;
            Engine::new(Box::new(store), key, rules, settings).map_err(|error| error.to_string())
        };
        match start() {
            Ok(engine) => self.engine = Some(engine),
            Err(error) => panic!("the engine does not start: {error}"),
        }
    }

    /// The verifier's key.
    ///
    /// # Panics
    /// When its file is gone.
    pub fn key(&self) -> SigningKey {
        SigningKey::load(&self.dir.join("verifier.key")).unwrap_or_else(|error| panic!("{error}"))
    }

    /// The engine that runs now.
    ///
    /// # Panics
    /// Never: one always runs.
    pub fn engine(&mut self) -> &mut Engine {
        self.engine.as_mut().unwrap_or_else(|| panic!("no engine"))
    }

    /// Both clocks.
    pub fn now(&self) -> Now {
        Now {
            monotonic: Instant(self.now),
            unix: START + self.now,
        }
    }

    /// One datagram in, at most one out.
    pub fn handle(&mut self, peer: SocketAddr, datagram: &[u8]) -> Option<Vec<u8>> {
        let now = self.now();
        let reply = self.engine().handle(now, peer, datagram);
        self.sent.extend(reply.clone());
        reply
    }

    /// `kill -9` and start: what was committed as durable is there, the rest is gone. The engine's
    /// store writes on an orderly end, so its file is copied before that.
    ///
    /// # Panics
    /// When the file cannot be copied.
    pub fn crash(&mut self) {
        let before = self.state();
        self.generation += 1;
        let after = self.state();
        let copied = fs::DirBuilder::new()
            .mode(0o700)
            .create(&after)
            .and_then(|()| fs::copy(before.join(RedbStore::FILE), after.join(RedbStore::FILE)));
        copied.unwrap_or_else(|error| panic!("{}: {error}", after.display()));
        self.engine = None;
        self.start();
    }

    /// Stop and start in an orderly way.
    pub fn restart(&mut self) {
        self.engine = None;
        self.start();
    }

    /// What the operator does with `motectl device admit`.
    ///
    /// # Panics
    /// When the device is not there.
    pub fn admit(&mut self, device: &DeviceId) {
        let at = self.now().unix;
        let by = "test".to_owned();
        self.change(device, Admission::Admitted { by, at });
    }

    /// What the operator does with `motectl device refuse`.
    ///
    /// # Panics
    /// When the device is not there.
    pub fn refuse(&mut self, device: &DeviceId) {
        let at = self.now().unix;
        let by = "test".to_owned();
        self.change(device, Admission::Refused { by, at });
    }

    fn change(&mut self, device: &DeviceId, admission: Admission) {
        let store = self.engine().store();
        let changed = store.device(device).and_then(|record| {
            let mut record = record.unwrap_or_else(|| panic!("no device {device}"));
            record.admission = admission;
            store.commit(&[Change::PutDevice(*device, record)], Durability::Immediate)
        });
        changed.unwrap_or_else(|error| panic!("{error}"));
        self.engine().device_changed(device);
    }

    /// Adds a manifest that expects this of the boot: what the operator does with `motectl manifest add`.
    ///
    /// # Panics
    /// When it cannot be stored.
    pub fn expect(&mut self, boot: BootExpectations) {
        self.store(&references(Vec::new(), boot));
    }

    /// Adds a manifest that expects these PCR values.
    ///
    /// # Panics
    /// When it cannot be stored.
    pub fn expect_pcrs(&mut self, pcrs: StaticPcrs) {
        let manifest = Manifest::new("lab-pcrs", "1", None, Vec::new(), Vec::new(), pcrs);
        let manifest = manifest.unwrap_or_else(|error| panic!("{error}"));
        self.store(&signed(&manifest));
    }

    /// Adds a manifest that lists this buffer.
    ///
    /// # Panics
    /// When it cannot be stored.
    pub fn expect_buffer(&mut self, name: &str, digest: FileDigest) {
        let known = FileEntry {
            path: name.into(),
            digests: vec![digest],
        };
        let buffers = BufferExpectations {
            known: vec![known],
            ..BufferExpectations::default()
        };
        let manifest = Manifest::new("buf", "1", None, Vec::new(), Vec::new(), BTreeMap::new())
            .and_then(|manifest| manifest.with_buffers(buffers));
        let manifest = manifest.unwrap_or_else(|error| panic!("{error}"));
        self.store(&signed(&manifest));
    }

    /// Binds a policy to all devices: what the operator does with `motectl policy add` and `bind`.
    ///
    /// # Panics
    /// When it is none.
    pub fn bind(&mut self, policy: &str) {
        let make = || -> Result<[Change; 3], Box<dyn std::error::Error>> {
            let policy = policy::from_json(policy.as_bytes())?;
            let key = SigningKey::generate()?;
            let trusted = TrustedKey {
                key: key.public_key().clone(),
                uses: Uses {
                    manifests: false,
                    policies: true,
                },
            };
            let id = hex::encode(&key.public_key().key_id());
            let names = [policy.name.clone()];
            Ok([
                Change::PutObject(ObjectKind::Key, id, trusted.to_bytes()),
                Change::PutObject(
                    ObjectKind::Policy,
                    policy_object_name(&policy),
                    policy::sign(&policy, &key)?,
                ),
                Change::PutObject(ObjectKind::Binding, "all".into(), binding_bytes(&names)),
            ])
        };
        let changes = make().unwrap_or_else(|error| panic!("the policy: {error}"));
        self.store(&changes);
    }

    /// Lets files count that one of these keys signed: what `--ima-key` does.
    ///
    /// # Panics
    /// When they cannot be stored.
    pub fn allow_ima_keys(&mut self, keys: &Keyring) {
        let bytes = ima_keys_bytes(keys, &[]);
        self.store(&[Change::PutObject(ObjectKind::ImaKeys, "all".into(), bytes)]);
    }

    fn store(&mut self, changes: &[Change]) {
        let stored = self.engine().store().commit(changes, Durability::Immediate);
        stored.unwrap_or_else(|error| panic!("{error}"));
    }

    /// Adds the manifest of a firmware `valve`, each of whose components contains its own name.
    ///
    /// # Panics
    /// When it cannot be stored.
    pub fn add_firmware(&mut self, version: &str, components: &[&str]) {
        let components = components.iter().map(|name| ComponentEntry {
            name: (*name).to_owned(),
            digests: vec![FileDigest(digest_of(name))],
        });
        let make = || -> Result<[Change; 2], Box<dyn std::error::Error>> {
            let manifest = Manifest::new("valve", version, None, vec![], vec![], BTreeMap::new())?
                .with_firmware(components.collect())?;
            let key = SigningKey::generate()?;
            Ok(trust_and_add(key.public_key(), sign(&manifest, &key)?)?)
        };
        let changes = make().unwrap_or_else(|error| panic!("the manifest: {error}"));
        let stored = self
            .engine()
            .store()
            .commit(&changes, Durability::Immediate);
        stored.unwrap_or_else(|error| panic!("{error}"));
    }

    /// What `motectl` asks of the verifier.
    ///
    /// # Panics
    /// When the store cannot be read.
    pub fn ask(&mut self, request: &Request) -> Response {
        let now = self.now().unix;
        let (response, effect) = admin::handle(&mut self.engine().office(), now, request);
        match effect {
            Some(Effect::AdmissionChanged(id) | Effect::DeviceRemoved(id)) => {
                self.engine().device_changed(&id);
            }
            Some(Effect::PolicyChanged) => {
                let swept = self.engine().sweep(now, 100);
                swept.unwrap_or_else(|error| panic!("{error}"));
            }
            _ => {}
        }
        response
    }

    /// What the operator does with `motectl device endorse`.
    ///
    /// # Panics
    /// When the verifier computes another id of the key than the device.
    pub fn endorse(&mut self, device: &TokenDevice, name: Option<&str>) {
        let pem = PublicKey::from_point(&device.point()).and_then(|key| key.to_pem());
        let response = self.ask(&Request::DeviceEndorse {
            pem: pem.unwrap_or_else(|error| panic!("{error}")),
            ueid: device.ueid.as_ref().map(|ueid| crate::hex::encode(ueid)),
            by: "ann".to_owned(),
            name: name.map(ToOwned::to_owned),
        });
        match response {
            Response::Changed(summary) => assert_eq!(summary.id, device.id().to_string()),
            other => panic!("{other:?}"),
        }
    }

    /// Everything that is stored.
    ///
    /// # Panics
    /// When the store cannot be read.
    pub fn stored(&mut self) -> Stored {
        stored(self.engine().store()).unwrap_or_else(|error| panic!("{error}"))
    }
}

impl Default for Lab {
    fn default() -> Self {
        Self::new()
    }
}

fn stored(store: &dyn Store) -> Result<Stored, mote_verifier::store::StoreError> {
    const ALL: usize = 1_000_000;
    let devices: BTreeMap<_, _> = store.devices(None, ALL)?.into_iter().collect();
    let mut all = Stored {
        sessions: store.sessions(None, ALL)?.into_iter().collect(),
        logs: BTreeMap::new(),
        verdicts: BTreeMap::new(),
        deviations: BTreeMap::new(),
        devices,
    };
    for (id, record) in &all.devices {
        let boot = record.boot.as_ref().map_or(0, |boot| boot.number);
        all.logs.insert(*id, store.log(id, boot, 0, ALL)?);
        all.verdicts.insert(*id, store.verdicts(id, ALL)?);
        all.deviations.insert(*id, store.deviations(id, ALL)?);
    }
    Ok(all)
}

/// A manifest of these files and boot expectations, and trust in its key, as they are stored.
fn references(files: Vec<FileEntry>, boot: BootExpectations) -> [Change; 2] {
    let make = || -> Result<[Change; 2], Box<dyn std::error::Error>> {
        let manifest =
            Manifest::new("lab", "1", None, files, Vec::new(), BTreeMap::new())?.with_boot(boot)?;
        Ok(signed(&manifest))
    };
    make().unwrap_or_else(|error| panic!("the manifest: {error}"))
}

fn signed(manifest: &Manifest) -> [Change; 2] {
    let make = || -> Result<[Change; 2], Box<dyn std::error::Error>> {
        let key = SigningKey::generate()?;
        Ok(trust_and_add(key.public_key(), sign(manifest, &key)?)?)
    };
    make().unwrap_or_else(|error| panic!("the manifest: {error}"))
}
