//! What becomes of a request: a reply, or a refusal with its reason.

use mote_schemas::cbor::{self, Text};
use mote_schemas::coap::{Block, Code, Message};
use mote_schemas::message::ErrorReply;
use mote_schemas::reason::Reason;

use super::response;

/// Why a message is refused. Nothing that is stored has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) reason: Reason,
    /// For a person.
    pub(super) detail: String,
}

impl Refusal {
    pub(super) fn new(reason: Reason, detail: &(impl ToString + ?Sized)) -> Self {
        Refusal {
            reason,
            detail: detail.to_string(),
        }
    }

    /// The `error` map of `mote.cddl`.
    pub(super) fn encode(&self, with_detail: bool) -> Vec<u8> {
        let error = ErrorReply {
            reason: Text::truncated(self.reason.token()),
            detail: (with_detail && !self.detail.is_empty()).then(|| Text::truncated(&self.detail)),
        };
        let mut payload = vec![0; 256];
        // 40 + 160 bytes and their heads.
        let len = cbor::encode(&error, &mut payload).unwrap_or(0);
        payload.truncate(len);
        payload
    }
}

/// The answer to one request.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Unprotected, to an address that may be anybody's: never longer than the request.
    Clear {
        code: Code,
        options: Vec<(u16, Vec<u8>)>,
        payload: Vec<u8>,
        refusal: Option<Refusal>,
        /// The address has shown that it receives what we send there.
        verified: bool,
    },
    /// A complete protected message for whoever holds the session's keys.
    Protected(Vec<u8>),
}

impl Outcome {
    pub(super) fn clear(code: Code) -> Self {
        Outcome::Clear {
            code,
            options: Vec::new(),
            payload: Vec::new(),
            refusal: None,
            verified: false,
        }
    }

    pub(super) fn refused(code: Code, refusal: Refusal) -> Self {
        Outcome::Clear {
            code,
            options: Vec::new(),
            payload: Vec::new(),
            refusal: Some(refusal),
            verified: false,
        }
    }

    pub(super) fn option(mut self, number: u16, value: &[u8]) -> Self {
        if let Outcome::Clear { options, .. } = &mut self {
            options.push((number, value.to_vec()));
            // As they are written.
            options.sort_by_key(|(number, _)| *number);
        }
        self
    }

    /// A Block1 or Block2 option.
    pub(super) fn block(self, number: u16, block: Block) -> Self {
        let value = block.encode().to_be_bytes();
        let skip = block.encode().leading_zeros() as usize / 8;
        self.option(number, &value[skip..])
    }

    pub(super) fn payload(mut self, bytes: Vec<u8>) -> Self {
        if let Outcome::Clear { payload, .. } = &mut self {
            *payload = bytes;
        }
        self
    }

    pub(super) fn for_verified_address(mut self) -> Self {
        if let Outcome::Clear { verified, .. } = &mut self {
            *verified = true;
        }
        self
    }

    /// The datagram. To an unverified address it is at most `received` bytes long: first the words
    /// go, then the reason, then the whole reply.
    pub(super) fn encode(self, request: &Message<'_>, received: usize) -> Option<Vec<u8>> {
        let (code, options, payload, refusal, verified) = match self {
            Outcome::Protected(datagram) => return Some(datagram),
            Outcome::Clear {
                code,
                options,
                payload,
                refusal,
                verified,
            } => (code, options, payload, refusal, verified),
        };
        let payloads = match refusal {
            Some(refusal) => vec![refusal.encode(true), refusal.encode(false), Vec::new()],
            None => vec![payload],
        };
        payloads
            .iter()
            .filter_map(|payload| response(request, code, &options, payload).ok())
            .find(|datagram| verified || datagram.len() <= received)
    }
}
