//! Attestation keys and what they signed: `TPMT_SIGNATURE` by a key known from its `TPMT_PUBLIC`.
//!
//! A [`VerifyingKey`] has the attributes without which a quote proves nothing: only a restricted key
//! never signs bytes that begin like a quote but are not one, and only a key that its TPM made and
//! cannot give away speaks for that TPM (TPM 2.0 Library part 1, 25.1.5 and 31.2). That such a key
//! exists in a genuine TPM is the peer's word until [`crate::credential`] has been answered.

use std::fmt;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA384_ASN1, ECDSA_P256_SHA512_ASN1, ECDSA_P384_SHA256_ASN1,
    ECDSA_P384_SHA384_ASN1, ECDSA_P384_SHA512_ASN1, EcdsaVerificationAlgorithm, ParsedPublicKey,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512,
    RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RsaParameters,
    RsaPssSaltLength, RsaPublicKeyComponents,
};
use mote_schemas::reason::Reason;
use mote_schemas::tpm::{
    EccCurve, HashAlg, Hierarchy, Key, KeyScheme, MAX_ECC_UNCOMPRESSED, Name, Public, Signature,
    SignatureError,
};

/// Why a public area is no attestation key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VerifyingKeyError {
    /// An attribute that it must have, by its name in part 2, 8.3.
    MissingAttribute(&'static str),
    /// An attribute that it must not have.
    ForbiddenAttribute(&'static str),
    /// It is not tied to a signing scheme.
    NoSigningScheme(KeyScheme),
    /// It signs with a hash that is not trusted for that any more.
    WeakHash(HashAlg),
    /// Not a valid key: a point off its curve, say.
    InvalidKey,
}

impl VerifyingKeyError {
    /// The reason to give.
    pub fn reason(&self) -> Reason {
        Reason::AkUnsuitable
    }
}

impl fmt::Display for VerifyingKeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            VerifyingKeyError::MissingAttribute(name) => {
                write!(f, "the attestation key lacks the attribute {name}")
            }
            VerifyingKeyError::ForbiddenAttribute(name) => {
                write!(f, "the attestation key has the attribute {name}")
            }
            VerifyingKeyError::NoSigningScheme(scheme) => {
                write!(f, "the attestation key's scheme {scheme:?} does not sign")
            }
            VerifyingKeyError::WeakHash(alg) => {
                write!(f, "the attestation key signs with {alg}")
            }
            VerifyingKeyError::InvalidKey => f.write_str("the attestation key is not a valid key"),
        }
    }
}

impl std::error::Error for VerifyingKeyError {}

/// Why a signature does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VerifyError {
    /// Not a `TPMT_SIGNATURE` of a known kind.
    Malformed(SignatureError),
    /// Made with another scheme or hash than the key is tied to.
    WrongScheme,
    /// Not this key's signature over these bytes.
    Invalid,
}

impl VerifyError {
    /// The reason to give.
    pub fn reason(&self) -> Reason {
        Reason::QuoteSignatureInvalid
    }
}

impl fmt::Display for VerifyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            VerifyError::Malformed(error) => write!(f, "signature: {error}"),
            VerifyError::WrongScheme => {
                f.write_str("the signature's scheme is not the attestation key's")
            }
            VerifyError::Invalid => f.write_str("the attestation key did not sign these bytes"),
        }
    }
}

impl std::error::Error for VerifyError {}

/// A restricted signing key bound to its TPM, parsed once.
#[derive(Clone, Debug)]
pub struct VerifyingKey {
    /// The key under each encoding that its scheme allows: two salt lengths for RSAPSS, else one.
    keys: Vec<ParsedPublicKey>,
    scheme: KeyScheme,
    hash: HashAlg,
    name: Name,
    qualified: Name,
    signature_len: usize,
}

