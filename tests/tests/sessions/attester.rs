//! What the agent's session makes of a network that lies: forged, replayed and altered replies, somebody
//! else's verifier, errors that anybody could have written, and silence.

use mote_agent::session::Event;
use mote_agent::verifier_key::{ChallengeError, VerifierKey};
use mote_schemas::coap::{Code, Message, Type, Writer, option};
use mote_schemas::message::Tier;
use mote_schemas::oscore::OscoreOption;
use mote_tests::attester::Done;
use mote_tests::{Attester, Lab};

/// How long the last request may take to be given up: RFC 7252, 4.8.2, MAX_TRANSMIT_WAIT.
const MAX_TRANSMIT_WAIT: u64 = 93_000;

/// The tier of the last verdict in these events.
fn verdict(events: &[Event]) -> Option<Tier> {
    events.iter().rev().find_map(|event| match event {
        Event::Appraised { tier, .. } => Some(*tier),
        _ => None,
    })
}

fn opened(events: &[Event]) -> bool {
    let is = |event: &Event| matches!(event, Event::SessionOpened { .. });
    events.iter().any(is)
}

/// An attester that is admitted and trusted, waiting for its next heartbeat.
fn trusted() -> (Lab, Attester) {
    let mut lab = Lab::new();
    let mut attester = Attester::new(&lab, 1);
    attester.device.run("/bin/1");
    let events = attester.talk(&mut lab);
    assert_eq!(verdict(&events), Some(Tier::None), "{events:?}");
    let id = *lab.stored().devices.keys().next().unwrap();
    lab.admit(&id);
    attester.sleep(&mut lab);
    let events = attester.talk(&mut lab);
    assert_eq!(verdict(&events), Some(Tier::Affirming), "{events:?}");
    (lab, attester)
}

/// Is this a hello (in the clear), or protected?
fn is_hello(datagram: &[u8]) -> bool {
    OscoreOption::of(&Message::parse(datagram).unwrap()).is_none()
}

/// The one datagram that it sends now.
fn sends(attester: &mut Attester) -> Vec<u8> {
    let mut done = attester.poll();
    assert_eq!(done.sent.len(), 1, "{done:?}");
    done.sent.remove(0)
}

/// Up to the hello that the verifier will answer with a challenge: its Echo is in it.
fn hello_with_echo(lab: &mut Lab, attester: &mut Attester) -> Vec<u8> {
    let first = sends(attester);
    let echo = lab.handle(attester.peer, &first).unwrap();
    attester.receive(&echo);
    sends(attester)
}

/// An unprotected response to `request`, as anybody on the path could write it.
fn forge(request: &[u8], code: Code, options: &[(u16, Vec<u8>)], payload: &[u8]) -> Vec<u8> {
    let request = Message::parse(request).unwrap();
    let mut out = vec![0; 2000];
    let id = request.message_id();
    let mut writer =
        Writer::new(&mut out, Type::Acknowledgement, code, id, request.token()).unwrap();
    for (number, value) in options {
        writer = writer.option(*number, value).unwrap();
    }
    let length = writer.payload(payload).unwrap();
    out.truncate(length);
    out
}

/// Lets nobody answer until the session makes another request; returns it and when.
fn next_request(attester: &mut Attester, lab: &mut Lab, not: &[u8]) -> (u64, Vec<u8>) {
    for _ in 0..50 {
        let now = attester.now;
        let sent = attester.poll().sent;
        if let Some(other) = sent.into_iter().find(|datagram| datagram != not) {
            return (now, other);
        }
        attester.sleep(lab);
    }
    panic!("no other request");
}

#[test]
fn an_altered_challenge_is_ignored_and_the_genuine_one_still_counts() {
    let mut lab = Lab::new();
    let mut attester = Attester::new(&lab, 1);
    let hello = hello_with_echo(&mut lab, &mut attester);
    let genuine = lab.handle(attester.peer, &hello).unwrap();
    let payload = genuine.len() - Message::parse(&genuine).unwrap().payload().len();
    for at in (payload..genuine.len()).step_by(3) {
        let mut altered = genuine.clone();
        altered[at] ^= 0x10;
        attester.receive(&altered);
        let done = attester.poll();
        assert!(!opened(&done.events), "byte {at}");
        assert!(done.sent.is_empty(), "byte {at}: {done:?}");
        let ignored = |event: &Event| matches!(event, Event::NotTheVerifier(_));
        assert!(done.events.iter().all(ignored), "byte {at}: {done:?}");
    }
    for end in (payload..genuine.len()).step_by(5) {
        attester.receive(&genuine[..end]);
        assert!(!opened(&attester.poll().events), "{end} bytes");
    }
    attester.receive(&genuine);
    assert!(opened(&attester.poll().events));
}

