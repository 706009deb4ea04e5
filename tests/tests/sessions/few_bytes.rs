//! What is left out of messages to save bytes never decides a verdict, and what a link loses costs
//! no more than what was in flight.

use std::collections::BTreeMap;

use mote_schemas::message::Tier;
use mote_tests::lab::Lab;
use mote_tests::soft_device::{digest_of, record};
use mote_tests::wire::Wire;
use mote_verifier::manifest::{FileDigest, FileEntry, Manifest, sign};
use mote_verifier::policy::trust_and_add;
use mote_verifier::signing_key::SigningKey;
use mote_verifier::store::{Change, Durability};

use super::lab;

fn pair(seed: u8) -> (Lab, Wire) {
    let wire = Wire::new(seed);
    (lab(&[&wire]), wire)
}

/// `/bin/0`, `/bin/1`, ...: all of them known.
fn run_known(wire: &mut Wire, files: std::ops::Range<u8>) {
    for number in files {
        wire.device.run(&format!("/bin/{number}"));
    }
}

#[test]
fn known_records_travel_as_prefixes_and_unknown_ones_are_asked_for() {
    let (mut lab, mut wire) = pair(1);
    run_known(&mut wire, 0..50);
    let cost = wire.until_appraised(&mut lab).unwrap();
    assert_eq!((wire.tier, wire.records), (Tier::Affirming, 51));
    // hello twice, open, boot_aggregate in full with the rest by prefix.
    assert!(cost.up < 1700, "{cost:?}");
    let idle = wire.until_appraised(&mut lab).unwrap();
    assert_eq!(idle.requests, 1);
    run_known(&mut wire, 50..60);
    let ten = wire.until_appraised(&mut lab).unwrap();
    assert_eq!(
        (wire.tier, wire.records, ten.requests),
        (Tier::Affirming, 61, 1)
    );
    assert!(ten.up - idle.up < 10 * 7, "{ten:?} after {idle:?}");

    run_known(&mut wire, 60..65);
    wire.device
        .measure(record("/opt/intruder", &digest_of("intruder")));
    run_known(&mut wire, 65..70);
    let asked = wire.until_appraised(&mut lab).unwrap();
    assert_eq!(
        (wire.tier, wire.records, asked.requests),
        (Tier::Contraindicated, 72, 2)
    );
}

#[test]
fn a_list_that_shows_another_files_hash_convinces_nobody() {
    for at_boot in [true, false] {
        let (mut lab, mut wire) = pair(2);
        if !at_boot {
            wire.until_appraised(&mut lab).unwrap();
        }
        // The TPM was told of the intruder; the list shows the hash of a file that is known.
        wire.device
            .measure(record("/opt/intruder", &digest_of("intruder")));
        run_known(&mut wire, 0..3);
        let shown = record("/bin/7", &digest_of("/bin/7")).bytes[4..24].to_vec();
        wire.device.list.0[1].bytes[4..24].copy_from_slice(&shown);
        wire.until_appraised(&mut lab).unwrap();
        assert_eq!(wire.tier, Tier::Contraindicated, "at boot: {at_boot}");
        assert_eq!(wire.records, 5, "at boot: {at_boot}");
        let stored = lab.stored();
        let deviations: Vec<_> = stored.deviations.values().flatten().collect();
        assert_eq!(deviations.len(), 1, "{deviations:?}");
        assert_eq!(deviations[0].reason, "file-unknown");
        assert_eq!(deviations[0].record, Some(1));

        // And goes on with elided quotes.
        let idle = wire.until_appraised(&mut lab).unwrap();
        assert_eq!((idle.requests, wire.tier), (1, Tier::Contraindicated));
    }
}

#[test]
fn a_lost_datagram_costs_itself_wherever_it_is_lost() {
    let whole = |lose: Option<usize>| {
        let (mut lab, mut wire) = pair(3);
        wire.datagram = 128;
        wire.lose = lose;
        run_known(&mut wire, 0..60);
        for number in 0..10u8 {
            wire.device
                .measure(record(&format!("/opt/{number}"), &digest_of("other")));
        }
        let cost = wire.until_appraised(&mut lab).unwrap();
        assert_eq!(
            (wire.tier, wire.records),
            (Tier::Contraindicated, 71),
            "{lose:?}"
        );
        assert!(wire.lose.is_none(), "only {} requests", cost.requests);
        cost
    };
    let base = whole(None);
    assert!(base.requests > 10, "{base:?}");
    for lost in 1..=base.requests {
        let cost = whole(Some(lost));
        assert_eq!(cost.requests, base.requests + 1, "request {lost} lost");
    }
}

#[test]
fn a_verifier_that_forgot_what_was_batched_gets_it_again() {
    let (mut lab, mut wire) = pair(4);
    wire.until_appraised(&mut lab).unwrap();
    run_known(&mut wire, 0..5);
    wire.until_appraised(&mut lab).unwrap();
    lab.crash();
    run_known(&mut wire, 5..8);
    wire.until_appraised(&mut lab).unwrap();
    assert_eq!((wire.tier, wire.records), (Tier::Affirming, 9));
}

#[test]
fn manifests_come_and_go_while_devices_name_their_records() {
    let (mut lab, mut wire) = pair(5);
    wire.until_appraised(&mut lab).unwrap();
    let file = |path: &str| FileEntry {
        path: path.into(),
        digests: vec![FileDigest(digest_of(path))],
    };
    let files = ["/opt/a", "/opt/b", "/opt/c"].map(file).to_vec();
    let manifest = Manifest::new("more", "1", None, files, Vec::new(), BTreeMap::new()).unwrap();
    let key = SigningKey::generate().unwrap();
    let add = trust_and_add(key.public_key(), sign(&manifest, &key).unwrap()).unwrap();
    let Change::PutObject(kind, name, _) = add[1].clone() else {
        panic!("{add:?}");
    };
    let remove = [Change::RemoveObject(kind, name)];

    // (what the operator changes, what then runs, the verdict, requests until there is one)
    let steps: [(&[Change], &str, Tier, usize); 4] = [
        (&add, "/opt/a", Tier::Affirming, 1),
        // `/opt/a` is unknown now, and so is `/opt/b`: asked for in full.
        (&remove, "/opt/b", Tier::Contraindicated, 2),
        (&add, "/opt/c", Tier::Affirming, 1),
        (&[], "/bin/1", Tier::Affirming, 1),
    ];
    for (records, (changes, path, tier, requests)) in (2..).zip(steps) {
        let store = lab.engine().store();
        store.commit(changes, Durability::Immediate).unwrap();
        wire.device.run(path);
        let cost = wire.until_appraised(&mut lab).unwrap();
        let got = (wire.tier, wire.records, cost.requests);
        assert_eq!(got, (tier, records, requests), "{path}");
    }
}