impl VerifyingKey {
    /// Checks a public area: attributes, scheme, and the key itself.
    pub fn new(public: &Public<'_>) -> Result<Self, VerifyingKeyError> {
        let attributes = public.attributes();
        for (name, present) in [
            ("fixedTPM", attributes.fixed_tpm()),
            ("fixedParent", attributes.fixed_parent()),
            ("sensitiveDataOrigin", attributes.sensitive_data_origin()),
            ("restricted", attributes.restricted()),
            ("sign", attributes.sign()),
        ] {
            if !present {
                return Err(VerifyingKeyError::MissingAttribute(name));
            }
        }
        for (name, present) in [
            ("decrypt", attributes.decrypt()),
            // Such a key signs certificates and refuses to quote (part 2, 8.3.3.12).
            ("x509sign", attributes.x509_sign()),
        ] {
            if present {
                return Err(VerifyingKeyError::ForbiddenAttribute(name));
            }
        }
        let scheme = public.scheme();
        let (KeyScheme::Ecdsa(hash) | KeyScheme::RsaSsa(hash) | KeyScheme::RsaPss(hash)) = scheme
        else {
            return Err(VerifyingKeyError::NoSigningScheme(scheme));
        };
        let signature_len = match public.key() {
            Key::Ecc(point) => 2 * point.curve.field_len(),
            Key::Rsa { modulus, .. } => modulus.len(),
        };
        let keys = match public.key() {
            Key::Ecc(point) => {
                let mut buffer = [0; MAX_ECC_UNCOMPRESSED];
                let algorithm = ecdsa(point.curve, hash)?;
                vec![ParsedPublicKey::new(
                    algorithm,
                    point.uncompressed(&mut buffer),
                )]
            }
            Key::Rsa { modulus, exponent } => {
                let exponent = exponent.to_be_bytes();
                let leading = exponent.iter().take_while(|byte| **byte == 0).count();
                let components = RsaPublicKeyComponents {
                    n: modulus,
                    e: &exponent[leading..],
                };
                rsa(scheme, hash)?
                    .iter()
                    .map(|algorithm| components.to_parsed_public_key(algorithm))
                    .collect()
            }
        };
        let keys = keys
            .into_iter()
            .collect::<Result<_, _>>()
            .map_err(|_| VerifyingKeyError::InvalidKey)?;
        Ok(VerifyingKey {
            keys,
            scheme,
            hash,
            qualified: public.name().qualified_in(Hierarchy::Endorsement),
            name: public.name(),
            signature_len,
        })
    }

    /// The hash that it signs with; also that of a quote's `pcrDigest`.
    pub fn hash(&self) -> HashAlg {
        self.hash
    }

    /// Length of a signature of its without the TPM's structure around it, in bytes: `r || s`, or
    /// the modulus.
    pub fn signature_len(&self) -> usize {
        self.signature_len
    }

    /// A signature that came without the TPM's structure around it; `None` when it is not
    /// [`Self::signature_len`] bytes long.
    pub fn signature<'s>(&self, raw: &'s [u8]) -> Option<Signature<'s>> {
        if raw.len() != self.signature_len {
            return None;
        }
        match self.scheme {
            KeyScheme::Ecdsa(hash) => Signature::from_ecdsa_fixed(hash, raw).ok(),
            KeyScheme::RsaSsa(hash) => Some(Signature::RsaSsa { hash, sig: raw }),
            KeyScheme::RsaPss(hash) => Some(Signature::RsaPss { hash, sig: raw }),
            // `new` admits no other.
            _ => None,
        }
    }

    /// Its Name.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// Its qualified name if it is a primary key of the endorsement hierarchy, as Mote's are.
    pub fn qualified_name(&self) -> Name {
        self.qualified
    }

    /// Whether `signature` (a whole `TPMT_SIGNATURE`) is this key's over `message`.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), VerifyError> {
        let signature = Signature::parse(signature).map_err(VerifyError::Malformed)?;
        let of_scheme = match signature {
            Signature::Ecdsa { hash, .. } => KeyScheme::Ecdsa(hash),
            Signature::RsaSsa { hash, .. } => KeyScheme::RsaSsa(hash),
            Signature::RsaPss { hash, .. } => KeyScheme::RsaPss(hash),
        };
        if of_scheme != self.scheme {
            return Err(VerifyError::WrongScheme);
        }
        let mut der = [0; MAX_DER];
        let bytes = match signature {
            Signature::Ecdsa { r, s, .. } => ecdsa_der(r, s, &mut der),
            Signature::RsaSsa { sig, .. } | Signature::RsaPss { sig, .. } => sig,
        };
        if self
            .keys
            .iter()
            .any(|key| key.verify_sig(message, bytes).is_ok())
        {
            Ok(())
        } else {
            Err(VerifyError::Invalid)
        }
    }
}

