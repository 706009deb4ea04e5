//! What binds keys and quotes to one conversation.
//!
//! Both sides hash the same hello and the same challenge. The session's keys come from the secret
//! that only the enrolled TPM can activate, salted with that hash; every quote carries it too, so a
//! quote made for one conversation is worth nothing in another.

use hkdf::Hkdf;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// SHA-256 of hello's payload as it travelled: all that either side keeps of it, and the
/// external_aad of the challenge's signature, which binds the challenge to the hello it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HelloDigest([u8; 32]);

impl HelloDigest {
    /// Of this payload.
    pub fn of(hello: &[u8]) -> Self {
        Self(Sha256::digest(hello).into())
    }

    /// The digest.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// SHA-256 over hello and challenge, exactly as they travelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Transcript([u8; 32]);

impl Transcript {
    /// `challenge`: the payload inside the reply's COSE_Sign1.
    pub fn new(hello: HelloDigest, challenge: &[u8]) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"mote/1 transcript");
        hash.update(hello.0);
        hash.update(Sha256::digest(challenge));
        Self(hash.finalize().into())
    }

    /// A transcript hash that was stored.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The hash.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// extraData of the quote that answers `nonce` (TPM2_Quote's qualifyingData).
    pub fn qualifying_data(&self, nonce: &[u8]) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(b"mote/1 quote");
        hash.update(self.0);
        hash.update(nonce);
        hash.finalize().into()
    }

    /// OSCORE Master Secret (RFC 8613, 3.2) from the activated credential. Master Salt stays empty:
    /// the transcript salts the extraction already.
    pub fn master_secret(&self, credential: &[u8]) -> Zeroizing<[u8; 16]> {
        let mut secret = Zeroizing::new([0; 16]);
        let kdf = Hkdf::<Sha256>::new(Some(&self.0), credential);
        // HKDF-Expand fails only above 255 * 32 bytes (RFC 5869, 2.3).
        let _ = kdf.expand(b"mote/1 oscore master secret", &mut *secret);
        secret
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_input_changes_every_output() {
        let transcript =
            |hello: &[u8], challenge: &[u8]| Transcript::new(HelloDigest::of(hello), challenge);
        let base = transcript(b"hello", b"challenge");
        let (secret, quote) = (
            base.master_secret(b"secret"),
            base.qualifying_data(b"nonce"),
        );
        for other in [
            transcript(b"hellp", b"challenge"),
            transcript(b"hello", b"challengf"),
            transcript(b"helloc", b"hallenge"),
        ] {
            assert_ne!(other.master_secret(b"secret"), secret);
            assert_ne!(other.qualifying_data(b"nonce"), quote);
        }
        assert_ne!(base.master_secret(b"secres"), secret);
        assert_ne!(base.qualifying_data(b"noncf"), quote);
    }
}
