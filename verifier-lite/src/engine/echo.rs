//! Echo challenges without state (RFC 9175, 2): whoever returns the value receives at the address
//! that it was sent to.
//!
//! The value is a MAC over address and time slot under a key that dies with the process. Forging one
//! needs the key; replaying one from another address fails; an old one stops counting by itself.

use std::net::SocketAddr;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use mote_schemas::time::Instant;

/// Length of a value: 2^-64 for a guess, and little to carry.
pub(super) const ECHO: usize = 8;

/// A value counts for its slot and the next one: between one and two of these, in milliseconds.
/// More than a round trip with retransmissions on a link that takes minutes.
const SLOT: u64 = 600_000;

/// Makes and checks challenges.
pub(super) struct EchoKey(hmac::Key);

impl EchoKey {
    pub(super) fn new(secret: &[u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    pub(super) fn challenge(&self, peer: &SocketAddr, now: Instant) -> [u8; ECHO] {
        self.value(peer, now.0 / SLOT)
    }

    pub(super) fn accepts(&self, peer: &SocketAddr, now: Instant, echo: &[u8]) -> bool {
        let slot = now.0 / SLOT;
        [Some(slot), slot.checked_sub(1)]
            .into_iter()
            .flatten()
            .any(|slot| verify_slices_are_equal(&self.value(peer, slot), echo).is_ok())
    }

    fn value(&self, peer: &SocketAddr, slot: u64) -> [u8; ECHO] {
        let mut mac = hmac::Context::with_key(&self.0);
        match peer {
            SocketAddr::V4(v4) => mac.update(&v4.ip().octets()),
            SocketAddr::V6(v6) => mac.update(&v6.ip().octets()),
        }
        mac.update(&peer.port().to_be_bytes());
        mac.update(&slot.to_be_bytes());
        let mut value = [0; ECHO];
        value.copy_from_slice(&mac.sign().as_ref()[..ECHO]);
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_counts_from_its_own_address_and_for_a_while() {
        let key = EchoKey::new(&[7; 32]);
        let peer: SocketAddr = "192.0.2.1:5683".parse().unwrap();
        let t0 = Instant(10 * SLOT + 1);
        let echo = key.challenge(&peer, t0);
        assert!(key.accepts(&peer, t0, &echo));
        assert!(key.accepts(&peer, Instant(t0.0 + SLOT), &echo));
        assert!(!key.accepts(&peer, Instant(t0.0 + 2 * SLOT), &echo));
        assert!(!key.accepts(&"192.0.2.1:5684".parse().unwrap(), t0, &echo));
        assert!(!key.accepts(&"192.0.2.2:5683".parse().unwrap(), t0, &echo));
        assert!(!key.accepts(&peer, t0, &echo[..7]));
        assert!(!key.accepts(&peer, t0, b""));
        assert!(!EchoKey::new(&[8; 32]).accepts(&peer, t0, &echo));
        assert!(key.accepts(&peer, Instant(5), &key.challenge(&peer, Instant(0))));
    }
}
