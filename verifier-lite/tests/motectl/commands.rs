//! What `motectl` prints, and what it leaves behind.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Output};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::common::TempDir;
use mote_verifier::admin::{self, Response, socket};
use mote_verifier::store::{
    Admission, BootState, Change, Content, Deviation, DeviceId, DeviceRecord, Durability, Expected,
    RedbStore, Store, Tier, VerdictRecord,
};

fn motectl(dir: &TempDir) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_motectl"));
    command
        .current_dir(dir.path())
        .env_remove("SOURCE_DATE_EPOCH")
        .env_remove("SUDO_USER")
        .env("USER", "ann")
        .env("MOTE_STATE", "state");
    command
}

fn run(dir: &TempDir, arguments: &str) -> Output {
    motectl(dir).args(arguments.split(' ')).output().unwrap()
}

/// Standard output of a command that succeeds, and says nothing else.
fn good(dir: &TempDir, arguments: &str) -> String {
    let output = run(dir, arguments);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(
        output.status.success() && stderr.is_empty(),
        "{arguments}: {stderr}"
    );
    let stdout = String::from_utf8(output.stdout).unwrap();
    for line in stdout.lines() {
        assert!(
            line.chars().count() <= 80 || arguments.contains("--json"),
            "too wide: {line}"
        );
    }
    stdout
}

/// Standard error of a command that fails, and prints nothing else.
fn bad(dir: &TempDir, arguments: &str) -> String {
    let output = run(dir, arguments);
    assert_eq!(output.status.code(), Some(1), "{arguments}");
    assert!(output.stdout.is_empty(), "{arguments}");
    String::from_utf8(output.stderr).unwrap()
}

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap()
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// A small root file system.
fn rootfs(dir: &TempDir) {
    for (name, contents) in [
        ("usr/bin/true", "true"),
        (
            "usr/lib/os-release",
            "NAME=\"Edge\"\nID=edge\nVERSION_ID=\"1.3\"\n",
        ),
        ("etc/hosts", ""),
        ("var/log/boot", "changes"),
    ] {
        let path = dir.path().join("rootfs").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, contents).unwrap();
    }
    symlink(
        "../usr/lib/os-release",
        dir.path().join("rootfs/etc/os-release"),
    )
    .unwrap();
}

#[test]
fn every_command_has_help_with_its_meaning() {
    let dir = TempDir::new("motectl");
    for (command, says) in [
        ("--help", "motectl explain gate-7"),
        ("manifest build --help", "SOURCE_DATE_EPOCH"),
        ("key new --help", "never replaced"),
        ("device admit --help", "Compare the id"),
        ("explain --help", "Say in plain words"),
    ] {
        let help = String::from_utf8(run(&dir, command).stdout).unwrap();
        assert!(help.contains(says), "{command}: {help}");
    }
    assert_eq!(run(&dir, "device dance").status.code(), Some(2));
}

#[test]
fn key_new_makes_both_halves_and_replaces_neither() {
    let dir = TempDir::new("motectl");
    let shown = good(&dir, "key new --out k");
    assert!(shown.starts_with("private key  k (keep it secret)\npublic key   k.pub\nkey id"));
    let mode = fs::metadata(dir.file("k")).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    let before = (
        fs::read(dir.file("k")).unwrap(),
        fs::read(dir.file("k.pub")).unwrap(),
    );
    assert!(bad(&dir, "key new --out k").contains("k.pub: File exists"));
    fs::rename(dir.file("k.pub"), dir.file("kept")).unwrap();
    assert!(bad(&dir, "key new --out k").contains("k: exists already"));
    assert_eq!(names(dir.path()), ["k", "kept"]);
    assert_eq!(
        (
            fs::read(dir.file("k")).unwrap(),
            fs::read(dir.file("kept")).unwrap()
        ),
        before
    );

    let id = json(&good(&dir, "key show kept --json"))["key_id"].clone();
    assert!(
        shown.ends_with(&format!("{}\n", id.as_str().unwrap())),
        "{shown}"
    );
}

