//! One device's evidence, stage by stage: quote, claims, records, then [`Attestation::settle`], which
//! certifies what the quote covers and appraises what was certified.
//!
//! Works on a copy of the device's record and a list of changes; nothing is stored until the caller
//! commits them. What the store holds of earlier messages is as little trusted as the messages were:
//! records that no quote has certified stay apart, and an outstanding quote is verified again.

mod elided;
mod records;

use std::sync::Arc;

use log::{debug, warn};
use mote_schemas::ima::Endian;
use mote_schemas::message::{Anchor, Beat, PcrBanks, Ranges, Tier, Wants};
use mote_schemas::pcr::PcrValues;
use mote_schemas::reason::{Reason, Severity};
use mote_schemas::tpm::{ClockInfo, HashAlg, PcrSelection, Public};

use super::outcome::Refusal;
use super::{Engine, Internal, Now, Settings, boot, boot_log};
use crate::appraise::{ReferenceLookup, appraise_next};
use crate::ima_signature::LearnedKeys;
use crate::log_entry::LogEntry as _;
use crate::policy::{EffectivePolicy, Policies, Settled, reappraise, settle};
use crate::prefix::{
    Certified, IMA_PCR, LogState, Outcome, PendingLog, PrefixError, are_values, values_by_bank,
    values_of,
};
use crate::quote::{Continuity, VerifiedQuote};
use crate::signature::VerifyingKey;
use crate::store::{
    Admission, BootState, Change, Deviation, DeviceId, DeviceRecord, Durability, OutstandingQuote,
    PcrBank, PcrValue, Record, RecordId, Store, VerdictRecord,
};

/// Records loaded from the store at once.
const LOAD: usize = 4096;

/// How a device stands after a message.
#[derive(Clone, Debug, Default)]
pub(super) struct Standing {
    pub(super) next_record: u64,
    pub(super) tier: Tier,
    pub(super) reasons: Vec<Reason>,
    pub(super) wants: Wants,
    /// Records wanted in full.
    pub(super) records: Ranges,
    /// Offset from which the boot log is wanted.
    pub(super) boot_log: Option<u32>,
    /// Offset from which the next record is wanted, after a part of it.
    pub(super) record_offset: Option<u32>,
    /// Number of the record with which the device's list begins.
    pub(super) first: Option<u64>,
    /// Number of the first record that the device must keep.
    pub(super) released: Option<u64>,
}

impl Standing {
    /// Nothing is asked of a device that nobody has admitted, and nothing kept.
    pub(super) fn pending_admission() -> Self {
        Standing {
            reasons: vec![Reason::AdmissionPending],
            ..Standing::default()
        }
    }
}

/// A message's worth of evidence.
pub(super) struct Attestation<'e> {
    store: &'e dyn Store,
    policies: &'e Policies,
    policy: Arc<EffectivePolicy>,
    settings: &'e Settings,
    now: Now,
    device: DeviceId,
    record: DeviceRecord,
    /// Records stored of this boot, certified or not, before this message.
    stored: u64,
    /// Records of this boot that a quote had certified before this message.
    certified_before: u64,
    /// Records that this message brings.
    new: Vec<Record>,
    /// Records of this message that could not be resolved from their prefix.
    unresolved: Ranges,
    /// The quote that came with this message.
    fresh: Option<VerifiedQuote>,
    /// PCR values that came with this message.
    fresh_claims: bool,
    /// Whether this process has had a quote of the session, now or before: if not, what its records belong
    /// to may be lost.
    quoted: bool,
    changes: Vec<Change>,
    durability: Durability,
}

impl<'e> Attestation<'e> {
    /// `quoted`: whether this process has taken a quote in the session before.
    pub(super) fn new(
        engine: &'e Engine,
        now: Now,
        device: DeviceId,
        mut record: DeviceRecord,
        quoted: bool,
    ) -> Result<Self, Internal> {
        let stored = match &record.boot {
            Some(boot) => engine.store.log_end(&device, boot.number)?,
            None => 0,
        };
        record.last_seen = Some(now.unix);
        let store = engine.store.as_ref();
        let certified_before = record.boot.as_ref().map_or(0, |boot| boot.certified);
        let mut attestation = Attestation {
            store,
            policies: &engine.policies,
            policy: engine.policies.for_device(store, &device, now.unix)?,
            settings: &engine.settings,
            now,
            device,
            record,
            stored,
            certified_before,
            new: Vec::new(),
            unresolved: Ranges::default(),
            fresh: None,
            fresh_claims: false,
            quoted,
            changes: Vec::new(),
            durability: Durability::Batched,
        };
        attestation.follow_policy()?;
        Ok(attestation)
    }

