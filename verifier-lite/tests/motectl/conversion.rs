//! `motectl manifest build` from other people's formats, and `export` to them.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use crate::common::TempDir;

fn motectl(dir: &TempDir, arguments: &str) -> Output {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let arguments = arguments.replace("DATA", data.to_str().unwrap());
    Command::new(env!("CARGO_BIN_EXE_motectl"))
        .current_dir(dir.path())
        .env_remove("SOURCE_DATE_EPOCH")
        .args(arguments.split(' '))
        .output()
        .unwrap()
}

/// Standard output and error of a command that succeeds.
fn good(dir: &TempDir, arguments: &str) -> (String, String) {
    let output = motectl(dir, arguments);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{arguments}: {stderr}");
    (String::from_utf8(output.stdout).unwrap(), stderr)
}

#[test]
fn each_format_becomes_a_signed_manifest_and_says_what_it_left_out() {
    let dir = TempDir::new("convert");
    good(&dir, "key new --out image.key");
    for (source, name, left_out) in [
        ("--keylime DATA/keylime-policy.json", "m 0", "not SHA-256"),
        (
            "--sbom DATA/image.spdx.json",
            "edge-image 0",
            "without a SHA-256",
        ),
        (
            "--sbom DATA/image.cdx.json",
            "edge 1.4",
            "without a SHA-256",
        ),
    ] {
        let (_, stderr) = good(
            &dir,
            &format!("manifest build {source} --sign image.key -o m.mote"),
        );
        assert!(stderr.contains(left_out), "{source}: {stderr}");
        let (stdout, _) = good(&dir, "manifest verify m.mote --key image.key.pub");
        assert!(stdout.contains(name), "{source}: {stdout}");
        let (files, _) = good(&dir, "manifest show m.mote --files");
        assert!(
            files.contains(&format!("{}  /usr/bin/pump", "a".repeat(64))),
            "{files}"
        );
        fs::remove_file(dir.file("m.mote")).unwrap();
    }
    let both = "manifest build --keylime a --sbom b --sign image.key -o m.mote";
    assert_eq!(motectl(&dir, both).status.code(), Some(2));
}

#[test]
fn a_manifest_survives_the_way_through_corim_and_keylime() {
    let dir = TempDir::new("convert");
    good(&dir, "key new --out image.key");
    let sums = format!(
        "{}  /usr/bin/pump\n{}  /usr/bin/log\n",
        "ab".repeat(32),
        "cd".repeat(32)
    );
    fs::write(dir.file("sums"), &sums).unwrap();
    let pcr = format!("--pcr sha256:7={}", "ef".repeat(32));
    good(
        &dir,
        &format!("manifest build --sha256sums sums {pcr} --name edge --sign image.key -o a.mote"),
    );
    let (before, _) = good(&dir, "manifest show a.mote --files");
    for (format, source, has_pcr) in [("corim", "--corim", true), ("keylime", "--keylime", false)] {
        let export = format!("manifest export a.mote --key image.key.pub --format {format} -o out");
        let (_, stderr) = good(&dir, &export);
        assert_eq!(stderr.contains("boot PCRs"), !has_pcr, "{stderr}");
        good(
            &dir,
            &format!("manifest build {source} out --name edge --sign image.key -o b.mote"),
        );
        let (after, _) = good(&dir, "manifest show b.mote --files");
        assert_eq!(after, before, "{format}");
        if has_pcr {
            // Deterministic: the same manifest to the byte.
            let read = |name| fs::read(dir.file(name)).unwrap();
            assert_eq!(read("a.mote"), read("b.mote"));
        }
        fs::remove_file(dir.file("b.mote")).unwrap();
    }
}

#[test]
fn a_file_that_is_refused_is_named_with_its_place_and_nothing_is_written() {
    let dir = TempDir::new("convert");
    good(&dir, "key new --out image.key");
    fs::write(dir.file("bad"), "{\"digests\": {\"/a\": [7]}}").unwrap();
    let output = motectl(
        &dir,
        "manifest build --keylime bad --sign image.key -o m.mote",
    );
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(
        stderr.contains("bad: $.digests[\"/a\"][0]: is not a string"),
        "{stderr}"
    );
    assert!(!dir.file("m.mote").exists());
}

