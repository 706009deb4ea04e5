//! Deterministic CBOR, checked before anything is decoded (RFC 8949, 4.2.1).
//!
//! Every message of ours has exactly one spelling: shortest heads, definite lengths, map keys
//! ascending and unique, nothing after the item. [`check`] walks the bytes once and refuses the
//! rest, so decoders never meet a duplicate key or a second encoding of the same evidence. The
//! bytes come from anyone who can reach the socket.

use core::fmt;

use minicbor::encode::write::Cursor;
use minicbor::{Decode, Encode};

use crate::limits::MAX_CBOR_DEPTH;

/// Why bytes are not one deterministic CBOR item of the wanted shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CborError {
    /// Offset of the offending byte from the start of the input.
    pub offset: usize,
    /// What is wrong there.
    pub fault: Fault,
}

/// A way to fail RFC 8949, 4.2.1, or the schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The input ends inside an item.
    Truncated,
    /// The input goes on after the item.
    TrailingBytes,
    /// A length or integer is not in its shortest form.
    NotShortest,
    /// Indefinite length.
    IndefiniteLength,
    /// A map key stands there twice.
    DuplicateKey,
    /// Map keys are not in bytewise order.
    UnsortedKeys,
    /// Nested deeper than [`MAX_CBOR_DEPTH`].
    TooDeep,
    /// A text string is not UTF-8.
    InvalidUtf8,
    /// Reserved heads, tags, floats and simple values that no message of ours uses.
    Unsupported,
    /// Well-formed, but not what the schema asks for: wrong type, missing key, out of bounds.
    Schema,
}

impl Fault {
    /// In words, for logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Fault::Truncated => "input ends inside an item",
            Fault::TrailingBytes => "bytes after the item",
            Fault::NotShortest => "integer or length not in shortest form",
            Fault::IndefiniteLength => "indefinite length",
            Fault::DuplicateKey => "duplicate map key",
            Fault::UnsortedKeys => "map keys not in bytewise order",
            Fault::TooDeep => "nested too deep",
            Fault::InvalidUtf8 => "text is not UTF-8",
            Fault::Unsupported => "tag, float or reserved value",
            Fault::Schema => "not what the schema asks for",
        }
    }
}

impl fmt::Display for CborError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CBOR: {} at offset {}", self.fault.as_str(), self.offset)
    }
}

impl core::error::Error for CborError {}

/// The output buffer is too small.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BufferTooSmall;

impl fmt::Display for BufferTooSmall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("output buffer too small")
    }
}

impl core::error::Error for BufferTooSmall {}

/// Checks that `bytes` are exactly one deterministically encoded item.
///
/// ```
/// use mote_schemas::cbor::{check, Fault};
/// assert!(check(&[0xa2, 0x00, 0x01, 0x01, 0x02]).is_ok()); // {0: 1, 1: 2}
/// assert_eq!(check(&[0xa2, 0x00, 0x01, 0x00, 0x02]).unwrap_err().fault, Fault::DuplicateKey);
/// assert_eq!(check(&[0x18, 0x01]).unwrap_err().fault, Fault::NotShortest);
/// ```
pub fn check(bytes: &[u8]) -> Result<(), CborError> {
    let end = item(bytes, 0, MAX_CBOR_DEPTH)?;
    if end == bytes.len() {
        Ok(())
    } else {
        Err(fault(end, Fault::TrailingBytes))
    }
}

/// Length of the deterministic item that `bytes` start with.
pub fn item_len(bytes: &[u8]) -> Result<usize, CborError> {
    item(bytes, 0, MAX_CBOR_DEPTH)
}

/// Decodes exactly one deterministically encoded `T`.
pub fn decode<'b, T: Decode<'b, ()>>(bytes: &'b [u8]) -> Result<T, CborError> {
    check(bytes)?;
    let mut decoder = minicbor::Decoder::new(bytes);
    decoder.decode().map_err(|e| {
        fault(
            e.position().unwrap_or_else(|| decoder.position()),
            Fault::Schema,
        )
    })
}