    /// Appraises what is stored anew, if that was under another policy than the device has now.
    fn follow_policy(&mut self) -> Result<(), Internal> {
        if !reappraise::is_due(&self.record, &self.policy) {
            return Ok(());
        }
        let (device, policy, now) = (&self.device, &self.policy, self.now.unix);
        let anew = reappraise::reappraise(self.store, device, &self.record, policy, now)?;
        if let (Some(anew), Some(boot)) = (anew, &mut self.record.boot) {
            boot.content = anew.content;
            boot_log::due_again(boot, anew.awaits_log);
            self.changes.extend(anew.changes);
            self.must_be_durable();
        }
        Ok(())
    }

    /// The boot that was heard of last, and the records stored of it.
    pub(super) fn log_end(&self) -> Option<(u64, u64)> {
        let boot = self.record.boot.as_ref()?;
        Some((boot.number, self.stored))
    }

    pub(super) fn is_admitted(&self) -> bool {
        matches!(self.record.admission, Admission::Admitted { .. })
    }

    pub(super) fn must_be_durable(&mut self) {
        self.durability = Durability::Immediate;
    }

    /// Takes a verified quote: which boot it is of, and that it waits to be matched. `records` is the
    /// length of the list after the quote.
    pub(super) fn quote(
        &mut self,
        verified: &VerifiedQuote,
        (attest, signature): (&[u8], &[u8]),
        extra_data: &[u8; 32],
        records: u64,
    ) -> Result<(), Refusal> {
        let clock = verified.clock_info();
        let same_boot = match &self.record.boot {
            None => None,
            Some(boot) => match verified.continuity(&clock_of(boot)) {
                Err(error) => return Err(Refusal::new(error.reason(), &error)),
                Ok(Continuity::Rebooted) => None,
                Ok(Continuity::SameBoot) => self.record.boot.take(),
                // A resume that started the PCRs over cannot be told from here; the replay will.
                Ok(Continuity::Resumed) => self.record.boot.take().map(|boot| BootState {
                    restarted: Some(true),
                    ..boot
                }),
            },
        };
        let mut boot = same_boot.unwrap_or_else(|| self.new_boot());
        boot.reset_count = clock.reset_count;
        boot.restart_count = clock.restart_count;
        boot.clock = clock.clock;
        boot.clock_safe = clock.safe;
        boot.outstanding = Some(OutstandingQuote {
            at: self.now.unix,
            attest: attest.to_vec(),
            signature: signature.to_vec(),
            extra_data: extra_data.to_vec(),
            claims: Vec::new(),
            records,
        });
        boot.quoted = elided::quoted(verified);
        self.record.boot = Some(boot);
        self.fresh = Some(*verified);
        self.quoted = true;
        Ok(())
    }

    /// Finds the record with which the list of a device begins that deletes records, and counts those
    /// that the quote may cover from there. What was deleted was certified first, so that it is here.
    pub(super) fn locate(
        &mut self,
        anchor: Anchor,
        records: u64,
    ) -> Result<Result<u64, Refusal>, Internal> {
        let first = match anchor {
            Anchor::Whole => Some(0),
            Anchor::Record(digest) => self.position(digest, records)?,
        };
        let Some(first) = first else {
            let detail =
                "the list begins with a record that is not certified here; reboot the device";
            return Ok(Err(Refusal::new(Reason::LogDeleted, detail)));
        };
        if let Some(outstanding) = self.outstanding() {
            outstanding.records = first.saturating_add(records);
        }
        Ok(Ok(first))
    }

