//! The verifier's replies. Under OSCORE they are the pinned verifier's word; an unprotected error
//! is anybody's and only ever a hint to say hello again.

use core::fmt;

use minicbor::{Decode, Encode};

use crate::cbor::{Bytes, Text};
use crate::reason::Reason;

/// Answer to open, log, beat, boot-part and record-part.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Reply<'a> {
    /// Next record wanted: everything before it is stored.
    #[n(0)]
    pub next_record: u64,
    /// The verdict as it stands.
    #[n(1)]
    pub tier: Tier,
    /// For the next beat.
    #[b(2)]
    pub nonce: Option<Nonce<'a>>,
    /// Seconds until the next beat.
    #[n(3)]
    pub interval: Option<u32>,
    /// Why the tier is not affirming.
    #[b(4)]
    pub reasons: Option<Reasons<'a>>,
    /// What the verifier asks for.
    #[n(5)]
    pub wants: Option<Wants>,
    /// Records wanted in full.
    #[n(6)]
    pub records: Option<Ranges>,
    /// Bytes of the template hash by which records may be named from now on.
    #[n(7)]
    pub prefix_length: Option<u8>,
    /// Offset from which the boot event log is wanted.
    #[n(8)]
    pub boot_log: Option<u32>,
    /// Offset from which the next record wanted is, of which the bytes before are stored.
    #[n(9)]
    pub record_offset: Option<u32>,
    /// Number of the record that open has named as its anchor.
    #[n(10)]
    pub first: Option<u64>,
    /// Every record before this one is certified and stored for good, its part in the verdict included:
    /// a device that deletes may delete it.
    #[n(11)]
    pub released: Option<u64>,
}

/// One to eight ranges of records, each by its first and how many.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranges(heapless::Vec<(u64, u64), 8>);

impl Ranges {
    /// Adds a record beyond those that are in; false when it would need a ninth range.
    pub fn push(&mut self, record: u64) -> bool {
        self.push_range(record, 1)
    }

    /// Adds records beyond those that are in; false when it would need a ninth range.
    pub fn push_range(&mut self, first: u64, count: u64) -> bool {
        match self.0.last_mut() {
            Some((last, known)) if last.saturating_add(*known) == first => {
                *known = known.saturating_add(count);
                true
            }
            _ => self.0.push((first, count)).is_ok(),
        }
    }

    /// Whether there are none; such do not travel.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Forgets the records before `record`.
    pub fn forget_before(&mut self, record: u64) {
        self.0
            .retain(|(first, count)| first.saturating_add(*count) > record);
    }

    /// Takes in all of `other`, in any order; with no room left, all records from the first to the
    /// last of both.
    pub fn extend(&mut self, other: &Ranges) {
        for (first, count) in &other.0 {
            let end = first.saturating_add(*count);
            let known = self
                .0
                .iter()
                .any(|(start, count)| start <= first && end <= start.saturating_add(*count));
            if !known && !self.push_range(*first, *count) {
                let all = self.0.iter().chain(&other.0);
                let (start, end) = all.fold((u64::MAX, 0), |(start, end), (first, count)| {
                    (start.min(*first), end.max(first.saturating_add(*count)))
                });
                self.0.clear();
                self.push_range(start, end.saturating_sub(start));
                return;
            }
        }
    }

    /// Whether `record` is in one.
    pub fn contains(&self, record: u64) -> bool {
        self.0.iter().any(|(first, count)| {
            record
                .checked_sub(*first)
                .is_some_and(|after| after < *count)
        })
    }
}

impl<C> Encode<C> for Ranges {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.array(2 * self.0.len() as u64)?;
        self.0
            .iter()
            .try_for_each(|(first, count)| e.u64(*first)?.u64(*count)?.ok())
    }
}

