//! What a session tells its owner.

use core::fmt::Write as _;
use core::time::Duration;

use heapless::{String, Vec};
use mote_schemas::cbor::{self, Text};
use mote_schemas::coap::Code;
use mote_schemas::message::{DeviceId, ErrorReply, Tier};

use super::DeviceError;

/// A reason token as it came from the verifier; it may be newer than our registry.
pub type Token = String<40>;

/// Something that an operator, a status file or an exit code wants to know.
#[derive(Debug)]
pub enum Event {
    /// hello is done: the verifier is the pinned one, and session keys are in place.
    SessionOpened {
        /// By which name the verifier knows this device.
        device: DeviceId,
    },
    /// The verifier has everything it asked for and says what it thinks.
    Appraised {
        /// Its verdict.
        tier: Tier,
        /// Why, unless affirming.
        reasons: Vec<Token, 8>,
        /// Records of the measurement list that it has.
        records: u64,
        /// Time until the next heartbeat.
        next: Duration,
    },
    /// The verifier refused a message.
    Refused {
        /// Its reason.
        reason: Token,
        /// Its words.
        detail: String<160>,
        /// Time until we try again.
        retry: Duration,
    },
    /// Something answered hello, but not the pinned verifier; ignored.
    NotTheVerifier(crate::verifier_key::ChallengeError),
    /// No answer. Nothing is lost: the kernel keeps the list.
    Unreachable {
        /// Time until we try again.
        retry: Duration,
    },
    /// The TPM or the measurement list failed us.
    Device {
        /// How.
        error: DeviceError,
        /// Time until we try again.
        retry: Duration,
    },
}

impl Event {
    /// From an error reply, which may carry anything.
    pub(super) fn refused(code: Code, payload: &[u8], retry: Duration) -> Self {
        let (mut reason, mut detail) = (Token::new(), String::new());
        if let Ok(error) = cbor::decode::<ErrorReply<'_>>(payload) {
            // Within bounds: the decoder's are these.
            let _ = reason.push_str(error.reason.get());
            let _ = detail.push_str(error.detail.map_or("", Text::get));
        } else {
            let _ = write!(reason, "coap-{code}");
        }
        Event::Refused {
            reason,
            detail,
            retry,
        }
    }
}
