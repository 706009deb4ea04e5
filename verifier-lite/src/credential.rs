//! `TPM2_MakeCredential` without a TPM (TPM 2.0 Library part 1, 24; annexes B.10.4 and C.6.4).
//!
//! The credential can only be opened by the TPM that holds both the endorsement key and an object of
//! the given Name: the Name is part of the key derivation and of the outer integrity. So a device that
//! answers with the credential has proven that its attestation key, with all of its attributes, lives
//! beside that endorsement key. The caller vouches for the endorsement key (see [`crate::admission`]);
//! everything else in the public areas is the peer's word until the credential comes back.

use std::fmt;

use aws_lc_rs::agreement::{self, PrivateKey, UnparsedPublicKey, agree};
use aws_lc_rs::cipher::{
    AES_128, AES_256, Algorithm, EncryptingKey, EncryptionContext, UnboundCipherKey,
};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::rsa::{
    OAEP_SHA256_MGF1SHA256, OAEP_SHA384_MGF1SHA384, OaepPublicEncryptingKey, PublicEncryptingKey,
};
use aws_lc_rs::signature::RsaPublicKeyComponents;
use aws_lc_rs::{hmac, rand};
use mote_schemas::reason::Reason;
use mote_schemas::tpm::{EccCurve, EccPoint, HashAlg, Key, MAX_ECC_UNCOMPRESSED, Name, Public};

use crate::kdf::{NameHash, kdfa, kdfe};

/// Why no credential can be made for a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialError {
    /// Not a restricted decryption key bound to its TPM: whoever made it could know its private half.
    NotEndorsementKey,
    /// A `nameAlg` other than SHA-256 and SHA-384.
    UnsupportedNameAlg(HashAlg),
    /// A symmetric cipher other than AES-128 and AES-256, in bits.
    UnsupportedSymmetric(u16),
    /// An RSA key that is no RSA key, or a point that is not on its curve.
    InvalidKey,
    /// The secret is empty or longer than the digest of the endorsement key's `nameAlg`.
    SecretLength(usize),
    /// The cryptographic library failed, for want of randomness for instance.
    Crypto,
}

impl CredentialError {
    /// The reason to give.
    pub fn reason(&self) -> Reason {
        match self {
            CredentialError::NotEndorsementKey
            | CredentialError::UnsupportedNameAlg(_)
            | CredentialError::UnsupportedSymmetric(_)
            | CredentialError::InvalidKey => Reason::EkUnsuitable,
            CredentialError::SecretLength(_) | CredentialError::Crypto => Reason::VerifierBusy,
        }
    }
}

impl fmt::Display for CredentialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CredentialError::NotEndorsementKey => f.write_str(
                "the endorsement key is not a restricted decryption key fixed to its TPM",
            ),
            CredentialError::UnsupportedNameAlg(alg) => {
                write!(
                    f,
                    "the endorsement key's nameAlg is {alg}, not sha256 or sha384"
                )
            }
            CredentialError::UnsupportedSymmetric(bits) => {
                write!(
                    f,
                    "the endorsement key's cipher is AES-{bits}, not 128 or 256"
                )
            }
            CredentialError::InvalidKey => f.write_str("the endorsement key is not a valid key"),
            CredentialError::SecretLength(len) => {
                write!(
                    f,
                    "a credential of {len} bytes does not fit the endorsement key's nameAlg"
                )
            }
            CredentialError::Crypto => f.write_str("the cryptographic library failed"),
        }
    }
}

impl std::error::Error for CredentialError {}

impl From<Unspecified> for CredentialError {
    fn from(_: Unspecified) -> Self {
        CredentialError::Crypto
    }
}

/// What goes to the device, for `TPM2_ActivateCredential`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// Contents of `TPM2B_ID_OBJECT`: `TPM2B_DIGEST` integrity, then the encrypted credential.
    pub blob: Vec<u8>,
    /// Contents of `TPM2B_ENCRYPTED_SECRET`: OAEP ciphertext, or a `TPMS_ECC_POINT`.
    pub encrypted_secret: Vec<u8>,
}

/// An endorsement key that credentials can be made for. Valid as a key; whether it is a genuine TPM's,
/// [`crate::admission`] says.
#[derive(Debug)]
pub struct EndorsementKey {
    key: WrappingKey,
    name_hash: NameHash,
    cipher: &'static Algorithm,
}

