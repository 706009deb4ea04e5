//! CoAP over a stream (RFC 8323): frames survive any cut, and every signal has its answer.
#![allow(clippy::unwrap_used, missing_docs)]

use mote_schemas::coap::stream::{
    BASE_MESSAGE, Closed, Connection, Event, Frame, FrameError, from_datagram,
};
use mote_schemas::coap::{Code, Message, Type, Writer, option};
use proptest::prelude::*;

type Small = Connection<256>;

/// A connection whose peer has sent an empty CSM.
fn greeted() -> Small {
    let mut connection = Small::new();
    assert_eq!(connection.feed(&[0x00, 0xe1]), 2);
    assert_eq!(connection.poll(), Event::Idle);
    assert!(connection.is_greeted());
    connection
}

fn fed(bytes: &[u8]) -> Small {
    let mut connection = greeted();
    assert_eq!(connection.feed(bytes), bytes.len());
    connection
}

#[test]
fn the_example_of_rfc_8323_reads_as_it_says() {
    // Figures 6 and 8: 2.05 Content with token 0x4a, Len 0 and then with options and payload.
    let bytes = [0x01, 0x43, 0x7f];
    let (frame, length) = Frame::parse(&bytes, 256).unwrap().unwrap();
    assert_eq!(
        (length, frame.code, frame.token),
        (3, Code(0x43), &[0x7f][..])
    );
    assert_eq!(frame.tail, b"");
}

#[test]
fn each_end_begins_with_its_csm() {
    // 7.01, Max-Message-Size 256.
    assert_eq!(Small::greeting(), [0x30, 0xe1, 0x22, 0x01, 0x00]);
    let mut connection = Small::new();
    assert_eq!(connection.peer_max(), BASE_MESSAGE);
    // 2,560 and Block-Wise-Transfer.
    connection.feed(&[0x40, 0xe1, 0x22, 0x0a, 0x00, 0x20]);
    assert_eq!(connection.poll(), Event::Idle);
    assert_eq!(connection.peer_max(), 2560);
    assert!(connection.peer_takes_blocks());

    let mut connection = Small::new();
    connection.feed(&[0x00, 0x01]);
    let Event::Close(abort, Closed::NoCsm) = connection.poll() else {
        panic!("a request before the CSM was taken")
    };
    assert_eq!(abort, [0x00, 0xe5]);
    connection.feed(&[0x00, 0x01]);
    assert_eq!(connection.poll(), Event::Idle, "closed is closed");
}

#[test]
fn a_ping_gets_a_pong_with_its_token_and_its_custody() {
    let mut connection = fed(&[0x01, 0xe2, 0x77]);
    let Event::Send(pong) = connection.poll() else {
        panic!()
    };
    assert_eq!(pong, [0x01, 0xe3, 0x77]);
    let mut connection = fed(&[0x11, 0xe2, 0x77, 0x20]);
    let Event::Send(pong) = connection.poll() else {
        panic!()
    };
    assert_eq!(pong, [0x11, 0xe3, 0x77, 0x20]);
    assert_eq!(connection.poll(), Event::Idle);
}

#[test]
fn release_and_abort_end_the_connection_without_a_word() {
    for (code, why) in [(0xe4, Closed::Released), (0xe5, Closed::Aborted)] {
        let mut connection = fed(&[0x00, code]);
        let Event::Close(last, closed) = connection.poll() else {
            panic!()
        };
        assert_eq!((last.as_slice(), closed), (&[][..], why));
    }
    assert_eq!(Small::farewell(), [0x00, 0xe4]);
}

#[test]
fn a_critical_option_in_a_csm_is_named_in_the_abort() {
    let mut connection = Small::new();
    connection.feed(&[0x10, 0xe1, 0x50]);
    let Event::Close(abort, Closed::BadSignalOption(5)) = connection.poll() else {
        panic!()
    };
    assert_eq!(abort, [0x20, 0xe5, 0x21, 0x05]);
    assert!(!connection.is_greeted());
}

#[test]
fn empty_messages_pongs_and_unknown_signals_mean_nothing() {
    let mut connection = fed(&[0x00, 0x00, 0x00, 0xe3, 0x00, 0xe9, 0x01, 0x01, 0xaa]);
    let Event::Message(frame) = connection.poll() else {
        panic!()
    };
    assert_eq!((frame.code, frame.token), (Code::GET, &[0xaa][..]));
    assert_eq!(connection.poll(), Event::Idle);
}