impl<'b, C> Decode<'b, C> for Ranges {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        let at = d.position();
        let wrong = || minicbor::decode::Error::message("ranges of records out of bounds").at(at);
        let len = d.array()?.unwrap_or(0);
        if len == 0 || len % 2 == 1 {
            return Err(wrong());
        }
        let mut ranges = heapless::Vec::new();
        for _ in 0..len / 2 {
            ranges.push((d.u64()?, d.u64()?)).map_err(|_| wrong())?;
        }
        Ok(Self(ranges))
    }
}

/// A nonce of the verifier, single use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Nonce<'a> {
    /// Names the nonce in the beat that answers it.
    #[n(0)]
    pub id: u8,
    /// The value.
    #[b(1)]
    pub value: Bytes<'a, 8, 32>,
    /// Seconds until the verifier forgets it.
    #[n(2)]
    pub lifetime: u32,
}

/// Trustworthiness tier (draft-ietf-rats-ar4si, 2.3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(index_only)]
pub enum Tier {
    /// The verifier makes no claim (yet).
    #[default]
    #[n(0)]
    None,
    /// The device is what it should be.
    #[n(2)]
    Affirming,
    /// Usable, but somebody should look.
    #[n(32)]
    Warning,
    /// The device is not what it should be.
    #[n(96)]
    Contraindicated,
}

impl Tier {
    /// In an operator's word.
    pub fn word(self) -> &'static str {
        match self {
            Tier::None => "unknown",
            Tier::Affirming => "trusted",
            Tier::Warning => "warning",
            Tier::Contraindicated => "untrusted",
        }
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Tier::None => "none",
            Tier::Affirming => "affirming",
            Tier::Warning => "warning",
            Tier::Contraindicated => "contraindicated",
        })
    }
}

/// What the verifier asks the agent to do next: a set of flags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(transparent)]
pub struct Wants(#[n(0)] pub u32);

impl Wants {
    /// Send the PCR values with the next beat.
    pub const PCR_VALUES: Wants = Wants(1);
    /// Say hello again.
    pub const HELLO: Wants = Wants(2);
    /// Send the next quote in full.
    pub const FULL_QUOTE: Wants = Wants(4);

    /// What this or `other` asks for.
    #[must_use]
    pub fn and(self, other: Wants) -> Self {
        Wants(self.0 | other.0)
    }

    /// Whether all of `other` is asked for.
    pub fn contains(self, other: Wants) -> bool {
        self.0 & other.0 == other.0
    }
}

/// Up to eight reason tokens; a newer verifier may use some that this registry does not know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reasons<'a>(heapless::Vec<&'a str, 8>);

impl<'a> Reasons<'a> {
    /// The first eight of `reasons`; `None` when there are none.
    pub fn new(reasons: impl IntoIterator<Item = Reason>) -> Option<Self> {
        let tokens: heapless::Vec<&'a str, 8> =
            reasons.into_iter().take(8).map(Reason::token).collect();
        (!tokens.is_empty()).then_some(Self(tokens))
    }

    /// The tokens, most important first.
    pub fn tokens(&self) -> impl Iterator<Item = &'a str> + '_ {
        self.0.iter().copied()
    }
}

impl<C> Encode<C> for Reasons<'_> {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.array(self.0.len() as u64)?;
        self.0.iter().try_for_each(|token| e.str(token)?.ok())
    }
}

impl<'b, C> Decode<'b, C> for Reasons<'b> {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        let at = d.position();
        let wrong = || minicbor::decode::Error::message("reasons out of bounds").at(at);
        let mut tokens = heapless::Vec::new();
        for _ in 0..d.array()?.unwrap_or(0) {
            let token = d.str()?;
            if token.is_empty() || token.len() > 40 {
                return Err(wrong());
            }
            tokens.push(token).map_err(|_| wrong())?;
        }
        if tokens.is_empty() {
            Err(wrong())
        } else {
            Ok(Self(tokens))
        }
    }
}

/// Payload of every 4.xx and 5.xx.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct ErrorReply<'a> {
    /// A token of the registry.
    #[b(0)]
    pub reason: Text<'a, 40>,
    /// For a person.
    #[b(1)]
    pub detail: Option<Text<'a, 160>>,
}
