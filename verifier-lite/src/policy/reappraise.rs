//! Appraises what is stored of a device under another policy than it was appraised under.
//!
//! Nothing is asked of the device: the certified records of its boot are in the store, and are replayed
//! to the PCR values that a quote certified before anything is made of them. A token is verified again.

use log::warn;
use mote_schemas::ima::Endian;
use mote_schemas::reason::Reason;

use super::{EffectivePolicy, Settled, reason_is_of_content, settle};
use crate::appraise::{ReferenceLookup, appraise_next};
use crate::engine::{boot, boot_log};
use crate::evidence::{Appraise, token};
use crate::ima_signature::LearnedKeys;
use crate::prefix::{Certified, LogState};
use crate::store::{
    BootState, Change, Content, Deviation, DeviceId, DeviceRecord, MAX_DEVIATIONS, Record, Store,
    StoreError, VerdictRecord,
};

/// Records loaded from the store at once.
const LOAD: usize = 4096;

/// A device appraised anew.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reappraised {
    /// To store with the device.
    pub content: Content,
    /// Everything else to commit, in order, after the device.
    pub changes: Vec<Change>,
    /// The new verdict, if it is another one.
    pub verdict: Option<VerdictRecord>,
    /// The boot log is wanted, and not here.
    pub awaits_log: bool,
}

/// Whether what is stored was appraised under another policy.
pub fn is_due(record: &DeviceRecord, policy: &EffectivePolicy) -> bool {
    let certified = record.boot.as_ref().filter(|boot| boot.certified > 0);
    let content = certified.map(|boot| &boot.content);
    let content = content.or_else(|| Some(&record.last_token()?.content));
    content.is_some_and(|content| content.policy.as_ref() != Some(policy.id()))
}

/// Appraises everything certified of the current boot. `None`: nothing is, or what is stored does not
/// replay to what was certified, and so says nothing.
pub fn evaluate(
    store: &dyn Store,
    device: &DeviceId,
    record: &DeviceRecord,
    policy: &EffectivePolicy,
    now: u64,
) -> Result<Option<Settled>, StoreError> {
    if let Some(state) = &record.token {
        return Ok(match token::verify_stored(state) {
            Ok(verified) => verified.map(|verified| verified.appraise(policy, now)),
            Err(error) => {
                warn!("device {device}: the stored token: {error}");
                None
            }
        });
    }
    let Some(boot) = record.boot.as_ref().filter(|boot| boot.certified > 0) else {
        return Ok(None);
    };
    let records = load(store, device, boot)?;
    let certified = match Certified::replayed(LogState::of(boot), records) {
        Ok(certified) => certified,
        Err(error) => {
            warn!("device {device}: the stored log: {error}");
            return Ok(None);
        }
    };
    // As if it had just been certified for the first time.
    let before = BootState {
        certified: 0,
        content: Content::default(),
        ..boot.clone()
    };
    let evidence = boot_log::evidence(store, device, boot, policy.boot())?;
    let of_boot = boot::appraise(
        &before,
        certified.prefix(),
        evidence.log.as_deref(),
        &evidence.references,
        now,
    )
    .deviations;
    let mut learned = LearnedKeys::default();
    let appraisal = appraise_next(&certified, policy, &mut learned, Endian::Little);
    let content = Content {
        learned_keys: learned.ders().map(|der| der.to_vec().into()).collect(),
        ..Content::default()
    };
    let mut settled = settle(
        policy,
        &record.ak_public,
        boot,
        content,
        appraisal,
        of_boot,
        now,
    );
    if evidence.waits {
        settled.wait_for_log();
    }
    Ok(Some(settled))
}

/// The same, as changes to commit.
pub fn reappraise(
    store: &dyn Store,
    device: &DeviceId,
    record: &DeviceRecord,
    policy: &EffectivePolicy,
    now: u64,
) -> Result<Option<Reappraised>, StoreError> {
    let Some(boot) = record.boot_number() else {
        return Ok(None);
    };
    let Some(settled) = evaluate(store, device, record, policy, now)? else {
        return Ok(None);
    };
    let before = store.deviations(device, MAX_DEVIATIONS as usize)?;
    let mut changes = vec![Change::ClearDeviations(*device)];
    // What is about the evidence as such is not a policy's to clear.
    let kept = before
        .iter()
        .filter(|deviation| !is_of_content(&deviation.reason));
    changes.extend(kept.map(|kept| Change::AddDeviation(*device, kept.clone())));
    for mut deviation in settled.deviations {
        deviation.since = since(&before, &deviation);
        changes.push(Change::AddDeviation(*device, deviation));
    }
    let last = store.verdicts(device, 1)?.pop().map(|(_, verdict)| verdict);
    let last = last.filter(|verdict| verdict.boot == boot);
    let reasons: Vec<String> = settled
        .reasons
        .iter()
        .map(|r| r.token().to_owned())
        .collect();
    // A replay failure stays one until the device has shown otherwise.
    // That a boot log was awaited is found again, if it still is.
    let lasts = |token: &String| !is_of_content(token) && token != Reason::LogIncomplete.token();
    let of_evidence = last
        .as_ref()
        .is_some_and(|last| last.reasons.iter().any(lasts));
    let unchanged = last.is_some_and(|last| last.tier == settled.tier && last.reasons == reasons);
    let verdict = (!of_evidence && !unchanged).then_some(VerdictRecord {
        at: now,
        boot,
        tier: settled.tier,
        reasons,
    });
    changes.extend(verdict.clone().map(|v| Change::AddVerdict(*device, v)));
    let awaits_log = settled.reasons.contains(&Reason::LogIncomplete);
    Ok(Some(Reappraised {
        content: settled.content,
        changes,
        verdict,
        awaits_log,
    }))
}

fn is_of_content(token: &str) -> bool {
    Reason::from_token(token).is_some_and(reason_is_of_content)
}

/// Since when the same deviation has been there.
pub(crate) fn since(before: &[Deviation], deviation: &Deviation) -> u64 {
    let same = before.iter().find(|old| {
        old.record == deviation.record
            && old.reason == deviation.reason
            && old.path == deviation.path
    });
    same.map_or(deviation.since, |old| old.since)
}

fn load(store: &dyn Store, device: &DeviceId, boot: &BootState) -> Result<Vec<Record>, StoreError> {
    let mut records = Vec::new();
    while (records.len() as u64) < boot.certified {
        let from = records.len() as u64;
        let left = usize::try_from(boot.certified - from).unwrap_or(usize::MAX);
        let ids = store.log(device, boot.number, from, left.min(LOAD))?;
        if ids.is_empty() {
            break;
        }
        for id in ids {
            let record = store.record(&id)?;
            records.push(record.ok_or(StoreError::UnknownRecord(id))?);
        }
    }
    Ok(records)
}
