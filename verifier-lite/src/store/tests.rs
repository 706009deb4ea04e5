use std::fs;
use std::os::unix::fs::PermissionsExt;

use proptest::prelude::*;

use super::*;
use crate::test_util::TempDir;

const A: DeviceId = DeviceId([0xA; 16]);
const B: DeviceId = DeviceId([0xB; 16]);

fn device() -> DeviceRecord {
    DeviceRecord {
        ek_certificate: Some(vec![3; 700]),
        name: Some("gate 7".into()),
        admission: Admission::Admitted {
            by: "ann".into(),
            at: 2_000,
        },
        boot: Some(BootState {
            number: 2,
            reset_count: 7,
            restart_count: 0,
            clock: 123_456,
            clock_safe: true,
            since: 3_000,
            quoted_at: 4_000,
            certified: 65,
            pcrs: vec![PcrBank {
                alg: 0x000B,
                values: vec![PcrValue {
                    index: 10,
                    value: vec![9; 32],
                }],
            }],
            log_pcrs: 1 << 10,
            outstanding: Some(OutstandingQuote {
                attest: vec![10; 129],
                signature: vec![11; 72],
                extra_data: vec![12; 32],
                claims: vec![],
                records: 70,
                at: 4_000,
            }),
            quoted: None,
            guessed: None,
            in_full: None,
            padded_banks: None,
            restarted: None,
            boot_log: None,
            content: Content {
                tier: Tier::Warning,
                reasons: vec!["clock-unsafe".into()],
                learned_keys: vec![vec![0x30, 1, 2].into()],
                policy: Some([7; 32]),
            },
        }),
        last_seen: Some(4_000),
        session: Kid::new(b"kid"),
        software: Some("mote-agent 0.1.0".into()),
        ..DeviceRecord::new(vec![1; 90], vec![2; 88], 1_000)
    }
}

fn session(device: DeviceId) -> SessionRecord {
    SessionRecord {
        device,
        master_secret: Secret(vec![5; 32]),
        transcript_hash: [6; 32],
        sender_sequence_reserved: 1_024,
        nonces: vec![NonceRecord {
            id: 1,
            value: vec![7; 16],
            expires: 9_000,
        }],
        created: 2_500,
        boot_log: None,
        deletes: None,
    }
}

fn verdict(at: u64) -> VerdictRecord {
    VerdictRecord {
        at,
        boot: 2,
        tier: Tier::Contraindicated,
        reasons: vec!["file-unknown".into()],
    }
}

fn deviation(record: u64) -> Deviation {
    Deviation {
        reason: "file-unknown".into(),
        since: 4_000,
        record: Some(record),
        pcr: Some(10),
        path: Some(b"/usr/bin/\xFF".to_vec()),
        measured: Some(vec![8; 32]),
        expected: vec![Expected {
            value: vec![9; 32],
            source: "edge-1.3".into(),
        }],
        note: None,
    }
}

fn record(n: u64) -> Record {
    Record {
        template: "ima-ng".into(),
        data: n.to_be_bytes().to_vec(),
        pcr: 10,
        violation: false,
    }
}

fn id(n: u64) -> RecordId {
    let record = record(n);
    RecordId::of(&record)
}

fn append(device: DeviceId, first: u64, count: u64) -> Vec<Change> {
    let numbers = first..first + count;
    let mut changes: Vec<_> = numbers
        .clone()
        .map(|n| Change::PutRecord(record(n)))
        .collect();
    let records = numbers.map(id).collect();
    changes.push(Change::AppendLog {
        device,
        boot: 2,
        first,
        records,
    });
    changes
}

fn filled(store: &mut RedbStore) {
    let kid = |n| Kid::new(&[n]).unwrap();
    for (n, device_id) in [A, B].into_iter().enumerate() {
        let mut changes = vec![
            Change::PutDevice(device_id, device()),
            Change::PutSession(kid(n as u8), session(device_id)),
            Change::AddVerdict(device_id, verdict(1)),
            Change::AddVerdict(device_id, verdict(2)),
            Change::AddDeviation(device_id, deviation(3)),
        ];
        changes.extend(append(device_id, 0, 70));
        store.commit(&changes, Durability::Immediate).unwrap();
    }
}

