//! The verifier's side of the conversation, sans-IO: a datagram and the time in, at most one datagram
//! out, everything that must not be forgotten in one commit before that.
//!
//! | module | what |
//! |---|---|
//! | `hello` | the exchange in the clear: challenges for who may be a device |
//! | `blockwise` | requests and replies in pieces (RFC 7959) |
//! | `channel` | OSCORE sessions, across restarts of this process |
//! | `evidence` | open, log and beat: from a protected message to a commit and a reply |
//! | `boot` | measured boot in a verdict |
//! | `boot_log` | boot event logs, by digest |
//! | `keys` | attestation keys, parsed |
//! | `long_record` | records that are longer than a datagram |
//! | `echo` | proof that a peer receives at its address (RFC 9175) |
//! | `token` | nonces and tokens of devices without a TPM |
//! | `refused` | hellos that were refused, for the operator |
//! | `discovery` | what is here, for whoever looks |
//! | `overload` | how many hellos a second |
//! | `outcome` | replies and refusals |
//! | `peer` | the other end of a link |
//!
//! **Who may lie.** Everyone. Addresses are forged, hellos claim anyone's keys; until a peer has
//! answered a challenge with its TPM, all that it can cost us is one entry of two bounded tables.
//! After that it is an enrolled device, which may still lie about everything that its TPM does not
//! sign.
//!
//! **What it never does.** It never sends more bytes to an address than came from there, until that
//! address has returned an Echo or an authentic message. It never protects two replies with one
//! nonce: every reply has a Partial IV of its own, from a counter that the store holds ahead. It
//! never changes stored state for a message that it refuses.

mod attest;
mod blockwise;
pub(crate) mod boot;
pub(crate) mod boot_log;
mod channel;
mod discovery;
mod echo;
mod evidence;
mod hello;
mod keys;
mod long_record;
mod outcome;
mod overload;
mod peer;
mod refused;
mod token;

use aws_lc_rs::rand;
use log::{debug, error};
use mote_schemas::coap::{self, Code, Dedup, Message, Parameters, Seen, Type, Writer};
use mote_schemas::limits::MAX_MESSAGE;
use mote_schemas::message::path;
use mote_schemas::oscore::OscoreOption;
use mote_schemas::reason::Reason;
use mote_schemas::time::Instant;
use mote_schemas::tpm::{HashAlg, hash};

use crate::admin::Office;
use crate::admission::AdmissionRules;
use crate::evidence::nonce::Nonces;
use crate::policy::{Policies, Sweep, Swept};
use crate::signing_key::SigningKey;
use crate::store::{Admission, DeviceId, DeviceRecord, Kid, Store, StoreError};
use blockwise::Transfers;
use channel::Channels;
use echo::EchoKey;
use hello::Hellos;
use keys::AttestationKeys;
use outcome::{Outcome, Refusal};
use overload::Bucket;
use refused::RefusedHellos;

pub use peer::Peer;
pub use refused::RefusedHello;

/// Messages remembered for de-duplication. At 2,048 messages in flight within their lifetime of four
/// minutes, a copy of an older one is processed again and stopped by the replay window instead.
const DEDUP: usize = 2048;

/// Bytes of stack on which a table is made that goes to the heap: unoptimised, it is copied a few times
/// on its way.
const TABLE_STACK: usize = 8 * 1024 * 1024;

/// Both clocks of the machine.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// For time-outs.
    pub monotonic: Instant,
    /// For the record: Unix milliseconds.
    pub unix: u64,
}

/// What the operator decides about the conversation.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Seconds between heartbeats.
    pub interval: u32,
    /// Seconds for which a nonce may be answered. A device that sleeps longer than this says hello
    /// again when it wakes.
    pub nonce_lifetime: u32,
    /// Challenges that may be open at once; the oldest goes first.
    pub max_challenges: usize,
    /// Most records of one device that may wait for a quote to certify them.
    pub max_uncertified: u64,
    /// Most devices that may wait for somebody to admit them: anyone with a TPM can be one.
    pub max_waiting: usize,
    /// Challenges made in a second; whoever asks for more is told when to come back. Each costs half
    /// a millisecond of public-key work, which anyone may cause.
    pub hellos_per_second: u32,
    /// Tokens whose signature is checked in a second without asking where they come from: a tenth of a
    /// millisecond each.
    pub tokens_per_second: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            interval: 300,
            nonce_lifetime: 86_400,
            max_challenges: 4096,
            max_uncertified: 500_000,
            max_waiting: 10_000,
            hellos_per_second: 200,
            tokens_per_second: 500,
        }
    }
}

