//! Against `evmctl` (ima-evm-utils) and `openssl`, which sign; here it is verified.

#![allow(clippy::similar_names)] // `signer` signs, `signed` is signed.

mod appended;
mod evm;
mod keys;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use mote_schemas::ima::TemplateWriter;
use proptest::prelude::*;

use super::*;
use crate::test_util::{TempDir, run};

/// Keys to sign with, each with its certificate: `rsa`, `p256`, `p384`, `p521`.
struct Signer {
    dir: TempDir,
}

const KEYS: [(&str, &[&str]); 4] = [
    ("rsa", &["rsa:2048"]),
    ("p256", &["ec", "-pkeyopt", "ec_paramgen_curve:P-256"]),
    ("p384", &["ec", "-pkeyopt", "ec_paramgen_curve:P-384"]),
    ("p521", &["ec", "-pkeyopt", "ec_paramgen_curve:P-521"]),
];

const CONTENTS: &[u8] = b"#!/bin/sh\nexec pump --on\n";

impl Signer {
    fn new(names: &[&str]) -> Self {
        let signer = Signer {
            dir: TempDir::new("ima-keys"),
        };
        for (name, arguments) in KEYS.iter().filter(|(name, _)| names.contains(name)) {
            run(Command::new("openssl")
                .args(["req", "-x509", "-nodes", "-days", "9999", "-subj"])
                .arg(format!("/O=Example/CN=Test {name}"))
                .arg("-newkey")
                .args(*arguments)
                .arg("-keyout")
                .arg(signer.file(&format!("{name}.key")))
                .arg("-out")
                .arg(signer.file(&format!("{name}.crt"))));
        }
        fs::write(signer.file("pump"), CONTENTS).unwrap();
        signer
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.file(name)
    }

    fn keyring(&self, names: &[&str]) -> Keyring {
        let mut keyring = Keyring::default();
        for name in names {
            let added = keyring.add_file(&self.file(&format!("{name}.crt")));
            assert_eq!(added.unwrap(), 1);
        }
        keyring
    }

    /// `evmctl ima_sign`: the value of `security.ima`.
    fn sign(&self, name: &str, hash: &str) -> Vec<u8> {
        run(Command::new("evmctl")
            .args(["ima_sign", "--sigfile", "--hashalgo", hash, "--key"])
            .arg(self.file(&format!("{name}.key")))
            .arg(self.file("pump")));
        let signature = fs::read(self.file("pump.sig")).unwrap();
        fs::remove_file(self.file("pump.sig")).unwrap();
        signature
    }

    /// Version 3, of which evmctl 1.4 knows nothing: `openssl` signs the `ima_file_id`.
    fn sign_v3(&self, name: &str, kind: u8, digest: &[u8]) -> Vec<u8> {
        const SHA256: u8 = 4;
        let file_id = self.file("file_id");
        fs::write(&file_id, [&[kind, SHA256], digest].concat()).unwrap();
        let signature = run(Command::new("openssl")
            .args(["dgst", "-sha256", "-sign"])
            .arg(self.file(&format!("{name}.key")))
            .arg(&file_id));
        let id = self.keyring(&[name]).all()[0].ids()[0];
        let len = u16::try_from(signature.len()).unwrap().to_be_bytes();
        [&[kind, 3, SHA256][..], &id.0, &len, &signature].concat()
    }
}

/// Data of an `ima-sig` or `ima-sigv2` record.
fn record(algorithm: &str, digest: &[u8], signature: &[u8]) -> Vec<u8> {
    let mut buffer = [0; 2048];
    let mut writer = TemplateWriter::new(Endian::Little, &mut buffer);
    writer.digest(algorithm, digest).unwrap();
    writer.text(b"/usr/bin/pump").unwrap();
    writer.bytes(signature).unwrap();
    writer.finish().to_vec()
}

fn check(template: &str, data: &[u8], keyring: &Keyring) -> Result<String, SignatureError> {
    let record = TemplateData::parse(template, data, Endian::Little).unwrap();
    verify(&record, Endian::Little, |id| keyring.keys(id)).map(|key| key.name().to_owned())
}

fn digest_of(name: &str, contents: &[u8]) -> Vec<u8> {
    hash(HashAlg::from_name(name).unwrap(), contents)
}

