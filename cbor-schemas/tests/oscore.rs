//! What OSCORE refuses, and that refusing changes nothing.
#![allow(clippy::unwrap_used, missing_docs)]

use mote_schemas::coap::{Body, Code, Message, Type, WriteError, Writer, option};
use mote_schemas::oscore::{
    Context, DeriveError, MAX_SEQUENCE, MalformedOption, OscoreOption, ProtectError, ReplayWindow,
    SentRequest, SequenceReused, UnprotectRequestError, UnprotectResponseError, Unprotected,
};
use proptest::prelude::*;

const SECRET: &[u8] = b"a secret from the TPM";
const KID: &[u8] = &[0xa1, 0xb2, 0xc3];

fn client() -> Context {
    Context::derive(SECRET, b"salt", None, KID, b"").unwrap()
}

fn server() -> Context {
    Context::derive(SECRET, b"salt", None, b"", KID).unwrap()
}

fn write(code: Code, options: &[(u16, &[u8])], payload: &[u8]) -> Vec<u8> {
    let mut buffer = vec![0; 1024];
    let mut writer = Writer::new(&mut buffer, Type::Confirmable, code, 77, b"tokn").unwrap();
    for (number, value) in options {
        writer = writer.option(*number, value).unwrap();
    }
    let length = writer.payload(payload).unwrap();
    buffer.truncate(length);
    buffer
}

fn request() -> Vec<u8> {
    write(
        Code::POST,
        &[(3, b"verifier"), (11, b"beat"), (12, &[60])],
        b"evidence",
    )
}

fn response() -> Vec<u8> {
    write(Code::CHANGED, &[(14, &[30])], b"verdict")
}

fn protect(client: &mut Context, plain: &[u8]) -> (Vec<u8>, SentRequest) {
    let mut out = vec![0; 1024];
    let message = Message::parse(plain).unwrap();
    let (length, sent) = client.protect_request(&message, &mut out).unwrap();
    out.truncate(length);
    (out, sent)
}

fn outcome(server: &mut Context, datagram: &[u8]) -> Result<bool, UnprotectRequestError> {
    let message = Message::parse(datagram).unwrap();
    let mut out = [0; 1024];
    let opened = server.unprotect_request(&message, &mut out)?;
    Ok(matches!(opened, Unprotected::Fresh(_)))
}

