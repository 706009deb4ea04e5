//! Messages out of turn: replayed, for no session, for another one, too late.

use mote_schemas::coap::{Code, Message, option};
use mote_schemas::message::Tier;
use mote_schemas::oscore::OscoreOption;
use mote_tests::lab::Stored;
use mote_tests::{Evil, Lab};
use mote_verifier::admission::AdmissionRules;
use mote_verifier::engine::Settings;

use super::{assert_goes_on, assert_refused, assert_unchanged, with_trusted};

/// The same protected message in another datagram: with another message id, so that it is no copy
/// within CoAP.
fn replay(datagram: &[u8], id: u16) -> Vec<u8> {
    let mut again = datagram.to_vec();
    again[2..4].copy_from_slice(&(0x8000 | id).to_be_bytes());
    again
}

#[test]
fn a_replayed_message_is_refused_whoever_sends_it() {
    let (mut lab, mut evil) = with_trusted();
    evil.device.run("/bin/4");
    let payload = evil.beat_payload(&evil.quote(), 0, &evil.device.list.0);
    let datagram = evil.protect("b", None, &payload);
    let first = evil.send(&mut lab, &datagram);
    assert_eq!(first.code, Code::CHANGED);
    let before = lab.stored();
    for id in 0..3 {
        let again = lab.handle(evil.peer, &replay(&datagram, id)).unwrap();
        let answer = evil.read(&again);
        assert!(!answer.protected);
        assert_eq!(answer.code, Code::UNAUTHORIZED);
        assert_refused(&answer, "oscore-replayed", &before, &mut lab);
    }
    // From elsewhere it may be the device behind another address: the same bytes, and nothing done.
    let elsewhere = Evil::new(999).peer;
    assert_eq!(lab.handle(elsewhere, &datagram), Some(first.datagram));
    assert_unchanged(&before, &mut lab);
    assert_goes_on(&mut lab, &mut evil);
}

#[test]
fn a_copy_of_a_datagram_gets_the_same_bytes_and_counts_once() {
    let (mut lab, mut evil) = with_trusted();
    evil.device.run("/bin/4");
    let payload = evil.beat_payload(&evil.quote(), 0, &evil.device.list.0);
    let datagram = evil.protect("b", None, &payload);
    let first = lab.handle(evil.peer, &datagram);
    let before = lab.stored();
    for _ in 0..3 {
        lab.now += 1000;
        assert_eq!(lab.handle(evil.peer, &datagram), first);
    }
    assert_unchanged(&before, &mut lab);
}

#[test]
fn an_unknown_kid_is_refused() {
    let (mut lab, mut evil) = with_trusted();
    let before = lab.stored();
    let payload = evil.beat_payload(&evil.quote(), 0, &[]);
    let datagram = evil.protect("b", None, &payload);
    let kid = evil.session().kid;
    let at = datagram
        .windows(3)
        .position(|window| window == kid.as_bytes())
        .unwrap();
    for byte in 0..3 {
        let mut bad = replay(&datagram, byte);
        bad[at + usize::from(byte)] ^= 0x55;
        let answer = evil.send(&mut lab, &bad);
        assert_eq!(answer.code, Code::UNAUTHORIZED);
        assert_refused(&answer, "session-unknown", &before, &mut lab);
        // RFC 8613, 8.2: not to be cached.
        let message = Message::parse(&answer.datagram).unwrap();
        assert_eq!(message.option(option::MAX_AGE).unwrap().uint(), Some(0));
    }
    assert_goes_on(&mut lab, &mut evil);
}

#[test]
fn an_oscore_option_that_is_none_is_refused() {
    let (mut lab, mut evil) = with_trusted();
    let before = lab.stored();
    let payload = evil.beat_payload(&evil.quote(), 0, &[]);
    let good = evil.protect("b", None, &payload);
    let value = Message::parse(&good).unwrap();
    let value = value.option(option::OSCORE).unwrap().value.to_vec();
    let at = good
        .windows(value.len())
        .position(|window| window == value)
        .unwrap();
    for (id, flags) in [
        (0, 0x00),
        (1, 0xe9),
        (2, 0x0f),
        (3, 0x01),
        (4, 0x08),
        (5, 0x19),
    ] {
        let mut bad = replay(&good, id);
        bad[at] = flags;
        let answer = evil.send(&mut lab, &bad);
        assert!(
            !answer.protected && answer.code.class() == 4,
            "{flags:#x}: {answer:?}"
        );
        assert_unchanged(&before, &mut lab);
    }
    assert_goes_on(&mut lab, &mut evil);
}

