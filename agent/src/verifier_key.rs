//! The verifier's public key, pinned in the configuration, and the one thing it is for: telling a
//! challenge of that verifier from anybody else's (RFC 9052, 4.4; ES256).
//!
//! Everyone on the path may alter, replay or invent a hello reply. What passes [`VerifierKey::check`]
//! was signed for exactly the hello that this agent just sent.

use core::fmt;

use minicbor::encode::Write;
use mote_schemas::cbor;
use mote_schemas::cose::Sign1;
use mote_schemas::message::{Challenge, VERSION};
use mote_schemas::transcript::{HelloDigest, Transcript};
use p256::ecdsa::signature::hazmat::PrehashVerifier;
use p256::ecdsa::{Signature, VerifyingKey};
use sha2::{Digest, Sha256};

/// Length of an uncompressed P-256 point (SEC 1, 2.3.3).
const POINT: usize = 65;

/// The DER that precedes the point in a P-256 SubjectPublicKeyInfo (RFC 5480, 2).
const SPKI_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// A pinned P-256 public key.
#[derive(Clone, PartialEq, Eq)]
pub struct VerifierKey(VerifyingKey);

/// The bytes are not a P-256 public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAKey;

impl fmt::Display for NotAKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a P-256 public key (65-byte point, or its SubjectPublicKeyInfo in DER)")
    }
}

impl std::error::Error for NotAKey {}

impl fmt::Debug for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("VerifierKey(P-256)")
    }
}

/// A challenge that the pinned verifier signed in answer to our hello.
#[derive(Clone, Copy, Debug)]
pub struct VerifiedChallenge<'a> {
    challenge: Challenge<'a>,
    transcript: Transcript,
}

impl<'a> VerifiedChallenge<'a> {
    /// The challenge.
    pub fn challenge(&self) -> &Challenge<'a> {
        &self.challenge
    }

    /// The transcript that it completes.
    pub fn transcript(&self) -> Transcript {
        self.transcript
    }
}

/// Why a hello reply is ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChallengeError {
    /// Not a COSE_Sign1 with a challenge inside.
    Malformed,
    /// Not signed by the pinned key for this hello.
    Signature,
    /// Signed, but of a protocol version that we do not speak.
    Version(u8),
}

impl fmt::Display for ChallengeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed => f.write_str("the reply to hello is not a signed challenge"),
            Self::Signature => f.write_str(
                "the reply to hello is not signed by the pinned verifier key: is verifier_key that \
                 of this verifier, or is somebody in between?",
            ),
            Self::Version(version) => write!(
                f,
                "the verifier speaks version {version} of the protocol, we speak {VERSION}: update the agent"
            ),
        }
    }
}

impl std::error::Error for ChallengeError {}

impl VerifierKey {
    /// From an uncompressed point (65 bytes) or a SubjectPublicKeyInfo (91 bytes, DER).
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, NotAKey> {
        let point = match bytes.len().checked_sub(SPKI_PREFIX.len()) {
            Some(POINT) if bytes.starts_with(&SPKI_PREFIX) => &bytes[SPKI_PREFIX.len()..],
            _ if bytes.len() == POINT => bytes,
            _ => return Err(NotAKey),
        };
        VerifyingKey::from_sec1_bytes(point)
            .map(Self)
            .map_err(|_| NotAKey)
    }

    /// Checks the payload of the reply to `hello`.
    pub fn check<'a>(
        &self,
        hello: HelloDigest,
        reply: &'a [u8],
    ) -> Result<VerifiedChallenge<'a>, ChallengeError> {
        let sign1 = Sign1::parse(reply).map_err(|_| ChallengeError::Malformed)?;
        let mut hash = Hash(Sha256::new());
        // Writing into a hash cannot fail.
        let _ = sign1.signed_bytes(hello.as_bytes(), &mut hash);
        Signature::from_slice(sign1.signature)
            .and_then(|signature| self.0.verify_prehash(&hash.0.finalize(), &signature))
            .map_err(|_| ChallengeError::Signature)?;
        let challenge: Challenge<'a> =
            cbor::decode(sign1.payload).map_err(|_| ChallengeError::Malformed)?;
        if challenge.version != VERSION {
            return Err(ChallengeError::Version(challenge.version));
        }
        Ok(VerifiedChallenge {
            challenge,
            transcript: Transcript::new(hello, sign1.payload),
        })
    }
}

