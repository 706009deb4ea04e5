//! Devices without a TPM: tokens in wrappers, from the endorsement of a key to the result.
#![allow(clippy::unwrap_used, missing_docs)]

mod appraisal;
mod refusals;
mod robustness;

use std::net::SocketAddr;

use mote_schemas::cbor;
use mote_schemas::coap::{Code, Message};
use mote_schemas::message::{ErrorReply, Reasons, Tier, path};
use mote_tests::Lab;
use mote_tests::token_device::{TokenDevice, post, verified_reply};
use mote_verifier::admin::{Request, Response};

const PEER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 4711);

/// A verifier that knows a firmware, and a device whose key is endorsed.
struct Bench {
    lab: Lab,
    device: TokenDevice,
    message_id: u16,
    /// The longest answer, as a share of its question.
    worst: f64,
}

/// What became of a token.
#[derive(Clone, Debug, PartialEq)]
enum Answer {
    Verdict(Tier, Vec<String>, Vec<u8>),
    Refused(Code, String),
}

impl Bench {
    fn new() -> Self {
        let mut bench = Bench {
            lab: Lab::new(),
            device: TokenDevice::new(&[0x11; 32]),
            message_id: 0,
            worst: 0.0,
        };
        bench.lab.add_firmware("2.1", &["bootloader", "app"]);
        let device = bench.device.clone();
        bench.lab.endorse(&device, Some("valve-12"));
        bench
    }

    fn ask(&mut self, request: &Request) -> Response {
        self.lab.ask(request)
    }

    /// One datagram there and back: code and payload. No answer is longer than its question.
    fn exchange(&mut self, to: &str, payload: &[u8]) -> (Code, Vec<u8>) {
        self.message_id += 1;
        let datagram = post(to, self.message_id, payload);
        self.datagram(&datagram)
    }

    fn datagram(&mut self, datagram: &[u8]) -> (Code, Vec<u8>) {
        let reply = self.lab.handle(PEER, datagram).unwrap();
        assert!(
            reply.len() <= datagram.len(),
            "{} for {}",
            reply.len(),
            datagram.len()
        );
        #[expect(clippy::cast_precision_loss, reason = "a few hundred bytes")]
        let share = reply.len() as f64 / datagram.len() as f64;
        self.worst = self.worst.max(share);
        let message = Message::parse(&reply).unwrap();
        (message.code(), message.payload().to_vec())
    }

    fn nonce(&mut self) -> Vec<u8> {
        let (code, payload) = self.exchange(path::NONCE, &self.device.nonce_request());
        assert_eq!(code, Code::CONTENT);
        TokenDevice::nonce_of(&payload).unwrap()
    }

    /// Sends this wrapper, and checks the verifier's signature under a verdict.
    fn send(&mut self, wrapper: &[u8]) -> Answer {
        let (code, payload) = self.exchange(path::EVIDENCE, wrapper);
        if code != Code::CHANGED {
            let reason =
                cbor::decode::<ErrorReply<'_>>(&payload).map(|e| e.reason.get().to_owned());
            return Answer::Refused(code, reason.unwrap_or_default());
        }
        let verifier = *self.lab.key().public_key().point();
        let reply = verified_reply(&verifier, wrapper, &payload).unwrap();
        // Not for another wrapper, and not by another verifier.
        assert_eq!(verified_reply(&verifier, &wrapper[1..], &payload), None);
        assert_eq!(
            verified_reply(&self.device.point(), wrapper, &payload),
            None
        );
        let reasons = reply.reasons.iter().flat_map(Reasons::tokens);
        Answer::Verdict(
            reply.tier,
            reasons.map(ToOwned::to_owned).collect(),
            reply.nonce.unwrap().value.get().to_vec(),
        )
    }

    /// Sends this wrapper; only the code of the answer.
    fn send_unchecked(&mut self, wrapper: &[u8]) -> Code {
        self.exchange(path::EVIDENCE, wrapper).0
    }

    /// A nonce, a token, a verdict.
    fn attest(&mut self) -> (Tier, Vec<String>) {
        let nonce = self.nonce();
        let wrapper = self.device.wrapped(&nonce);
        match self.send(&wrapper) {
            Answer::Verdict(tier, reasons, _) => (tier, reasons),
            refused @ Answer::Refused(..) => panic!("{refused:?}"),
        }
    }
}

fn refused(code: Code, reason: &str) -> Answer {
    Answer::Refused(code, reason.to_owned())
}
