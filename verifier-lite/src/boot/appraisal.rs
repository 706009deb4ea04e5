//! What of a boot is as manifests expect.

use mote_schemas::bootlog::BootLog;
use mote_schemas::message::Tier;
use mote_schemas::reason::{Reason, Severity};
use mote_schemas::tpm::HashAlg;

use super::{CertifiedBootLog, events};
use crate::manifest::BootReference;
use crate::prefix::CertifiedPrefix;

/// Something about the boot that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deviation {
    /// Which kind of thing.
    pub reason: Reason,
    /// The PCR that shows it, if one does.
    pub pcr: Option<u32>,
    /// Number of the boot event that shows it, if one does.
    pub event: Option<u32>,
    /// What the event says it is. Not covered by any PCR.
    pub what: String,
    /// What was measured.
    pub measured: Option<Vec<u8>>,
    /// What would have been right: digests, or text.
    pub expected: Vec<Vec<u8>>,
    /// The manifest that expects it: `name-version`; empty if none does.
    pub manifest: String,
    /// What else is known, in words.
    pub note: Option<String>,
}

impl Deviation {
    pub(super) fn new(reason: Reason) -> Self {
        Self {
            reason,
            pcr: None,
            event: None,
            what: String::new(),
            measured: None,
            expected: Vec::new(),
            manifest: String::new(),
            note: None,
        }
    }

    pub(super) fn of_pcr(reason: Reason, pcr: u32) -> Self {
        Self {
            pcr: Some(pcr),
            ..Self::new(reason)
        }
    }

    pub(super) fn with_note(self, note: impl Into<String>) -> Self {
        Self {
            note: Some(note.into()),
            ..self
        }
    }

    pub(super) fn with_measured(self, measured: &[u8]) -> Self {
        Self {
            measured: Some(measured.to_vec()),
            ..self
        }
    }

    pub(super) fn with_expected(self, expected: impl Iterator<Item = Vec<u8>>) -> Self {
        Self {
            expected: expected.collect(),
            ..self
        }
    }

    /// How much it weighs unless a policy says otherwise.
    pub fn tier(&self) -> Tier {
        match self.reason.severity() {
            Severity::Warning => Tier::Warning,
            _ => Tier::Contraindicated,
        }
    }
}

/// Outcome of an appraisal of the boot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BootAppraisal {
    /// What is not as it should be; empty: all is.
    pub deviations: Vec<Deviation>,
    /// The manifest that was compared with: the one that fits, or else the one that fits best.
    pub manifest: Option<String>,
}

impl BootAppraisal {
    /// What it comes down to.
    pub fn tier(&self) -> Tier {
        let tiers = self.deviations.iter().map(Deviation::tier);
        tiers.fold(Tier::Affirming, Tier::max)
    }
}

/// Appraises certified PCRs and, if the device has one, its boot event log.
///
/// Of several manifests that say something about the boot, one must fit as a whole: parts of two image
/// versions do not make a third. A log that does not replay is reported even if nobody expects anything
/// of it.
pub fn appraise(
    prefix: &CertifiedPrefix,
    log: Option<&[u8]>,
    references: &[BootReference],
) -> BootAppraisal {
    let mut deviations = Vec::new();
    let log = log.and_then(|bytes| certify(bytes, prefix, &mut deviations));
    if let Some(log) = &log {
        for pcr in (0..24).filter(|pcr| log.unexplained_pcrs() >> pcr & 1 == 1) {
            deviations.push(Deviation::of_pcr(Reason::BootPcrUnexplained, pcr));
        }
    }
    let best = references
        .iter()
        .map(|reference| (compare(prefix, log.as_ref(), reference), reference))
        .min_by_key(|(found, _)| found.len());
    let mut manifest = None;
    if let Some((found, reference)) = best {
        manifest = Some(reference.manifest.clone());
        deviations.extend(found.into_iter().map(|deviation| Deviation {
            manifest: reference.manifest.clone(),
            ..deviation
        }));
    }
    BootAppraisal {
        deviations,
        manifest,
    }
}

fn certify<'a>(
    bytes: &'a [u8],
    prefix: &CertifiedPrefix,
    deviations: &mut Vec<Deviation>,
) -> Option<CertifiedBootLog<'a>> {
    let (reason, note) = match BootLog::parse(bytes) {
        Err(error) => (Reason::BootLogMalformed, error.to_string()),
        Ok(log) => match CertifiedBootLog::certify(log, prefix) {
            Ok(certified) => return Some(certified),
            Err(error) => (Reason::BootLogDoesNotReplay, error.to_string()),
        },
    };
    deviations.push(Deviation::new(reason).with_note(note));
    None
}

fn compare(
    prefix: &CertifiedPrefix,
    log: Option<&CertifiedBootLog<'_>>,
    reference: &BootReference,
) -> Vec<Deviation> {
    let mut found = static_pcrs(prefix, reference);
    if reference.expectations.is_empty() {
        return found;
    }
    match log {
        Some(log) => found.extend(events::check(log, &reference.expectations)),
        None => found.push(Deviation::new(Reason::BootLogMissing)),
    }
    found
}

fn static_pcrs(prefix: &CertifiedPrefix, reference: &BootReference) -> Vec<Deviation> {
    let mut found = Vec::new();
    let values = reference.pcrs.iter().flat_map(|(alg, pcrs)| {
        let pcrs = pcrs.iter();
        pcrs.map(move |(pcr, allowed)| (*alg, u32::from(*pcr), allowed))
    });
    for (alg, pcr, allowed) in values {
        let measured = HashAlg::from_u16(alg).and_then(|bank| prefix.state().value(bank, pcr));
        let fits = |value: &Vec<u8>| measured.is_some_and(|measured| measured.as_bytes() == *value);
        if allowed.iter().any(fits) {
            continue;
        }
        let deviation = Deviation::of_pcr(Reason::PcrValueUnexpected, pcr)
            .with_expected(allowed.iter().cloned());
        found.push(match measured {
            Some(value) => deviation.with_measured(value.as_bytes()),
            None => deviation.with_note("the quote does not cover this PCR in this bank"),
        });
    }
    found
}