fn ecdsa(
    curve: EccCurve,
    hash: HashAlg,
) -> Result<&'static EcdsaVerificationAlgorithm, VerifyingKeyError> {
    Ok(match (curve, hash) {
        (EccCurve::P256, HashAlg::Sha256) => &ECDSA_P256_SHA256_ASN1,
        (EccCurve::P256, HashAlg::Sha384) => &ECDSA_P256_SHA384_ASN1,
        (EccCurve::P256, HashAlg::Sha512) => &ECDSA_P256_SHA512_ASN1,
        (EccCurve::P384, HashAlg::Sha256) => &ECDSA_P384_SHA256_ASN1,
        (EccCurve::P384, HashAlg::Sha384) => &ECDSA_P384_SHA384_ASN1,
        (EccCurve::P384, HashAlg::Sha512) => &ECDSA_P384_SHA512_ASN1,
        (_, HashAlg::Sha1) => return Err(VerifyingKeyError::WeakHash(hash)),
    })
}

fn rsa(
    scheme: KeyScheme,
    hash: HashAlg,
) -> Result<&'static [&'static RsaParameters], VerifyingKeyError> {
    // Part 1, B.7: the salt is as long as the hash, or, in TPMs of older revisions, as long as fits.
    const PSS_SHA256: RsaParameters =
        RSA_PSS_2048_8192_SHA256.with_pss_salt_length(RsaPssSaltLength::Max);
    const PSS_SHA384: RsaParameters =
        RSA_PSS_2048_8192_SHA384.with_pss_salt_length(RsaPssSaltLength::Max);
    const PSS_SHA512: RsaParameters =
        RSA_PSS_2048_8192_SHA512.with_pss_salt_length(RsaPssSaltLength::Max);
    let pss = matches!(scheme, KeyScheme::RsaPss(_));
    Ok(match hash {
        HashAlg::Sha256 if pss => &[&RSA_PSS_2048_8192_SHA256, &PSS_SHA256],
        HashAlg::Sha384 if pss => &[&RSA_PSS_2048_8192_SHA384, &PSS_SHA384],
        HashAlg::Sha512 if pss => &[&RSA_PSS_2048_8192_SHA512, &PSS_SHA512],
        HashAlg::Sha256 => &[&RSA_PKCS1_2048_8192_SHA256],
        HashAlg::Sha384 => &[&RSA_PKCS1_2048_8192_SHA384],
        HashAlg::Sha512 => &[&RSA_PKCS1_2048_8192_SHA512],
        HashAlg::Sha1 => return Err(VerifyingKeyError::WeakHash(hash)),
    })
}

/// Longest `ECDSA-Sig-Value` of P-384, in bytes: header, and two integers of 48 bytes with a sign octet.
const MAX_DER: usize = 2 + 2 * (2 + 1 + 48);

