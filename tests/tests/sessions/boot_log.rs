//! The boot log travels once for a fleet, survives whatever happens on its way, and weighs in the
//! verdict.

use mote_schemas::message::Tier;
use mote_tests::lab::Lab;
use mote_tests::soft_boot::boot_log;
use mote_tests::wire::{Wire, admitting};
use mote_verifier::engine::Settings;
use mote_verifier::manifest::BootExpectations;
use mote_verifier::policy::{Policies, Sweep};
use sha2::{Digest as _, Sha256};

use super::lab;

/// A device whose firmware has written this log.
fn with_log(seed: u8, log: &[u8]) -> Wire {
    let mut wire = Wire::new(seed);
    wire.device.install(log.to_vec());
    wire
}

fn digest(log: &[u8]) -> [u8; 32] {
    Sha256::digest(log).into()
}

fn reasons(lab: &mut Lab) -> Vec<String> {
    let stored = lab.stored();
    let last = stored.verdicts.values().next().unwrap()[0].clone();
    last.1.reasons
}

#[test]
fn one_device_sends_it_and_no_other_again() {
    let log = boot_log(1, 5_000);
    let (mut first, mut second) = (with_log(1, &log), with_log(2, &log));
    let mut lab = lab(&[&first, &second]);
    let whole = first.boot(&mut lab, &[]).unwrap();
    assert!(
        whole.up > log.len() && whole.up < log.len() + 2_500,
        "{whole:?}"
    );
    let kept = lab.engine().store().boot_log(&digest(&log)).unwrap();
    assert_eq!(kept, Some(log.clone()));

    let known = second.boot(&mut lab, &[]).unwrap();
    assert!(known.up < 1_500, "{known:?}");
    // And after the next power-on of either, or of the verifier.
    lab.crash();
    let again = first.boot(&mut lab, &[]).unwrap();
    assert!(again.up < 1_500, "{again:?}");
    assert!(lab.stored().deviations.values().all(Vec::is_empty));

    let idle = first.until_appraised(&mut lab).unwrap();
    assert_eq!((idle.requests, first.tier), (1, Tier::Affirming));
}

#[test]
fn a_lost_datagram_costs_itself_wherever_it_is_lost() {
    let log = boot_log(1, 2_000);
    let whole = |lose: Option<usize>| {
        let mut wire = with_log(3, &log);
        wire.datagram = 200;
        wire.lose = lose;
        let mut lab = lab(&[&wire]);
        let cost = wire.boot(&mut lab, &[]).unwrap();
        let kept = lab.engine().store().boot_log(&digest(&log)).unwrap();
        assert_eq!(kept.as_ref(), Some(&log), "{lose:?}");
        assert!(wire.lose.is_none(), "only {} requests", cost.requests);
        cost
    };
    let base = whole(None);
    assert!(base.requests > 15, "{base:?}");
    for lost in 1..=base.requests {
        let cost = whole(Some(lost));
        assert_eq!(cost.requests, base.requests + 1, "request {lost} lost");
    }
}

#[test]
fn an_upload_survives_the_verifier_and_other_devices_go_on_with_it() {
    let log = boot_log(1, 20_000);
    let (mut first, mut second) = (with_log(4, &log), with_log(5, &log));
    let mut lab = lab(&[&first, &second]);
    first.stop_after = Some(12);
    assert!(first.until_appraised(&mut lab).is_err());
    let store = lab.engine().store();
    let end = store.boot_upload_end(&digest(&log)).unwrap();
    assert!(end > 5_000 && (end as usize) < log.len(), "{end}");
    lab.restart();
    assert_eq!(
        lab.engine().store().boot_upload_end(&digest(&log)).unwrap(),
        end
    );
    // What was only batched is lost, and sent again.
    let cost = second.boot(&mut lab, &[]).unwrap();
    assert!(cost.up < log.len() - end as usize + 3_500, "{cost:?}");
    let store = lab.engine().store();
    assert_eq!(store.boot_log(&digest(&log)).unwrap().as_ref(), Some(&log));
    assert_eq!(store.boot_upload_end(&digest(&log)).unwrap(), 0);
    // The first one, switched on again, has nothing left to do.
    first.stop_after = None;
    let again = first.boot(&mut lab, &[]).unwrap();
    assert!(again.up < 2_000, "{again:?}");
}

