//! What is protected, where it travels, and that no nonce is used twice.

use super::*;

#[test]
fn options_travel_where_their_class_says() {
    let plain = write(
        Code(5), // FETCH
        &[
            (3, b"verifier"),
            (7, &[22, 51]),
            (11, b"log"),
            (12, &[60]),
            (14, &[5]),
            (23, &[6]),
            (27, &[14]),
            (39, b"coap"),
            (60, &[200]),
            (252, b"echo"),
            (292, b"tag"),
            (65_000, b"unknown"),
        ],
        b"p",
    );
    let (protected, _) = protect(&mut client(), &plain);
    let outer = Message::parse(&protected).unwrap();
    let numbers: Vec<_> = outer.options().map(|option| option.number).collect();
    assert_eq!(numbers, [3, 7, 9, 39]);
    assert_eq!(outer.code(), Code::POST);
    assert_eq!((outer.message_id(), outer.token()), (77, &b"tokn"[..]));
    assert_eq!(
        outcome(&mut server(), &protected),
        Err(UnprotectRequestError::UnsupportedOuterOption(39)),
    );
    assert_eq!(
        UnprotectRequestError::UnsupportedOuterOption(39).code(),
        Code(0xa5) // 5.05 Proxying Not Supported
    );
    // As the proxy forwards it: without Proxy-Scheme (RFC 7252, 5.10.2).
    let mut forwarded = vec![0; 1024];
    let mut writer = Writer::new(&mut forwarded, Type::Confirmable, Code::POST, 1, b"").unwrap();
    for option in outer.options().filter(|option| option.number != 39) {
        writer = writer.option(option.number, option.value).unwrap();
    }
    let length = writer.payload(outer.payload()).unwrap();
    with_opened(&mut server(), &forwarded[..length], |_, opened| {
        let numbers: Vec<_> = opened.body.options().map(|option| option.number).collect();
        assert_eq!(numbers, [11, 12, 14, 23, 27, 60, 252, 292, 65_000]);
        assert_eq!(opened.body.code(), Code(5));
    });
}

#[test]
fn what_cannot_be_protected_uses_no_sequence_number() {
    let mut client = client();
    let before = mutable_state(&client);
    for number in [6, 9, 21, 35, 235, 239] {
        let plain = write(Code::POST, &[(number, b"x")], b"");
        let message = Message::parse(&plain).unwrap();
        assert_eq!(
            client.protect_request(&message, &mut [0; 256]),
            Err(ProtectError::UnsupportedOption(number)),
        );
    }
    let (plain, wrong) = (request(), response());
    let message = Message::parse(&plain).unwrap();
    assert_eq!(
        client.protect_request(&Message::parse(&wrong).unwrap(), &mut [0; 256]),
        Err(ProtectError::WrongCode),
    );
    let needed = protect(&mut super::client(), &plain).0.len();
    for space in 0..needed {
        assert_eq!(
            client.protect_request(&message, &mut vec![0; space]),
            Err(ProtectError::Write(WriteError::BufferTooSmall)),
            "{space} bytes",
        );
    }
    assert_eq!(mutable_state(&client), before);
    assert!(
        client
            .protect_request(&message, &mut vec![0; needed])
            .is_ok()
    );
}

#[test]
fn sequence_numbers_end_and_never_go_back() {
    let mut client = client();
    let (plain, mut out) = (request(), [0; 256]);
    let message = Message::parse(&plain).unwrap();
    client.set_sender_sequence(MAX_SEQUENCE).unwrap();
    assert_eq!(
        client.set_sender_sequence(MAX_SEQUENCE - 1),
        Err(SequenceReused)
    );
    let (length, _) = client.protect_request(&message, &mut out).unwrap();
    let protected = Message::parse(&out[..length]).unwrap();
    let header = OscoreOption::of(&protected).unwrap().unwrap();
    assert_eq!(header.partial_iv, Some(MAX_SEQUENCE));
    assert_eq!(outcome(&mut server(), &out[..length]), Ok(true));
    assert_eq!(
        client.protect_request(&message, &mut out),
        Err(ProtectError::SequenceExhausted),
    );
}

#[test]
fn unusable_inputs_give_no_context() {
    let derive = |context, ours: &[u8], theirs: &[u8]| {
        Context::derive(SECRET, b"", context, ours, theirs).err()
    };
    assert_eq!(derive(None, b"", b""), Some(DeriveError::IdsNotUnique));
    assert_eq!(derive(None, b"ab", b"ab"), Some(DeriveError::IdsNotUnique));
    assert_eq!(derive(None, b"12345678", b""), Some(DeriveError::IdTooLong));
    assert_eq!(derive(None, b"", b"12345678"), Some(DeriveError::IdTooLong));
    assert_eq!(
        derive(Some(&[0; 33]), b"", b"a"),
        Some(DeriveError::IdContextTooLong)
    );
    assert_eq!(derive(Some(&[0; 32]), b"1234567", b"7654321"), None);
}

#[test]
fn two_responses_to_one_request_use_two_nonces() {
    let mut server = server();
    let (datagram, _) = protect(&mut client(), &request());
    let plain = response();
    let response = Message::parse(&plain).unwrap();
    let (mut first, mut second) = ([0; 128], [0; 128]);
    with_opened(&mut server, &datagram, |server, opened| {
        let a = server
            .protect_response(&opened.request, &response, &mut first)
            .unwrap();
        let b = server
            .protect_response(&opened.request, &response, &mut second)
            .unwrap();
        assert_ne!(first[..a], second[..b]);
    });
    assert_eq!(server.sender_sequence(), 2);
}
