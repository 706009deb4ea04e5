//! How a device stands after a message: what a reply tells it, and what it is asked for.

use log::debug;
use mote_schemas::message::{Ranges, Tier, Wants};
use mote_schemas::reason::Reason;

use super::Attestation;
use crate::engine::{Internal, boot_log};

/// How a device stands after a message.
#[derive(Clone, Debug, Default)]
pub(in crate::engine) struct Standing {
    pub(in crate::engine) next_record: u64,
    pub(in crate::engine) tier: Tier,
    pub(in crate::engine) reasons: Vec<Reason>,
    pub(in crate::engine) wants: Wants,
    /// Records wanted in full.
    pub(in crate::engine) records: Ranges,
    /// Offset from which the boot log is wanted.
    pub(in crate::engine) boot_log: Option<u32>,
    /// Offset from which the next record is wanted, after a part of it.
    pub(in crate::engine) record_offset: Option<u32>,
    /// Number of the record with which the device's list begins.
    pub(in crate::engine) first: Option<u64>,
    /// Number of the first record that the device must keep.
    pub(in crate::engine) released: Option<u64>,
}

impl Standing {
    /// Nothing is asked of a device that nobody has admitted, and nothing kept.
    pub(in crate::engine) fn pending_admission() -> Self {
        Standing {
            reasons: vec![Reason::AdmissionPending],
            ..Standing::default()
        }
    }
}

impl Attestation<'_> {
    /// How the device stands: its verdict, or what must arrive first, the log or the quote that it belongs
    /// to.
    pub(in crate::engine) fn stands(&self) -> Result<Standing, Internal> {
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

    /// The standing of a device whose quote could not be rebuilt: as it was, and asked for it in full.
    pub(in crate::engine) fn full_quote_wanted(&self) -> Result<Standing, Internal> {
        let mut standing = self.stands()?;
        standing.wants = standing.wants.and(Wants::FULL_QUOTE);
        Ok(standing)
    }

    /// The standing of a device whose message named records that are not known: as it was, and asked
    /// for these in full.
    pub(in crate::engine) fn records_wanted(&self, records: Ranges) -> Result<Standing, Internal> {
        let mut standing = self.stands()?;
        standing.records = records;
        Ok(standing)
    }

    /// The standing of a device whose nonce has expired: as it was, and asked to quote again.
    pub(in crate::engine) fn nonce_expired(self) -> Result<Standing, Internal> {
        let mut standing = if self.is_admitted() {
            self.stands()?
        } else {
            Standing::pending_admission()
        };
        standing.reasons.insert(0, Reason::NonceExpired);
        Ok(standing)
    }

    /// Gives up the outstanding quote and asks for another with PCR values, for this reason. In full:
    /// of one that leaves its digest to what we know, nothing could be made, and the PCR values that
    /// came with it would have to be asked for once more.
    pub(super) fn ask_for_pcrs(&mut self, reason: Reason) -> Standing {
        self.drop_outstanding();
        self.keep_records();
        Standing {
            next_record: self.received(),
            reasons: vec![reason],
            wants: Wants::PCR_VALUES.and(Wants::FULL_QUOTE),
            ..Standing::default()
        }
    }
}

fn reasons_of(tokens: &[String]) -> Vec<Reason> {
    tokens
        .iter()
        .filter_map(|token| Reason::from_token(token))
        .collect()
}