/// Encodes `value` into `out`; returns the number of bytes written.
pub fn encode<T: Encode<()>>(value: &T, out: &mut [u8]) -> Result<usize, BufferTooSmall> {
    let mut cursor = Cursor::new(out);
    minicbor::encode(value, &mut cursor).map_err(|_| BufferTooSmall)?;
    Ok(cursor.position())
}

fn fault(offset: usize, fault: Fault) -> CborError {
    CborError { offset, fault }
}

/// Walks one item that starts at `at`; returns the offset after it.
fn item(bytes: &[u8], at: usize, depth: usize) -> Result<usize, CborError> {
    let (major, value, body) = head(bytes, at)?;
    match major {
        0 | 1 => Ok(body),
        2 | 3 => {
            let len = usize::try_from(value).map_err(|_| fault(at, Fault::Truncated))?;
            let end = body.checked_add(len).filter(|end| *end <= bytes.len());
            let end = end.ok_or(fault(at, Fault::Truncated))?;
            if major == 3 && core::str::from_utf8(&bytes[body..end]).is_err() {
                return Err(fault(at, Fault::InvalidUtf8));
            }
            Ok(end)
        }
        4 | 5 => {
            let depth = depth.checked_sub(1).ok_or(fault(at, Fault::TooDeep))?;
            if major == 4 {
                (0..value).try_fold(body, |next, _| item(bytes, next, depth))
            } else {
                map(bytes, value, body, depth)
            }
        }
        // false, true, null (RFC 8949, 3.3).
        7 if matches!(value, 20..=22) => Ok(body),
        _ => Err(fault(at, Fault::Unsupported)),
    }
}

fn map(bytes: &[u8], pairs: u64, body: usize, depth: usize) -> Result<usize, CborError> {
    let mut next = body;
    let mut last_key: Option<&[u8]> = None;
    for _ in 0..pairs {
        let key_end = item(bytes, next, depth)?;
        let key = &bytes[next..key_end];
        match last_key {
            Some(last) if last == key => return Err(fault(next, Fault::DuplicateKey)),
            Some(last) if last > key => return Err(fault(next, Fault::UnsortedKeys)),
            _ => {}
        }
        last_key = Some(key);
        next = item(bytes, key_end, depth)?;
    }
    Ok(next)
}

/// One head: major type, argument, offset of what follows (RFC 8949, 3).
fn head(bytes: &[u8], at: usize) -> Result<(u8, u64, usize), CborError> {
    let first = *bytes.get(at).ok_or(fault(at, Fault::Truncated))?;
    let (major, info) = (first >> 5, first & 0x1f);
    let extra = match info {
        0..=23 => return Ok((major, u64::from(info), at + 1)),
        24..=27 => 1usize << (info - 24),
        31 => return Err(fault(at, Fault::IndefiniteLength)),
        _ => return Err(fault(at, Fault::Unsupported)),
    };
    // In major type 7 these heads are floats and extended simple values.
    if major == 7 {
        return Err(fault(at, Fault::Unsupported));
    }
    let body = at + 1 + extra;
    let argument = bytes.get(at + 1..body).ok_or(fault(at, Fault::Truncated))?;
    let value = argument.iter().fold(0u64, |v, b| v << 8 | u64::from(*b));
    let shortest = match extra {
        1 => value >= 24,
        2 => value > 0xff,
        4 => value > 0xffff,
        _ => value > 0xffff_ffff,
    };
    if shortest {
        Ok((major, value, body))
    } else {
        Err(fault(at, Fault::NotShortest))
    }
}

/// A byte string of `MIN` to `MAX` bytes, borrowed from the message.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Bytes<'a, const MIN: usize, const MAX: usize>(&'a [u8]);

impl<'a, const MIN: usize, const MAX: usize> Bytes<'a, MIN, MAX> {
    /// `None` when the length is out of bounds.
    pub fn new(bytes: &'a [u8]) -> Option<Self> {
        (MIN..=MAX).contains(&bytes.len()).then_some(Self(bytes))
    }

    /// The bytes.
    pub fn get(self) -> &'a [u8] {
        self.0
    }
}

