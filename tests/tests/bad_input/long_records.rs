//! Parts of long records that are none, or that do not make one.

use mote_schemas::coap::Code;
use mote_schemas::message::Reply;
use mote_tests::evil::{Answer, encode};
use mote_tests::lab::Stored;
use mote_tests::simkernel::ima::Record;
use mote_tests::{Evil, Lab};

use super::{assert_goes_on, assert_refused, assert_unchanged, with_trusted};

/// A long record as a message's only entry: ima-buf has template id 4.
fn encoding(len: usize) -> (Record, Vec<u8>) {
    let record = Record::buffer(".ima", &vec![7; len]);
    let bytes = encode(|e| {
        e.array(1)?.array(2)?.u8(4)?;
        e.bytes(record.template_data())?.ok()
    });
    (record, bytes)
}

fn part(number: u64, offset: usize, bytes: &[u8], last: bool) -> Vec<u8> {
    encode(|e| {
        e.map(3 + u64::from(last))?.u8(0)?.u64(number)?;
        e.u8(1)?.u64(offset as u64)?.u8(2)?.bytes(bytes)?;
        if last {
            e.u8(3)?.bool(true)?;
        }
        Ok(())
    })
}

fn send(lab: &mut Lab, evil: &mut Evil, number: u64, range: (usize, &[u8]), last: bool) -> Answer {
    evil.ask(lab, "r", &part(number, range.0, range.1, last))
}

fn offset(answer: &Answer) -> Option<u32> {
    assert_eq!(answer.code, Code::CHANGED, "{answer:?}");
    let reply: Reply<'_> = mote_schemas::cbor::decode(&answer.payload).unwrap();
    reply.record_offset
}

/// A trusted device of three records that has sent the first 1,000 bytes of the next.
fn begun() -> (Lab, Evil, Vec<u8>, Stored) {
    let (mut lab, mut evil) = with_trusted();
    let (_, bytes) = encoding(3_000);
    let before = lab.stored();
    let answer = send(&mut lab, &mut evil, 3, (0, &bytes[..1_000]), false);
    assert_eq!((offset(&answer), answer.next_record()), (Some(1_000), 3));
    assert_unchanged(&before, &mut lab);
    (lab, evil, bytes, before)
}

#[test]
fn a_part_that_skips_or_repeats_is_not_taken_and_the_reply_says_where_to_go_on() {
    let (mut lab, mut evil, bytes, before) = begun();
    for at in [0, 999, 1_001, 2_000] {
        let answer = send(&mut lab, &mut evil, 3, (at, &bytes[at..at + 500]), false);
        assert_eq!((offset(&answer), answer.next_record()), (Some(1_000), 3));
        let last = send(&mut lab, &mut evil, 3, (at, &bytes[at..at + 500]), true);
        assert_eq!(offset(&last), Some(1_000));
    }
    // Another record than the one that is wanted.
    for number in [0, 2, 4, u64::MAX] {
        let answer = send(&mut lab, &mut evil, number, (0, &bytes[..500]), true);
        assert_eq!((offset(&answer), answer.next_record()), (None, 3));
    }
    assert_unchanged(&before, &mut lab);
    assert_goes_on(&mut lab, &mut evil);
}

#[test]
fn a_record_that_ends_too_early_or_too_late_is_malformed_and_can_be_sent_again() {
    let (record, whole) = encoding(3_000);
    let damaged = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 0xff;
        bytes
    };
    let known = encode(|e| e.array(1)?.bytes(&[4, 1, 2, 3, 4, 5, 6, 7, 8])?.ok());
    for (what, bytes) in [
        ("too early", whole[..2_000].to_vec()),
        ("too late", [&whole[..], &[0]].concat()),
        ("no array", damaged(0)),
        ("no entry", damaged(1)),
        ("no template", damaged(2)),
        ("another length", damaged(5)),
        ("none", vec![0x80]),
        ("two", known),
        (
            "two whole ones",
            [&[0x82], &whole[1..], &whole[1..]].concat(),
        ),
    ] {
        let (mut lab, mut evil) = with_trusted();
        let before = lab.stored();
        let (mut at, mut answer) = (0, None);
        for piece in bytes.chunks(1_500) {
            let last = at + piece.len() == bytes.len();
            answer = Some(send(&mut lab, &mut evil, 3, (at, piece), last));
            at += piece.len();
        }
        let answer = answer.unwrap();
        assert_eq!(answer.reason(), "record-malformed", "{what}: {answer:?}");
        assert_refused(&answer, "record-malformed", &before, &mut lab);
        // Nothing of it is left: the true one goes from its beginning.
        evil.device.measure(record.clone());
        let quote = evil.quote();
        let payload = evil.beat_payload(&quote, 0, &[]);
        evil.ask(&mut lab, "b", &payload);
        for (number, piece) in whole.chunks(1_500).enumerate() {
            let at = 1_500 * number;
            let last = at + piece.len() == whole.len();
            answer_is_taken(&send(&mut lab, &mut evil, 3, (at, piece), last), what);
        }
        assert_eq!(lab.stored().logs[&evil.id()].len(), 4, "{what}");
    }
}

fn answer_is_taken(answer: &Answer, what: &str) {
    assert_eq!(answer.code, Code::CHANGED, "{what}: {answer:?}");
}

#[test]
fn a_record_beyond_the_limit_is_refused_before_it_is_whole() {
    let (mut lab, mut evil) = with_trusted();
    let before = lab.stored();
    let mut refused = None;
    for number in 0..40 {
        let answer = send(
            &mut lab,
            &mut evil,
            3,
            (2_048 * number, &[0x81; 2_048]),
            false,
        );
        if answer.code != Code::CHANGED {
            refused = Some((number, answer));
            break;
        }
    }
    let (number, answer) = refused.unwrap();
    assert_eq!(number, 32, "64 kB and no more");
    assert_refused(&answer, "record-malformed", &before, &mut lab);
    assert_goes_on(&mut lab, &mut evil);
}

#[test]
fn a_part_that_is_no_part_is_malformed() {
    let (mut lab, mut evil, _, before) = begun();
    for bytes in [&[0xa0][..], &[0xff], b"", &part(3, 1_000, b"", false)] {
        let answer = evil.ask(&mut lab, "r", bytes);
        assert_refused(&answer, "message-malformed", &before, &mut lab);
    }
    assert_goes_on(&mut lab, &mut evil);
}

#[test]
fn a_device_that_nobody_has_admitted_stores_no_part() {
    let mut lab = Lab::new();
    let mut evil = Evil::new(9);
    evil.hello(&mut lab);
    assert_eq!(evil.open(&mut lab).reason(), "admission-pending");
    let before = lab.stored();
    let (_, bytes) = encoding(3_000);
    let answer = send(&mut lab, &mut evil, 0, (0, &bytes[..1_000]), false);
    assert_eq!(answer.reason(), "admission-pending", "{answer:?}");
    assert_eq!(offset(&answer), None);
    assert_unchanged(&before, &mut lab);
}
