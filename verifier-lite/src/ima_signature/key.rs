//! Public keys that sign files.

use std::fmt;

use aws_lc_rs::digest;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA384_ASN1, ECDSA_P256_SHA512_ASN1, ECDSA_P384_SHA256_ASN1,
    ECDSA_P384_SHA384_ASN1, ECDSA_P384_SHA512_ASN1, ECDSA_P521_SHA256_ASN1, ECDSA_P521_SHA384_ASN1,
    ECDSA_P521_SHA512_ASN1, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, VerificationAlgorithm,
};
use mote_schemas::tpm::HashAlg;

use crate::der::{self, BIT_STRING, INTEGER, OID, SEQUENCE};

/// How a signature names its key: the last four bytes of the subject key identifier.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub [u8; 4]);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        crate::hex::write(f, &self.0)
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// How a signature says whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignerId {
    /// The end of a key identifier, or all of it: at least four bytes.
    Key(Vec<u8>),
    /// A certificate by its issuer (a `Name`, DER) and serial number (big-endian).
    Certificate {
        /// Who issued it.
        issuer: Vec<u8>,
        /// Its number.
        serial: Vec<u8>,
    },
}

impl From<KeyId> for SignerId {
    fn from(id: KeyId) -> Self {
        SignerId::Key(id.0.to_vec())
    }
}

impl fmt::Display for SignerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SignerId::Key(id) => {
                f.write_str("key ")?;
                crate::hex::write(f, id)
            }
            SignerId::Certificate { serial, .. } => {
                f.write_str("certificate ")?;
                crate::hex::write(f, serial)
            }
        }
    }
}

/// Why a key cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyParseError {
    /// Neither a certificate nor a `SubjectPublicKeyInfo` (DER).
    Malformed,
    /// An algorithm other than RSA and ECDSA on P-256, P-384 or P-521.
    Algorithm,
    /// An RSA key of fewer than 2048 or more than 8192 bits.
    RsaLength(usize),
    /// Not a valid key of its algorithm: a point off its curve, say.
    Invalid,
}

impl fmt::Display for KeyParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeyParseError::Malformed => {
                f.write_str("neither an X.509 certificate nor a public key")
            }
            KeyParseError::Algorithm => {
                f.write_str("a key that is neither RSA nor ECDSA on P-256, P-384 or P-521")
            }
            KeyParseError::RsaLength(bits) => {
                write!(f, "an RSA key of {bits} bits; 2048 to 8192 are accepted")
            }
            KeyParseError::Invalid => f.write_str("not a valid key"),
        }
    }
}

impl std::error::Error for KeyParseError {}

/// A public key that may sign files, parsed once.
#[derive(Clone)]
pub struct FileKey {
    /// Its key identifiers, whole; the one that its certificate states first.
    identifiers: Vec<Vec<u8>>,
    ids: Vec<KeyId>,
    /// Issuer and serial number of its certificate.
    certificate: Option<(Vec<u8>, Vec<u8>)>,
    name: String,
    /// The key under each hash that it may sign with.
    keys: Vec<(HashAlg, ParsedPublicKey)>,
    der: Vec<u8>,
}

impl PartialEq for FileKey {
    fn eq(&self, other: &Self) -> bool {
        self.der == other.der
    }
}

impl Eq for FileKey {}

impl fmt::Debug for FileKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FileKey({} {:?})", self.name, self.ids)
    }
}