    /// The certified record with this digest. A list grows only: `records` from there on reach at least
    /// as far as what is stored.
    fn position(&self, digest: [u8; 8], records: u64) -> Result<Option<u64>, Internal> {
        let Some(boot) = self.record.boot.as_ref() else {
            return Ok(None);
        };
        let mut number = self.stored.saturating_sub(records);
        while number < boot.certified {
            let ids = self.store.log(&self.device, boot.number, number, LOAD)?;
            if ids.is_empty() {
                return Err(Internal::Other("a stored log has a hole"));
            }
            for id in ids {
                let record = self.store.record(&id)?;
                let record = record.ok_or(Internal::Other("a stored record is gone"))?;
                let found = Anchor::digest(&record.extend_digest(HashAlg::Sha256)) == digest;
                if found && number < boot.certified {
                    return Ok(Some(number));
                }
                number += 1;
            }
        }
        Ok(None)
    }

    /// To a device that deletes: every record that a quote has certified. The commit that certifies them
    /// is durable then, and with it all that was batched before: records, findings and verdict.
    pub(super) fn release(&mut self, standing: &mut Standing, deletes: bool) {
        let certified = self.record.boot.as_ref().map_or(0, |boot| boot.certified);
        if deletes && certified > self.certified_before {
            standing.released = Some(certified);
            self.must_be_durable();
        }
    }

    /// The same at the start of a session: also what an earlier reply has said, which may be lost.
    pub(super) fn release_again(&mut self, standing: &mut Standing, deletes: bool) {
        self.certified_before = 0;
        self.release(standing, deletes);
    }

    /// Takes the digest of the boot log that the session's open has named.
    pub(super) fn boot_log(&mut self, digest: Option<[u8; 32]>) {
        if let Some(boot) = &mut self.record.boot {
            boot_log::named(boot, digest);
        }
    }

    /// A boot that this verifier has not seen; the log of the one before is of no more use.
    fn new_boot(&mut self) -> BootState {
        let (mut number, mut quoted_at) = (1, 0);
        if let Some(old) = &self.record.boot {
            (number, quoted_at) = (old.number + 1, old.quoted_at);
            self.changes.push(Change::TruncateLog {
                device: self.device,
                boot: old.number,
                from: 0,
            });
            self.changes.push(Change::ClearDeviations(self.device));
        }
        self.stored = 0;
        self.certified_before = 0;
        self.must_be_durable();
        BootState {
            quoted_at,
            ..BootState::new(number, self.now.unix)
        }
    }

    /// PCR values that came with the quote. Believed only if they hash to its digest.
    pub(super) fn claims(&mut self, pcrs: &PcrBanks<'_>) {
        let mut claims = Vec::new();
        for bank in pcrs.iter() {
            let Some(values) = HashAlg::from_u16(bank.hash_alg)
                .and_then(|alg| PcrSelection::single(alg, bank.mask).ok())
                .and_then(|selection| PcrValues::new(selection, bank.values.get()).ok())
            else {
                // A bank that we cannot read: the quote's digest will be missed, and say so.
                continue;
            };
            claims.push(PcrBank {
                alg: bank.hash_alg,
                values: values
                    .iter()
                    .map(|(pcr, value)| PcrValue {
                        index: pcr as u8,
                        value: value.as_bytes().to_vec(),
                    })
                    .collect(),
            });
        }
        if let Some(outstanding) = self.outstanding() {
            outstanding.claims = claims;
            self.fresh_claims = true;
        }
    }

    /// The standing of a device whose quote could not be rebuilt: as it was, and asked for it in full.
    pub(super) fn full_quote_wanted(&self) -> Result<Standing, Internal> {
        let mut standing = self.stands()?;
        standing.wants = standing.wants.and(Wants::FULL_QUOTE);
        Ok(standing)
    }

    /// The standing of a device whose message named records that are not known: as it was, and asked
    /// for these in full.
    pub(super) fn records_wanted(&self, records: Ranges) -> Result<Standing, Internal> {
        let mut standing = self.stands()?;
        standing.records = records;
        Ok(standing)
    }

    /// The standing of a device whose nonce has expired: as it was, and asked to quote again.
    pub(super) fn nonce_expired(self) -> Result<Standing, Internal> {
        let mut standing = if self.is_admitted() {
            self.stands()?
        } else {
            Standing::pending_admission()
        };
        standing.reasons.insert(0, Reason::NonceExpired);
        Ok(standing)
    }

