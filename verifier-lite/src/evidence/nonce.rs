//! Nonces that need no memory: whoever asks for one costs nothing to keep.
//!
//! A nonce is the time at which it was given out and a MAC over that and the device, under a secret that follows
//! from the verifier's key. So only this verifier makes them, each for one device, and restarts lose none. It is used
//! up once a token has answered it or a later one: the store remembers the time of the last.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use mote_schemas::message::DeviceId;

use crate::signing_key::{KeyError, SigningKey};

/// Bytes of the time, Unix milliseconds: enough for 8,900 years.
const TIME: usize = 6;

/// Bytes of a nonce: 2^-80 for a guess that the verifier checks.
pub(crate) const LENGTH: usize = 16;

/// Makes and recognises nonces.
pub(crate) struct Nonces(hmac::Key);

impl Nonces {
    pub(crate) fn new(key: &SigningKey) -> Result<Self, KeyError> {
        let secret = key.derive(b"nonces of tokens")?;
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &secret)))
    }

    /// The nonce for this device, given out at `at`, Unix milliseconds.
    pub(crate) fn make(&self, device: &DeviceId, at: u64) -> [u8; LENGTH] {
        let mut nonce = [0; LENGTH];
        nonce[..TIME].copy_from_slice(&at.to_be_bytes()[8 - TIME..]);
        let mut mac = hmac::Context::with_key(&self.0);
        mac.update(&device.0);
        mac.update(&nonce[..TIME]);
        nonce[TIME..].copy_from_slice(&mac.sign().as_ref()[..LENGTH - TIME]);
        nonce
    }

    /// When this nonce was given to this device; `None`: it was not.
    pub(crate) fn given_at(&self, device: &DeviceId, nonce: &[u8]) -> Option<u64> {
        let mut time = [0; 8];
        time[8 - TIME..].copy_from_slice(nonce.get(..TIME)?);
        let at = u64::from_be_bytes(time);
        verify_slices_are_equal(&self.make(device, at), nonce).ok()?;
        Some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_is_for_one_device_of_one_verifier() {
        let key = SigningKey::generate().unwrap();
        let nonces = Nonces::new(&key).unwrap();
        let (device, other) = (DeviceId([1; 16]), DeviceId([2; 16]));
        let nonce = nonces.make(&device, 1_800_000_000_123);
        assert_eq!(nonces.given_at(&device, &nonce), Some(1_800_000_000_123));
        // After a restart, too.
        let again = Nonces::new(&key).unwrap();
        assert_eq!(again.given_at(&device, &nonce), Some(1_800_000_000_123));
        assert_eq!(nonces.given_at(&other, &nonce), None);
        let stranger = Nonces::new(&SigningKey::generate().unwrap()).unwrap();
        assert_eq!(stranger.given_at(&device, &nonce), None);
        for bit in 0..8 * LENGTH {
            let mut changed = nonce;
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(nonces.given_at(&device, &changed), None, "bit {bit}");
        }
        assert_eq!(nonces.given_at(&device, &nonce[..15]), None);
        assert_eq!(nonces.given_at(&device, b""), None);
    }
}
