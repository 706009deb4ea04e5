//! A quote without what the verifier knows anyway.
//!
//! Of `TPMS_ATTEST` only the clock is news in most heartbeats: the signer is the attestation key, the
//! extraData the verifier's own nonce, firmware and selection those of the last quote, and the
//! pcrDigest follows from the log. [`elide`] takes all that away, [`Elided::rebuild`] puts it back,
//! byte for byte. Nothing is trusted for having been rebuilt: the attestation key's signature over
//! the rebuilt bytes is checked as over any others, and a wrong guess anywhere fails it.

use super::attest::{Attest, ClockInfo};
use super::name::Name;
use super::pcr_selection::PcrSelection;

/// What both sides know from a quote that the verifier has accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Baseline {
    /// Qualified name of the attestation key.
    pub signer: Name,
    /// Clock and counters of that quote.
    pub clock_info: ClockInfo,
    /// The TPM's firmware.
    pub firmware_version: u64,
    /// The PCRs that are quoted.
    pub selection: PcrSelection,
}

impl Baseline {
    /// From an accepted quote; `None` when its signer is not named by a hash known here.
    pub fn of(attest: &Attest<'_>) -> Option<Self> {
        Some(Self {
            signer: Name::parse(attest.qualified_signer).ok()?,
            clock_info: attest.clock_info,
            firmware_version: attest.firmware_version,
            selection: attest.pcr_select,
        })
    }
}

/// The low bytes of `clock`, as many as tell it from every other value since the baseline's.
///
/// The reader takes the first value at or after *its* baseline that ends in these bytes. That is
/// the right one even when the reader has accepted a later quote than the writer knows of (its
/// reply was lost): the gap from there is only smaller. A gap of up to 65 s needs two bytes, 4.6 h
/// three, 49 days four.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LowClock {
    bytes: [u8; 8],
    len: u8,
}

impl LowClock {
    /// `clock` as seen from `since`; `None` when it went back.
    pub fn of(clock: u64, since: u64) -> Option<Self> {
        let gap = clock.checked_sub(since)?;
        let len = gap.checked_ilog2().map_or(1, |bit| bit / 8 + 1) as usize;
        Self::new(&clock.to_be_bytes()[8 - len..])
    }

    /// From bytes on the wire, most significant first; `None` unless there are 1 to 8.
    pub fn new(low: &[u8]) -> Option<Self> {
        if low.is_empty() {
            return None;
        }
        let mut bytes = [0; 8];
        bytes.get_mut(..low.len())?.copy_from_slice(low);
        Some(Self {
            bytes,
            len: low.len() as u8,
        })
    }

    /// The bytes on the wire.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// The first clock at or after `since` that ends in these bytes.
    pub fn resolve(&self, since: u64) -> Option<u64> {
        let low = self
            .as_bytes()
            .iter()
            .fold(0u64, |value, byte| value << 8 | u64::from(*byte));
        let bits = 8 * u32::from(self.len);
        let Some(modulus) = 1u64.checked_shl(bits) else {
            return (low >= since).then_some(low);
        };
        let candidate = since & !(modulus - 1) | low;
        if candidate >= since {
            Some(candidate)
        } else {
            candidate.checked_add(modulus)
        }
    }
}

/// What is left of a quote besides its signature and, where that does not follow, its pcrDigest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elided {
    /// The clock.
    pub clock: LowClock,
    /// restartCount, when it is another than the baseline's.
    pub restart_count: Option<u32>,
    /// `safe`, when it is another than the baseline's.
    pub safe: Option<bool>,
}

/// Takes away what follows from `baseline` and the challenge. `None` when something else in the
/// quote has changed, above all after a TPM reset: then it must travel in full.
pub fn elide(attest: &Attest<'_>, baseline: &Baseline, extra_data: &[u8]) -> Option<Elided> {
    let (now, then) = (&attest.clock_info, &baseline.clock_info);
    let follows = attest.qualified_signer == baseline.signer.as_bytes()
        && attest.extra_data == extra_data
        && attest.firmware_version == baseline.firmware_version
        && attest.pcr_select == baseline.selection
        && now.reset_count == then.reset_count;
    if !follows {
        return None;
    }
    Some(Elided {
        clock: LowClock::of(now.clock, then.clock)?,
        restart_count: (now.restart_count != then.restart_count).then_some(now.restart_count),
        safe: (now.safe != then.safe).then_some(now.safe),
    })
}

impl Elided {
    /// The quote that this was, if the baseline is the right one and so is the digest. `None` when
    /// no clock of 64 bits fits.
    pub fn rebuild<'a>(
        &self,
        baseline: &'a Baseline,
        extra_data: &'a [u8],
        pcr_digest: &'a [u8],
    ) -> Option<Attest<'a>> {
        let then = &baseline.clock_info;
        Some(Attest {
            qualified_signer: baseline.signer.as_bytes(),
            extra_data,
            clock_info: ClockInfo {
                clock: self.clock.resolve(then.clock)?,
                reset_count: then.reset_count,
                restart_count: self.restart_count.unwrap_or(then.restart_count),
                safe: self.safe.unwrap_or(then.safe),
            },
            firmware_version: baseline.firmware_version,
            pcr_select: baseline.selection,
            pcr_digest,
        })
    }
}
