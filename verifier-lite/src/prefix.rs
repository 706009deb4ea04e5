//! Which part of a device's IMA log a quote certifies.
//!
//! The kernel appends to its list first and extends the TPM after, and the agent reads the list after the
//! quote; so what arrives may be more, or, while it is still arriving, less, than what was quoted. Replay
//! finds the number of records after which the selected PCRs hash to the quote's `pcrDigest`: that prefix
//! is certified, the rest waits for the next quote (TPM 2.0 Library part 1, 17; part 3, `TPM2_Quote`).
//!
//! Records and PCR values are the peer's word. The values of PCRs that IMA extends are replayed and never
//! taken from the peer; those of the others are believed only because they too hash to the quote's digest.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use mote_schemas::limits::PCR_COUNT;
use mote_schemas::pcr::{extend, initial};
use mote_schemas::reason::Reason;
use mote_schemas::tpm::{Digest, HashAlg, Hasher, PcrSelection};

use crate::log_entry::LogEntry;
use crate::quote::VerifiedQuote;
use crate::store::{BootState, PcrBank, PcrValue};
use replay::Replay;

mod replay;

/// The PCR that the kernel extends unless its policy names another (`CONFIG_IMA_MEASURE_PCR_IDX`).
pub const IMA_PCR: u32 = 10;

/// Why nothing can be certified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrefixError {
    /// Records are missing before those that came.
    Gap {
        /// Number of the record wanted next.
        wanted: u64,
        /// Number of the first record that came.
        got: u64,
    },
    /// A record in a PCR that no TPM has.
    NoSuchPcr {
        /// Number of the record.
        record: u64,
        /// Its PCR.
        pcr: u32,
    },
    /// The quote does not cover a PCR that IMA extends.
    ImaPcrNotQuoted {
        /// The PCR.
        pcr: u32,
    },
    /// The value of a quoted PCR is neither known nor claimed; or, of one that IMA extends, not known
    /// after the records certified so far, so that the log must be replayed from its start.
    UnknownPcr {
        /// Its bank.
        bank: HashAlg,
        /// Its number.
        pcr: u32,
    },
    /// The values that the peer claims do not hash to the quote's digest.
    PcrDigestMismatch,
    /// The quoted PCRs were never extended: the kernel's IMA had found no TPM when it started, so nothing
    /// vouches for its log; or it does not run at all.
    ImaWithoutTpm,
    /// All records are here, and after none of them do the PCRs hash to the quote's digest: a record was
    /// left out, changed or added.
    DoesNotReplay {
        /// How many records there are, from the first of the boot.
        records: u64,
    },
}

impl PrefixError {
    /// The reason to give.
    pub fn reason(&self) -> Reason {
        match self {
            PrefixError::Gap { .. } => Reason::LogIncomplete,
            PrefixError::NoSuchPcr { .. } => Reason::RecordMalformed,
            PrefixError::ImaPcrNotQuoted { .. } => Reason::QuotePcrSelection,
            PrefixError::UnknownPcr { .. } => Reason::QuoteOutstanding,
            PrefixError::PcrDigestMismatch => Reason::PcrDigestMismatch,
            PrefixError::ImaWithoutTpm => Reason::ImaWithoutTpm,
            PrefixError::DoesNotReplay { .. } => Reason::LogDoesNotReplay,
        }
    }
}

impl fmt::Display for PrefixError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PrefixError::Gap { wanted, got } => {
                write!(f, "record {wanted} is wanted next, but {got} came")
            }
            PrefixError::NoSuchPcr { record, pcr } => {
                write!(f, "record {record} is in PCR {pcr}, which no TPM has")
            }
            PrefixError::ImaPcrNotQuoted { pcr } => {
                write!(
                    f,
                    "the log is in PCR {pcr} too, which the quote does not cover"
                )
            }
            PrefixError::UnknownPcr { bank, pcr } => {
                write!(f, "the value of PCR {pcr} in bank {bank} is not known")
            }
            PrefixError::PcrDigestMismatch => {
                f.write_str("the PCR values do not hash to the quote's pcrDigest")
            }
            PrefixError::ImaWithoutTpm => {
                f.write_str("no record of a log was extended into the TPM")
            }
            PrefixError::DoesNotReplay { records } => write!(
                f,
                "the quoted PCRs are not reached by replaying the log's {records} records"
            ),
        }
    }
}

