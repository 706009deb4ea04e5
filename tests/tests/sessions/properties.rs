//! What holds of a verdict however its evidence comes, and whatever a policy leaves out.

use mote_schemas::tpm::Public;
use mote_tests::evil::Answer;
use mote_tests::lab::Stored;
use mote_tests::simkernel::ima::Record;
use mote_tests::soft_device::{digest_of, record};
use mote_tests::wire::{Far as _, Wire};
use mote_tests::{Evil, Lab};
use mote_verifier::admission::{AdmissionRules, EkId};
use mote_verifier::engine::Settings;
use mote_verifier::policy::{Policies, reappraise};
use proptest::prelude::*;

/// Something that a device may do: run a file of its image, another one, a changed one, one that is open.
fn any_record() -> impl Strategy<Value = Record> {
    (0..100u8, 0..8u8).prop_map(|(number, kind)| {
        let path = format!("/bin/{number}");
        match kind {
            0 => record(&format!("/tmp/{number}"), &digest_of("x")),
            1 => record(&path, &digest_of("changed")),
            2 => Record::violation(&path).unwrap(),
            _ => record(&path, &digest_of(&path)),
        }
    })
}

/// What a verdict comes down to, and why: tier, reasons, and each deviation's record, reason and path.
type Outcome = (
    String,
    Vec<String>,
    Vec<(Option<u64>, String, Option<Vec<u8>>)>,
);

fn outcome(stored: &Stored, evil: &Evil) -> Outcome {
    let id = evil.id();
    let verdict = &stored.verdicts[&id][0].1;
    let mut reasons = verdict.reasons.clone();
    reasons.sort();
    let found = stored.deviations[&id].iter();
    let mut found: Vec<_> = found
        .map(|d| (d.record, d.reason.clone(), d.path.clone()))
        .collect();
    found.sort();
    (verdict.tier.word().to_owned(), reasons, found)
}

fn admitted(lab: &mut Lab) -> Evil {
    let mut evil = Evil::new(1);
    evil.hello(lab);
    evil.open(lab);
    lab.admit(&evil.id());
    evil
}

/// What happens between two heartbeats.
#[derive(Clone, Debug)]
enum Between {
    Nothing,
    Record(Record),
    /// Whether the TPM's clock is what it was before the power went.
    Clock(bool),
    /// Another policy, by its place in [`POLICIES`].
    Policy(usize),
    Seconds(u64),
    Reboot,
    Suspend,
    /// Power lost in suspend, so that the PCRs start over without a reset.
    LostSuspend,
    /// A PCR of the boot is extended while the device runs.
    BootPcr,
    Crash,
    Sweep,
}

/// Policies, less name and version; `SOON` is some heartbeats ahead.
const POLICIES: [&str; 7] = [
    r#""manifests": [{ "name": "lab" }]"#,
    r#""manifests": [{ "name": "lab", "expires": SOON }]"#,
    r#""mode": "monitor", "exclusions": ["/tmp/**"]"#,
    r#""reasons": { "clock-unsafe": "untrusted", "file-unknown": "warning" }"#,
    r#""reasons": { "clock-unsafe": "ignore", "file-modified": "ignore" }"#,
    r#""min-key-strength": 192, "stale-after": 60"#,
    r#""banks": ["sha512"], "manifests": [{ "name": "none" }]"#,
];