#[test]
fn a_crash_at_any_moment_loses_nothing_but_time() {
    let log = boot_log(1, 6_000);
    let mut crashes = 0;
    for at in 3..12 {
        let mut wire = with_log(6, &log);
        let mut lab = lab(&[&wire]);
        wire.stop_after = Some(at);
        if wire.until_appraised(&mut lab).is_ok() {
            break;
        }
        crashes += 1;
        lab.crash();
        wire.stop_after = None;
        // The same session goes on; its verifier asks for Echo first.
        wire.until_appraised(&mut lab).unwrap();
        assert_eq!(wire.tier, Tier::Affirming, "crash after {at}");
        let kept = lab.engine().store().boot_log(&digest(&log)).unwrap();
        assert_eq!(kept.as_ref(), Some(&log), "crash after {at}");
    }
    assert!(crashes >= 7, "only {crashes}");
}

#[test]
fn a_log_without_the_digest_it_was_named_by_is_asked_for_twice_and_refused() {
    let log = boot_log(1, 3_000);
    let (mut liar, mut honest) = (with_log(7, &log), with_log(8, &log));
    liar.device.boot_log.bytes[1_000] ^= 1;
    liar.device.boot_log.named = Some(digest(&log));
    let mut lab = lab(&[&liar, &honest]);
    let refused = liar.until_appraised(&mut lab).unwrap_err().to_string();
    assert!(refused.contains("boot-log-mismatch"), "{refused}");
    assert!(!lab.engine().store().has_boot_log(&digest(&log)).unwrap());
    // Not asked for again in this boot.
    let next = liar.until_appraised(&mut lab).unwrap();
    assert!(next.up < 1_500, "{next:?}");
    // The part that the liar left behind spoils nothing for the other.
    liar.device.reboot();
    honest.boot(&mut lab, &[]).unwrap();
    assert_eq!(
        lab.engine().store().boot_log(&digest(&log)).unwrap(),
        Some(log)
    );
}

#[test]
fn what_one_device_has_spoilt_another_sends_on_its_own() {
    let log = boot_log(1, 8_000);
    let (mut liar, mut honest) = (with_log(9, &log), with_log(10, &log));
    liar.device.boot_log.bytes[100] ^= 1;
    liar.device.boot_log.named = Some(digest(&log));
    let mut lab = lab(&[&liar, &honest]);
    liar.stop_after = Some(8);
    assert!(liar.until_appraised(&mut lab).is_err());
    assert!(lab.engine().store().boot_upload_end(&digest(&log)).unwrap() > 1_000);
    let cost = honest.boot(&mut lab, &[]).unwrap();
    assert!(cost.up > log.len(), "{cost:?}");
    assert_eq!(
        lab.engine().store().boot_log(&digest(&log)).unwrap(),
        Some(log)
    );
}

#[test]
fn a_log_that_does_not_replay_is_held_against_the_device_when_it_comes() {
    let mut wire = with_log(11, &boot_log(1, 3_000));
    // The TPM was told of another.
    wire.device.boot_log.bytes = boot_log(2, 3_000);
    let mut lab = lab(&[&wire]);
    wire.until_appraised(&mut lab).unwrap();
    assert_eq!(wire.tier, Tier::Contraindicated);
    assert_eq!(reasons(&mut lab), ["boot-log-does-not-replay"]);
    let before = lab.stored().deviations;
    assert_eq!(before.values().map(Vec::len).sum::<usize>(), 1);
    wire.until_appraised(&mut lab).unwrap();
    assert_eq!(lab.stored().deviations, before);
}