#[test]
fn a_replayed_challenge_is_ignored() {
    let mut lab = Lab::new();
    let mut attester = Attester::new(&lab, 1);
    let hello = hello_with_echo(&mut lab, &mut attester);
    let old = lab.handle(attester.peer, &hello).unwrap();
    let old = Message::parse(&old).unwrap().payload().to_vec();
    // It never arrives; the session gives up and says hello again, with another random.
    let (_, hello) = next_request(&mut attester, &mut lab, &hello);
    assert!(is_hello(&hello));
    attester.receive(&forge(&hello, Code::CHANGED, &[], &old));
    let done = attester.poll();
    assert!(!opened(&done.events), "{done:?}");
    assert!(matches!(
        done.events[..],
        [Event::NotTheVerifier(ChallengeError::Signature)]
    ));
    assert!(done.sent.is_empty());
}

#[test]
fn another_verifiers_challenge_is_not_taken() {
    let (mut lab, other) = (Lab::new(), Lab::new());
    let key = VerifierKey::from_bytes(other.key().public_key().point()).unwrap();
    let mut attester = Attester::pinned_to(key, lab.now, 1);
    let events = attester.talk(&mut lab);
    assert!(!opened(&events));
    assert!(matches!(
        events[..],
        [Event::NotTheVerifier(ChallengeError::Signature)]
    ));
    // Nothing was enrolled there, and nothing else is sent until the pinned one has had its time.
    assert!(lab.stored().devices.is_empty());
    let started = attester.now;
    let mut unreachable = 0;
    while unreachable == 0 && attester.now < started + 2 * MAX_TRANSMIT_WAIT {
        attester.sleep(&mut lab);
        let events = attester.talk(&mut lab);
        assert!(!opened(&events));
        let is = |event: &&Event| matches!(event, Event::Unreachable { .. });
        unreachable += events.iter().filter(is).count();
    }
    assert_eq!(unreachable, 1);
}

#[test]
fn errors_that_anybody_could_write_cost_a_hello_after_a_back_off() {
    for code in [
        Code::UNAUTHORIZED,
        Code::NOT_FOUND,
        Code::BAD_REQUEST,
        Code::FORBIDDEN,
        Code::BAD_OPTION,
        Code::INTERNAL_SERVER_ERROR,
        Code(0xbf),
    ] {
        let (mut lab, mut attester) = trusted();
        attester.device.run("/bin/2");
        attester.sleep(&mut lab);
        let beat = sends(&mut attester);
        assert!(!is_hello(&beat));
        let before = attester.now;
        for _ in 0..20 {
            attester.receive(&forge(&beat, code, &[], b"\xa1\x00\x61x"));
        }
        let Done { events, sent, .. } = attester.poll();
        assert!(matches!(events[..], [Event::Refused { .. }]), "{events:?}");
        assert!(sent.is_empty(), "{code}: at once");
        let (at, hello) = next_request(&mut attester, &mut lab, &beat);
        assert!(is_hello(&hello), "{code}");
        // Half of the first back-off may be taken off at random.
        assert!(at >= before + 2000, "{code}: after {} ms", at - before);
        assert!(at <= before + 4000, "{code}: after {} ms", at - before);
        // It was worth no more: the evidence is there, the verdict stands.
        let reply = lab.handle(attester.peer, &hello).unwrap();
        attester.receive(&reply);
        let events = attester.talk(&mut lab);
        assert_eq!(verdict(&events), Some(Tier::Affirming), "{events:?}");
        let id = *lab.stored().devices.keys().next().unwrap();
        assert_eq!(lab.stored().logs[&id].len(), attester.device.list.0.len());
    }
}

#[test]
fn protected_replies_that_do_not_open_are_as_if_they_had_not_come() {
    let (mut lab, mut attester) = trusted();
    attester.device.run("/bin/2");
    attester.sleep(&mut lab);
    let beat = sends(&mut attester);
    let genuine = lab.handle(attester.peer, &beat).unwrap();
    let start = 4 + usize::from(genuine[0] & 15);
    // The flag for a kid, of which there are no bytes: that too names the verifier, whose Sender ID
    // is empty (RFC 8613, 6.1).
    let kid_flag = 8 + 3;
    for bit in (0..(genuine.len() - start) * 8).filter(|bit| *bit != kid_flag) {
        let mut altered = genuine.clone();
        altered[start + bit / 8] ^= 1 << (bit % 8);
        attester.receive(&altered);
        let done = attester.poll();
        assert_eq!(verdict(&done.events), None, "bit {bit}: {done:?}");
        assert!(done.sent.is_empty(), "bit {bit}: {done:?}");
        assert!(done.events.is_empty(), "bit {bit}: {done:?}");
    }
    // An unprotected success is none.
    attester.receive(&forge(&beat, Code::CHANGED, &[], &[0xa2, 0, 3, 1, 2]));
    assert!(attester.poll().events.is_empty());
    attester.receive(&genuine);
    assert_eq!(verdict(&attester.poll().events), Some(Tier::Affirming));
}

