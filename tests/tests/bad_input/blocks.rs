//! Blocks inside OSCORE that belong to nothing, or to something else.

use mote_schemas::coap::{Block, BlockSize, Code, option};
use mote_tests::evil::Answer;
use mote_tests::{Evil, Lab};

use super::{assert_goes_on, assert_unchanged, with_trusted};

/// The value of a Block option as short as it goes.
fn value(number: u32, more: bool, size: BlockSize) -> Vec<u8> {
    let block = Block { number, more, size }.encode().to_be_bytes();
    let zeros = block.iter().take_while(|byte| **byte == 0).count();
    block[zeros..].to_vec()
}

fn ask(lab: &mut Lab, evil: &mut Evil, options: &[(u16, &[u8])], payload: &[u8]) -> Answer {
    let datagram = evil.protect_with("b", options, payload);
    evil.send(lab, &datagram)
}

/// One block of a request, with a tag.
fn block(lab: &mut Lab, evil: &mut Evil, at: (u32, bool), tag: &[u8], payload: &[u8]) -> Answer {
    let value = value(at.0, at.1, BlockSize::fitting(64));
    let options = [(option::BLOCK1, &value[..]), (option::REQUEST_TAG, tag)];
    ask(lab, evil, &options, payload)
}

#[test]
fn blocks_out_of_order_start_over_and_change_nothing() {
    let (mut lab, mut evil) = with_trusted();
    let before = lab.stored();
    for (what, at, tag, expected) in [
        (
            "not begun",
            (1, true),
            b"a",
            Code::REQUEST_ENTITY_INCOMPLETE,
        ),
        (
            "an end of nothing",
            (9, false),
            b"a",
            Code::REQUEST_ENTITY_INCOMPLETE,
        ),
        ("the first", (0, true), b"a", Code::CONTINUE),
        (
            "one left out",
            (2, true),
            b"a",
            Code::REQUEST_ENTITY_INCOMPLETE,
        ),
        (
            "of another",
            (1, true),
            b"b",
            Code::REQUEST_ENTITY_INCOMPLETE,
        ),
        ("the second", (1, true), b"a", Code::CONTINUE),
        ("its copy", (1, true), b"a", Code::CONTINUE),
    ] {
        let answer = block(&mut lab, &mut evil, at, tag, &[7; 64]);
        assert_eq!((answer.code, answer.protected), (expected, true), "{what}");
        assert_unchanged(&before, &mut lab);
    }
    // It ends, and is no message.
    let answer = block(&mut lab, &mut evil, (2, false), b"a", &[7; 3]);
    assert_eq!(answer.reason(), "message-malformed");
    assert_unchanged(&before, &mut lab);
    assert_goes_on(&mut lab, &mut evil);
}

#[test]
fn blocks_that_are_none_or_too_many_are_refused() {
    let (mut lab, mut evil) = with_trusted();
    let before = lab.stored();
    for (what, options, expected) in [
        (
            "a reserved size",
            (option::BLOCK1, vec![7]),
            Code::BAD_REQUEST,
        ),
        (
            "a short block",
            (option::BLOCK1, vec![0x08 | 2]),
            Code::BAD_REQUEST,
        ),
        (
            "too far",
            (option::BLOCK1, vec![0xff, 0xff, 0xf8]),
            Code::BAD_REQUEST,
        ),
        (
            "a reply that is gone",
            (option::BLOCK2, vec![0x12]),
            Code::REQUEST_ENTITY_INCOMPLETE,
        ),
        (
            "an option that nobody knows",
            (9_999, vec![1]),
            Code::BAD_OPTION,
        ),
    ] {
        let answer = ask(&mut lab, &mut evil, &[(options.0, &options.1)], &[7; 3]);
        assert_eq!((answer.code, answer.protected), (expected, true), "{what}");
        assert_unchanged(&before, &mut lab);
    }
    // As many as any message has, and one more.
    let size = BlockSize::fitting(1024);
    for (number, expected) in [
        (0, Code::CONTINUE),
        (1, Code::CONTINUE),
        (2, Code::REQUEST_ENTITY_TOO_LARGE),
    ] {
        let value = value(number, true, size);
        let answer = ask(&mut lab, &mut evil, &[(option::BLOCK1, &value)], &[7; 1024]);
        assert_eq!(answer.code, expected, "block {number}");
        assert_unchanged(&before, &mut lab);
    }
    assert_goes_on(&mut lab, &mut evil);
}

#[test]
fn a_session_may_be_opened_in_blocks_and_nothing_is_stored_before_the_last() {
    let mut lab = Lab::new();
    let mut evil = Evil::new(7);
    evil.hello(&mut lab);
    let before = lab.stored();
    let open = evil.open_payload(&evil.quote(), 1);
    let size = BlockSize::fitting(64);
    let last = open.len().div_ceil(64) - 1;
    for (number, piece) in open.chunks(64).enumerate() {
        assert_unchanged(&before, &mut lab);
        let value = value(number as u32, number < last, size);
        let datagram = evil.protect_with("o", &[(option::BLOCK1, &value)], piece);
        let answer = evil.send(&mut lab, &datagram);
        let expected = if number < last {
            Code::CONTINUE
        } else {
            Code::CHANGED
        };
        assert_eq!((answer.code, answer.protected), (expected, true));
        if number == last {
            assert_eq!(answer.reason(), "admission-pending");
        }
    }
    assert_eq!(lab.stored().devices.len(), 1);
}
