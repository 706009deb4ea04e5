//! Hellos that were refused for what they presented, for the operator: why a device that he waits for does
//! not appear. Nothing of them is stored.
//!
//! **Who may lie.** Whoever says hello, about everything, the device's id included; all that is known is that
//! the peer receives at its address. So their number and length are bounded, and the oldest goes.

use mote_schemas::reason::Reason;

use super::outcome::Refusal;
use super::{DeviceId, Peer};

/// Devices remembered, by the id that was claimed.
const MAX: usize = 64;

/// Bytes of the words that are kept.
const MAX_DETAIL: usize = 200;

/// What was refused to those who claimed to be one device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedHello {
    /// The id that was claimed.
    pub device: DeviceId,
    /// Where the last came from.
    pub from: Peer,
    /// Why the last was refused.
    pub reason: Reason,
    /// The same in words.
    pub detail: String,
    /// When the last came, Unix milliseconds.
    pub at: u64,
    /// How many came, since it is remembered.
    pub count: u64,
}

/// Those of this process, the latest last.
#[derive(Default)]
pub(super) struct RefusedHellos(Vec<RefusedHello>);

impl RefusedHellos {
    pub(super) fn note(&mut self, device: DeviceId, from: Peer, refusal: &Refusal, at: u64) {
        let before = self.0.iter().position(|known| known.device == device);
        let count = match before {
            Some(index) => self.0.remove(index).count,
            None if self.0.len() >= MAX => {
                self.0.remove(0);
                0
            }
            None => 0,
        };
        let mut detail = refusal.detail.clone();
        while detail.len() > MAX_DETAIL {
            detail.pop();
        }
        self.0.push(RefusedHello {
            device,
            from,
            reason: refusal.reason,
            detail,
            at,
            count: count + 1,
        });
    }

    /// It was let in after all.
    pub(super) fn forget(&mut self, device: &DeviceId) {
        self.0.retain(|known| known.device != *device);
    }

    pub(super) fn all(&self) -> &[RefusedHello] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_says_hello_takes_no_more_room_than_there_is() {
        let mut refused = RefusedHellos::default();
        let refusal = Refusal::new(Reason::EkCertificateMismatch, &"\u{e9}".repeat(1000));
        let id = |n: u16| DeviceId([n.to_be_bytes(); 8].concat().try_into().unwrap());
        for n in 0..1000 {
            refused.note(id(n), Peer::Stream(1), &refusal, 1);
            refused.note(id(n), Peer::Stream(2), &refusal, 2);
        }
        assert_eq!(refused.all().len(), MAX);
        let last = refused.all().last().unwrap();
        assert_eq!((last.device, last.count, last.at), (id(999), 2, 2));
        assert!(
            refused
                .all()
                .iter()
                .all(|known| known.detail.len() <= MAX_DETAIL)
        );
        refused.forget(&id(999));
        assert_eq!(refused.all().len(), MAX - 1);
    }
}
