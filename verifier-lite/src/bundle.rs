//! Evidence in a file, appraised: what `mote-agent evidence` wrote, for firmware CI and for devices that
//! no network reaches (`cbor-schemas/cddl/evidence.cddl`).
//!
//! The same stages as for a device that is there: [`Bundle::parse`], then [`VerifiedQuote`], then
//! [`Certified`], then [`appraise`] and [`boot::appraise`]. One thing is missing: nobody can challenge a file's TPM to activate a
//! credential, so nothing in it says whose the attestation key is. Who appraises must know the key
//! ([`AkTrust`]).
//!
//! **Who may lie**: whoever made or carried the file, about everything that the quote does not bear out.

use std::collections::BTreeMap;
use std::fmt;

use mote_schemas::bundle::{Header, Item, VERSION, looks_like, qualifying_data};
use mote_schemas::cbor::{self, CborError};
use mote_schemas::ima::{Endian, ListError, ListFormat, ListParser, Step};
use mote_schemas::message::{DeviceId, PcrBanks, Tier};
use mote_schemas::pcr::PcrValues;
use mote_schemas::reason::Reason;
use mote_schemas::tpm::{ClockInfo, Digest, HashAlg, PcrSelection, Public};

use crate::appraise::{Deviation, ReferenceLookup, appraise};
use crate::boot;
use crate::policy::{self, EffectivePolicy, Settled};
use crate::prefix::{
    Certified, IMA_PCR, LogState, Outcome, PendingLog, PrefixError, values_by_bank,
};
use crate::quote::{QuoteError, VerifiedQuote};
use crate::signature::{VerifyingKey, VerifyingKeyError};
use crate::store::{BootState, Content, Record};

/// Largest evidence file, in bytes: half a million records with signatures are about 200 MB.
pub const MAX_BUNDLE: u64 = 512 << 20;

/// Why evidence in a file is refused, or proves nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BundleError {
    /// Some other kind of file.
    NotEvidence,
    /// Evidence of a newer version.
    Version(u8),
    /// Not the CBOR that it should be; the offset is that in the file.
    Cbor(CborError),
    /// The file ends before its end marker.
    CutOff,
    /// Bytes behind its end marker, at this offset.
    Trailing(usize),
    /// The end marker counts other bytes of log than there are.
    Length,
    /// Made for another nonce than the one asked for.
    Nonce,
    /// The attestation key's public area is none.
    PublicArea(&'static str),
    /// Not by the attestation key that was asked for.
    OtherAk,
    /// The attestation key could sign anything, or is not bound to its TPM.
    Ak(VerifyingKeyError),
    /// The quote does not verify.
    Quote(QuoteError),
    /// The measurement list cannot be cut into records.
    List(ListError),
    /// The measurement list ends inside a record, at this offset.
    ListEnds(u64),
    /// The list and the TPM disagree.
    Prefix(PrefixError),
}

impl BundleError {
    /// The reason to give.
    pub fn reason(&self) -> Reason {
        match self {
            BundleError::NotEvidence
            | BundleError::Cbor(_)
            | BundleError::CutOff
            | BundleError::Trailing(_)
            | BundleError::Length => Reason::MessageMalformed,
            BundleError::Version(_) => Reason::VersionUnsupported,
            BundleError::Nonce => Reason::QuoteWrongNonce,
            BundleError::OtherAk => Reason::AkMismatch,
            BundleError::PublicArea(_) => Reason::AkUnsuitable,
            BundleError::Ak(error) => error.reason(),
            BundleError::Quote(error) => error.reason(),
            BundleError::List(_) | BundleError::ListEnds(_) => Reason::RecordMalformed,
            BundleError::Prefix(error) => error.reason(),
        }
    }
}