/// `plain` as the server gives it back, through both contexts.
fn with_opened<T>(
    server: &mut Context,
    datagram: &[u8],
    check: impl FnOnce(&mut Context, mote_schemas::oscore::OpenedRequest<'_>) -> T,
) -> T {
    let message = Message::parse(datagram).unwrap();
    let mut out = [0; 1024];
    match server.unprotect_request(&message, &mut out).unwrap() {
        Unprotected::Fresh(opened) => check(server, opened),
        Unprotected::Unsynchronised(_) => panic!("window is lost"),
    }
}

fn mutable_state(context: &Context) -> (u64, ReplayWindow) {
    (context.sender_sequence(), *context.replay_window())
}

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
fn outer_options_of_class_e_are_discarded() {
    let (protected, _) = protect(&mut client(), &request());
    let outer = Message::parse(&protected).unwrap();
    let oscore = outer.option(option::OSCORE).unwrap().value;
    let forged = write(
        Code::GET,
        &[(6, b""), (9, oscore), (11, b"admin"), (12, &[0])],
        outer.payload(),
    );
    with_opened(&mut server(), &forged, |_, opened| {
        assert_eq!(opened.body.code(), Code::POST);
        assert!(opened.body.path_is(&["beat"]));
        assert_eq!(opened.body.option(12).unwrap().uint(), Some(60));
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
    let needed = protect(&mut self::client(), &plain).0.len();
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
fn malformed_options_are_refused() {
    for malformed in [
        &[0x00][..],   // flags zero, but not empty
        &[0x80, 0x01], // reserved bits
        &[0x40, 0x01],
        &[0x20, 0x01],
        &[0x06, 1, 2, 3, 4, 5, 6], // reserved lengths
        &[0x07, 1, 2, 3, 4, 5, 6, 7],
        &[0x01], // truncated partial IV
        &[0x0d, 1, 2, 3, 4],
        &[0x02, 0x00, 0x14],    // leading zero
        &[0x01, 0x14, 0x00],    // a kid without its flag
        &[0x10],                // no kid context length
        &[0x19, 0x14, 3, 1, 2], // kid context overruns
    ] {
        assert_eq!(
            OscoreOption::parse(malformed),
            Err(MalformedOption),
            "{malformed:02x?}"
        );
        let datagram = write(Code::POST, &[(9, malformed)], &[0; 20]);
        let error = outcome(&mut server(), &datagram).unwrap_err();
        assert_eq!(error, UnprotectRequestError::MalformedOption);
        assert_eq!(error.code(), Code::BAD_OPTION);
        let message = Message::parse(&datagram).unwrap();
        let (_, sent) = protect(&mut client(), &request());
        assert_eq!(
            client().unprotect_response(&sent, &message, &mut [0; 64]),
            Err(UnprotectResponseError::MalformedOption),
        );
    }
    let full = OscoreOption::parse(&[0x1a, 0x01, 0x00, 2, 7, 8, 9]).unwrap();
    assert_eq!(full.partial_iv, Some(256));
    assert_eq!(
        (full.kid_context, full.kid),
        (Some(&[7, 8][..]), Some(&[9][..]))
    );
}

#[test]
fn requests_that_are_not_for_this_context_are_told_apart() {
    let (protected, _) = protect(&mut client(), &request());
    let payload = Message::parse(&protected).unwrap().payload().to_vec();
    let cases: [(&[(u16, &[u8])], &[u8], UnprotectRequestError, Code); 8] = [
        (
            &[(11, b"beat")],
            b"clear",
            UnprotectRequestError::NotProtected,
            Code(0x81),
        ),
        (
            &[(9, &[0x09, 0, 0xa1, 0xb2, 0xc3])],
            b"",
            UnprotectRequestError::NoCiphertext,
            Code(0x80),
        ),
        (
            &[(9, &[0x09, 0, 0xa1, 0xb2])],
            &payload,
            UnprotectRequestError::SecurityContextNotFound,
            Code(0x81),
        ),
        (
            &[(9, &[0x19, 0, 1, 5, 0xa1, 0xb2, 0xc3])],
            &payload,
            UnprotectRequestError::SecurityContextNotFound,
            Code(0x81),
        ),
        // A request needs both kid and partial IV.
        (
            &[(9, &[0x01, 0])],
            &payload,
            UnprotectRequestError::MalformedOption,
            Code(0x82),
        ),
        (
            &[(9, &[0x08, 0xa1, 0xb2, 0xc3])],
            &payload,
            UnprotectRequestError::MalformedOption,
            Code(0x82),
        ),
        // The option may not be repeated.
        (
            &[(9, &[0x09, 0, 0xa1, 0xb2, 0xc3]), (9, &[])],
            &payload,
            UnprotectRequestError::MalformedOption,
            Code(0x82),
        ),
        // A fragment made by a proxy.
        (
            &[(9, &[0x09, 0, 0xa1, 0xb2, 0xc3]), (27, &[8])],
            &payload,
            UnprotectRequestError::UnsupportedOuterOption(27),
            Code(0x82),
        ),
    ];
    let mut server = server();
    let before = mutable_state(&server);
    for (options, payload, error, code) in cases {
        assert_eq!(
            outcome(&mut server, &write(Code::POST, options, payload)),
            Err(error)
        );
        assert_eq!(error.code(), code);
    }
    assert_eq!(mutable_state(&server), before);
}

/// Flips every bit in turn. Outside of what the AEAD covers a flip may go unnoticed, but never
/// changes what is read.
#[test]
fn no_flipped_bit_changes_a_request() {
    let (protected, _) = protect(&mut client(), &request());
    let plain = request();
    let expected = Message::parse(&plain).unwrap();
    let ciphertext = protected.len() - Message::parse(&protected).unwrap().payload().len();
    let (mut refused, mut same) = (0, 0);
    for bit in 0..protected.len() * 8 {
        let mut flipped = protected.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let Ok(message) = Message::parse(&flipped) else {
            continue;
        };
        let mut server = server();
        let before = mutable_state(&server);
        let mut out = [0; 256];
        match server.unprotect_request(&message, &mut out) {
            Ok(Unprotected::Fresh(opened)) => {
                assert!(bit / 8 < ciphertext, "bit {bit} of the ciphertext");
                assert_eq!(opened.body.code(), expected.code());
                assert_eq!(opened.body.payload(), expected.payload());
                assert!(opened.body.path_is(&["beat"]));
                same += 1;
            }
            Ok(Unprotected::Unsynchronised(_)) => panic!("window was not lost"),
            Err(error) => {
                if bit / 8 >= ciphertext {
                    assert_eq!(error, UnprotectRequestError::DecryptionFailed);
                    assert!(
                        out.iter().all(|&byte| byte == 0),
                        "forged plaintext left behind"
                    );
                }
                assert_eq!(mutable_state(&server), before);
                refused += 1;
            }
        }
    }
    assert!(
        refused > 8 * (protected.len() - ciphertext) && same > 0,
        "{refused} {same}"
    );
}

#[test]
fn truncated_ciphertexts_are_refused() {
    let (protected, sent) = protect(&mut client(), &request());
    let length = Message::parse(&protected).unwrap().payload().len();
    for cut in 1..length {
        assert_eq!(
            outcome(&mut server(), &protected[..protected.len() - cut]),
            Err(UnprotectRequestError::DecryptionFailed),
        );
    }
    let answer = write(Code::CHANGED, &[(9, b"")], &[7; 7]);
    let answer = Message::parse(&answer).unwrap();
    assert_eq!(
        client().unprotect_response(&sent, &answer, &mut [0; 9]),
        Err(UnprotectResponseError::DecryptionFailed),
    );
}

#[test]
fn replays_are_refused_and_gaps_are_filled_in_any_order() {
    let (mut client, mut server) = (client(), server());
    let sent: Vec<_> = (0..100)
        .map(|_| protect(&mut client, &request()).0)
        .collect();
    for at in [3, 0, 1, 50, 40, 99, 36] {
        assert_eq!(outcome(&mut server, &sent[at]), Ok(true), "{at}");
    }
    // 99 is the highest: 36 is the oldest that is still told apart, 35 is too old to tell.
    for at in [3, 0, 1, 50, 40, 99, 36, 2, 35] {
        assert_eq!(
            outcome(&mut server, &sent[at]),
            Err(UnprotectRequestError::ReplayDetected),
            "{at}",
        );
    }
    for at in [37, 98] {
        assert_eq!(outcome(&mut server, &sent[at]), Ok(true), "{at}");
    }
    let (next, seen) = server.replay_window().stored().unwrap();
    let mut restored = self::server();
    restored.set_replay_window(ReplayWindow::restore(next, seen));
    assert_eq!(
        outcome(&mut restored, &sent[98]),
        Err(UnprotectRequestError::ReplayDetected)
    );
    assert_eq!(outcome(&mut restored, &sent[60]), Ok(true));
}

#[test]
fn a_forged_sequence_number_does_not_move_the_window() {
    let (mut client, mut server) = (client(), server());
    let (protected, _) = protect(&mut client, &request());
    let payload = Message::parse(&protected).unwrap().payload().to_vec();
    let forged = write(
        Code::POST,
        &[(9, &[0x0d, 0xff, 0xff, 0xff, 0xff, 0xff, 0xa1, 0xb2, 0xc3])],
        &payload,
    );
    assert_eq!(
        outcome(&mut server, &forged),
        Err(UnprotectRequestError::DecryptionFailed)
    );
    assert_eq!(outcome(&mut server, &protected), Ok(true));
}

#[test]
fn after_a_restart_only_an_echo_brings_the_window_back() {
    let mut client = client();
    let (before, _) = protect(&mut client, &request());
    let mut server = server();
    server.set_sender_sequence(1000).unwrap();
    server.set_replay_window(ReplayWindow::lost());
    let challenge = b"fresh random";
    let echo = |value: &[u8]| write(Code::POST, &[(11, b"beat"), (252, value)], b"evidence");

    let (asked, sent) = protect(&mut client, &request());
    let mut challenged = vec![0; 256];
    let message = Message::parse(&asked).unwrap();
    let mut out = [0; 256];
    let Unprotected::Unsynchronised(request) =
        server.unprotect_request(&message, &mut out).unwrap()
    else {
        panic!("taken for fresh");
    };
    let unauthorized = write(Code::UNAUTHORIZED, &[(252, challenge)], b"");
    let unauthorized = Message::parse(&unauthorized).unwrap();
    let length = server
        .protect_response(request.request(), &unauthorized, &mut challenged)
        .unwrap();
    assert!(
        request.synchronise(&mut server, challenge).is_err(),
        "no Echo"
    );
    assert!(server.replay_window().is_lost());

    let reply = Message::parse(&challenged[..length]).unwrap();
    let mut inner = [0; 64];
    let body = client
        .unprotect_response(&sent, &reply, &mut inner)
        .unwrap();
    assert_eq!(body.code(), Code::UNAUTHORIZED);
    let received = body.option(option::ECHO).unwrap().value.to_vec();

    let mut try_echo = |plain: &[u8], expected: &[u8]| {
        let (datagram, _) = protect(&mut client, plain);
        let message = Message::parse(&datagram).unwrap();
        let mut out = [0; 256];
        let outcome = match server.unprotect_request(&message, &mut out).unwrap() {
            Unprotected::Fresh(_) => "fresh",
            Unprotected::Unsynchronised(request) => {
                match request.synchronise(&mut server, expected) {
                    Ok(opened) if opened.body.payload() == b"evidence" => "synchronised",
                    Ok(_) => "wrong body",
                    Err(_) => "still lost",
                }
            }
        };
        (outcome, datagram)
    };
    assert_eq!(try_echo(&echo(b"stale"), challenge).0, "still lost");
    assert_eq!(try_echo(&self::request(), b"").0, "still lost");
    let (outcome_with_echo, with_echo) = try_echo(&echo(&received), challenge);
    assert_eq!(outcome_with_echo, "synchronised");
    assert_eq!(try_echo(&self::request(), challenge).0, "fresh");
    // Everything from before, and the request that synchronised, is a replay now.
    for old in [&before, &asked, &with_echo] {
        assert_eq!(
            outcome(&mut server, old),
            Err(UnprotectRequestError::ReplayDetected)
        );
    }
}

#[test]
fn a_second_echo_does_not_move_the_window_back() {
    let (mut client, mut server) = (client(), server());
    server.set_replay_window(ReplayWindow::lost());
    let plain = write(Code::POST, &[(252, b"challenge")], b"");
    let (first, _) = protect(&mut client, &plain);
    let (second, _) = protect(&mut client, &plain);
    let (mut out1, mut out2) = ([0; 64], [0; 64]);
    let mut held = |datagram: &[u8], out| match server
        .unprotect_request(&Message::parse(datagram).unwrap(), out)
    {
        Ok(Unprotected::Unsynchronised(request)) => request,
        other => panic!("{other:?}"),
    };
    // Both in hand before either synchronises.
    let (first, second) = (held(&first, &mut out1), held(&second, &mut out2));
    assert!(second.synchronise(&mut server, b"challenge").is_ok());
    assert!(first.synchronise(&mut server, b"challenge").is_err());
    assert!(!server.replay_window().is_new(1));
    assert!(server.replay_window().is_new(2));
}

#[test]
fn a_response_answers_only_its_request() {
    let (mut client, mut server) = (client(), server());
    let (first, sent_first) = protect(&mut client, &request());
    let (_, sent_second) = protect(&mut client, &request());
    let plain = response();
    let response = Message::parse(&plain).unwrap();
    let mut out = vec![0; 256];
    let length = with_opened(&mut server, &first, |server, opened| {
        assert_eq!(
            server.protect_response(
                &opened.request,
                &Message::parse(&request()).unwrap(),
                &mut out
            ),
            Err(ProtectError::WrongCode),
        );
        server
            .protect_response(&opened.request, &response, &mut out)
            .unwrap()
    });
    let reply = Message::parse(&out[..length]).unwrap();
    let open = |sent, reply: &Message<'_>| {
        let mut inner = [0; 64];
        client
            .unprotect_response(sent, reply, &mut inner)
            .map(|body: Body<'_>| body.code())
    };
    assert_eq!(open(&sent_first, &reply), Ok(Code::CHANGED));
    assert_eq!(
        open(&sent_second, &reply),
        Err(UnprotectResponseError::DecryptionFailed)
    );
    assert_eq!(
        open(&sent_first, &response),
        Err(UnprotectResponseError::NotProtected)
    );

    let oscore = reply.option(9).unwrap().value;
    let with = |options: &[(u16, &[u8])], payload: &[u8]| write(Code::CHANGED, options, payload);
    for (datagram, error) in [
        (
            with(&[(9, oscore)], b""),
            UnprotectResponseError::NoCiphertext,
        ),
        (
            with(&[(9, oscore), (23, &[8])], reply.payload()),
            UnprotectResponseError::UnsupportedOuterOption(23),
        ),
        (
            with(&[(9, &[0x09, 0, 5])], reply.payload()),
            UnprotectResponseError::SecurityContextNotFound,
        ),
        // Without its partial IV it is tried with the request's nonce.
        (
            with(&[(9, b"")], reply.payload()),
            UnprotectResponseError::DecryptionFailed,
        ),
    ] {
        assert_eq!(
            open(&sent_first, &Message::parse(&datagram).unwrap()),
            Err(error)
        );
    }
    // The peer named by the kid may also be named: it is ours.
    let named = with(&[(9, &[0x09, 0])], reply.payload());
    assert_eq!(
        open(&sent_first, &Message::parse(&named).unwrap()),
        Ok(Code::CHANGED)
    );
    let mut small = [0; 4];
    assert_eq!(
        client.unprotect_response(&sent_first, &reply, &mut small),
        Err(UnprotectResponseError::BufferTooSmall),
    );
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

proptest! {
    #[test]
    fn protecting_and_unprotecting_is_the_identity(
        path in "[a-z]{0,20}", payload in prop::collection::vec(any::<u8>(), 0..600),
        kid in prop::collection::vec(any::<u8>(), 1..=7),
        id_context in prop::option::of(prop::collection::vec(any::<u8>(), 0..=32)),
        sequence in 0..=MAX_SEQUENCE,
    ) {
        let id_context = id_context.as_deref();
        let mut client = Context::derive(SECRET, b"", id_context, &kid, b"").unwrap();
        let mut server = Context::derive(SECRET, b"", id_context, b"", &kid).unwrap();
        client.set_sender_sequence(sequence).unwrap();
        server.set_sender_sequence(sequence / 3).unwrap();
        let plain = write(Code::POST, &[(11, path.as_bytes())], &payload);
        let (datagram, sent) = protect(&mut client, &plain);
        let answer = write(Code::CONTENT, &[(12, &[60])], &payload);
        let answer = Message::parse(&answer).unwrap();
        let mut out = [0; 1024];
        let length = with_opened(&mut server, &datagram, |server, opened| {
            assert_eq!(opened.body, Message::parse(&plain).unwrap().body());
            server.protect_response(&opened.request, &answer, &mut out).unwrap()
        });
        let mut inner = [0; 1024];
        let reply = Message::parse(&out[..length]).unwrap();
        let body = client.unprotect_response(&sent, &reply, &mut inner).unwrap();
        prop_assert_eq!(body, answer.body());
    }

    /// The window against a plain set of everything that was received.
    #[test]
    fn window_agrees_with_a_set(numbers in prop::collection::vec(0_u64..300, 1..200)) {
        let (mut client, mut server) = (client(), server());
        let plain = write(Code::POST, &[], b"");
        let sent: Vec<_> = (0..300).map(|_| protect(&mut client, &plain).0).collect();
        let mut received = std::collections::BTreeSet::new();
        for number in numbers {
            let highest = received.last().copied();
            let too_old = highest.is_some_and(|highest| number + 64 <= highest);
            let expected = !too_old && received.insert(number);
            prop_assert_eq!(outcome(&mut server, &sent[number as usize]).is_ok(), expected);
        }
    }

    #[test]
    fn parsing_any_option_never_panics(value in prop::collection::vec(any::<u8>(), 0..20)) {
        if let Ok(parsed) = OscoreOption::parse(&value) {
            prop_assert!(parsed.partial_iv.is_none_or(|iv| iv <= MAX_SEQUENCE));
        }
    }
}
