//! Datagrams that are not CoAP, or CoAP that nobody may answer (RFC 7252, 3 and 4).

use mote_schemas::coap::{Code, Message};
use mote_tests::{Evil, Lab};
use proptest::prelude::*;

use super::{assert_goes_on, assert_unchanged, with_trusted};

/// What is sent, and what is answered.
type Case = (&'static str, Vec<u8>, Option<Vec<u8>>);

#[test]
fn that_is_malformed_is_rejected_and_changes_nothing() {
    let (mut lab, mut evil) = with_trusted();
    let hello = evil.hello_payload(true);
    let clear = evil.clear("h", None, &hello);
    let beat = evil.beat_payload(&evil.quote(), 0, &evil.device.list.0);
    let sealed = evil.protect("b", None, &beat);
    let before = lab.stored();
    for good in [&clear, &sealed] {
        let with = |at: usize, byte: u8| {
            let mut bad = good.clone();
            bad[at] = byte;
            bad
        };
        let first = good[0];
        let marker = good.len() - Message::parse(good).unwrap().payload().len() - 1;
        let marker_only = good[..=marker].to_vec();
        let reset = Some(vec![0x70, 0, good[2], good[3]]);
        let cases: Vec<Case> = vec![
            // RFC 7252, 3: "Messages with unknown version numbers MUST be silently ignored."
            ("version 0", with(0, first & 0x3f), None),
            ("version 2", with(0, first & 0x3f | 0x80), None),
            ("version 3", with(0, first | 0xc0), None),
            ("token length 9", with(0, first & 0xf0 | 9), reset.clone()),
            ("token length 15", with(0, first | 0x0f), reset.clone()),
            ("nothing behind 0xff", marker_only, reset.clone()),
            ("0.00 with content", with(1, 0), reset.clone()),
            ("code class 1", with(1, 0x21), reset.clone()),
            ("code class 7", with(1, 0xe0), reset.clone()),
            (
                "option nibble 15",
                with(4 + usize::from(first & 15), 0xf1),
                reset.clone(),
            ),
            ("header only", good[..4].to_vec(), reset.clone()),
            ("three bytes", good[..3].to_vec(), None),
            ("nothing", Vec::new(), None),
        ];
        for (what, datagram, expected) in cases {
            let answer = lab.handle(evil.peer, &datagram);
            assert_eq!(answer, expected, "{what}");
            assert_unchanged(&before, &mut lab);
        }
        // Malformed and not confirmable: silence.
        let mut non = good[..=marker].to_vec();
        non[0] |= 0x10;
        assert_eq!(lab.handle(evil.peer, &non), None, "NON");
    }
    // None of it used up the message that was spoiled.
    let answer = evil.send(&mut lab, &sealed);
    assert_eq!(answer.tier().word(), "trusted");
    assert_goes_on(&mut lab, &mut evil);
}

#[test]
fn that_is_a_ping_is_answered_with_a_reset() {
    let mut lab = Lab::new();
    let peer = Evil::new(1).peer;
    assert_eq!(
        lab.handle(peer, &[0x40, 0, 0x12, 0x34]),
        Some(vec![0x70, 0, 0x12, 0x34])
    );
    // Responses and acknowledgements to nothing.
    for datagram in [
        [0x60, 0, 0x12, 0x34],
        [0x70, 0, 0x12, 0x34],
        [0x60, 0x44, 0, 1],
    ] {
        assert_eq!(lab.handle(peer, &datagram), None);
    }
}

#[test]
fn evidence_in_the_clear_is_refused() {
    let (mut lab, mut evil) = with_trusted();
    let before = lab.stored();
    for path in ["o", "l", "b"] {
        let payload = evil.beat_payload(&evil.quote(), 0, &evil.device.list.0);
        let datagram = evil.clear(path, None, &payload);
        let answer = evil.send(&mut lab, &datagram);
        assert_eq!(answer.code, Code::UNAUTHORIZED);
        super::assert_refused(&answer, "session-unknown", &before, &mut lab);
    }
    assert_goes_on(&mut lab, &mut evil);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    /// Whatever bytes come: no panic, nothing stored, no more bytes back than came.
    #[test]
    fn of_random_bytes_changes_nothing(
        datagrams in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 50),
        coap_like in any::<bool>(),
    ) {
        thread_local!(static LAB: std::cell::RefCell<Lab> = std::cell::RefCell::new(Lab::new()));
        LAB.with_borrow_mut(|lab| {
            let before = lab.stored();
            let peer = Evil::new(1).peer;
            for mut datagram in datagrams {
                if let (true, Some(first)) = (coap_like, datagram.first_mut()) {
                    *first = 0x40 | *first & 0x38;
                }
                lab.now += 300_000; // no copies
                let reply = lab.handle(peer, &datagram);
                prop_assert!(reply.is_none_or(|reply| reply.len() <= datagram.len()));
            }
            prop_assert!(before == lab.stored());
            Ok(())
        })?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, ..ProptestConfig::default() })]

    /// One flipped bit in a genuine protected message: refused, and the message itself still counts.
    #[test]
    fn of_a_genuine_message_with_a_flipped_bit_changes_nothing(flips in prop::collection::vec(any::<prop::sample::Index>(), 20)) {
        let (mut lab, mut evil) = with_trusted();
        let beat = evil.beat_payload(&evil.quote(), 0, &evil.device.list.0);
        let sealed = evil.protect("b", None, &beat);
        // Up to the OSCORE option (Partial IV and kid), outside it nothing is protected.
        let protected_from = 4 + usize::from(sealed[0] & 15) + 1;
        let before = lab.stored();
        for flip in flips {
            let bit = flip.index((sealed.len() - protected_from) * 8);
            let mut bad = sealed.clone();
            bad[protected_from + bit / 8] ^= 1 << (bit % 8);
            // A message id of its own, or it is taken for a copy of the message.
            bad[2] ^= 0x80;
            bad[3] = bad[3].wrapping_add(bit as u8);
            lab.handle(evil.peer, &bad);
            lab.now += 300_000;
            prop_assert!(before == lab.stored(), "bit {}", bit);
        }
        let answer = evil.send(&mut lab, &sealed);
        prop_assert_eq!(answer.code, Code::CHANGED);
    }
}
