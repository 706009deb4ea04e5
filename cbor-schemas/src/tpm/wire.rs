//! A checked reader and writer of the TPM's canonical form: big-endian integers and sized buffers
//! (`TPM2B_*`: a 16-bit size, then that many bytes; part 2, 10.4).

use core::fmt;

/// Bytes that are not the structure they claim to be. Offsets count from the start of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WireError {
    /// The input ends inside a field that starts at `at` and needs `needed` bytes.
    Truncated {
        /// Offset of the field.
        at: usize,
        /// Length of the field, in bytes.
        needed: usize,
    },
    /// A sized buffer, or the whole structure, is longer than its type allows.
    TooLong {
        /// Offset of the buffer.
        at: usize,
        /// Its claimed length, in bytes.
        len: usize,
        /// The most its type can hold, in bytes.
        max: usize,
    },
    /// The structure is complete and bytes follow it.
    TrailingBytes {
        /// Offset of the first byte too many.
        at: usize,
    },
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Truncated { at, needed } => {
                write!(f, "input ends in a {needed}-byte field at offset {at}")
            }
            Self::TooLong { at, len, max } => {
                write!(f, "{len} bytes at offset {at}, at most {max} allowed")
            }
            Self::TrailingBytes { at } => write!(f, "bytes left over at offset {at}"),
        }
    }
}

impl core::error::Error for WireError {}

/// A structure that cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EncodeError {
    /// The caller's buffer is too small.
    BufferTooSmall,
    /// A variable field is longer than its TPM type allows.
    FieldTooLong {
        /// Its length, in bytes.
        len: usize,
        /// The most its type can hold, in bytes.
        max: usize,
    },
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::BufferTooSmall => f.write_str("output buffer too small"),
            Self::FieldTooLong { len, max } => {
                write!(f, "field of {len} bytes, at most {max} allowed")
            }
        }
    }
}

impl core::error::Error for EncodeError {}

/// Reads TPM structures front to back; never beyond its input.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    input: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Starts at the first byte of `input`.
    pub fn new(input: &'a [u8]) -> Self {
        Self { input, at: 0 }
    }

    /// Bytes read so far.
    pub fn offset(&self) -> usize {
        self.at
    }

    /// Takes the next `len` bytes.
    pub fn bytes(&mut self, len: usize) -> Result<&'a [u8], WireError> {
        let rest = &self.input[self.at..];
        let Some((taken, _)) = rest.split_at_checked(len) else {
            return Err(WireError::Truncated {
                at: self.at,
                needed: len,
            });
        };
        self.at += len;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let mut out = [0; N];
        out.copy_from_slice(self.bytes(N)?);
        Ok(out)
    }

    /// Takes one byte.
    pub fn u8(&mut self) -> Result<u8, WireError> {
        Ok(self.array::<1>()?[0])
    }

    /// Takes a 16-bit integer.
    pub fn u16(&mut self) -> Result<u16, WireError> {
        self.array().map(u16::from_be_bytes)
    }

    /// Takes a 32-bit integer.
    pub fn u32(&mut self) -> Result<u32, WireError> {
        self.array().map(u32::from_be_bytes)
    }

    /// Takes a 64-bit integer.
    pub fn u64(&mut self) -> Result<u64, WireError> {
        self.array().map(u64::from_be_bytes)
    }

    /// Takes the contents of a sized buffer (`TPM2B_*`) that holds at most `max` bytes.
    pub fn tpm2b(&mut self, max: usize) -> Result<&'a [u8], WireError> {
        let at = self.at;
        let len = usize::from(self.u16()?);
        if len > max {
            return Err(WireError::TooLong { at, len, max });
        }
        self.bytes(len)
    }

    /// Checks that nothing is left.
    pub fn finish(self) -> Result<(), WireError> {
        if self.at == self.input.len() {
            Ok(())
        } else {
            Err(WireError::TrailingBytes { at: self.at })
        }
    }
}

/// Takes apart an input that is exactly one sized buffer of at most `max` bytes.
///
/// Tools and TPM commands hand out `TPM2B_PUBLIC` and `TPM2B_ATTEST`; the parsers here take what
/// is inside.
pub fn tpm2b(input: &[u8], max: usize) -> Result<&[u8], WireError> {
    let mut r = Reader::new(input);
    let inner = r.tpm2b(max)?;
    r.finish()?;
    Ok(inner)
}

/// Writes TPM structures into the caller's buffer.
#[derive(Debug)]
pub struct Writer<'b> {
    out: &'b mut [u8],
    at: usize,
}

impl<'b> Writer<'b> {
    /// Starts at the first byte of `out`.
    pub fn new(out: &'b mut [u8]) -> Self {
        Self { out, at: 0 }
    }

    /// Appends `bytes` as they are.
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        let slot = self
            .out
            .get_mut(self.at..)
            .and_then(|free| free.get_mut(..bytes.len()))
            .ok_or(EncodeError::BufferTooSmall)?;
        slot.copy_from_slice(bytes);
        self.at += bytes.len();
        Ok(())
    }

    /// Appends one byte.
    pub fn u8(&mut self, v: u8) -> Result<(), EncodeError> {
        self.bytes(&[v])
    }

    /// Appends a 16-bit integer.
    pub fn u16(&mut self, v: u16) -> Result<(), EncodeError> {
        self.bytes(&v.to_be_bytes())
    }

    /// Appends a 32-bit integer.
    pub fn u32(&mut self, v: u32) -> Result<(), EncodeError> {
        self.bytes(&v.to_be_bytes())
    }

    /// Appends a 64-bit integer.
    pub fn u64(&mut self, v: u64) -> Result<(), EncodeError> {
        self.bytes(&v.to_be_bytes())
    }

    /// Appends a sized buffer (`TPM2B_*`) whose type holds at most `max` bytes.
    pub fn tpm2b(&mut self, bytes: &[u8], max: usize) -> Result<(), EncodeError> {
        let len = bytes.len();
        let size = u16::try_from(len)
            .ok()
            .filter(|_| len <= max)
            .ok_or(EncodeError::FieldTooLong { len, max })?;
        self.u16(size)?;
        self.bytes(bytes)
    }

    /// The written part of the buffer.
    pub fn finish(self) -> &'b [u8] {
        &self.out[..self.at]
    }
}
