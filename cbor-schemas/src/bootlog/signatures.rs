//! What Secure Boot's variables hold: `EFI_SIGNATURE_LIST` (UEFI 2.10, 32.4.1).

use super::Guid;
use super::data::take;
use crate::tpm::{Digest, HashAlg, hash};

/// `SignatureType`, `SignatureListSize`, `SignatureHeaderSize`, `SignatureSize`.
const LIST_HEADER: usize = 28;
const OWNER: usize = 16;

/// One `EFI_SIGNATURE_DATA`, and the type of the list that it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signature<'a> {
    /// What `data` is, such as [`Guid::CERT_X509`].
    pub kind: Guid,
    /// `SignatureOwner`: who put it there.
    pub owner: Guid,
    /// A certificate, a digest, or what else `kind` says.
    pub data: &'a [u8],
}

impl Signature<'_> {
    /// What tells it from all others: SHA-256 of type, owner and data.
    pub fn digest(&self) -> Digest {
        hash(HashAlg::Sha256, &[&self.kind.0, &self.owner.0, self.data])
    }
}

/// Bytes that are no lists of signatures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoSignatures;

/// The signatures in the value of PK, KEK, db or dbx, in their order. Ends after an error.
#[derive(Clone, Debug)]
pub struct Signatures<'a> {
    /// Lists that were not begun.
    rest: &'a [u8],
    list: List<'a>,
}

/// What is left of a list.
#[derive(Clone, Debug)]
struct List<'a> {
    kind: Guid,
    /// Bytes of each signature.
    size: usize,
    signatures: &'a [u8],
}

impl<'a> Signatures<'a> {
    /// Of all of `value`. An empty value holds none.
    pub const fn new(value: &'a [u8]) -> Self {
        Self {
            rest: value,
            list: List {
                kind: Guid([0; 16]),
                size: 0,
                signatures: &[],
            },
        }
    }

    fn next_list(&mut self) -> Option<List<'a>> {
        let mut header = self.rest;
        let kind = Guid(take(&mut header)?);
        let mut number = || usize::try_from(u32::from_le_bytes(take(&mut header)?)).ok();
        let (list_size, header_size, size) = (number()?, number()?, number()?);
        let (list, after) = self.rest.split_at_checked(list_size)?;
        let signatures = list.get(LIST_HEADER..)?.get(header_size..)?;
        self.rest = after;
        (size > OWNER && signatures.len().is_multiple_of(size)).then_some(List {
            kind,
            size,
            signatures,
        })
    }
}

impl<'a> List<'a> {
    fn pop(&mut self) -> Option<Signature<'a>> {
        let (signature, after) = self.signatures.split_at_checked(self.size)?;
        self.signatures = after;
        let mut data = signature;
        Some(Signature {
            kind: self.kind,
            owner: Guid(take(&mut data)?),
            data,
        })
    }
}

impl<'a> Iterator for Signatures<'a> {
    type Item = Result<Signature<'a>, NoSignatures>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.list.signatures.is_empty() {
            if self.rest.is_empty() {
                return None;
            }
            let Some(list) = self.next_list() else {
                *self = Self::new(&[]);
                return Some(Err(NoSignatures));
            };
            self.list = list;
        }
        self.list.pop().map(Ok)
    }
}
