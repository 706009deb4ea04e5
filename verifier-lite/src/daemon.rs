//! `mote-verifier`: from a command line to a running [`crate::server`].

use std::fmt::Display;
use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use log::{info, warn};
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::admin::socket;
use crate::admission::AdmissionRules;
use crate::engine::{Engine, Settings};
use crate::hex;
use crate::ima_signature::Keyring;
use crate::manifest::{self, SignedManifest};
use crate::policy::{ManifestInfo, Policies, TrustedKey, Uses, ima_keys_bytes};
use crate::server;
use crate::signing_key::{PublicKey, SigningKey};
use crate::store::{Change, Durability, ObjectKind, RedbStore, Store, StoreError};

/// File name of the key that signs challenges, in the state directory; its public half is beside it.
pub(crate) const KEY: &str = "verifier.key";
const PUBLIC_KEY: &str = "verifier.pub";

/// How long to wait for a store that somebody else has open. motectl takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(3);

#[derive(Debug, Parser)]
#[command(
    name = "mote-verifier",
    version,
    max_term_width = 100,
    after_help = "\
Examples:
  mote-verifier --state /var/lib/mote --manifest edge-1.3.mote --manifest-key image.key.pub
  mote-verifier --state ./state --listen 127.0.0.1:5683 --interval 5

At the first start it makes its key: give DIR/verifier.pub to the agents (verifier_key).
New devices wait until `motectl device admit` unless --admit-ek or --ek-root admits them.
Stop it with SIGTERM or SIGINT; kill -9 loses nothing either."
)]
/// Appraises devices that attest with mote-agent.
struct Arguments {
    /// Where everything is kept: store, key, admin socket. Created when absent.
    #[arg(long, env = "MOTE_STATE", value_name = "DIR", default_value = crate::cli::DEFAULT_STATE)]
    state: PathBuf,

    /// UDP address to listen on.
    #[arg(
        long,
        env = "MOTE_LISTEN",
        value_name = "ADDR:PORT",
        default_value = "[::]:5683"
    )]
    listen: SocketAddr,

    /// TCP address to listen on for CoAP over TLS, such as [::]:5684.
    #[arg(
        long,
        env = "MOTE_LISTEN_TLS",
        value_name = "ADDR:PORT",
        requires = "tls_key"
    )]
    listen_tls: Option<SocketAddr>,

    /// Our certificate chain for TLS. Without it we show the key alone (RFC 7250): devices then need
    /// tls_pin = "raw:SHA256".
    #[arg(long, env = "MOTE_TLS_CERT", value_name = "PEM")]
    tls_cert: Option<PathBuf>,

    /// Our private key for TLS.
    #[arg(long, env = "MOTE_TLS_KEY", value_name = "PEM")]
    tls_key: Option<PathBuf>,

    /// Demand of every TLS peer a certificate that chains to a root in this file.
    #[arg(long, env = "MOTE_TLS_CLIENT_CA", value_name = "PEM")]
    tls_client_ca: Option<PathBuf>,

    /// Signed reference values of an image version, to be stored as by `motectl manifest add`; they
    /// stay until `motectl manifest remove`. May be given several times.
    #[arg(
        long,
        value_name = "FILE",
        env = "MOTE_MANIFEST",
        value_delimiter = ','
    )]
    manifest: Vec<PathBuf>,

    /// Public key whose manifests are believed, to be stored as by `motectl key trust`. May be given
    /// several times.
    #[arg(
        long,
        value_name = "PEM",
        env = "MOTE_MANIFEST_KEY",
        value_delimiter = ','
    )]
    manifest_key: Vec<PathBuf>,

    /// Certificates or public keys (PEM or DER) whose IMA signature accounts for a file that no manifest
    /// lists. May be given several times.
    #[arg(long, value_name = "FILE", env = "MOTE_IMA_KEY", value_delimiter = ',')]
    ima_key: Vec<PathBuf>,

    /// Kernel keyring whose measured additions are trusted as --ima-key, such as .ima. May be given
    /// several times.
    #[arg(long, value_name = "KEYRING", value_delimiter = ',', value_parser = Keyring::kernel_name)]
    ima_keyring: Vec<String>,

    /// Admit devices whose EK is listed here (SHA-256 of the TPMT_PUBLIC, one a line).
    #[arg(long, value_name = "FILE")]
    admit_ek: Vec<PathBuf>,

    /// Admit devices whose EK certificate chains to a root in this PEM file.
    #[arg(long, value_name = "PEM")]
    ek_root: Vec<PathBuf>,

    /// Certificates between roots and EK certificates, PEM.
    #[arg(long, value_name = "PEM")]
    ek_intermediate: Vec<PathBuf>,

    /// Seconds between heartbeats of a device.
    #[arg(long, value_name = "SECONDS", env = "MOTE_INTERVAL", default_value_t = Settings::default().interval)]
    interval: u32,

    /// Seconds for which a nonce may be answered. At least a few intervals.
    #[arg(long, value_name = "SECONDS", default_value_t = Settings::default().nonce_lifetime)]
    nonce_lifetime: u32,
}

