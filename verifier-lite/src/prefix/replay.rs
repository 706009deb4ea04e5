//! Replay of one pending log against one quote, in every reading of it that may hold.
//!
//! A kernel fills a bank with digests of that bank's own algorithm, or, where it has none, with SHA-1
//! padded with zeros (`ima_calc_field_array_hash`, `ima_init_digests`). Nothing announces which; the
//! first quote that records lead to tells, and from then on only that reading counts. Two readings of one log
//! lead to one value only where no record tells them apart, so that it does not matter which is tried first.

use std::cell::OnceCell;
use std::collections::BTreeMap;

use mote_schemas::pcr::{extend, initial};
use mote_schemas::tpm::{Digest, HashAlg, hash};

use super::{LogState, PrefixError};
use crate::log_entry::{LogEntry, padded};
use crate::quote::VerifiedQuote;

/// How a kernel fills a bank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// With the bank's own hash.
    Own,
    /// With SHA-1 and zeros, of violations too.
    Padded,
    /// With SHA-1 and zeros, but all ones for a violation.
    PaddedOnes,
}

/// A PCR that is replayed, in one bank.
#[derive(Clone, Debug)]
struct Replayed {
    pcr: u32,
    bank: HashAlg,
    /// Its value, in each reading of its bank: [`Replay::banks`].
    values: Vec<Digest>,
    /// Offset of its value in [`Replay::composite`].
    offset: usize,
    /// What the peer says it was at the quote.
    claimed: Option<Digest>,
}