#[test]
fn keys_of_one_session_open_nothing_in_another() {
    let mut lab = Lab::new();
    let mut one = Evil::trusted(&mut lab, 1);
    let mut two = Evil::trusted(&mut lab, 2);
    let before = lab.stored();
    let payload = one.beat_payload(&one.quote(), 0, &one.device.list.0);
    let datagram = one.protect("b", None, &payload);
    let (own, other) = (one.session().kid, two.session().kid);
    let mut bad = replay(&datagram, 0);
    let at = bad
        .windows(3)
        .position(|window| window == own.as_bytes())
        .unwrap();
    bad[at..at + 3].copy_from_slice(other.as_bytes());
    let answer = one.send(&mut lab, &bad);
    assert_eq!(answer.code, Code::BAD_REQUEST);
    assert_refused(&answer, "oscore-invalid", &before, &mut lab);
    assert_goes_on(&mut lab, &mut one);
    assert_goes_on(&mut lab, &mut two);
}

/// Everything but the session: there, a new nonce is remembered.
#[track_caller]
fn assert_no_evidence_taken(before: &Stored, lab: &mut Lab) {
    let mut after = lab.stored();
    after.sessions.clone_from(&before.sessions);
    assert!(*before == after, "before:\n{before:#?}\nafter:\n{after:#?}");
}

#[test]
fn an_expired_nonce_gives_a_new_one_and_nothing_else() {
    let settings = Settings {
        nonce_lifetime: 600,
        ..Settings::default()
    };
    let mut lab = Lab::with(AdmissionRules::default(), settings);
    let mut evil = Evil::trusted(&mut lab, 1);
    evil.device.run("/bin/4");
    lab.now += 600_000;
    let before = lab.stored();
    let old = evil.session().nonce.clone();
    let answer = evil.beat(&mut lab);
    assert_eq!(answer.code, Code::CHANGED);
    assert_eq!(answer.reason(), "nonce-expired");
    assert_eq!(answer.next_record(), 3);
    assert_no_evidence_taken(&before, &mut lab);
    assert_ne!(evil.session().nonce.1, old.1);
    assert_goes_on(&mut lab, &mut evil);
    // One millisecond earlier it would still have counted.
    lab.now += 599_999;
    assert_goes_on(&mut lab, &mut evil);
}

#[test]
fn a_nonce_is_good_for_one_quote() {
    let (mut lab, mut evil) = with_trusted();
    evil.device.run("/bin/4");
    let used = evil.session().nonce.clone();
    let quote = evil.quote();
    let answer = evil.beat(&mut lab);
    assert_eq!(answer.tier(), Tier::Affirming);
    let before = lab.stored();
    // The same quote over the same nonce, in a fresh message; then a fresh quote over it.
    let fresh = std::mem::replace(&mut evil.session().nonce, used.clone());
    let payload = evil.beat_payload(&quote, 0, &evil.device.list.0);
    let answer = evil.ask(&mut lab, "b", &payload);
    assert_eq!(answer.reason(), "nonce-expired");
    assert_no_evidence_taken(&before, &mut lab);
    evil.session().nonce = used;
    let answer = evil.beat(&mut lab);
    assert_eq!(answer.reason(), "nonce-expired");
    assert_no_evidence_taken(&before, &mut lab);
    // The quote of one nonce under the id of another.
    assert_ne!(fresh.0, evil.session().nonce.0);
    let before = lab.stored();
    let payload = evil.beat_payload(&quote, 0, &evil.device.list.0);
    let answer = evil.ask(&mut lab, "b", &payload);
    assert_refused(&answer, "quote-wrong-nonce", &before, &mut lab);
    assert_goes_on(&mut lab, &mut evil);
}