/// Everything the store says about a device.
type Everything = (
    Option<DeviceRecord>,
    Vec<(Kid, SessionRecord)>,
    Vec<RecordId>,
    Vec<(u64, VerdictRecord)>,
    Vec<Deviation>,
);

fn everything(store: &dyn Store, device: DeviceId) -> Everything {
    let mut sessions = store.sessions(None, 100).unwrap();
    sessions.retain(|(_, session)| session.device == device);
    (
        store.device(&device).unwrap(),
        sessions,
        store.log(&device, 2, 0, 1_000).unwrap(),
        store.verdicts(&device, 100).unwrap(),
        store.deviations(&device, 100).unwrap(),
    )
}

#[test]
fn what_is_committed_reads_back_also_after_reopening() {
    let dir = TempDir::new("store");
    let mut store = RedbStore::open_or_create(dir.path()).unwrap();
    filled(&mut store);
    for reopened in [false, true] {
        if reopened {
            drop(store);
            store = RedbStore::open(dir.path()).unwrap();
        }
        let (device_record, sessions, log, verdicts, deviations) = everything(&store, A);
        assert_eq!(device_record, Some(device()));
        assert_eq!(sessions, [(Kid::new(&[0]).unwrap(), session(A))]);
        assert_eq!(log, (0..70).map(id).collect::<Vec<_>>());
        assert_eq!(verdicts, [(2, verdict(2)), (1, verdict(1))]);
        assert_eq!(deviations, [deviation(3)]);
        assert_eq!(store.record(&id(69)).unwrap(), Some(record(69)));
        assert_eq!(store.record(&id(70)).unwrap(), None);
        let ids = |after| {
            let page = store.devices(after, 1).unwrap();
            page.into_iter().map(|(id, _)| id).collect::<Vec<_>>()
        };
        assert_eq!(
            (ids(None), ids(Some(&A)), ids(Some(&B))),
            (vec![A], vec![B], vec![])
        );
        let after = store.sessions(Some(&Kid::new(&[0]).unwrap()), 9).unwrap();
        assert_eq!(after, [(Kid::new(&[1]).unwrap(), session(B))]);
    }
}

#[test]
fn a_commit_that_fails_changes_nothing() {
    let dir = TempDir::new("store");
    let mut store = RedbStore::open_or_create(dir.path()).unwrap();
    filled(&mut store);
    let before = (everything(&store, A), everything(&store, B));
    let append = |first, records| Change::AppendLog {
        device: A,
        boot: 2,
        first,
        records,
    };
    let nobody = DeviceId([0; 16]);
    let failing = [
        append(71, vec![id(1)]),
        append(69, vec![id(1)]),
        append(70, vec![id(70)]),
        Change::AddVerdict(nobody, verdict(1)),
        Change::AddDeviation(nobody, deviation(1)),
        Change::PutSession(Kid::new(&[9]).unwrap(), session(nobody)),
    ];
    let mut errors = Vec::new();
    for bad in failing {
        let changes = [
            Change::RemoveDevice(B),
            Change::AddVerdict(A, verdict(3)),
            bad,
        ];
        errors.push(store.commit(&changes, Durability::Immediate).unwrap_err());
        assert_eq!((everything(&store, A), everything(&store, B)), before);
    }
    assert!(matches!(
        errors[0],
        StoreError::NotContiguous { end: 70, first: 71 }
    ));
    assert!(matches!(
        errors[1],
        StoreError::NotContiguous { end: 70, first: 69 }
    ));
    assert!(matches!(errors[2], StoreError::UnknownRecord(r) if r == id(70)));
    assert!(
        errors[3..]
            .iter()
            .all(|e| matches!(e, StoreError::UnknownDevice(d) if *d == nobody))
    );
}

#[test]
fn removing_a_device_takes_all_of_it_and_nothing_of_others() {
    let dir = TempDir::new("store");
    let mut store = RedbStore::open_or_create(dir.path()).unwrap();
    filled(&mut store);
    let other = everything(&store, B);
    store
        .commit(&[Change::RemoveDevice(A)], Durability::Immediate)
        .unwrap();
    assert_eq!(
        everything(&store, A),
        (None, vec![], vec![], vec![], vec![])
    );
    assert_eq!(everything(&store, B), other);
    assert_eq!(store.record(&id(1)).unwrap(), Some(record(1)));
}

