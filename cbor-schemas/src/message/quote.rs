//! Quotes on the wire: whole, or without what the verifier can rebuild ([`crate::tpm::elide`]).

use minicbor::data::Type;
use minicbor::{Decode, Decoder, Encode, Encoder, decode, encode};

use crate::cbor::Bytes;
use crate::limits::{MAX_TPMS_ATTEST, MAX_TPMT_SIGNATURE};
use crate::tpm::LowClock;

/// Longest elided quote: an RSA-4096 signature and a whole clock.
pub(super) const MAX_ELIDED: usize = 512 + 8;

/// A quote as the TPM made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct FullQuote<'a> {
    /// TPMS_ATTEST (TPM 2.0 Library part 2, 10.12.12).
    #[b(0)]
    pub attest: Bytes<'a, 1, MAX_TPMS_ATTEST>,
    /// TPMT_SIGNATURE (part 2, 11.3.4).
    #[b(1)]
    pub signature: Bytes<'a, 1, MAX_TPMT_SIGNATURE>,
}

/// Signature and clock in one string. Only the key tells where one ends and the other begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ElidedQuote<'a>(Bytes<'a, 65, MAX_ELIDED>);

impl<'a> ElidedQuote<'a> {
    /// Puts `signature` (`r || s`, or RSA's) and `clock` together in `buffer`; `None` when that is
    /// too small, or the signature no TPM's.
    pub fn new(signature: &[u8], clock: &LowClock, buffer: &'a mut [u8]) -> Option<Self> {
        let clock = clock.as_bytes();
        let (head, rest) = buffer.split_at_mut_checked(signature.len())?;
        head.copy_from_slice(signature);
        rest.get_mut(..clock.len())?.copy_from_slice(clock);
        Bytes::new(&buffer[..signature.len() + clock.len()]).map(Self)
    }

    /// The signature of a key that makes them of `len` bytes, and the clock. `None` when nothing,
    /// or too much, is left for the clock.
    pub fn split(&self, len: usize) -> Option<(&'a [u8], LowClock)> {
        let (signature, clock) = self.0.get().split_at_checked(len)?;
        Some((signature, LowClock::new(clock)?))
    }
}

/// A beat's quote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quote<'a> {
    /// Whole.
    Full(FullQuote<'a>),
    /// What the last accepted one does not tell.
    Elided(ElidedQuote<'a>),
}

impl<C> Encode<C> for Quote<'_> {
    fn encode<W: encode::Write>(
        &self,
        e: &mut Encoder<W>,
        ctx: &mut C,
    ) -> Result<(), encode::Error<W::Error>> {
        match self {
            Quote::Full(quote) => quote.encode(e, ctx),
            Quote::Elided(ElidedQuote(bytes)) => bytes.encode(e, ctx),
        }
    }
}

impl<'b, C> Decode<'b, C> for Quote<'b> {
    fn decode(d: &mut Decoder<'b>, ctx: &mut C) -> Result<Self, decode::Error> {
        Ok(match d.datatype()? {
            Type::Bytes => Quote::Elided(ElidedQuote(Bytes::decode(d, ctx)?)),
            _ => Quote::Full(FullQuote::decode(d, ctx)?),
        })
    }
}

/// What an elided quote does not share with the last accepted one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Changes<'a> {
    /// restartCount.
    #[n(0)]
    pub restart_count: Option<u32>,
    /// `safe`.
    #[n(1)]
    pub safe: Option<bool>,
    /// pcrDigest, where the records that came do not tell which it is.
    #[b(2)]
    pub pcr_digest: Option<Bytes<'a, 20, 64>>,
}
