//! The fields that template data is made of (`supported_fields` in `ima_template.c`, formats in
//! `ima_template_lib.c`).

use super::Endian;
use crate::tpm::{Digest, HashAlg};

/// A field, by its id in a template's format string.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FieldKind {
    /// `d`: file digest without algorithm, SHA-1 or MD5.
    Digest,
    /// `n`: name, at most 255 bytes.
    Name,
    /// `d-ng`: file digest with algorithm.
    DigestNg,
    /// `d-ngv2`: file digest with type (`ima`, `verity`) and algorithm.
    DigestNgV2,
    /// `d-type`: what the digest is of, in kernels that have no `d-ngv2` (proposed, never released).
    DigestType,
    /// `d-modsig`: digest that an appended signature covers.
    DigestModsig,
    /// `n-ng`: name.
    NameNg,
    /// `sig`: the file's `security.ima` signature, or its portable EVM signature.
    Sig,
    /// `modsig`: appended signature (PKCS#7).
    Modsig,
    /// `evmsig`: portable EVM signature.
    EvmSig,
    /// `buf`: a buffer that was measured instead of a file.
    Buf,
    /// `iuid`: owner.
    Uid,
    /// `igid`: group.
    Gid,
    /// `imode`: file mode.
    Mode,
    /// `mntuidmap`: owners as an id-mapped mount shows them (proposed, never released).
    MountUidMap,
    /// `mntgidmap`: the same of groups.
    MountGidMap,
    /// `xattrnames`: names of the attributes that the EVM signature covers.
    XattrNames,
    /// `xattrlengths`: their lengths.
    XattrLengths,
    /// `xattrvalues`: their values.
    XattrValues,
    /// Any other.
    Unknown,
}

/// How a field's bytes are laid out.
#[derive(Clone, Copy)]
enum Shape {
    BareDigest,
    /// `algorithm : NUL digest`
    TaggedDigest,
    /// `type : algorithm : NUL digest`
    TypedDigest,
    /// Ends with NUL.
    Text,
    /// 1, 2, 4 or 8 bytes, in the list's byte order.
    Uint,
    Bytes,
}

/// Every field that is known. A new kernel's field is one line here.
const FIELDS: [(&str, FieldKind, Shape); 19] = [
    ("d", FieldKind::Digest, Shape::BareDigest),
    ("n", FieldKind::Name, Shape::Text),
    ("d-ng", FieldKind::DigestNg, Shape::TaggedDigest),
    ("d-ngv2", FieldKind::DigestNgV2, Shape::TypedDigest),
    ("d-type", FieldKind::DigestType, Shape::Text),
    ("d-modsig", FieldKind::DigestModsig, Shape::TaggedDigest),
    ("n-ng", FieldKind::NameNg, Shape::Text),
    ("sig", FieldKind::Sig, Shape::Bytes),
    ("modsig", FieldKind::Modsig, Shape::Bytes),
    ("evmsig", FieldKind::EvmSig, Shape::Bytes),
    ("buf", FieldKind::Buf, Shape::Bytes),
    ("iuid", FieldKind::Uid, Shape::Uint),
    ("igid", FieldKind::Gid, Shape::Uint),
    ("imode", FieldKind::Mode, Shape::Uint),
    ("mntuidmap", FieldKind::MountUidMap, Shape::Bytes),
    ("mntgidmap", FieldKind::MountGidMap, Shape::Bytes),
    ("xattrnames", FieldKind::XattrNames, Shape::Text),
    ("xattrlengths", FieldKind::XattrLengths, Shape::Bytes),
    ("xattrvalues", FieldKind::XattrValues, Shape::Bytes),
];

impl FieldKind {
    /// The field with this id.
    pub fn from_id(id: &str) -> Self {
        Self::entry(|(known, ..)| *known == id).map_or(Self::Unknown, |(_, kind, _)| *kind)
    }

