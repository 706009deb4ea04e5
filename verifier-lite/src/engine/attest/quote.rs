//! A quote in a device's evidence: which boot it is of, and the PCR values that came with it. It waits
//! until the records are here that it covers.

use log::debug;
use mote_schemas::message::PcrBanks;
use mote_schemas::pcr::PcrValues;
use mote_schemas::tpm::{ClockInfo, HashAlg, PcrSelection};

use super::{Attestation, elided};
use crate::engine::boot_log;
use crate::engine::outcome::Refusal;
use crate::prefix::IMA_PCR;
use crate::quote::{Continuity, VerifiedQuote};
use crate::store::{BootState, Change, OutstandingQuote, PcrBank, PcrValue};

impl Attestation<'_> {
    /// Takes a verified quote: which boot it is of, and that it waits to be matched. `records` is the
    /// length of the list after the quote.
    pub(in crate::engine) fn quote(
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

    /// PCR values that came with the quote. Believed only if they hash to its digest.
    pub(in crate::engine) fn claims(&mut self, pcrs: &PcrBanks<'_>) {
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

    /// Takes the digest of the boot log that the session's open has named.
    pub(in crate::engine) fn boot_log(&mut self, digest: Option<[u8; 32]>) {
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

    /// Whether the TPM was restarted with cleared PCRs (power lost while suspended to RAM, say): then this
    /// is another boot, and its log is wanted from its first record. Only where records were certified
    /// before: whatever does not replay from the start is false.
    pub(super) fn start_over(&mut self) -> bool {
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

    pub(super) fn outstanding(&mut self) -> Option<&mut OutstandingQuote> {
        self.record.boot.as_mut()?.outstanding.as_mut()
    }

    pub(super) fn drop_outstanding(&mut self) {
        if let Some(boot) = &mut self.record.boot {
            boot.outstanding = None;
        }
    }

    /// Whether the quote covers PCRs that IMA does not extend.
    pub(super) fn has_boot_pcrs(&self) -> bool {
        let pcrs = self.record.boot.iter().flat_map(|boot| &boot.pcrs);
        pcrs.flat_map(|bank| &bank.values)
            .any(|value| u32::from(value.index) != IMA_PCR)
    }
}

pub(super) fn clock_of(boot: &BootState) -> ClockInfo {
    ClockInfo {
        clock: boot.clock,
        reset_count: boot.reset_count,
        restart_count: boot.restart_count,
        safe: boot.clock_safe,
    }
}
