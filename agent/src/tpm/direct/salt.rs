//! A session's salt, made here and encrypted to the endorsement key (TPM 2.0 Library part 1, B.10.2 for
//! RSA, C.6.3 for ECC): what makes a session's key known to us and this TPM alone.

use crypto_bigint::modular::{FixedMontyForm, FixedMontyParams};
use crypto_bigint::{Odd, U64, U2048};
use mote_schemas::tpm::{DEFAULT_RSA_EXPONENT, EncodeError, Key, Public, Writer};
use p256::elliptic_curve::sec1::{FromSec1Point, ToSec1Point};
use p256::{NonZeroScalar, ProjectivePoint, PublicKey, Sec1Point};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// Bytes of a P-256 coordinate.
const COORDINATE: usize = 32;
/// Bytes of an RSA-2048 modulus.
const MODULUS: usize = 256;
const HASH: usize = 32;

/// Longest encrypted salt.
pub(super) const MAX_ENCRYPTED: usize = MODULUS;

/// Label of the derivation (part 1, 11.4.10.3 and B.10.2).
const LABEL: &[u8] = b"SECRET\0";

/// The endorsement key is not one of the two default templates', or not on its curve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct UnusableKey;

/// A salt, and the contents of the `TPM2B_ENCRYPTED_SECRET` that tells it to the TPM.
pub(super) struct Salt {
    pub(super) value: Zeroizing<[u8; HASH]>,
    encrypted: [u8; MAX_ENCRYPTED],
    len: usize,
}

impl Salt {
    /// For the endorsement key with this `TPMT_PUBLIC`.
    pub(super) fn new(
        endorsement_key: &[u8],
        random: &mut dyn FnMut(&mut [u8]),
    ) -> Result<Self, UnusableKey> {
        match Public::parse(endorsement_key)
            .map_err(|_| UnusableKey)?
            .key()
        {
            Key::Rsa {
                modulus,
                exponent: DEFAULT_RSA_EXPONENT,
            } => to_rsa(modulus, random),
            Key::Rsa { .. } => Err(UnusableKey),
            Key::Ecc(point) => to_ecc(point.x, point.y, random),
        }
    }

    pub(super) fn encrypted(&self) -> &[u8] {
        &self.encrypted[..self.len]
    }
}

/// One-pass Diffie-Hellman with an ephemeral key, then KDFe.
fn to_ecc(x: &[u8], y: &[u8], random: &mut dyn FnMut(&mut [u8])) -> Result<Salt, UnusableKey> {
    let (x, y) = (padded(x)?, padded(y)?);
    let point = Sec1Point::from_affine_coordinates(&x.into(), &y.into(), false);
    let key = Option::<PublicKey>::from(PublicKey::from_sec1_point(&point)).ok_or(UnusableKey)?;
    let ephemeral = loop {
        let mut bytes = Zeroizing::new([0; COORDINATE]);
        random(&mut *bytes);
        // Not a scalar once in 2^32.
        if let Some(scalar) =
            Option::<NonZeroScalar>::from(NonZeroScalar::from_repr((*bytes).into()))
        {
            break Zeroizing::new(scalar);
        }
    };
    let ours = (ProjectivePoint::GENERATOR * **ephemeral)
        .to_affine()
        .to_sec1_point(false);
    let shared = (key.to_projective() * **ephemeral)
        .to_affine()
        .to_sec1_point(false);
    // Neither is the point at infinity: the group's order is prime, the scalar is not zero.
    let (ours_x, ours_y) = (ours.x().ok_or(UnusableKey)?, ours.y().ok_or(UnusableKey)?);
    let salt = Sha256::new()
        .chain_update(1_u32.to_be_bytes())
        .chain_update(shared.x().ok_or(UnusableKey)?)
        .chain_update(LABEL)
        .chain_update(ours_x)
        .chain_update(x)
        .finalize();
    let mut encrypted = [0; MAX_ENCRYPTED];
    let mut out = Writer::new(&mut encrypted);
    let written: Result<(), EncodeError> = out
        .tpm2b(ours_x, COORDINATE)
        .and_then(|()| out.tpm2b(ours_y, COORDINATE));
    written.map_err(|_| UnusableKey)?;
    let len = out.finish().len();
    Ok(Salt {
        value: Zeroizing::new(salt.into()),
        encrypted,
        len,
    })
}

/// The TPM may leave out leading zeros.
fn padded(coordinate: &[u8]) -> Result<[u8; COORDINATE], UnusableKey> {
    let mut out = [0; COORDINATE];
    let start = COORDINATE
        .checked_sub(coordinate.len())
        .ok_or(UnusableKey)?;
    out[start..].copy_from_slice(coordinate);
    Ok(out)
}

/// OAEP with SHA-256, then the public exponent (RFC 8017, 7.1.1).
fn to_rsa(modulus: &[u8], random: &mut dyn FnMut(&mut [u8])) -> Result<Salt, UnusableKey> {
    if modulus.len() != MODULUS {
        return Err(UnusableKey);
    }
    let mut salt = Zeroizing::new([0; HASH]);
    random(&mut *salt);
    let message = oaep(&salt, random);
    let modulus = Odd::new(U2048::from_be_slice(modulus));
    let modulus = Option::<Odd<U2048>>::from(modulus).ok_or(UnusableKey)?;
    // The modulus is public, so the time it takes to prepare for it may tell it.
    let parameters = FixedMontyParams::new_vartime(modulus);
    let message = FixedMontyForm::new(&U2048::from_be_slice(&*message), &parameters);
    let encrypted = message
        .pow_bounded_exp(&U64::from_u32(DEFAULT_RSA_EXPONENT), 17)
        .retrieve();
    let mut out = [0; MAX_ENCRYPTED];
    out.copy_from_slice(encrypted.to_be_bytes().as_ref());
    Ok(Salt {
        value: salt,
        encrypted: out,
        len: MODULUS,
    })
}

/// `EM = 0x00 || maskedSeed || maskedDB`.
fn oaep(message: &[u8; HASH], random: &mut dyn FnMut(&mut [u8])) -> Zeroizing<[u8; MODULUS]> {
    let mut em = Zeroizing::new([0; MODULUS]);
    let (seed, data) = em[1..].split_at_mut(HASH);
    random(seed);
    data[..HASH].copy_from_slice(&Sha256::digest(LABEL));
    let at = data.len() - HASH;
    data[at - 1] = 1;
    data[at..].copy_from_slice(message);
    mask(seed, data);
    mask(data, seed);
    em
}

/// Exclusive-ors `data` with MGF1-SHA-256 of `seed` (RFC 8017, B.2.1).
fn mask(seed: &[u8], data: &mut [u8]) {
    for (counter, block) in (0_u32..).zip(data.chunks_mut(HASH)) {
        let mask = Sha256::new()
            .chain_update(seed)
            .chain_update(counter.to_be_bytes())
            .finalize();
        for (byte, mask) in block.iter_mut().zip(mask) {
            *byte ^= mask;
        }
    }
}