#[derive(Debug)]
enum WrappingKey {
    Rsa(OaepPublicEncryptingKey),
    Ecc {
        agreement: &'static agreement::Algorithm,
        curve: EccCurve,
        /// `04 || x || y`.
        point: Vec<u8>,
    },
}

impl EndorsementKey {
    /// Checks a public area: a storage key bound to its TPM, of a supported kind.
    pub fn new(public: &Public<'_>) -> Result<Self, CredentialError> {
        if !public.is_storage_key() {
            return Err(CredentialError::NotEndorsementKey);
        }
        let name_hash = match public.name_alg() {
            HashAlg::Sha256 => NameHash::Sha256,
            HashAlg::Sha384 => NameHash::Sha384,
            other => return Err(CredentialError::UnsupportedNameAlg(other)),
        };
        let bits = public.symmetric().map_or(0, |symmetric| symmetric.aes_bits);
        let cipher = match bits {
            128 => &AES_128,
            256 => &AES_256,
            other => return Err(CredentialError::UnsupportedSymmetric(other)),
        };
        let key = match public.key() {
            Key::Rsa { modulus, exponent } => WrappingKey::rsa(modulus, exponent)?,
            Key::Ecc(point) => WrappingKey::ecc(&point)?,
        };
        Ok(EndorsementKey {
            key,
            name_hash,
            cipher,
        })
    }

    /// Wraps `secret` for the TPM that holds this key and the object called `name`. `secret`: 1 byte
    /// up to the digest length of the key's `nameAlg`, in plain; the device learns it, nobody between.
    pub fn make_credential(
        &self,
        name: &Name,
        secret: &[u8],
    ) -> Result<Credential, CredentialError> {
        let digest_len = self.name_hash.len_bytes();
        if secret.is_empty() || secret.len() > digest_len {
            return Err(CredentialError::SecretLength(secret.len()));
        }
        let (seed, encrypted_secret) = match &self.key {
            WrappingKey::Rsa(key) => encapsulate_rsa(key, self.name_hash)?,
            WrappingKey::Ecc {
                agreement,
                curve,
                point,
            } => {
                let ephemeral = PrivateKey::generate(agreement)?;
                encapsulate_ecc(&ephemeral, *curve, point, self.name_hash)?
            }
        };
        let name = name.as_bytes();

        // Part 1, 24.4: encIdentity = CFB(KDFa(seed, "STORAGE", name), IV 0, TPM2B_DIGEST secret).
        let mut storage_key = vec![0; self.cipher_key_len()];
        kdfa(
            self.name_hash,
            &seed,
            "STORAGE",
            name,
            &[],
            &mut storage_key,
        )?;
        let mut identity = sized(secret);
        EncryptingKey::cfb128(UnboundCipherKey::new(self.cipher, &storage_key)?)?
            .less_safe_encrypt(
                &mut identity,
                // The key is derived from a fresh seed and used once, so its IV may be constant.
                EncryptionContext::Iv128(FixedLength::from([0; 16])),
            )?;

        // Part 1, 24.5: outerHMAC = HMAC(KDFa(seed, "INTEGRITY"), encIdentity || name).
        let mut integrity_key = vec![0; digest_len];
        kdfa(
            self.name_hash,
            &seed,
            "INTEGRITY",
            &[],
            &[],
            &mut integrity_key,
        )?;
        let algorithm = match self.name_hash {
            NameHash::Sha256 => hmac::HMAC_SHA256,
            NameHash::Sha384 => hmac::HMAC_SHA384,
        };
        let mut integrity = hmac::Context::with_key(&hmac::Key::new(algorithm, &integrity_key));
        integrity.update(&identity);
        integrity.update(name);

        let mut blob = sized(integrity.sign().as_ref());
        blob.append(&mut identity);
        Ok(Credential {
            blob,
            encrypted_secret,
        })
    }

    fn cipher_key_len(&self) -> usize {
        if self.cipher == &AES_128 { 16 } else { 32 }
    }
}

impl WrappingKey {
    fn rsa(modulus: &[u8], exponent: u32) -> Result<Self, CredentialError> {
        let exponent = exponent.to_be_bytes();
        let leading = exponent.iter().take_while(|byte| **byte == 0).count();
        let components = RsaPublicKeyComponents {
            n: modulus,
            e: &exponent[leading..],
        };
        let key: PublicEncryptingKey = components
            .try_into()
            .map_err(|_| CredentialError::InvalidKey)?;
        OaepPublicEncryptingKey::new(key)
            .map(WrappingKey::Rsa)
            .map_err(|_| CredentialError::InvalidKey)
    }