impl FileKey {
    /// From an X.509 certificate or a `SubjectPublicKeyInfo`, DER. A certificate is taken for its key and
    /// key identifier alone: who signed it, until when and what for does not matter, since the kernel
    /// does not look at that either and the operator names the key itself.
    pub fn from_der(der: &[u8]) -> Result<Self, KeyParseError> {
        let (spki, certificate) = match subject_public_key_info(der) {
            Some(spki) => (spki, Some(der)),
            None => (der, None),
        };
        let bits = public_key_bits(spki).ok_or(KeyParseError::Malformed)?;
        let algorithms = algorithms(spki, bits)?;
        let keys = HASHES
            .into_iter()
            .zip(algorithms)
            .map(|(hash, algorithm)| Ok((hash, ParsedPublicKey::new(algorithm, spki)?)))
            .collect::<Result<_, aws_lc_rs::error::KeyRejected>>()
            .map_err(|_| KeyParseError::Invalid)?;
        // RFC 5280, 4.2.1.2, method 1; `evmctl` computes it of any key, and the kernel's loader takes
        // what the certificate says.
        let computed = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, bits);
        let mut identifiers = vec![computed.as_ref().to_vec()];
        if let Some(stated) = certificate.and_then(subject_key_identifier) {
            identifiers.insert(0, stated.to_vec());
            identifiers.dedup();
        }
        let mut ids: Vec<KeyId> = identifiers.iter().map(|id| last_four(id)).collect();
        ids.dedup();
        Ok(FileKey {
            name: certificate
                .and_then(common_name)
                .unwrap_or_else(|| format!("key {}", ids[0])),
            identifiers,
            ids,
            certificate: certificate.and_then(issuer_and_serial),
            keys,
            der: der.to_vec(),
        })
    }

    /// Every id that a signature may name it by; the first is the usual one.
    pub fn ids(&self) -> &[KeyId] {
        &self.ids
    }

    /// Whether it has this key identifier, or one that ends so. `id` has at least four bytes.
    pub fn has_id(&self, id: &[u8]) -> bool {
        let mut identifiers = self.identifiers.iter();
        id.len() >= 4 && identifiers.any(|identifier| identifier.ends_with(id))
    }

    /// Whether a signature that says so is said to be this key's. A key that came without its certificate
    /// may be anybody's who is named by one.
    pub fn is_of(&self, signer: &SignerId) -> bool {
        match (signer, &self.certificate) {
            (SignerId::Key(id), _) => self.has_id(id),
            (SignerId::Certificate { issuer, serial }, Some((own_issuer, own_serial))) => {
                issuer == own_issuer && unsigned(serial) == unsigned(own_serial)
            }
            (SignerId::Certificate { .. }, None) => true,
        }
    }

    /// The certificate's common name, or the key's id.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The certificate or `SubjectPublicKeyInfo` that it came from.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// Whether `signature` is this key's over something with this digest.
    pub(super) fn verify(&self, hash: HashAlg, digest: &[u8], signature: &[u8]) -> bool {
        let algorithm = match hash {
            HashAlg::Sha256 => &digest::SHA256,
            HashAlg::Sha384 => &digest::SHA384,
            HashAlg::Sha512 => &digest::SHA512,
            HashAlg::Sha1 => return false,
        };
        let Ok(digest) = digest::Digest::import_less_safe(digest, algorithm) else {
            return false;
        };
        self.keys
            .iter()
            .filter(|(of, _)| *of == hash)
            .any(|(_, key)| key.verify_digest_sig(&digest, signature).is_ok())
    }
}

/// `rsaEncryption` (RFC 3279, 2.3.1) and `id-ecPublicKey` with its curves (RFC 5480, 2.1.1), contents.
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const P384: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];
const P521: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x23];

/// The hashes that a key may sign with.
const HASHES: [HashAlg; 3] = [HashAlg::Sha256, HashAlg::Sha384, HashAlg::Sha512];

/// How a key's signatures are verified under each of [`HASHES`].
fn algorithms(
    mut spki: &[u8],
    mut bits: &[u8],
) -> Result<[&'static dyn VerificationAlgorithm; 3], KeyParseError> {
    let malformed = KeyParseError::Malformed;
    let mut info = der::expect(&mut spki, SEQUENCE).ok_or(malformed)?;
    let mut algorithm = der::expect(&mut info, SEQUENCE).ok_or(malformed)?;
    match der::expect(&mut algorithm, OID).ok_or(malformed)? {
        RSA => {
            let mut key = der::expect(&mut bits, SEQUENCE).ok_or(malformed)?;
            let modulus = der::expect(&mut key, INTEGER).ok_or(malformed)?;
            let leading = modulus.iter().take_while(|byte| **byte == 0).count();
            let modulus = &modulus[leading..];
            let unused = modulus.first().map_or(0, |first| first.leading_zeros());
            let length = modulus.len() * 8 - unused as usize;
            if !(2048..=8192).contains(&length) {
                return Err(KeyParseError::RsaLength(length));
            }
            Ok([
                &RSA_PKCS1_2048_8192_SHA256,
                &RSA_PKCS1_2048_8192_SHA384,
                &RSA_PKCS1_2048_8192_SHA512,
            ])
        }
        EC => match der::expect(&mut algorithm, OID).ok_or(KeyParseError::Algorithm)? {
            P256 => Ok([
                &ECDSA_P256_SHA256_ASN1,
                &ECDSA_P256_SHA384_ASN1,
                &ECDSA_P256_SHA512_ASN1,
            ]),
            P384 => Ok([
                &ECDSA_P384_SHA256_ASN1,
                &ECDSA_P384_SHA384_ASN1,
                &ECDSA_P384_SHA512_ASN1,
            ]),
            P521 => Ok([
                &ECDSA_P521_SHA256_ASN1,
                &ECDSA_P521_SHA384_ASN1,
                &ECDSA_P521_SHA512_ASN1,
            ]),
            _ => Err(KeyParseError::Algorithm),
        },
        _ => Err(KeyParseError::Algorithm),
    }
}