impl std::error::Error for PrefixError {}

/// Where a log stands: what to store after a quote, and to go on from at the next.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct LogState {
    /// Records since the boot.
    pub records: u64,
    /// PCRs that records went into, besides [`IMA_PCR`]: bit n is PCR n.
    pub log_pcrs: u32,
    /// Banks into which this kernel extends SHA-1 padded with zeros, as the records so far have shown
    /// (Linux before 5.8 in all, later ones where a hash was not there when IMA started).
    pub padded: BTreeSet<HashAlg>,
    /// PCR values after those records, by bank and PCR.
    pub values: BTreeMap<(HashAlg, u32), Digest>,
}

impl LogState {
    /// Right after a TPM reset: no records, and nothing known of any PCR.
    pub fn at_boot() -> Self {
        Self::default()
    }

    /// After what quotes have certified of this boot.
    pub(crate) fn of(boot: &BootState) -> Self {
        let padded = boot.padded_banks.iter().flatten();
        LogState {
            records: boot.certified,
            log_pcrs: boot.log_pcrs,
            padded: padded.filter_map(|alg| HashAlg::from_u16(*alg)).collect(),
            values: values_of(&boot.pcrs),
        }
    }

    /// A PCR's value, if known.
    pub fn value(&self, bank: HashAlg, pcr: u32) -> Option<&Digest> {
        self.values.get(&(bank, pcr))
    }
}

/// PCR values as they are stored, one entry for each bank.
pub(crate) fn values_by_bank(state: &LogState) -> Vec<PcrBank> {
    let mut banks: Vec<PcrBank> = Vec::new();
    for ((alg, pcr), value) in &state.values {
        let value = PcrValue {
            index: *pcr as u8,
            value: value.as_bytes().to_vec(),
        };
        match banks.last_mut() {
            Some(bank) if bank.alg == alg.to_u16() => bank.values.push(value),
            _ => banks.push(PcrBank {
                alg: alg.to_u16(),
                values: vec![value],
            }),
        }
    }
    banks
}

/// Whether these are its PCR values, as they are stored.
pub(crate) fn are_values(banks: &[PcrBank], state: &LogState) -> bool {
    let stored = banks.iter().flat_map(|bank| {
        let values = bank.values.iter();
        values.map(|value| (bank.alg, u32::from(value.index), &value.value[..]))
    });
    let of_state = state.values.iter();
    let of_state = of_state.map(|((alg, pcr), value)| (alg.to_u16(), *pcr, value.as_bytes()));
    stored.eq(of_state)
}

/// What a quote over `selection` digests, in `alg`, where the PCRs have these values, as they are stored. `None`:
/// that of a selected PCR is not known.
pub(crate) fn stored_digest(
    banks: &[PcrBank],
    selection: &PcrSelection,
    alg: HashAlg,
) -> Option<Digest> {
    let mut hasher = Hasher::new(alg);
    for (bank, pcr) in selection {
        let of_bank = banks.iter().find(|stored| stored.alg == bank.to_u16())?;
        let mut values = of_bank.values.iter();
        let value = values.find(|value| u32::from(value.index) == pcr)?;
        hasher.update(Digest::new(bank, &value.value)?.as_bytes());
    }
    Some(hasher.finish())
}

/// PCR values as they are stored, by bank and PCR.
pub(crate) fn values_of(banks: &[PcrBank]) -> BTreeMap<(HashAlg, u32), Digest> {
    banks
        .iter()
        .filter_map(|bank| Some((HashAlg::from_u16(bank.alg)?, &bank.values)))
        .flat_map(|(alg, values)| values.iter().map(move |value| (alg, value)))
        .filter_map(|(alg, value)| {
            let digest = Digest::new(alg, &value.value)?;
            Some(((alg, u32::from(value.index)), digest))
        })
        .collect()
}

