//! What a portable EVM signature covers: the values of the file's protected attributes, `security.ima` among
//! them, then owner, group and mode (`evm_calc_hmac_or_hash`, `hmac_add_misc`).
//!
//! The template `evm-sig` carries all of it. That `security.ima` is of the file that was measured, EVM
//! leaves to IMA, and so it is checked here: it must hold the digest in the record.

use mote_schemas::ima::{Endian, FieldKind, FieldValue, FileDigest, TemplateData};

use super::header::{Version, hash_to_u8};
use super::{HeaderError, SignatureError, SignatureHeader, hash};

/// `IMA_XATTR_DIGEST` (SHA-1) and `IMA_XATTR_DIGEST_NG` (algorithm, digest).
const DIGEST: u8 = 1;
const DIGEST_NG: u8 = 4;

/// The digests that an EVM signature over this record may be of: one for each layout that the device's
/// kernel may have given `struct h_misc`, whose padding is signed too, and each byte order: the kernel's own,
/// which need not be that of its list (`ima_canonical_fmt`).
pub(super) fn digests(
    record: &TemplateData<'_>,
    header: &SignatureHeader<'_>,
    endian: Endian,
) -> Result<Vec<Vec<u8>>, SignatureError> {
    if header.version() != Version::V2 {
        return Err(SignatureError::Header(HeaderError::Version(3)));
    }
    let file = record.file_digest().ok_or(SignatureError::Absent)?;
    let attributes = Attributes::of(record, endian).ok_or(SignatureError::Attributes)?;
    if !attributes.is_of_file(&file) {
        return Err(SignatureError::Attributes);
    }
    // `unsigned long ino` (0), `__u32 generation` (0), uid, gid, `umode_t` (2 bytes), padding.
    let digest = |ino: usize, order: Endian| {
        let mut misc = vec![0; ino + 4];
        misc.extend(order.u32_bytes(attributes.uid));
        misc.extend(order.u32_bytes(attributes.gid));
        let mode = attributes.mode;
        misc.extend(match order {
            Endian::Little => mode.to_le_bytes(),
            Endian::Big => mode.to_be_bytes(),
        });
        misc.resize(misc.len().next_multiple_of(ino), 0);
        hash(header.hash(), &[attributes.values, &misc].concat())
    };
    let layouts = [8, 4].into_iter();
    let orders = |ino| [Endian::Little, Endian::Big].map(|order| digest(ino, order));
    Ok(layouts.flat_map(orders).collect())
}

struct Attributes<'a> {
    values: &'a [u8],
    /// Value of `security.ima`.
    ima: &'a [u8],
    uid: u32,
    gid: u32,
    mode: u16,
}

impl<'a> Attributes<'a> {
    /// `None` if the record does not have them all.
    fn of(record: &TemplateData<'a>, endian: Endian) -> Option<Self> {
        let field = |kind| record.field(kind).map(|field| field.value);
        let number = |kind| match field(kind) {
            Some(FieldValue::Uint(number)) => Some(number),
            _ => None,
        };
        let (
            Some(FieldValue::Text(names)),
            Some(FieldValue::Bytes(lengths)),
            Some(FieldValue::Bytes(values)),
        ) = (
            field(FieldKind::XattrNames),
            field(FieldKind::XattrLengths),
            field(FieldKind::XattrValues),
        )
        else {
            return None;
        };
        let mut ima = None;
        let mut rest = values;
        let (lengths, []) = lengths.as_chunks::<4>() else {
            return None;
        };
        let mut names = names.split(|byte| *byte == b'|');
        for length in lengths {
            let (value, after) = rest.split_at_checked(endian.u32(*length) as usize)?;
            if names.next()? == b"security.ima" {
                ima = Some(value);
            }
            rest = after;
        }
        if names.next().is_some() || !rest.is_empty() {
            return None;
        }
        Some(Attributes {
            values,
            ima: ima?,
            uid: number(FieldKind::Uid)?.try_into().ok()?,
            gid: number(FieldKind::Gid)?.try_into().ok()?,
            mode: number(FieldKind::Mode)?.try_into().ok()?,
        })
    }

    /// Whether `security.ima` holds the digest of the file that was measured.
    fn is_of_file(&self, file: &FileDigest<'_>) -> bool {
        let Some(digest) = file.to_digest() else {
            return false;
        };
        if !matches!(file.digest_type, "" | "ima") {
            return false;
        }
        let stated = match self.ima {
            [DIGEST, digest @ ..] => (hash_to_u8(mote_schemas::tpm::HashAlg::Sha1), digest),
            [DIGEST_NG, algorithm, digest @ ..] => (*algorithm, digest),
            _ => return false,
        };
        stated == (hash_to_u8(digest.alg()), digest.as_bytes())
    }
}