/// `ECDSA-Sig-Value` (RFC 3279, 2.2.3): a TPM's integers, like DER's, may be shorter than the field.
/// `r` and `s` have at most 48 bytes each ([`Signature::parse`] sees to that).
fn ecdsa_der<'a>(r: &[u8], s: &[u8], out: &'a mut [u8; MAX_DER]) -> &'a [u8] {
    let mut at = 2;
    for number in [r, s] {
        let leading = number.iter().take_while(|byte| **byte == 0).count();
        let digits = &number[leading..];
        // Zero needs a digit too; a first digit above 7f would read as negative.
        let pad = usize::from(digits.first().is_none_or(|first| *first >= 0x80));
        out[at] = 0x02;
        out[at + 1] = (pad + digits.len()) as u8;
        at += 2 + pad;
        out[at..at + digits.len()].copy_from_slice(digits);
        at += digits.len();
    }
    out[0] = 0x30;
    out[1] = (at - 2) as u8;
    &out[..at]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_util::recorded;

    fn changed(at: usize, mask: u8) -> Result<VerifyingKey, VerifyingKeyError> {
        let mut bytes = recorded("ak.tpmt");
        bytes[at] ^= mask;
        VerifyingKey::new(&Public::parse(&bytes).unwrap())
    }

    #[test]
    fn the_recorded_key_verifies_what_it_signed_and_nothing_else() {
        let public = recorded("ak.tpmt");
        let key = VerifyingKey::new(&Public::parse(&public).unwrap()).unwrap();
        assert_eq!(key.name().as_bytes(), recorded("ak.name"));
        assert_eq!(key.qualified_name().as_bytes(), recorded("ak.qn"));
        let (attest, signature) = (recorded("attest.1"), recorded("sig.1"));
        assert_eq!(key.verify(&attest, &signature), Ok(()));
        assert_eq!(
            key.verify(&recorded("attest.2"), &signature),
            Err(VerifyError::Invalid)
        );
    }

    #[test]
    fn a_key_without_a_needed_attribute_is_refused_by_its_name() {
        // objectAttributes are bytes 4 to 7 of a TPMT_PUBLIC (part 2, 8.3.2 for the bits).
        for (at, mask, name) in [
            (7, 0x02, "fixedTPM"),
            (7, 0x10, "fixedParent"),
            (7, 0x20, "sensitiveDataOrigin"),
            (5, 0x01, "restricted"),
            (5, 0x04, "sign"),
        ] {
            assert_eq!(
                changed(at, mask).unwrap_err(),
                VerifyingKeyError::MissingAttribute(name)
            );
        }
        for (at, mask, name) in [(5, 0x02, "decrypt"), (5, 0x08, "x509sign")] {
            assert_eq!(
                changed(at, mask).unwrap_err(),
                VerifyingKeyError::ForbiddenAttribute(name)
            );
        }
    }

    #[test]
    fn each_fault_says_what_it_is() {
        for (error, text) in [
            (
                VerifyingKeyError::MissingAttribute("sign"),
                "the attestation key lacks the attribute sign",
            ),
            (
                VerifyingKeyError::ForbiddenAttribute("decrypt"),
                "the attestation key has the attribute decrypt",
            ),
            (
                VerifyingKeyError::NoSigningScheme(KeyScheme::Null),
                "the attestation key's scheme Null does not sign",
            ),
            (
                VerifyingKeyError::WeakHash(HashAlg::Sha1),
                "the attestation key signs with sha1",
            ),
            (
                VerifyingKeyError::InvalidKey,
                "the attestation key is not a valid key",
            ),
        ] {
            assert_eq!(error.to_string(), text);
            assert_eq!(error.reason().token(), "ak-unsuitable");
        }
        let key = VerifyingKey::new(&Public::parse(&recorded("ak.tpmt")).unwrap()).unwrap();
        let (attest, signature) = (recorded("attest.1"), recorded("sig.1"));
        let said = |signature: &[u8]| {
            let error = key.verify(&attest, signature).unwrap_err();
            assert_eq!(error.reason().token(), "quote-signature-invalid");
            error.to_string()
        };
        assert!(said(&signature[..10]).starts_with("signature: TPMT_SIGNATURE: "));
        let mut other = signature.clone();
        other[3] ^= 0x0b ^ 0x0c; // SHA-384
        assert_eq!(
            said(&other),
            "the signature's scheme is not the attestation key's"
        );
        assert_eq!(
            said(&recorded("sig.2")),
            "the attestation key did not sign these bytes"
        );
    }

    #[test]
    fn a_key_that_signs_with_sha1_is_refused() {
        // The scheme's hash stands behind the empty policy and the symmetric algorithm (part 2, 12.2.3).
        let mut bytes = recorded("ak.tpmt");
        assert_eq!(bytes[12..16], [0x00, 0x18, 0x00, 0x0b], "ECDSA, SHA-256");
        bytes[15] = 0x04;
        let refused = VerifyingKey::new(&Public::parse(&bytes).unwrap()).unwrap_err();
        assert_eq!(refused, VerifyingKeyError::WeakHash(HashAlg::Sha1));
    }

    #[test]
    fn a_point_off_the_curve_is_refused() {
        let last = recorded("ak.tpmt").len() - 1;
        assert_eq!(changed(last, 1).unwrap_err(), VerifyingKeyError::InvalidKey);
    }

    #[test]
    fn der_integers_are_minimal_and_positive() {
        let mut out = [0; MAX_DER];
        assert_eq!(
            ecdsa_der(&[0, 0, 0x80], &[0x7f, 0], &mut out),
            [0x30, 8, 2, 2, 0, 0x80, 2, 2, 0x7f, 0]
        );
        assert_eq!(ecdsa_der(&[0], &[1], &mut out), [0x30, 6, 2, 1, 0, 2, 1, 1]);
        let full = [0xff; 48];
        assert_eq!(ecdsa_der(&full, &full, &mut out).len(), MAX_DER);
    }
}