impl fmt::Display for BundleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BundleError::NotEvidence => {
                f.write_str("not evidence; make it with `mote-agent evidence -o FILE`")
            }
            BundleError::Version(version) => write!(
                f,
                "evidence of version {version}; this motectl reads version {VERSION}"
            ),
            BundleError::Cbor(error) => write!(f, "damaged: {error}"),
            BundleError::CutOff => {
                f.write_str("cut off: the end is missing; copy it again, or make it again")
            }
            BundleError::Trailing(offset) => {
                write!(f, "damaged: bytes behind the end, at offset {offset}")
            }
            BundleError::Length => {
                f.write_str("damaged: the end counts other bytes of log than there are")
            }
            BundleError::Nonce => f.write_str("made for another nonce than the one given"),
            BundleError::PublicArea(which) => write!(f, "the {which} key is no TPMT_PUBLIC"),
            BundleError::OtherAk => f.write_str(
                "by another attestation key than the one given: another device, or another TPM",
            ),
            BundleError::Ak(error) => error.fmt(f),
            BundleError::Quote(error) => error.fmt(f),
            BundleError::List(error) => error.fmt(f),
            BundleError::ListEnds(offset) => {
                write!(f, "the IMA list ends inside the record at offset {offset}")
            }
            BundleError::Prefix(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for BundleError {}

impl From<QuoteError> for BundleError {
    fn from(error: QuoteError) -> Self {
        BundleError::Quote(error)
    }
}

impl From<PrefixError> for BundleError {
    fn from(error: PrefixError) -> Self {
        BundleError::Prefix(error)
    }
}

/// How the attestation key is known.
#[derive(Clone, Copy, Debug)]
pub enum AkTrust<'a> {
    /// It must have this `TPMT_PUBLIC`, learned from an enrolment or from earlier evidence.
    Known(&'a [u8]),
    /// It is believed as it comes: what is proved is that *some* TPM is in this state.
    FirstUse,
}

/// An evidence file, read: all of it claims.
#[derive(Clone, Debug)]
pub struct Bundle<'a> {
    header: Header<'a>,
    list: Vec<u8>,
    boot_log: Vec<u8>,
}

impl<'a> Bundle<'a> {
    /// Reads a whole file.
    pub fn parse(file: &'a [u8]) -> Result<Self, BundleError> {
        if !looks_like(file) {
            return Err(BundleError::NotEvidence);
        }
        let (header, mut at) = item::<Header<'_>>(file, 0)?;
        if header.version != VERSION {
            return Err(BundleError::Version(header.version));
        }
        let (mut list, mut boot_log) = (Vec::new(), Vec::new());
        loop {
            let (next, end) = item(file, at)?;
            at = end;
            match next {
                Item::Ima(data) => list.extend_from_slice(data.get()),
                Item::Boot(data) => boot_log.extend_from_slice(data.get()),
                Item::End { ima, boot } => {
                    if (list.len() as u64, boot_log.len() as u64) != (ima, boot) {
                        return Err(BundleError::Length);
                    }
                    if at != file.len() {
                        return Err(BundleError::Trailing(at));
                    }
                    return Ok(Bundle {
                        header,
                        list,
                        boot_log,
                    });
                }
            }
        }
    }

    /// The nonce that it was made for, as claimed.
    pub fn nonce(&self) -> &'a [u8] {
        self.header.nonce.get()
    }

    /// `TPMT_PUBLIC` of the attestation key, as claimed.
    pub fn ak_public(&self) -> &'a [u8] {
        self.header.keys.ak_public.get()
    }

    /// Verifies quote and log, and judges what they certify.
    pub fn appraise<R: ReferenceLookup + ?Sized>(
        &self,
        nonce: &[u8],
        ak: AkTrust<'_>,
        reference: &R,
    ) -> Result<Verdict, BundleError> {
        Ok(self.verify(nonce, ak)?.appraise(reference))
    }

    /// Verifies quote and log: the only way to a [`VerifiedBundle`].
    pub fn verify(&self, nonce: &[u8], ak: AkTrust<'_>) -> Result<VerifiedBundle, BundleError> {
        // First, since the nonce is what people get wrong.
        if self.header.nonce.get() != nonce {
            return Err(BundleError::Nonce);
        }
        if let AkTrust::Known(known) = ak
            && known != self.ak_public()
        {
            return Err(BundleError::OtherAk);
        }
        let public =
            Public::parse(self.ak_public()).map_err(|_| BundleError::PublicArea("attestation"))?;
        let key = VerifyingKey::new(&public).map_err(BundleError::Ak)?;
        let quote = VerifiedQuote::verify(
            self.header.quote.attest.get(),
            self.header.quote.signature.get(),
            &key,
            &qualifying_data(nonce),
            None,
        )?;
        let records = self.records()?;
        let sent = records.len() as u64;
        let certified = certify(&quote, records, &claims(&self.header.pcrs))?;
        let software = self.header.software;
        Ok(VerifiedBundle {
            device: DeviceId::of_ek(self.header.keys.ek_public.get()),
            ak_public: self.ak_public().to_vec(),
            ak_name: key.name().as_bytes().to_vec(),
            clock: *quote.clock_info(),
            certified,
            sent,
            endian: self.header.endian.into(),
            boot_log: self.boot_log.clone(),
            software: software.map(|software| software.get().to_owned()),
        })
    }

    fn records(&self) -> Result<Vec<Record>, BundleError> {
        let format = ListFormat {
            endian: self.header.endian.into(),
            template_hash: HashAlg::Sha1,
        };
        let mut parser = ListParser::new(format);
        let mut rest = &self.list[..];
        let mut records = Vec::new();
        while !rest.is_empty() {
            match parser.next(rest).map_err(BundleError::List)? {
                Step::Record(record, len) => {
                    records.push(Record::from(&record));
                    rest = &rest[len..];
                }
                Step::NeedMore(_) => return Err(BundleError::ListEnds(parser.offset())),
            }
        }
        Ok(records)
    }
}