    /// Its id; `None` for [`Self::Unknown`].
    pub fn id(self) -> Option<&'static str> {
        Self::entry(|(_, kind, _)| *kind == self).map(|(id, ..)| *id)
    }

    /// Whether it holds the digest of the whole file or buffer.
    pub(super) fn is_file_digest(self) -> bool {
        matches!(self, Self::Digest | Self::DigestNg | Self::DigestNgV2)
    }

    pub(super) fn is_name(self) -> bool {
        matches!(self, Self::Name | Self::NameNg)
    }

    fn entry(
        wanted: impl FnMut(&&(&str, Self, Shape)) -> bool,
    ) -> Option<&'static (&'static str, Self, Shape)> {
        FIELDS.iter().find(wanted)
    }

    /// Reads a field of this kind; `None` if it is not one. An empty field is one of any kind:
    /// the kernel had nothing to put there.
    pub(super) fn read(self, raw: &[u8], endian: Endian) -> Option<FieldValue<'_>> {
        if raw.is_empty() {
            return Some(FieldValue::Empty);
        }
        let shape = Self::entry(|(_, kind, _)| *kind == self).map_or(Shape::Bytes, |e| e.2);
        Some(match shape {
            Shape::BareDigest => FieldValue::Digest(FileDigest {
                digest_type: "",
                algorithm: "",
                digest: raw,
            }),
            Shape::TaggedDigest => {
                let (algorithm, digest) = split_tag(raw)?;
                FieldValue::Digest(FileDigest {
                    digest_type: "",
                    algorithm: label(algorithm)?,
                    digest,
                })
            }
            Shape::TypedDigest => {
                let (tag, digest) = split_tag(raw)?;
                let (digest_type, algorithm) = label_text(tag)?.split_once(':')?;
                FieldValue::Digest(FileDigest {
                    digest_type,
                    algorithm: label(algorithm.as_bytes())?,
                    digest,
                })
            }
            // The kernel measures C strings: a NUL inside is no name of its making.
            Shape::Text => match raw.split_last()? {
                (0, text) if !text.contains(&0) => FieldValue::Text(text),
                _ => return None,
            },
            Shape::Uint => FieldValue::Uint(uint(raw, endian)?),
            Shape::Bytes => FieldValue::Bytes(raw),
        })
    }
}

/// Splits `tag : NUL digest` at the first NUL, which must follow a colon.
fn split_tag(raw: &[u8]) -> Option<(&[u8], &[u8])> {
    let nul = raw.iter().position(|b| *b == 0)?;
    let tag = raw[..nul].strip_suffix(b":")?;
    Some((tag, &raw[nul + 1..]))
}

fn label_text(tag: &[u8]) -> Option<&str> {
    let printable = tag.iter().all(u8::is_ascii_graphic);
    core::str::from_utf8(tag).ok().filter(|_| printable)
}

fn label(tag: &[u8]) -> Option<&str> {
    label_text(tag).filter(|text| !text.contains(':'))
}

fn uint(raw: &[u8], endian: Endian) -> Option<u64> {
    if !matches!(raw.len(), 1 | 2 | 4 | 8) {
        return None;
    }
    let append = |v: u64, b: &u8| v << 8 | u64::from(*b);
    Some(match endian {
        Endian::Little => raw.iter().rev().fold(0, append),
        Endian::Big => raw.iter().fold(0, append),
    })
}

/// What a field says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldValue<'a> {
    /// Nothing: no signature, no buffer.
    Empty,
    /// A digest.
    Digest(FileDigest<'a>),
    /// A string without its NUL, in no particular encoding. **The kernel has replaced every space
    /// with an underscore** (`ima_write_template_field_data`).
    Text(&'a [u8]),
    /// A number.
    Uint(u64),
    /// Bytes.
    Bytes(&'a [u8]),
}

impl<'a> FieldValue<'a> {
    pub(super) fn digest(self) -> Option<FileDigest<'a>> {
        match self {
            FieldValue::Digest(digest) => Some(digest),
            _ => None,
        }
    }
}

/// Digest of a measured file or buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileDigest<'a> {
    /// `ima` or `verity`; empty where the template does not say, which means `ima`.
    pub digest_type: &'a str,
    /// The kernel's name of the algorithm, such as `sha256`; empty in the field `d`.
    pub algorithm: &'a str,
    /// The digest. Of a violation: zeros, in older kernels always 20 of them.
    pub digest: &'a [u8],
}

impl FileDigest<'_> {
    /// The digest as a value, if its algorithm is known here and its length is that algorithm's.
    pub fn to_digest(&self) -> Option<Digest> {
        let alg = match self.algorithm {
            // `d` holds SHA-1 or MD5, and MD5 does not fit.
            "" => HashAlg::Sha1,
            name => HashAlg::from_name(name)?,
        };
        Digest::new(alg, self.digest)
    }

    /// Whether all bits are zero: a violation.
    pub fn is_zero(&self) -> bool {
        self.digest.iter().all(|b| *b == 0)
    }
}