#[test]
fn what_evmctl_signs_with_any_key_and_hash_is_verified() {
    let names = KEYS.map(|(name, _)| name);
    let signer = Signer::new(&names);
    let keyring = signer.keyring(&names);
    for name in names {
        for alg in ["sha256", "sha384", "sha512"] {
            let signature = signer.sign(name, alg);
            let data = record(alg, &digest_of(alg, CONTENTS), &signature);
            assert_eq!(
                check("ima-sig", &data, &keyring),
                Ok(format!("Test {name}")),
                "{name} {alg}"
            );
            let other = record(alg, &digest_of(alg, b"else"), &signature);
            assert!(
                matches!(
                    check("ima-sig", &other, &keyring),
                    Err(SignatureError::Invalid(_))
                ),
                "{name} {alg}"
            );
        }
    }
}

#[test]
fn a_signer_that_is_not_allowed_is_named_by_its_id() {
    let signer = Signer::new(&["rsa", "p256"]);
    let data = record(
        "sha256",
        &digest_of("sha256", CONTENTS),
        &signer.sign("p256", "sha256"),
    );
    let id = signer.keyring(&["p256"]).all()[0].ids()[0];
    assert_eq!(
        check("ima-sig", &data, &signer.keyring(&["rsa"])),
        Err(SignatureError::UnknownSigner(id.into()))
    );
}

#[test]
fn a_raw_key_and_its_certificate_have_the_same_id_and_verify_the_same() {
    let signer = Signer::new(&["rsa", "p256"]);
    for name in ["rsa", "p256"] {
        let certificate = &signer.keyring(&[name]).all()[0].clone();
        let mut raw = Keyring::default();
        for (form, file) in [("PEM", "raw.pem"), ("DER", "raw.der")] {
            run(Command::new("openssl")
                .args(["pkey", "-pubout", "-outform", form, "-in"])
                .arg(signer.file(&format!("{name}.key")))
                .arg("-out")
                .arg(signer.file(file)));
            assert_eq!(raw.add_file(&signer.file(file)).unwrap(), 1, "{form}");
        }
        // The same key twice is one key.
        let [key] = raw.all() else { panic!("{raw:?}") };
        assert_eq!(key.ids(), certificate.ids());
        assert_eq!(key.name(), format!("key {}", key.ids()[0]));
        let data = record(
            "sha256",
            &digest_of("sha256", CONTENTS),
            &signer.sign(name, "sha256"),
        );
        check("ima-sig", &data, &raw).unwrap();
    }
}

#[test]
fn a_certificate_with_an_identifier_of_its_own_is_found_by_that() {
    let signer = Signer::new(&["p256"]);
    run(Command::new("openssl")
        .args(["req", "-x509", "-days", "9", "-subj", "/CN=Own", "-addext"])
        .arg("subjectKeyIdentifier=00112233445566778899")
        .arg("-key")
        .arg(signer.file("p256.key"))
        .arg("-out")
        .arg(signer.file("own.crt")));
    let keyring = signer.keyring(&["own"]);
    let key = &keyring.all()[0];
    assert_eq!(key.ids()[0], KeyId([0x66, 0x77, 0x88, 0x99]));
    assert_eq!(key.ids()[1..], *signer.keyring(&["p256"]).all()[0].ids());
    run(Command::new("evmctl")
        .args(["ima_sign", "--sigfile", "--key"])
        .arg(signer.file("p256.key"))
        .arg("--keyid-from-cert")
        .arg(signer.file("own.crt"))
        .arg(signer.file("pump")));
    let signature = fs::read(signer.file("pump.sig")).unwrap();
    assert_eq!(signature[3..7], [0x66, 0x77, 0x88, 0x99]);
    let data = record("sha256", &digest_of("sha256", CONTENTS), &signature);
    assert_eq!(check("ima-sig", &data, &keyring), Ok("Own".to_owned()));
}