/// Records and PCR values that the quote in a file certifies. Only [`Bundle::verify`] makes one.
#[derive(Debug)]
pub struct VerifiedBundle {
    device: DeviceId,
    ak_public: Vec<u8>,
    ak_name: Vec<u8>,
    clock: ClockInfo,
    certified: Certified<Record>,
    /// Records in the file.
    sent: u64,
    endian: Endian,
    /// Judged only as far as it replays.
    boot_log: Vec<u8>,
    software: Option<String>,
}

impl VerifiedBundle {
    /// Judges what is certified.
    pub fn appraise<R: ReferenceLookup + ?Sized>(&self, reference: &R) -> Verdict {
        let certified = &self.certified;
        let appraisal = appraise(certified, reference, self.endian);
        let mut reasons: Vec<Reason> = Vec::new();
        for deviation in &appraisal.deviations {
            let reason = deviation.fault.reason();
            if !reasons.contains(&reason) {
                reasons.push(reason);
            }
        }
        let booted = boot::appraise(certified.prefix(), self.log(), reference.boot());
        for deviation in &booted.deviations {
            if !reasons.contains(&deviation.reason) {
                reasons.push(deviation.reason);
            }
        }
        let mut tier = appraisal.tier.max(booted.tier());
        if !self.clock.safe {
            reasons.push(Reason::ClockUnsafe);
            tier = tier.max(Tier::Warning);
        }
        reasons.sort_by_key(|reason| std::cmp::Reverse(reason.severity()));
        let records = certified.prefix().state().records;
        Verdict {
            device: self.device,
            ak_name: self.ak_name.clone(),
            tier,
            reasons,
            deviations: appraisal.deviations,
            boot_deviations: booted.deviations,
            boot_manifest: booted.manifest,
            records,
            records_after: self.sent - records,
            boot_log: self.boot_log.len(),
            clock: self.clock,
            software: self.software.clone(),
        }
    }

    /// What it comes down to under a policy, as for a device that is there; `now`: Unix milliseconds.
    pub(crate) fn settle(&self, policy: &EffectivePolicy, now: u64) -> Settled {
        let state = self.certified.prefix().state();
        let before = BootState {
            certified: 0,
            pcrs: values_by_bank(state),
            log_pcrs: state.log_pcrs,
            clock_safe: self.clock.safe,
            ..BootState::new(1, now)
        };
        let found = crate::engine::boot::appraise(
            &before,
            self.certified.prefix(),
            self.log(),
            policy.boot(),
            now,
        );
        let appraisal = appraise(&self.certified, policy, self.endian);
        let content = Content::default();
        policy::settle(
            policy,
            &self.ak_public,
            &before,
            content,
            appraisal,
            found.deviations,
            now,
        )
    }

    /// `TPMT_PUBLIC` of the attestation key that signed the quote.
    pub fn ak_public(&self) -> &[u8] {
        &self.ak_public
    }

    /// The device that it says it is of: by the endorsement key, which nothing in a file proves.
    pub fn device(&self) -> DeviceId {
        self.device
    }

    fn log(&self) -> Option<&[u8]> {
        (!self.boot_log.is_empty()).then_some(&self.boot_log[..])
    }
}