#[test]
fn a_manifest_is_built_shown_and_verified() {
    let dir = TempDir::new("motectl");
    rootfs(&dir);
    good(&dir, "key new --out k");
    let build = "manifest build --rootfs rootfs --sign k --exclude /var/log/**";
    let said = good(&dir, &format!("{build} -o m.mote"));
    assert!(said.starts_with("m.mote: edge 1.3, 3 files, "), "{said}");

    let files = good(&dir, "manifest show m.mote --files --json");
    let paths: Vec<_> = json(&files)
        .as_array()
        .unwrap()
        .iter()
        .map(|f| f["path"].clone())
        .collect();
    assert_eq!(
        paths,
        ["/etc/hosts", "/usr/bin/true", "/usr/lib/os-release"]
    );

    let shown = good(&dir, "manifest show m.mote");
    assert!(
        shown.contains("signature  NOT CHECKED (give --key)\n"),
        "{shown}"
    );
    assert!(shown.contains("excluded   /var/log/**\n"), "{shown}");
    let shown = good(&dir, "manifest show m.mote --key k.pub");
    assert!(shown.contains("signature  good\n"), "{shown}");
    assert_eq!(
        good(&dir, "manifest verify m.mote --key k.pub"),
        "m.mote: good, edge 1.3\n"
    );

    good(&dir, "key new --out other");
    let refused = bad(&dir, "manifest verify m.mote --key other.pub");
    assert!(refused.contains("m.mote: signed by key"), "{refused}");
    good(&dir, "manifest verify m.mote --key other.pub --key k.pub");

    let mut bytes = fs::read(dir.file("m.mote")).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(dir.file("changed.mote"), &bytes).unwrap();
    let refused = bad(&dir, "manifest verify changed.mote --key k.pub");
    assert!(
        refused.contains("changed.mote: the signature does not fit"),
        "{refused}"
    );
    fs::write(dir.file("short.mote"), &bytes[..last]).unwrap();
    let refused = bad(&dir, "manifest show short.mote");
    assert!(refused.contains("short.mote: at byte "), "{refused}");
    assert!(refused.contains("truncated"), "{refused}");
}

#[test]
fn a_manifest_is_the_same_from_files_and_from_their_sums() {
    let dir = TempDir::new("motectl");
    rootfs(&dir);
    good(&dir, "key new --out k");
    let build = |source: &str, to: &str| {
        let labels = "--name edge --version 1.3";
        good(
            &dir,
            &format!("manifest build {source} --sign k {labels} -o {to}"),
        );
        fs::read(dir.file(to)).unwrap()
    };
    let hashed = build("--rootfs rootfs", "a");
    assert_eq!(hashed, build("--rootfs rootfs", "b"));
    let list = Command::new("sh")
        .args(["-c", "cd rootfs && find . -type f -exec sha256sum {} +"])
        .current_dir(dir.path())
        .output()
        .unwrap();
    fs::write(dir.file("list"), list.stdout).unwrap();
    assert_eq!(hashed, build("--sha256sums list", "c"));

    let dated = motectl(&dir)
        .args("manifest build --rootfs rootfs --sign k -o d".split(' '))
        .env("SOURCE_DATE_EPOCH", "1700000000")
        .output()
        .unwrap();
    assert!(dated.status.success());
    let shown = good(&dir, "manifest show d");
    assert!(
        shown.contains("created    2023-11-14 22:13:20 UTC\n"),
        "{shown}"
    );
}

#[test]
fn a_build_that_fails_leaves_what_was_there() {
    let dir = TempDir::new("motectl");
    rootfs(&dir);
    good(&dir, "key new --out k");
    fs::write(dir.file("m"), "the old one").unwrap();
    fs::write(dir.file("list"), "nonsense\n").unwrap();
    for (arguments, says) in [
        ("--rootfs nowhere --sign k -o m", "nowhere: not a directory"),
        ("--rootfs rootfs --sign nokey -o m", "nokey: "),
        (
            "--rootfs rootfs --sign k --exclude [ -o m",
            "exclusion \"[\"",
        ),
        (
            "--rootfs rootfs --sign k --pcr sha256:7=ab -o m",
            "static PCR values",
        ),
        (
            "--rootfs rootfs --sign k --pcr 7 -o m",
            "--pcr 7: not BANK:PCR=HEX",
        ),
        (
            "--sha256sums list --sign k -o m",
            "list: line 1: not a line of sha256sum",
        ),
        (
            "--rootfs rootfs --sign k -o rootfs/m",
            "lies inside the root file system",
        ),
    ] {
        let said = bad(&dir, &format!("manifest build {arguments}"));
        assert!(said.contains(says), "{arguments}: {said}");
    }
    assert_eq!(fs::read(dir.file("m")).unwrap(), b"the old one");
    assert_eq!(names(dir.path()), ["k", "k.pub", "list", "m", "rootfs"]);
    assert!(!dir.file("rootfs/m").exists());
}