#[test]
fn batched_commits_are_seen_at_once_and_durable_with_the_next_flush() {
    let dir = TempDir::new("store");
    let mut store = RedbStore::open_or_create(dir.path()).unwrap();
    let copy = dir.path().join("copy");
    // What a crash at this moment would leave behind.
    let after_crash = |store: &RedbStore| {
        let _ = fs::remove_dir_all(&copy);
        fs::create_dir(&copy).unwrap();
        fs::copy(store.path(), copy.join(RedbStore::FILE)).unwrap();
        RedbStore::open(&copy).unwrap().device(&A).unwrap()
    };
    store
        .commit(&[Change::PutDevice(A, device())], Durability::Batched)
        .unwrap();
    assert_eq!(store.device(&A).unwrap(), Some(device()));
    assert_eq!(after_crash(&store), None);
    store.flush().unwrap();
    assert_eq!(after_crash(&store), Some(device()));
    store
        .commit(&[Change::RemoveDevice(A)], Durability::Batched)
        .unwrap();
    assert_eq!(after_crash(&store), Some(device()));
    store
        .commit(&[Change::PutDevice(B, device())], Durability::Immediate)
        .unwrap();
    assert_eq!(after_crash(&store), None);
}

/// What a heartbeat with nothing new changes is in memory first.
#[test]
fn a_heartbeat_is_seen_everywhere_at_once_and_stored_with_the_next_durable_commit() {
    let dir = TempDir::new("store");
    let mut store = RedbStore::open_or_create(dir.path()).unwrap();
    let (kid, other) = (Kid::new(b"kid").unwrap(), Kid::new(b"other").unwrap());
    let put = |device_id, kid, record: &DeviceRecord| {
        [
            Change::PutDevice(device_id, record.clone()),
            Change::PutSession(kid, session(device_id)),
        ]
    };
    for (device_id, kid) in [(A, kid), (B, other)] {
        let changes = put(device_id, kid, &device());
        store.commit(&changes, Durability::Immediate).unwrap();
        store.device(&device_id).unwrap();
    }
    let mut later = device();
    later.last_seen = Some(9_000);
    let mut moved = session(A);
    moved.nonces.clear();
    let beat = [
        Change::PutDevice(A, later.clone()),
        Change::PutSession(kid, moved.clone()),
    ];
    store.commit(&beat, Durability::Batched).unwrap();

    let seen = |store: &RedbStore, device: &DeviceRecord, session: &SessionRecord| {
        assert_eq!(store.device(&A).unwrap().as_ref(), Some(device));
        assert_eq!(&store.devices(None, 1).unwrap()[0].1, device);
        assert_eq!(store.session(&kid).unwrap().as_ref(), Some(session));
        assert_eq!(&store.sessions(None, 1).unwrap()[0].1, session);
    };
    seen(&store, &later, &moved);
    let crashed = |store: &RedbStore, to: &str| {
        let to = dir.path().join(to);
        fs::create_dir(&to).unwrap();
        fs::copy(store.path(), to.join(RedbStore::FILE)).unwrap();
        RedbStore::open(&to).unwrap()
    };
    seen(&crashed(&store, "before"), &device(), &session(A));

    // A commit that fails takes nothing along, and loses nothing.
    let bad = [Change::AddVerdict(DeviceId([0xC; 16]), verdict(1))];
    for durability in [Durability::Batched, Durability::Immediate] {
        store.commit(&bad, durability).unwrap_err();
        seen(&store, &later, &moved);
    }
    let of_other = [Change::AddVerdict(B, verdict(1))];
    store.commit(&of_other, Durability::Immediate).unwrap();
    seen(&store, &later, &moved);
    seen(&crashed(&store, "after"), &later, &moved);

    // What waits is of a device that is removed.
    store.commit(&beat, Durability::Batched).unwrap();
    let remove = [Change::RemoveDevice(A)];
    store.commit(&remove, Durability::Immediate).unwrap();
    for store in [&store, &crashed(&store, "removed")] {
        assert_eq!(store.device(&A).unwrap(), None);
        assert_eq!(store.session(&kid).unwrap(), None);
    }
    let gone = store.commit(&beat[1..], Durability::Batched).unwrap_err();
    assert!(matches!(gone, StoreError::UnknownDevice(A)), "{gone}");
}

