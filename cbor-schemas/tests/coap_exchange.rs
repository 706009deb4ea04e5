//! One confirmable request at a time: retransmission, every way a response may come, and nothing
//! that belongs to another exchange.
#![allow(clippy::unwrap_used, missing_docs)]

use std::time::Duration;

use mote_schemas::coap::{
    Code, Dedup, Exchange, Output, Parameters, Received, Seen, StartError, Type, Writer, empty,
};
use mote_schemas::time::Instant;

type Client = Exchange<64>;

fn message(kind: Type, code: Code, id: u16, token: &[u8]) -> Vec<u8> {
    let mut buffer = [0; 64];
    let writer = Writer::new(&mut buffer, kind, code, id, token).unwrap();
    let length = writer.payload(b"x").unwrap();
    buffer[..length].to_vec()
}

fn started(random: u32) -> (Client, Vec<u8>) {
    let mut client = Client::new(Parameters::default(), 100);
    let request = message(Type::Confirmable, Code::POST, 100, b"tk");
    client.start(Instant(0), &request, random).unwrap();
    assert_eq!(client.poll(Instant(0)), Output::Transmit(&request));
    (client, request)
}

/// Times at which the client transmits, and when it gives up.
fn schedule(random: u32) -> (Vec<u64>, u64) {
    let mut client = Client::new(Parameters::default(), 100);
    let request = message(Type::Confirmable, Code::POST, 100, b"tk");
    client.start(Instant(0), &request, random).unwrap();
    let (mut now, mut sent) = (Instant(0), vec![]);
    loop {
        match client.poll(now) {
            Output::Transmit(bytes) => {
                assert_eq!(bytes, request);
                sent.push(now.0);
            }
            Output::Wait(until) => {
                assert!(until > now);
                now = until;
            }
            Output::TimedOut => break,
            Output::Idle => panic!("idle before it said TimedOut"),
        }
    }
    assert_eq!(client.poll(now), Output::Idle);
    (sent, now.0)
}

#[test]
fn retransmits_four_times_with_doubling_timeouts() {
    assert_eq!(schedule(0), (vec![0, 2000, 6000, 14_000, 30_000], 62_000));
    let (sent, end) = schedule(u32::MAX);
    assert_eq!(sent, [0, 2999, 8997, 20_993, 44_985]);
    assert!(end <= 93_000 && end > 92_900, "{end}");
    assert_eq!(
        Parameters::default().max_transmit_wait(),
        Duration::from_secs(93)
    );
}

#[test]
fn piggybacked_response_must_match_message_id_and_token() {
    let (mut client, _) = started(0);
    for (id, token) in [(101, &b"tk"[..]), (100, b"no"), (100, b"")] {
        let other = message(Type::Acknowledgement, Code::CHANGED, id, token);
        assert_eq!(client.receive(Instant(1), &other), Received::Nothing);
        assert!(matches!(client.poll(Instant(1)), Output::Wait(_)));
    }
    let answer = message(Type::Acknowledgement, Code::CHANGED, 100, b"tk");
    let Received::Response(response) = client.receive(Instant(1), &answer) else {
        panic!("not taken for the response");
    };
    client.accept(&response);
    assert_eq!(client.poll(Instant(1)), Output::Idle);
    assert_eq!(client.receive(Instant(2), &answer), Received::Nothing);
    assert_eq!(client.poll(Instant(2)), Output::Idle);
}

#[test]
fn a_response_that_is_not_accepted_changes_nothing() {
    let (mut client, request) = started(0);
    for kind in [
        Type::Acknowledgement,
        Type::Confirmable,
        Type::NonConfirmable,
    ] {
        let forged = message(kind, Code::CHANGED, 100, b"tk");
        assert!(matches!(
            client.receive(Instant(1), &forged),
            Received::Response(_)
        ));
        assert_eq!(client.poll(Instant(1)), Output::Wait(Instant(2000)));
    }
    assert_eq!(client.poll(Instant(2000)), Output::Transmit(&request));
}

