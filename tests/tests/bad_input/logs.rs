//! Logs that are not what the TPM was told.

use mote_schemas::message::Tier;
use mote_tests::evil::{Answer, log_payload};
use mote_tests::lab::Stored;
use mote_tests::simkernel::ima::Record;
use mote_tests::soft_device::{digest_of, record};
use mote_tests::{Evil, Lab};

use super::{assert_goes_on, assert_refused, with_trusted};

/// The trusted device runs four more programs, and sends another list than its kernel keeps.
fn sends_instead(alter: impl Fn(&mut Vec<Record>)) -> (Lab, Evil, Stored, Answer) {
    let (mut lab, mut evil) = with_trusted();
    for number in 2..6 {
        evil.device.run(&format!("/bin/{number}"));
    }
    let before = lab.stored();
    let mut records = evil.device.list.0.clone();
    alter(&mut records);
    let payload = evil.beat_payload(&evil.quote(), 0, &records);
    let answer = evil.ask(&mut lab, "b", &payload);
    (lab, evil, before, answer)
}

/// The verdict says so; what was certified before stands, and none of the list is kept: with the
/// true list the device is itself again.
#[track_caller]
fn does_not_replay(change: impl Fn(&mut Vec<Record>)) {
    let (mut lab, mut evil, before, answer) = sends_instead(change);
    assert_eq!(answer.reason(), "log-does-not-replay", "{answer:?}");
    assert_eq!(answer.tier(), Tier::Contraindicated);
    assert_eq!(answer.next_record(), 3, "as far as it was certified");
    let after = lab.stored();
    let id = evil.id();
    assert_eq!(after.logs, before.logs);
    let (was, is) = (&before.devices[&id], &after.devices[&id]);
    assert_eq!(
        (&was.ek_public, &was.ak_public),
        (&is.ek_public, &is.ak_public)
    );
    assert_eq!(was.admission, is.admission);
    let (was, is) = (was.boot.as_ref().unwrap(), is.boot.as_ref().unwrap());
    assert_eq!((was.number, was.certified), (is.number, is.certified));
    assert_eq!((&was.pcrs, &was.content), (&is.pcrs, &is.content));
    let verdict = &after.verdicts[&id][0].1;
    assert_eq!(verdict.reasons, ["log-does-not-replay"]);
    assert_eq!(after.verdicts[&id].len(), before.verdicts[&id].len() + 1);
    // Durable: a crash does not make it trusted again.
    lab.crash();
    assert_eq!(lab.stored().verdicts, after.verdicts);

    assert_goes_on(&mut lab, &mut evil);
}

#[test]
fn with_a_record_altered_does_not_replay() {
    does_not_replay(|list| list[4] = record("/bin/3", &digest_of("/bin/4")));
    does_not_replay(|list| list[4] = record("/bin/77", &digest_of("/bin/77")));
    // Only the last one, and only the first new one.
    does_not_replay(|list| list[6] = record("/bin/6", &digest_of("/bin/6")));
    does_not_replay(|list| list[3] = record("/bin/9", &digest_of("/bin/9")));
}

#[test]
fn with_a_record_dropped_does_not_replay() {
    does_not_replay(|list| drop(list.remove(4)));
    does_not_replay(|list| drop(list.remove(3)));
    does_not_replay(|list| drop(list.pop()));
    does_not_replay(|list| list.truncate(3));
}

#[test]
fn with_a_record_inserted_does_not_replay() {
    does_not_replay(|list| list.insert(4, record("/bin/50", &digest_of("/bin/50"))));
    does_not_replay(|list| list.insert(3, list[3].clone()));
}

#[test]
fn in_another_order_does_not_replay() {
    does_not_replay(|list| list.swap(4, 5));
}

#[test]
fn with_a_violation_made_up_or_hidden_does_not_replay() {
    does_not_replay(|list| list[4] = Record::violation("/bin/3").unwrap());
    let (mut lab, mut evil) = with_trusted();
    evil.device.measure(Record::violation("/bin/2").unwrap());
    let mut records = evil.device.list.0.clone();
    records[3] = record("/bin/2", &digest_of("/bin/2"));
    let payload = evil.beat_payload(&evil.quote(), 0, &records);
    let answer = evil.ask(&mut lab, "b", &payload);
    assert_eq!(answer.reason(), "log-does-not-replay");
}

#[test]
fn with_more_than_the_quote_covers_waits_for_the_next_quote() {
    let (lab, evil, _, answer) =
        sends_instead(|list| list.push(record("/bin/50", &digest_of("/bin/50"))));
    assert_eq!(answer.tier(), Tier::Affirming, "{answer:?}");
    assert_eq!(answer.next_record(), 8);
    let id = evil.id();
    let mut lab = lab;
    let stored = lab.stored();
    assert_eq!(stored.devices[&id].boot.as_ref().unwrap().certified, 7);
    // It never comes to be in the TPM: the next quote does not vouch for it, and says so.
    let mut evil = evil;
    evil.device.run("/bin/51");
    let payload = evil.beat_payload(&evil.quote(), 8, &evil.device.list.0[7..]);
    let answer = evil.ask(&mut lab, "b", &payload);
    assert_eq!(answer.reason(), "log-does-not-replay");
    assert_eq!(answer.next_record(), 7);
    assert_goes_on(&mut lab, &mut evil);
}

