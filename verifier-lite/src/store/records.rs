//! What the store holds about a device, as it is encoded (minicbor; fields are only ever added,
//! never renumbered, so that an older file stays readable).
//!
//! Times are Unix milliseconds of the verifier's clock.

use std::fmt;

use minicbor::{Decode, Encode};
use mote_schemas::message::{DeviceId, Kid, Tier};

use crate::evidence::KindId;

/// Whether a device may attest at all. Unlike its verdict, this is the operator's word.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Admission {
    /// Seen, and waiting for someone to decide.
    #[n(0)]
    Pending,
    /// May attest.
    #[n(1)]
    Admitted {
        /// Who or what decided: an operator's name, `allow-list`, `ek-certificate`.
        #[n(0)]
        by: String,
        /// When.
        #[n(1)]
        at: u64,
    },
    /// Must not attest.
    #[n(2)]
    Refused {
        /// Who or what decided.
        #[n(0)]
        by: String,
        /// When.
        #[n(1)]
        at: u64,
    },
}

/// A device that has said hello.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct DeviceRecord {
    /// Endorsement key, `TPMT_PUBLIC`.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub ek_public: Vec<u8>,
    /// Attestation key, `TPMT_PUBLIC`. Proven to be in the same TPM once a session exists.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub ak_public: Vec<u8>,
    /// Endorsement certificate, DER, if the device sent one.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub ek_certificate: Option<Vec<u8>>,
    /// The operator's name for it.
    #[n(3)]
    pub name: Option<String>,
    /// First hello.
    #[n(4)]
    pub enrolled_at: u64,
    /// Whether it may attest.
    #[n(5)]
    pub admission: Admission,
    /// The boot it is in. `None`: never attested.
    #[n(6)]
    pub boot: Option<BootState>,
    /// Last authentic message.
    #[n(7)]
    pub last_seen: Option<u64>,
    /// Its session: opening another ends this one.
    #[n(8)]
    pub session: Option<Kid>,
    /// Name and version of its agent.
    #[n(9)]
    pub software: Option<String>,
    /// A device without a TPM, which has no EK, no AK and no boot: its tokens.
    #[n(20)]
    pub token: Option<TokenState>,
    /// Why its endorsement certificate did not admit it when it enrolled, in words. `None`: it did, or
    /// there is none.
    #[n(30)]
    pub certificate_fault: Option<String>,
}

impl DeviceRecord {
    /// A device that has just been enrolled, and waits for admission. One without a TPM has neither key.
    pub fn new(ek_public: Vec<u8>, ak_public: Vec<u8>, enrolled_at: u64) -> Self {
        DeviceRecord {
            ek_public,
            ak_public,
            ek_certificate: None,
            name: None,
            enrolled_at,
            admission: Admission::Pending,
            boot: None,
            last_seen: None,
            session: None,
            software: None,
            token: None,
            certificate_fault: None,
        }
    }

    /// When the evidence came that its verdict rests on; `None`: there is none.
    pub fn evidence_at(&self) -> Option<u64> {
        let quoted = self.boot.as_ref().map(|boot| boot.quoted_at);
        let sent = || Some(self.last_token()?.at);
        quoted.filter(|at| *at > 0).or_else(sent)
    }

    /// Number of the boot that it is in, of those that have been seen.
    pub fn boot_number(&self) -> Option<u64> {
        let by_token = || Some(self.last_token()?.boot);
        self.boot.as_ref().map(|boot| boot.number).or_else(by_token)
    }

    /// Which kind of evidence it sends.
    pub fn kind(&self) -> KindId {
        if self.token.is_some() {
            KindId::Token
        } else {
            KindId::TpmIma
        }
    }

    /// Replaces what its evidence comes down to.
    pub(crate) fn set_content(&mut self, content: Content) {
        if let Some(boot) = &mut self.boot {
            boot.content = content;
        } else if let Some(last) = self.token.as_mut().and_then(|token| token.last.as_mut()) {
            last.content = content;
        }
    }

    /// The last token that was accepted.
    pub fn last_token(&self) -> Option<&TokenEvidence> {
        self.token.as_ref()?.last.as_ref()
    }
}

/// What is known of a device that sends tokens (`crate::evidence::token`).
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct TokenState {
    /// The key that was endorsed for it: an uncompressed P-256 point.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub key: Vec<u8>,
    /// The UEID that was endorsed with it, if one was.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub ueid: Option<Vec<u8>>,
    /// The last token that was accepted.
    #[n(2)]
    pub last: Option<TokenEvidence>,
}