    /// Certifies and appraises what can be, and says how the device stands. Refuses a message whose
    /// quote contradicts what came with it: that says nothing about the device's log.
    pub(super) fn settle(&mut self) -> Result<Result<Standing, Refusal>, Internal> {
        let next_record = self.received();
        let due = self
            .record
            .boot
            .as_ref()
            .and_then(|boot| boot.outstanding.as_ref())
            .is_some_and(|quote| next_record >= quote.records);
        if due {
            self.quoted = true;
            match self.certify()? {
                Ok(certified) => self.judge(&certified)?,
                Err(error) => return self.not_certified(&error),
            }
        }
        self.keep_records();
        self.stands().map(Ok)
    }

    /// What becomes of a message when its quote, or the one before it, certifies nothing: another
    /// question, a refusal, or a verdict.
    fn not_certified(
        &mut self,
        error: &PrefixError,
    ) -> Result<Result<Standing, Refusal>, Internal> {
        if matches!(error, PrefixError::DoesNotReplay { .. }) && self.retract_guesses() {
            return self.stands().map(Ok);
        }
        let ask = match error {
            PrefixError::UnknownPcr { .. } => true,
            // Perhaps a PCR outside the log has changed since we last saw it.
            PrefixError::DoesNotReplay { .. } => !self.fresh_claims && self.has_boot_pcrs(),
            _ => false,
        };
        if ask {
            return Ok(Ok(self.ask_for_pcrs(Reason::QuoteOutstanding)));
        }
        if matches!(error, PrefixError::DoesNotReplay { .. }) && self.start_over() {
            return Ok(Ok(self.ask_for_pcrs(Reason::QuoteOutstanding)));
        }
        let reason = self.name_replay_failure(error);
        if reason.severity() == Severity::Refused {
            return Ok(if self.fresh.is_some() {
                Err(Refusal::new(reason, error))
            } else {
                Ok(self.ask_for_pcrs(reason))
            });
        }
        warn!("device {}: {error}", self.device);
        self.drop_outstanding();
        self.drop_false_records(reason)?;
        self.set_verdict(Tier::Contraindicated, &[reason], Some(error.to_string()))?;
        self.keep_records();
        // Nothing certified tells the next quote's pcrDigest.
        self.full_quote_wanted().map(Ok)
    }

    /// Whether the TPM was restarted with cleared PCRs (power lost while suspended to RAM, say): then this
    /// is another boot, and its log is wanted from its first record. Only where records were certified
    /// before: whatever does not replay from the start is false.
    fn start_over(&mut self) -> bool {
        let restarted = self.record.boot.as_ref();
        let restarted = restarted.filter(|boot| boot.restarted == Some(true) && boot.certified > 0);
        let Some(old) = restarted.cloned() else {
            return false;
        };
        debug!("device {}: restarted; its log from the start", self.device);
        self.record.boot = Some(BootState {
            reset_count: old.reset_count,
            restart_count: old.restart_count,
            clock: old.clock,
            clock_safe: old.clock_safe,
            boot_log: old.boot_log,
            ..self.new_boot()
        });
        self.new.clear();
        true
    }

    /// The changes to commit, and how.
    pub(super) fn finish(mut self) -> (Vec<Change>, Durability) {
        // First, since what follows may be about a device that is not stored yet.
        self.changes
            .insert(0, Change::PutDevice(self.device, self.record));
        (self.changes, self.durability)
    }

    fn keep_records(&mut self) {
        let Some(boot) = &self.record.boot else {
            return;
        };
        if self.new.is_empty() {
            return;
        }
        let ids = self.new.iter().map(RecordId::of).collect();
        let append = Change::AppendLog {
            device: self.device,
            boot: boot.number,
            first: self.stored,
            records: ids,
        };
        self.changes
            .extend(self.new.iter().cloned().map(Change::PutRecord));
        self.changes.push(append);
    }

    fn received(&self) -> u64 {
        self.stored + self.new.len() as u64
    }

