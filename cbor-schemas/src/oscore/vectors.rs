//! RFC 8613, appendix C, byte for byte. The values are in `vectors/oscore/`.

extern crate std;

use std::vec::Vec;

use super::client::SentRequest;
use super::context::{Context, write_plaintext};
use super::crypto::{self, Aad};
use super::server::Unprotected;
use crate::coap::{Code, Message, option};

struct Vector(&'static str);

impl Vector {
    fn get(&self, name: &str) -> Option<Vec<u8>> {
        let line = self
            .0
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(" ="))?;
        let hex = line.trim();
        Some(
            (0..hex.len())
                .step_by(2)
                .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
                .collect(),
        )
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        self.get(name)
            .unwrap_or_else(|| panic!("no {name} in {}", self.0))
    }

    fn sequence(&self) -> u64 {
        self.bytes("sender_sequence")[0].into()
    }

    fn context(&self, sender: &str, recipient: &str) -> Context {
        Context::derive(
            &self.bytes("master_secret"),
            &self.get("master_salt").unwrap_or_default(),
            self.get("id_context").as_deref(),
            &self.bytes(sender),
            &self.bytes(recipient),
        )
        .unwrap()
    }

    fn client(&self) -> Context {
        self.context("client_id", "server_id")
    }

    fn server(&self) -> Context {
        self.context("server_id", "client_id")
    }
}

macro_rules! vector {
    ($name:ident, $file:literal) => {
        const $name: Vector = Vector(include_str!(concat!(
            "../../vectors/oscore/rfc8613-",
            $file,
            ".txt"
        )));
    };
}
vector!(C1, "c1");
vector!(C2, "c2");
vector!(C3, "c3");
vector!(C4, "c4");
vector!(C5, "c5");
vector!(C6, "c6");
vector!(C7, "c7");
vector!(C8, "c8");

#[test]
fn key_derivation_c1_c2_c3() {
    for vector in [C1, C2, C3] {
        let (client, server) = (vector.client(), vector.server());
        for (name, found) in [
            ("client_key", &client.sender_key[..]),
            ("client_key", &server.recipient_key),
            ("server_key", &client.recipient_key),
            ("server_key", &server.sender_key),
            ("common_iv", &client.common_iv),
            ("common_iv", &server.common_iv),
        ] {
            assert_eq!(vector.bytes(name), found, "{name} of {}", vector.0);
        }
        for (name, id) in [
            ("client_nonce", &client.sender_id),
            ("server_nonce", &client.recipient_id),
        ] {
            let nonce = crypto::nonce(&client.common_iv, id, 0);
            assert_eq!(vector.bytes(name), nonce, "{name} of {}", vector.0);
        }
    }
}

/// The intermediate values of C.4 to C.8, each where the RFC shows it.
fn check_parts(vector: &Vector, request_kid: &[u8], context: &Context, nonce_id: &[u8], iv: u64) {
    let unprotected = vector.bytes("unprotected");
    let message = Message::parse(&unprotected).unwrap();
    assert_eq!(vector.bytes("aad"), Aad::new(request_kid, 20).bytes());
    let nonce = crypto::nonce(&context.common_iv, nonce_id, iv);
    assert_eq!(vector.bytes("nonce"), nonce);
    let mut plaintext = [0; 64];
    let length = write_plaintext(message.body(), &mut plaintext).unwrap();
    assert_eq!(vector.bytes("plaintext"), &plaintext[..length]);
    let protected = vector.bytes("protected");
    assert!(protected.ends_with(&vector.bytes("ciphertext")));
}

#[test]
fn requests_c4_c5_c6() {
    for (keys, vector) in [(C1, C4), (C2, C5), (C3, C6)] {
        let mut client = keys.client();
        let kid = client.sender_id.clone();
        check_parts(&vector, &kid, &client, &kid, vector.sequence());

        client.set_sender_sequence(vector.sequence()).unwrap();
        let unprotected = vector.bytes("unprotected");
        let request = Message::parse(&unprotected).unwrap();
        let mut out = [0; 128];
        let (length, sent) = client.protect_request(&request, &mut out).unwrap();
        assert_eq!(vector.bytes("protected"), &out[..length]);
        assert_eq!(sent.sequence(), 20);
        assert_eq!(client.sender_sequence(), 21);

        let protected = vector.bytes("protected");
        let outer = Message::parse(&protected).unwrap();
        let mut inner = [0; 64];
        let Unprotected::Fresh(opened) =
            keys.server().unprotect_request(&outer, &mut inner).unwrap()
        else {
            panic!("a new context's window is not lost");
        };
        assert_eq!(opened.body.code(), Code::GET);
        assert!(opened.body.path_is(&["tv1"]));
        assert_eq!(opened.body.options().count(), 1);
        assert_eq!(outer.option(option::URI_HOST).unwrap().value, b"localhost");
    }
}

#[test]
fn responses_c7_c8() {
    for (vector, own_partial_iv) in [(C7, false), (C8, true)] {
        let mut server = C1.server();
        let request = C4.bytes("protected");
        let mut inner = [0; 64];
        let Unprotected::Fresh(opened) = server
            .unprotect_request(&Message::parse(&request).unwrap(), &mut inner)
            .unwrap()
        else {
            panic!("a new context's window is not lost");
        };
        let kid = server.recipient_id.clone();
        let (nonce_id, iv) = if own_partial_iv {
            (server.sender_id.clone(), vector.sequence())
        } else {
            (kid.clone(), 20)
        };
        check_parts(&vector, &kid, &server, &nonce_id, iv);

        let unprotected = vector.bytes("unprotected");
        let response = Message::parse(&unprotected).unwrap();
        let mut out = [0; 128];
        let length = if own_partial_iv {
            server.protect_response(&opened.request, &response, &mut out)
        } else {
            server.protect_response_with_request_nonce(opened.request, &response, &mut out)
        };
        assert_eq!(vector.bytes("protected"), &out[..length.unwrap()]);
        assert_eq!(server.sender_sequence(), u64::from(own_partial_iv));

        let protected = vector.bytes("protected");
        let outer = Message::parse(&protected).unwrap();
        let sent = SentRequest { sequence: 20 };
        let mut inner = [0; 64];
        let body = C1.client().unprotect_response(&sent, &outer, &mut inner);
        assert_eq!(body.unwrap(), response.body());
    }
}

#[test]
fn debug_prints_no_keys() {
    let context = C1.client();
    let shown = std::format!("{context:?}");
    assert!(shown.contains("sender_sequence"), "{shown}");
    for key in [context.sender_key, context.recipient_key] {
        assert!(!shown.contains(&std::format!("{key:?}")), "{shown}");
    }
}
