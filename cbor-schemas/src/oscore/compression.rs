//! The value of the OSCORE option: a compressed COSE header (RFC 8613, 6.1).

use coap_numbers::option;
use heapless::Vec;

use super::context::MAX_SEQUENCE;
use crate::coap::Message;
use crate::limits::{MAX_ID_CONTEXT, MAX_KID};

const PARTIAL_IV_LENGTH: u8 = 0b0000_0111;
const KID: u8 = 0b0000_1000;
const KID_CONTEXT: u8 = 0b0001_0000;
const RESERVED: u8 = 0b1110_0000;

pub(super) const MAX_PARTIAL_IV: usize = 5;
pub(super) const MAX_OPTION: usize = 1 + MAX_PARTIAL_IV + 1 + MAX_ID_CONTEXT + MAX_KID;

/// The option value does not decompress. A request is answered with 4.02 (RFC 8613, 8.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MalformedOption;

/// Decompressed OSCORE option. Anyone may have written it; the AEAD covers what matters of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OscoreOption<'a> {
    /// Sequence number of the message's sender, if the nonce is made from it.
    pub partial_iv: Option<u64>,
    /// ID Context of the sender.
    pub kid_context: Option<&'a [u8]>,
    /// Sender ID of the sender: by this a server finds the security context.
    pub kid: Option<&'a [u8]>,
}

impl<'a> OscoreOption<'a> {
    /// The option of a message; `None` if the message is not protected.
    pub fn of(message: &Message<'a>) -> Option<Result<OscoreOption<'a>, MalformedOption>> {
        let mut options = message
            .options()
            .filter(|option| option.number == option::OSCORE);
        let first = options.next()?;
        Some(match options.next() {
            // It may not be repeated (RFC 8613, 2).
            Some(_) => Err(MalformedOption),
            None => OscoreOption::parse(first.value),
        })
    }

    /// Decompresses an option value.
    pub fn parse(value: &'a [u8]) -> Result<OscoreOption<'a>, MalformedOption> {
        let Some((&flags, rest)) = value.split_first() else {
            return Ok(OscoreOption::default());
        };
        // With all flags zero the value must be empty (RFC 8613, 2).
        if flags == 0 || flags & RESERVED != 0 {
            return Err(MalformedOption);
        }
        let (partial_iv, rest) = rest
            .split_at_checked(usize::from(flags & PARTIAL_IV_LENGTH))
            .ok_or(MalformedOption)?;
        let partial_iv = match partial_iv {
            [] => None,
            bytes => Some(parse_partial_iv(bytes)?),
        };
        let (kid_context, rest) = if flags & KID_CONTEXT == 0 {
            (None, rest)
        } else {
            let (&length, rest) = rest.split_first().ok_or(MalformedOption)?;
            let (context, rest) = rest
                .split_at_checked(usize::from(length))
                .ok_or(MalformedOption)?;
            (Some(context), rest)
        };
        let kid = match (flags & KID, rest) {
            (0, []) => None,
            (0, _) => return Err(MalformedOption),
            (_, kid) => Some(kid),
        };
        Ok(OscoreOption {
            partial_iv,
            kid_context,
            kid,
        })
    }

    /// Compresses. IDs are those of a [`Context`](super::Context), hence short enough.
    pub(super) fn encode(&self) -> Vec<u8, MAX_OPTION> {
        let mut value = Vec::new();
        if *self == OscoreOption::default() {
            return value;
        }
        let partial_iv = self.partial_iv.map(partial_iv_bytes).unwrap_or_default();
        let mut flags = partial_iv.len() as u8;
        if self.kid_context.is_some() {
            flags |= KID_CONTEXT;
        }
        if self.kid.is_some() {
            flags |= KID;
        }
        let length = [self.kid_context.map_or(0, <[u8]>::len) as u8];
        let parts = [
            &[flags][..],
            &partial_iv,
            self.kid_context.map_or(&[], |_| &length),
            self.kid_context.unwrap_or_default(),
            self.kid.unwrap_or_default(),
        ];
        for part in parts {
            value
                .extend_from_slice(part)
                .expect("MAX_OPTION is the sum of the parts' limits");
        }
        value
    }
}

/// Big-endian without leading zeros, but one byte for 0 (RFC 8613, 5).
pub(super) fn partial_iv_bytes(sequence: u64) -> Vec<u8, MAX_PARTIAL_IV> {
    debug_assert!(sequence <= MAX_SEQUENCE);
    let bytes = sequence.to_be_bytes();
    let skip = (sequence.leading_zeros() as usize / 8).min(7);
    bytes[skip..].iter().copied().collect()
}

/// Refuses a second spelling of the same number.
fn parse_partial_iv(bytes: &[u8]) -> Result<u64, MalformedOption> {
    // 6 and 7 are reserved lengths (RFC 8613, 6.1).
    if bytes.len() > MAX_PARTIAL_IV || (bytes.len() > 1 && bytes[0] == 0) {
        return Err(MalformedOption);
    }
    Ok(bytes
        .iter()
        .fold(0, |sum, &byte| sum << 8 | u64::from(byte)))
}