/// A log state that a quote vouches for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertifiedPrefix(LogState);

impl CertifiedPrefix {
    /// How many records of the boot are certified, and the PCR values after them.
    pub fn state(&self) -> &LogState {
        &self.0
    }
}

/// What a quote certified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certified<E> {
    prefix: CertifiedPrefix,
    first: u64,
    entries: Vec<E>,
}

impl<E: LogEntry> Certified<E> {
    /// All records of a boot that quotes have certified before, from where `state` and they were stored.
    /// They must still lead from the reset to the PCR values that were certified.
    pub fn replayed(state: LogState, entries: Vec<E>) -> Result<Self, PrefixError> {
        let failed = PrefixError::DoesNotReplay {
            records: entries.len() as u64,
        };
        let replayed = state
            .values
            .keys()
            .filter(|(_, pcr)| state.log_pcrs >> pcr & 1 == 1);
        // Of a bank that is padded, either padding may be this kernel's.
        let mut values: Vec<((HashAlg, u32), [Digest; 2])> = replayed
            .map(|&(bank, pcr)| ((bank, pcr), [initial(bank, pcr); 2]))
            .collect();
        for entry in &entries {
            for ((bank, pcr), both) in &mut values {
                if *pcr != entry.pcr() {
                    continue;
                }
                for (value, ones) in both.iter_mut().zip([false, true]) {
                    let digest = if state.padded.contains(bank) {
                        entry.extend_digest_padded(*bank, ones)
                    } else {
                        entry.extend_digest(*bank)
                    };
                    *value = extend(value, &digest).map_err(|_| failed)?;
                }
            }
        }
        let reached = values.iter().all(|(key, both)| {
            let certified = state.values.get(key);
            both.iter().any(|value| certified == Some(value))
        });
        if values.is_empty() || !reached || state.records != entries.len() as u64 {
            return Err(failed);
        }
        Ok(Certified {
            prefix: CertifiedPrefix(state),
            first: 0,
            entries,
        })
    }
}

impl<E> Certified<E> {
    /// The whole prefix, with its PCR values.
    pub fn prefix(&self) -> &CertifiedPrefix {
        &self.prefix
    }

    /// The records that this quote added to it, with their numbers; perhaps none.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = (u64, &E)> {
        self.entries
            .iter()
            .enumerate()
            .map(|(index, entry)| (self.first + index as u64, entry))
    }
}

/// Outcome of [`PendingLog::certify`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome<E> {
    /// The quote certifies these records.
    Certified(Certified<E>),
    /// The quote covers records that have not arrived. Append them and call again with this quote.
    NeedMore,
}

/// Records since the last certified one, waiting for a quote that covers them.
#[derive(Clone, Debug)]
pub struct PendingLog<E> {
    start: LogState,
    entries: Vec<E>,
    /// PCRs that `entries` went into: bit n is PCR n.
    pcrs: u32,
    /// Begun before: as most kernels fill their banks, and in every reading.
    replays: [Option<Replay>; 2],
}

impl<E: LogEntry> PendingLog<E> {
    /// Goes on from here: [`LogState::at_boot`], or what was certified last.
    pub fn new(start: LogState) -> Self {
        PendingLog {
            start,
            entries: Vec::new(),
            pcrs: 0,
            replays: [None, None],
        }
    }

    /// What was certified last.
    pub fn start(&self) -> &LogState {
        &self.start
    }

    /// Number of the record wanted next.
    pub fn next_record(&self) -> u64 {
        self.start.records + self.entries.len() as u64
    }

