//! From a boot event log to events that are known to have been extended.

use std::fmt;

use mote_schemas::bootlog::{BootLog, BootPcrs, Event, ReplayError};
use mote_schemas::tpm::HashAlg;

use crate::prefix::{CertifiedPrefix, IMA_PCR};

/// PCRs of firmware and boot loader (PC Client Platform Firmware Profile 1.06, 3.3.4). Nothing else
/// extends them, so the log must explain each that is quoted.
const FIRMWARE_PCRS: u32 = 0x03FF;

/// PCRs that a boot loader begins (systemd-stub: 11 to 13) and the running system goes on with
/// (systemd-pcrphase, systemd-pcrmachine, shim's MOK in 14).
const SHARED_PCRS: u32 = 0xF800;

/// Whether bit `pcr` is set.
fn has(mask: u32, pcr: u32) -> bool {
    pcr < u32::BITS && mask >> pcr & 1 == 1
}

/// Why a log is not evidence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BootLogMismatch {
    /// The log has no digests of any quoted bank.
    NoQuotedBank(Option<ReplayError>),
    /// These firmware PCRs do not have the values that the log leads to.
    DoesNotReplay {
        /// The bank.
        bank: HashAlg,
        /// The PCRs, ascending.
        pcrs: Vec<u32>,
    },
}

impl fmt::Display for BootLogMismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoQuotedBank(None) => f.write_str("no PCR of the boot log is quoted"),
            Self::NoQuotedBank(Some(error)) => {
                write!(f, "the boot log has no digests of a quoted bank: {error}")
            }
            Self::DoesNotReplay { bank, pcrs } => {
                let pcrs: Vec<_> = pcrs.iter().map(ToString::to_string).collect();
                write!(
                    f,
                    "the boot log does not lead to the quoted value of PCR {} in bank {bank}",
                    pcrs.join(", ")
                )
            }
        }
    }
}

impl std::error::Error for BootLogMismatch {}

/// A boot log whose replay gives the quoted values of every firmware PCR. Its constructor is that check.
#[derive(Clone, Debug)]
pub struct CertifiedBootLog<'a> {
    log: BootLog<'a>,
    bank: HashAlg,
    certified: u32,
    mismatched: u32,
    extended: u32,
}

impl<'a> CertifiedBootLog<'a> {
    /// Replays `log` in each quoted bank that it has digests for. PCRs that IMA extends cannot be
    /// compared and are not certified. A PCR above 10 may have been extended after the log ended: then
    /// it is not certified either.
    pub fn certify(log: BootLog<'a>, prefix: &CertifiedPrefix) -> Result<Self, BootLogMismatch> {
        let state = prefix.state();
        let ima = state.log_pcrs | 1 << IMA_PCR;
        let mut missing = None;
        let mut certified = None;
        // The strongest bank last: it is the one to compare digests in.
        for bank in HashAlg::ALL {
            let quoted: Vec<_> = (0..16)
                .filter(|pcr| has((FIRMWARE_PCRS | SHARED_PCRS) & !ima, *pcr))
                .filter_map(|pcr| Some((pcr, state.value(bank, pcr)?)))
                .collect();
            if quoted.is_empty() {
                continue;
            }
            let replayed = match BootPcrs::replay(&log, bank) {
                Ok(replayed) => replayed,
                Err(error) => {
                    missing = Some(error);
                    continue;
                }
            };
            let (equal, other): (Vec<_>, Vec<_>) = quoted
                .into_iter()
                .partition(|(pcr, value)| replayed.get(*pcr) == Some(value));
            let mask = |list: &[(u32, _)]| list.iter().fold(0, |mask, (pcr, _)| mask | 1 << pcr);
            let (equal, other) = (mask(&equal), mask(&other));
            if other & FIRMWARE_PCRS != 0 {
                let pcrs = (0..16).filter(|pcr| has(other & FIRMWARE_PCRS, *pcr));
                return Err(BootLogMismatch::DoesNotReplay {
                    bank,
                    pcrs: pcrs.collect(),
                });
            }
            certified = Some((bank, equal, other, replayed.extended()));
        }
        let (bank, certified, mismatched, extended) =
            certified.ok_or(BootLogMismatch::NoQuotedBank(missing))?;
        Ok(Self {
            log,
            bank,
            certified,
            mismatched,
            extended,
        })
    }

    /// The bank to compare digests in: the strongest that is quoted and that the log has.
    pub fn bank(&self) -> HashAlg {
        self.bank
    }

    /// PCRs whose events are certified: bit n is PCR n.
    pub fn certified_pcrs(&self) -> u32 {
        self.certified
    }

    /// Whether the events of this PCR are certified.
    pub fn certifies(&self, pcr: u32) -> bool {
        has(self.certified, pcr)
    }

    /// PCRs that the log has events for and that were extended further after it ended.
    pub fn unexplained_pcrs(&self) -> u32 {
        self.mismatched & self.extended
    }

    /// Whether this PCR, one above 10, is quoted with another value than the log leads to.
    pub fn mismatches(&self, pcr: u32) -> bool {
        has(self.mismatched, pcr)
    }

    /// The certified events: those that extended a certified PCR, in their order.
    pub fn events(&self) -> impl Iterator<Item = Event<'a>> + '_ {
        self.log
            .events()
            .filter(|event| event.is_extended() && self.certifies(event.pcr))
    }
}