#[test]
fn a_refused_quote_does_not_use_up_its_nonce() {
    let (mut lab, mut evil) = with_trusted();
    let mut attest = evil.attest();
    attest.magic = 0;
    let quote = evil.signed(&attest);
    let payload = evil.beat_payload(&quote, 0, &[]);
    let before = lab.stored();
    let answer = evil.ask(&mut lab, "b", &payload);
    assert_refused(&answer, "quote-wrong-magic", &before, &mut lab);
    assert_goes_on(&mut lab, &mut evil);
}

#[test]
fn what_is_out_of_order_is_refused() {
    let mut lab = Lab::new();
    let mut evil = Evil::new(1);
    evil.hello(&mut lab);
    let before = lab.stored();
    for path in ["b", "l", "h", "x"] {
        let payload = evil.beat_payload(&evil.quote(), 0, &evil.device.list.0);
        let answer = evil.ask(&mut lab, path, &payload);
        assert_refused(&answer, "out-of-order", &before, &mut lab);
    }
    assert_eq!(evil.open(&mut lab).reason(), "admission-pending");
    let before = lab.stored();
    let answer = evil.open(&mut lab);
    assert_refused(&answer, "out-of-order", &before, &mut lab);
}

#[test]
fn a_challenge_answered_too_late_is_gone() {
    let mut lab = Lab::new();
    let mut evil = Evil::new(1);
    evil.hello(&mut lab);
    lab.now += 1_200_000;
    let before = lab.stored();
    let answer = evil.open(&mut lab);
    assert_refused(&answer, "session-unknown", &before, &mut lab);
    evil.hello(&mut lab);
    lab.now += 1_199_999;
    assert_eq!(evil.open(&mut lab).reason(), "admission-pending");
}

#[test]
fn more_challenges_than_the_table_holds_push_out_the_oldest_and_no_session() {
    let settings = Settings {
        max_challenges: 4,
        ..Settings::default()
    };
    let mut lab = Lab::with(AdmissionRules::default(), settings);
    let mut known = Evil::trusted(&mut lab, 1);
    let mut waiting: Vec<Evil> = (10..15).map(Evil::new).collect();
    for evil in &mut waiting {
        evil.hello(&mut lab);
    }
    let before = lab.stored();
    let answer = waiting[0].open(&mut lab);
    assert_refused(&answer, "session-unknown", &before, &mut lab);
    for evil in &mut waiting[1..] {
        assert_eq!(evil.open(&mut lab).reason(), "admission-pending");
    }
    assert_goes_on(&mut lab, &mut known);
    // One device that says hello for ever takes places, but opens with the last.
    let mut evil = Evil::new(20);
    for _ in 0..50 {
        evil.hello(&mut lab);
    }
    assert_eq!(evil.open(&mut lab).reason(), "admission-pending");
    assert_goes_on(&mut lab, &mut known);
}

#[test]
fn a_new_session_ends_the_old_one() {
    let (mut lab, mut evil) = with_trusted();
    let old = evil.session.take();
    evil.hello(&mut lab);
    // Until it is opened, the old one goes on.
    let new = std::mem::replace(&mut evil.session, old);
    assert_goes_on(&mut lab, &mut evil);
    let old = std::mem::replace(&mut evil.session, new);
    let answer = evil.open(&mut lab);
    assert_eq!(answer.code, Code::CHANGED);
    let records = evil.device.list.0.clone();
    evil.log(&mut lab, 0, &records);
    let before = lab.stored();
    let new = std::mem::replace(&mut evil.session, old);
    let answer = evil.beat(&mut lab);
    assert_refused(&answer, "session-unknown", &before, &mut lab);
    evil.session = new;
    assert_goes_on(&mut lab, &mut evil);
}

#[test]
fn replies_are_protected_with_numbers_of_their_own() {
    let (mut lab, mut evil) = with_trusted();
    let mut last = None;
    for number in 2..20 {
        evil.device.run(&format!("/bin/{number}"));
        let answer = evil.beat(&mut lab);
        let message = Message::parse(&answer.datagram).unwrap();
        let header = OscoreOption::of(&message).unwrap().unwrap();
        assert!(header.partial_iv > last, "{header:?} after {last:?}");
        last = header.partial_iv;
    }
}
