//! Records under the name of a template that they are not of. The name is in no PCR, so the log
//! replays, whatever it says.

use mote_schemas::message::Tier;
use mote_tests::evil::Answer;
use mote_tests::simkernel::ima::Record;
use mote_tests::soft_device::digest_of;
use mote_tests::{Evil, Lab};

use super::with_trusted;

const IMPLANT: &[u8] = b"implant";

fn d_ng(content: &str) -> Vec<u8> {
    [b"sha256:\0", &digest_of(content)[..]].concat()
}

/// What a kernel with `ima_template=evm-sig` measures when `path` runs with the contents "implant".
/// Whoever wrote the file chose its attributes.
fn evm_sig(path: &str, attributes: &[u8]) -> Record {
    let name = [path.as_bytes(), b"\0"].concat();
    let length = (attributes.len() as u32).to_le_bytes();
    let fields: [&[u8]; 9] = [
        &d_ng("implant"),
        &name,
        b"\x05",
        b"security.selinux\0",
        &length,
        attributes,
        &[0; 4],
        &[0; 4],
        &[0xed, 0x81],
    ];
    Record::of_fields("evm-sig", path, &fields)
}

/// The device runs what `truth` says, and its list calls it `label`.
fn relabelled(truth: &Record, label: &str) -> (Lab, Evil, Answer) {
    let (mut lab, mut evil) = with_trusted();
    evil.device.measure(truth.clone());
    let mut records = evil.device.list.0.clone();
    *records.last_mut().unwrap() = truth.labelled(label);
    let payload = evil.beat_payload(&evil.quote(), 0, &records);
    let answer = evil.ask(&mut lab, "b", &payload);
    (lab, evil, answer)
}

/// Untrusted for `reason`, and durably so; the record itself is kept, and went through the replay.
#[track_caller]
fn assert_caught(truth: &Record, label: &str, reason: &str, path: Option<&[u8]>) {
    let (mut lab, evil, answer) = relabelled(truth, label);
    assert_eq!(answer.reason(), reason, "{label}: {answer:?}");
    assert_eq!(answer.tier(), Tier::Contraindicated, "{label}");
    assert_eq!(answer.next_record(), 4, "{label}: certified with the rest");
    lab.crash();
    let stored = lab.stored();
    let id = evil.id();
    assert_eq!(stored.logs[&id].len(), 4);
    assert_eq!(stored.devices[&id].boot.as_ref().unwrap().certified, 4);
    assert_eq!(stored.verdicts[&id][0].1.reasons, [reason]);
    let found = stored.deviations[&id].last().unwrap();
    assert_eq!((found.reason.as_str(), found.record), (reason, Some(3)));
    assert_eq!(found.path.as_deref(), path, "{label}");
}

#[test]
fn attributes_that_look_like_a_digest_are_none() {
    // In `security.selinux` stands what `/bin/5` should have been.
    let truth = evm_sig("/bin/5", &d_ng("/bin/5"));
    assert_caught(&truth, "evm-sig", "file-modified", Some(b"/bin/5"));
    for label in [
        "sig|n-ng|evmsig|evmsig|evmsig|d-ng|iuid|igid|imode",
        "novel|n-ng|evmsig|xattrnames|xattrlengths|d-ng|iuid|igid|imode",
        "xattrvalues|n|sig|sig|sig|d-ng|sig|sig|sig",
    ] {
        assert_caught(&truth, label, "template-order", None);
    }
    // The first field stays the digest, however many more the label claims.
    let label = "d-ng|n-ng|evmsig|xattrnames|xattrlengths|d-ng|iuid|igid|imode";
    assert_caught(&truth, label, "file-modified", Some(b"/bin/5"));
}

#[test]
fn attributes_that_look_like_a_path_are_none() {
    let truth = evm_sig("/tmp/x", b"/bin/5\0");
    let label = "d-ng|sig|evmsig|xattrnames|xattrlengths|n-ng|iuid|igid|imode";
    assert_caught(&truth, label, "template-order", None);
}

#[test]
fn attributes_that_look_like_a_buffer_are_none() {
    // Run from a detached mount, where the kernel knows no more than the last part of a path.
    let truth = evm_sig("kexec-cmdline", IMPLANT);
    for label in [
        "evm-sig",
        "d-ng|n-ng|sig|sig|sig|buf|iuid|igid|imode",
        "d-ng|n-ng|novel|novel|novel|buf|novel|novel|novel",
    ] {
        assert_caught(&truth, label, "file-unknown", Some(b"kexec-cmdline"));
    }
    assert_caught(&truth, "ima-buf", "template-malformed", None);
}

#[test]
fn a_signature_that_is_the_whole_file_does_not_make_it_a_buffer() {
    // `sh` runs a script that begins with this byte, and says no more than "not found" of its first line.
    let script = "\x03\x02\x04\nimplant";
    let name = "kexec-cmdline";
    let truth = Record::of_fields(
        "ima-sig",
        name,
        &[&d_ng(script), b"kexec-cmdline\0", script.as_bytes()],
    );
    for label in ["ima-sig", "ima-buf", "d-ng|n-ng|buf"] {
        assert_caught(&truth, label, "file-unknown", Some(name.as_bytes()));
    }
}

#[test]
fn one_device_does_not_name_the_records_of_others() {
    // Both run the same file that no manifest lists; the first says that it is of some other template.
    let mut lab = Lab::new();
    let mut liar = Evil::trusted(&mut lab, 1);
    let mut honest = Evil::trusted(&mut lab, 2);
    let file = mote_tests::soft_device::record("/opt/added", &digest_of("/opt/added"));
    liar.device.measure(file.clone());
    let mut records = liar.device.list.0.clone();
    *records.last_mut().unwrap() = file.labelled("novel");
    let payload = liar.beat_payload(&liar.quote(), 0, &records);
    assert_eq!(
        liar.ask(&mut lab, "b", &payload).reason(),
        "template-unknown"
    );

    honest.device.measure(file.clone());
    let hash = &file.bytes[4..12];
    let answer = honest.beat_known(&mut lab, 3, hash);
    assert_eq!(answer.reason(), "log-incomplete", "{answer:?}");
    assert_eq!(answer.next_record(), 3, "asked for in full");
    let answer = honest.log(&mut lab, 3, &[file]);
    assert_eq!(answer.reason(), "file-unknown", "{answer:?}");
}
