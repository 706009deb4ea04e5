//! PCR selections as people write them: `sha256:0-10,14+sha1:10`.

use core::fmt;

use heapless::Vec as Bounded;
use mote_schemas::limits::{MAX_PCR_BANKS, PCR_COUNT};
use mote_schemas::tpm::HashAlg;

use crate::tpm::PcrSelection;

/// Firmware and its settings, Secure Boot state (0 to 7), boot loader, kernel and initrd (8, 9),
/// IMA (10), shim's keys (14): what is settled once the system is up, but for 10, which has a log
/// of its own. Left out are 11 to 13 and 15, which systemd extends as it pleases while it runs, 16
/// and 23, which any program may reset, and 17 to 22, which need a dynamic launch (PC Client
/// Platform Firmware Profile, 3.3.4; UAPI Group's Linux TPM PCR Registry).
pub(super) const DEFAULT: &str = "sha256:0-10,14";

/// Text that is not a PCR selection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PcrListError {
    /// A part without a bank.
    NoBank(String),
    /// A bank that is unknown here.
    UnknownBank(String),
    /// The same bank twice.
    Twice(HashAlg),
    /// Not a PCR or a range of PCRs.
    NotAPcr(String),
    /// More banks than a quote may have.
    TooManyBanks,
}

impl fmt::Display for PcrListError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoBank(part) => write!(f, "{part:?} names no bank: write {DEFAULT:?}, say"),
            Self::UnknownBank(name) => {
                write!(f, "{name:?} is none of sha1, sha256, sha384 and sha512")
            }
            Self::Twice(bank) => write!(f, "{bank} comes twice: put its PCRs into one list"),
            Self::NotAPcr(part) => write!(
                f,
                "{part:?} is not a PCR from 0 to {} or a range of them",
                PCR_COUNT - 1
            ),
            Self::TooManyBanks => write!(f, "more than {MAX_PCR_BANKS} banks"),
        }
    }
}

impl std::error::Error for PcrListError {}

/// Reads `BANK:LIST[+BANK:LIST...]`, where LIST has PCRs and ranges of them between commas.
///
/// ```
/// let pcrs = mote_agent::config::parse_pcrs("sha256:0-2,10").unwrap();
/// assert_eq!((pcrs[0].bank, pcrs[0].mask), (0x000B, 0b100_0000_0111));
/// ```
pub fn parse_pcrs(text: &str) -> Result<Bounded<PcrSelection, MAX_PCR_BANKS>, PcrListError> {
    let mut selection: Bounded<PcrSelection, MAX_PCR_BANKS> = Bounded::new();
    for part in text.split('+') {
        let (name, list) = part
            .split_once(':')
            .ok_or_else(|| PcrListError::NoBank(part.to_owned()))?;
        let alg = HashAlg::from_name(name.trim())
            .ok_or_else(|| PcrListError::UnknownBank(name.to_owned()))?;
        let bank = alg.to_u16();
        if selection.iter().any(|other| other.bank == bank) {
            return Err(PcrListError::Twice(alg));
        }
        let mut mask = 0;
        for range in list.split(',') {
            mask |= parse_range(range.trim()).ok_or_else(|| PcrListError::NotAPcr(range.into()))?;
        }
        selection
            .push(PcrSelection { bank, mask })
            .map_err(|_| PcrListError::TooManyBanks)?;
    }
    Ok(selection)
}

fn parse_range(text: &str) -> Option<u32> {
    let pcr = |text: &str| {
        text.parse::<u32>()
            .ok()
            .filter(|pcr| (*pcr as usize) < PCR_COUNT)
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (pcr(first)?, pcr(last)?);
    (first <= last).then(|| (first..=last).fold(0, |mask, pcr| mask | 1 << pcr))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_ranges_in_any_number_of_banks() {
        let parsed = parse_pcrs("sha256:0-10,14 + sha1: 23,0-0").unwrap();
        let bank = |bank, mask| PcrSelection { bank, mask };
        assert_eq!(parsed, [bank(0x000B, 0x47FF), bank(0x0004, 0x80_0001)]);
        assert!(parse_pcrs(DEFAULT).is_ok());
    }

    #[test]
    fn everything_else_is_refused_by_name() {
        let not_a_pcr = |text: &str| PcrListError::NotAPcr(text.to_owned());
        for (text, error) in [
            ("", PcrListError::NoBank(String::new())),
            ("0-10", PcrListError::NoBank("0-10".to_owned())),
            ("sha256", PcrListError::NoBank("sha256".to_owned())),
            ("sha3:0", PcrListError::UnknownBank("sha3".to_owned())),
            ("sha1:0+sha1:1", PcrListError::Twice(HashAlg::Sha1)),
            ("sha256:", not_a_pcr("")),
            ("sha256:24", not_a_pcr("24")),
            ("sha256:5-3", not_a_pcr("5-3")),
            ("sha256:0-", not_a_pcr("0-")),
            ("sha256:1,,2", not_a_pcr("")),
            ("sha256:-1", not_a_pcr("-1")),
            ("sha256:0+", PcrListError::NoBank(String::new())),
        ] {
            assert_eq!(parse_pcrs(text), Err(error), "{text:?}");
        }
    }
}
