//! The IMA list in a file: the recorded list of a real kernel, as it grows, stops short, and is
//! replaced.
#![allow(clippy::unwrap_used)]

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use mote_agent::measurement_log::{Chunk, FileLog, LogError, MeasurementLog};
use mote_schemas::ima::{ListFault, ListFormat, ListParser, Step};
use mote_swtpm::TempDir;
use proptest::prelude::*;

fn recorded() -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/data/debian12-amd64-6.1/binary_runtime_measurements");
    fs::read(path).unwrap()
}

/// Cuts a whole list; the parser has tests of its own.
fn records(list: &[u8]) -> Vec<&[u8]> {
    let mut parser = ListParser::new(ListFormat::LITTLE_SHA1);
    let (mut rest, mut out) = (list, Vec::new());
    while let Ok(Step::Record(_, len)) = parser.next(rest) {
        let (record, after) = rest.split_at(len);
        out.push(record);
        rest = after;
    }
    out
}

fn append(path: &Path, bytes: &[u8]) {
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .unwrap();
    file.write_all(bytes).unwrap();
}

fn log(path: &Path) -> FileLog {
    FileLog::new(path, ListFormat::LITTLE_SHA1)
}

/// A record of template `ima-buf` with `size` bytes of data.
fn record(size: u32) -> Vec<u8> {
    let mut out = 10u32.to_le_bytes().to_vec();
    out.extend([0xAB; 20]);
    out.extend(7u32.to_le_bytes());
    out.extend(b"ima-buf");
    out.extend(size.to_le_bytes());
    out.resize(out.len() + size as usize, 0xCD);
    out
}

#[test]
fn a_whole_list_comes_out_as_it_went_in_whatever_the_buffer() {
    let list = recorded();
    let count = records(&list).len() as u64;
    assert_eq!(count, 2390);
    let dir = TempDir::new("log").unwrap();
    let mut log = log(&dir.write("list", &list).unwrap());
    for size in [1024, 3072, 10_000, 1_000_000] {
        let (mut from, mut out, mut buffer) = (0, Vec::new(), vec![0; size]);
        loop {
            let chunk = log.read(from, &mut buffer).unwrap();
            out.extend_from_slice(&buffer[..chunk.bytes]);
            from += u64::from(chunk.records);
            assert_eq!(chunk.more, from < count);
            if !chunk.more {
                break;
            }
        }
        assert_eq!(from, count);
        assert!(out == list, "with a buffer of {size} bytes");
    }
    assert_eq!(log.count().unwrap(), count);
    let end = log.read(count, &mut [0; 64]).unwrap();
    assert_eq!(end, Chunk::default());
    assert_eq!(log.read(u64::MAX, &mut [0; 64]).unwrap(), Chunk::default());
}

/// What the kernel, or the reader, does next.
#[derive(Clone, Debug)]
enum Act {
    Grow(usize),
    Read(u64, usize),
    Again(usize),
    Count,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        (1usize..20_000).prop_map(Act::Grow),
        (0u64..2400, 0usize..20_000).prop_map(|(from, size)| Act::Read(from, size)),
        (0usize..4_000).prop_map(Act::Again),
        Just(Act::Count),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Against the plainest model: all complete records so far.
    #[test]
    fn any_reading_of_a_growing_list_gives_its_records(acts in prop::collection::vec(act(), 1..60)) {
        let list = recorded();
        let all = records(&list);
        let dir = TempDir::new("log").unwrap();
        let path = dir.write("list", b"").unwrap();
        let mut log = log(&path);
        let (mut written, mut complete, mut next) = (0, 0, 0);
        for act in acts {
            let (from, size) = match act {
                Act::Grow(bytes) => {
                    // Ends inside a record more often than not.
                    let end = (written + bytes).min(list.len());
                    append(&path, &list[written..end]);
                    written = end;
                    complete = records(&list[..end]).len();
                    continue;
                }
                Act::Count => {
                    prop_assert_eq!(log.count().unwrap(), complete as u64);
                    continue;
                }
                Act::Read(from, size) => (from, size),
                Act::Again(size) => (next, size),
            };
            let mut out = vec![0xEE; size];
            let present = &all[..complete];
            let wanted = present.get(from as usize..).unwrap_or_default();
            match log.read(from, &mut out) {
                Ok(chunk) => {
                    let got = &wanted[..chunk.records as usize];
                    prop_assert_eq!(&out[..chunk.bytes], got.concat());
                    prop_assert!(out[chunk.bytes..].iter().all(|byte| *byte == 0xEE));
                    // It stopped because the next record did not fit, or there is none.
                    let after = wanted.get(got.len());
                    prop_assert!(after.is_none_or(|r| r.len() > size - chunk.bytes));
                    prop_assert!(chunk.more || after.is_none());
                    next = from + got.len() as u64;
                }
                Err(LogError::RecordTooLarge { record, size: needed }) => {
                    prop_assert_eq!(record, from);
                    // Known from its header, so it may be still in writing.
                    prop_assert_eq!(needed, all[from as usize].len());
                    prop_assert!(needed > size);
                }
                Err(error) => panic!("{error:?}"),
            }
        }
    }
}

#[test]
fn a_record_too_large_for_the_buffer_is_named_and_can_be_passed() {
    let dir = TempDir::new("log").unwrap();
    let (small, large) = (record(100), record(60_000));
    let path = dir
        .write("list", &[&small[..], &large, &small].concat())
        .unwrap();
    let mut log = log(&path);
    let mut out = vec![0; 4096];
    let chunk = log.read(0, &mut out).unwrap();
    assert_eq!((chunk.records, chunk.more), (1, true));
    let too_large = LogError::RecordTooLarge {
        record: 1,
        size: large.len(),
    };
    assert_eq!(log.read(1, &mut out).unwrap_err(), too_large);
    let chunk = log.read(2, &mut out).unwrap();
    assert_eq!(out[..chunk.bytes], small);
    let mut out = vec![0; 70_000];
    assert_eq!(
        log.read(1, &mut out).unwrap().bytes,
        large.len() + small.len()
    );
    assert_eq!(log.count().unwrap(), 3);
}