#[test]
fn a_reply_to_an_earlier_request_is_not_a_reply_to_this_one() {
    let (mut lab, mut attester) = trusted();
    attester.sleep(&mut lab);
    let first = sends(&mut attester);
    let old = lab.handle(attester.peer, &first).unwrap();
    attester.receive(&old);
    assert_eq!(verdict(&attester.poll().events), Some(Tier::Affirming));
    attester.sleep(&mut lab);
    let second = sends(&mut attester);
    // Dressed up with this request's message id and token, which nothing protects.
    let (old, now) = (
        Message::parse(&old).unwrap(),
        Message::parse(&second).unwrap(),
    );
    let mut dressed = vec![0; 2000];
    let (id, token) = (now.message_id(), now.token());
    let mut writer =
        Writer::new(&mut dressed, Type::Acknowledgement, old.code(), id, token).unwrap();
    for option in old.options() {
        writer = writer.option(option.number, option.value).unwrap();
    }
    let length = writer.payload(old.payload()).unwrap();
    attester.receive(&dressed[..length]);
    let done = attester.poll();
    assert!(done.events.is_empty() && done.sent.is_empty(), "{done:?}");
    let genuine = lab.handle(attester.peer, &second).unwrap();
    attester.receive(&genuine);
    assert_eq!(verdict(&attester.poll().events), Some(Tier::Affirming));
}

#[test]
fn a_busy_verifiers_max_age_is_waited_for_and_the_session_stays() {
    let (mut lab, mut attester) = trusted();
    attester.sleep(&mut lab);
    let beat = sends(&mut attester);
    let before = attester.now;
    let busy = forge(
        &beat,
        Code::SERVICE_UNAVAILABLE,
        &[(option::MAX_AGE, vec![30])],
        b"",
    );
    attester.receive(&busy);
    let events = attester.poll().events;
    let [Event::Refused { reason, retry, .. }] = &events[..] else {
        panic!("{events:?}");
    };
    assert_eq!(reason, "coap-5.03");
    // Never sooner, and up to half as late again: others were told the same.
    assert!((30_000..=45_000).contains(&retry.as_millis()), "{retry:?}");
    let (at, again) = next_request(&mut attester, &mut lab, &beat);
    assert_eq!(u128::from(at - before), retry.as_millis());
    assert!(!is_hello(&again), "the session is not given up");
    let reply = lab.handle(attester.peer, &again).unwrap();
    attester.receive(&reply);
    assert_eq!(verdict(&attester.poll().events), Some(Tier::Affirming));

    // Anybody may have said so: no longer than the longest back-off.
    attester.sleep(&mut lab);
    let beat = sends(&mut attester);
    let before = attester.now;
    let for_ever = vec![0xff, 0xff, 0xff, 0xff];
    let busy = forge(
        &beat,
        Code::SERVICE_UNAVAILABLE,
        &[(option::MAX_AGE, for_ever)],
        b"",
    );
    attester.receive(&busy);
    let (at, _) = next_request(&mut attester, &mut lab, &beat);
    assert!((64_000..=96_000).contains(&(at - before)), "{at}");
}

#[test]
fn a_busy_verifier_before_hello_is_waited_for_too() {
    let mut lab = Lab::new();
    let mut attester = Attester::new(&lab, 1);
    let hello = sends(&mut attester);
    let before = attester.now;
    let busy = forge(
        &hello,
        Code::SERVICE_UNAVAILABLE,
        &[(option::MAX_AGE, vec![20])],
        b"",
    );
    attester.receive(&busy);
    let (at, again) = next_request(&mut attester, &mut lab, &hello);
    assert!((20_000..=30_000).contains(&(at - before)), "{at}");
    assert!(is_hello(&again));
}

