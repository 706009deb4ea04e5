//! One event of a boot log.

use super::log::Banks;
use super::{EventData, EventType};
use crate::tpm::{Digest, HashAlg, hash};

/// One measurement, or, of the type [`EventType::NO_ACTION`], a remark.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    /// Its number in the log, from 0. A crypto-agile log's header is number 0.
    pub number: u32,
    /// Where it begins, in bytes from the start of the log.
    pub offset: usize,
    /// The PCR that was extended; of a remark, any number.
    pub pcr: u32,
    /// Its type. Covered by no PCR.
    pub event_type: EventType,
    /// What was extended, in each bank.
    pub digests: Digests<'a>,
    /// What the log says about it. Covered only if [`Self::covers_data`].
    pub data: &'a [u8],
}

impl<'a> Event<'a> {
    /// Whether it extended its PCR (10.4.1: `EV_NO_ACTION` does not).
    pub fn is_extended(&self) -> bool {
        self.event_type != EventType::NO_ACTION
    }

    /// What was extended into `bank`, if the log says.
    pub fn digest(&self, bank: HashAlg) -> Option<Digest> {
        self.digests
            .iter()
            .find(|digest| digest.alg == bank.to_u16())
            .and_then(|digest| Digest::new(bank, digest.bytes))
    }

    /// Whether what was extended into `bank` is the hash of these bytes.
    pub fn covers(&self, bank: HashAlg, bytes: &[u8]) -> bool {
        self.digest(bank) == Some(hash(bank, &[bytes]))
    }

    /// Whether what was extended into `bank` is the hash of the event's data, so that the data is as
    /// good as the PCR.
    pub fn covers_data(&self, bank: HashAlg) -> bool {
        self.covers(bank, self.data)
    }

    /// What the data looks like, going by the event's type: no more than a reading of it.
    pub fn view(&self) -> EventData<'a> {
        EventData::of(self.event_type, self.data)
    }
}

/// A digest as the log has it, perhaps of an algorithm that is not known here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawDigest<'a> {
    /// Its `TPM_ALG_ID`.
    pub alg: u16,
    /// The digest.
    pub bytes: &'a [u8],
}

/// The digests of an event, one for each bank.
#[derive(Clone, Copy, Debug)]
pub struct Digests<'a> {
    pub(super) banks: Banks,
    /// `TPMT_HA` after `TPMT_HA`; in a SHA-1 log the bare digest.
    pub(super) raw: &'a [u8],
    pub(super) bare: bool,
}

impl<'a> Digests<'a> {
    /// Each of them, in the order of the log.
    pub fn iter(&self) -> impl Iterator<Item = RawDigest<'a>> {
        let (banks, bare) = (self.banks, self.bare);
        let mut rest = self.raw;
        core::iter::from_fn(move || {
            if bare {
                let bytes = core::mem::take(&mut rest);
                return (!bytes.is_empty()).then_some(RawDigest {
                    alg: HashAlg::Sha1.to_u16(),
                    bytes,
                });
            }
            // `BootLog::parse` has walked the same way, so this ends at the end only.
            let (alg, tail) = rest.split_first_chunk()?;
            let alg = u16::from_le_bytes(*alg);
            let (bytes, tail) = tail.split_at_checked(banks.digest_len(alg)?)?;
            rest = tail;
            Some(RawDigest { alg, bytes })
        })
    }
}
