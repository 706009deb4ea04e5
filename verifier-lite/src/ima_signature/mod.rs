//! Signatures that image builders put on files (`security.ima`, `security.evm`) and the kernel copies into
//! its log: `ima-sig`, `ima-sigv2`, `evm-sig` and `ima-modsig` records.
//!
//! | module | what |
//! |---|---|
//! | `header` | `signature_v2_hdr`, its versions 2 and 3 |
//! | `key` | public keys: raw or in a certificate, their ids, and checking a signature with one |
//! | `keyring` | the keys that a policy allows, from files |
//! | `evm` | what a portable EVM signature covers |
//! | `appended` | signatures appended to a file (CMS) |
//!
//! Sources: Linux `security/integrity/integrity.h` (`signature_v2_hdr`, `ima_file_id`), `digsig_asymmetric.c`,
//! `evm/evm_crypto.c`; `evmctl` of ima-evm-utils.
//!
//! **Who may lie.** Everything that a record says until it is certified; after that, whoever wrote the
//! file: a signature proves that the owner of an allowed key signed *these contents*, at whatever path.
//! So it accounts for a file that no manifest lists, and never excuses one that a manifest lists with
//! other contents. The key itself is the operator's word, or, for keys learned from a log, the kernel's,
//! which lets a key into `.ima` only if one that it has already vouches for it.

mod appended;
mod evm;
mod header;
mod key;
mod keyring;

use std::fmt;

use aws_lc_rs::digest;
use mote_schemas::ima::{Endian, FieldKind, FieldValue, FileDigest, TemplateData};
use mote_schemas::tpm::HashAlg;

pub use header::{HeaderError, SignatureHeader, SignatureType};
pub use key::{FileKey, KeyId, KeyParseError, SignerId};
pub use keyring::{Keyring, KeyringError, LearnedKeys};

/// Which keys may sign files: what appraisal needs of a policy.
pub trait ImaKeyring {
    /// The allowed keys that this signer may be. Ids are short, so there may be several.
    fn keys(&self, signer: &SignerId) -> Vec<&FileKey>;

    /// Whether a key that the log shows being added to this kernel keyring (`.ima`) is allowed from then
    /// on.
    fn learns_from(&self, kernel_keyring: &[u8]) -> bool;
}

/// A keyring that allows nothing.
impl ImaKeyring for () {
    fn keys(&self, _: &SignerId) -> Vec<&FileKey> {
        Vec::new()
    }

    fn learns_from(&self, _: &[u8]) -> bool {
        false
    }
}

/// Why a record's signature does not account for its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignatureError {
    /// The record has none.
    Absent,
    /// Not a signature header of a known form.
    Header(HeaderError),
    /// Made by a key that is not allowed.
    UnknownSigner(SignerId),
    /// Not the key's signature over these contents. Also: of an algorithm too weak to prove anything.
    Invalid(SignerId),
    /// An appended signature that is none; why.
    Appended(&'static str),
    /// Over a digest that the record does not have: of another algorithm or kind.
    OtherDigest {
        /// What the signature covers.
        signed: String,
        /// What the record holds.
        measured: String,
    },
    /// An EVM signature, and the record lacks the attributes that it covers (they are in `evm-sig` only),
    /// or the file's own digest is not in the attribute `security.ima` among them.
    Attributes,
}

impl fmt::Display for SignatureError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SignatureError::Absent => f.write_str("the file is not signed"),
            SignatureError::Header(error) => write!(f, "its signature is not one: {error}"),
            SignatureError::UnknownSigner(id) => {
                write!(f, "it is signed by {id}, which is not an allowed one")
            }
            SignatureError::Invalid(id) => write!(
                f,
                "its signature is not the one of {id} over these contents"
            ),
            SignatureError::Appended(why) => {
                write!(f, "its appended signature is not one: {why}")
            }
            SignatureError::OtherDigest { signed, measured } => write!(
                f,
                "its signature covers a {signed} digest, which the log does not have (it has {measured})"
            ),
            SignatureError::Attributes => f.write_str(
                "its EVM signature covers file attributes that the record lacks (boot with \
                 ima_template=evm-sig to have it checked), or its security.ima is of another file",
            ),
        }
    }
}

impl std::error::Error for SignatureError {}

