//! What the PCRs must be after a boot log.

use core::fmt;

use super::BootLog;
use crate::pcr::PcrBank;
use crate::tpm::{Digest, HashAlg};

/// Data of the remark that says at which locality the TPM was started (10.4.5.3).
const STARTUP_LOCALITY: &[u8; 16] = b"StartupLocality\0";

/// A log that cannot be replayed in a bank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplayError {
    /// An event has no digest for the bank.
    NoDigest {
        /// Number of the event.
        event: u32,
        /// The bank.
        bank: HashAlg,
    },
}

impl fmt::Display for ReplayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::NoDigest { event, bank } = self;
        write!(f, "boot log, event {event}: no {bank} digest")
    }
}

impl core::error::Error for ReplayError {}

/// The PCRs of one bank, replayed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootPcrs {
    bank: PcrBank,
    extended: u32,
    locality: u8,
}

impl BootPcrs {
    /// Replays `log` in `bank`.
    pub fn replay(log: &BootLog<'_>, bank: HashAlg) -> Result<Self, ReplayError> {
        let mut pcrs = Self {
            bank: PcrBank::new(bank),
            extended: 0,
            locality: 0,
        };
        for event in log.events() {
            if !event.is_extended() {
                if let Some(locality) = startup_locality(event.data)
                    && pcrs.extended & 1 == 0
                {
                    pcrs.start_at(locality);
                }
                continue;
            }
            let digest = event.digest(bank).ok_or(ReplayError::NoDigest {
                event: event.number,
                bank,
            })?;
            // `BootLog::parse` let only PCRs pass that exist, and the digest is of this bank.
            if pcrs.bank.extend(event.pcr, &digest).is_ok() {
                pcrs.extended |= 1 << event.pcr;
            }
        }
        Ok(pcrs)
    }

    /// PCR 0 begins with the locality that `TPM2_Startup` came from in its last byte (PC Client
    /// Platform TPM Profile, 4.6; the remark stands before the first extend of PCR 0).
    fn start_at(&mut self, locality: u8) {
        let alg = self.bank.alg();
        let mut value = [0; crate::tpm::MAX_DIGEST];
        value[alg.digest_len() - 1] = locality;
        if let Some(value) = Digest::new(alg, &value[..alg.digest_len()])
            && self.bank.set(0, value).is_ok()
        {
            self.locality = locality;
        }
    }

    /// The bank's values. Those that no event extended are what a TPM reset leaves.
    pub const fn bank(&self) -> &PcrBank {
        &self.bank
    }

    /// Value of a PCR.
    pub fn get(&self, pcr: u32) -> Option<&Digest> {
        self.bank.get(pcr)
    }

    /// PCRs that events extended: bit n is PCR n.
    pub const fn extended(&self) -> u32 {
        self.extended
    }

    /// The locality that the log says the TPM was started from: 0, 3 or 4.
    pub const fn startup_locality(&self) -> u8 {
        self.locality
    }
}

/// The locality in a `TCG_EfiStartupLocalityEvent`. A TPM can be started from 0 and 3; the hardware
/// root of trust leaves 4.
pub(super) fn startup_locality(data: &[u8]) -> Option<u8> {
    match data.strip_prefix(STARTUP_LOCALITY) {
        Some(&[locality @ (0 | 3 | 4), ..]) => Some(locality),
        _ => None,
    }
}
