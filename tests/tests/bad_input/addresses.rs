//! Addresses that nobody has shown to be theirs.

use mote_schemas::coap::{Code, Type, Writer, option};
use mote_tests::evil::{self, Keys};
use mote_tests::{Evil, Lab};
use proptest::prelude::*;

use super::{assert_goes_on, assert_unchanged, with_trusted};

#[test]
fn an_echo_from_another_address_does_not_count() {
    let mut lab = Lab::new();
    let mut evil = Evil::new(1);
    let payload = evil.hello_payload(true);
    let datagram = evil.clear("h", None, &payload);
    let echo = evil.send(&mut lab, &datagram).echo.unwrap();
    let before = lab.stored();
    let home = evil.peer;
    for elsewhere in [
        "192.0.2.1:2",
        "192.0.2.2:1",
        "[2001:db8::1]:1",
        "[::ffff:192.0.2.1]:9",
    ] {
        evil.peer = elsewhere.parse().unwrap();
        let datagram = evil.clear("h", Some(&echo), &payload);
        let answer = evil.send(&mut lab, &datagram);
        assert_eq!(answer.code, Code::NOT_FOUND, "{elsewhere}");
        assert!(
            answer.echo.is_some_and(|other| other != echo),
            "{elsewhere}"
        );
        assert!(answer.datagram.len() <= datagram.len());
    }
    assert_unchanged(&before, &mut lab);
    evil.peer = home;
    let datagram = evil.clear("h", Some(&echo), &payload);
    assert_eq!(evil.send(&mut lab, &datagram).code, Code::CHANGED);
}

#[test]
fn an_echo_counts_for_a_while_and_dies_with_the_process() {
    let mut lab = Lab::new();
    let mut evil = Evil::new(1);
    let payload = evil.hello_payload(true);
    let echo = |lab: &mut Lab, evil: &mut Evil| {
        let datagram = evil.clear("h", None, &payload);
        evil.send(lab, &datagram).echo.unwrap()
    };
    let code = |lab: &mut Lab, evil: &mut Evil, echo: &[u8]| {
        let datagram = evil.clear("h", Some(echo), &payload);
        evil.send(lab, &datagram).code
    };
    let value = echo(&mut lab, &mut evil);
    lab.now += 600_000;
    assert_eq!(code(&mut lab, &mut evil, &value), Code::CHANGED);
    lab.now += 600_000;
    assert_eq!(code(&mut lab, &mut evil, &value), Code::NOT_FOUND);
    let value = echo(&mut lab, &mut evil);
    lab.crash();
    assert_eq!(code(&mut lab, &mut evil, &value), Code::NOT_FOUND);
    for wrong in [&value[..7], &[], &[0; 8], &[0; 40]] {
        assert_eq!(code(&mut lab, &mut evil, wrong), Code::NOT_FOUND);
    }
}

#[test]
fn no_challenge_is_made_and_no_table_filled_for_an_address_that_is_not_verified() {
    let settings = mote_verifier::engine::Settings {
        max_challenges: 2,
        ..Default::default()
    };
    let mut lab = Lab::with(
        mote_verifier::admission::AdmissionRules::default(),
        settings,
    );
    let mut waiting = Evil::new(1);
    waiting.hello(&mut lab);
    for port in 100..400 {
        let mut evil = Evil::new(2);
        evil.peer.set_port(port);
        let payload = evil.hello_payload(true);
        let datagram = evil.clear("h", None, &payload);
        assert!(evil.send(&mut lab, &datagram).echo.is_some());
    }
    assert_eq!(waiting.open(&mut lab).reason(), "admission-pending");
}

/// Keys that are none, of any size.
fn any_keys() -> impl Strategy<Value = Keys> {
    let sizes = (1..700usize, 1..700usize, prop::option::of(1..2100usize));
    sizes.prop_map(|(ek, ak, certificate)| Keys {
        ek: vec![1; ek],
        ak: vec![2; ak],
        certificate: certificate.map(|length| vec![3; length]),
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, ..ProptestConfig::default() })]

    #[test]
    fn nothing_longer_than_the_request_goes_to_an_address_that_is_not_verified(
        version in 0..3u8,
        known in any::<bool>(),
        keys in prop::option::of(any_keys()),
        token in prop::collection::vec(any::<u8>(), 0..=8),
        echo in prop::option::of(prop::collection::vec(any::<u8>(), 0..=40)),
        confirmable in any::<bool>(),
        path in prop::sample::select(vec!["h", "o", "l", "b", "", ".well-known"]),
        code in prop::sample::select(vec![Code::GET, Code::POST, Code(3), Code(5)]),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let (mut lab, evil) = with_trusted();
        let before = lab.stored();
        let id = if known { evil.id().0 } else { [9; 16] };
        let payload = evil::hello_payload(version, &[7; 16], &id, keys.as_ref());
        let mut datagram = vec![0; 8000];
        let kind = if confirmable { Type::Confirmable } else { Type::NonConfirmable };
        let mut writer = Writer::new(&mut datagram, kind, code, 77, &token).unwrap();
        if !path.is_empty() {
            writer = writer.option(option::URI_PATH, path.as_bytes()).unwrap();
        }
        if path.starts_with('.') {
            writer = writer.option(option::URI_PATH, b"core").unwrap();
        }
        if let Some(echo) = &echo {
            writer = writer.option(option::ECHO, echo).unwrap();
        }
        let length = writer.payload(&payload).unwrap();
        datagram.truncate(length);
        if let Some(cut) = cut {
            datagram.truncate(cut.index(length));
        }
        let reply = lab.handle(evil.peer, &datagram);
        let longest = reply.map_or(0, |reply| reply.len());
        prop_assert!(longest <= datagram.len(), "{} to {}", longest, datagram.len());
        prop_assert!(before == lab.stored());
    }
}

#[test]
fn a_short_request_gets_a_short_answer_or_none() {
    let (mut lab, mut evil) = with_trusted();
    let before = lab.stored();
    // GET /.well-known/core without payload: its answer would be longer.
    let mut datagram = vec![0; 64];
    let length = Writer::new(&mut datagram, Type::Confirmable, Code::GET, 0x7777, &[])
        .unwrap()
        .option(option::URI_PATH, b".well-known")
        .unwrap()
        .option(option::URI_PATH, b"core")
        .unwrap()
        .payload(&[])
        .unwrap();
    datagram.truncate(length);
    let reply = lab.handle(evil.peer, &datagram);
    assert!(reply.is_none_or(|reply| reply.len() <= length));
    // The smallest hello that is refused: no room for words.
    let datagram = evil.clear("h", None, &[0xa0]);
    let reply = lab.handle(evil.peer, &datagram).unwrap();
    assert!(reply.len() <= datagram.len(), "{reply:?}");
    assert_unchanged(&before, &mut lab);
    assert_goes_on(&mut lab, &mut evil);
}