    fn ecc(point: &EccPoint<'_>) -> Result<Self, CredentialError> {
        let agreement = match point.curve {
            EccCurve::P256 => &agreement::ECDH_P256,
            EccCurve::P384 => &agreement::ECDH_P384,
        };
        let mut buffer = [0; MAX_ECC_UNCOMPRESSED];
        let bytes = point.uncompressed(&mut buffer).to_vec();
        // Refuses a point off the curve now, not at the first credential.
        agreement::ParsedPublicKey::try_from(UnparsedPublicKey::new(agreement, &bytes))
            .map_err(|_| CredentialError::InvalidKey)?;
        Ok(WrappingKey::Ecc {
            agreement,
            curve: point.curve,
            point: bytes,
        })
    }
}

/// A random seed as long as the `nameAlg`'s digest, by OAEP with that hash and the label
/// `IDENTITY\0`, the NUL included (part 1, B.10.4 and B.4).
fn encapsulate_rsa(
    key: &OaepPublicEncryptingKey,
    hash: NameHash,
) -> Result<(Vec<u8>, Vec<u8>), CredentialError> {
    let mut seed = vec![0; hash.len_bytes()];
    rand::fill(&mut seed)?;
    let oaep = match hash {
        NameHash::Sha256 => &OAEP_SHA256_MGF1SHA256,
        NameHash::Sha384 => &OAEP_SHA384_MGF1SHA384,
    };
    let mut ciphertext = vec![0; key.ciphertext_size()];
    key.encrypt(oaep, &seed, &mut ciphertext, Some(b"IDENTITY\0"))?;
    Ok((seed, ciphertext))
}

/// The seed `KDFe(nameAlg, Z, "IDENTITY", ephemeral x, static x)` and the ephemeral public point as a
/// `TPMS_ECC_POINT` (part 1, C.6.4).
fn encapsulate_ecc(
    ephemeral: &PrivateKey,
    curve: EccCurve,
    point: &[u8],
    hash: NameHash,
) -> Result<(Vec<u8>, Vec<u8>), CredentialError> {
    let ours = ephemeral.compute_public_key()?;
    let (our_x, our_y) = coordinates(ours.as_ref(), curve)?;
    let (their_x, _) = coordinates(point, curve)?;
    let mut seed = vec![0; hash.len_bytes()];
    let peer = UnparsedPublicKey::new(ephemeral.algorithm(), point);
    agree(ephemeral, peer, CredentialError::InvalidKey, |z| {
        kdfe(hash, z, "IDENTITY", our_x, their_x, &mut seed).map_err(CredentialError::from)
    })?;
    Ok((seed, [sized(our_x), sized(our_y)].concat()))
}

fn coordinates(point: &[u8], curve: EccCurve) -> Result<(&[u8], &[u8]), CredentialError> {
    let len = curve.field_len();
    match point.split_first() {
        Some((0x04, xy)) if xy.len() == 2 * len => Ok(xy.split_at(len)),
        _ => Err(CredentialError::InvalidKey),
    }
}

