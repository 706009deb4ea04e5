//! Signatures appended to a file (`modsig`; `sign-file` of the kernel): CMS `SignedData` (RFC 5652, 5)
//! without its content, over the file less the signature (`d-modsig`). What the kernel appends behind it,
//! `struct module_signature` and a magic string, is not in the record (`ima_read_modsig`).
//!
//! The digest is the kernel's, of what it found in front of the signature, so the signature alone ties it to
//! a signer. Certificates inside are not looked at: they are whoever's who wrote the file.

use cms::cert::x509::der::{
    Decode, Encode,
    asn1::{ObjectIdentifier, OctetString},
};
use cms::content_info::ContentInfo;
use cms::signed_data::{SignedAttributes, SignedData, SignerIdentifier, SignerInfo};
use mote_schemas::ima::FileDigest;
use mote_schemas::tpm::HashAlg;

use super::{FileKey, SignatureError, SignerId, hash, key_of};

/// `id-signedData` (RFC 5652, 5.1), `id-contentType` and `id-messageDigest` (11.1, 11.2).
const SIGNED_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.2");
const CONTENT_TYPE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.3");
const MESSAGE_DIGEST: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.4");

/// The hashes that are accepted in signatures (RFC 5754, 2).
const HASHES: [(HashAlg, ObjectIdentifier); 3] = [
    (
        HashAlg::Sha256,
        ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.1"),
    ),
    (
        HashAlg::Sha384,
        ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.2"),
    ),
    (
        HashAlg::Sha512,
        ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.3"),
    ),
];

/// Most signers of one file; the kernel's `sign-file` makes one.
const MAX_SIGNERS: usize = 8;

/// The allowed key, if any, that signed what has this digest. Of several signers one is enough, as for the
/// kernel (`pkcs7_validate_trust`); without one, the first says why.
pub(super) fn verify<'k>(
    message: &[u8],
    digest: &FileDigest<'_>,
    keys: &impl Fn(&SignerId) -> Vec<&'k FileKey>,
) -> Result<&'k FileKey, SignatureError> {
    let data = signed_data(message)?;
    let signers = data.signer_infos.0.iter();
    let mut results = signers.map(|signer| verify_one(&data, signer, digest, keys));
    let first = results.next().ok_or(malformed("it names no signer"))?;
    first.or_else(|error| results.find_map(Result::ok).ok_or(error))
}

fn malformed(why: &'static str) -> SignatureError {
    SignatureError::Appended(why)
}

fn signed_data(message: &[u8]) -> Result<SignedData, SignatureError> {
    let info = ContentInfo::from_der(message).map_err(|_| malformed("it is not CMS in DER"))?;
    if info.content_type != SIGNED_DATA {
        return Err(malformed("it is CMS, but not SignedData"));
    }
    let data: SignedData = info
        .content
        .decode_as()
        .map_err(|_| malformed("its SignedData is malformed"))?;
    if data.encap_content_info.econtent.is_some() {
        return Err(malformed("it has contents of its own"));
    }
    if data.signer_infos.0.len() > MAX_SIGNERS {
        return Err(malformed("it has too many signers"));
    }
    Ok(data)
}

fn verify_one<'k>(
    data: &SignedData,
    signer: &SignerInfo,
    digest: &FileDigest<'_>,
    keys: &impl Fn(&SignerId) -> Vec<&'k FileKey>,
) -> Result<&'k FileKey, SignatureError> {
    let alg = HASHES
        .iter()
        .find_map(|(alg, oid)| (*oid == signer.digest_alg.oid).then_some(*alg))
        .ok_or(malformed("its hash is not SHA-256, SHA-384 or SHA-512"))?;
    let of_alg = digest.to_digest().filter(|digest| digest.alg() == alg);
    let digest = of_alg.ok_or_else(|| SignatureError::OtherDigest {
        signed: alg.to_string(),
        measured: digest.algorithm.to_owned(),
    })?;
    let covered = match &signer.signed_attrs {
        None => digest.as_bytes().to_vec(),
        Some(attributes) => {
            check_attributes(data, attributes, digest.as_bytes())?;
            // Signed is their encoding as a SET (RFC 5652, 5.4), which is what it is here.
            let encoded = attributes.to_der();
            let encoded = encoded.map_err(|_| malformed("its attributes are malformed"))?;
            hash(alg, &encoded)
        }
    };
    let id = signer_id(&signer.sid)?;
    key_of(&id, keys, alg, &[covered], signer.signature.as_bytes())
}

/// Where attributes are signed, the contents are so only by way of them.
fn check_attributes(
    data: &SignedData,
    attributes: &SignedAttributes,
    digest: &[u8],
) -> Result<(), SignatureError> {
    let only = |oid| {
        let mut of_type = attributes
            .iter()
            .filter(move |attribute| attribute.oid == oid);
        let attribute = of_type.next().filter(|_| of_type.next().is_none())?;
        (attribute.values.len() == 1).then(|| attribute.values.get(0))?
    };
    let stated = only(MESSAGE_DIGEST).and_then(|value| value.decode_as::<OctetString>().ok());
    let kind = only(CONTENT_TYPE).and_then(|value| value.decode_as::<ObjectIdentifier>().ok());
    if kind != Some(data.encap_content_info.econtent_type) {
        return Err(malformed("its attributes are of another type of contents"));
    }
    if stated.is_none_or(|stated| stated.as_bytes() != digest) {
        return Err(malformed("its attributes are of other contents"));
    }
    Ok(())
}

fn signer_id(sid: &SignerIdentifier) -> Result<SignerId, SignatureError> {
    Ok(match sid {
        SignerIdentifier::IssuerAndSerialNumber(certificate) => SignerId::Certificate {
            issuer: certificate
                .issuer
                .to_der()
                .map_err(|_| malformed("its signer is malformed"))?,
            serial: certificate.serial_number.as_bytes().to_vec(),
        },
        SignerIdentifier::SubjectKeyIdentifier(id) => SignerId::Key(id.0.as_bytes().to_vec()),
    })
}
