//! hello: who knocks, and a challenge that only the right TPM can answer.
//!
//! Nothing is enrolled here. A hello and its challenge live in a bounded table until the peer opens
//! the session with the keys that the challenge delivers; only that proves that EK and AK are in one
//! TPM, so nobody can squat on another device's identity.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use aws_lc_rs::rand;
use log::info;
use minicbor::encode::write::Writer as IoWriter;
use mote_schemas::cbor::{self, Bytes};
use mote_schemas::coap::options::OptionSpec;
use mote_schemas::coap::{Body, Code, option};
use mote_schemas::cose::{Sign1, sig_structure};
use mote_schemas::limits::MAX_MESSAGE;
use mote_schemas::message::{Challenge, Hello, VERSION};
use mote_schemas::reason::Reason;
use mote_schemas::time::Instant;
use mote_schemas::tpm::Public;
use mote_schemas::transcript::{HelloDigest, Transcript};
use rustls_pki_types::UnixTime;
use zeroize::Zeroizing;

use super::blockwise::Whole;
use super::channel::{Channel, RESERVE};
use super::outcome::{Outcome, Refusal};
use super::{Engine, Internal, Now, Peer, random};
use crate::admission::Admission as Decision;
use crate::credential::EndorsementKey;
use crate::signature::VerifyingKey;
use crate::store::{DeviceId, Kid, Secret, SessionRecord};

/// Options that a hello may carry.
pub(super) const OPTIONS: &[OptionSpec] = &[
    OptionSpec::URI_HOST,
    OptionSpec::URI_PORT,
    OptionSpec::URI_PATH,
    OptionSpec::CONTENT_FORMAT,
    OptionSpec::ACCEPT,
    OptionSpec::BLOCK2,
    OptionSpec::BLOCK1,
    OptionSpec::ECHO,
    OptionSpec::REQUEST_TAG,
];

/// How long a challenge may be answered. A TPM may take many seconds to create its keys, and on a slow
/// link minutes pass each way, with retransmissions in between.
const CHALLENGE_LIFETIME: Duration = Duration::from_secs(1200);

/// Bytes of a kid: 2^24 sessions; collisions are looked for.
const KID: usize = 3;

/// A challenge that has not been answered, with the session that its answer will open.
pub(super) struct Pending {
    pub(super) keys: Keys,
    pub(super) channel: Channel,
    /// The nonce of open's quote.
    pub(super) nonce: [u8; 16],
    expires: Instant,
}

impl Pending {
    /// Its device is at it: more time from `now` on.
    pub(super) fn prolong(&mut self, now: Instant) {
        self.expires = now + CHALLENGE_LIFETIME;
    }
}

/// The bounded table of challenges.
pub(super) struct Hellos {
    max: usize,
    pending: HashMap<Kid, Pending>,
    order: VecDeque<Kid>,
}

impl Hellos {
    pub(super) fn new(max: usize) -> Self {
        Hellos {
            max: max.max(1),
            pending: HashMap::new(),
            order: VecDeque::new(),
        }
    }

    /// Takes a challenge out of the table, unless it has expired.
    pub(super) fn take(&mut self, kid: &Kid, now: Instant) -> Option<Pending> {
        let pending = self.pending.remove(kid)?;
        self.order.retain(|k| k != kid);
        (now < pending.expires).then_some(pending)
    }

    pub(super) fn forget(&mut self, device: &DeviceId) {
        self.pending
            .retain(|_, pending| pending.channel.record.device != *device);
        let pending = &self.pending;
        self.order.retain(|kid| pending.contains_key(kid));
    }

    pub(super) fn insert(&mut self, kid: Kid, pending: Pending) {
        while self.order.len() >= self.max {
            if let Some(oldest) = self.order.pop_front() {
                self.pending.remove(&oldest);
            }
        }
        self.order.push_back(kid);
        self.pending.insert(kid, pending);
    }
}

/// The keys that a hello claims, or that its device is enrolled with.
pub(super) struct Keys {
    pub(super) ek_public: Vec<u8>,
    pub(super) ak_public: Vec<u8>,
    pub(super) ek_certificate: Option<Vec<u8>>,
}