    /// Adds records, the first of which has number `first` in the boot's log. Those that are here already
    /// are passed over (a retransmission repeats them); returns how many were new. On an error nothing
    /// is added.
    pub fn append(
        &mut self,
        first: u64,
        entries: impl IntoIterator<Item = E>,
    ) -> Result<usize, PrefixError> {
        let wanted = self.next_record();
        let Some(known) = wanted.checked_sub(first) else {
            return Err(PrefixError::Gap { wanted, got: first });
        };
        let known = usize::try_from(known).unwrap_or(usize::MAX);
        let new: Vec<E> = entries.into_iter().skip(known).collect();
        let mut pcrs = self.pcrs;
        for (record, entry) in (wanted..).zip(&new) {
            let pcr = entry.pcr();
            if pcr as usize >= PCR_COUNT {
                return Err(PrefixError::NoSuchPcr { record, pcr });
            }
            pcrs |= 1 << pcr;
        }
        self.pcrs = pcrs;
        let count = new.len();
        self.entries.extend(new);
        Ok(count)
    }

    /// Finds the records that `quote` covers. `claims` are PCR values that the peer says it had when it was
    /// made: needed for PCRs that IMA does not extend and whose value is not known from before, or has
    /// changed since; of a PCR that IMA extends, a claim only saves work. `all_here` says that no
    /// record that the quote could cover is still to come: then it must be matched.
    ///
    /// On an error, and when more is needed, what was certified and what is pending stays as it was.
    pub fn certify(
        &mut self,
        quote: &VerifiedQuote,
        claims: &BTreeMap<(HashAlg, u32), Digest>,
        all_here: bool,
    ) -> Result<Outcome<E>, PrefixError> {
        let log_pcrs = self.log_pcrs(quote.selection())?;
        // Only where that leads nowhere is a log read as a kernel writes it that pads SHA-1: each reading
        // costs as much as the first. After the first quote the records have told which holds.
        let every = self.start.records > 0;
        let passes = if every { &[true][..] } else { &[false, true] };
        let mut reached = None;
        for every in passes {
            let begun = &mut self.replays[usize::from(*every)];
            // Replay done for this quote before is not done again.
            let mut replay = match begun.take() {
                Some(replay) if replay.is_for(quote, claims, log_pcrs) => replay,
                _ => Replay::new(&self.start, log_pcrs, quote, claims, *every)?,
            };
            if let Some(readings) = replay.run(&self.entries) {
                reached = Some((replay, readings));
                break;
            }
            *begun = Some(replay);
        }
        let Some((replay, readings)) = reached else {
            return if all_here {
                Err(PrefixError::DoesNotReplay {
                    records: self.next_record(),
                })
            } else {
                Ok(Outcome::NeedMore)
            };
        };
        self.replays = [None, None];
        let first = self.start.records;
        // The kernel extends its first record (`boot_aggregate`) before anything can make a quote: no
        // prefix without it is ever certified, or a device without IMA would pass.
        if first == 0 && replay.replayed == 0 {
            return if self.entries.is_empty() && !all_here {
                Ok(Outcome::NeedMore)
            } else {
                Err(PrefixError::ImaWithoutTpm)
            };
        }
        let entries: Vec<E> = self.entries.drain(..replay.replayed).collect();
        self.pcrs = self
            .entries
            .iter()
            .fold(0, |pcrs, entry| pcrs | 1 << entry.pcr());
        self.start = replay.into_state(first + entries.len() as u64, &readings);
        Ok(Outcome::Certified(Certified {
            prefix: CertifiedPrefix(self.start.clone()),
            first,
            entries,
        }))
    }

    /// All PCRs that records went into, [`IMA_PCR`] included even before the first: its value must never
    /// be taken from a claim. Each must be quoted.
    fn log_pcrs(&self, selection: &PcrSelection) -> Result<u32, PrefixError> {
        let quoted = selection
            .banks()
            .iter()
            .fold(0, |all, bank| all | bank.mask());
        let log_pcrs = self.start.log_pcrs | self.pcrs | 1 << IMA_PCR;
        let missing = log_pcrs & !quoted;
        if missing != 0 {
            let pcr = missing.trailing_zeros();
            return Err(PrefixError::ImaPcrNotQuoted { pcr });
        }
        Ok(log_pcrs)
    }
}

#[cfg(test)]
mod tests;
