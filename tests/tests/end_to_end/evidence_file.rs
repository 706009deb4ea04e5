//! Evidence in a file: from a device without a network to a verdict elsewhere, by the programs alone.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use mote_schemas::bundle;
use mote_schemas::cmw::{self, Cmw, MediaType};
use mote_tests::process::run;
use mote_tests::program::program;
use mote_tests::{Device, TempDir, fleet, recorded};

const NONCE: &str = "00112233445566778899aabbccddeeff";
/// A SHA-256 that no recorded file has.
const UNKNOWN: &str = "5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8";

/// `mote-agent evidence` on this device, which has no verifier configured.
fn evidence(device: &Device, out: &Path, nonce: &str) {
    let kernel = device.kernel();
    let mut command = program("mote-agent").unwrap();
    command
        .args(["evidence", "--nonce", nonce, "-o"])
        .arg(out)
        .arg(format!("--tpm=swtpm:127.0.0.1:{}", kernel.port()))
        .arg("--ima-log")
        .arg(kernel.list())
        .arg("--boot-log")
        .arg(recorded::dir().join("binary_bios_measurements"));
    run(&mut command).unwrap();
}

/// A desk with `motectl`, an image key and the recorded image's manifest.
fn desk() -> TempDir {
    let dir = TempDir::new("desk").unwrap();
    motectl(&dir, &["key", "new", "--out", "image.key"]);
    fs::write(dir.join("sums"), fleet::sha256sums().unwrap()).unwrap();
    motectl(
        &dir,
        &[
            "manifest",
            "build",
            "--sha256sums",
            "sums",
            "--name",
            "edge",
            "--version",
            "1.3",
            "--sign",
            "image.key",
            "-o",
            "edge.mote",
        ],
    );
    dir
}

fn command(dir: &TempDir, words: &[&str]) -> Output {
    let mut command: Command = program("motectl").unwrap();
    command
        .current_dir(dir.path())
        .args(words)
        .stdin(Stdio::null());
    command.output().unwrap()
}

fn motectl(dir: &TempDir, words: &[&str]) -> String {
    let output = command(dir, words);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words:?}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

/// `motectl verify`: standard output and exit code.
fn verify(dir: &TempDir, file: &str, more: &[&str]) -> (String, i32) {
    let words = [
        &[
            "verify",
            file,
            "--manifest",
            "edge.mote",
            "--manifest-key",
            "image.key.pub",
        ],
        more,
    ]
    .concat();
    let output = command(dir, &words);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.is_empty(), "{stderr}");
    (
        String::from_utf8(output.stdout).unwrap(),
        output.status.code().unwrap(),
    )
}

#[test]
fn a_device_without_network_is_trusted_by_its_file_and_not_by_another() {
    let device = Device::new("sneaker").unwrap();
    device.kernel().append_until(150).unwrap();
    let desk = desk();
    evidence(&device, &desk.join("good.cbor"), NONCE);

    // First use, and from then on known.
    let first = [
        "--nonce",
        NONCE,
        "--trust-ak-on-first-use",
        "--ak",
        "gate.ak",
    ];
    let (text, code) = verify(&desk, "good.cbor", &first);
    assert_eq!(code, 0, "{text}");
    assert!(text.starts_with("trusted\n"), "{text}");
    let known = ["--nonce", NONCE, "--ak", "gate.ak"];
    let (text, code) = verify(&desk, "good.cbor", &known);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("\nrecords     150\n"), "{text}");

    // Another question than the one that was answered.
    let other = [
        "--nonce",
        "ff112233445566778899aabbccddeeff",
        "--ak",
        "gate.ak",
    ];
    let (text, code) = verify(&desk, "good.cbor", &other);
    assert_eq!(code, 1);
    assert!(text.starts_with("refused: quote-wrong-nonce\n"), "{text}");

    // Something that the image does not have.
    device
        .kernel()
        .append_file("/opt/implant", UNKNOWN)
        .unwrap();
    evidence(&device, &desk.join("bad.cbor"), NONCE);
    let (text, code) = verify(&desk, "bad.cbor", &known);
    assert_eq!(code, 1);
    assert!(text.starts_with("untrusted\n"), "{text}");
    assert!(text.contains("/opt/implant (record 150)"), "{text}");
    let (text, code) = verify(&desk, "bad.cbor", &[&known[..], &["--json"]].concat());
    assert_eq!(code, 1);
    for says in [
        "\"trusted\": false",
        "\"file-unknown\"",
        "\"record\": 150",
        UNKNOWN,
    ] {
        assert!(text.contains(says), "{says} is not in {text}");
    }

    // What a policy would make of it, and what it does make of it.
    let policy = r#"{"name": "p", "version": 1, "exclusions": ["/opt/**"]}"#;
    fs::write(desk.join("p.json"), policy).unwrap();
    let manifest = ["--manifest", "edge.mote", "--manifest-key", "image.key.pub"];
    let try_it = ["policy", "test", "p.json", "--evidence", "bad.cbor"];
    let tried = motectl(&desk, &[&try_it[..], &manifest].concat());
    assert!(tried.contains("would be trusted"), "{tried}");
    let with_policy = [&known[..], &["--policy", "p.json"]].concat();
    let (text, code) = verify(&desk, "bad.cbor", &with_policy);
    assert_eq!(code, 0, "{text}");

    // Another device's, even if its owner says whose it is.
    let stranger = Device::new("stranger").unwrap();
    evidence(&stranger, &desk.join("stranger.cbor"), NONCE);
    let (text, code) = verify(&desk, "stranger.cbor", &first);
    assert_eq!(code, 1);
    assert!(text.starts_with("refused: ak-mismatch\n"), "{text}");
}