/// Whether a record is of a file that an allowed key signed; which one. `keys`: every allowed key that
/// a signer may be. `endian` is the byte order of the list.
///
/// A file may have a signature of each kind; one that holds is enough, as for the kernel.
pub fn verify<'k>(
    record: &TemplateData<'_>,
    endian: Endian,
    keys: impl Fn(&SignerId) -> Vec<&'k FileKey>,
) -> Result<&'k FileKey, SignatureError> {
    let in_attributes = verify_attributes(record, endian, &keys);
    let (Err(error), Some((digest, message))) = (&in_attributes, record.appended_signature())
    else {
        return in_attributes;
    };
    appended::verify(message, &digest, &keys).map_err(|appended| match error {
        SignatureError::Absent => appended,
        error => error.clone(),
    })
}

/// Whether an allowed key's signature is in the file's extended attributes.
fn verify_attributes<'k>(
    record: &TemplateData<'_>,
    endian: Endian,
    keys: &impl Fn(&SignerId) -> Vec<&'k FileKey>,
) -> Result<&'k FileKey, SignatureError> {
    let digest = record.file_digest().ok_or(SignatureError::Absent)?;
    let evm = record.fields().find_map(|field| match field.value {
        FieldValue::Bytes(bytes) if field.kind == FieldKind::EvmSig => Some(bytes),
        _ => None,
    });
    let bytes = record.signature().or(evm).ok_or(SignatureError::Absent)?;
    let header = SignatureHeader::parse(bytes).map_err(SignatureError::Header)?;
    let candidates = match header.kind() {
        SignatureType::EvmPortable => evm::digests(record, &header, endian)?,
        SignatureType::File | SignatureType::Verity => vec![signed_digest(&header, &digest)?],
    };
    let signer = SignerId::from(header.key_id());
    key_of(
        &signer,
        keys,
        header.hash(),
        &candidates,
        header.signature(),
    )
}

/// The allowed key of this signer whose signature over one of these digests it is.
fn key_of<'k>(
    signer: &SignerId,
    keys: &impl Fn(&SignerId) -> Vec<&'k FileKey>,
    alg: HashAlg,
    digests: &[Vec<u8>],
    signature: &[u8],
) -> Result<&'k FileKey, SignatureError> {
    let keys = keys(signer);
    if keys.is_empty() {
        return Err(SignatureError::UnknownSigner(signer.clone()));
    }
    let of_length = |digest: &&Vec<u8>| digest.len() == alg.digest_len();
    keys.into_iter()
        .find(|key| {
            let mut digests = digests.iter().filter(of_length);
            digests.any(|digest| key.verify(alg, digest, signature))
        })
        .ok_or_else(|| SignatureError::Invalid(signer.clone()))
}

/// The digest that the signature is over: version 2, the file's; version 3, one of `ima_file_id`, which
/// tells a file's digest from fs-verity's (`calc_file_id_hash`).
fn signed_digest(
    header: &SignatureHeader<'_>,
    measured: &FileDigest<'_>,
) -> Result<Vec<u8>, SignatureError> {
    let verity = match measured.digest_type {
        "" | "ima" => false,
        "verity" => true,
        other => return Err(other_digest(header, other)),
    };
    let found = measured.to_digest();
    let same = verity == (header.kind() == SignatureType::Verity)
        && found.is_some_and(|digest| digest.alg() == header.hash());
    if !same {
        let kind = if verity { "fs-verity " } else { "" };
        let algorithm = match measured.algorithm {
            "" => "sha1",
            name => name,
        };
        return Err(other_digest(header, &format!("{kind}{algorithm}")));
    }
    Ok(match header.version() {
        header::Version::V2 => measured.digest.to_vec(),
        header::Version::V3 => {
            let file_id = [
                &[header.kind().to_u8(), header::hash_to_u8(header.hash())],
                measured.digest,
            ]
            .concat();
            hash(header.hash(), &file_id)
        }
    })
}

fn other_digest(header: &SignatureHeader<'_>, measured: &str) -> SignatureError {
    let kind = match header.kind() {
        SignatureType::Verity => "fs-verity ",
        SignatureType::File | SignatureType::EvmPortable => "",
    };
    SignatureError::OtherDigest {
        signed: format!("{kind}{}", header.hash()),
        measured: measured.to_owned(),
    }
}

fn hash(alg: HashAlg, bytes: &[u8]) -> Vec<u8> {
    let algorithm = match alg {
        HashAlg::Sha1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
        HashAlg::Sha256 => &digest::SHA256,
        HashAlg::Sha384 => &digest::SHA384,
        HashAlg::Sha512 => &digest::SHA512,
    };
    digest::digest(algorithm, bytes).as_ref().to_vec()
}

#[cfg(test)]
mod tests;
