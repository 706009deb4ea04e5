//! Marshalling and key derivation, written here once more (see the parent).

use aws_lc_rs::hmac;
use mote_schemas::tpm::HashAlg;
use p256::ecdsa::SigningKey;
use sha2::{Digest, Sha256};

/// `TPMT_PUBLIC` of a P-256 key with `nameAlg` SHA-256 (part 2, 12.2.4).
pub(super) fn ecc_public(
    attributes: u32,
    policy: &[u8],
    decrypt: bool,
    key: &SigningKey,
) -> Vec<u8> {
    let point = key.verifying_key().to_sec1_point(false);
    let (x, y) = point.as_bytes()[1..].split_at(32);
    let mut out = vec![0x00, 0x23, 0x00, 0x0b];
    out.extend(attributes.to_be_bytes());
    out.extend(sized(policy));
    if decrypt {
        // AES-128-CFB, no scheme.
        out.extend([0x00, 0x06, 0x00, 0x80, 0x00, 0x43, 0x00, 0x10]);
    } else {
        // No cipher, ECDSA with SHA-256.
        out.extend([0x00, 0x10, 0x00, 0x18, 0x00, 0x0b]);
    }
    // NIST P-256, no KDF.
    out.extend([0x00, 0x03, 0x00, 0x10]);
    out.extend(sized(x));
    out.extend(sized(y));
    out
}

/// The Name of an object with `nameAlg` SHA-256.
pub(super) fn name(public: &[u8]) -> Vec<u8> {
    [&[0x00, 0x0b][..], &Sha256::digest(public)].concat()
}

/// KDFa with SHA-256, one block (part 1, 11.4.10.2); `label` with its NUL.
pub(super) fn kdfa(seed: &[u8], label: &[u8], context: &[u8], bits: u32) -> Vec<u8> {
    let parts = [&1u32.to_be_bytes()[..], label, context, &bits.to_be_bytes()];
    hmac::sign(&hmac_key(seed), &parts.concat()).as_ref()[..bits as usize / 8].to_vec()
}

pub(super) fn hmac_key(key: &[u8]) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, key)
}

/// A digest in a bank's algorithm.
pub fn hash(alg: HashAlg, parts: &[&[u8]]) -> Vec<u8> {
    let bytes = parts.concat();
    match alg {
        HashAlg::Sha1 => sha1::Sha1::digest(&bytes).to_vec(),
        HashAlg::Sha256 => Sha256::digest(&bytes).to_vec(),
        HashAlg::Sha384 => sha2::Sha384::digest(&bytes).to_vec(),
        HashAlg::Sha512 => sha2::Sha512::digest(&bytes).to_vec(),
    }
}

pub(super) fn sized(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_be_bytes()[..], bytes].concat()
}

pub(super) fn split_sized(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = bytes.split_first_chunk::<2>()?;
    rest.split_at_checked(u16::from_be_bytes(*len).into())
}
