//! CBOR that is cut short, too large, spelled a second way, or of the wrong shape: in each of the four
//! messages.

use mote_schemas::coap::Code;
use mote_tests::evil::{self, Answer, Keys, encode, log_payload};
use mote_tests::soft_tpm::SoftTpm;
use mote_tests::{Evil, Lab};

use super::{assert_goes_on, assert_refused, with_trusted};

/// `{0: ..., ...}` spoiled in every way that does not depend on the message.
fn spoiled(good: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    assert!((0xa2..=0xb7).contains(&good[0]), "a small map");
    let entries = good[0] - 0xa0;
    let mut all: Vec<(&'static str, Vec<u8>)> = (0..good.len())
        .step_by(1 + good.len() / 40)
        .map(|end| ("cut short", good[..end].to_vec()))
        .collect();
    let spelled = |head: &[u8], rest: &[u8]| [head, rest].concat();
    all.push(("bytes behind", spelled(good, &[0])));
    all.push(("a second item", spelled(good, good)));
    all.push((
        "map head not shortest",
        spelled(&[0xb8, entries], &good[1..]),
    ));
    all.push(("key not shortest", spelled(&[good[0], 0x18, 0], &good[2..])));
    all.push((
        "indefinite map",
        spelled(&[0xbf], &spelled(&good[1..], &[0xff])),
    ));
    let (key, value) = first_entry(good);
    let again = [key, value].concat();
    all.push((
        "duplicate key",
        [&[good[0] + 1][..], &again, &good[1..]].concat(),
    ));
    all.push((
        "keys out of order",
        [&[good[0]][..], &good[1 + again.len()..], &again].concat(),
    ));
    all.push((
        "first key missing",
        [&[good[0] - 1][..], &good[1 + again.len()..]].concat(),
    ));
    all.push(("tagged", spelled(&[0xd9, 0xd9, 0xf7], good)));
    all.push(("an array", spelled(&[0x80 + entries], &good[1..])));
    all.push(("nothing", Vec::new()));
    all.push(("a number", vec![0]));
    all.push(("null", vec![0xf6]));
    all.push(("nested for ever", vec![0x81; 2000]));
    all.push(("an array of 2^64 items", [&[0x9b][..], &[0xff; 8]].concat()));
    all.push(("a string of 2^64 bytes", [&[0x5b][..], &[0xff; 8]].concat()));
    all
}

/// The first key and value of a small map whose keys are small integers.
fn first_entry(map: &[u8]) -> (&[u8], &[u8]) {
    let value = &map[2..];
    let length = mote_schemas::cbor::item_len(value).unwrap();
    (&map[1..2], &value[..length])
}

/// Replaces the value of the first key by each other type.
fn confused(good: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let (_, value) = first_entry(good);
    let rest = &good[2 + value.len()..];
    let with = |value: &[u8]| [&good[..2], value, rest].concat();
    vec![
        ("text for something else", with(b"\x61x")),
        ("negative for something else", with(&[0x20])),
        ("null for something else", with(&[0xf6])),
        ("true for something else", with(&[0xf5])),
        ("a float for something else", with(&[0xf9, 0x3c, 0x00])),
        ("a map for something else", with(&[0xa0])),
    ]
}

#[track_caller]
fn assert_malformed(answer: &Answer, what: &str) {
    assert_eq!(answer.code, Code::BAD_REQUEST, "{what}: {answer:?}");
}

#[test]
fn in_hello_is_refused_before_anything_else() {
    let (mut lab, mut evil) = with_trusted();
    let before = lab.stored();
    let good = evil.hello_payload(true);
    for (what, payload) in spoiled(&good).into_iter().chain(confused(&good)) {
        let datagram = evil.clear("h", None, &payload);
        let answer = evil.send(&mut lab, &datagram);
        assert_malformed(&answer, what);
        assert!(answer.datagram.len() <= datagram.len(), "{what}");
        if datagram.len() >= 100 {
            assert_refused(&answer, "message-malformed", &before, &mut lab);
        }
    }
    assert_goes_on(&mut lab, &mut evil);
}

#[test]
fn in_hello_with_fields_out_of_bounds_is_refused() {
    let (mut lab, mut evil) = with_trusted();
    let before = lab.stored();
    let id = evil.id().0;
    let keys = |ek: usize, ak: usize, certificate: Option<usize>| Keys {
        ek: vec![1; ek],
        ak: vec![1; ak],
        certificate: certificate.map(|len| vec![0x30; len]),
    };
    for payload in [
        evil::hello_payload(1, &[0; 15], &id, Some(&keys(100, 100, None))),
        evil::hello_payload(1, &[0; 17], &id, Some(&keys(100, 100, None))),
        evil::hello_payload(1, &[0; 16], &id[..15], Some(&keys(100, 100, None))),
        evil::hello_payload(1, &[0; 16], &id, Some(&keys(641, 100, None))),
        evil::hello_payload(1, &[0; 16], &id, Some(&keys(100, 641, None))),
        evil::hello_payload(1, &[0; 16], &id, Some(&keys(0, 100, None))),
        evil::hello_payload(1, &[0; 16], &id, Some(&keys(100, 100, Some(2049)))),
        evil::hello_payload(1, &[0; 16], &id, Some(&keys(100, 100, Some(0)))),
        evil::hello_payload(1, &[0; 16], &id, Some(&keys(20_000, 20_000, Some(10_000)))),
    ] {
        let answer = evil.knock(&mut lab, &payload);
        assert_refused(&answer, "message-malformed", &before, &mut lab);
    }
    let other = evil::hello_payload(2, &[0; 16], &id, Some(&keys(100, 100, None)));
    let answer = evil.knock(&mut lab, &other);
    assert_refused(&answer, "version-unsupported", &before, &mut lab);
    assert_goes_on(&mut lab, &mut evil);
}

#[test]
fn in_open_is_refused_and_the_challenge_waits_on() {
    let mut lab = Lab::new();
    let mut evil = Evil::new(1);
    evil.hello(&mut lab);
    let before = lab.stored();
    let good = evil.open_payload(&evil.quote(), 1);
    for (what, payload) in spoiled(&good).into_iter().chain(confused(&good)) {
        let answer = evil.ask(&mut lab, "o", &payload);
        assert_malformed(&answer, what);
        assert_refused(&answer, "message-malformed", &before, &mut lab);
    }
    let answer = evil.open(&mut lab);
    assert_eq!(answer.reason(), "admission-pending");
}

#[test]
fn in_log_is_refused() {
    let (mut lab, mut evil) = with_trusted();
    let before = lab.stored();
    let good = log_payload(3, &evil.device.list.0[1..]);
    for (what, payload) in spoiled(&good).into_iter().chain(confused(&good)) {
        let answer = evil.ask(&mut lab, "l", &payload);
        assert_malformed(&answer, what);
        assert_refused(&answer, "message-malformed", &before, &mut lab);
    }
    assert_goes_on(&mut lab, &mut evil);
}

#[test]
fn in_beat_is_refused() {
    let (mut lab, mut evil) = with_trusted();
    let before = lab.stored();
    let good = evil.beat_payload(&evil.quote(), 0, &evil.device.list.0);
    for (what, payload) in spoiled(&good).into_iter().chain(confused(&good)) {
        let answer = evil.ask(&mut lab, "b", &payload);
        assert_malformed(&answer, what);
        assert_refused(&answer, "message-malformed", &before, &mut lab);
    }
    assert_goes_on(&mut lab, &mut evil);
}

#[test]
fn entries_that_are_no_records_are_refused() {
    let (mut lab, mut evil) = with_trusted();
    let before = lab.stored();
    let record = evil.device.list.0[1].template_data().to_vec();
    let entry = |write: &dyn Fn(&mut minicbor::Encoder<Vec<u8>>)| {
        encode(|e| {
            e.map(2)?.u8(0)?.u8(3)?.u8(1)?.array(1)?;
            write(e);
            Ok(())
        })
    };
    // Writing to memory cannot fail.
    let entries: Vec<(&str, Vec<u8>)> = vec![
        ("no array", entry(&|e| drop(e.u8(1)))),
        ("one item", entry(&|e| drop(e.array(1).unwrap().u8(1)))),
        ("template id 8", {
            entry(&|e| drop(e.array(2).unwrap().u8(8).unwrap().bytes(&record)))
        }),
        ("empty template", {
            entry(&|e| drop(e.array(2).unwrap().str("").unwrap().bytes(&record)))
        }),
        ("long template", {
            let name = "x".repeat(257);
            entry(&|e| drop(e.array(2).unwrap().str(&name).unwrap().bytes(&record)))
        }),
        ("PCR 24", {
            entry(&|e| {
                let e = e.array(3).unwrap().u8(1).unwrap();
                drop(e.bytes(&record).unwrap().u8(24));
            })
        }),
        ("a violation that is none", {
            entry(&|e| {
                let e = e.array(4).unwrap().u8(1).unwrap();
                drop(e.bytes(&record).unwrap().u8(10).unwrap().bool(false));
            })
        }),
        ("data is text", {
            entry(&|e| drop(e.array(2).unwrap().u8(1).unwrap().str("data")))
        }),
    ];
    for (what, payload) in entries {
        let answer = evil.ask(&mut lab, "l", &payload);
        assert_eq!(answer.reason(), "record-malformed", "{what}: {answer:?}");
        assert_refused(&answer, "record-malformed", &before, &mut lab);
    }
    assert_goes_on(&mut lab, &mut evil);
}

#[test]
fn a_protected_message_too_large_for_us_is_refused() {
    let (mut lab, mut evil) = with_trusted();
    let before = lab.stored();
    let payload = log_payload(3, &vec![evil.device.list.0[1].clone(); 100]);
    assert!(payload.len() > mote_schemas::limits::MAX_MESSAGE);
    let datagram = evil.protect("l", None, &payload);
    let answer = evil.send(&mut lab, &datagram);
    assert_eq!(answer.code, Code::REQUEST_ENTITY_TOO_LARGE);
    assert_refused(&answer, "oscore-invalid", &before, &mut lab);
    assert_goes_on(&mut lab, &mut evil);
}

#[test]
fn keys_that_are_no_tpm_structures_are_refused() {
    let mut lab = Lab::new();
    let mut evil = Evil::new(1);
    let before = lab.stored();
    let (ek, ak) = (
        evil.device.tpm.ek_public().to_vec(),
        evil.device.tpm.ak_public().to_vec(),
    );
    let mut hello = |ek: Vec<u8>, ak: Vec<u8>| {
        let id = mote_schemas::message::DeviceId::of_ek(&ek);
        let keys = Keys {
            ek,
            ak,
            certificate: None,
        };
        let payload = evil::hello_payload(1, &[7; 16], &id.0, Some(&keys));
        evil.knock(&mut lab, &payload)
    };
    for end in 1..ek.len() {
        let answer = hello(ek[..end].to_vec(), ak.clone());
        assert_eq!(answer.reason(), "ek-unsuitable", "{end} bytes: {answer:?}");
    }
    for end in 1..ak.len() {
        let answer = hello(ek.clone(), ak[..end].to_vec());
        assert_eq!(answer.reason(), "ak-unsuitable", "{end} bytes: {answer:?}");
    }
    // A point that is not on the curve.
    let mut off = ek.clone();
    *off.last_mut().unwrap() ^= 1;
    assert_eq!(hello(off, ak.clone()).reason(), "ek-unsuitable");
    let mut off = ak;
    *off.last_mut().unwrap() ^= 1;
    assert_eq!(hello(ek, off).reason(), "ak-unsuitable");
    let _ = SoftTpm::new(0);
    assert_eq!(before, lab.stored());
}
