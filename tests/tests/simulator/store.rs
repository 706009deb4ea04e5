//! The simulator's store is as good as the real one, and as bad: the same commits leave the same, with
//! and without a crash.

use std::fs;

use mote_tests::TempDir;
use mote_tests::sim::store::Disk;
use mote_verifier::store::{
    Change, Deviation, DeviceId, DeviceRecord, Durability, Kid, Record, RecordId, RedbStore,
    Secret, SessionRecord, Store, Tier, VerdictRecord,
};
use proptest::prelude::*;

fn device(n: u8) -> DeviceId {
    DeviceId([n; 16])
}

fn device_record(n: u64) -> DeviceRecord {
    DeviceRecord::new(vec![1; 90], vec![2; 88], n)
}

fn record(n: u64) -> Record {
    Record {
        template: "ima-ng".into(),
        data: n.to_be_bytes().to_vec(),
        pcr: 10,
        violation: false,
    }
}

fn change() -> impl Strategy<Value = Vec<Change>> {
    let id = || (0u8..2).prop_map(device);
    let one = prop_oneof![
        (id(), any::<u64>()).prop_map(|(id, n)| Change::PutDevice(id, device_record(n))),
        id().prop_map(Change::RemoveDevice),
        (0u8..3, 0u32..4, 1usize..3, any::<u64>()).prop_map(|(upload, offset, len, at)| {
            Change::AppendBootUpload {
                upload: [upload; 32],
                offset,
                bytes: vec![upload; len],
                at,
            }
        }),
        (0u8..3).prop_map(|upload| Change::DropBootUpload([upload; 32])),
        (0u8..3, any::<u64>()).prop_map(|(digest, at)| Change::PutBootLog {
            digest: [digest; 32],
            bytes: vec![digest; 5],
            at,
        }),
        // Kids of several lengths: their order is that of their bytes.
        (prop::collection::vec(0u8..3, 1..3), id()).prop_map(|(kid, device)| {
            let session = SessionRecord {
                device,
                master_secret: Secret(vec![5; 16]),
                transcript_hash: [6; 32],
                sender_sequence_reserved: 7,
                nonces: Vec::new(),
                created: 8,
                boot_log: None,
                deletes: None,
            };
            Change::PutSession(Kid::new(&kid).unwrap(), session)
        }),
        prop::collection::vec(0u8..3, 1..3)
            .prop_map(|kid| Change::RemoveSession(Kid::new(&kid).unwrap())),
        (id(), 0u64..3, 0u64..80).prop_map(|(device, boot, from)| Change::TruncateLog {
            device,
            boot,
            from
        }),
        (id(), any::<u64>()).prop_map(|(id, at)| {
            let verdict = VerdictRecord {
                at,
                boot: 1,
                tier: Tier::Affirming,
                reasons: Vec::new(),
            };
            Change::AddVerdict(id, verdict)
        }),
        (id(), any::<u64>()).prop_map(|(id, since)| {
            let deviation = Deviation {
                reason: "file-unknown".into(),
                since,
                record: Some(1),
                pcr: None,
                path: None,
                measured: None,
                expected: Vec::new(),
                note: None,
            };
            Change::AddDeviation(id, deviation)
        }),
        id().prop_map(Change::ClearDeviations),
    ];
    // An append begins where the log may end, or not, with records that were put, or not.
    let append = (id(), 0u64..2, 0u64..4, 0u64..70, prop::bool::weighted(0.95)).prop_map(
        |(device, boot, first, count, put)| {
            let first = first * 40;
            let numbers = first..first + count;
            let mut changes = Vec::new();
            if put {
                changes.extend(numbers.clone().map(|n| Change::PutRecord(record(n))));
            }
            let records = numbers.map(|n| RecordId::of(&record(n))).collect();
            changes.push(Change::AppendLog {
                device,
                boot,
                first,
                records,
            });
            changes
        },
    );
    prop_oneof![3 => one.prop_map(|change| vec![change]), 2 => append]
}

#[derive(Clone, Debug)]
enum Step {
    Commit(Vec<Change>, Durability),
    Flush,
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    let durability = prop_oneof![
        3 => Just(Durability::Batched),
        1 => Just(Durability::Immediate),
    ];
    let commit = prop::collection::vec(change(), 1..3);
    prop_oneof![
        8 => (commit, durability).prop_map(|(parts, d)| Step::Commit(parts.concat(), d)),
        1 => Just(Step::Flush),
        1 => Just(Step::Crash),
    ]
}

fn show(part: &impl std::fmt::Debug) -> String {
    format!("{part:?}\n")
}

/// Everything that a store says.
fn everything(store: &dyn Store) -> String {
    let mut said = format!(
        "{:?}\n{:?}\n{:?}\n{:?}\n",
        store.devices(None, 10).unwrap(),
        store.devices(Some(&device(0)), 1).unwrap(),
        store.sessions(None, 100).unwrap(),
        store
            .sessions(Some(&Kid::new(&[1, 0]).unwrap()), 2)
            .unwrap(),
    );
    for id in [device(0), device(1)] {
        said += &show(&store.device(&id).unwrap());
        for boot in 0..3 {
            said += &show(&store.log_end(&id, boot).unwrap());
            said += &show(&store.log(&id, boot, 0, usize::MAX).unwrap());
            said += &show(&store.log(&id, boot, 39, 3).unwrap());
        }
        said += &show(&store.verdicts(&id, 2).unwrap());
        said += &show(&store.deviations(&id, 3).unwrap());
        said += &show(&store.deviation_count(&id).unwrap());
    }
    for key in 0..3 {
        let key = [key; 32];
        said += &show(&store.boot_log(&key).unwrap());
        said += &show(&store.has_boot_log(&key).unwrap());
        said += &show(&store.boot_upload_end(&key).unwrap());
        said += &show(&store.boot_upload(&key).unwrap());
    }
    for n in [0, 39, 40, 100] {
        said += &show(&store.record(&RecordId::of(&record(n))).unwrap());
    }
    said
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn the_double_and_redb_say_the_same_also_after_crashes(
        steps in prop::collection::vec(step(), 1..14)
    ) {
        let directory = TempDir::new("double").unwrap();
        let mut generation = 0;
        let mut at = directory.join("0");
        let mut real = RedbStore::open_or_create(&at).unwrap();
        let disk = Disk::new();
        let mut double = disk.open();
        for step in steps {
            match step {
                Step::Commit(changes, durability) => {
                    let (a, b) = (
                        real.commit(&changes, durability),
                        double.commit(&changes, durability),
                    );
                    // The same error, down to its numbers.
                    prop_assert_eq!(format!("{a:?}"), format!("{b:?}"));
                }
                Step::Flush => {
                    real.flush().unwrap();
                    double.flush().unwrap();
                }
                Step::Crash => {
                    // What the disk has at this moment is what a crash leaves.
                    generation += 1;
                    let after = directory.join(generation.to_string());
                    fs::create_dir(&after).unwrap();
                    fs::copy(at.join(RedbStore::FILE), after.join(RedbStore::FILE)).unwrap();
                    at = after;
                    real = RedbStore::open(&at).unwrap();
                    disk.crash();
                    double = disk.open();
                }
            }
            prop_assert_eq!(everything(&real), everything(&double));
        }
    }
}
