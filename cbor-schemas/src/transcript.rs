//! What binds keys and quotes to one conversation.
//!
//! Both sides hash the same hello and the same challenge. The session's keys come from the secret
//! that only the enrolled TPM can activate, salted with that hash; every quote carries it too, so a
//! quote made for one conversation is worth nothing in another.

use core::fmt;

use hkdf::Hkdf;
use sha2::{Digest, Sha256};
use zeroize::Zeroize;

/// SHA-256 of hello's payload as it travelled: all that either side keeps of it, and the
/// Input keying material of one OSCORE session. Wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct SessionSecret {
    /// Master Secret.
    pub master_secret: [u8; 16],
    /// Master Salt.
    pub master_salt: [u8; 8],
}

impl fmt::Debug for SessionSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionSecret(..)")
    }
}

impl Drop for SessionSecret {
    fn drop(&mut self) {
        self.master_secret.zeroize();
        self.master_salt.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_input_changes_every_output() {
        let transcript = |hello, challenge| Transcript::new(HelloDigest::of(hello), challenge);
        let base = transcript(b"hello", b"challenge");
        let (secret, quote) = (
            base.session_secret(b"secret"),
            base.qualifying_data(b"nonce"),
        );
        for other in [
            transcript(b"hellp", b"challenge"),
            transcript(b"hello", b"challengf"),
            transcript(b"helloc", b"hallenge"),
        ] {
            assert_ne!(other.session_secret(b"secret"), secret);
            assert_ne!(other.qualifying_data(b"nonce"), quote);
        }
        assert_ne!(base.session_secret(b"secres"), secret);
        assert_ne!(base.qualifying_data(b"noncf"), quote);
        assert_ne!(secret.master_secret[..8], secret.master_salt);
    }
}