/// The `BIT STRING` of a `SubjectPublicKeyInfo`.
fn public_key_bits(mut spki: &[u8]) -> Option<&[u8]> {
    let mut info = der::expect(&mut spki, SEQUENCE)?;
    der::expect(&mut info, SEQUENCE)?;
    let bits = der::expect(&mut info, BIT_STRING)?;
    if !info.is_empty() || !spki.is_empty() {
        return None;
    }
    bits.strip_prefix(&[0])
}

/// Fields of a `TBSCertificate` (RFC 5280, 4.1) from the issuer on: issuer, validity, subject, key.
fn certificate_fields(certificate: &[u8]) -> Option<&[u8]> {
    serial_number(certificate).map(|(_, fields)| fields)
}

/// Its serial number, and those fields.
fn serial_number(mut certificate: &[u8]) -> Option<(&[u8], &[u8])> {
    const VERSION: u8 = 0xa0;
    let mut outer = der::expect(&mut certificate, SEQUENCE)?;
    if !certificate.is_empty() {
        return None;
    }
    let mut fields = der::expect(&mut outer, SEQUENCE)?;
    if fields.first() == Some(&VERSION) {
        der::element(&mut fields)?;
    }
    let serial = der::expect(&mut fields, INTEGER)?;
    der::expect(&mut fields, SEQUENCE)?;
    Some((serial, fields))
}

fn subject_public_key_info(certificate: &[u8]) -> Option<&[u8]> {
    let mut fields = certificate_fields(certificate)?;
    for _ in ["issuer", "validity", "subject"] {
        der::expect(&mut fields, SEQUENCE)?;
    }
    der::first_element(fields).filter(|spki| public_key_bits(spki).is_some())
}

fn subject_key_identifier(certificate: &[u8]) -> Option<&[u8]> {
    const SUBJECT_KEY_IDENTIFIER: &[u8] = &[0x55, 0x1d, 0x0e];
    let mut value = der::extension(certificate, SUBJECT_KEY_IDENTIFIER)?;
    der::expect(&mut value, der::OCTET_STRING).filter(|id| id.len() >= 4)
}

fn issuer_and_serial(certificate: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let (serial, fields) = serial_number(certificate)?;
    Some((der::first_element(fields)?.to_vec(), serial.to_vec()))
}

/// An INTEGER's contents without the zero that keeps it positive.
fn unsigned(integer: &[u8]) -> &[u8] {
    let zeros = integer.iter().take_while(|byte| **byte == 0).count();
    &integer[zeros..]
}

/// The subject's first common name, if it is text.
fn common_name(certificate: &[u8]) -> Option<String> {
    const SET: u8 = 0x31;
    const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
    let mut fields = certificate_fields(certificate)?;
    der::expect(&mut fields, SEQUENCE)?;
    der::expect(&mut fields, SEQUENCE)?;
    let mut subject = der::expect(&mut fields, SEQUENCE)?;
    while let Some(mut set) = der::expect(&mut subject, SET) {
        let mut attribute = der::expect(&mut set, SEQUENCE)?;
        if der::expect(&mut attribute, OID)? == COMMON_NAME {
            let (_, text) = der::element(&mut attribute)?;
            let text = std::str::from_utf8(text).ok()?;
            return (!text.is_empty() && !text.chars().any(char::is_control))
                .then(|| text.to_owned());
        }
    }
    None
}

/// `bytes` has at least four.
fn last_four(bytes: &[u8]) -> KeyId {
    let mut id = [0; 4];
    id.copy_from_slice(&bytes[bytes.len() - 4..]);
    KeyId(id)
}
