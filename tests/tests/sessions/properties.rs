//! What holds of a verdict however its evidence comes, and whatever a policy leaves out.

use mote_tests::evil::Answer;
use mote_tests::lab::Stored;
use mote_tests::simkernel::ima::Record;
use mote_tests::soft_device::{digest_of, record};
use mote_tests::{Evil, Lab};
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
}