#[test]
fn separate_response_is_acknowledged_as_often_as_it_comes() {
    let (mut client, _) = started(0);
    let acknowledged = empty(Type::Acknowledgement, 100);
    assert_eq!(client.receive(Instant(5), &acknowledged), Received::Nothing);
    assert_eq!(client.poll(Instant(5)), Output::Wait(Instant(93_005)));

    let separate = message(Type::Confirmable, Code::CONTENT, 7, b"tk");
    let Received::Response(response) = client.receive(Instant(50_000), &separate) else {
        panic!("not taken for the response");
    };
    client.accept(&response);
    let ack = empty(Type::Acknowledgement, 7);
    assert_eq!(client.poll(Instant(50_000)), Output::Transmit(&ack));
    assert_eq!(client.poll(Instant(50_000)), Output::Idle);

    // Also while the next exchange is open.
    let next = message(Type::Confirmable, Code::POST, 101, b"t2");
    client.start(Instant(51_000), &next, 0).unwrap();
    assert_eq!(client.poll(Instant(51_000)), Output::Transmit(&next));
    assert_eq!(
        client.receive(Instant(51_001), &separate),
        Received::Nothing
    );
    assert_eq!(client.poll(Instant(51_001)), Output::Transmit(&ack));
    assert_eq!(client.poll(Instant(51_001)), Output::Wait(Instant(53_000)));
}

#[test]
fn separate_response_stands_in_for_a_lost_acknowledgement() {
    let (mut client, _) = started(0);
    let separate = message(Type::NonConfirmable, Code::CONTENT, 7, b"tk");
    let Received::Response(response) = client.receive(Instant(9), &separate) else {
        panic!("not taken for the response");
    };
    client.accept(&response);
    assert_eq!(client.poll(Instant(9)), Output::Idle);
}

#[test]
fn acknowledged_but_never_answered_times_out_once() {
    let (mut client, _) = started(0);
    client.receive(Instant(0), &empty(Type::Acknowledgement, 100));
    assert_eq!(client.poll(Instant(92_999)), Output::Wait(Instant(93_000)));
    assert_eq!(client.poll(Instant(93_000)), Output::TimedOut);
    assert_eq!(client.poll(Instant(93_000)), Output::Idle);
}

#[test]
fn reset_ends_only_its_own_exchange() {
    let (mut client, _) = started(0);
    assert_eq!(
        client.receive(Instant(1), &empty(Type::Reset, 99)),
        Received::Nothing
    );
    assert!(client.is_open());
    assert_eq!(
        client.receive(Instant(1), &empty(Type::Reset, 100)),
        Received::Reset
    );
    assert!(!client.is_open());
}

#[test]
fn unexpected_confirmable_messages_are_reset_and_others_ignored() {
    let (mut client, _) = started(0);
    for loud in [
        empty(Type::Confirmable, 9).to_vec(),
        message(Type::Confirmable, Code::GET, 9, b""),
        message(Type::Confirmable, Code::CONTENT, 9, b"old"),
        b"\x40\x01\x00\x09\xff".to_vec(),
    ] {
        assert_eq!(client.receive(Instant(1), &loud), Received::Nothing);
        assert_eq!(
            client.poll(Instant(1)),
            Output::Transmit(&empty(Type::Reset, 9)),
            "{loud:?}"
        );
        assert_eq!(client.poll(Instant(1)), Output::Wait(Instant(2000)));
    }
    for silent in [
        message(Type::NonConfirmable, Code::GET, 9, b""),
        message(Type::NonConfirmable, Code::CONTENT, 9, b"old"),
        empty(Type::Acknowledgement, 9).to_vec(),
        b"\x80\x01\x00\x09\xff".to_vec(),
        vec![],
    ] {
        assert_eq!(client.receive(Instant(1), &silent), Received::Nothing);
        assert_eq!(
            client.poll(Instant(1)),
            Output::Wait(Instant(2000)),
            "{silent:?}"
        );
    }
}

