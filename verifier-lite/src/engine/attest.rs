//! One device's evidence, stage by stage: quote, claims, records, then [`Attestation::settle`], which
//! certifies what the quote covers and appraises what was certified.
//!
//! | module | what |
//! |---|---|
//! | `quote` | which boot a quote is of, and PCR values that came with it |
//! | `elided` | quotes that are put together from what is known |
//! | `records` | records, as they came or by a prefix of their hash |
//! | `deletion` | devices that delete records |
//! | `certify` | records that a quote covers, or why it covers none |
//! | `verdict` | from what was certified to a verdict |
//! | `standing` | what the device is told |
//!
//! Works on a copy of the device's record and a list of changes; nothing is stored until the caller
//! commits them. What the store holds of earlier messages is as little trusted as the messages were:
//! records that no quote has certified stay apart, and an outstanding quote is verified again.

mod certify;
mod deletion;
mod elided;
mod quote;
mod records;
mod standing;
mod verdict;

use std::sync::Arc;

use mote_schemas::message::{Beat, Ranges};
use mote_schemas::tpm::{Digest, HashAlg, PcrSelection};

use super::{Engine, Internal, Now, Settings, boot_log};
use crate::policy::{EffectivePolicy, Policies, reappraise};
use crate::prefix::stored_digest;
use crate::quote::VerifiedQuote;
use crate::store::{
    Admission, Change, DeviceId, DeviceRecord, Durability, Record, RecordId, Store,
};
pub(super) use standing::Standing;

/// Records loaded from the store at once.
const LOAD: usize = 4096;

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
    /// What a quote over these PCRs digests if none of them has changed, once it has been computed.
    unchanged: Option<(PcrSelection, Digest)>,
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
            unchanged: None,
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

    /// What a quote over `selection` digests, in `alg`, if no PCR has changed since the last that certified
    /// something. `None`: it was not over all of these.
    fn unchanged(&mut self, selection: &PcrSelection, alg: HashAlg) -> Option<Digest> {
        if let Some((of, digest)) = &self.unchanged
            && of == selection
            && digest.alg() == alg
        {
            return Some(*digest);
        }
        let boot = self.record.boot.as_ref()?;
        let digest = stored_digest(&boot.pcrs, selection, alg)?;
        self.unchanged = Some((*selection, digest));
        Some(digest)
    }

    fn received(&self) -> u64 {
        self.stored + self.new.len() as u64
    }
}

/// Length of the device's list after a beat's quote, as far as the beat says.
pub(super) fn records_after(beat: &Beat<'_>) -> u64 {
    let carried = beat.entries.map_or(0, |entries| entries.records());
    let last = beat.from.map(|from| from.saturating_add(carried));
    beat.records.or(last).unwrap_or(0)
}
