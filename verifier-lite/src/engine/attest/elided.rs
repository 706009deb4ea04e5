//! Elided quotes in a device's evidence: what is stored of the last one puts the next together.

use mote_schemas::message::{Beat, ElidedQuote};
use mote_schemas::tpm::{Baseline, PcrSelection};

use super::Attestation;
use super::quote::clock_of;
use crate::elided::{last_digests, rebuild};
use crate::engine::Internal;
use crate::engine::outcome::Refusal;
use crate::prefix::LogState;
use crate::quote::VerifiedQuote;
use crate::signature::VerifyingKey;
use crate::store::{BootState, Quoted};

impl Attestation<'_> {
    /// Takes an elided quote and the records that came with it. False when the quote cannot be
    /// rebuilt; then nothing of this attestation may be stored.
    pub(in crate::engine) fn elided(
        &mut self,
        quote: &ElidedQuote<'_>,
        beat: &Beat<'_>,
        key: &VerifyingKey,
        extra_data: &[u8; 32],
    ) -> Result<Result<bool, Refusal>, Internal> {
        let baseline = match &self.record.boot {
            Some(boot) => baseline(boot, key),
            None => None,
        };
        let Some(baseline) = baseline else {
            return Ok(Ok(false));
        };
        if let Err(refusal) = self.take_records(beat)? {
            return Ok(Err(refusal));
        }
        if !self.unresolved.is_empty() {
            return Ok(Ok(false));
        }
        let changes = beat.changes.unwrap_or_default();
        // Mostly there is nothing new.
        let unchanged = self
            .unchanged(&baseline.selection, key.hash())
            .filter(|_| self.brings_nothing());
        let digests = match &self.record.boot {
            Some(_) if unchanged.is_some() => unchanged.into_iter().collect(),
            Some(boot) if changes.pcr_digest.is_none() => last_digests(
                &LogState::of(boot),
                &self.uncertified(boot)?,
                &baseline.selection,
                key.hash(),
            ),
            _ => Vec::new(),
        };
        let rebuilt = rebuild(quote, &changes, &baseline, key, extra_data, &digests);
        let Some(rebuilt) = rebuilt else {
            return Ok(Ok(false));
        };
        let whole = (&rebuilt.attest[..], &rebuilt.signature[..]);
        let records = super::records_after(beat);
        let taken = self.quote(&rebuilt.verified, whole, extra_data, records);
        Ok(taken.map(|()| true))
    }

    /// Takes the records of a beat, if it has any.
    pub(in crate::engine) fn take_records(
        &mut self,
        beat: &Beat<'_>,
    ) -> Result<Result<(), Refusal>, Internal> {
        match (beat.from, &beat.entries) {
            (Some(from), Some(entries)) => self.append(from, entries),
            _ => Ok(Ok(())),
        }
    }
}

/// What to keep of an accepted quote.
pub(super) fn quoted(verified: &VerifiedQuote) -> Option<Quoted> {
    // Four banks, each with a 3-byte bitmap.
    let mut buffer = [0; 64];
    let selection = verified.selection().encode(&mut buffer).ok()?;
    Some(Quoted {
        firmware_version: verified.firmware_version(),
        selection: selection.to_vec(),
    })
}

/// What the device's last accepted quote tells about its next, in the same boot.
fn baseline(boot: &BootState, key: &VerifyingKey) -> Option<Baseline> {
    let quoted = boot.quoted.as_ref()?;
    Some(Baseline {
        signer: key.qualified_name(),
        clock_info: clock_of(boot),
        firmware_version: quoted.firmware_version,
        selection: PcrSelection::parse(&quoted.selection).ok()?,
    })
}