struct Hash(Sha256);

impl Write for Hash {
    type Error = core::convert::Infallible;

    fn write_all(&mut self, bytes: &[u8]) -> Result<(), Self::Error> {
        self.0.update(bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use minicbor::encode::write::Cursor;
    use mote_schemas::cbor::Bytes;
    use mote_schemas::cose::sig_structure;
    use mote_schemas::message::Kid;
    use p256::ecdsa::SigningKey;
    use p256::ecdsa::signature::hazmat::PrehashSigner;

    use super::*;

    fn signing_key() -> SigningKey {
        SigningKey::from_slice(&[0x42; 32]).unwrap()
    }

    fn point(key: &SigningKey) -> Vec<u8> {
        key.verifying_key().to_sec1_point(false).as_bytes().to_vec()
    }

    fn reply(key: &SigningKey, hello: HelloDigest, version: u8) -> Vec<u8> {
        let challenge = Challenge {
            version,
            random: [2; 16],
            credential_blob: Bytes::new(&[3; 68]).unwrap(),
            encrypted_secret: Bytes::new(&[4; 68]).unwrap(),
            kid: Kid::new(&[5]).unwrap(),
        };
        let mut payload = [0; 512];
        let len = cbor::encode(&challenge, &mut payload).unwrap();
        let payload = &payload[..len];
        let mut hash = Hash(Sha256::new());
        sig_structure(hello.as_bytes(), payload, &mut hash).unwrap();
        let signature: Signature = key.sign_prehash(&hash.0.finalize()).unwrap();
        let signature: [u8; 64] = signature.to_bytes().into();
        let sign1 = Sign1 {
            payload,
            kid: None,
            signature: &signature,
        };
        let mut out = [0; 1024];
        let mut cursor = Cursor::new(&mut out[..]);
        sign1.write(&mut cursor).unwrap();
        let len = cursor.position();
        out[..len].to_vec()
    }

    #[test]
    fn only_the_pinned_key_and_our_own_hello_pass() {
        let key = signing_key();
        let (hello, other) = (HelloDigest::of(b"hello"), HelloDigest::of(b"other"));
        let pinned = VerifierKey::from_bytes(&point(&key)).unwrap();
        let good = reply(&key, hello, VERSION);
        let checked = pinned.check(hello, &good).unwrap();
        assert_eq!(checked.challenge().kid, Kid::new(&[5]).unwrap());

        let refused = |hello, reply: &[u8]| pinned.check(hello, reply).unwrap_err();
        assert_eq!(refused(other, &good), ChallengeError::Signature);
        let stranger = SigningKey::from_slice(&[0x43; 32]).unwrap();
        let forged = reply(&stranger, hello, VERSION);
        assert_eq!(refused(hello, &forged), ChallengeError::Signature);
        let newer = reply(&key, hello, VERSION + 1);
        assert_eq!(refused(hello, &newer), ChallengeError::Version(VERSION + 1));
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert!(pinned.check(hello, &bad).is_err(), "byte {at} changed");
        }
    }

    #[test]
    fn a_key_comes_as_a_point_or_as_spki_and_as_nothing_else() {
        let point = point(&signing_key());
        let spki = [&SPKI_PREFIX[..], &point].concat();
        assert_eq!(
            VerifierKey::from_bytes(&spki),
            VerifierKey::from_bytes(&point)
        );
        assert_eq!(VerifierKey::from_bytes(&point[1..]), Err(NotAKey));
        assert_eq!(VerifierKey::from_bytes(&spki[1..]), Err(NotAKey));
        let mut off_curve = point.clone();
        off_curve[64] ^= 1;
        assert_eq!(VerifierKey::from_bytes(&off_curve), Err(NotAKey));
    }
}
