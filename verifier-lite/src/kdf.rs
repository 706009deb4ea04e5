//! The TPM's two key derivation functions: `KDFa` and `KDFe` (TPM 2.0 Library part 1, 11.4.10).
//!
//! `KDFa` is SP 800-108 in counter mode over HMAC, `KDFe` the one-step hash KDF of SP 800-56C; both
//! come from aws-lc. What is the TPM's own is the fixed input: a label that ends in a NUL, then two
//! contexts, and for `KDFa` the number of bits wanted.

use aws_lc_rs::error::Unspecified;
use aws_lc_rs::kdf::{
    KbkdfCtrHmacAlgorithmId, SskdfDigestAlgorithmId, get_kbkdf_ctr_hmac_algorithm,
    get_sskdf_digest_algorithm, kbkdf_ctr_hmac, sskdf_digest,
};

/// A hash that an endorsement key may use as its `nameAlg`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NameHash {
    /// SHA-256, in the templates of every TPM (L and H-1 to H-2 of the TCG EK profile).
    Sha256,
    /// SHA-384, in the high-range templates.
    Sha384,
}

impl NameHash {
    /// Length of its output, in bytes.
    pub(crate) fn len_bytes(self) -> usize {
        match self {
            NameHash::Sha256 => 32,
            NameHash::Sha384 => 48,
        }
    }
}

/// `KDFa(hash, key, label, contextU, contextV, bits)`, `bits` being those of `output`
/// (TPM 2.0 Library part 1, 11.4.10.2). `label` without its NUL.
pub(crate) fn kdfa(
    hash: NameHash,
    key: &[u8],
    label: &str,
    context_u: &[u8],
    context_v: &[u8],
    output: &mut [u8],
) -> Result<(), Unspecified> {
    let id = match hash {
        NameHash::Sha256 => KbkdfCtrHmacAlgorithmId::Sha256,
        NameHash::Sha384 => KbkdfCtrHmacAlgorithmId::Sha384,
    };
    let algorithm = get_kbkdf_ctr_hmac_algorithm(id).ok_or(Unspecified)?;
    let bits = u32::try_from(output.len() * 8).map_err(|_| Unspecified)?;
    let info = [
        label.as_bytes(),
        &[0],
        context_u,
        context_v,
        &bits.to_be_bytes(),
    ]
    .concat();
    kbkdf_ctr_hmac(algorithm, key, &info, output)
}

/// `KDFe(hash, Z, use, PartyUInfo, PartyVInfo, bits)`, `bits` being those of `output`
/// (TPM 2.0 Library part 1, 11.4.10.3). `label` without its NUL.
pub(crate) fn kdfe(
    hash: NameHash,
    z: &[u8],
    label: &str,
    party_u: &[u8],
    party_v: &[u8],
    output: &mut [u8],
) -> Result<(), Unspecified> {
    let id = match hash {
        NameHash::Sha256 => SskdfDigestAlgorithmId::Sha256,
        NameHash::Sha384 => SskdfDigestAlgorithmId::Sha384,
    };
    let algorithm = get_sskdf_digest_algorithm(id).ok_or(Unspecified)?;
    let info = [label.as_bytes(), &[0], party_u, party_v].concat();
    sskdf_digest(algorithm, z, &info, output)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_util::unhex;

    /// From github.com/chrisfenner/tpm-test-vectors, `vectors/kdfe.json`: go-tpm's results, those
    /// with whole bytes.
    #[test]
    fn kdfe_gives_the_values_of_an_independent_implementation() {
        let cases = [
            (
                "8995a6318a0217c7c7bf543f50da29016c4ff2a1ea5daf54ebcb00",
                "INTEGRITY",
                "8852f14d8e9b68",
                "74ff",
                "92343ef558feb95fd14838f9ca39c8618598a7eeb31af7fc276030b8c3ff326d4870f190e54abbec9da4",
            ),
            (
                "00",
                "OBFUSCATE",
                "ebcb3cd4a002941ed496ef1d32a70b0b7f6f05b8a51803d5a9ff9b",
                "a1f79a7ee2beee21e2bfaee67769874687bfe21b2468fc8e721b6e967e12ff",
                "dcd14d72e0d5d8ec15b5ea15ae060e02f0e042f3af7efbd73650bb4457d73b060ef8f78bdf8cea099fe98fad6359bcfe92c1c6be8a157c1064c85ada3ad2",
            ),
        ];
        for (z, label, u, v, expected) in cases {
            let expected = unhex(expected);
            let mut got = vec![0; expected.len()];
            kdfe(
                NameHash::Sha256,
                &unhex(z),
                label,
                &unhex(u),
                &unhex(v),
                &mut got,
            )
            .unwrap();
            assert_eq!(got, expected, "label {label}");
        }
    }

    /// The TPM reference code's own self-test values (`KdfTestData.h`).
    #[test]
    fn kdfa_gives_the_values_of_the_reference_code() {
        for (hash, expected) in [
            (NameHash::Sha256, "bb0259e1c8ba607e6a2cd704b69a902e9ade84c4"),
            (NameHash::Sha384, "1dce70c9113eb2dba47bd9cfc72bf46f45b09312"),
        ] {
            let mut got = [0u8; 20];
            kdfa(
                hash,
                &unhex("271fa08bbdc5060ec3dfa928ff9b73123a12da0c"),
                "KDFSELFTESTLABEL",
                &unhex("ce244f395dca7391"),
                &unhex("da504031ddf12e83"),
                &mut got,
            )
            .unwrap();
            assert_eq!(got[..], unhex(expected)[..], "{hash:?}");
        }
    }
}
