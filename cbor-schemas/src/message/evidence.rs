//! open, log, beat, boot-part and record-part: what an agent says once OSCORE protects it. The sender
//! holds the session's keys, so it *is* the enrolled TPM's host; whether that host tells the truth is what appraisal
//! finds out.

use heapless::Vec;
use minicbor::{Decode, Decoder, Encode, Encoder};

use super::{Changes, Entries, FullQuote, Quote};
use crate::cbor::{Bytes, Text};
use crate::limits::{MAX_BOOT_PART, MAX_PCR_BANKS, MAX_RECORD_PART, PCR_COUNT};
use crate::tpm::Digest;

/// PCR values of one bank.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct PcrBank<'a> {
    /// `TPM_ALG_ID` of the bank.
    #[n(0)]
    pub hash_alg: u16,
    /// Bit n: PCR n.
    #[n(1)]
    pub mask: u32,
    /// The values, ascending by PCR, concatenated.
    #[b(2)]
    pub values: Bytes<'a, 20, 1536>,
}

/// First message of a session: the whole state of the device, but for the log's records.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Open<'a> {
    /// A quote whose nonce is the challenge's `random`.
    #[b(0)]
    pub quote: FullQuote<'a>,
    /// The quoted PCR values, in the order of the quote's selection.
    #[b(1)]
    pub pcrs: PcrBanks<'a>,
    /// Records in the list, counted after the quote.
    #[n(2)]
    pub records: u64,
    /// SHA-256 of the boot event log.
    #[b(3)]
    pub boot_log: Option<Bytes<'a, 32, 32>>,
    /// Name and version of the agent.
    #[b(4)]
    pub software: Option<Text<'a, 64>>,
    /// Where the list begins, from a device that deletes what need not be kept; `records` counts from
    /// there on.
    #[n(5)]
    pub anchor: Option<Anchor>,
}

/// Where a list begins of which records may have been deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anchor {
    /// With the boot's first record.
    Whole,
    /// With this record, see [`Anchor::digest`], which the verifier has certified.
    Record([u8; 8]),
}

impl Anchor {
    /// By which a record is known: the first bytes of what a SHA-256 bank is extended with.
    pub fn digest(extended: &Digest) -> [u8; 8] {
        let mut digest = [0; 8];
        let bytes = extended.as_bytes();
        let len = bytes.len().min(8);
        digest[..len].copy_from_slice(&bytes[..len]);
        digest
    }
}

impl<C> Encode<C> for Anchor {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        let bytes: &[u8] = match self {
            Anchor::Whole => &[],
            Anchor::Record(digest) => digest,
        };
        e.bytes(bytes)?.ok()
    }
}

impl<'b, C> Decode<'b, C> for Anchor {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        let at = d.position();
        let bytes = d.bytes()?;
        match <[u8; 8]>::try_from(bytes) {
            Ok(digest) => Ok(Anchor::Record(digest)),
            Err(_) if bytes.is_empty() => Ok(Anchor::Whole),
            Err(_) => Err(minicbor::decode::Error::message("an anchor has 0 or 8 bytes").at(at)),
        }
    }
}

/// A chunk of the measurement list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Log<'a> {
    /// Absolute number of the first entry; a boot's first record is 0.
    #[n(0)]
    pub from: u64,
    /// The records.
    #[b(1)]
    pub entries: Entries<'a>,
}

/// A part of the boot event log: the one whose digest open has named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct BootPart<'a> {
    /// Offset of the first byte.
    #[n(0)]
    pub offset: u32,
    /// The bytes; none if the log ends before `offset`.
    #[b(1)]
    pub bytes: Bytes<'a, 0, MAX_BOOT_PART>,
    /// Whether the log ends with these bytes; absent is no.
    #[n(2)]
    pub last: Option<bool>,
}

/// A part of one record of the measurement list that is longer than a datagram: of its encoding as
/// [`Entries`] with nothing else in them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct RecordPart<'a> {
    /// Absolute number of the record.
    #[n(0)]
    pub record: u64,
    /// Offset of the first byte.
    #[n(1)]
    pub offset: u32,
    /// The bytes.
    #[b(2)]
    pub bytes: Bytes<'a, 1, MAX_RECORD_PART>,
    /// Whether the encoding ends with these bytes; absent is no.
    #[n(3)]
    pub last: Option<bool>,
}

/// A heartbeat.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Beat<'a> {
    /// Which of the verifier's nonces the quote answers.
    #[n(0)]
    pub nonce_id: u8,
    /// The quote.
    #[b(1)]
    pub quote: Quote<'a>,
    /// The quoted PCR values, when they changed outside the IMA PCR or the verifier asked.
    #[b(2)]
    pub pcrs: Option<PcrBanks<'a>>,
    /// Absolute number of the first entry.
    #[n(3)]
    pub from: Option<u64>,
    /// New records.
    #[b(4)]
    pub entries: Option<Entries<'a>>,
    /// Records in the list, counted after the quote, when these entries are not the last of them:
    /// log requests follow.
    #[n(5)]
    pub records: Option<u64>,
    /// What an elided quote does not share with the last one.
    #[b(6)]
    pub changes: Option<Changes<'a>>,
}

/// 1 to [`MAX_PCR_BANKS`] banks, in the order of the quote's selection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PcrBanks<'a>(Vec<PcrBank<'a>, MAX_PCR_BANKS>);

impl<'a> PcrBanks<'a> {
    /// `None` when there are no banks or too many.
    pub fn new(banks: impl IntoIterator<Item = PcrBank<'a>>) -> Option<Self> {
        let mut list = Vec::new();
        for bank in banks {
            list.push(bank).ok()?;
        }
        (!list.is_empty()).then_some(Self(list))
    }

    /// The banks.
    pub fn iter(&self) -> impl Iterator<Item = &PcrBank<'a>> {
        self.0.iter()
    }
}

impl<C> Encode<C> for PcrBanks<'_> {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut Encoder<W>,
        ctx: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.array(self.0.len() as u64)?;
        self.0.iter().try_for_each(|bank| bank.encode(e, ctx))
    }
}

impl<'b, C> Decode<'b, C> for PcrBanks<'b> {
    fn decode(d: &mut Decoder<'b>, ctx: &mut C) -> Result<Self, minicbor::decode::Error> {
        let at = d.position();
        let wrong = || minicbor::decode::Error::message("number of PCR banks out of bounds").at(at);
        let mut banks = Vec::new();
        for _ in 0..d.array()?.ok_or_else(wrong)? {
            let bank = PcrBank::decode(d, ctx)?;
            if bank.mask == 0 || bank.mask >> PCR_COUNT != 0 {
                return Err(wrong());
            }
            banks.push(bank).map_err(|_| wrong())?;
        }
        if banks.is_empty() {
            Err(wrong())
        } else {
            Ok(Self(banks))
        }
    }
}
