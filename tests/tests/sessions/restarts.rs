//! A verifier that is killed and started again while sessions are open: it asks for Echo, forgets
//! nothing that it told, and never protects two replies with one AEAD nonce (RFC 8613, B.1).

use std::collections::HashMap;

use mote_schemas::coap::{Code, Message};
use mote_schemas::message::{Kid, Tier, Wants};
use mote_schemas::oscore::OscoreOption;
use mote_tests::evil::{Answer, boot_payload, log_payload, record_payload};
use mote_tests::wire::Wire;
use mote_tests::{Evil, Lab};
use proptest::prelude::*;

use super::lab;

/// Every protected reply by what makes its nonce unique: the session and the Partial IV.
#[derive(Default)]
struct Nonces(HashMap<(Kid, u64), Vec<u8>>);

impl Nonces {
    /// Takes down every reply of `lab` since the last call; all are of this session or unprotected.
    fn take(&mut self, lab: &mut Lab, kid: &Kid) {
        for datagram in lab.sent.drain(..) {
            let message = Message::parse(&datagram).unwrap();
            let Some(header) = OscoreOption::of(&message) else {
                continue;
            };
            let partial_iv = header.unwrap().partial_iv;
            // Without one, a reply uses the request's nonce, which nobody proves to be unused.
            let partial_iv = partial_iv.expect("a Partial IV of the verifier's own");
            let ciphertext = message.payload().to_vec();
            let before = self.0.insert((*kid, partial_iv), ciphertext.clone());
            assert!(
                before.is_none_or(|before| before == ciphertext),
                "session {kid}: two replies with Partial IV {partial_iv}"
            );
        }
    }

    fn len(&self) -> usize {
        self.0.len()
    }
}

/// A beat without taking part in Echo: exactly one request.
fn bare_beat(lab: &mut Lab, evil: &mut Evil) -> Answer {
    let payload = evil.beat_payload(&evil.quote(), 0, &evil.device.list.0);
    let datagram = evil.protect("b", None, &payload);
    evil.send(lab, &datagram)
}

#[test]
fn a_restarted_verifier_asks_for_echo_once_and_goes_on() {
    let mut lab = Lab::new();
    let mut evil = Evil::trusted(&mut lab, 1);
    for round in 0..5u8 {
        if round % 2 == 0 {
            lab.crash();
        } else {
            lab.restart();
        }
        evil.device.run(&format!("/bin/{}", 10 + round));
        let before = lab.stored();
        let challenge = bare_beat(&mut lab, &mut evil);
        assert_eq!(challenge.code, Code::UNAUTHORIZED);
        assert!(challenge.protected, "by the session's keys: {challenge:?}");
        let echo = challenge.echo.clone().expect("an Echo option");
        // No evidence was taken of what may be a replay. (The reservation moved.)
        let after = lab.stored();
        assert_eq!(before.devices, after.devices);
        assert_eq!(before.logs, after.logs);

        // A wrong value, and the value of another time, are no proof.
        for wrong in [vec![0; 8], echo[..7].to_vec(), Vec::new()] {
            let payload = evil.beat_payload(&evil.quote(), 0, &evil.device.list.0);
            let datagram = evil.protect("b", Some(&wrong), &payload);
            let answer = evil.send(&mut lab, &datagram);
            assert_eq!(answer.code, Code::UNAUTHORIZED, "{wrong:?}");
            assert_eq!(lab.stored().devices, before.devices);
        }
        let payload = evil.beat_payload(&evil.quote(), 0, &evil.device.list.0);
        let datagram = evil.protect("b", Some(&echo), &payload);
        let answer = evil.send(&mut lab, &datagram);
        assert_eq!(answer.code, Code::CHANGED, "{answer:?}");
        assert_eq!(answer.tier(), Tier::Affirming);
        // Synchronised: from now on without.
        let answer = bare_beat(&mut lab, &mut evil);
        assert_eq!(answer.code, Code::CHANGED, "{answer:?}");
    }
}

#[test]
fn what_was_sent_before_the_crash_is_no_news_after_it() {
    let mut lab = Lab::new();
    let mut evil = Evil::trusted(&mut lab, 1);
    evil.device.run("/bin/50");
    let payload = evil.beat_payload(&evil.quote(), 0, &evil.device.list.0);
    let old = evil.protect("b", None, &payload);
    assert_eq!(evil.send(&mut lab, &old).code, Code::CHANGED);
    lab.engine().flush().unwrap();
    lab.crash();
    let before = lab.stored();
    // Replayed before the device speaks: challenged, not believed.
    assert_eq!(evil.send(&mut lab, &old).code, Code::UNAUTHORIZED);
    assert_eq!(before.devices, lab.stored().devices);
    let answer = evil.beat(&mut lab);
    assert_eq!(answer.code, Code::CHANGED);
    // And after it has spoken.
    let before = lab.stored();
    let mut again = old;
    again[2] ^= 0x80;
    let answer = evil.send(&mut lab, &again);
    assert_eq!(answer.reason(), "oscore-replayed");
    assert_eq!(before, lab.stored());
}