    fn outstanding(&mut self) -> Option<&mut OutstandingQuote> {
        self.record.boot.as_mut()?.outstanding.as_mut()
    }

    fn drop_outstanding(&mut self) {
        if let Some(boot) = &mut self.record.boot {
            boot.outstanding = None;
        }
    }

    /// Whether the quote covers PCRs that IMA does not extend.
    fn has_boot_pcrs(&self) -> bool {
        let pcrs = self.record.boot.iter().flat_map(|boot| &boot.pcrs);
        pcrs.flat_map(|bank| &bank.values)
            .any(|value| u32::from(value.index) != IMA_PCR)
    }

    /// Gives up the outstanding quote and asks for another with PCR values, for this reason. In full:
    /// of one that leaves its digest to what we know, nothing could be made, and the PCR values that
    /// came with it would have to be asked for once more.
    fn ask_for_pcrs(&mut self, reason: Reason) -> Standing {
        self.drop_outstanding();
        self.keep_records();
        Standing {
            next_record: self.received(),
            reasons: vec![reason],
            wants: Wants::PCR_VALUES.and(Wants::FULL_QUOTE),
            ..Standing::default()
        }
    }

    /// Forgets the records that no quote has certified, so that a list that was damaged on its way
    /// can be sent again. Once: a device whose list stays false does not send it at every heartbeat.
    fn drop_false_records(&mut self, reason: Reason) -> Result<(), Internal> {
        let again = self
            .current_verdict()?
            .is_some_and(|last| last.reasons == [reason.token()]);
        let Some(boot) = self.record.boot.as_ref().filter(|_| !again) else {
            return Ok(());
        };
        self.new.clear();
        if self.stored > boot.certified {
            self.changes.push(Change::TruncateLog {
                device: self.device,
                boot: boot.number,
                from: boot.certified,
            });
            self.stored = boot.certified;
        }
        Ok(())
    }

    /// Matches the outstanding quote with the records.
    fn certify(&mut self) -> Result<Result<Certified<Record>, PrefixError>, Internal> {
        let missing = || Internal::Other("no boot or no quote to certify");
        let boot = self.record.boot.as_ref().ok_or_else(missing)?;
        let quote = boot.outstanding.as_ref().ok_or_else(missing)?;
        let verified = match self.fresh {
            Some(verified) => verified,
            None => verify_again(&self.record.ak_public, quote)?,
        };
        let mut log = PendingLog::new(log_state(boot));
        if let Err(error) = log.append(boot.certified, self.uncertified(boot)?) {
            return Ok(Err(error));
        }

        let mut claims = values_of(&quote.claims);
        let mut outcome = log.certify(&verified, &claims, true);
        if matches!(outcome, Err(PrefixError::PcrDigestMismatch)) {
            // The log went on between the quote and the reading of the PCRs: without the values of
            // the PCRs that it extends, the others still stand.
            let log_pcrs = boot.log_pcrs | 1 << IMA_PCR;
            claims.retain(|(_, pcr), _| log_pcrs >> pcr & 1 == 0);
            outcome = match log.certify(&verified, &claims, true) {
                Err(PrefixError::DoesNotReplay { .. }) => Err(PrefixError::PcrDigestMismatch),
                other => other,
            };
        }
        Ok(match outcome {
            Ok(Outcome::Certified(certified)) => Ok(certified),
            // With `all_here` there is nothing more to need.
            Ok(Outcome::NeedMore) => Err(PrefixError::DoesNotReplay {
                records: self.received(),
            }),
            Err(error) => Err(error),
        })
    }

    /// All records that no quote has certified, those of this message last.
    fn uncertified(&self, boot: &BootState) -> Result<Vec<Record>, Internal> {
        let mut records = Vec::new();
        let mut wanted = boot.certified;
        while wanted < self.stored {
            let ids = self.store.log(&self.device, boot.number, wanted, LOAD)?;
            if ids.is_empty() {
                return Err(Internal::Other("a stored log has a hole"));
            }
            for id in &ids {
                let record = self.store.record(id)?;
                records.push(record.ok_or(Internal::Other("a stored record is gone"))?);
            }
            wanted += ids.len() as u64;
        }
        records.extend_from_slice(&self.new);
        Ok(records)
    }