/// What evidence in a file comes down to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whose it says it is: by the endorsement key, which nothing in a file proves.
    pub device: DeviceId,
    /// Name of the attestation key that signed the quote.
    pub ak_name: Vec<u8>,
    /// The worst of all.
    pub tier: Tier,
    /// Why, the weightiest first.
    pub reasons: Vec<Reason>,
    /// In the order of the measurement list.
    pub deviations: Vec<Deviation>,
    /// What is not as it should be before the kernel started.
    pub boot_deviations: Vec<boot::Deviation>,
    /// The manifest that the boot was compared with, if one says something about it.
    pub boot_manifest: Option<String>,
    /// Records that the quote certifies.
    pub records: u64,
    /// Records that came after the quote: not certified, not judged.
    pub records_after: u64,
    /// Bytes of boot event log in the file.
    pub boot_log: usize,
    /// The TPM's clock and boot counters.
    pub clock: ClockInfo,
    /// Name and version of the agent, as it says.
    pub software: Option<String>,
}

impl Verdict {
    /// The same as a policy weighs it.
    #[must_use]
    pub fn under(mut self, policy: &EffectivePolicy, settled: &Settled) -> Self {
        let counts = |reason: Reason| policy.weight(reason) != Tier::None;
        self.deviations.retain(|found| counts(found.fault.reason()));
        self.boot_deviations.retain(|found| counts(found.reason));
        self.tier = settled.tier;
        self.reasons.clone_from(&settled.reasons);
        self
    }

    /// Whether nothing weighs against the device.
    pub fn is_trusted(&self) -> bool {
        matches!(self.tier, Tier::Affirming | Tier::Warning)
    }
}

/// The item at this offset, and the offset behind it.
fn item<'b, T: minicbor::Decode<'b, ()>>(
    file: &'b [u8],
    at: usize,
) -> Result<(T, usize), BundleError> {
    let rest = &file[at..];
    let damaged = |error: CborError| match error.fault {
        cbor::Fault::Truncated => BundleError::CutOff,
        fault => BundleError::Cbor(CborError {
            offset: at + error.offset,
            fault,
        }),
    };
    let len = cbor::item_len(rest).map_err(damaged)?;
    let value = cbor::decode(&rest[..len]).map_err(damaged)?;
    Ok((value, at + len))
}

/// Values of banks that we can read; the quote's digest is missed without the others, and says so.
fn claims(pcrs: &PcrBanks<'_>) -> BTreeMap<(HashAlg, u32), Digest> {
    let mut claims = BTreeMap::new();
    for bank in pcrs.iter() {
        let Some((alg, values)) = HashAlg::from_u16(bank.hash_alg).and_then(|alg| {
            let selection = PcrSelection::single(alg, bank.mask).ok()?;
            Some((alg, PcrValues::new(selection, bank.values.get()).ok()?))
        }) else {
            continue;
        };
        claims.extend(values.iter().map(|(pcr, value)| ((alg, pcr), value)));
    }
    claims
}

/// The log is all here; it may have gone on between the quote and the reading of the PCRs.
fn certify(
    quote: &VerifiedQuote,
    records: Vec<Record>,
    claims: &BTreeMap<(HashAlg, u32), Digest>,
) -> Result<Certified<Record>, PrefixError> {
    let count = records.len() as u64;
    let log_pcrs = records.iter().fold(1 << IMA_PCR, |pcrs, record| {
        pcrs | 1u64 << record.pcr.min(63)
    });
    let mut pending = PendingLog::new(LogState::at_boot());
    pending.append(0, records)?;
    let outcome = match pending.certify(quote, claims, true) {
        Err(PrefixError::PcrDigestMismatch) => {
            let mut others = claims.clone();
            others.retain(|(_, pcr), _| log_pcrs >> pcr & 1 == 0);
            match pending.certify(quote, &others, true) {
                Err(PrefixError::DoesNotReplay { .. }) => Err(PrefixError::PcrDigestMismatch),
                outcome => outcome,
            }
        }
        outcome => outcome,
    };
    match outcome? {
        Outcome::Certified(certified) => Ok(certified),
        // With `all_here` there is nothing more to need.
        Outcome::NeedMore => Err(PrefixError::DoesNotReplay { records: count }),
    }
}