/// What stopped the verifier, in words that say what to do.
struct Failure(String);

impl<E: Display> From<E> for Failure {
    fn from(error: E) -> Self {
        Failure(error.to_string())
    }
}

/// Runs the command line.
pub fn main() -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info")).init();
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure(why)) => {
            eprintln!("mote-verifier: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Failure> {
    // First what can be wrong with the command line, then what takes effect.
    let ima_keys = ima_keys(arguments)?;
    let rules = rules(arguments)?;
    let tls = match &arguments.tls_key {
        Some(key) => Some(server::tls::config(
            arguments.tls_cert.as_deref(),
            key,
            arguments.tls_client_ca.as_deref(),
        )?),
        None => None,
    };
    if arguments.interval == 0 || arguments.nonce_lifetime < arguments.interval {
        return Err("--interval must be at least 1, and --nonce-lifetime no shorter".into());
    }
    let mut store = open_store(&arguments.state)?;
    add_objects(&mut store, &arguments.manifest, &arguments.manifest_key)?;
    keep_ima_keys(&mut store, ima_keys.as_ref(), &arguments.ima_keyring)?;
    let key = key(&arguments.state)?;
    let settings = Settings {
        interval: arguments.interval,
        nonce_lifetime: arguments.nonce_lifetime,
        ..Settings::default()
    };
    let engine = Engine::new(Box::new(store), key, rules, settings)?;
    let socket = UdpSocket::bind(arguments.listen)
        .map_err(|error| format!("cannot listen on {}: {error}", arguments.listen))?;
    let secure = match arguments.listen_tls.zip(tls) {
        Some((address, config)) => {
            let listener = TcpListener::bind(address)
                .map_err(|error| format!("cannot listen on {address} for TLS: {error}"))?;
            info!("listening on {} for TLS", listener.local_addr()?);
            Some((listener, config))
        }
        None => None,
    };
    let operators = socket::listen(&arguments.state)?;
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    info!(
        "listening on {}, state in {}, public key in {}",
        socket.local_addr()?,
        arguments.state.display(),
        arguments.state.join(PUBLIC_KEY).display()
    );
    server::serve(engine, &socket, secure.as_ref(), &operators, &stop)?;
    socket::unlink(&arguments.state)?;
    info!("stopped");
    Ok(())
}

/// Stores the keys and manifests of the command line, and says what is in force.
fn add_objects(
    store: &mut RedbStore,
    manifests: &[PathBuf],
    keys: &[PathBuf],
) -> Result<(), Failure> {
    let trusted = keys
        .iter()
        .map(|file| PublicKey::load(file))
        .collect::<Result<Vec<_>, _>>()?;
    let policies = Policies::default();
    let catalog = policies.catalog(store)?;
    let mut changes = Vec::new();
    for key in &trusted {
        if !catalog.manifest_keys().any(|known| known == key) {
            let uses = Uses {
                manifests: true,
                policies: catalog.policy_keys().any(|known| known == key),
            };
            let id = hex::encode(&key.key_id());
            let key = key.clone();
            let bytes = TrustedKey { key, uses }.to_bytes();
            changes.push(Change::PutObject(ObjectKind::Key, id, bytes));
        }
    }
    let known: Vec<_> = catalog.manifest_keys().cloned().chain(trusted).collect();
    if !manifests.is_empty() && known.is_empty() {
        return Err(
            "manifests are believed only with --manifest-key, the key that signed them".into(),
        );
    }
    for file in manifests {
        let bytes = manifest::envelope::read_file(file, manifest::MAX_MANIFEST)?;
        let verified = SignedManifest::parse(&bytes)
            .and_then(|signed| signed.verify(&known))
            .map_err(|error| error.in_file(file))?;
        let stored = |info: &ManifestInfo| info.digest == verified.digest();
        if !catalog.manifests().iter().any(stored) {
            let name = hex::encode(&verified.digest());
            changes.push(Change::PutObject(ObjectKind::Manifest, name, bytes));
        }
    }
    if !changes.is_empty() {
        store.commit(&changes, Durability::Immediate)?;
    }
    let catalog = policies.catalog(store)?;
    if catalog.manifests().is_empty() {
        warn!("no manifest: every file that a device runs will be unknown (motectl manifest add)");
    }
    for manifest in catalog.manifests() {
        info!("manifest {}: {} files", manifest.label(), manifest.files);
    }
    for (target, names) in catalog.bindings() {
        info!("policy of {target}: {}", names.join(", "));
    }
    Ok(())
}

fn ima_keys(arguments: &Arguments) -> Result<Option<Keyring>, Failure> {
    if arguments.ima_key.is_empty() && arguments.ima_keyring.is_empty() {
        return Ok(None);
    }
    let mut keyring = Keyring::default();
    for file in &arguments.ima_key {
        keyring.add_file(file)?;
    }
    for kernel_keyring in &arguments.ima_keyring {
        keyring.learn_from(kernel_keyring);
    }
    for key in keyring.all() {
        info!("files may be signed by {} ({})", key.name(), key.ids()[0]);
    }
    Ok(Some(keyring))
}

/// Stores the keys of the command line in place of those of the last start, for whoever appraises.
fn keep_ima_keys(
    store: &mut RedbStore,
    keys: Option<&Keyring>,
    learn_from: &[String],
) -> Result<(), Failure> {
    let name = "all".to_owned();
    let bytes = keys.map(|keys| ima_keys_bytes(keys, learn_from));
    if store.object(ObjectKind::ImaKeys, &name)? == bytes {
        return Ok(());
    }
    let change = match bytes {
        Some(bytes) => Change::PutObject(ObjectKind::ImaKeys, name, bytes),
        None => Change::RemoveObject(ObjectKind::ImaKeys, name),
    };
    Ok(store.commit(&[change], Durability::Immediate)?)
}

fn rules(arguments: &Arguments) -> Result<AdmissionRules, Failure> {
    let mut rules = AdmissionRules::default();
    for file in &arguments.admit_ek {
        let text = String::from_utf8(read(file)?)?;
        rules
            .allow_listed(&text)
            .map_err(|error| in_file(file, &error))?;
    }
    for file in &arguments.ek_root {
        rules
            .trust_roots(&read(file)?)
            .map_err(|error| in_file(file, &error))?;
    }
    for file in &arguments.ek_intermediate {
        rules
            .add_intermediates(&read(file)?)
            .map_err(|error| in_file(file, &error))?;
    }
    Ok(rules)
}

/// Opens the store; waits a moment for a motectl that has it open.
fn open_store(state: &Path) -> Result<RedbStore, Failure> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match RedbStore::open_or_create(state) {
            Err(StoreError::Locked(..)) if Instant::now() < deadline => {
                thread::sleep(PATIENCE / 100);
            }
            other => return Ok(other?),
        }
    }
}

/// The key of the state directory, made at the first start.
fn key(state: &Path) -> Result<SigningKey, Failure> {
    let (private, public) = (state.join(KEY), state.join(PUBLIC_KEY));
    let key = if private.exists() {
        SigningKey::load(&private)?
    } else {
        SigningKey::create(&private)?
    };
    // The public half may be missing after a crash in between.
    let pem = key.public_key().to_pem()?;
    if fs::read_to_string(&public).ok().as_deref() != Some(&pem) {
        let temporary = state.join(format!(".{PUBLIC_KEY}.new"));
        fs::write(&temporary, &pem).map_err(|error| in_file(&temporary, &error))?;
        fs::rename(&temporary, &public).map_err(|error| in_file(&public, &error))?;
    }
    Ok(key)
}

fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    fs::read(file).map_err(|error: io::Error| in_file(file, &error))
}

fn in_file(file: &Path, error: &dyn Display) -> Failure {
    Failure(format!("{}: {error}", file.display()))
}