#[test]
fn what_is_no_message_ends_the_connection() {
    let too_large = [0xe1, 0x00, 0x00, 0x01, 0xaa];
    for (bytes, why) in [
        (&[0x09, 0x01][..], Closed::Malformed),
        // Class 1; a payload marker without payload; an option that runs over the end.
        (&[0x00, 0x20], Closed::Malformed),
        (&[0x10, 0x01, 0xff], Closed::Malformed),
        (&[0x10, 0x01, 0xb2], Closed::Malformed),
        (&[0x10, 0xe2, 0xff], Closed::Malformed),
        (&too_large, Closed::TooLarge),
        (&[0xf0, 0xff, 0xff, 0xff, 0xff], Closed::TooLarge),
    ] {
        let mut connection = fed(bytes);
        let Event::Close(abort, closed) = connection.poll() else {
            panic!("{bytes:x?} was taken")
        };
        assert_eq!(
            (abort.as_slice(), closed),
            (&[0x00, 0xe5][..], why),
            "{bytes:x?}"
        );
    }
}

fn datagram(token: &[u8], options: usize, payload: &[u8]) -> Vec<u8> {
    let mut buffer = vec![0; 80_000];
    let mut writer =
        Writer::new(&mut buffer, Type::Confirmable, Code::POST, 0x1234, token).unwrap();
    for _ in 0..options {
        writer = writer.option(option::URI_PATH, b"segment").unwrap();
    }
    let length = writer.payload(payload).unwrap();
    buffer.truncate(length);
    buffer
}

/// Every width of the length field, at its edges.
#[test]
fn a_message_of_any_length_comes_back_as_the_datagram_that_it_was() {
    for length in [
        0, 1, 11, 12, 13, 14, 267, 268, 269, 270, 65_803, 65_804, 65_805, 66_000,
    ] {
        let original = datagram(b"token", 0, &vec![7; length]);
        let message = Message::parse(&original).unwrap();
        let mut stream = vec![0; 80_000];
        let written = from_datagram(&message, &original, &mut stream).unwrap();
        assert!(length > 65_803 || written <= original.len());
        let (frame, taken) = Frame::parse(&stream[..written], 80_000).unwrap().unwrap();
        assert_eq!(taken, written);
        let mut back = vec![0; 80_000];
        let end = frame
            .to_datagram(Type::Confirmable, 0x1234, &mut back)
            .unwrap();
        assert_eq!(back[..end], original);
        // One byte less is not yet a message, and one byte less of room none at all.
        assert_eq!(Frame::parse(&stream[..written - 1], 80_000), Ok(None));
        assert_eq!(
            Frame::parse(&stream[..written], written - 1),
            Err(FrameError::TooLarge)
        );
        assert_eq!(
            from_datagram(&message, &original, &mut stream[..written - 1]),
            None
        );
    }
}

proptest! {
    #[test]
    fn messages_arrive_in_order_however_the_stream_is_cut(
        messages in prop::collection::vec(
            (prop::collection::vec(any::<u8>(), 0..=8), 0..4_usize, prop::collection::vec(any::<u8>(), 0..150)),
            1..12,
        ),
        cuts in prop::collection::vec(1..90_usize, 1..40),
    ) {
        let mut stream = vec![0x00, 0xe1];
        let sent: Vec<Vec<u8>> =
            messages.iter().map(|(token, options, payload)| datagram(token, *options, payload)).collect();
        for original in &sent {
            let mut frame = [0; 300];
            let length = from_datagram(&Message::parse(original).unwrap(), original, &mut frame).unwrap();
            stream.extend_from_slice(&frame[..length]);
        }
        let (mut connection, mut received, mut at) = (Small::new(), Vec::new(), 0);
        for cut in cuts.into_iter().chain(std::iter::repeat(50)) {
            if at == stream.len() {
                break;
            }
            at += connection.feed(&stream[at..stream.len().min(at + cut)]);
            loop {
                match connection.poll() {
                    Event::Message(frame) => {
                        let mut back = [0; 300];
                        let end = frame.to_datagram(Type::Confirmable, 0x1234, &mut back).unwrap();
                        received.push(back[..end].to_vec());
                    }
                    Event::Idle => break,
                    other => prop_assert!(false, "{other:?}"),
                }
            }
        }
        prop_assert_eq!(received, sent);
    }

    #[test]
    fn no_input_panics_or_holds_the_connection_up(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let mut connection = greeted();
        let mut at = 0;
        while at < bytes.len() {
            let taken = connection.feed(&bytes[at..]);
            at += taken;
            let mut steps = 0;
            let closed = loop {
                steps += 1;
                prop_assert!(steps < 700);
                match connection.poll() {
                    Event::Idle => break false,
                    Event::Close(..) => break true,
                    _ => {}
                }
            };
            if closed {
                break;
            }
            prop_assert!(taken > 0);
        }
    }
}