#[test]
fn version_3_covers_the_kind_of_digest_too() {
    let signer = Signer::new(&["rsa", "p256"]);
    let keyring = signer.keyring(&["rsa", "p256"]);
    let digest = digest_of("sha256", CONTENTS);
    for name in ["rsa", "p256"] {
        let verity = signer.sign_v3(name, 6, &digest);
        let data = |tag: &str, signature: &[u8]| record(tag, &digest, signature);
        check("ima-sigv2", &data("verity:sha256", &verity), &keyring).unwrap();
        assert_eq!(
            check("ima-sigv2", &data("ima:sha256", &verity), &keyring),
            Err(SignatureError::OtherDigest {
                signed: "fs-verity sha256".into(),
                measured: "sha256".into()
            })
        );
        // The type in front is not signed by itself: said to be of the file, it is over something else.
        let mut relabelled = verity.clone();
        relabelled[0] = 3;
        assert!(matches!(
            check("ima-sigv2", &data("ima:sha256", &relabelled), &keyring),
            Err(SignatureError::Invalid(_))
        ));
        let file = signer.sign_v3(name, 3, &digest);
        check("ima-sigv2", &data("ima:sha256", &file), &keyring).unwrap();
        check("ima-sig", &data("sha256", &file), &keyring).unwrap();
        // A signature of version 2 does not become one of version 3, nor the other way round.
        for (mut signature, version) in [(file, 2), (signer.sign(name, "sha256"), 3)] {
            signature[1] = version;
            assert!(matches!(
                check("ima-sig", &data("sha256", &signature), &keyring),
                Err(SignatureError::Invalid(_))
            ));
        }
    }
}

#[test]
fn any_changed_bit_of_signature_or_digest_is_refused() {
    let signer = Signer::new(&["p256"]);
    let keyring = signer.keyring(&["p256"]);
    let digest = digest_of("sha256", CONTENTS);
    let signature = signer.sign("p256", "sha256");
    check("ima-sig", &record("sha256", &digest, &signature), &keyring).unwrap();
    for bit in 0..8 * signature.len() {
        let mut changed = signature.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        let error = check("ima-sig", &record("sha256", &digest, &changed), &keyring);
        assert!(error.is_err(), "bit {bit} of the signature");
    }
    for bit in 0..8 * digest.len() {
        let mut changed = digest.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        let error = check("ima-sig", &record("sha256", &changed, &signature), &keyring);
        assert!(
            matches!(error, Err(SignatureError::Invalid(_))),
            "bit {bit}"
        );
    }
    for len in 0..signature.len() {
        let error = SignatureHeader::parse(&signature[..len]).unwrap_err();
        match len {
            0..9 => assert_eq!(error, HeaderError::Truncated(len)),
            _ => assert_eq!(error, HeaderError::Length(signature.len() - 9)),
        }
    }
}

#[test]
fn each_fault_of_a_header_has_its_name() {
    let right = [3, 2, 4, 1, 2, 3, 4, 0, 1, 0xff];
    let with = |at: usize, byte: u8| {
        let mut changed = right;
        changed[at] = byte;
        SignatureHeader::parse(&changed).map(|_| ()).unwrap_err()
    };
    let header = SignatureHeader::parse(&right).unwrap();
    assert_eq!(header.key_id(), KeyId([1, 2, 3, 4]));
    assert_eq!(
        (header.kind(), header.hash()),
        (SignatureType::File, HashAlg::Sha256)
    );
    for other in [0, 1, 2, 4, 7] {
        assert_eq!(with(0, other), HeaderError::Type(other));
    }
    for other in [0, 1, 4] {
        assert_eq!(with(1, other), HeaderError::Version(other));
    }
    // fs-verity's came with version 3.
    assert_eq!(with(0, 6), HeaderError::Version(2));
    // MD5, SHA-1, SHA-224, SM3.
    for other in [1, 2, 7, 17] {
        assert_eq!(with(2, other), HeaderError::Hash(other));
    }
    assert_eq!(with(8, 2), HeaderError::Length(2));
    assert_eq!(with(8, 0), HeaderError::Length(0));
}

#[test]
fn a_signature_over_another_algorithm_says_nothing() {
    let signer = Signer::new(&["rsa"]);
    let keyring = signer.keyring(&["rsa"]);
    let data = record(
        "sha256",
        &digest_of("sha256", CONTENTS),
        &signer.sign("rsa", "sha512"),
    );
    assert_eq!(
        check("ima-sig", &data, &keyring),
        Err(SignatureError::OtherDigest {
            signed: "sha512".into(),
            measured: "sha256".into()
        })
    );
    let unsigned = record("sha256", &digest_of("sha256", CONTENTS), &[]);
    assert_eq!(
        check("ima-sig", &unsigned, &keyring),
        Err(SignatureError::Absent)
    );
    assert_eq!(
        check("d-ng|n-ng|buf", &data, &keyring),
        Err(SignatureError::Absent)
    );
}
