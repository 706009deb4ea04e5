//! `TPMS_ATTEST` of a quote (TPM 2.0 Library, part 2, 10.12.12): what the attestation key signs.

use core::fmt;

use super::digest::MAX_DIGEST;
use super::name::MAX_NAME;
use super::pcr_selection::{PcrSelection, PcrSelectionError};
use super::wire::{EncodeError, Reader, WireError, Writer};
use crate::limits::MAX_TPMS_ATTEST;

/// `TPM_GENERATED_VALUE` (part 2, 6.2): the front of everything that a TPM makes itself. A
/// restricted key signs nothing else that begins so.
pub const TPM_GENERATED_VALUE: u32 = 0xFF54_4347;

/// `TPM_ST_ATTEST_QUOTE` (part 2, 6.9).
pub const TPM_ST_ATTEST_QUOTE: u16 = 0x8018;

/// Largest `TPM2B_DATA`: a `TPMT_HA` (part 2, 10.4.3).
const MAX_DATA: usize = 2 + MAX_DIGEST;

/// Why bytes are not the attestation structure of a quote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttestError {
    /// Not `TPM_GENERATED_VALUE`: foreign data, which only a key that is not restricted signs.
    WrongMagic(u32),
    /// Made by a TPM, but not a quote.
    WrongType(u16),
    /// `safe` is neither YES nor NO (`TPMI_YES_NO`).
    WrongYesNo(u8),
    /// The PCR selection is not one.
    PcrSelection(PcrSelectionError),
    /// Truncated, too long or with bytes left over.
    Wire(WireError),
}

impl fmt::Display for AttestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WrongMagic(v) => write!(f, "not made by a TPM: magic is {v:#010x}"),
            Self::WrongType(v) => write!(f, "not a quote: attestation type {v:#06x}"),
            Self::WrongYesNo(v) => write!(f, "clockInfo.safe is {v}, neither 0 nor 1"),
            Self::PcrSelection(e) => e.fmt(f),
            Self::Wire(e) => write!(f, "TPMS_ATTEST: {e}"),
        }
    }
}

impl core::error::Error for AttestError {}

impl From<WireError> for AttestError {
    fn from(e: WireError) -> Self {
        Self::Wire(e)
    }
}

impl From<PcrSelectionError> for AttestError {
    fn from(e: PcrSelectionError) -> Self {
        match e {
            PcrSelectionError::Wire(e) => Self::Wire(e),
            e => Self::PcrSelection(e),
        }
    }
}

/// `TPMS_CLOCK_INFO` (part 2, 10.11.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ClockInfo {
    /// Milliseconds that the TPM was powered, over its whole life.
    pub clock: u64,
    /// TPM resets (reboots) since the last clear.
    pub reset_count: u32,
    /// Restarts and resumes since the last reset; starts over at a reset, so order boots by
    /// (`reset_count`, `restart_count`).
    pub restart_count: u32,
    /// No value of `clock` greater than this one was ever reported.
    pub safe: bool,
}

impl ClockInfo {
    /// (`reset_count`, `restart_count`): names one boot.
    pub const fn boot(&self) -> (u32, u32) {
        (self.reset_count, self.restart_count)
    }
}

/// A quote's `TPMS_ATTEST`, with magic and type already checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attest<'a> {
    /// Qualified name of the signing key, at most 66 bytes.
    pub qualified_signer: &'a [u8],
    /// The caller's qualifying data, at most 66 bytes: binds the quote to a challenge.
    pub extra_data: &'a [u8],
    /// Clock and boot counters. Obfuscated when the key is outside the endorsement hierarchy.
    pub clock_info: ClockInfo,
    /// Firmware version, as the TPM's vendor counts.
    pub firmware_version: u64,
    /// The PCRs that were quoted.
    pub pcr_select: PcrSelection,
    /// Digest over their values, with the hash of the signing scheme; at most 64 bytes.
    pub pcr_digest: &'a [u8],
}

impl<'a> Attest<'a> {
    /// Reads a quote that fills the whole input.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, AttestError> {
        if bytes.len() > MAX_TPMS_ATTEST {
            return Err(AttestError::Wire(WireError::TooLong {
                at: 0,
                len: bytes.len(),
                max: MAX_TPMS_ATTEST,
            }));
        }
        let mut r = Reader::new(bytes);
        let magic = r.u32()?;
        if magic != TPM_GENERATED_VALUE {
            return Err(AttestError::WrongMagic(magic));
        }
        let kind = r.u16()?;
        if kind != TPM_ST_ATTEST_QUOTE {
            return Err(AttestError::WrongType(kind));
        }
        let attest = Self {
            qualified_signer: r.tpm2b(MAX_NAME)?,
            extra_data: r.tpm2b(MAX_DATA)?,
            clock_info: ClockInfo {
                clock: r.u64()?,
                reset_count: r.u32()?,
                restart_count: r.u32()?,
                safe: match r.u8()? {
                    0 => false,
                    1 => true,
                    v => return Err(AttestError::WrongYesNo(v)),
                },
            },
            firmware_version: r.u64()?,
            pcr_select: PcrSelection::read(&mut r)?,
            pcr_digest: r.tpm2b(MAX_DIGEST)?,
        };
        r.finish()?;
        Ok(attest)
    }

    /// Writes the bytes that the TPM would sign; returns the part of `out` written.
    /// [`MAX_TPMS_ATTEST`] bytes are always enough.
    pub fn encode<'b>(&self, out: &'b mut [u8]) -> Result<&'b [u8], EncodeError> {
        let mut w = Writer::new(out);
        w.u32(TPM_GENERATED_VALUE)?;
        w.u16(TPM_ST_ATTEST_QUOTE)?;
        w.tpm2b(self.qualified_signer, MAX_NAME)?;
        w.tpm2b(self.extra_data, MAX_DATA)?;
        w.u64(self.clock_info.clock)?;
        w.u32(self.clock_info.reset_count)?;
        w.u32(self.clock_info.restart_count)?;
        w.u8(u8::from(self.clock_info.safe))?;
        w.u64(self.firmware_version)?;
        self.pcr_select.write(&mut w)?;
        w.tpm2b(self.pcr_digest, MAX_DIGEST)?;
        Ok(w.finish())
    }
}