const GATE: DeviceId = DeviceId([0x3F; 16]);
const NEW: DeviceId = DeviceId([0x7A; 16]);

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_millis() as u64
}

/// A store with an untrusted device and a pending one, which both appeared some minutes ago.
fn store(dir: &TempDir) -> RedbStore {
    let minutes = |n: u64| now() - n * 60_000 - 500;
    let device = |admission, boot| DeviceRecord {
        admission,
        boot,
        last_seen: Some(minutes(3)),
        software: Some("mote-agent 0.1.0".into()),
        ..DeviceRecord::new(vec![1; 90], vec![2; 90], minutes(9))
    };
    let boot = BootState {
        number: 1,
        reset_count: 4,
        restart_count: 0,
        clock: 1,
        clock_safe: true,
        since: minutes(9),
        quoted_at: minutes(3),
        certified: 0,
        pcrs: vec![],
        log_pcrs: 0,
        outstanding: None,
        quoted: None,
        guessed: None,
        in_full: None,
        padded_banks: None,
        restarted: None,
        boot_log: None,
        content: Content::default(),
    };
    let gate = DeviceRecord {
        name: Some("gate-7".into()),
        ..device(
            Admission::Admitted {
                by: "ann".into(),
                at: minutes(8),
            },
            Some(boot),
        )
    };
    let new = DeviceRecord {
        certificate_fault: Some("the EK certificate or one above it has expired".into()),
        ..device(Admission::Pending, None)
    };
    let verdict = |at, tier, reasons: &[&str]| VerdictRecord {
        at,
        boot: 1,
        tier,
        reasons: reasons.iter().map(ToString::to_string).collect(),
    };
    let deviation = |reason: &str, path: &str, expected| Deviation {
        reason: reason.into(),
        since: minutes(3),
        record: Some(2390),
        pcr: Some(10),
        path: Some(path.into()),
        measured: Some(vec![0xAB; 32]),
        expected,
        note: None,
    };
    let expected = vec![Expected {
        value: vec![0xCD; 32],
        source: "edge-1.3".into(),
    }];
    let both = ["file-unknown", "file-modified"];
    let changes = [
        Change::PutDevice(GATE, gate),
        Change::PutDevice(NEW, new),
        Change::AddVerdict(GATE, verdict(minutes(8), Tier::Affirming, &[])),
        Change::AddVerdict(GATE, verdict(minutes(3), Tier::Contraindicated, &both)),
        Change::AddDeviation(
            GATE,
            deviation("file-unknown", "/usr/bin/\u{1b}evil", vec![]),
        ),
        Change::AddDeviation(GATE, deviation("file-modified", "/usr/bin/ls", expected)),
    ];
    let mut store = RedbStore::open_or_create(&dir.file("state")).unwrap();
    store.commit(&changes, Durability::Immediate).unwrap();
    store
}