#[test]
fn no_good_verdict_before_the_log_that_a_manifest_wants_to_see() {
    let log = boot_log(1, 3_000);
    let expected = BootExpectations {
        secure_boot: true,
        ..BootExpectations::default()
    };
    let mut wire = with_log(12, &log);
    let mut lab = Lab::expecting(
        Vec::new(),
        expected,
        admitting(&[&wire]),
        Settings::default(),
    );
    wire.stop_after = Some(6);
    assert!(wire.until_appraised(&mut lab).is_err());
    let stored = lab.stored();
    let verdict = &stored.verdicts.values().next().unwrap()[0].1;
    assert_eq!(verdict.tier, Tier::None);
    assert_eq!(verdict.reasons, ["log-incomplete"]);
    wire.stop_after = None;
    wire.until_appraised(&mut lab).unwrap();
    // Its log does not show that Secure Boot was on.
    assert_eq!(wire.tier, Tier::Contraindicated);
    assert_eq!(reasons(&mut lab), ["secure-boot-off"]);

    // Nor for one that names a log and then says that there is none.
    let mut wire = with_log(13, &log);
    let mut lab = Lab::expecting(
        Vec::new(),
        BootExpectations {
            secure_boot: true,
            ..BootExpectations::default()
        },
        admitting(&[&wire]),
        Settings::default(),
    );
    wire.stop_after = Some(6);
    assert!(wire.until_appraised(&mut lab).is_err());
    wire.stop_after = None;
    wire.restart();
    wire.device.boot_log.bytes.clear();
    wire.until_appraised(&mut lab).unwrap();
    assert_eq!(wire.tier, Tier::Contraindicated);
    assert_eq!(reasons(&mut lab), ["boot-log-missing"]);
}

/// Appraises every stored device anew, as the daemon does between messages.
fn sweep(lab: &mut Lab) -> u64 {
    let now = lab.now().unix;
    let store = lab.engine().store();
    let swept = Sweep::default().go_on(store, &Policies::default(), now, 100);
    swept.unwrap().appraised
}

#[test]
fn a_manifest_that_comes_later_judges_the_log_that_is_kept() {
    let mut wire = with_log(14, &boot_log(1, 3_000));
    let mut lab = lab(&[&wire]);
    wire.boot(&mut lab, &[]).unwrap();
    assert_eq!(wire.tier, Tier::Affirming);
    lab.expect(BootExpectations {
        secure_boot: true,
        ..BootExpectations::default()
    });
    // Nothing is asked of the device for it.
    assert_eq!(sweep(&mut lab), 1);
    assert_eq!(reasons(&mut lab), ["secure-boot-off"]);
    let found = lab.stored().deviations;
    assert_eq!(found.values().map(Vec::len).sum::<usize>(), 1);
    let beat = wire.until_appraised(&mut lab).unwrap();
    assert_eq!((beat.requests, wire.tier), (1, Tier::Contraindicated));
    assert_eq!(lab.stored().deviations, found);
}

#[test]
fn a_manifest_that_comes_before_the_log_waits_for_it() {
    let mut wire = with_log(15, &boot_log(1, 3_000));
    let mut lab = lab(&[&wire]);
    wire.stop_after = Some(6);
    assert!(wire.until_appraised(&mut lab).is_err());
    assert!(reasons(&mut lab).is_empty(), "nothing is expected yet");
    lab.expect(BootExpectations {
        secure_boot: true,
        ..BootExpectations::default()
    });
    assert_eq!(sweep(&mut lab), 1);
    assert_eq!(reasons(&mut lab), ["log-incomplete"]);
    assert!(lab.stored().deviations.values().all(Vec::is_empty));
    wire.stop_after = None;
    wire.until_appraised(&mut lab).unwrap();
    assert_eq!(wire.tier, Tier::Contraindicated);
    assert_eq!(reasons(&mut lab), ["secure-boot-off"]);
}
