//! What is refused, with its fault named.

use super::*;

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
    let cases: [(Options<'_>, &[u8], UnprotectRequestError, Code); 8] = [
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
    let with = |options: Options<'_>, payload: &[u8]| write(Code::CHANGED, options, payload);
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

    #[test]
    fn parsing_any_option_never_panics(value in prop::collection::vec(any::<u8>(), 0..20)) {
        if let Ok(parsed) = OscoreOption::parse(&value) {
            prop_assert!(parsed.partial_iv.is_none_or(|iv| iv <= MAX_SEQUENCE));
        }
    }
}