#[test]
fn the_store_is_its_owners_alone() {
    let dir = TempDir::new("store");
    let state = dir.path().join("a/state");
    drop(RedbStore::open_or_create(&state).unwrap());
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    let file = state.join(RedbStore::FILE);
    assert_eq!((mode(&state), mode(&file)), (0o700, 0o600));
    fs::set_permissions(&file, PermissionsExt::from_mode(0o640)).unwrap();
    let error = RedbStore::open(&state).unwrap_err();
    assert!(
        matches!(&error, StoreError::Exposed(path, 0o640) if *path == file),
        "{error}"
    );
}

#[test]
fn a_store_that_cannot_be_opened_says_why() {
    let dir = TempDir::new("store");
    let file = dir.path().join(RedbStore::FILE);
    let error = RedbStore::open(dir.path()).unwrap_err();
    assert!(
        matches!(&error, StoreError::Missing(path) if *path == file),
        "{error}"
    );

    let store = RedbStore::open_or_create(dir.path()).unwrap();
    let error = RedbStore::open(dir.path()).unwrap_err();
    let pid = std::process::id();
    assert!(
        matches!(&error, StoreError::Locked(path, Some(p)) if *path == file && *p == pid),
        "{error}"
    );
    drop(store);

    let sound = fs::read(&file).unwrap();
    let mut wrong = sound.clone();
    // Everything behind the header, which redb keeps twice.
    wrong[4096..].fill(0x5A);
    for (name, bytes) in [
        ("text", b"not a database".as_slice()),
        ("half", &sound[..sound.len() / 2]),
        ("header", &sound[..100]),
        ("overwritten", &wrong),
    ] {
        fs::write(&file, bytes).unwrap();
        let error = RedbStore::open(dir.path()).expect_err(name);
        assert!(
            matches!(&error, StoreError::Corrupt(path, _) if *path == file),
            "{name}: {error}"
        );
        assert_eq!(
            fs::read(&file).unwrap(),
            bytes,
            "{name}: a damaged file is left as it is"
        );
    }
    fs::write(&file, &sound).unwrap();
    RedbStore::open(dir.path()).unwrap();
}

#[test]
fn a_newer_schema_is_refused_and_left_alone() {
    let dir = TempDir::new("store");
    drop(RedbStore::open_or_create(dir.path()).unwrap());
    let file = dir.path().join(RedbStore::FILE);
    let database = ::redb::Database::open(&file).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction
        .open_table(tables::META)
        .unwrap()
        .insert(tables::SCHEMA_KEY, tables::SCHEMA + 1)
        .unwrap();
    transaction.commit().unwrap();
    drop(database);
    for _ in 0..2 {
        let error = RedbStore::open(dir.path()).unwrap_err();
        assert!(matches!(error, StoreError::NewerSchema(2, 1)), "{error}");
    }
}

#[test]
fn an_entry_that_does_not_decode_is_named() {
    let dir = TempDir::new("store");
    drop(RedbStore::open_or_create(dir.path()).unwrap());
    let database = ::redb::Database::open(dir.path().join(RedbStore::FILE)).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction
        .open_table(tables::DEVICES)
        .unwrap()
        .insert(&A.0, b"x".as_slice())
        .unwrap();
    transaction.commit().unwrap();
    drop(database);
    let store = RedbStore::open(dir.path()).unwrap();
    let error = store.device(&A).unwrap_err();
    assert!(matches!(&error, StoreError::BadEntry("devices", key, _) if *key == A.to_string()));
}

#[test]
fn a_secret_is_not_printed() {
    let shown = format!("{:?}", session(A));
    assert!(shown.contains("Secret(32 bytes)"), "{shown}");
}