/// A `TPM2B`: 16-bit length, then the bytes. Only called with buffers of at most a few hundred bytes.
fn sized(bytes: &[u8]) -> Vec<u8> {
    let mut out = (bytes.len() as u16).to_be_bytes().to_vec();
    out.extend_from_slice(bytes);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_util::unhex;

    /// From github.com/chrisfenner/tpm-test-vectors, `vectors/ecc_labeled_encaps.json`, cases 12, 43
    /// and 55: each opened by a TPM simulator's `TPM2_ActivateCredential`. (public, ephemeral private,
    /// seed, encrypted secret.)
    const ENCAPSULATIONS: [[&str; 4]; 3] = [
        [
            "0023000b0003046000000006010000430010000300100020fe4cf1f3e8f583c19e1af6190a7c20751658914a93cd77efb871cb1557377560002007b6b7c55bea1d17b1a9d96f367cf315b2942d517fd8642e9d9157036831c4d5",
            "9efafbaf83563f8ac5a27815eae1017ca78c92f9cde976b1a2e0ad95b8a19bc1",
            "2a03ff2b874e44d36a567e67a0bf08227b9e65a0e9ca5215d4a9e573c23159a1",
            "002017ca41bd94c7f12436cf135ff1852408ef6a1ee1989e4e6250ef73c348dd6fa90020346f6016d6f6a2ef8e07df6d7b53b362005fc21cda1e1ab25e61f38a87e017b8",
        ],
        [
            "0023000b0003046000000006010000430010000400100030871211d044d1fe2e9b4ecd8c8a9aa8ac56937064516e12d0f66c067305c66c76d0f1f02f05ab9e974c68558430142b8d0030df80a2266ae1edcab46a50386b900fb818a982d6febf2252999ca1ba2501de55a4a09981c11684b2600027413e09a31d",
            "aa46664a94d4a97b3c694b79604215d70af4cc4e0f4e15325004a6db95f5c157c87934765a0a1edc7557b846705247e8",
            "33309d050c693d4331f39de95ff73ea188adae9f51ceacc965cb08ce47bb9a7b",
            "0030ff46a070cbdf0caaa30be57681988c7141ebee9d9855e268622ffb70b8e4cac2e6a55e251ebb7a1d4b75f672ecd7fe9f003083d462cc1888b2231c486120b680cda81fdf707c09454b2e9923c09e1680ecc13bba55be5cbf5d643eaef5717ccbeec9",
        ],
        [
            "0023000c0003046000000006010000430010000400100030460ab9b0744c7c90b1243b1fd38f09a724edbab83336f36c56f8b241b83f4e24930b7dbc5a90f2a5d29bbb30aed4782f0030d791757c8585dbfd1832126a14bd9a807fae3f9c7f3239f20e632f70018f1eefab5f1cd8506a2675a48661f7696d35f2",
            "831d5d1b087ca69230a5c9bf8b2778b5464462a40fd47dba43d445945840320526bd97639b73228e412a26c31a18d32c",
            "18b9e98482ea6aa0ed73f5e91dea69e33700858d819cc08986fbb277411378caebd45e302161d8b097974b6b8f03bc5c",
            "003092512628468bf96172119916c801609ef4c529627634a1452ccd42446b0df37ab297ac97d8fd3cd377f272f1c562747a00308cd102d4ef0c85ccf5a975ee6f2f1d247f3c9bfab6628174fed18b320c9d9a7bbf1d54efe30a3de88a91f8c58000ed71",
        ],
    ];

    /// The vectors' public areas lack `fixedTPM`, `fixedParent` and `sensitiveDataOrigin`.
    fn bound_to_tpm(public: &str) -> Vec<u8> {
        let mut bytes = unhex(public);
        bytes[7] |= 0x32;
        bytes
    }

    #[test]
    fn ecc_encapsulation_gives_the_seed_that_a_tpm_finds() {
        for [public, private, seed, secret] in ENCAPSULATIONS {
            let public = bound_to_tpm(public);
            let ek = EndorsementKey::new(&Public::parse(&public).unwrap()).unwrap();
            let WrappingKey::Ecc {
                agreement,
                curve,
                point,
            } = &ek.key
            else {
                panic!("an ECC key");
            };
            let ephemeral = PrivateKey::from_private_key(agreement, &unhex(private)).unwrap();
            let got = encapsulate_ecc(&ephemeral, *curve, point, ek.name_hash).unwrap();
            assert_eq!(got, (unhex(seed), unhex(secret)));
        }
    }

    #[test]
    fn a_key_that_is_not_bound_to_its_tpm_gets_no_credential() {
        let public = unhex(ENCAPSULATIONS[0][0]);
        assert_eq!(
            EndorsementKey::new(&Public::parse(&public).unwrap()).unwrap_err(),
            CredentialError::NotEndorsementKey
        );
    }

    #[test]
    fn a_point_off_the_curve_is_refused_at_once() {
        let mut public = bound_to_tpm(ENCAPSULATIONS[0][0]);
        *public.last_mut().unwrap() ^= 1;
        assert_eq!(
            EndorsementKey::new(&Public::parse(&public).unwrap()).unwrap_err(),
            CredentialError::InvalidKey
        );
    }

    #[test]
    fn a_secret_must_fit_the_name_algorithm() {
        let public = bound_to_tpm(ENCAPSULATIONS[0][0]);
        let public = Public::parse(&public).unwrap();
        let ek = EndorsementKey::new(&public).unwrap();
        for len in [0, 33] {
            assert_eq!(
                ek.make_credential(&public.name(), &vec![1; len]),
                Err(CredentialError::SecretLength(len))
            );
        }
        let made = ek.make_credential(&public.name(), &[1; 32]).unwrap();
        assert_eq!(made.blob.len(), 2 + 32 + 2 + 32);
    }
}