/// An accepted token; verified again whenever it is used.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct TokenEvidence {
    /// The token as it came.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub token: Vec<u8>,
    /// The nonce that it answers.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub nonce: Vec<u8>,
    /// When that nonce was given out: only later ones may be answered from now on.
    #[n(2)]
    pub nonce_at: u64,
    /// When the token came.
    #[n(3)]
    pub at: u64,
    /// Counts the boots that were seen, from 1.
    #[n(4)]
    pub boot: u64,
    /// When this boot was first heard of.
    #[n(5)]
    pub since: u64,
    /// What it comes down to.
    #[n(6)]
    pub content: Content,
}

/// How far the log of the current boot has been received and certified.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct BootState {
    /// Counts the boots this verifier has seen of the device, from 1. Key of its log.
    #[n(0)]
    pub number: u64,
    /// `TPMS_CLOCK_INFO.resetCount` of the last accepted quote.
    #[n(1)]
    pub reset_count: u32,
    /// `TPMS_CLOCK_INFO.restartCount` of the last accepted quote.
    #[n(2)]
    pub restart_count: u32,
    /// `TPMS_CLOCK_INFO.clock` of the last accepted quote, milliseconds.
    #[n(3)]
    pub clock: u64,
    /// `TPMS_CLOCK_INFO.safe` of the last accepted quote.
    #[n(4)]
    pub clock_safe: bool,
    /// When this verifier first heard of this boot.
    #[n(5)]
    pub since: u64,
    /// When the last quote came that has been appraised, in this boot or an earlier one; 0 if none
    /// has. A quote whose records are withheld makes no verdict look fresh.
    #[n(6)]
    pub quoted_at: u64,
    /// Number of records that a quote has certified; those received beyond are the tail, which waits.
    #[n(7)]
    pub certified: u64,
    /// PCR values at `certified`, one entry for each bank.
    #[n(8)]
    pub pcrs: Vec<PcrBank>,
    /// PCRs that records went into: bit n is PCR n.
    #[n(9)]
    pub log_pcrs: u32,
    /// A quote that covers records which have not all arrived.
    #[n(10)]
    pub outstanding: Option<OutstandingQuote>,
    /// What the certified records come down to.
    #[n(11)]
    pub content: Content,
    /// What else the last accepted quote said, for rebuilding the next.
    #[n(12)]
    pub quoted: Option<Quoted>,
    /// Whether records beyond `certified` came by a prefix of their hash.
    #[n(13)]
    pub guessed: Option<bool>,
    /// Records below this number must come in full: a guess among them was wrong.
    #[n(14)]
    pub in_full: Option<u64>,
    /// Banks (`TPM_ALG_ID`) into which this kernel extends padded SHA-1. `None`: an older store; none.
    #[n(20)]
    pub padded_banks: Option<Vec<u16>>,
    /// The firmware's log. `None`: an older store; judged without.
    #[n(30)]
    pub boot_log: Option<BootLogState>,
    /// Whether the TPM has been restarted since a quote was certified last: its PCRs, and the log, may
    /// have started over.
    #[n(40)]
    pub restarted: Option<bool>,
}

impl BootState {
    /// A boot of which nothing is known yet.
    pub fn new(number: u64, since: u64) -> Self {
        BootState {
            number,
            reset_count: 0,
            restart_count: 0,
            clock: 0,
            clock_safe: true,
            since,
            quoted_at: 0,
            certified: 0,
            pcrs: Vec::new(),
            log_pcrs: 0,
            outstanding: None,
            content: Content::default(),
            quoted: None,
            guessed: None,
            in_full: None,
            padded_banks: None,
            restarted: None,
            boot_log: None,
        }
    }
}

/// The boot event log of one boot.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct BootLogState {
    /// SHA-256 of it, as the device named it; `None`: it has none.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub digest: Option<[u8; 32]>,
    /// Times that what was sent did not have this digest.
    #[n(1)]
    pub failures: u8,
    /// Not judged yet: it is awaited, or has come since the last quote.
    #[n(2)]
    pub due: bool,
}

/// What quotes of one boot have in common.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Quoted {
    /// `TPMS_ATTEST.firmwareVersion`.
    #[n(0)]
    pub firmware_version: u64,
    /// `TPML_PCR_SELECTION`.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub selection: Vec<u8>,
}

/// The appraisal of all certified records of a boot: it only gets worse until the next one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Content {
    /// [`Tier::None`] before the first.
    #[n(0)]
    pub tier: Tier,
    /// Tokens of the reason registry, in the order of their first record.
    #[n(1)]
    pub reasons: Vec<String>,
    /// Keys that the log has shown being added to a keyring that is learned from, DER.
    #[cbor(n(2), default)]
    pub learned_keys: Vec<minicbor::bytes::ByteVec>,
    /// Id of the effective policy that it was reached under; none before the first.
    #[cbor(n(3), with = "minicbor::bytes")]
    pub policy: Option<[u8; 32]>,
}