impl<const MIN: usize, const MAX: usize> fmt::Debug for Bytes<'_, MIN, MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("h'")?;
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))?;
        f.write_str("'")
    }
}

impl<C, const MIN: usize, const MAX: usize> Encode<C> for Bytes<'_, MIN, MAX> {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.bytes(self.0)?.ok()
    }
}

impl<'b, C, const MIN: usize, const MAX: usize> Decode<'b, C> for Bytes<'b, MIN, MAX> {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        let at = d.position();
        Bytes::new(d.bytes()?).ok_or_else(|| {
            minicbor::decode::Error::message("byte string length out of bounds").at(at)
        })
    }
}

/// A text string of at most `MAX` bytes, borrowed from the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Text<'a, const MAX: usize>(&'a str);

impl<'a, const MAX: usize> Text<'a, MAX> {
    /// Cuts `text` to at most `MAX` bytes, at a character boundary.
    pub fn truncated(text: &'a str) -> Self {
        let mut end = text.len().min(MAX);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        Self(&text[..end])
    }

    /// The text.
    pub fn get(self) -> &'a str {
        self.0
    }
}

impl<C, const MAX: usize> Encode<C> for Text<'_, MAX> {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.str(self.0)?.ok()
    }
}

impl<'b, C, const MAX: usize> Decode<'b, C> for Text<'b, MAX> {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        let at = d.position();
        let text = d.str()?;
        if text.len() > MAX {
            return Err(minicbor::decode::Error::message("text too long").at(at));
        }
        Ok(Self(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_non_deterministic_spelling_is_refused_with_its_own_fault() {
        for (bytes, offset, expected) in [
            (&[][..], 0, Fault::Truncated),
            (&[0x43, 1, 2], 0, Fault::Truncated),
            (&[0x82, 1], 2, Fault::Truncated),
            (
                &[0x5b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
                0,
                Fault::Truncated,
            ),
            (&[0x01, 0x01], 1, Fault::TrailingBytes),
            (&[0x18, 23], 0, Fault::NotShortest),
            (&[0x19, 0, 0xff], 0, Fault::NotShortest),
            (&[0x1a, 0, 0, 0xff, 0xff], 0, Fault::NotShortest),
            (
                &[0x1b, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff],
                0,
                Fault::NotShortest,
            ),
            (&[0x58, 1, 0], 0, Fault::NotShortest),
            (&[0x5f, 0xff], 0, Fault::IndefiniteLength),
            (&[0x9f, 0xff], 0, Fault::IndefiniteLength),
            (&[0xbf, 0xff], 0, Fault::IndefiniteLength),
            (&[0xa2, 1, 0, 1, 0], 3, Fault::DuplicateKey),
            (&[0xa2, 2, 0, 1, 0], 3, Fault::UnsortedKeys),
            (&[0x62, 0xc3, 0x28], 0, Fault::InvalidUtf8),
            (&[0xc1, 0], 0, Fault::Unsupported),
            (&[0xf9, 0, 0], 0, Fault::Unsupported),
            (&[0xf8, 32], 0, Fault::Unsupported),
            (&[0xf7], 0, Fault::Unsupported),
            (&[0x1c], 0, Fault::Unsupported),
            (
                &[0x81, 0x81, 0x81, 0x81, 0x81, 0x81, 0x81, 0x81, 0x81, 0],
                8,
                Fault::TooDeep,
            ),
        ] {
            assert_eq!(check(bytes), Err(fault(offset, expected)), "{bytes:02x?}");
        }
    }

    #[test]
    fn a_huge_claimed_array_ends_at_the_input() {
        let bytes = [0x9b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
        assert_eq!(check(&bytes), Err(fault(9, Fault::Truncated)));
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..64)) {
            let _ = check(&bytes);
        }

        #[test]
        fn what_passes_is_what_minicbor_can_skip(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..24)) {
            if check(&bytes).is_ok() {
                let mut decoder = minicbor::Decoder::new(&bytes);
                proptest::prop_assert!(decoder.skip().is_ok());
                proptest::prop_assert_eq!(decoder.position(), bytes.len());
            }
        }
    }
}