#[test]
fn that_skips_records_is_not_taken_and_asked_for_from_where_it_ends() {
    let (mut lab, mut evil) = with_trusted();
    for number in 2..6 {
        evil.device.run(&format!("/bin/{number}"));
    }
    let before = lab.stored();
    let answer = evil.log(&mut lab, 4, &evil.device.list.0.clone()[4..]);
    assert_eq!(answer.next_record(), 3);
    let after = lab.stored();
    assert_eq!(before.logs, after.logs);
    assert_eq!(before.verdicts, after.verdicts);
    let (was, is) = (&before.devices[&evil.id()], &after.devices[&evil.id()]);
    assert_eq!(was.boot, is.boot);
    // In a beat, too: its quote covers more than what is there, so it waits.
    let payload = evil.beat_payload(&evil.quote(), 5, &evil.device.list.0[5..]);
    let answer = evil.ask(&mut lab, "b", &payload);
    assert_eq!(
        (answer.reason().as_str(), answer.next_record()),
        ("log-incomplete", 3)
    );
    assert_eq!(lab.stored().logs, before.logs);
    let answer = evil.log(&mut lab, 3, &evil.device.list.0.clone()[3..]);
    assert_eq!(answer.tier(), Tier::Affirming, "{answer:?}");
    assert_eq!(answer.next_record(), 7);
}

#[test]
fn from_a_number_that_no_log_reaches_is_no_trouble() {
    let (mut lab, mut evil) = with_trusted();
    let before = lab.stored();
    for from in [1 << 20, u64::from(u32::MAX), u64::MAX - 1, u64::MAX] {
        let answer = evil.log(&mut lab, from, &evil.device.list.0.clone());
        assert_eq!(answer.next_record(), 3, "{from}");
        assert_eq!(lab.stored().logs, before.logs);
        assert_eq!(lab.stored().verdicts, before.verdicts);
    }
    assert_goes_on(&mut lab, &mut evil);
}

#[test]
fn too_long_without_a_quote_is_refused() {
    let settings = mote_verifier::engine::Settings {
        max_uncertified: 5,
        ..Default::default()
    };
    let mut lab = Lab::with(
        mote_verifier::admission::AdmissionRules::default(),
        settings,
    );
    let mut evil = Evil::trusted(&mut lab, 1);
    let more = vec![evil.device.list.0[1].clone(); 6];
    let before = lab.stored();
    let answer = evil.log(&mut lab, 3, &more);
    assert_refused(&answer, "log-too-long", &before, &mut lab);
    let answer = evil.log(&mut lab, 3, &more[..5]);
    assert_eq!(answer.next_record(), 8);
    let before = lab.stored();
    let answer = evil.log(&mut lab, 8, &more[..1]);
    assert_refused(&answer, "log-too-long", &before, &mut lab);
}

#[test]
fn and_pcr_values_that_do_not_give_the_quoted_digest_are_refused() {
    let (mut lab, mut evil) = with_trusted();
    let before = lab.stored();
    // Another digest, signed by the TPM's key.
    let mut attest = evil.attest();
    attest.pcr_digest[0] ^= 1;
    let quote = evil.signed(&attest);
    let payload = evil.beat_payload(&quote, 0, &evil.device.list.0);
    let answer = evil.ask(&mut lab, "b", &payload);
    assert_refused(&answer, "pcr-digest-mismatch", &before, &mut lab);
    // The right digest, and other values: those of a boot PCR.
    let honest = evil.quote();
    let mut liar = Evil::new(1);
    liar.device = evil.device.clone();
    liar.device
        .tpm
        .extend(7, |alg| Some(vec![1; alg.digest_len()]));
    std::mem::swap(&mut liar.session, &mut evil.session);
    let payload = liar.beat_payload(&honest, 0, &evil.device.list.0);
    std::mem::swap(&mut liar.session, &mut evil.session);
    let answer = evil.ask(&mut lab, "b", &payload);
    assert_refused(&answer, "pcr-digest-mismatch", &before, &mut lab);
    assert_goes_on(&mut lab, &mut evil);
}

#[test]
fn and_a_quote_that_leaves_out_pcr_10_is_refused() {
    let (mut lab, mut evil) = with_trusted();
    let before = lab.stored();
    let extra_data = evil.attest().extra_data;
    let boot_only = [mote_agent::tpm::PcrSelection {
        bank: 0x000b,
        mask: 0x3ff,
    }];
    let attest = evil.device.tpm.attest(&boot_only, &extra_data).unwrap();
    let quote = evil.signed(&attest);
    let payload = evil.beat_payload(&quote, 0, &evil.device.list.0);
    let answer = evil.ask(&mut lab, "b", &payload);
    assert_refused(&answer, "quote-pcr-selection", &before, &mut lab);
    assert_goes_on(&mut lab, &mut evil);
}

#[test]
fn before_any_quote_is_out_of_order() {
    let mut lab = Lab::new();
    let mut evil = Evil::new(1);
    evil.hello(&mut lab);
    evil.open(&mut lab);
    lab.admit(&evil.id());
    // To have the Echo behind us.
    evil.ask(&mut lab, "l", &log_payload(0, &[]));
    let before = lab.stored();
    let records = evil.device.list.0.clone();
    let answer = evil.log(&mut lab, 0, &records);
    assert_refused(&answer, "out-of-order", &before, &mut lab);
}