impl Engine {
    pub(super) fn hello(
        &mut self,
        now: Now,
        peer: Peer,
        body: &Body<'_>,
    ) -> Result<Outcome, Internal> {
        let refuse = |code, reason, detail: &dyn ToString| {
            Ok(Outcome::refused(
                code,
                Refusal::new(reason, &detail.to_string()),
            ))
        };
        let Whole {
            blocks,
            challenge,
            payload,
        } = match self.whole(now, &peer, body) {
            Ok(whole) => whole,
            Err(answer) => return Ok(answer),
        };
        let hello: Hello<'_> = match cbor::decode(&payload) {
            Ok(hello) => hello,
            Err(error) => {
                return refuse(Code::BAD_REQUEST, Reason::MessageMalformed, &error);
            }
        };
        if hello.version != VERSION {
            let detail = format!("this verifier speaks version {VERSION}");
            return refuse(Code::BAD_REQUEST, Reason::VersionUnsupported, &detail);
        }
        let device = hello.device;
        let known = self.store.device(&device)?;
        if let Some(challenge) = &challenge {
            // The same reply says whether its keys are needed.
            let code = match &known {
                Some(_) => Code::UNAUTHORIZED,
                None => Code::NOT_FOUND,
            };
            return Ok(Outcome::clear(code).option(option::ECHO, challenge));
        }
        let keys = match (known, hello.keys) {
            (Some(known), presented) => {
                if presented.is_some_and(|keys| keys.ak_public.get() != known.ak_public) {
                    let detail = "this EK is enrolled with another AK; if the TPM was cleared on purpose, \
                         remove the device on the verifier and let it enrol again";
                    let refusal = Refusal::new(Reason::AkMismatch, detail);
                    self.refused.note(device, peer, &refusal, now.unix);
                    return Ok(Outcome::refused(Code::FORBIDDEN, refusal));
                }
                Keys {
                    ek_public: known.ek_public,
                    ak_public: known.ak_public,
                    ek_certificate: known.ek_certificate,
                }
            }
            (None, None) => {
                return refuse(
                    Code::NOT_FOUND,
                    Reason::DeviceUnknown,
                    &"say hello with keys",
                );
            }
            (None, Some(keys)) => Keys {
                ek_public: keys.ek_public.get().to_vec(),
                ak_public: keys.ak_public.get().to_vec(),
                ek_certificate: keys.ek_certificate.map(|der| der.get().to_vec()),
            },
        };
        if let Err(seconds) = self.bucket.take(now.monotonic) {
            return Ok(busy(seconds));
        }
        match self.challenge(now, device, &payload, keys)? {
            Ok(reply) => Ok(self
                .transfers
                .in_blocks(now.monotonic, peer, &blocks, reply)
                .for_verified_address()),
            Err(refusal) => {
                info!(
                    "device {device} at {peer} refused: {}: {}",
                    refusal.reason.token(),
                    refusal.detail
                );
                self.refused.note(device, peer, &refusal, now.unix);
                Ok(Outcome::refused(Code::FORBIDDEN, refusal).for_verified_address())
            }
        }
    }

    /// Makes a challenge for these keys and remembers it; the reply's COSE_Sign1.
    fn challenge(
        &mut self,
        now: Now,
        device: DeviceId,
        hello: &[u8],
        keys: Keys,
    ) -> Result<Result<Vec<u8>, Refusal>, Internal> {
        let (ek, ak) = match check_keys(&device, &keys) {
            Ok(checked) => checked,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let unix = UnixTime::since_unix_epoch(Duration::from_millis(now.unix));
        if let Decision::Refused(error) =
            self.rules
                .decide(&ek.1, keys.ek_certificate.as_deref(), unix)
        {
            return Ok(Err(Refusal::new(error.reason(), &error)));
        }
        let secret = Zeroizing::new(random::<32>()?);
        let nonce = random::<16>()?;
        let kid = self.free_kid()?;
        let credential = match ek.0.make_credential(ak.name(), &*secret) {
            Ok(credential) => credential,
            Err(error) => return Ok(Err(Refusal::new(error.reason(), &error))),
        };
        let challenge = Challenge {
            version: VERSION,
            random: nonce,
            credential_blob: Bytes::new(&credential.blob)
                .ok_or(Internal::Other("credential blob"))?,
            encrypted_secret: Bytes::new(&credential.encrypted_secret)
                .ok_or(Internal::Other("encrypted secret"))?,
            kid,
        };
        let mut payload = [0; MAX_MESSAGE];
        let len = cbor::encode(&challenge, &mut payload)
            .map_err(|_| Internal::Other("a challenge does not fit a message"))?;
        let payload = &payload[..len];
        let digest = HelloDigest::of(hello);
        let transcript = Transcript::new(digest, payload);
        let reply = self.sign(digest.as_bytes(), payload)?;
        let record = SessionRecord {
            device,
            master_secret: Secret(transcript.master_secret(&*secret).to_vec()),
            transcript_hash: *transcript.as_bytes(),
            // Nobody else can use these keys before the session is stored.
            sender_sequence_reserved: RESERVE,
            nonces: Vec::new(),
            created: now.unix,
            boot_log: None,
            deletes: None,
        };
        let pending = Pending {
            keys,
            channel: Channel::new(&kid, record)?,
            nonce,
            expires: now.monotonic + CHALLENGE_LIFETIME,
        };
        self.hellos.insert(kid, pending);
        Ok(Ok(reply))
    }

    /// A COSE_Sign1 by the verifier's key.
    pub(super) fn sign(&self, aad: &[u8], payload: &[u8]) -> Result<Vec<u8>, Internal> {
        let failed = |_| Internal::Other("signing a challenge failed");
        let mut signed = IoWriter::new(Vec::new());
        sig_structure(aad, payload, &mut signed).map_err(|_| Internal::Other("Sig_structure"))?;
        let signature = self.key.sign(&signed.into_inner()).map_err(failed)?;
        let mut reply = IoWriter::new(Vec::new());
        let sign1 = Sign1 {
            payload,
            kid: None,
            signature: &signature,
        };
        sign1
            .write(&mut reply)
            .map_err(|_| Internal::Other("COSE_Sign1"))?;
        Ok(reply.into_inner())
    }

    /// A kid that no session and no challenge has.
    fn free_kid(&self) -> Result<Kid, Internal> {
        loop {
            let mut bytes = [0; KID];
            rand::fill(&mut bytes).map_err(|_| Internal::Other("no randomness to be had"))?;
            let kid = Kid::new(&bytes).ok_or(Internal::Other("kid"))?;
            if !self.hellos.pending.contains_key(&kid) && self.store.session(&kid)?.is_none() {
                return Ok(kid);
            }
        }
    }
}