#[test]
fn across_the_end_of_a_reservation_no_nonce_comes_twice() {
    let mut lab = Lab::new();
    let mut evil = Evil::trusted(&mut lab, 1);
    let kid = evil.session().kid;
    let mut nonces = Nonces::default();
    nonces.take(&mut lab, &kid);
    // 1,024 numbers are reserved at a time; crash just before, at, and after the end of one.
    for replies in [1022, 1, 1, 1, 1023, 1024, 1025, 3] {
        for _ in 0..replies {
            let datagram = evil.protect("l", None, &log_payload(9_999, &[]));
            evil.send(&mut lab, &datagram);
        }
        lab.crash();
        nonces.take(&mut lab, &kid);
        let answer = evil.ask(&mut lab, "l", &log_payload(9_999, &[]));
        assert_eq!(answer.code, Code::CHANGED);
    }
    nonces.take(&mut lab, &kid);
    assert!(nonces.len() > 4100, "{}", nonces.len());
}

#[test]
fn records_whose_quote_a_crash_has_taken_are_no_verdict() {
    for path in ["l", "r"] {
        let mut lab = Lab::new();
        let mut evil = Evil::trusted(&mut lab, 1);
        let id = evil.id();
        evil.device.run("/bin/50");
        let record = evil.device.list.0[3].clone();
        let payload = match path {
            "l" => log_payload(3, std::slice::from_ref(&record)),
            _ => record_payload(3, &record),
        };
        // A quote over four records, the last of which is to follow.
        let beat = evil.beat_payload(&evil.quote(), 4, &[]);
        let waits = evil.ask(&mut lab, "b", &beat);
        assert_eq!((waits.tier(), waits.next_record()), (Tier::None, 3));
        let boot = |lab: &mut Lab| lab.stored().devices[&id].boot.clone().unwrap();
        assert!(boot(&mut lab).outstanding.is_some());
        lab.crash();
        assert!(boot(&mut lab).outstanding.is_none());

        let answer = evil.ask(&mut lab, path, &payload);
        assert_eq!(answer.code, Code::CHANGED, "{path}: {answer:?}");
        assert_eq!((answer.tier(), answer.next_record()), (Tier::None, 4));
        assert_eq!(answer.reason(), "quote-outstanding", "{path}");
        assert_eq!(answer.wants(), Wants::PCR_VALUES.and(Wants::FULL_QUOTE));
        // Nor does a part of something else make it one: of a boot log, or of a record that is here.
        for (other, part) in [
            ("e", boot_payload(0, &[7])),
            ("r", record_payload(3, &record)),
        ] {
            let answer = evil.ask(&mut lab, other, &part);
            assert_eq!(answer.code, Code::CHANGED, "{other}: {answer:?}");
            assert_eq!((answer.tier(), answer.next_record()), (Tier::None, 4));
            assert_eq!(answer.reason(), "quote-outstanding", "{path}, {other}");
            assert_eq!(answer.wants(), Wants::PCR_VALUES.and(Wants::FULL_QUOTE));
        }
        // The record is kept, the verdict of before as well.
        assert_eq!(boot(&mut lab).certified, 3);
        assert_eq!(lab.stored().logs[&id].len(), 4);
        assert_eq!(lab.stored().verdicts[&id].len(), 1);
        // The quote that was asked for covers it. Its nonce may be lost as well.
        let mut answer = evil.beat(&mut lab);
        if answer.reason() == "nonce-expired" {
            answer = evil.beat(&mut lab);
        }
        assert_eq!((answer.tier(), answer.next_record()), (Tier::Affirming, 4));
        assert_eq!(boot(&mut lab).certified, 4);

        // Records that a list has grown by since its quote say nothing against that.
        evil.device.run("/bin/51");
        let grown = evil.device.list.0[4].clone();
        let later = evil.log(&mut lab, 4, std::slice::from_ref(&grown));
        assert_eq!((later.tier(), later.next_record()), (Tier::Affirming, 5));
    }
}

