//! A device may delete from its kernel's memory what the verifier has certified and stored for good,
//! and nothing is lost by that, whoever stops in between. The list is a file with the kernel's count of
//! records beside it, as in securityfs; what the kernel does when it is told to delete is played.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use mote_agent::measurement_log::FileLog;
use mote_schemas::ima::{ListFormat, ListParser, Step};
use mote_schemas::message::{Anchor, Tier};
use mote_schemas::tpm::HashAlg;
use mote_tests::TempDir;
use mote_tests::lab::Lab;
use mote_tests::soft_device::{digest_of, record};
use mote_tests::wire::Wire;
use mote_verifier::store::{Change, Durability};

use super::lab;

const FORMAT: ListFormat = ListFormat::LITTLE_SHA1;

/// A kernel's securityfs: the list and its count.
struct Kernel {
    dir: TempDir,
    /// Records of the device's list that have been put into the file.
    shown: usize,
}

impl Kernel {
    fn boot() -> Self {
        Self {
            dir: TempDir::new("deletion").unwrap(),
            shown: 0,
        }
    }

    fn list(&self) -> PathBuf {
        self.dir.join("binary_runtime_measurements")
    }

    /// Shows what the device has measured since.
    fn show(&mut self, wire: &Wire) {
        let mut list = fs::read(self.list()).unwrap_or_default();
        for record in &wire.device.list.0[self.shown..] {
            list.extend(&record.bytes);
        }
        self.shown = wire.device.list.0.len();
        write(&self.list(), &list);
    }

    /// Records that the list still has.
    fn left(&self) -> usize {
        parse(&fs::read(self.list()).unwrap()).len()
    }
}

/// Length of each record, and its digest.
fn parse(list: &[u8]) -> Vec<(usize, [u8; 8])> {
    let (mut parser, mut rest, mut records) = (ListParser::new(FORMAT), list, Vec::new());
    while let Ok(Step::Record(record, len)) = parser.next(rest) {
        let digest = Anchor::digest(&record.extend_digest(HashAlg::Sha256));
        records.push((len, digest));
        rest = &rest[len..];
    }
    assert!(rest.is_empty());
    records
}

fn write(path: &Path, list: &[u8]) {
    fs::write(path, list).unwrap();
    let count = path.with_file_name("runtime_measurements_count");
    fs::write(count, format!("{}\n", parse(list).len())).unwrap();
}

/// As the kernel does: `ima_queue_delete_partial`.
fn delete(path: &Path, _: ListFormat, count: u64, first: [u8; 8]) -> io::Result<()> {
    let list = fs::read(path)?;
    let records = parse(&list);
    let count = usize::try_from(count).unwrap();
    if records.first().map(|(_, digest)| *digest) != Some(first) {
        return Err(ErrorKind::InvalidData.into());
    }
    if count == 0 || count > records.len() {
        return Err(ErrorKind::NotFound.into());
    }
    let bytes: usize = records[..count].iter().map(|(len, _)| len).sum();
    write(path, &list[bytes..]);
    Ok(())
}

/// A device that deletes, with a verifier that admits it.
struct Pair {
    lab: Lab,
    wire: Wire,
    kernel: Kernel,
}

impl Pair {
    fn new(seed: u8) -> Self {
        let wire = Wire::new(seed);
        let mut pair = Self {
            lab: lab(&[&wire]),
            wire,
            kernel: Kernel::boot(),
        };
        pair.agent_restarts();
        pair
    }

    fn agent_restarts(&mut self) {
        self.wire.restart();
        let log = FileLog::new(self.kernel.list(), FORMAT).deleting(delete);
        self.wire.log = Some(Box::new(log));
    }

    /// So many of the 100 files that the verifier knows, from `from` on.
    fn run(&mut self, from: usize, count: usize) {
        for number in from..from + count {
            self.wire.device.run(&format!("/bin/{}", number % 100));
        }
    }

    /// Appraised, and all records of the boot are certified.
    fn is_trusted(&mut self) {
        self.kernel.show(&self.wire);
        self.wire.until_appraised(&mut self.lab).unwrap();
        let all = self.wire.device.list.0.len() as u64;
        assert_eq!((self.wire.tier, self.wire.records), (Tier::Affirming, all));
    }

    fn refusal(&mut self) -> String {
        self.kernel.show(&self.wire);
        self.wire
            .until_appraised(&mut self.lab)
            .unwrap_err()
            .to_string()
    }
}

#[test]
fn what_is_certified_is_deleted_and_the_log_goes_on() {
    let mut pair = Pair::new(1);
    pair.run(0, 99);
    pair.is_trusted();
    // The last one stays, to show where the list begins.
    assert_eq!(pair.kernel.left(), 1);
    pair.run(99, 1);
    pair.is_trusted();
    assert_eq!(pair.kernel.left(), 2, "one more is not worth the trouble");
    pair.wire
        .device
        .measure(record("/opt/intruder", &digest_of("intruder")));
    pair.kernel.show(&pair.wire);
    pair.wire.until_appraised(&mut pair.lab).unwrap();
    let all = pair.wire.device.list.0.len() as u64;
    assert_eq!(
        (pair.wire.tier, pair.wire.records),
        (Tier::Contraindicated, all)
    );
    let stored = pair.lab.stored();
    let found: Vec<_> = stored.deviations.values().flatten().collect();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].record, Some(all - 1), "by its number in the boot");
}