fn between() -> impl Strategy<Value = Between> {
    prop_oneof![
        6 => Just(Between::Nothing),
        3 => any_record().prop_map(Between::Record),
        2 => any::<bool>().prop_map(Between::Clock),
        3 => (0..POLICIES.len()).prop_map(Between::Policy),
        1 => (1..200_000u64).prop_map(Between::Seconds),
        1 => Just(Between::Reboot),
        1 => Just(Between::Suspend),
        1 => Just(Between::LostSuspend),
        1 => Just(Between::BootPcr),
        1 => Just(Between::Crash),
        1 => Just(Between::Sweep),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    /// A log in one message, or in any parts, with quotes and crashes of the verifier between them.
    #[test]
    fn a_log_in_any_parts_has_the_verdict_of_the_whole(
        records in prop::collection::vec(any_record(), 1..24),
        parts in prop::collection::vec((0..6usize, any::<bool>(), any::<bool>()), 0..8),
    ) {
        let mut lab = Lab::new();
        let mut whole = admitted(&mut lab);
        for record in &records {
            whole.device.measure(record.clone());
        }
        whole.beat(&mut lab);
        let expected = outcome(&lab.stored(), &whole);

        let mut lab = Lab::new();
        let mut evil = admitted(&mut lab);
        let mut left = records.iter();
        for (count, quoted, crash) in parts {
            for record in left.by_ref().take(count) {
                evil.device.measure(record.clone());
            }
            if crash {
                lab.crash();
            }
            if quoted {
                evil.beat(&mut lab);
            } else {
                // Records ahead of the quote that will certify them; some of them twice.
                let records = evil.device.list.0.clone();
                let from = records.len().saturating_sub(count + 1);
                evil.log(&mut lab, from as u64, &records[from..]);
            }
        }
        for record in left {
            evil.device.measure(record.clone());
        }
        // A verifier that has lost the nonce gives another; an agent answers it at the next beat.
        if evil.beat(&mut lab).reason() == "nonce-expired" {
            evil.beat(&mut lab);
        }
        prop_assert_eq!(outcome(&lab.stored(), &evil), expected);
    }

    /// A policy that leaves everything out and weighs nothing, and a list that is not what the TPM was
    /// told: dropped, changed, added to, in another order.
    #[test]
    fn excluding_never_turns_a_replay_failure_into_a_pass(
        records in prop::collection::vec(any_record(), 2..12),
        at in any::<prop::sample::Index>(),
        change in 0..4u8,
        globs in prop::sample::subsequence(vec!["**", "/bin/*", "/tmp/**"], 1..=3),
    ) {
        let mut lab = Lab::new();
        let globs = globs.join("\", \"");
        let ignored = ["file-unknown", "file-modified", "measurement-violation"];
        let ignored = ignored.map(|token| format!("\"{token}\": \"ignore\"")).join(", ");
        lab.bind(&format!(
            r#"{{ "name": "lax", "version": 1, "exclusions": ["{globs}"], "reasons": {{ {ignored} }} }}"#
        ));
        let mut evil = admitted(&mut lab);
        for record in &records {
            evil.device.measure(record.clone());
        }
        let truth = evil.device.list.0.clone();
        let list = &mut evil.device.list.0;
        // Not the first, which the kernel measures before anything else.
        let at = 1 + at.index(list.len() - 1);
        let other = record("/bin/other", &digest_of("other"));
        match change {
            0 => drop(list.remove(at)),
            1 => list[at] = other,
            2 => list.insert(at, other),
            _ => {
                let next = if at + 1 < list.len() { at + 1 } else { 1 };
                list.swap(at, next);
            }
        }
        // Equal records in each other's place are no change, nor do violations differ in the TPM.
        let told = |list: &[Record]| -> Vec<Vec<u8>> {
            let bank = mote_tests::simkernel::bank::Bank::Sha256;
            list.iter().map(|record| record.extended(bank)).collect()
        };
        prop_assume!(told(list) != told(&truth));
        let answer: Answer = evil.beat(&mut lab);
        prop_assert_eq!(answer.reason(), "log-does-not-replay");
        prop_assert_eq!(answer.tier().word(), "untrusted");

        let mut lab = Lab::new();
        lab.bind(&format!(
            r#"{{ "name": "lax", "version": 1, "exclusions": ["**"], "reasons": {{ {ignored} }} }}"#
        ));
        let mut honest = admitted(&mut lab);
        for record in records {
            honest.device.measure(record);
        }
        prop_assert_eq!(honest.beat(&mut lab).tier().word(), "trusted");
    }

    /// A heartbeat with nothing new is not replayed and appraised again; yet what is stored after each is
    /// what an appraisal of the whole boot from its first record comes to, at that time and under the policy
    /// of that time.
    #[test]
    fn after_every_heartbeat_the_verdict_is_that_of_the_whole_boot_appraised_now(
        history in prop::collection::vec(between(), 1..16),
    ) {
        let mut wire = Wire::new(1);
        let ek = Public::parse(wire.device.tpm.ek_public()).unwrap();
        let mut rules = AdmissionRules::default();
        rules.allow(EkId::of(&ek));
        let mut lab = Lab::with(rules, Settings::default());
        wire.until_appraised(&mut lab).unwrap();
        let mut extended = false;
        for (version, mut happened) in (1..).zip(history) {
            // Where power is lost in suspend, the PCR is what it was without a reboot that the TPM tells of. That
            // it was extended is not forgotten then, until the next appraisal of the whole.
            if extended && matches!(happened, Between::LostSuspend) {
                happened = Between::Reboot;
            }
            extended = match happened {
                Between::BootPcr => true,
                Between::Reboot | Between::LostSuspend => false,
                _ => extended,
            };
            let now = lab.now().unix;
            match happened.clone() {
                Between::Nothing => {}
                Between::Record(record) => wire.device.measure(record),
                Between::Clock(safe) => wire.device.tpm.set_safe(safe),
                Between::Policy(which) => {
                    let soon = (now / 1000 + 700).to_string();
                    let rules = POLICIES[which].replace("SOON", &soon);
                    lab.bind(&format!(r#"{{ "name": "p", "version": {version}, {rules} }}"#));
                }
                Between::Seconds(seconds) => {
                    lab.pass(1000 * seconds);
                    wire.device.tpm.advance(1000 * seconds);
                }
                Between::Reboot => {
                    wire.restart();
                    wire.device.reboot();
                }
                Between::Suspend => wire.device.suspend(),
                Between::LostSuspend => wire.device.lose_power_in_suspend(),
                Between::BootPcr => wire.device.tpm.extend(7, |alg| Some(vec![9; alg.digest_len()])),
                Between::Crash => lab.crash(),
                Between::Sweep => drop(lab.engine().sweep(now, 100).unwrap()),
            }
            wire.until_appraised(&mut lab).unwrap();

            let now = lab.now().unix;
            let stored = lab.stored();
            let (id, device) = stored.devices.iter().next().unwrap();
            let verdict = &stored.verdicts[id][0].1;
            let store = lab.engine().store();
            let policy = Policies::default().for_device(store, id, now).unwrap();
            let whole = reappraise::evaluate(store, id, device, &policy, now).unwrap().unwrap();
            let sorted = |mut tokens: Vec<String>| {
                tokens.sort();
                tokens
            };
            let expected = whole.reasons.iter().map(|reason| reason.token().to_owned()).collect();
            prop_assert_eq!(wire.tier, whole.tier, "told, after {:?}", happened);
            prop_assert_eq!(verdict.tier, whole.tier, "after {:?}", happened);
            prop_assert_eq!(sorted(verdict.reasons.clone()), sorted(expected), "after {:?}", happened);
            let boot = device.boot.as_ref().unwrap();
            prop_assert_eq!(boot.number, verdict.boot);
            prop_assert_eq!(boot.content.policy, whole.content.policy);
            prop_assert_eq!(boot.content.tier, whole.content.tier);
            prop_assert_eq!(boot.quoted_at, now);
            prop_assert!(boot.outstanding.is_none() && boot.restarted.is_none());
        }
    }
}