#[test]
fn signatures_of_secure_boot_go_from_a_recorded_log_into_a_manifest() {
    let dir = TempDir::new("convert");
    good(&dir, "key new --out image.key");
    fs::write(dir.file("sums"), format!("{}  /init\n", "ab".repeat(32))).unwrap();
    let log = "DATA/../../../tests/data/ovmf-amd64/secureboot-uki/binary_bios_measurements";
    let (text, _) = good(&dir, &format!("bootlog show {log}"));
    // What a person reads there is what the options take.
    let held: Vec<&str> = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("holds "))
        .collect();
    let dbx = held.last().unwrap();
    let build = format!(
        "manifest build --sha256sums sums --secure-boot-allow db={} --secure-boot-allow PK= \
         --secure-boot-require dbx={dbx} --sign image.key -o m.mote",
        held[0]
    );
    good(&dir, &build);
    let (shown, _) = good(&dir, "manifest show m.mote");
    for line in [
        format!("db may hold  {}", held[0]),
        "PK  holds nothing".to_owned(),
        format!("dbx holds  {dbx}"),
    ] {
        let words: Vec<&str> = line.split_whitespace().collect();
        let is_there = shown
            .lines()
            .any(|shown| shown.split_whitespace().eq(words.iter().copied()));
        assert!(is_there, "{line}\n{shown}");
    }
    fs::remove_file(dir.file("m.mote")).unwrap();
    for wrong in ["--secure-boot-require dbx=", "--secure-boot-allow MOK=00"] {
        let output = motectl(
            &dir,
            &format!("manifest build --sha256sums sums {wrong} --sign image.key -o m.mote"),
        );
        assert!(!output.status.success());
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(stderr.contains("not NAME=HEX"), "{stderr}");
        assert!(!dir.file("m.mote").exists());
    }
}

#[test]
fn measured_buffers_go_into_a_manifest_and_out_to_keylime_and_back() {
    let dir = TempDir::new("convert");
    good(&dir, "key new --out image.key");
    fs::write(dir.file("sums"), format!("{}  /init\n", "ab".repeat(32))).unwrap();
    fs::write(dir.file("key.der"), "not yet a key").unwrap();
    fs::write(dir.file("key.pem"), "-----BEGIN CERTIFICATE-----\n").unwrap();
    let digest = "cd".repeat(32);
    good(
        &dir,
        &format!(
            "manifest build --sha256sums sums --buffer .ima=key.der --buffer kexec-cmdline=sha256:{digest} \
             --unjudged-keyring .evm --verity root=AB12 --name edge --sign image.key -o a.mote"
        ),
    );
    let (shown, _) = good(&dir, "manifest show a.mote");
    for line in [
        "buffer     .ima",
        &digest,
        "unjudged   .evm",
        "name=root",
        "root_digest=ab12",
    ] {
        assert!(shown.contains(line), "{line}\n{shown}");
    }
    let export = "manifest export a.mote --key image.key.pub --format keylime -o policy.json";
    let (_, left_out) = good(&dir, export);
    assert!(left_out.contains("1 device-mapper tables"), "{left_out}");
    good(
        &dir,
        "manifest build --keylime policy.json --verity root=ab12 --name edge --sign image.key -o b.mote",
    );
    let read = |name| fs::read(dir.file(name)).unwrap();
    assert_eq!(read("a.mote"), read("b.mote"));
    for (wrong, why) in [
        ("--buffer .ima", "not NAME=FILE"),
        ("--buffer .ima=sha256:12", "not NAME=FILE"),
        ("--buffer /x=key.der", "not begin with /"),
        ("--buffer .ima=nowhere", "nowhere: No such file"),
        ("--buffer .ima=key.pem", "key.pem: PEM"),
        ("--verity root=xyz", "not DEVICE=HEX"),
    ] {
        let build = format!("manifest build --sha256sums sums {wrong} --sign image.key -o c.mote");
        let output = motectl(&dir, &build);
        assert!(!output.status.success(), "{wrong}");
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(stderr.contains(why), "{wrong}: {stderr}");
        assert!(!dir.file("c.mote").exists());
    }
}
