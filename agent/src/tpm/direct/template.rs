//! The two key templates, as `TPM2B_PUBLIC` (TPM 2.0 Library part 2, 12.2). Bit for bit those of
//! tpm2-tss' implementation beside this one: a device keeps its identity whichever is built in.

use mote_schemas::tpm::{EncodeError, Writer};

use super::Algorithm;

const TPM_ALG_RSA: u16 = 0x0001;
const TPM_ALG_AES: u16 = 0x0006;
const TPM_ALG_SHA256: u16 = 0x000B;
const TPM_ALG_NULL: u16 = 0x0010;
const TPM_ALG_RSASSA: u16 = 0x0014;
const TPM_ALG_ECDSA: u16 = 0x0018;
const TPM_ALG_ECC: u16 = 0x0023;
const TPM_ALG_CFB: u16 = 0x0043;
const TPM_ECC_NIST_P256: u16 = 0x0003;

/// fixedTPM, fixedParent, sensitiveDataOrigin, adminWithPolicy, restricted, decrypt.
const EK_ATTRIBUTES: u32 = 0x0003_00B2;
/// fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, noDA, restricted, sign. `noDA`: the key
/// has no secret to guess, so a dictionary-attack lockout that others cause must not silence the device.
const AK_ATTRIBUTES: u32 = 0x0005_0472;

/// PolicySecret(endorsement): policy A of the EK Credential Profile 2.3, B.3.
const EK_POLICY: [u8; 32] = [
    0x83, 0x71, 0x97, 0x67, 0x44, 0x84, 0xB3, 0xF8, 0x1A, 0x90, 0xCC, 0x8D, 0x46, 0xA5, 0xD7, 0x24,
    0xFD, 0x52, 0xD7, 0x6E, 0x06, 0x52, 0x0B, 0x64, 0xF2, 0xA1, 0xDA, 0x1B, 0x33, 0x14, 0x69, 0xAA,
];

/// Starts the AK's `unique` field. Without it, any other software that makes a restricted ECDSA
/// primary from an empty template would get the very same key, and share it with us.
const AK_UNIQUE: [u8; 32] = *b"mote attestation key, version 1\0";

/// Bytes of an RSA-2048 modulus.
const RSA: usize = 256;
/// Bytes of a P-256 coordinate.
const ECC: usize = 32;

/// Default EK template L-1 (RSA-2048) or L-2 (ECC P-256) of the TCG EK Credential Profile 2.3,
/// B.3.3 and B.3.4: the ones that the certificate at 0x01C00002 or 0x01C0000A is about.
pub(super) fn endorsement_key(
    algorithm: Algorithm,
    out: &mut Writer<'_>,
) -> Result<(), EncodeError> {
    let rest = match algorithm {
        Algorithm::Rsa => 6 + 2 + 2 + 4 + 2 + RSA,
        Algorithm::Ecc => 6 + 2 + 2 + 2 + 2 + ECC + 2 + ECC,
    };
    out.u16((2 + 2 + 4 + 2 + EK_POLICY.len() + rest) as u16)?;
    head(algorithm, EK_ATTRIBUTES, &EK_POLICY, out)?;
    // TPMT_SYM_DEF_OBJECT: what the key protects its children's secrets with.
    out.u16(TPM_ALG_AES)?;
    out.u16(128)?;
    out.u16(TPM_ALG_CFB)?;
    out.u16(TPM_ALG_NULL)?; // scheme
    match algorithm {
        Algorithm::Rsa => {
            rsa_parameters(out)?;
            out.tpm2b(&[0; RSA], RSA)
        }
        Algorithm::Ecc => {
            ecc_parameters(out)?;
            out.tpm2b(&[0; ECC], ECC)?;
            out.tpm2b(&[0; ECC], ECC)
        }
    }
}

/// Restricted signing key: the TPM signs with it only what it produced itself (part 1, 25.1).
/// ECDSA with SHA-256, or RSASSA with SHA-256.
pub(super) fn attestation_key(
    algorithm: Algorithm,
    out: &mut Writer<'_>,
) -> Result<(), EncodeError> {
    let rest = match algorithm {
        Algorithm::Rsa => 2 + 4 + 2 + 4 + 2 + RSA,
        Algorithm::Ecc => 2 + 4 + 2 + 2 + 2 + ECC + 2 + ECC,
    };
    out.u16((2 + 2 + 4 + 2 + rest) as u16)?;
    head(algorithm, AK_ATTRIBUTES, &[], out)?;
    out.u16(TPM_ALG_NULL)?; // symmetric
    match algorithm {
        Algorithm::Rsa => {
            out.u16(TPM_ALG_RSASSA)?;
            out.u16(TPM_ALG_SHA256)?;
            rsa_parameters(out)?;
            let mut unique = [0; RSA];
            unique[..AK_UNIQUE.len()].copy_from_slice(&AK_UNIQUE);
            out.tpm2b(&unique, RSA)
        }
        Algorithm::Ecc => {
            out.u16(TPM_ALG_ECDSA)?;
            out.u16(TPM_ALG_SHA256)?;
            ecc_parameters(out)?;
            out.tpm2b(&AK_UNIQUE, ECC)?;
            out.tpm2b(&[0; ECC], ECC)
        }
    }
}

/// `type`, `nameAlg`, `objectAttributes`, `authPolicy`.
fn head(
    algorithm: Algorithm,
    attributes: u32,
    policy: &[u8],
    out: &mut Writer<'_>,
) -> Result<(), EncodeError> {
    out.u16(match algorithm {
        Algorithm::Rsa => TPM_ALG_RSA,
        Algorithm::Ecc => TPM_ALG_ECC,
    })?;
    out.u16(TPM_ALG_SHA256)?;
    out.u32(attributes)?;
    out.tpm2b(policy, EK_POLICY.len())
}

/// Key bits, and exponent 0: the default, 65,537.
fn rsa_parameters(out: &mut Writer<'_>) -> Result<(), EncodeError> {
    out.u16(2048)?;
    out.u32(0)
}

/// Curve, and no key derivation.
fn ecc_parameters(out: &mut Writer<'_>) -> Result<(), EncodeError> {
    out.u16(TPM_ECC_NIST_P256)?;
    out.u16(TPM_ALG_NULL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_what_follows() {
        for make in [endorsement_key, attestation_key] {
            for algorithm in [Algorithm::Ecc, Algorithm::Rsa] {
                let mut buffer = [0; 512];
                let mut out = Writer::new(&mut buffer);
                make(algorithm, &mut out).unwrap();
                let bytes = out.finish();
                let size = u16::from_be_bytes([bytes[0], bytes[1]]);
                assert_eq!(usize::from(size), bytes.len() - 2, "{algorithm:?}");
            }
        }
    }
}