#[test]
fn devices_are_listed_explained_and_decided_about() {
    let dir = TempDir::new("motectl");
    drop(store(&dir));
    assert_eq!(
        good(&dir, "device list"),
        "DEVICE        NAME    ADMISSION  VERDICT    QUOTED     REASONS\n\
         3f3f3f3f3f3f  gate-7  admitted   untrusted  3 min ago  file-unknown, file-modif…\n\
         7a7a7a7a7a7a  -       pending    -          never\n"
    );
    let shown = good(&dir, "device show gate-7");
    for says in [
        "untrusted since 3 min ago (",
        "admitted by ann, 8 min ago",
        "deviations   2\n",
    ] {
        assert!(shown.contains(says), "{says}: {shown}");
    }

    let explained = good(&dir, "explain 3f");
    // The date is the only thing that changes.
    let steady: Vec<_> = explained
        .lines()
        .map(|line| line.split(" (20").next().unwrap())
        .collect();
    assert_eq!(
        steady.join("\n"),
        format!(
            "gate-7 ({GATE})
admitted, untrusted since 3 min ago
last quote 3 min ago

file-unknown
  A file was run or read that is not part of the image.
  Likely cause: Something was installed or copied onto the device after the
    image was built, or a manifest is missing.
  What to do: If you know the file, rebuild the manifest with it (or add an
    exclusion) and load it. If you do not, take the device off the network, keep
    a copy of the file, and reinstall the image.

    /usr/bin/\\x1bevil
      measured  {ab}
      expected  nothing: no manifest names this file
      since     3 min ago
      shown by  log record 2390, PCR 10

file-modified
  A file of the image was run or read with other contents than the image build
  put there.
  Likely cause: An update whose manifest was not loaded, a changed configuration
    file, a damaged disk, or tampering.
  What to do: If it was an update, load its manifest. Otherwise compare the file
    with the image's, and reinstall it.

    /usr/bin/ls
      measured  {ab}
      expected  {cd}
                says edge-1.3
      since     3 min ago
      shown by  log record 2390, PCR 10",
            ab = "ab".repeat(32),
            cd = "cd".repeat(32),
        )
    );

    // Why a new device still waits.
    let shown = good(&dir, "device show 7a");
    let says =
        "ek-certificate-untrusted\n             the EK certificate or one above it has expired\n";
    assert!(shown.contains(says), "{shown}");
    let explained = good(&dir, "explain 7a");
    for says in [
        "\nadmission-pending\n",
        "\nek-certificate-untrusted\n",
        "  Found: the EK certificate or one above it has expired\n",
    ] {
        assert!(explained.contains(says), "{says}: {explained}");
    }

    assert_eq!(
        good(&dir, "device admit 7a --name door"),
        format!("admitted door ({NEW})\n")
    );
    let device = json(&good(&dir, "device show door --json"));
    assert_eq!(device["admission"]["state"], "admitted");
    assert_eq!(device["admission"]["by"], "ann");
    assert_eq!(
        good(&dir, "device remove door"),
        format!("removed door ({NEW})\n")
    );
    assert!(bad(&dir, "device show door").contains("no device has the name \"door\""));
    assert_eq!(
        json(&good(&dir, "device list --json"))
            .as_array()
            .unwrap()
            .len(),
        1
    );
}

#[test]
fn a_running_verifier_is_asked_and_not_disturbed() {
    let dir = TempDir::new("motectl");
    let mut store = store(&dir);
    let silent = bad(&dir, "device list");
    let pid = std::process::id();
    assert!(silent.contains(&format!(
        "holds state/mote.redb (pid {pid}), but does not answer"
    )));

    let listener = socket::listen(&dir.file("state")).unwrap();
    let daemon = std::thread::spawn(move || {
        let policies = mote_verifier::policy::Policies::default();
        let mut effects = Vec::new();
        for _ in 0..3 {
            let stream = listener.accept().unwrap().0;
            let mut answer = |request: &admin::Request| -> Response {
                let mut office = admin::Office {
                    store: &mut store,
                    policies: &policies,
                    key: None,
                    refused: &[],
                };
                let (response, effect) = admin::handle(&mut office, now(), request);
                effects.extend(effect);
                response
            };
            socket::serve(&stream, &mut answer).unwrap();
        }
        effects
    });
    assert_eq!(good(&dir, "device list").lines().count(), 3);
    assert_eq!(
        good(&dir, "device refuse 7a --by bob"),
        format!("refused {NEW}\n")
    );
    assert!(bad(&dir, "device remove 99").contains("no device has the name \"99\""));
    assert_eq!(
        daemon.join().unwrap(),
        [admin::Effect::AdmissionChanged(NEW)]
    );
    // The verifier is gone, its socket is not: the store answers, and knows the decision.
    let device = json(&good(&dir, "device show 7a --json"));
    assert_eq!(device["admission"]["by"], "bob");
}

#[test]
fn where_nothing_is_it_says_what_to_do() {
    let dir = TempDir::new("motectl");
    let said = bad(&dir, "device list");
    assert!(said.contains("no verifier runs on state"), "{said}");
    assert!(said.contains("start mote-verifier"), "{said}");
    assert_eq!(names(dir.path()), [""; 0], "looking makes no store");
}
