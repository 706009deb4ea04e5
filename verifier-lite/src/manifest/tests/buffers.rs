//! Expectations on measured buffers.

use super::*;

/// Every expectation on buffers there is.
pub(super) fn with_buffers() -> Manifest {
    let table = DeviceTable {
        may_become: Some(("root?".into(), "*".into())),
        ..DeviceTable::verity("root", "ab12")
    };
    let known = |name: &str, n| FileEntry {
        path: name.into(),
        digests: vec![FileDigest([n; 32])],
    };
    full()
        .with_buffers(BufferExpectations {
            known: vec![
                known("kexec-cmdline", 2),
                known(".ima", 3),
                known(".ima", 1),
            ],
            unjudged_keyrings: vec![".evm".into(), ".blacklist".into(), ".evm".into()],
            tables: vec![table, DeviceTable::verity("data", "cd")],
        })
        .unwrap()
}

#[test]
fn expectations_on_buffers_are_written_in_one_way_and_read_again() {
    let made = with_buffers();
    assert_one_spelling(&made);
    assert_eq!(made.buffers().unjudged_keyrings, [".blacklist", ".evm"]);
    assert_eq!(
        made.buffers().digests_of(b".ima"),
        [FileDigest([1; 32]), FileDigest([3; 32])]
    );
    assert_eq!(made.buffers().digests_of(b".im"), []);
    // A manifest without any is what it was before there were some.
    assert_eq!(
        full().with_buffers(BufferExpectations::default()).unwrap(),
        full()
    );
}

#[test]
fn expectations_that_no_buffer_could_meet_are_refused() {
    let known = |name: &str, digests: Vec<FileDigest>| BufferExpectations {
        known: vec![FileEntry {
            path: name.into(),
            digests,
        }],
        ..BufferExpectations::default()
    };
    let table = |table| BufferExpectations {
        tables: vec![table],
        ..BufferExpectations::default()
    };
    let digest = vec![FileDigest([1; 32])];
    for (buffers, why) in [
        (known("/bin/sh", digest.clone()), "not begin with /"),
        (known("", digest.clone()), "1 to 4096"),
        (known("a\0", digest), "NUL"),
        (known(".ima", vec![]), "no digest"),
        (
            BufferExpectations {
                unjudged_keyrings: vec!["/x".into()],
                ..BufferExpectations::default()
            },
            "not begin with /",
        ),
        (table(DeviceTable::default()), "1 to 4096 targets"),
        (
            table(DeviceTable {
                device: Attributes::default(),
                ..DeviceTable::verity("a", "b")
            }),
            "a name or a UUID",
        ),
        (table(DeviceTable::verity("a\n", "b")), "control"),
    ] {
        let error = full().with_buffers(buffers).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
}