/// Replay of one pending log against one quote.
#[derive(Clone, Debug)]
pub(super) struct Replay {
    quote: VerifiedQuote,
    claims: BTreeMap<(HashAlg, u32), Digest>,
    log_pcrs: u32,
    /// Values of all selected PCRs in TPM order, as far as replayed.
    composite: Vec<u8>,
    pcrs: Vec<Replayed>,
    /// The readings that are followed in each bank: one once records have told which holds.
    banks: Vec<(HashAlg, &'static [Reading])>,
    /// Records replayed so far.
    pub(super) replayed: usize,
    /// All claims together hash to the quote's digest, so they are what the PCRs were: then comparing
    /// with them is enough, and cheaper than a hash over all PCRs after every record.
    claims_hold: bool,
}

impl Replay {
    /// `every`: in all readings that `start` leaves open, or only in that of most kernels.
    pub(super) fn new(
        start: &LogState,
        log_pcrs: u32,
        quote: &VerifiedQuote,
        claims: &BTreeMap<(HashAlg, u32), Digest>,
        every: bool,
    ) -> Result<Self, PrefixError> {
        let mut composite = Vec::new();
        let mut claimed_composite = Vec::new();
        let mut pcrs: Vec<Replayed> = Vec::new();
        let mut banks: Vec<(HashAlg, &'static [Reading])> = Vec::new();
        for (bank, pcr) in quote.selection() {
            let claimed = claims
                .get(&(bank, pcr))
                .copied()
                .filter(|value| value.alg() == bank);
            let known = start.value(bank, pcr).copied();
            let value = if log_pcrs >> pcr & 1 == 0 {
                claimed.or(known)
            } else if start.records == 0 {
                Some(initial(bank, pcr))
            } else {
                known
            };
            let value = value.ok_or(PrefixError::UnknownPcr { bank, pcr })?;
            if log_pcrs >> pcr & 1 == 1 {
                let readings = readings(start, bank, every);
                if !banks.iter().any(|(of, _)| *of == bank) {
                    banks.push((bank, readings));
                }
                pcrs.push(Replayed {
                    pcr,
                    bank,
                    values: vec![value; readings.len()],
                    offset: composite.len(),
                    claimed,
                });
            }
            composite.extend_from_slice(value.as_bytes());
            claimed_composite.extend_from_slice(claimed.unwrap_or(value).as_bytes());
        }
        let claims_hold = pcrs.iter().all(|pcr| pcr.claimed.is_some());
        if claims_hold && !is_digest_of(quote, &claimed_composite) {
            return Err(PrefixError::PcrDigestMismatch);
        }
        Ok(Replay {
            quote: *quote,
            claims: claims.clone(),
            log_pcrs,
            composite,
            pcrs,
            banks,
            replayed: 0,
            claims_hold,
        })
    }

    pub(super) fn is_for(
        &self,
        quote: &VerifiedQuote,
        claims: &BTreeMap<(HashAlg, u32), Digest>,
        log_pcrs: u32,
    ) -> bool {
        self.quote == *quote && self.claims == *claims && self.log_pcrs == log_pcrs
    }

    /// Replays as many of `entries` as it takes to reach the quoted PCRs; `None` if all of them do not.
    pub(super) fn run<E: LogEntry>(&mut self, entries: &[E]) -> Option<Vec<Reading>> {
        loop {
            if let Some(readings) = self.reached() {
                return Some(readings);
            }
            let entry = entries.get(self.replayed)?;
            self.step(entry);
        }
    }

    /// The reading of each bank with which the PCRs, as far as replayed, are the quoted ones. Their
    /// values then stand in `composite`.
    fn reached(&mut self) -> Option<Vec<Reading>> {
        if self.claims_hold {
            let mut chosen = Vec::with_capacity(self.banks.len());
            for (bank, readings) in &self.banks {
                let holds = |nth: &usize| {
                    let mut of_bank = self.pcrs.iter().filter(|pcr| pcr.bank == *bank);
                    of_bank.all(|pcr| pcr.claimed == Some(pcr.values[*nth]))
                };
                chosen.push((0..readings.len()).find(holds)?);
            }
            self.compose(&chosen);
            return Some(self.readings(&chosen));
        }
        // Every combination; mostly there is one bank with one reading.
        let mut chosen = vec![0; self.banks.len()];
        loop {
            self.compose(&chosen);
            if is_digest_of(&self.quote, &self.composite) {
                return Some(self.readings(&chosen));
            }
            let mut bank = 0;
            loop {
                let (_, readings) = self.banks.get(bank)?;
                chosen[bank] += 1;
                if chosen[bank] < readings.len() {
                    break;
                }
                chosen[bank] = 0;
                bank += 1;
            }
        }
    }

    fn readings(&self, chosen: &[usize]) -> Vec<Reading> {
        let banks = self.banks.iter().zip(chosen);
        banks.map(|((_, readings), nth)| readings[*nth]).collect()
    }

    fn compose(&mut self, chosen: &[usize]) {
        for pcr in &self.pcrs {
            let bank = self.banks.iter().position(|(bank, _)| *bank == pcr.bank);
            let value = pcr.values[bank.map_or(0, |bank| chosen[bank])].as_bytes();
            self.composite[pcr.offset..pcr.offset + value.len()].copy_from_slice(value);
        }
    }

    fn step<E: LogEntry>(&mut self, entry: &E) {
        let pcr = entry.pcr();
        let sha1 = OnceCell::new();
        let sha1 = || sha1.get_or_init(|| entry.extend_digest(HashAlg::Sha1));
        for replayed in self.pcrs.iter_mut().filter(|replayed| replayed.pcr == pcr) {
            let bank = replayed.bank;
            let of_bank = self.banks.iter().find(|(of, _)| *of == bank);
            let readings = of_bank.map_or(&[][..], |(_, readings)| readings);
            // Value, digest, and the value that they gave: the paddings are one until a violation.
            let mut last: Option<(Digest, Digest, Digest)> = None;
            for (value, reading) in replayed.values.iter_mut().zip(readings) {
                let digest = match reading {
                    Reading::Own if bank == HashAlg::Sha1 => *sha1(),
                    Reading::Own => entry.extend_digest(bank),
                    Reading::PaddedOnes if entry.is_violation() => Digest::ones(bank),
                    Reading::Padded | Reading::PaddedOnes => padded(sha1(), bank),
                };
                let done = last.filter(|(from, by, _)| from == value && *by == digest);
                // An entry that answers with another bank's digest extends nothing, and so never matches.
                let extended = match done {
                    Some((_, _, extended)) => extended,
                    None => extend(value, &digest).unwrap_or(*value),
                };
                last = Some((*value, digest, extended));
                *value = extended;
            }
        }
        self.replayed += 1;
    }

    /// The state after the records replayed, whose values `reached` left in `composite`.
    pub(super) fn into_state(self, records: u64, readings: &[Reading]) -> LogState {
        let mut rest = &self.composite[..];
        let mut values = BTreeMap::new();
        for (bank, pcr) in self.quote.selection() {
            let (value, tail) = rest.split_at(bank.digest_len());
            rest = tail;
            if let Some(value) = Digest::new(bank, value) {
                values.insert((bank, pcr), value);
            }
        }
        let banks = self.banks.iter().zip(readings);
        LogState {
            records,
            log_pcrs: self.log_pcrs,
            padded: banks
                .filter(|(_, reading)| **reading != Reading::Own)
                .map(|((bank, _), _)| *bank)
                .collect(),
            values,
        }
    }
}

/// The readings of `bank` that may still hold after `start`: `every` one, or that of most kernels.
fn readings(start: &LogState, bank: HashAlg, every: bool) -> &'static [Reading] {
    if bank == HashAlg::Sha1 || !every {
        &[Reading::Own]
    } else if start.records == 0 {
        &[Reading::Own, Reading::Padded, Reading::PaddedOnes]
    } else if start.padded.contains(&bank) {
        &[Reading::Padded, Reading::PaddedOnes]
    } else {
        &[Reading::Own]
    }
}

fn is_digest_of(quote: &VerifiedQuote, composite: &[u8]) -> bool {
    hash(quote.pcr_digest().alg(), &[composite]) == *quote.pcr_digest()
}