#[test]
fn tpm2_tools_agree_that_the_quote_is_over_the_nonce() {
    let device = Device::new("checkquote").unwrap();
    device.kernel().append_until(20).unwrap();
    let desk = desk();
    let file = desk.join("evidence.cbor");
    evidence(&device, &file, NONCE);
    let wrapper = fs::read(&file).unwrap();
    let Ok(Cmw::Record(record)) = Cmw::parse(&wrapper) else {
        panic!("not a wrapper");
    };
    assert_eq!(record.media_type, MediaType::Name(bundle::MEDIA_TYPE));
    assert_eq!(record.indicator, Some(cmw::EVIDENCE));
    let bytes: Vec<u8> = record.value.chunks().flatten().copied().collect();
    let (header, _) = bytes.split_at(mote_schemas::cbor::item_len(&bytes).unwrap());
    let header: mote_schemas::bundle::Header<'_> = mote_schemas::cbor::decode(header).unwrap();
    // TPM2B_PUBLIC for `-u`.
    let ak = header.keys.ak_public.get();
    let public = [&u16::try_from(ak.len()).unwrap().to_be_bytes()[..], ak].concat();
    for (name, bytes) in [
        ("ak", &public[..]),
        ("attest", header.quote.attest.get()),
        ("signature", header.quote.signature.get()),
    ] {
        fs::write(desk.join(name), bytes).unwrap();
    }
    let nonce: Vec<u8> = header.nonce.get().to_vec();
    let qualifier = mote_tests::hex::encode(&mote_schemas::bundle::qualifying_data(&nonce));
    let check = |qualifier: &str| {
        Command::new("tpm2_checkquote")
            .current_dir(desk.path())
            .args([
                "-u",
                "ak",
                "-m",
                "attest",
                "-s",
                "signature",
                "-g",
                "sha256",
                "-q",
                qualifier,
            ])
            .env("TPM2TOOLS_TCTI", "none")
            .output()
            .unwrap()
    };
    let good = check(&qualifier);
    assert!(
        good.status.success(),
        "{}",
        String::from_utf8_lossy(&good.stderr)
    );
    let bad = check(&qualifier.replace(['0', '1', '2', '3'], "f"));
    assert!(!bad.status.success());
    // The bare sequence says what it is, too.
    fs::write(desk.join("bare.cbor"), &bytes).unwrap();
    let (text, code) = verify(&desk, "bare.cbor", &["--nonce", NONCE, "--ak", "ak"]);
    assert_eq!(code, 0, "{text}");
    fs::write(desk.join("short.cbor"), &wrapper[..wrapper.len() - 30]).unwrap();
    let (text, code) = verify(&desk, "short.cbor", &["--nonce", NONCE, "--ak", "ak"]);
    assert_eq!(code, 1);
    assert!(text.contains("cut off"), "{text}");
    // And motectl takes the TPM2B_PUBLIC as tpm2-tools write it.
    let (text, code) = verify(&desk, "evidence.cbor", &["--nonce", NONCE, "--ak", "ak"]);
    assert_eq!(code, 0, "{text}");
}