#[test]
fn an_agent_that_restarts_learns_from_the_verifier_where_its_list_begins() {
    let mut pair = Pair::new(2);
    pair.run(0, 99);
    pair.is_trusted();
    assert_eq!(pair.kernel.left(), 1);
    // Nothing new, something new, and again something to delete.
    for (from, count, left) in [(0, 0, 1), (99, 1, 2)] {
        pair.run(from, count);
        pair.agent_restarts();
        pair.is_trusted();
        assert_eq!(pair.kernel.left(), left);
    }
    for number in 0..90_u8 {
        let path = format!("/opt/{number}");
        pair.wire.device.measure(record(&path, &digest_of("other")));
    }
    pair.agent_restarts();
    pair.kernel.show(&pair.wire);
    pair.wire.until_appraised(&mut pair.lab).unwrap();
    let all = pair.wire.device.list.0.len() as u64;
    assert_eq!(
        (pair.wire.tier, pair.wire.records),
        (Tier::Contraindicated, all)
    );
    assert_eq!(pair.kernel.left(), 1);
}

#[test]
fn a_verifier_that_is_killed_at_any_time_has_what_was_deleted() {
    let mut pair = Pair::new(3);
    pair.is_trusted();
    let mut deleted = false;
    for step in 0..4 {
        pair.run(step * 25, 25);
        pair.is_trusted();
        // A batched commit that nothing followed is gone.
        pair.lab.crash();
        let stored = pair.lab.stored();
        let stored = stored.logs.values().next().unwrap().len();
        let gone = pair.wire.device.list.0.len() - pair.kernel.left();
        assert!(gone <= stored, "{gone} deleted, {stored} stored");
        deleted |= gone > 0;
        pair.agent_restarts();
        pair.is_trusted();
    }
    assert!(deleted);
}

#[test]
fn an_agent_that_did_not_restart_goes_on_with_a_verifier_that_was_killed() {
    let mut pair = Pair::new(7);
    pair.is_trusted();
    for step in 0..8 {
        pair.run(step * 13, 13);
        pair.is_trusted();
        if step == 5 {
            let all = pair.wire.device.list.0.len();
            assert!(pair.kernel.left() < all, "nothing has been deleted");
        }
        pair.lab.crash();
        pair.is_trusted();
    }
}

#[test]
fn a_reboot_starts_the_numbers_over() {
    let mut pair = Pair::new(4);
    pair.run(0, 99);
    pair.is_trusted();
    pair.wire.device.reboot();
    pair.kernel = Kernel::boot();
    pair.agent_restarts();
    pair.run(0, 80);
    pair.is_trusted();
    assert_eq!(pair.kernel.left(), 1);
}

#[test]
fn a_verifier_without_what_was_deleted_refuses_and_changes_nothing() {
    for is_removed in [true, false] {
        let mut pair = Pair::new(5);
        pair.run(0, 99);
        pair.is_trusted();
        if is_removed {
            let id = *pair.lab.stored().devices.keys().next().unwrap();
            let remove = [Change::RemoveDevice(id)];
            let store = pair.lab.engine().store();
            store.commit(&remove, Durability::Immediate).unwrap();
            pair.lab.engine().device_changed(&id);
            pair.agent_restarts();
        } else {
            // Something else on the device deletes, too.
            pair.run(99, 1);
            pair.kernel.show(&pair.wire);
            let list = fs::read(pair.kernel.list()).unwrap();
            write(&pair.kernel.list(), &list[parse(&list)[0].0..]);
            pair.agent_restarts();
        }
        let before = pair.lab.stored();
        let refusal = pair.refusal();
        assert!(refusal.contains("log-deleted"), "{refusal}");
        let after = pair.lab.stored();
        assert_eq!(after.devices, before.devices);
        assert_eq!(after.logs, before.logs);
        assert_eq!(after.verdicts, before.verdicts);

        pair.wire.device.reboot();
        pair.kernel = Kernel::boot();
        pair.agent_restarts();
        pair.is_trusted();
    }
}

#[test]
fn nothing_is_deleted_and_no_byte_spent_where_nobody_asked_for_it() {
    let mut with = Pair::new(6);
    with.run(0, 99);
    with.kernel.show(&with.wire);
    let with_cost = with.wire.until_appraised(&mut with.lab).unwrap();

    let mut wire = Wire::new(6);
    let mut lab = lab(&[&wire]);
    let mut kernel = Kernel::boot();
    for number in 0..99 {
        wire.device.run(&format!("/bin/{number}"));
    }
    kernel.show(&wire);
    wire.log = Some(Box::new(FileLog::new(kernel.list(), FORMAT)));
    let cost = wire.until_appraised(&mut lab).unwrap();
    assert_eq!(wire.records, 100);
    assert_eq!(kernel.left(), 100);
    // An empty anchor; its number, and that of the first record to be kept.
    assert_eq!(with_cost.up - cost.up, 2);
    assert_eq!(with_cost.down - cost.down, 2 + 3);
}
