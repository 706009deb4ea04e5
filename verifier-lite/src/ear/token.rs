//! Results under the verifier's signature: JWT (RFC 7519, RFC 7515) and CWT (RFC 8392), both ES256.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use minicbor::Encoder;
use minicbor::data::Tag;
use serde_json::{Value, json};

use super::AttestationResult;
use crate::hex;
use crate::manifest::envelope::{in_memory, signature_structure};
use crate::signing_key::{KeyError, PublicKey, SigningKey};

/// Media types of RFC 9782, as `typ`; JOSE leaves out `application/`.
const TYPE_JWT: &str = "eat+jwt";
const TYPE_CWT: &str = "application/eat+cwt";

const COSE_SIGN1: Tag = Tag::new(18);
const ES256: i64 = -7;

mod header {
    pub(super) const ALG: u64 = 1;
    pub(super) const KID: u64 = 4;
    /// RFC 9596.
    pub(super) const TYP: u64 = 16;
}

/// The result as a JWT, in the compact form.
pub fn jwt(result: &AttestationResult, key: &SigningKey) -> Result<String, KeyError> {
    let header = json!({
        "alg": "ES256",
        "kid": hex::encode(&key.public_key().key_id()),
        "typ": TYPE_JWT,
    });
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(&header), part(&result.to_json()));
    let signature = key.sign(signed.as_bytes())?;
    Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
}

/// The result as a CWT: a tagged `COSE_Sign1`.
pub fn cwt(result: &AttestationResult, key: &SigningKey) -> Result<Vec<u8>, KeyError> {
    let kid = key.public_key().key_id();
    let protected = in_memory(|e: &mut Encoder<Vec<u8>>| {
        e.map(3)?.u64(header::ALG)?.i64(ES256)?;
        e.u64(header::KID)?.bytes(&kid)?;
        e.u64(header::TYP)?.str(TYPE_CWT)?.ok()
    });
    let payload = result.to_cbor();
    let signature = key.sign(&signature_structure(&protected, &payload))?;
    Ok(in_memory(|e| {
        e.tag(COSE_SIGN1)?.array(4)?.bytes(&protected)?.map(0)?;
        e.bytes(&payload)?.bytes(&signature)?.ok()
    }))
}

/// The key that verifies both, as a JWK (RFC 7517; RFC 7518, 6.2).
pub fn jwk(key: &PublicKey) -> Value {
    let (x, y) = key.point()[1..].split_at(32);
    json!({
        "kty": "EC",
        "crv": "P-256",
        "alg": "ES256",
        "use": "sig",
        "kid": hex::encode(&key.key_id()),
        "x": URL_SAFE_NO_PAD.encode(x),
        "y": URL_SAFE_NO_PAD.encode(y),
    })
}