#[test]
fn what_cannot_be_started_is_not() {
    let (mut client, request) = started(0);
    let next = message(Type::Confirmable, Code::POST, 101, b"t2");
    assert_eq!(client.start(Instant(0), &next, 0), Err(StartError::Busy));
    client.cancel();
    let mut large = next.clone();
    large.resize(65, 0);
    for (bytes, error) in [
        (&request, StartError::MessageIdMismatch),
        (
            &message(Type::Confirmable, Code::POST, 101, b"tk"),
            StartError::TokenReused,
        ),
        (
            &message(Type::NonConfirmable, Code::POST, 101, b"t2"),
            StartError::NotAConfirmableRequest,
        ),
        (
            &message(Type::Confirmable, Code::CONTENT, 101, b"t2"),
            StartError::NotAConfirmableRequest,
        ),
        (&vec![0x41], StartError::NotAConfirmableRequest),
        (&large, StartError::TooLarge),
    ] {
        assert_eq!(client.start(Instant(0), bytes, 0), Err(error));
        assert!(!client.is_open());
    }
    client.start(Instant(0), &next, 0).unwrap();
}

#[test]
fn extreme_parameters_do_not_overflow() {
    let parameters = Parameters {
        ack_timeout: Duration::MAX,
        ack_random_percent: u16::MAX,
        max_retransmit: u8::MAX,
        response_timeout: Duration::MAX,
    };
    assert_eq!(parameters.exchange_lifetime(), Duration::MAX);
    let mut client = Client::new(parameters, 100);
    let request = message(Type::Confirmable, Code::POST, 100, b"tk");
    client.start(Instant(5), &request, u32::MAX).unwrap();
    assert_eq!(client.poll(Instant(5)), Output::Transmit(&request));
    assert_eq!(client.poll(Instant(5)), Output::Wait(Instant(u64::MAX)));
}

#[test]
fn message_ids_wrap() {
    let mut client = Client::new(Parameters::default(), 0xffff);
    let request = message(Type::Confirmable, Code::POST, 0xffff, b"a");
    client.start(Instant(0), &request, 0).unwrap();
    assert_eq!(client.next_message_id(), 0);
}

#[test]
fn a_copy_gets_the_very_same_reply_until_its_lifetime_ends() {
    let mut seen = Dedup::<_, Vec<u8>, 4>::new(&Parameters::default());
    let con = Type::Confirmable;
    assert_eq!(seen.check(Instant(0), &"peer", 1, con), Seen::New);
    assert_eq!(seen.check(Instant(1), &"peer", 1, con), Seen::Pending);
    assert_eq!(seen.check(Instant(1), &"other", 1, con), Seen::New);
    seen.reply(&"peer", 1, b"bytes".to_vec()).unwrap();
    let end = Instant(247_000);
    assert_eq!(
        seen.check(Instant(end.0 - 1), &"peer", 1, con),
        Seen::Replied(&b"bytes".to_vec())
    );
    assert_eq!(seen.check(end, &"peer", 1, con), Seen::New);
    assert_eq!(seen.check(end, &"peer", 1, con), Seen::Pending);
}

#[test]
fn non_confirmable_message_ids_are_free_earlier() {
    let mut seen = Dedup::<_, Vec<u8>, 4>::new(&Parameters::default());
    let end = Instant(145_000);
    assert_eq!(seen.check(Instant(0), &1, 1, Type::Confirmable), Seen::New);
    assert_eq!(
        seen.check(Instant(0), &1, 2, Type::NonConfirmable),
        Seen::New
    );
    assert_eq!(seen.check(end, &1, 2, Type::NonConfirmable), Seen::New);
    assert_eq!(seen.check(end, &1, 1, Type::Confirmable), Seen::Pending);
}

#[test]
fn memory_is_bounded_and_the_oldest_goes_first() {
    let mut seen = Dedup::<_, Vec<u8>, 4>::new(&Parameters::default());
    for id in 0..6 {
        assert_eq!(seen.check(Instant(0), &1, id, Type::Confirmable), Seen::New);
        assert!(seen.len() <= 4);
    }
    assert_eq!(seen.reply(&1, 1, vec![9]), Err(vec![9]));
    for id in 2..6 {
        assert_eq!(
            seen.check(Instant(0), &1, id, Type::Confirmable),
            Seen::Pending
        );
    }
    assert_eq!(seen.check(Instant(0), &1, 0, Type::Confirmable), Seen::New);
    assert_eq!(seen.check(Instant(0), &1, 2, Type::Confirmable), Seen::New);
}
