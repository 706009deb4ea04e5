//! What is not CoAP is refused with its fault named; what is written can be read back.
#![allow(clippy::unwrap_used, missing_docs)]

use mote_schemas::coap::{
    Code, Message, OptionSpec, ParseError, Type, WriteError, Writer, empty, option, reject,
};
use proptest::prelude::*;

fn unhex(hex: &str) -> Vec<u8> {
    (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
        .collect()
}

#[test]
fn malformed_datagrams_are_refused_with_their_fault() {
    let mut lines = 0;
    let file = include_str!("../vectors/coap/malformed.txt");
    for line in file.lines().filter(|line| !line.starts_with('#')) {
        let (fault, hex) = line.split_once(" =").unwrap();
        let found = Message::parse(&unhex(hex.trim())).expect_err(line);
        assert_eq!(format!("{found:?}"), fault, "{line}");
        lines += 1;
    }
    assert_eq!(lines, 40);
}

#[test]
fn only_a_confirmable_message_of_our_version_is_rejected_aloud() {
    assert_eq!(reject(&unhex("40010abcff")), Some([0x70, 0, 0x0a, 0xbc]));
    assert_eq!(reject(&unhex("49010abc")), Some([0x70, 0, 0x0a, 0xbc]));
    for silent in [
        "50010abcff",
        "60450abcff",
        "70000abc00",
        "80010abcff",
        "40010a",
    ] {
        assert_eq!(reject(&unhex(silent)), None, "{silent}");
    }
}

#[test]
fn empty_messages_are_four_bytes() {
    assert_eq!(empty(Type::Acknowledgement, 0x1234), [0x60, 0, 0x12, 0x34]);
    let ping = empty(Type::Confirmable, 7);
    assert_eq!(Message::parse(&ping).unwrap().code(), Code::EMPTY);
}

fn start(buffer: &mut [u8]) -> Result<Writer<'_>, WriteError> {
    Writer::new(buffer, Type::Confirmable, Code::POST, 1, b"")
}

#[test]
fn writer_refuses_what_cannot_be_written() {
    let mut buffer = [0; 32];
    assert_eq!(
        Writer::new(&mut buffer, Type::Confirmable, Code::POST, 1, &[0; 9]).err(),
        Some(WriteError::TokenTooLong)
    );
    assert_eq!(
        start(&mut buffer[..3]).err(),
        Some(WriteError::BufferTooSmall)
    );
    let writer = start(&mut buffer).unwrap().option(11, b"a").unwrap();
    assert_eq!(
        writer.option(3, b"host").err(),
        Some(WriteError::OptionOutOfOrder)
    );
    let writer = start(&mut buffer).unwrap();
    assert_eq!(
        writer.option(11, &vec![0; 65_536]).err(),
        Some(WriteError::OptionTooLong)
    );
    for (space, payload, fits) in [
        (5, 0, true),
        (5, 1, false),
        (6, 0, true),
        (6, 1, false),
        (7, 1, true),
    ] {
        let mut buffer = vec![0; space];
        let writer = start(&mut buffer).unwrap().option(11, b"");
        let written = writer.unwrap().payload(&vec![1; payload]);
        let expected = if fits {
            Ok(5 + payload + usize::from(payload > 0))
        } else {
            Err(WriteError::BufferTooSmall)
        };
        assert_eq!(written, expected, "{payload} in {space}");
    }
}

#[test]
fn unsigned_values_tolerate_leading_zeros_but_not_overflow() {
    let mut buffer = [0; 64];
    for (value, uint) in [
        (&b""[..], Some(0)),
        (b"\0", Some(0)),
        (b"\x01\x00", Some(256)),
        (b"\0\0\0\0\0\x3c", Some(60)),
        (b"\xff\xff\xff\xff", Some(u32::MAX)),
        (b"\x01\0\0\0\0", None),
    ] {
        let writer = Writer::new(&mut buffer, Type::Confirmable, Code::POST, 1, b"").unwrap();
        let length = writer.option(option::MAX_AGE, value).unwrap().finish();
        let message = Message::parse(&buffer[..length]).unwrap();
        assert_eq!(
            message.option(option::MAX_AGE).unwrap().uint(),
            uint,
            "{value:?}"
        );
    }
}

