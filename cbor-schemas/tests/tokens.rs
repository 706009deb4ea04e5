//! Golden bytes of tokens and wrappers, against our codec and against an independent CDDL validator.
#![allow(clippy::unwrap_used, missing_docs)]

use cddl_cat::validate_cbor_bytes;
use minicbor::encode::write::Cursor;
use mote_schemas::cbor::{self, Bytes};
use mote_schemas::cmw::{self, Cmw, MediaType};
use mote_schemas::eat::{self, Claims, Component, DebugState, Firmware, Token};
use mote_schemas::message::{DeviceId, NonceReply, NonceRequest};
use mote_schemas::tpm::HashAlg;

const CDDL: &str = include_str!("../cddl/token.cddl");
const VECTORS: &str = include_str!("../vectors/tokens.txt");

/// `KIND RULE NAME HEX...`, `#` starts a comment.
fn vectors(kind: &str) -> impl Iterator<Item = (&str, &str, Vec<u8>)> {
    VECTORS.lines().filter_map(move |line| {
        let mut words = line.split('#').next()?.split_whitespace();
        if words.next()? != kind {
            return None;
        }
        let (rule, name) = (words.next()?, words.next()?);
        Some((rule, name, unhex(&words.collect::<String>())))
    })
}

fn unhex(hex: &str) -> Vec<u8> {
    (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
        .collect()
}

fn is_read(rule: &str, bytes: &[u8]) -> bool {
    match rule {
        "nonce-request" => cbor::decode::<NonceRequest>(bytes).is_ok(),
        "nonce-reply" => cbor::decode::<NonceReply<'_>>(bytes).is_ok(),
        "cmw-record" => matches!(Cmw::parse(bytes), Ok(Cmw::Record(_))),
        "eat" => Token::parse(bytes).is_ok(),
        "eat-claims" => Claims::parse(bytes).is_ok(),
        other => panic!("no rule {other}"),
    }
}

#[test]
fn what_may_be_written_is_read_and_what_may_not_is_refused() {
    for (rule, name, bytes) in vectors("valid").chain(vectors("read")) {
        assert!(is_read(rule, &bytes), "{rule} {name}");
        validate_cbor_bytes(rule, CDDL, &bytes).unwrap_or_else(|e| panic!("{rule} {name}: {e}"));
    }
    for (rule, name, bytes) in vectors("invalid") {
        assert!(!is_read(rule, &bytes), "{rule} {name}");
    }
    assert_eq!(vectors("invalid").count(), 14);
}

fn golden(rule: &str, name: &str, write: impl FnOnce(&mut Cursor<&mut [u8]>)) {
    let mut room = [0; 1024];
    let mut cursor = Cursor::new(&mut room[..]);
    write(&mut cursor);
    let len = cursor.position();
    let wanted = vectors("valid")
        .find(|v| (v.0, v.1) == (rule, name))
        .unwrap();
    assert_eq!(room[..len], wanted.2, "{rule} {name}");
}

#[test]
fn encoders_give_the_golden_bytes() {
    golden("nonce-request", "one", |out| {
        let request = NonceRequest {
            version: 1,
            device: DeviceId([0xde; 16]),
        };
        minicbor::encode(request, out).unwrap();
    });
    golden("nonce-reply", "one", |out| {
        let nonce = Bytes::new(&[0x99; 16]).unwrap();
        minicbor::encode(NonceReply { nonce }, out).unwrap();
    });
    let (one, two) = ([0xb1; 32], [0xb2; 32]);
    let component = |name, digest| Component {
        name,
        hash_alg: HashAlg::Sha256,
        digest,
    };
    let components = [component("bootloader", &one), component("app", &two)];
    golden("eat-claims", "two-components", |out| {
        let claims = Claims {
            issued_at: Some(1_800_000_000),
            nonce: &[0x99; 16],
            ueid: Some(&[
                1, 14, 14, 14, 14, 14, 14, 14, 14, 14, 14, 14, 14, 14, 14, 14, 14,
            ]),
            oem_boot: Some(true),
            debug: Some(DebugState::DisabledPermanently),
            boot_count: Some(300),
            software_name: Some("valve"),
            software_version: Some("2.1"),
            measurements: Some(Firmware {
                name: "valve",
                version: Some("2.1"),
                maker: "mcuboot",
                components: &components,
            }),
            ..Claims::default()
        };
        minicbor::encode(claims, out).unwrap();
    });
    golden("eat-claims", "one-component", |out| {
        let claims = Claims {
            nonce: &[7; 8],
            measurements: Some(Firmware {
                name: "v",
                version: None,
                maker: "m",
                components: &[component("a", &one)],
            }),
            ..Claims::default()
        };
        minicbor::encode(claims, out).unwrap();
    });
    golden("cmw-record", "by-format", |out| {
        cmw::write_evidence(MediaType::ContentFormat(263), &[1, 2, 3], out).unwrap();
    });
    golden("cmw-record", "by-name", |out| {
        cmw::write_evidence(MediaType::Name(eat::MEDIA_TYPE), &[1, 2, 3], out).unwrap();
    });
    // The golden token has no tag, since the validator knows none.
    let mut room = [0; 256];
    let mut cursor = Cursor::new(&mut room[..]);
    eat::write(
        &DeviceId([0xde; 16]),
        &[0xa1, 0x0a, 0x48, 7, 7, 7, 7, 7, 7, 7, 7],
        &[7; 64],
        &mut cursor,
    )
    .unwrap();
    let len = cursor.position();
    let wanted = vectors("valid").find(|v| v.0 == "eat").unwrap();
    assert_eq!(room[..len], [&[0xd2], &wanted.2[..]].concat());
}