/// The verifier, less its sockets and clock.
pub struct Engine {
    store: Box<dyn Store>,
    key: SigningKey,
    rules: AdmissionRules,
    policies: Policies,
    settings: Settings,
    echo: EchoKey,
    dedup: Box<Dedup<Peer, Option<Box<Answered>>, DEDUP>>,
    transfers: Transfers<Peer>,
    /// The same, inside OSCORE.
    protected_transfers: Transfers<Kid>,
    hellos: Hellos,
    refused: RefusedHellos,
    bucket: Bucket,
    /// For tokens of addresses that have returned no Echo.
    tokens: Bucket,
    nonces: Nonces,
    channels: Channels,
    keys: AttestationKeys,
    swept: Sweep,
    /// Devices that wait for admission.
    waiting: usize,
}

/// A reply, for copies of its request.
struct Answered {
    /// SHA-256 of the request: a copy has the same.
    request: [u8; 32],
    reply: Vec<u8>,
}

/// Anything that went wrong inside; the peer hears of it as 5.00.
#[derive(Debug)]
pub enum Internal {
    /// The store.
    Store(StoreError),
    /// The cryptographic library, or a reply that does not fit a message.
    Other(&'static str),
}

impl From<StoreError> for Internal {
    fn from(error: StoreError) -> Self {
        Internal::Store(error)
    }
}

impl std::fmt::Display for Internal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Internal::Store(error) => error.fmt(f),
            Internal::Other(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for Internal {}

impl Engine {
    /// A verifier that signs challenges with `key` and remembers in `store`.
    pub fn new(
        store: Box<dyn Store>,
        key: SigningKey,
        rules: AdmissionRules,
        settings: Settings,
    ) -> Result<Self, Internal> {
        let secret = random::<32>()?;
        Ok(Engine {
            rules,
            policies: Policies::default(),
            swept: Sweep::default(),
            echo: EchoKey::new(&secret),
            dedup: on_the_heap(|| Dedup::new(&Parameters::default()))?,
            transfers: Transfers::new()?,
            protected_transfers: Transfers::new()?,
            hellos: Hellos::new(settings.max_challenges),
            refused: RefusedHellos::default(),
            bucket: Bucket::new(settings.hellos_per_second),
            tokens: Bucket::new(settings.tokens_per_second),
            nonces: Nonces::new(&key).map_err(|_| Internal::Other("the verifier's key"))?,
            channels: Channels::default(),
            keys: AttestationKeys::default(),
            waiting: waiting(store.as_ref())?,
            key,
            store,
            settings,
        })
    }

    /// Answers one datagram from `peer`. Never panics and never fails: what cannot be answered is
    /// logged and, where CoAP allows it, refused.
    pub fn handle(&mut self, now: Now, peer: impl Into<Peer>, datagram: &[u8]) -> Option<Vec<u8>> {
        self.answer(now, peer.into(), datagram)
    }

    fn answer(&mut self, now: Now, peer: Peer, datagram: &[u8]) -> Option<Vec<u8>> {
        let message = match Message::parse(datagram) {
            Ok(message) if message.code().is_request() => message,
            // Malformed, a ping, or a response to nothing (RFC 7252, 4.2 and 4.3).
            _ => return coap::reject(datagram).map(Vec::from),
        };
        // RFC 8323, 2: a stream repeats nothing, and its peer receives what is sent to it.
        if matches!(peer, Peer::Stream(_)) {
            return self.serve(now, peer, &message, usize::MAX);
        }
        let id = message.message_id();
        match self.dedup.check(now.monotonic, &peer, id, message.kind()) {
            Seen::New => {}
            Seen::Pending => return None,
            Seen::Replied(answered) => {
                // What only has the message ID gets nothing: the reply may be longer than it.
                let copy = answered.as_ref().filter(|a| a.request == sha256(datagram));
                return copy.map(|answered| answered.reply.clone());
            }
        }
        let reply = self.serve(now, peer, &message, datagram.len());
        let answered = reply.clone().map(|reply| {
            let request = sha256(datagram);
            Box::new(Answered { request, reply })
        });
        // A reply that was pushed out of the table meanwhile: a copy will be processed again.
        let _ = self.dedup.reply(&peer, id, answered);
        reply
    }

    /// The reply to a request, of at most `unverified` bytes as long as the peer may be anybody.
    fn serve(
        &mut self,
        now: Now,
        peer: Peer,
        message: &Message<'_>,
        unverified: usize,
    ) -> Option<Vec<u8>> {
        match self.request(now, peer, message) {
            Ok(outcome) => outcome.encode(message, unverified),
            Err(internal) => {
                error!("{peer}: {internal}");
                Outcome::clear(Code::INTERNAL_SERVER_ERROR).encode(message, unverified)
            }
        }
    }

    /// Makes everything durable that was only batched. Call at least once a second.
    pub fn flush(&mut self) -> Result<(), StoreError> {
        self.store.flush()
    }

    /// The store, for the operator's requests.
    pub fn store(&mut self) -> &mut dyn Store {
        self.store.as_mut()
    }

    /// Appraises up to `max` devices anew where the operator has changed what is allowed: see
    /// [`Sweep::go_on`].
    pub fn sweep(&mut self, now: u64, max: usize) -> Result<Swept, StoreError> {
        let store = self.store.as_mut();
        self.swept.go_on(store, &self.policies, now, max)
    }

    /// The store, its policies and the verifier's key, for the operator's requests.
    pub fn office(&mut self) -> Office<'_> {
        Office {
            store: self.store.as_mut(),
            policies: &self.policies,
            key: Some(&self.key),
            refused: self.refused.all(),
        }
    }

    /// Forgets what is cached of a device whose stored record somebody else has changed.
    pub fn device_changed(&mut self, device: &DeviceId) {
        self.hellos.forget(device);
        self.channels.forget(device);
        match waiting(self.store.as_ref()) {
            Ok(count) => self.waiting = count,
            Err(error) => error!("{error}"),
        }
    }

    fn request(
        &mut self,
        now: Now,
        peer: Peer,
        message: &Message<'_>,
    ) -> Result<Outcome, Internal> {
        let body = message.body();
        match OscoreOption::of(message) {
            Some(Ok(OscoreOption { kid: Some(kid), .. })) => {
                return self.protected(now, message, kid);
            }
            Some(_) => return Ok(Outcome::clear(Code::BAD_OPTION)),
            None => {}
        }
        if discovery::is_asked(&body) {
            return Ok(discovery::answer(&body));
        }
        if let Some(number) = body.unrecognised_critical(hello::OPTIONS) {
            debug!("{peer}: critical option {number} not understood");
            return Ok(Outcome::clear(Code::BAD_OPTION));
        }
        if body.path_is(&[path::HELLO]) {
            if message.code() != Code::POST {
                return Ok(Outcome::clear(Code::METHOD_NOT_ALLOWED));
            }
            return self.hello(now, peer, &body);
        }
        if body.path_is(&[path::NONCE]) || body.path_is(&[path::EVIDENCE]) {
            if message.code() != Code::POST {
                return Ok(Outcome::clear(Code::METHOD_NOT_ALLOWED));
            }
            return if body.path_is(&[path::NONCE]) {
                self.token_nonce(now, &body)
            } else {
                self.wrapped(now, peer, &body)
            };
        }
        let protected = [path::OPEN, path::LOG, path::BEAT, path::BOOT, path::RECORD];
        if protected.iter().any(|p| body.path_is(&[p])) {
            // RFC 8613, 8.2: it must be protected.
            return Ok(Outcome::refused(
                Code::UNAUTHORIZED,
                Refusal::new(Reason::SessionUnknown, "say hello first"),
            ));
        }
        Ok(Outcome::clear(Code::NOT_FOUND))
    }
}

/// Makes a large table without the caller's stack, which may be a thread's 2 MiB.
fn on_the_heap<T: Send>(make: impl FnOnce() -> T + Send) -> Result<Box<T>, Internal> {
    let none = |_| Internal::Other("no thread to be had");
    std::thread::scope(|scope| {
        let builder = std::thread::Builder::new().stack_size(TABLE_STACK);
        let thread = builder.spawn_scoped(scope, || Box::new(make()));
        // An empty table panics at nothing.
        let table = thread.map_err(none)?.join();
        table.map_err(|_| Internal::Other("a table cannot be made"))
    })
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut digest = [0; 32];
    digest.copy_from_slice(hash(HashAlg::Sha256, &[bytes]).as_bytes());
    digest
}

/// Devices that wait for admission.
fn waiting(store: &dyn Store) -> Result<usize, StoreError> {
    const PAGE: usize = 1000;
    let (mut count, mut after) = (0, None);
    loop {
        let page = store.devices(after.as_ref(), PAGE)?;
        let waits = |record: &DeviceRecord| record.admission == Admission::Pending;
        count += page.iter().filter(|(_, record)| waits(record)).count();
        match page.last() {
            Some((last, _)) if page.len() == PAGE => after = Some(*last),
            _ => return Ok(count),
        }
    }
}

/// `N` unpredictable bytes.
fn random<const N: usize>() -> Result<[u8; N], Internal> {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).map_err(|_| Internal::Other("no randomness to be had"))?;
    Ok(bytes)
}

/// An unprotected response to `request` in a buffer of its own.
fn response(
    request: &Message<'_>,
    code: Code,
    options: &[(u16, Vec<u8>)],
    payload: &[u8],
) -> Result<Vec<u8>, Internal> {
    let kind = match request.kind() {
        Type::Confirmable => Type::Acknowledgement,
        _ => Type::NonConfirmable,
    };
    let mut buffer = [0; MAX_MESSAGE];
    let write = |buffer: &mut [u8]| {
        let mut writer = Writer::new(buffer, kind, code, request.message_id(), request.token())?;
        for (number, value) in options {
            writer = writer.option(*number, value)?;
        }
        writer.payload(payload)
    };
    let len = write(&mut buffer).map_err(|_| Internal::Other("a reply does not fit a message"))?;
    Ok(buffer[..len].to_vec())
}