type Options = &'static [(u16, &'static [u8])];

#[test]
fn first_unrecognised_critical_option_is_named() {
    let supported = &[
        OptionSpec::URI_PATH,
        OptionSpec::CONTENT_FORMAT,
        OptionSpec::BLOCK1,
    ];
    let cases: [(Options, Option<u16>); 7] = [
        (&[(11, b"a"), (11, b"b"), (12, b"\x3c")], None),
        // Elective: ignored, known or not, well formed or not.
        (&[(4, b"etag"), (12, b"too long"), (65_000, b"")], None),
        (&[(5, b""), (9, b"")], Some(5)),
        (&[(11, b"a"), (27, b"\x06"), (65_001, b"")], Some(65_001)),
        // RFC 7252, 5.4.5: one occurrence too many.
        (&[(27, b"\x06"), (27, b"\x06")], Some(27)),
        // RFC 7252, 5.4.3: longer than the option may be.
        (&[(27, b"\0\0\0\x06")], Some(27)),
        (&[(3, b"")], Some(3)),
    ];
    for (options, expected) in cases {
        let mut buffer = [0; 64];
        let mut writer = Writer::new(&mut buffer, Type::Confirmable, Code::GET, 1, b"").unwrap();
        for (number, value) in options {
            writer = writer.option(*number, value).unwrap();
        }
        let length = writer.finish();
        let body = Message::parse(&buffer[..length]).unwrap().body();
        assert_eq!(
            body.unrecognised_critical(supported),
            expected,
            "{options:?}"
        );
    }
}

proptest! {
    #[test]
    fn parsing_never_panics_and_re_encoding_is_the_identity(
        bytes in prop::collection::vec(any::<u8>(), 0..64),
        well_formed_start in any::<bool>(),
    ) {
        let mut bytes = bytes;
        if well_formed_start && bytes.len() > 4 {
            bytes[0] = 0x40 | (bytes[0] & 3);
            bytes[1] = 2;
        }
        let Ok(message) = Message::parse(&bytes) else { return Ok(()) };
        let mut out = [0; 128];
        let mut writer = Writer::new(
            &mut out, message.kind(), message.code(), message.message_id(), message.token(),
        ).unwrap();
        for option in message.options() {
            writer = writer.option(option.number, option.value).unwrap();
        }
        let length = writer.payload(message.payload()).unwrap();
        let again = Message::parse(&out[..length]).unwrap();
        prop_assert!(message.options().eq(again.options()));
        prop_assert_eq!(message.payload(), again.payload());
        // Extended deltas and lengths have one spelling, so this is even the same bytes.
        prop_assert_eq!(&out[..length], &bytes[..]);
    }

    #[test]
    fn written_options_are_read_back(
        mut options in prop::collection::vec((any::<u16>(), prop::collection::vec(any::<u8>(), 0..300)), 0..8),
        payload in prop::collection::vec(any::<u8>(), 0..20),
    ) {
        options.sort_by_key(|(number, _)| *number);
        let mut out = [0; 4096];
        let mut writer = Writer::new(&mut out, Type::NonConfirmable, Code::POST, 9, b"12345678").unwrap();
        for (number, value) in &options {
            writer = writer.option(*number, value).unwrap();
        }
        let length = writer.payload(&payload).unwrap();
        let message = Message::parse(&out[..length]).unwrap();
        let found: Vec<_> = message.options().map(|o| (o.number, o.value.to_vec())).collect();
        prop_assert_eq!(found, options);
        prop_assert_eq!(message.payload(), &payload[..]);
        // Cut anywhere, it is refused or loses only payload, whole options or their values' end.
        for cut in 0..length {
            let cut = Message::parse(&out[..cut]);
            prop_assert!(cut.map_or_else(|e| e != ParseError::UnknownVersion, |m| m.token() == b"12345678"));
        }
    }
}