#[test]
fn silence_is_retransmitted_into_and_then_backed_off_from() {
    let mut lab = Lab::new();
    let mut attester = Attester::new(&lab, 1);
    let mut waits = Vec::new();
    for round in 0..8 {
        let first = sends(&mut attester);
        let began = attester.now;
        let mut copies = vec![began];
        let retry = loop {
            attester.sleep(&mut lab);
            let done = attester.poll();
            let same = |datagram: &Vec<u8>| *datagram == first;
            assert!(done.sent.iter().all(same), "the same bytes each time");
            copies.extend(done.sent.iter().map(|_| attester.now));
            match done.events[..] {
                [] => {}
                [Event::Unreachable { retry }] => break retry,
                ref other => panic!("{other:?}"),
            }
        };
        // RFC 7252, 4.8: ACK_TIMEOUT 2 s, ACK_RANDOM_FACTOR 1.5, MAX_RETRANSMIT 4. After each three
        // in vain the link may be slow: twice the time.
        let slower = 1 << (round / 3);
        assert_eq!(copies.len(), 5, "{copies:?}");
        let gaps: Vec<u64> = copies.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(
            (2000 * slower..=3000 * slower).contains(&gaps[0]),
            "{gaps:?}"
        );
        assert!(
            gaps.windows(2).all(|pair| pair[1] == 2 * pair[0]),
            "{gaps:?}"
        );
        assert!(attester.now - began <= slower * MAX_TRANSMIT_WAIT);
        waits.push(retry.as_millis() as u64);
        attester.sleep(&mut lab);
    }
    // From 4 s, doubled up to 64 s, of which a random half may be taken off.
    let full = [4000, 8000, 16_000, 32_000, 64_000, 64_000, 64_000, 64_000];
    for (wait, full) in waits.iter().zip(full) {
        assert!((full / 2..=full).contains(wait), "{waits:?}");
    }
}

#[test]
fn a_reset_costs_a_hello_after_a_back_off() {
    let (mut lab, mut attester) = trusted();
    attester.sleep(&mut lab);
    let beat = sends(&mut attester);
    let before = attester.now;
    attester.receive(&[0x70, 0, beat[2], beat[3]]);
    let (at, hello) = next_request(&mut attester, &mut lab, &beat);
    assert!(is_hello(&hello));
    assert!((2000..=4000).contains(&(at - before)));
}

#[test]
fn an_echo_of_somebody_else_leads_to_nothing_without_end() {
    // Each Echo makes the session repeat its hello at once; an attacker who answers each of them
    // gets a handful, not a stream.
    let mut lab = Lab::new();
    let mut attester = Attester::new(&lab, 1);
    let mut at_once = 0;
    let mut hello = sends(&mut attester);
    loop {
        let echo = (option::ECHO, vec![at_once; 8]);
        attester.receive(&forge(&hello, Code::UNAUTHORIZED, &[echo], b""));
        match attester.poll().sent.pop() {
            Some(next) => hello = next,
            None => break,
        }
        at_once += 1;
        assert!(at_once < 20);
    }
    assert!(attester.poll().until >= attester.now + 2000);
    // The verifier itself still gets through.
    attester.sleep(&mut lab);
    let events = attester.talk(&mut lab);
    assert!(opened(&events), "{events:?}");
}

#[test]
fn a_device_admitted_by_hand_is_judged_at_its_next_heartbeat() {
    let mut lab = Lab::new();
    let mut attester = Attester::new(&lab, 1);
    for number in 0..60 {
        attester.device.run(&format!("/bin/{number}"));
    }
    attester.talk(&mut lab);
    let id = *lab.stored().devices.keys().next().unwrap();
    lab.admit(&id);
    attester.sleep(&mut lab);
    lab.sent.clear();
    let events = attester.talk(&mut lab);
    assert_eq!(verdict(&events), Some(Tier::Affirming), "{events:?}");
    // Echo, the log in as many datagrams as it takes, the PCR values: no more.
    assert!(lab.sent.len() <= 10, "{} replies", lab.sent.len());
}

#[test]
fn a_verifier_that_restarts_gets_its_echo_and_no_hello() {
    let (mut lab, mut attester) = trusted();
    for round in 0..4 {
        let flushed = round % 2 == 0;
        if flushed {
            lab.engine().flush().unwrap();
        }
        lab.crash();
        attester.device.run(&format!("/bin/{}", 10 + round));
        attester.sleep(&mut lab);
        lab.sent.clear();
        let events = attester.talk(&mut lab);
        assert_eq!(verdict(&events), Some(Tier::Affirming), "{events:?}");
        assert!(!opened(&events), "{events:?}");
        // Echo challenge and answer. What was not durable yet is made up for: the nonce handed out
        // again, the quote sent in full.
        let replies = lab.sent.len();
        assert!(
            replies == 2 || !flushed && replies <= 4,
            "{replies} replies"
        );
        assert!(lab.sent.iter().all(|reply| !is_hello(reply)));
    }
}
