//! A verifier that is killed at any moment has every immediate commit it acknowledged, and none half.
#![allow(clippy::unwrap_used)]

mod common;

use std::hash::{BuildHasher, RandomState};
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use common::TempDir;
use mote_verifier::store::{
    Change, DeviceId, DeviceRecord, Durability, RedbStore, Store, Tier, VerdictRecord,
};

const DIRECTORY: &str = "MOTE_TEST_STORE";
const DEVICE: DeviceId = DeviceId([7; 16]);
const KILLS: u64 = 20;

/// The n-th commit: a device and a verdict that only fit together.
fn changes(n: u64) -> [Change; 2] {
    let device = DeviceRecord {
        last_seen: Some(n),
        ..DeviceRecord::new(vec![n as u8; 90], vec![n as u8; 90], 0)
    };
    let verdict = VerdictRecord {
        at: n,
        boot: 0,
        tier: Tier::Affirming,
        reasons: vec![],
    };
    [
        Change::PutDevice(DEVICE, device),
        Change::AddVerdict(DEVICE, verdict),
    ]
}

/// Not a test of its own: what the killed process runs.
#[test]
fn writer() {
    let Ok(directory) = std::env::var(DIRECTORY) else {
        return;
    };
    let mut store = RedbStore::open_or_create(directory.as_ref()).unwrap();
    let stored = store.verdicts(&DEVICE, 1).unwrap();
    let mut n = stored.first().map_or(0, |(n, _)| *n);
    loop {
        n += 1;
        // Every third is batched: it may be lost, but only whole, and only until the next.
        if n.is_multiple_of(3) {
            store.commit(&changes(n), Durability::Batched).unwrap();
        } else {
            store.commit(&changes(n), Durability::Immediate).unwrap();
            println!("\nack {n}");
            std::io::stdout().flush().unwrap();
        }
    }
}

#[test]
fn a_kill_at_any_moment_loses_no_acknowledged_commit() {
    let dir = TempDir::new("crash");
    let mut total = 0;
    for round in 0..KILLS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "writer", "--nocapture", "--test-threads=1"])
            .env(DIRECTORY, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap())
            .lines()
            .map_while(Result::ok);
        let acknowledged = |line: String| line.strip_prefix("ack ")?.parse::<u64>().ok();
        // Once it has begun, let it run for 0 to 50 ms.
        let first = lines.by_ref().find_map(acknowledged);
        assert!(first.is_some(), "round {round}: the writer ended by itself");
        std::thread::sleep(Duration::from_micros(
            RandomState::new().hash_one(round) % 50_000,
        ));
        child.kill().unwrap();
        child.wait().unwrap();
        let last = lines.filter_map(acknowledged).last().or(first).unwrap();

        let store = RedbStore::open(dir.path()).unwrap();
        let verdicts = store.verdicts(&DEVICE, usize::MAX).unwrap();
        let stored = verdicts.len() as u64;
        assert!(
            stored >= last,
            "round {round}: acknowledged {last}, stored {stored}"
        );
        for (verdict, n) in verdicts.iter().rev().zip(1..) {
            assert_eq!((verdict.0, verdict.1.at), (n, n), "round {round}: a hole");
        }
        let device = store.device(&DEVICE).unwrap().unwrap();
        assert_eq!(
            device.last_seen,
            Some(stored),
            "round {round}: half a commit"
        );
        total = stored;
    }
    assert!(total >= 2 * KILLS, "only {total} commits in {KILLS} rounds");
}
