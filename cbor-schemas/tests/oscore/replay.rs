//! Each request counts once, and a lost window is not guessed.

use super::*;

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
    let mut restored = super::server();
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
    assert_eq!(try_echo(&super::request(), b"").0, "still lost");
    assert_eq!(try_echo(&echo(b""), b"").0, "still lost");
    let (outcome_with_echo, with_echo) = try_echo(&echo(&received), challenge);
    assert_eq!(outcome_with_echo, "synchronised");
    assert_eq!(try_echo(&super::request(), challenge).0, "fresh");
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

proptest! {
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
}