#[derive(Clone, Debug)]
enum Step {
    Append(u64),
    Truncate(u64),
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_log_is_what_was_appended_and_not_truncated(
        steps in prop::collection::vec(
            prop_oneof![
                (0u64..150).prop_map(Step::Append),
                (0u64..300).prop_map(Step::Truncate),
            ],
            1..12,
        ),
        from in 0u64..200,
        max in 0usize..200,
    ) {
        let dir = TempDir::new("store");
        let mut store = RedbStore::open_or_create(dir.path()).unwrap();
        let put = [Change::PutDevice(A, device()), Change::PutDevice(B, device())];
        store.commit(&put, Durability::Batched).unwrap();
        // Neighbours, which must not be touched.
        store.commit(&append(B, 0, 65), Durability::Batched).unwrap();
        let mut model: Vec<RecordId> = Vec::new();
        for step in steps {
            let changes = match step {
                Step::Append(count) => {
                    let first = model.len() as u64;
                    model.extend((first..first + count).map(id));
                    append(A, first, count)
                }
                Step::Truncate(from) => {
                    model.truncate(from as usize);
                    vec![Change::TruncateLog { device: A, boot: 2, from }]
                }
            };
            store.commit(&changes, Durability::Batched).unwrap();
            prop_assert_eq!(store.log_end(&A, 2).unwrap(), model.len() as u64);
            prop_assert_eq!(&store.log(&A, 2, 0, usize::MAX).unwrap(), &model);
        }
        let part: Vec<_> = model.iter().skip(from as usize).take(max).copied().collect();
        prop_assert_eq!(store.log(&A, 2, from, max).unwrap(), part);
        prop_assert_eq!(store.log_end(&A, 1).unwrap(), 0);
        prop_assert_eq!(store.log_end(&B, 2).unwrap(), 65);
    }
}

#[test]
fn boot_logs_and_uploads_are_bounded_and_the_oldest_goes() {
    let dir = TempDir::new("store");
    let mut store = RedbStore::open_or_create(dir.path()).unwrap();
    let key = |n: u64| {
        let mut key = [0; 32];
        key[24..].copy_from_slice(&n.to_be_bytes());
        key
    };
    let append = |n: u64, offset: u32, at: u64| Change::AppendBootUpload {
        upload: key(n),
        offset,
        bytes: vec![n as u8; 3],
        at,
    };
    let commits: Vec<Change> = (0..MAX_UPLOADS).map(|n| append(n, 0, n)).collect();
    store.commit(&commits, Durability::Batched).unwrap();
    // 0 goes on, so 1 has waited longest.
    let more = [append(0, 3, 1000), append(5000, 0, 1001)];
    store.commit(&more, Durability::Batched).unwrap();
    assert_eq!(store.boot_upload(&key(0)).unwrap(), [0; 6]);
    assert_eq!(store.boot_upload_end(&key(1)).unwrap(), 0);
    assert_eq!(store.boot_upload(&key(1)).unwrap(), b"");
    assert_eq!(store.boot_upload_end(&key(2)).unwrap(), 3);
    assert_eq!(store.boot_upload_end(&key(5000)).unwrap(), 3);
    let gap = store.commit(&[append(2, 4, 1002)], Durability::Batched);
    assert!(
        matches!(gap, Err(StoreError::NotContiguous { end: 3, first: 4 })),
        "{gap:?}"
    );
    assert_eq!(store.boot_upload(&key(2)).unwrap(), [2; 3]);

    let put = |n: u64| Change::PutBootLog {
        digest: key(n),
        bytes: vec![1, 2, 3],
        at: n,
    };
    let commits: Vec<Change> = (0..=MAX_BOOT_LOGS).map(put).collect();
    store.commit(&commits, Durability::Immediate).unwrap();
    assert_eq!(store.boot_log(&key(0)).unwrap(), None);
    assert!(!store.has_boot_log(&key(0)).unwrap());
    assert_eq!(store.boot_log(&key(1)).unwrap(), Some(vec![1, 2, 3]));
    assert!(store.has_boot_log(&key(MAX_BOOT_LOGS)).unwrap());
}