    /// Appraises newly certified records and sets the verdict.
    fn judge(&mut self, certified: &Certified<Record>) -> Result<(), Internal> {
        let state = certified.prefix().state();
        let received = self.received();
        let Some(boot) = &mut self.record.boot else {
            return Ok(());
        };
        let before = boot::is_due(boot, certified.prefix()).then(|| boot.clone());
        boot.certified = state.records;
        boot.log_pcrs = state.log_pcrs;
        if !are_values(&boot.pcrs, state) {
            boot.pcrs = values_by_bank(state);
        }
        let (mut boot_found, mut waits) = (None, false);
        // Seldom: the log may be large, and is read from the store.
        if let Some(before) = &before {
            let expected = self.policy.boot();
            let evidence = boot_log::evidence(self.store, &self.device, boot, expected)?;
            if let Some(state) = &mut boot.boot_log {
                state.due = evidence.awaited;
            }
            waits = evidence.waits;
            boot_found = Some(boot::appraise(
                before,
                certified.prefix(),
                evidence.log.as_deref(),
                &evidence.references,
                self.now.unix,
            ));
        }
        let padded = state.padded.iter().map(|alg| alg.to_u16()).collect();
        boot.padded_banks = Some(padded).filter(|banks: &Vec<u16>| !banks.is_empty());
        if let Some(quote) = boot.outstanding.take() {
            boot.quoted_at = quote.at;
        }
        boot.restarted = None;
        // What was guessed has been confirmed, unless it is beyond this quote.
        if boot.certified == received {
            boot.guessed = None;
        }
        boot.in_full = boot.in_full.filter(|end| *end > boot.certified);

        let mut content = std::mem::take(&mut boot.content);
        let mut learned = LearnedKeys::from_ders(content.learned_keys.iter().map(|der| &der[..]));
        let policy = self.policy.as_ref();
        let appraisal = appraise_next(certified, policy, &mut learned, Endian::Little);
        content.learned_keys = learned.ders().map(|der| der.to_vec().into()).collect();
        let of_boot = boot_found.map_or_else(Vec::new, |found| found.deviations);
        let (ak, now) = (&self.record.ak_public, self.now.unix);
        let mut settled = settle(policy, ak, boot, content, appraisal, of_boot, now);
        if waits {
            settled.wait_for_log();
        }
        let Settled {
            content,
            deviations,
            tier,
            reasons,
        } = settled;
        boot.content = content;
        let found = deviations.into_iter();
        self.changes
            .extend(found.map(|deviation| Change::AddDeviation(self.device, deviation)));
        self.set_verdict(tier, &reasons, None)
    }

    /// Why a log that does not replay does not.
    fn name_replay_failure(&self, error: &PrefixError) -> Reason {
        let untouched = self.record.boot.as_ref().is_some_and(|boot| {
            let claims = boot.outstanding.as_ref().map(|quote| &quote.claims);
            let ima = claims.into_iter().flatten().flat_map(|bank| &bank.values);
            let mut ima = ima
                .filter(|value| u32::from(value.index) == IMA_PCR)
                .peekable();
            ima.peek().is_some() && ima.all(|value| value.value.iter().all(|byte| *byte == 0))
        });
        if matches!(error, PrefixError::DoesNotReplay { .. }) && untouched && self.received() > 0 {
            Reason::ImaWithoutTpm
        } else {
            error.reason()
        }
    }

    /// The last verdict, if it is about this boot.
    fn current_verdict(&self) -> Result<Option<VerdictRecord>, Internal> {
        let Some(boot) = &self.record.boot else {
            return Ok(None);
        };
        let pending = self.changes.iter().rev().find_map(|change| match change {
            Change::AddVerdict(_, verdict) => Some(verdict.clone()),
            _ => None,
        });
        let last = match pending {
            Some(verdict) => Some(verdict),
            None => self
                .store
                .verdicts(&self.device, 1)?
                .pop()
                .map(|(_, verdict)| verdict),
        };
        Ok(last.filter(|verdict| verdict.boot == boot.number))
    }