#[test]
fn an_agent_hears_no_verdict_on_a_quote_that_a_crash_has_taken() {
    for long in [false, true] {
        let (mut crashes, mut asked) = (0, 0);
        for at in 1.. {
            let mut wire = Wire::new(1);
            wire.datagram = 127;
            let mut lab = lab(&[&wire]);
            wire.until_appraised(&mut lab).unwrap();
            if long {
                // The same verdict twice: the second is not news, and no reason to write at once.
                wire.device.run(&format!("/bin/{}", "0".repeat(700)));
                wire.until_appraised(&mut lab).unwrap();
                wire.device.run(&format!("/bin/{}", "1".repeat(700)));
            } else {
                (1..60).for_each(|number| wire.device.run(&format!("/bin/{number}")));
            }
            wire.stop_after = Some(at);
            if wire.until_appraised(&mut lab).is_ok() {
                break;
            }
            crashes += 1;
            lab.crash();
            wire.stop_after = None;
            let cost = wire.until_appraised(&mut lab).unwrap();
            if cost.requests == 0 {
                // Every answer had come; the verdict is of before the crash.
                break;
            }
            asked = asked.max(cost.requests);
            let stored = lab.stored();
            let boot = stored.devices.values().next().unwrap().boot.as_ref();
            let certified = boot.unwrap().certified;
            let all = wire.device.list.0.len() as u64;
            assert_ne!(wire.tier, Tier::None, "long {long}, crash after {at}");
            assert_eq!(certified, all, "long {long}, crash after {at}");
        }
        assert!(crashes >= 4, "long {long}: only {crashes}");
        assert!(asked < 60, "long {long}: {asked} requests after a crash");
    }
}

/// Takes down a verdict. That the log must arrive (again) first is none.
fn hear(told: &mut Tier, tier: Tier) {
    if tier != Tier::None {
        *told = tier;
    }
}

#[derive(Clone, Debug)]
enum Step {
    Beat,
    Program(u8),
    Unknown,
    Malformed,
    WrongQuote,
    Replay,
    Copy,
    Flush,
    Crash,
    Restart,
    Reboot,
    Hello,
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => Just(Step::Beat),
        4 => (0..99u8).prop_map(Step::Program),
        1 => Just(Step::Unknown),
        2 => Just(Step::Malformed),
        2 => Just(Step::WrongQuote),
        2 => Just(Step::Replay),
        1 => Just(Step::Copy),
        1 => Just(Step::Flush),
        5 => Just(Step::Crash),
        1 => Just(Step::Restart),
        1 => Just(Step::Reboot),
        1 => Just(Step::Hello),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn in_any_order_of_crashes_no_nonce_comes_twice_and_no_verdict_is_lost(
        steps in prop::collection::vec(any_step(), 1..40),
    ) {
        let mut lab = Lab::new();
        let mut evil = Evil::trusted(&mut lab, 1);
        let id = evil.id();
        let mut nonces = Nonces::default();
        let mut last = None;
        let mut told = Tier::Affirming;
        for step in steps {
            let kid = evil.session().kid;
            lab.now += 1000;
            evil.device.tpm.advance(1000);
            match step {
                Step::Beat => {
                    // Once for its bytes, to be replayed; then to the end.
                    let payload = evil.beat_payload(&evil.quote(), 0, &evil.device.list.0);
                    last = Some(evil.protect("b", None, &payload));
                    evil.send(&mut lab, last.as_ref().unwrap());
                    let answer = evil.beat(&mut lab);
                    prop_assert_eq!(answer.code, Code::CHANGED);
                    hear(&mut told, answer.tier());
                }
                Step::Program(number) => evil.device.run(&format!("/bin/{number}")),
                Step::Unknown => evil.device.run("/tmp/x"),
                Step::Malformed => {
                    evil.ask(&mut lab, "b", &[0xa0]);
                }
                Step::WrongQuote => {
                    let mut attest = evil.attest();
                    attest.magic = 0;
                    let quote = evil.signed(&attest);
                    let payload = evil.beat_payload(&quote, 0, &[]);
                    evil.ask(&mut lab, "b", &payload);
                }
                Step::Replay => if let Some(last) = &mut last {
                    last[3] = last[3].wrapping_add(77);
                    last[2] ^= 0x40;
                    lab.handle(evil.peer, last);
                },
                Step::Copy => if let Some(last) = &last {
                    lab.handle(evil.peer, last);
                },
                Step::Flush => lab.engine().flush().unwrap(),
                Step::Crash => lab.crash(),
                Step::Restart => lab.restart(),
                Step::Reboot => {
                    nonces.take(&mut lab, &kid);
                    evil.device.reboot();
                    evil.hello(&mut lab);
                    lab.sent.clear(); // only the challenge, in the clear
                    evil.open(&mut lab);
                    hear(&mut told, evil.beat(&mut lab).tier());
                    last = None;
                }
                Step::Hello => {
                    nonces.take(&mut lab, &kid);
                    evil.hello(&mut lab);
                    lab.sent.clear();
                    evil.open(&mut lab);
                    hear(&mut told, evil.beat(&mut lab).tier());
                    last = None;
                }
            }
            let kid = evil.session().kid;
            nonces.take(&mut lab, &kid);
            let stored = lab.stored();
            let verdict = &stored.verdicts[&id][0].1;
            prop_assert_eq!(verdict.tier, told, "after {:?}", step);
        }
    }
}