/// Come back after so many seconds.
pub(super) fn busy(seconds: u32) -> Outcome {
    let busy = Refusal::new(Reason::VerifierBusy, "too many at once; come back later");
    let bytes = seconds.to_be_bytes();
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    Outcome::refused(Code::SERVICE_UNAVAILABLE, busy).option(option::MAX_AGE, &bytes[zeros..])
}

type Checked<'k> = ((EndorsementKey, Public<'k>), VerifyingKey);

/// Whether these keys can attest at all, and belong to this id.
fn check_keys<'k>(device: &DeviceId, keys: &'k Keys) -> Result<Checked<'k>, Refusal> {
    let ek = Public::parse(&keys.ek_public)
        .map_err(|error| Refusal::new(Reason::EkUnsuitable, &error))?;
    let ak = Public::parse(&keys.ak_public)
        .map_err(|error| Refusal::new(Reason::AkUnsuitable, &error))?;
    if DeviceId::of_ek(&keys.ek_public) != *device {
        return Err(Refusal::new(
            Reason::DeviceIdMismatch,
            "the device id is not that of the EK",
        ));
    }
    let endorsement =
        EndorsementKey::new(&ek).map_err(|error| Refusal::new(error.reason(), &error))?;
    let attestation =
        VerifyingKey::new(&ak).map_err(|error| Refusal::new(error.reason(), &error))?;
    Ok(((endorsement, ek), attestation))
}
