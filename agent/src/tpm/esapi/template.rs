//! The two key templates. A primary key is a function of the hierarchy's seed and its template, so
//! every byte here is part of a device's identity: changing one makes every device a new one.

use tss_esapi::Result;
use tss_esapi::abstraction::AsymmetricAlgorithmSelection;
use tss_esapi::abstraction::ek::create_ek_public_from_default_template_2;
use tss_esapi::attributes::{ObjectAttributes, ObjectAttributesBuilder};
use tss_esapi::interface_types::algorithm::{HashingAlgorithm, PublicAlgorithm};
use tss_esapi::interface_types::ecc::EccCurve;
use tss_esapi::interface_types::key_bits::RsaKeyBits;
use tss_esapi::structures::{
    EccParameter, EccPoint, EccScheme, HashScheme, KeyDerivationFunctionScheme, Public,
    PublicBuilder, PublicEccParametersBuilder, PublicKeyRsa, PublicRsaParametersBuilder,
    RsaExponent, RsaScheme, SymmetricDefinitionObject,
};

use crate::tpm::certificate::Algorithm;

/// Starts the AK's `unique` field. Without it, any other software that makes a restricted ECDSA
/// primary from an empty template would get the very same key, and share it with us.
const AK_UNIQUE: [u8; 32] = *b"mote attestation key, version 1\0";

/// Default EK template L-1 (RSA-2048) or L-2 (ECC P-256) of the TCG EK Credential Profile 2.3,
/// B.3.3 and B.3.4: the ones that the certificate at 0x01C00002 or 0x01C0000A is about.
pub(super) fn endorsement_key(algorithm: Algorithm) -> Result<Public> {
    let selection = match algorithm {
        Algorithm::Ecc => AsymmetricAlgorithmSelection::Ecc(EccCurve::NistP256),
        Algorithm::Rsa => AsymmetricAlgorithmSelection::Rsa(RsaKeyBits::Rsa2048),
    };
    create_ek_public_from_default_template_2(selection, None)
}

/// Restricted signing key: the TPM signs with it only what it produced itself (part 1, 25.1).
/// ECDSA with SHA-256, or RSASSA with SHA-256.
pub(super) fn attestation_key(algorithm: Algorithm) -> Result<Public> {
    let builder = PublicBuilder::new()
        .with_name_hashing_algorithm(HashingAlgorithm::Sha256)
        .with_object_attributes(attestation_attributes()?);
    let sha256 = HashScheme::new(HashingAlgorithm::Sha256);
    match algorithm {
        Algorithm::Ecc => builder
            .with_public_algorithm(PublicAlgorithm::Ecc)
            .with_ecc_parameters(
                PublicEccParametersBuilder::new()
                    .with_curve(EccCurve::NistP256)
                    .with_ecc_scheme(EccScheme::EcDsa(sha256))
                    .with_key_derivation_function_scheme(KeyDerivationFunctionScheme::Null)
                    .with_symmetric(SymmetricDefinitionObject::Null)
                    .with_is_signing_key(true)
                    .with_restricted(true)
                    .build()?,
            )
            .with_ecc_unique_identifier(EccPoint::new(
                EccParameter::try_from(AK_UNIQUE.to_vec())?,
                EccParameter::try_from(vec![0; 32])?,
            ))
            .build(),
        Algorithm::Rsa => {
            let mut unique = vec![0; 256];
            unique[..AK_UNIQUE.len()].copy_from_slice(&AK_UNIQUE);
            builder
                .with_public_algorithm(PublicAlgorithm::Rsa)
                .with_rsa_parameters(
                    PublicRsaParametersBuilder::new()
                        .with_key_bits(RsaKeyBits::Rsa2048)
                        .with_exponent(RsaExponent::default())
                        .with_scheme(RsaScheme::RsaSsa(sha256))
                        .with_symmetric(SymmetricDefinitionObject::Null)
                        .with_is_signing_key(true)
                        .with_restricted(true)
                        .build()?,
                )
                .with_rsa_unique_identifier(PublicKeyRsa::try_from(unique)?)
                .build()
        }
    }
}

/// `noDA`: the key has no secret to guess, so a dictionary-attack lockout that others cause must
/// not silence the device.
fn attestation_attributes() -> Result<ObjectAttributes> {
    ObjectAttributesBuilder::new()
        .with_fixed_tpm(true)
        .with_fixed_parent(true)
        .with_sensitive_data_origin(true)
        .with_user_with_auth(true)
        .with_no_da(true)
        .with_restricted(true)
        .with_sign_encrypt(true)
        .build()
}
