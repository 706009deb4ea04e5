//! Which PCRs of which banks (`TPML_PCR_SELECTION`, part 2, 10.9.7; `TPMS_PCR_SELECTION`, 10.6.2).

use core::fmt;

use super::digest::HashAlg;
use super::wire::{EncodeError, Reader, WireError, Writer};
use crate::limits::{MAX_PCR_BANKS, PCR_COUNT};

/// `sizeofSelect` of a PC Client TPM: 24 PCRs.
const PC_CLIENT_SELECT: u8 = 3;

/// Why bytes are not a selection that can be handled here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PcrSelectionError {
    /// Not the structure at all.
    Wire(WireError),
    /// More banks than [`MAX_PCR_BANKS`].
    TooManyBanks(u32),
    /// A bank of a hash algorithm that is not known here.
    UnknownHash(u16),
    /// A bank that is listed twice: the digest over it would have two readings.
    DuplicateBank(HashAlg),
    /// `sizeofSelect` outside 1..=4.
    SelectSize(u8),
    /// A PCR that no PC Client TPM has.
    NoSuchPcr(u8),
}

impl fmt::Display for PcrSelectionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wire(e) => write!(f, "PCR selection: {e}"),
            Self::TooManyBanks(n) => write!(f, "{n} PCR banks, at most {MAX_PCR_BANKS} allowed"),
            Self::UnknownHash(id) => write!(f, "PCR bank of unknown hash algorithm {id:#06x}"),
            Self::DuplicateBank(alg) => write!(f, "PCR bank {alg} is selected twice"),
            Self::SelectSize(n) => write!(f, "sizeofSelect is {n}, not 1 to 4"),
            Self::NoSuchPcr(n) => write!(f, "PCR {n} is selected, the last is {}", PCR_COUNT - 1),
        }
    }
}

impl core::error::Error for PcrSelectionError {}

impl From<WireError> for PcrSelectionError {
    fn from(e: WireError) -> Self {
        Self::Wire(e)
    }
}

/// PCRs of one bank.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BankSelection {
    alg: HashAlg,
    select_size: u8,
    mask: u32,
}

impl BankSelection {
    /// Selects the PCRs whose bits are set in `mask` (bit 0 is PCR 0), in the three octets of a
    /// PC Client TPM.
    pub fn new(alg: HashAlg, mask: u32) -> Result<Self, PcrSelectionError> {
        Self::with_select_size(alg, mask, PC_CLIENT_SELECT)
    }

    fn with_select_size(alg: HashAlg, mask: u32, size: u8) -> Result<Self, PcrSelectionError> {
        // u32::BITS is 32 and a set bit's index is below it, so the index fits u8.
        let highest = u32::BITS - 1 - (mask | 1).leading_zeros();
        if highest as usize >= PCR_COUNT {
            return Err(PcrSelectionError::NoSuchPcr(highest as u8));
        }
        Ok(Self {
            alg,
            select_size: size,
            mask,
        })
    }

    /// The bank.
    pub const fn alg(&self) -> HashAlg {
        self.alg
    }

    /// Its PCRs: bit 0 is PCR 0.
    pub const fn mask(&self) -> u32 {
        self.mask
    }

    /// Number of PCRs selected.
    pub const fn count(&self) -> usize {
        self.mask.count_ones() as usize
    }

    /// Whether `pcr` is selected.
    pub const fn contains(&self, pcr: u32) -> bool {
        pcr < PCR_COUNT as u32 && self.mask >> pcr & 1 == 1
    }
}

/// PCRs of up to [`MAX_PCR_BANKS`] banks, each bank at most once, in the order of the TPM's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PcrSelection {
    // Only `..len` counts; the rest is `UNUSED`, so that the derived comparisons are right.
    banks: [BankSelection; MAX_PCR_BANKS],
    len: u8,
}

const UNUSED: BankSelection = BankSelection {
    alg: HashAlg::Sha1,
    select_size: PC_CLIENT_SELECT,
    mask: 0,
};

impl Default for PcrSelection {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl PcrSelection {
    /// Longest encoding, in bytes.
    pub const MAX_ENCODED: usize = 4 + MAX_PCR_BANKS * (2 + 1 + 4);

    /// No bank at all.
    pub const EMPTY: Self = Self {
        banks: [UNUSED; MAX_PCR_BANKS],
        len: 0,
    };

    /// PCRs of one bank: bit 0 of `mask` is PCR 0.
    pub fn single(alg: HashAlg, mask: u32) -> Result<Self, PcrSelectionError> {
        let mut selection = Self::EMPTY;
        selection.push(BankSelection::new(alg, mask)?)?;
        Ok(selection)
    }

