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
use mote_tests::soft_device::digest_of;
use mote_tests::token_device::{TokenDevice, post, verified_reply};
use mote_verifier::admin::{self, Effect, Request, Response};
use mote_verifier::manifest::{ComponentEntry, FileDigest, Manifest, StaticPcrs, sign};
use mote_verifier::policy::trust_and_add;
use mote_verifier::signing_key::{PublicKey, SigningKey};
use mote_verifier::store::Durability;

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
        bench.add_firmware("2.1", &["bootloader", "app"]);
        let device = bench.device.clone();
        bench.endorse(&device, Some("valve-12"));
        bench
    }

    /// Stores a manifest of `valve`, each of whose components contains its own name.
    fn add_firmware(&mut self, version: &str, components: &[&str]) {
        let components = components.iter().map(|name| ComponentEntry {
            name: (*name).to_owned(),
            digests: vec![FileDigest(digest_of(name))],
        });
        let manifest = Manifest::new("valve", version, None, vec![], vec![], StaticPcrs::new())
            .and_then(|manifest| manifest.with_firmware(components.collect()))
            .unwrap();
        let key = SigningKey::generate().unwrap();
        let signed = sign(&manifest, &key).unwrap();
        let changes = trust_and_add(key.public_key(), signed).unwrap();
        let store = self.lab.engine().store();
        store.commit(&changes, Durability::Immediate).unwrap();
    }

    fn ask(&mut self, request: &Request) -> Response {
        let now = self.lab.now().unix;
        let mut office = self.lab.engine().office();
        let (response, effect) = admin::handle(&mut office, now, request);
        match effect {
            Some(Effect::AdmissionChanged(id) | Effect::DeviceRemoved(id)) => {
                self.lab.engine().device_changed(&id);
            }
            Some(Effect::PolicyChanged) => {
                self.lab.engine().sweep(now, 100).unwrap();
            }
            _ => {}
        }
        response
    }

    fn endorse(&mut self, device: &TokenDevice, name: Option<&str>) {
        let key = PublicKey::from_point(&device.point()).unwrap();
        let response = self.ask(&Request::DeviceEndorse {
            pem: key.to_pem().unwrap(),
            ueid: device
                .ueid
                .as_ref()
                .map(|ueid| mote_tests::hex::encode(ueid)),
            by: "ann".into(),
            name: name.map(ToOwned::to_owned),
        });
        let Response::Changed(summary) = response else {
            panic!("{response:?}");
        };
        // What the device computes of its key is what the verifier does.
        assert_eq!(summary.id, device.id().to_string());
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
