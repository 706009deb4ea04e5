//! Strings as firmware writes them.

use core::fmt::{self, Write};

/// A UTF-16LE string, without the NUL that may end it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Utf16<'a>(&'a [u8]);

impl<'a> Utf16<'a> {
    /// The string in `bytes`, up to the first NUL; `None` if they are an odd number.
    pub fn new(bytes: &'a [u8]) -> Option<Self> {
        if !bytes.len().is_multiple_of(2) {
            return None;
        }
        let end = bytes.chunks_exact(2).position(|unit| unit == [0, 0]);
        Some(Self(&bytes[..end.map_or(bytes.len(), |units| 2 * units)]))
    }

    /// Its bytes, without a NUL.
    pub const fn as_bytes(&self) -> &'a [u8] {
        self.0
    }

    /// Its characters; U+FFFD for what is none.
    pub fn chars(&self) -> impl Iterator<Item = char> {
        let units = self.0.chunks_exact(2);
        let units = units.map(|unit| u16::from_le_bytes([unit[0], unit[1]]));
        char::decode_utf16(units).map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER))
    }

    /// Whether it looks like text: not empty, and printable throughout.
    pub fn is_text(&self) -> bool {
        !self.0.is_empty()
            && self
                .chars()
                .all(|c| !c.is_control() && c != char::REPLACEMENT_CHARACTER)
    }
}

impl PartialEq<str> for Utf16<'_> {
    fn eq(&self, other: &str) -> bool {
        self.chars().eq(other.chars())
    }
}

impl fmt::Display for Utf16<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.chars().try_for_each(|c| f.write_char(c))
    }
}

/// Whether these bytes look like ASCII text; returns it without a NUL at its end.
pub(super) fn ascii(bytes: &[u8]) -> Option<&str> {
    let bytes = bytes.strip_suffix(b"\0").unwrap_or(bytes);
    let printable = |b: &u8| b.is_ascii_graphic() || matches!(*b, b' ' | b'\t' | b'\n');
    core::str::from_utf8(bytes)
        .ok()
        .filter(|_| !bytes.is_empty() && bytes.iter().all(printable))
}
