//! Measured boot in a device's verdict: once a boot, and again if a PCR of it changes.

use mote_schemas::reason::Reason;

use crate::boot::{self, BootAppraisal};
use crate::manifest::BootReference;
use crate::prefix::CertifiedPrefix;
use crate::store::{BootState, Deviation, Expected, PcrBank};

/// What the boot adds to a verdict.
pub(crate) struct Found {
    pub(crate) deviations: Vec<Deviation>,
}

/// Whether this is the first quote that certifies records of the boot, or a PCR has changed since
/// `before` that IMA does not extend, or its log has not been judged yet.
pub(crate) fn is_due(before: &BootState, prefix: &CertifiedPrefix) -> bool {
    let due = before.boot_log.as_ref().is_some_and(|log| log.due);
    before.certified == 0 || due || changed(&before.pcrs, prefix)
}

/// Appraises the boot.
pub(crate) fn appraise(
    before: &BootState,
    prefix: &CertifiedPrefix,
    log: Option<&[u8]>,
    references: &[BootReference],
    now: u64,
) -> Found {
    let first = before.certified == 0;
    let appraisal = boot::appraise(prefix, log, references);
    // What is known already is not told again.
    let new = |reason: Reason| {
        let mut known = before.content.reasons.iter();
        first || !known.any(|token| token == reason.token())
    };
    Found {
        deviations: stored(appraisal, now)
            .filter(|(reason, _)| new(*reason))
            .map(|(_, deviation)| deviation)
            .collect(),
    }
}

fn changed(before: &[PcrBank], prefix: &CertifiedPrefix) -> bool {
    let state = prefix.state();
    before.iter().any(|bank| {
        bank.values.iter().any(|old| {
            let pcr = u32::from(old.index);
            let new = mote_schemas::tpm::HashAlg::from_u16(bank.alg)
                .and_then(|alg| state.value(alg, pcr));
            state.log_pcrs >> pcr & 1 == 0 && new.is_some_and(|value| value.as_bytes() != old.value)
        })
    })
}

fn stored(appraisal: BootAppraisal, now: u64) -> impl Iterator<Item = (Reason, Deviation)> {
    appraisal.deviations.into_iter().map(move |found| {
        let mut notes: Vec<String> = Vec::new();
        if let Some(event) = found.event {
            notes.push(format!("event {event} of the boot log"));
        }
        notes.extend(found.note);
        let mut expected = found.expected;
        if found.reason == Reason::CmdlineUnexpected {
            // Text, not digests.
            let allowed: Vec<_> = std::mem::take(&mut expected)
                .into_iter()
                .map(|line| String::from_utf8_lossy(&line).into_owned())
                .collect();
            notes.push(format!(
                "allowed by {}: {}",
                found.manifest,
                allowed.join(" | ")
            ));
        }
        let deviation = Deviation {
            reason: found.reason.token().to_owned(),
            since: now,
            record: None,
            pcr: found.pcr.and_then(|pcr| u8::try_from(pcr).ok()),
            path: (!found.what.is_empty()).then(|| found.what.into_bytes()),
            measured: found.measured,
            expected: expected
                .into_iter()
                .map(|value| Expected {
                    value,
                    source: found.manifest.clone(),
                })
                .collect(),
            note: (!notes.is_empty()).then(|| notes.join("; ")),
        };
        (found.reason, deviation)
    })
}