    /// Adds a bank at the end of the list.
    pub fn push(&mut self, bank: BankSelection) -> Result<(), PcrSelectionError> {
        if self.bank(bank.alg).is_some() {
            return Err(PcrSelectionError::DuplicateBank(bank.alg));
        }
        let len = usize::from(self.len);
        let slot = self
            .banks
            .get_mut(len)
            .ok_or(PcrSelectionError::TooManyBanks(len as u32 + 1))?;
        *slot = bank;
        self.len += 1;
        Ok(())
    }

    /// Reads a selection that fills the whole input.
    pub fn parse(bytes: &[u8]) -> Result<Self, PcrSelectionError> {
        let mut r = Reader::new(bytes);
        let selection = Self::read(&mut r)?;
        r.finish()?;
        Ok(selection)
    }

    /// Reads a selection and leaves what follows it.
    pub fn read(r: &mut Reader<'_>) -> Result<Self, PcrSelectionError> {
        let count = r.u32()?;
        if count as usize > MAX_PCR_BANKS {
            return Err(PcrSelectionError::TooManyBanks(count));
        }
        let mut selection = Self::EMPTY;
        for _ in 0..count {
            let id = r.u16()?;
            let alg = HashAlg::from_u16(id).ok_or(PcrSelectionError::UnknownHash(id))?;
            let size = r.u8()?;
            if !(1..=4).contains(&size) {
                return Err(PcrSelectionError::SelectSize(size));
            }
            // Octet 0 holds PCR 0 to 7, PCR 0 in its lowest bit (part 2, 10.6.1).
            let octets = r.bytes(usize::from(size))?;
            let mask = octets
                .iter()
                .rev()
                .fold(0, |mask, o| mask << 8 | u32::from(*o));
            selection.push(BankSelection::with_select_size(alg, mask, size)?)?;
        }
        Ok(selection)
    }

    /// Appends the selection.
    pub fn write(&self, w: &mut Writer<'_>) -> Result<(), EncodeError> {
        w.u32(u32::from(self.len))?;
        for bank in self.banks() {
            w.u16(bank.alg.to_u16())?;
            w.u8(bank.select_size)?;
            w.bytes(&bank.mask.to_le_bytes()[..usize::from(bank.select_size)])?;
        }
        Ok(())
    }

    /// Writes the selection into `out`; returns the part written.
    pub fn encode<'b>(&self, out: &'b mut [u8]) -> Result<&'b [u8], EncodeError> {
        let mut w = Writer::new(out);
        self.write(&mut w)?;
        Ok(w.finish())
    }

    /// The banks, in the order of the list.
    pub fn banks(&self) -> &[BankSelection] {
        &self.banks[..usize::from(self.len)]
    }

    /// The bank of this algorithm, if listed.
    pub fn bank(&self, alg: HashAlg) -> Option<&BankSelection> {
        self.banks().iter().find(|bank| bank.alg == alg)
    }

    /// Whether `pcr` of bank `alg` is selected.
    pub fn contains(&self, alg: HashAlg, pcr: u32) -> bool {
        self.bank(alg).is_some_and(|bank| bank.contains(pcr))
    }

    /// Number of PCRs selected, over all banks.
    pub fn count(&self) -> usize {
        self.banks().iter().map(BankSelection::count).sum()
    }

    /// Whether no PCR is selected.
    pub fn is_empty(&self) -> bool {
        self.count() == 0
    }

    /// Every selected PCR in the order in which the TPM hashes them: bank by bank as listed, and
    /// upwards in each (part 1, 17).
    pub fn iter(&self) -> PcrIter<'_> {
        PcrIter {
            banks: self.banks(),
            done: 0,
        }
    }
}

impl<'a> IntoIterator for &'a PcrSelection {
    type Item = (HashAlg, u32);
    type IntoIter = PcrIter<'a>;

    fn into_iter(self) -> PcrIter<'a> {
        self.iter()
    }
}

/// Selected PCRs in TPM order; see [`PcrSelection::iter`].
#[derive(Clone, Debug)]
pub struct PcrIter<'a> {
    banks: &'a [BankSelection],
    // Bits of the first bank that were handed out.
    done: u32,
}

impl Iterator for PcrIter<'_> {
    type Item = (HashAlg, u32);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (bank, rest) = self.banks.split_first()?;
            let left = bank.mask & !self.done;
            if left != 0 {
                let pcr = left.trailing_zeros();
                self.done |= 1 << pcr;
                return Some((bank.alg, pcr));
            }
            self.banks = rest;
            self.done = 0;
        }
    }
}
