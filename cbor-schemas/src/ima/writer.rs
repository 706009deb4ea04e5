//! Template data, made.
//!
//! The verifier rebuilds it from a digest and a path that came in short form; tests and the
//! simulated kernel make records of their own.

use super::{Endian, RecordError};

/// Writes template data into the caller's buffer, field by field, each with its length in front.
///
/// ```
/// use mote_schemas::ima::{Endian, Record, TemplateWriter};
/// use mote_schemas::tpm::HashAlg;
///
/// let mut buf = [0; 128];
/// let mut w = TemplateWriter::new(Endian::Little, &mut buf);
/// w.digest("sha256", &[0xAB; 32])?;
/// w.text(b"/usr/bin/true")?;
/// let data = w.finish();
/// let record = Record::measured(10, HashAlg::Sha1, "ima-ng", data);
/// assert!(record.claims_hash_ok());
/// # Ok::<(), mote_schemas::ima::RecordError>(())
/// ```
#[derive(Debug)]
pub struct TemplateWriter<'b> {
    endian: Endian,
    out: &'b mut [u8],
    at: usize,
}

impl<'b> TemplateWriter<'b> {
    /// Starts at the first byte of `out`.
    pub fn new(endian: Endian, out: &'b mut [u8]) -> Self {
        Self { endian, out, at: 0 }
    }

    /// A field of these bytes: `sig`, `buf`, `d`, or any other as it is.
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<(), RecordError> {
        self.field(&[bytes])
    }

    /// `d-ng` or `d-modsig`; for `d-ngv2` name the type in front: `ima:sha256`.
    pub fn digest(&mut self, algorithm: &str, digest: &[u8]) -> Result<(), RecordError> {
        self.field(&[algorithm.as_bytes(), b":\0", digest])
    }

    /// `n-ng` or `n`: `text` is written with a NUL behind it, and otherwise unchanged. The kernel
    /// would write underscores for spaces.
    pub fn text(&mut self, text: &[u8]) -> Result<(), RecordError> {
        self.field(&[text, b"\0"])
    }

    /// The data written so far.
    pub fn finish(self) -> &'b [u8] {
        &self.out[..self.at]
    }

    fn field(&mut self, parts: &[&[u8]]) -> Result<(), RecordError> {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        let size = u32::try_from(len).map_err(|_| RecordError::DataLength(len))?;
        let end = self.at + 4 + len;
        let mut rest = self
            .out
            .get_mut(self.at..end)
            .ok_or(RecordError::BufferTooSmall)?;
        let size = self.endian.u32_bytes(size);
        for part in core::iter::once(&size[..]).chain(parts.iter().copied()) {
            let (head, tail) = rest.split_at_mut(part.len());
            head.copy_from_slice(part);
            rest = tail;
        }
        self.at = end;
        Ok(())
    }
}
