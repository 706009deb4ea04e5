//! What the power does to a log: suspend, hibernation, kexec, a boot that the TPM takes for none.

use mote_schemas::message::Tier;
use mote_tests::evil::Answer;
use mote_tests::{Evil, Lab};

/// Whether the agent, started anew as after a boot, gets from open to a verdict, and which.
fn open_anew(lab: &mut Lab, evil: &mut Evil) -> Answer {
    evil.session = None;
    evil.hello(lab);
    let records = evil.device.list.0.len() as u64;
    let payload = evil.open_payload(&evil.quote(), records);
    let mut answer = evil.ask(lab, "o", &payload);
    // As an agent: what is wanted, from where it is wanted.
    for _ in 0..4 {
        let next = usize::try_from(answer.next_record()).unwrap();
        if next >= evil.device.list.0.len() && answer.tier() != Tier::None {
            break;
        }
        let records = evil.device.list.0.clone();
        let payload = evil.beat_payload(
            &evil.quote(),
            next as u64,
            &records[next.min(records.len())..],
        );
        answer = evil.ask(lab, "b", &payload);
    }
    answer
}

fn trusted() -> (Lab, Evil) {
    let mut lab = Lab::new();
    let evil = Evil::trusted(&mut lab, 1);
    (lab, evil)
}

fn boot_number(lab: &mut Lab, evil: &Evil) -> u64 {
    let stored = lab.stored();
    stored.devices[&evil.id()].boot.as_ref().unwrap().number
}

#[test]
fn a_log_goes_on_over_a_suspend() {
    let (mut lab, mut evil) = trusted();
    evil.device.suspend();
    evil.device.run("/bin/2");
    let answer = evil.beat(&mut lab);
    assert_eq!((answer.tier(), answer.next_record()), (Tier::Affirming, 4));
    assert_eq!(boot_number(&mut lab, &evil), 1);
}

#[test]
fn a_log_goes_on_over_a_kexec() {
    let (mut lab, mut evil) = trusted();
    evil.device.kexec();
    evil.device.run("/bin/2");
    let answer = open_anew(&mut lab, &mut evil);
    assert_eq!(
        (answer.tier(), answer.next_record()),
        (Tier::Affirming, 5),
        "{answer:?}"
    );
    assert_eq!(boot_number(&mut lab, &evil), 1);
}

#[test]
fn a_log_that_starts_over_without_a_tpm_reset_is_taken_from_its_start() {
    let (mut lab, mut evil) = trusted();
    evil.device.lose_power_in_suspend();
    evil.device.run("/bin/5");
    let answer = open_anew(&mut lab, &mut evil);
    assert_eq!(
        (answer.tier(), answer.next_record()),
        (Tier::Affirming, 2),
        "{answer:?}"
    );
    assert_eq!(boot_number(&mut lab, &evil), 2);
    lab.crash();
    assert_eq!(boot_number(&mut lab, &evil), 2);
    // And from there on like any other.
    evil.device.suspend();
    evil.device.run("/bin/6");
    let answer = open_anew(&mut lab, &mut evil);
    assert_eq!(
        (answer.tier(), answer.next_record()),
        (Tier::Affirming, 3),
        "{answer:?}"
    );
}

#[test]
fn a_suspend_does_not_rid_a_log_of_a_record() {
    let (mut lab, mut evil) = trusted();
    evil.device.run("/tmp/x");
    let answer = evil.beat(&mut lab);
    assert_eq!(answer.reason(), "file-unknown");
    // The PCRs stayed: a list without that record leads nowhere, from its start neither.
    evil.device.suspend();
    evil.device.run("/bin/2");
    evil.device.list.0.remove(3);
    let answer = open_anew(&mut lab, &mut evil);
    assert_eq!(answer.reason(), "log-does-not-replay", "{answer:?}");
    assert_eq!(answer.tier(), Tier::Contraindicated);
    evil.device.reboot();
    let answer = open_anew(&mut lab, &mut evil);
    assert_eq!(answer.tier(), Tier::Affirming, "{answer:?}");
}

#[test]
fn after_hibernation_the_log_does_not_replay_until_a_reboot() {
    let (mut lab, mut evil) = trusted();
    evil.device.hibernate();
    evil.device.run("/bin/2");
    let answer = open_anew(&mut lab, &mut evil);
    assert_eq!(answer.reason(), "log-does-not-replay", "{answer:?}");
    assert_eq!(answer.tier(), Tier::Contraindicated);
    evil.device.reboot();
    let answer = open_anew(&mut lab, &mut evil);
    assert_eq!(
        (answer.tier(), answer.next_record()),
        (Tier::Affirming, 1),
        "{answer:?}"
    );
}