    /// Adds a verdict to the history if it is another one; durable before the reply then.
    fn set_verdict(
        &mut self,
        tier: Tier,
        reasons: &[Reason],
        note: Option<String>,
    ) -> Result<(), Internal> {
        let boot = self.record.boot.as_ref().map_or(0, |boot| boot.number);
        let tokens: Vec<String> = reasons.iter().map(|r| r.token().to_owned()).collect();
        let unchanged = self
            .current_verdict()?
            .is_some_and(|last| last.tier == tier && last.reasons == tokens);
        if unchanged {
            return Ok(());
        }
        debug!("device {}: {tier}, {tokens:?}", self.device);
        if let Some(note) = note {
            let deviation = Deviation {
                reason: tokens.first().cloned().unwrap_or_default(),
                since: self.now.unix,
                record: None,
                pcr: Some(IMA_PCR as u8),
                path: None,
                measured: None,
                expected: Vec::new(),
                note: Some(note),
            };
            self.changes
                .push(Change::AddDeviation(self.device, deviation));
        }
        let verdict = VerdictRecord {
            at: self.now.unix,
            boot,
            tier,
            reasons: tokens,
        };
        self.changes.push(Change::AddVerdict(self.device, verdict));
        self.must_be_durable();
        Ok(())
    }

    /// How the device stands: its verdict, or what must arrive first, the log or the quote that it belongs
    /// to.
    pub(super) fn stands(&self) -> Result<Standing, Internal> {
        if self.misses_quote() {
            debug!("device {}: records without their quote", self.device);
            return Ok(Standing {
                next_record: self.received(),
                reasons: vec![Reason::QuoteOutstanding],
                // Of these two, the first has the device send a heartbeat as soon as its list is here.
                wants: Wants::PCR_VALUES.and(Wants::FULL_QUOTE),
                records: self.wanted_in_full(),
                ..Standing::default()
            });
        }
        let boot_log = boot_log::wanted(self.store, &self.device, self.record.boot.as_ref())?;
        let waiting = self
            .record
            .boot
            .as_ref()
            .is_none_or(|boot| boot.outstanding.is_some());
        let verdict = self.current_verdict()?;
        Ok(match verdict {
            Some(verdict) if !waiting => Standing {
                next_record: self.received(),
                tier: verdict.tier,
                reasons: reasons_of(&verdict.reasons),
                wants: Wants::default(),
                records: self.wanted_in_full(),
                boot_log,
                ..Standing::default()
            },
            _ => Standing {
                next_record: self.received(),
                reasons: vec![Reason::LogIncomplete],
                records: self.wanted_in_full(),
                ..Standing::default()
            },
        })
    }
}

/// Length of the device's list after a beat's quote, as far as the beat says.
pub(super) fn records_after(beat: &Beat<'_>) -> u64 {
    let carried = beat.entries.map_or(0, |entries| entries.records());
    let last = beat.from.map(|from| from.saturating_add(carried));
    beat.records.or(last).unwrap_or(0)
}

fn reasons_of(tokens: &[String]) -> Vec<Reason> {
    tokens
        .iter()
        .filter_map(|token| Reason::from_token(token))
        .collect()
}

fn verify_again(ak_public: &[u8], quote: &OutstandingQuote) -> Result<VerifiedQuote, Internal> {
    let spoiled = || Internal::Other("a stored quote does not verify any more");
    let ak = Public::parse(ak_public).map_err(|_| spoiled())?;
    let key = VerifyingKey::new(&ak).map_err(|_| spoiled())?;
    VerifiedQuote::verify(
        &quote.attest,
        &quote.signature,
        &key,
        &quote.extra_data,
        None,
    )
    .map_err(|_| spoiled())
}

fn clock_of(boot: &BootState) -> ClockInfo {
    ClockInfo {
        clock: boot.clock,
        reset_count: boot.reset_count,
        restart_count: boot.restart_count,
        safe: boot.clock_safe,
    }
}

fn log_state(boot: &BootState) -> LogState {
    LogState {
        records: boot.certified,
        log_pcrs: boot.log_pcrs,
        padded: boot
            .padded_banks
            .iter()
            .flatten()
            .filter_map(|alg| HashAlg::from_u16(*alg))
            .collect(),
        values: values_of(&boot.pcrs),
    }
}
