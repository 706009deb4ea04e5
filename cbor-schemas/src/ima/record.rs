//! One record of the list, and what IMA extended for it.

use core::fmt;

use super::{Endian, IMA_DIGEST_SIZE, IMA_NAME_PADDED, IMA_TEMPLATE};
use crate::limits::{MAX_IMA_TEMPLATE_DATA, MAX_IMA_TEMPLATE_NAME};
use crate::tpm::{Digest, HashAlg, Hasher, hash};

/// A record that cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordError {
    /// The caller's buffer is smaller than [`Record::encoded_len`].
    BufferTooSmall,
    /// The template name is empty or too long.
    NameLength(usize),
    /// Too much template data, or, for the `ima` template, not that template's data.
    DataLength(usize),
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BufferTooSmall => f.write_str("output buffer too small"),
            Self::NameLength(n) => write!(f, "template name of {n} bytes"),
            Self::DataLength(n) => write!(f, "template data of {n} bytes"),
        }
    }
}

impl core::error::Error for RecordError {}

/// One measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// The PCR it was extended into; 10 unless the kernel's policy says otherwise.
    pub pcr: u32,
    /// The template hash as the list shows it, SHA-1 in most lists. All zero: a violation.
    pub template_hash: Digest,
    /// Name of the template, or its format string.
    pub template_name: &'a str,
    /// The measured fields.
    pub template_data: &'a [u8],
}

impl<'a> Record<'a> {
    /// The record that the kernel makes of this data.
    pub fn measured(
        pcr: u32,
        template_hash: HashAlg,
        template_name: &'a str,
        template_data: &'a [u8],
    ) -> Self {
        Self {
            template_hash: template_digest(template_hash, template_name, template_data),
            pcr,
            template_name,
            template_data,
        }
    }

    /// Whether the kernel could not vouch for what it measured: the file was open for writing
    /// when it was read, or the other way round.
    pub fn is_violation(&self) -> bool {
        self.template_hash.is_zero()
    }

    /// Hash of the template data in `bank`, violation or not (`ima_calc_field_array_hash_tfm`).
    pub fn template_digest(&self, bank: HashAlg) -> Digest {
        template_digest(bank, self.template_name, self.template_data)
    }

    /// What the kernel extended into `bank`: the hash of the template data *in that bank's
    /// algorithm*, and all ones for a violation (`ima_add_template_entry`).
    pub fn extend_digest(&self, bank: HashAlg) -> Digest {
        if self.is_violation() {
            Digest::ones(bank)
        } else {
            self.template_digest(bank)
        }
    }

    /// What the kernel extended into `bank` if it had no hash for it: SHA-1, padded with zeros.
    /// So do kernels before 5.8 in every bank, and later ones where the algorithm's module was not
    /// there when IMA started. In the SHA-1 bank the same as [`Self::extend_digest`].
    pub fn extend_digest_padded(&self, bank: HashAlg) -> Digest {
        let sha1 = self.extend_digest(HashAlg::Sha1);
        let mut padded = [0; crate::tpm::MAX_DIGEST];
        padded[..sha1.as_bytes().len()].copy_from_slice(sha1.as_bytes());
        // No algorithm here is shorter than SHA-1, and the slice has the bank's length.
        Digest::new(bank, &padded[..bank.digest_len()]).unwrap_or(sha1)
    }

    /// Whether the template hash in the list is that of the template data. A violation claims no
    /// hash, and its data is in no PCR.
    pub fn claims_hash_ok(&self) -> bool {
        self.is_violation() || self.template_digest(self.template_hash.alg()) == self.template_hash
    }

    /// Length in the binary list, in bytes.
    pub fn encoded_len(&self) -> usize {
        let data_len = if self.template_name == IMA_TEMPLATE {
            0
        } else {
            4
        };
        4 + self.template_hash.as_bytes().len()
            + 4
            + self.template_name.len()
            + data_len
            + self.template_data.len()
    }

    /// Writes the record as it stands in the binary list; returns the part of `out` written. The
    /// integers inside the template data stay as they are.
    pub fn encode<'b>(&self, endian: Endian, out: &'b mut [u8]) -> Result<&'b [u8], RecordError> {
        let name = self.template_name.as_bytes();
        let data = self.template_data;
        if name.is_empty() || name.len() > MAX_IMA_TEMPLATE_NAME {
            return Err(RecordError::NameLength(name.len()));
        }
        let is_ima = self.template_name == IMA_TEMPLATE;
        let fits = if is_ima {
            ima_fields(data).is_some_and(|(_, len, name)| endian.u32(len) as usize == name.len())
        } else {
            data.len() <= MAX_IMA_TEMPLATE_DATA
        };
        if !fits {
            return Err(RecordError::DataLength(data.len()));
        }
        let pcr = endian.u32_bytes(self.pcr);
        let name_len = endian.u32_bytes(name.len() as u32);
        let data_len = endian.u32_bytes(data.len() as u32);
        let parts = [
            &pcr[..],
            self.template_hash.as_bytes(),
            &name_len,
            name,
            if is_ima { &[] } else { &data_len },
            data,
        ];
        let out = out
            .get_mut(..self.encoded_len())
            .ok_or(RecordError::BufferTooSmall)?;
        let mut at = 0;
        for part in parts {
            out[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        Ok(out)
    }
}

/// Data of the `ima` template: digest, length of the name as it stands there, name.
fn ima_fields(data: &[u8]) -> Option<(&[u8], [u8; 4], &[u8])> {
    let (digest, rest) = data.split_at_checked(IMA_DIGEST_SIZE)?;
    let (len, name) = rest.split_first_chunk()?;
    Some((digest, *len, name))
}

fn template_digest(alg: HashAlg, template_name: &str, data: &[u8]) -> Digest {
    // The list leaves out what the `ima` template's hash covers, and the other way round.
    let Some((digest, _, name)) = ima_fields(data).filter(|_| template_name == IMA_TEMPLATE) else {
        return hash(alg, &[data]);
    };
    let mut hasher = Hasher::new(alg);
    hasher.update(digest);
    hasher.update(name);
    hasher.update(&[0; IMA_NAME_PADDED][..IMA_NAME_PADDED.saturating_sub(name.len())]);
    hasher.finish()
}