/// A quote that was verified when it came and is verified again whenever it is used.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct OutstandingQuote {
    /// `TPMS_ATTEST`.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub attest: Vec<u8>,
    /// `TPMT_SIGNATURE`.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub signature: Vec<u8>,
    /// The challenge it answers.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub extra_data: Vec<u8>,
    /// PCR values that came with it.
    #[n(3)]
    pub claims: Vec<PcrBank>,
    /// No record from this number on is covered: when so many have come, they must match.
    #[n(4)]
    pub records: u64,
    /// When it came.
    #[cbor(n(5), default)]
    pub at: u64,
}

/// The values of some PCRs of one bank.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct PcrBank {
    /// `TPM_ALG_ID` of the bank.
    #[n(0)]
    pub alg: u16,
    /// Values in the order of their index.
    #[n(1)]
    pub values: Vec<PcrValue>,
}

/// One PCR.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct PcrValue {
    /// 0 to 23.
    #[n(0)]
    pub index: u8,
    /// As long as the bank's digest.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub value: Vec<u8>,
}

/// Key material. `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(transparent)]
pub struct Secret(#[cbor(n(0), with = "minicbor::bytes")] pub Vec<u8>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({} bytes)", self.0.len())
    }
}

/// An OSCORE context that outlives the verifier's process. Its replay window does not: a restarted
/// verifier re-synchronises with Echo (RFC 8613, B.1.2).
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct SessionRecord {
    /// Whose.
    #[n(0)]
    pub device: DeviceId,
    /// OSCORE Master Secret.
    #[n(1)]
    pub master_secret: Secret,
    /// What the keys and every quote are bound to.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub transcript_hash: [u8; 32],
    /// No sender sequence number below this is free: after a restart, begin here.
    #[n(3)]
    pub sender_sequence_reserved: u64,
    /// Nonces given out and not used yet.
    #[n(4)]
    pub nonces: Vec<NonceRecord>,
    /// When the keys were made.
    #[n(5)]
    pub created: u64,
    /// SHA-256 of the boot event log, as open named it.
    #[cbor(n(6), with = "minicbor::bytes")]
    pub boot_log: Option<[u8; 32]>,
    /// The device deletes what it is told need not be kept.
    #[n(7)]
    pub deletes: Option<bool>,
}

/// A nonce given out: good for one quote, until it expires.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct NonceRecord {
    /// How a beat refers to it.
    #[n(0)]
    pub id: u64,
    /// What the quote must contain.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub value: Vec<u8>,
    /// Not accepted from this time on.
    #[n(2)]
    pub expires: u64,
}

/// One IMA record, shared by every device that has it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Record {
    /// Template name, such as `ima-ng`, or its format string.
    #[n(0)]
    pub template: Box<str>,
    /// Template data as the kernel hashed it.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub data: Vec<u8>,
    /// The PCR it was extended into.
    #[n(2)]
    pub pcr: u32,
    /// The kernel could not vouch for it: the list shows a zero template hash.
    #[n(3)]
    pub violation: bool,
}

/// A verdict. The history holds changes only; an unchanged verdict is the same entry still.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct VerdictRecord {
    /// When it was reached.
    #[n(0)]
    pub at: u64,
    /// Which boot it is about; 0 when the device has never attested.
    #[n(1)]
    pub boot: u64,
    /// What it comes down to.
    #[n(2)]
    pub tier: Tier,
    /// Why: tokens of the reason registry.
    #[n(3)]
    pub reasons: Vec<String>,
}

/// Something in the current boot that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Deviation {
    /// Token of the reason registry.
    #[n(0)]
    pub reason: String,
    /// When it was first appraised.
    #[n(1)]
    pub since: u64,
    /// Absolute number of the log record that shows it, if one does.
    #[n(2)]
    pub record: Option<u64>,
    /// PCR that shows it.
    #[n(3)]
    pub pcr: Option<u8>,
    /// Path as the kernel logged it; any bytes.
    #[cbor(n(4), with = "minicbor::bytes")]
    pub path: Option<Vec<u8>>,
    /// What was measured (a digest, a value).
    #[cbor(n(5), with = "minicbor::bytes")]
    pub measured: Option<Vec<u8>>,
    /// What would have been right. Empty: nothing would have been.
    #[n(6)]
    pub expected: Vec<Expected>,
    /// One more sentence that only this case has.
    #[n(7)]
    pub note: Option<String>,
}

/// A value that would have been right.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Expected {
    /// The value.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub value: Vec<u8>,
    /// Who says so: `name-version` of a manifest.
    #[n(1)]
    pub source: String,
}