/// Something done to the file of a list, given the whole list.
type Change = fn(&PathBuf, &[u8]);

#[test]
fn a_list_that_is_not_the_same_any_more_is_noticed() {
    let list = recorded();
    let all = records(&list);
    let end_of = |count: usize| all[..count].concat().len();
    let changes: [(&str, Change); 4] = [
        ("cut short", |path, list| {
            fs::write(path, &list[..5000]).unwrap();
        }),
        ("emptied", |path, _| fs::write(path, b"").unwrap()),
        ("rewritten", |path, list| {
            fs::write(path, &list[150..]).unwrap();
        }),
        ("replaced", |path, list| {
            let new = path.with_extension("new");
            fs::write(&new, &list[..5000]).unwrap();
            fs::rename(new, path).unwrap();
        }),
    ];
    for (what, change) in changes {
        let dir = TempDir::new("log").unwrap();
        let path = dir.write("list", &list[..end_of(100)]).unwrap();
        let mut log = log(&path);
        let mut out = vec![0; 64 * 1024];
        assert_eq!(log.read(0, &mut out).unwrap().records, 100, "{what}");
        change(&path, &list);
        let restarted = LogError::Restarted { had: 100 };
        assert_eq!(log.read(100, &mut out).unwrap_err(), restarted, "{what}");
        // Said once; from then on it is the new list.
        if what != "rewritten" {
            let now = records(&fs::read(&path).unwrap()).len();
            assert_eq!(log.count().unwrap(), now as u64, "{what}");
            assert_eq!(log.read(0, &mut out).unwrap().records as usize, now);
        }
    }

    // Counted only, never read.
    let dir = TempDir::new("log").unwrap();
    let path = dir.write("list", &list).unwrap();
    let mut log = log(&path);
    assert_eq!(log.count().unwrap(), 2390);
    fs::write(&path, &list[..5000]).unwrap();
    let restarted = LogError::Restarted { had: 2390 };
    assert_eq!(log.count().unwrap_err(), restarted);
}

#[test]
fn a_longer_copy_of_the_same_list_in_its_place_is_the_same_list() {
    let list = recorded();
    let dir = TempDir::new("log").unwrap();
    let path = dir.write("list", &list[..50_000]).unwrap();
    let mut log = log(&path);
    let mut out = vec![0; 300_000];
    let had = u64::from(log.read(0, &mut out).unwrap().records);
    fs::rename(dir.write("new", &list).unwrap(), &path).unwrap();
    let chunk = log.read(had, &mut out).unwrap();
    assert_eq!(had + u64::from(chunk.records), 2390);
    assert!(out[..chunk.bytes] == list[list.len() - chunk.bytes..]);
}

#[test]
fn what_is_not_a_list_is_refused_with_its_place() {
    let dir = TempDir::new("log").unwrap();
    let list = recorded();
    let first = records(&list)[0];
    let mut out = [0; 4096];

    let mut damaged = [first, first].concat();
    damaged[first.len()..][..4].copy_from_slice(&[0xFF; 4]);
    let mut log_ = log(&dir.write("damaged", &damaged).unwrap());
    // The sound records before the damage are given out first.
    let chunk = log_.read(0, &mut out).unwrap();
    assert_eq!((chunk.records, chunk.more), (1, true));
    assert_eq!(&out[..chunk.bytes], first);
    let LogError::Malformed(error) = log_.read(1, &mut out).unwrap_err() else {
        panic!("not said to be malformed");
    };
    assert_eq!((error.record, error.offset), (1, first.len() as u64));
    assert_eq!(error.fault, ListFault::NoSuchPcr(u32::MAX));
    assert!(matches!(log_.count(), Err(LogError::Malformed(_))));

    // The text form of the list.
    let mut log_ = log(&dir
        .write("ascii", b"10 00000000000000000000000000000000000000000000")
        .unwrap());
    assert!(matches!(
        log_.read(0, &mut out),
        Err(LogError::Malformed(_))
    ));
}

#[test]
fn a_list_that_cannot_be_read_is_named_with_what_to_do() {
    let dir = TempDir::new("log").unwrap();
    let path = dir.join("none");
    let mut missing = log(&path);
    let error = missing.count().unwrap_err();
    assert_eq!(error, LogError::NotFound { path: path.clone() });
    assert!(error.to_string().contains("is securityfs mounted"));
    // It may come later.
    fs::write(&path, records(&recorded())[0]).unwrap();
    assert_eq!(missing.count().unwrap(), 1);

    let error = log(dir.path()).count().unwrap_err();
    assert!(matches!(error, LogError::Io { .. }), "{error:?}");
}

#[test]
fn the_kernels_own_count_is_used_where_there_is_one() {
    let dir = TempDir::new("log").unwrap();
    let list = recorded();
    let path = dir.write("binary_runtime_measurements", &list).unwrap();
    let count = dir.write("runtime_measurements_count", b"2390\n").unwrap();
    let mut log = log(&path);
    assert_eq!(log.count().unwrap(), 2390);
    // Not walked: the kernel says so.
    fs::write(&count, b"2391\n").unwrap();
    assert_eq!(log.count().unwrap(), 2391);
    fs::write(&count, b"7\n").unwrap();
    let restarted = LogError::Restarted { had: 2391 };
    assert_eq!(log.read(0, &mut [0; 4096]).unwrap_err(), restarted);
    assert_eq!(log.count().unwrap(), 7);
}
