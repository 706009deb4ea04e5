//! Against `evmctl` (ima-evm-utils) and `openssl`, which sign; here it is verified.

#![allow(clippy::similar_names)] // `signer` signs, `signed` is signed.

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

/// Attributes that `evmctl` has put on a file, as an `evm-sig` record has them.
struct EvmRecord {
    ima: Vec<u8>,
    evm: Vec<u8>,
    mode: u16,
}

impl EvmRecord {
    fn signed(signer: &Signer, key: &str, layout: &str) -> Self {
        let file = signer.file("pump");
        run(Command::new("evmctl")
            .args(["sign", "--imahash", "--portable", "--xattr-user", layout])
            .args(["--uid=7", "--gid=8", "--mode=33261", "--key"])
            .arg(signer.file(&format!("{key}.key")))
            .arg(&file));
        EvmRecord {
            ima: attribute(&file, "user.ima"),
            evm: attribute(&file, "user.evm"),
            mode: 0o100_755,
        }
    }

    fn data(&self) -> Vec<u8> {
        let mut buffer = [0; 2048];
        let mut writer = TemplateWriter::new(Endian::Little, &mut buffer);
        writer
            .digest("sha256", &digest_of("sha256", CONTENTS))
            .unwrap();
        writer.text(b"/usr/bin/pump").unwrap();
        writer.bytes(&self.evm).unwrap();
        writer.text(b"security.ima").unwrap();
        let len = u32::try_from(self.ima.len()).unwrap().to_le_bytes();
        writer.bytes(&len).unwrap();
        writer.bytes(&self.ima).unwrap();
        writer.bytes(&7u32.to_le_bytes()).unwrap();
        writer.bytes(&8u32.to_le_bytes()).unwrap();
        writer.bytes(&self.mode.to_le_bytes()).unwrap();
        writer.finish().to_vec()
    }
}

/// `getxattr`, which std does not have.
fn attribute(file: &Path, name: &str) -> Vec<u8> {
    const SCRIPT: &str =
        "import os, sys; sys.stdout.buffer.write(os.getxattr(sys.argv[1], sys.argv[2]))";
    run(Command::new("python3")
        .args(["-c", SCRIPT])
        .arg(file)
        .arg(name))
}

#[test]
fn a_portable_evm_signature_covers_the_attributes_in_the_record() {
    let signer = Signer::new(&["rsa", "p256"]);
    let keyring = signer.keyring(&["rsa", "p256"]);
    for (key, layout) in [("rsa", "--m64"), ("p256", "--m64"), ("p256", "--m32")] {
        let signed = EvmRecord::signed(&signer, key, layout);
        check("evm-sig", &signed.data(), &keyring)
            .unwrap_or_else(|error| panic!("{key} {layout}: {error}"));
        let other_mode = EvmRecord {
            mode: 0o104_755,
            ..EvmRecord::signed(&signer, key, layout)
        };
        assert!(matches!(
            check("evm-sig", &other_mode.data(), &keyring),
            Err(SignatureError::Invalid(_))
        ));
        // `security.ima` of another file: the signature is right, and not about this one.
        let mut other_file = signed;
        *other_file.ima.last_mut().unwrap() ^= 1;
        assert_eq!(
            check("evm-sig", &other_file.data(), &keyring),
            Err(SignatureError::Attributes)
        );
    }
    // `ima-sig` shows an EVM signature where there is no other, without what it covers.
    let signed = EvmRecord::signed(&signer, "p256", "--m64");
    let data = record("sha256", &digest_of("sha256", CONTENTS), &signed.evm);
    assert_eq!(
        check("ima-sig", &data, &keyring),
        Err(SignatureError::Attributes)
    );
}

/// A big-endian kernel signs over its own byte order, and writes its list in that order or, told
/// `ima_canonical_fmt`, in little-endian. `evmctl` signs for the machine it runs on, so `openssl` does it.
#[test]
fn a_big_endian_kernels_evm_signature_is_verified_in_either_order_of_its_list() {
    let signer = Signer::new(&["p256"]);
    let keyring = signer.keyring(&["p256"]);
    let ima = [&[4, 4][..], &digest_of("sha256", CONTENTS)].concat();
    // ino, generation, uid, gid, mode, padding: of a 64-bit kernel.
    let mut misc = vec![0; 12];
    misc.extend(7u32.to_be_bytes());
    misc.extend(8u32.to_be_bytes());
    misc.extend(0o100_755_u16.to_be_bytes());
    misc.extend([0; 2]);
    fs::write(signer.file("covered"), [&ima[..], &misc].concat()).unwrap();
    let signature = run(Command::new("openssl")
        .args(["dgst", "-sha256", "-sign"])
        .arg(signer.file("p256.key"))
        .arg(signer.file("covered")));
    let id = keyring.all()[0].ids()[0];
    let len = u16::try_from(signature.len()).unwrap().to_be_bytes();
    let evm = [&[5, 2, 4][..], &id.0, &len, &signature].concat();
    for endian in [Endian::Little, Endian::Big] {
        let mut buffer = [0; 2048];
        let mut writer = TemplateWriter::new(endian, &mut buffer);
        let digest = digest_of("sha256", CONTENTS);
        writer.digest("sha256", &digest).unwrap();
        writer.text(b"/usr/bin/pump").unwrap();
        writer.bytes(&evm).unwrap();
        writer.text(b"security.ima").unwrap();
        let number = |v: u32| endian.u32_bytes(v);
        writer.bytes(&number(ima.len() as u32)).unwrap();
        writer.bytes(&ima).unwrap();
        writer.bytes(&number(7)).unwrap();
        writer.bytes(&number(8)).unwrap();
        let mode = match endian {
            Endian::Little => 0o100_755_u16.to_le_bytes(),
            Endian::Big => 0o100_755_u16.to_be_bytes(),
        };
        writer.bytes(&mode).unwrap();
        let data = writer.finish();
        let record = TemplateData::parse("evm-sig", data, endian).unwrap();
        let signed_by = verify(&record, endian, |id| keyring.keys(id));
        assert_eq!(signed_by.map(FileKey::name), Ok("Test p256"), "{endian:?}");
    }
}

#[test]
fn a_file_that_is_no_key_file_is_refused_whole_and_says_why() {
    let signer = Signer::new(&["rsa", "p256"]);
    let path = signer.file("keys");
    let mut keyring = signer.keyring(&["p256"]);
    let before = keyring.all().to_vec();
    let good = fs::read_to_string(signer.file("rsa.crt")).unwrap();
    let mut refused = |contents: &[u8]| {
        fs::write(&path, contents).unwrap();
        let error = keyring.add_file(&path).unwrap_err();
        assert_eq!(keyring.all(), before, "{error}");
        error
    };
    assert!(matches!(refused(b""), KeyringError::Empty(_)));
    let private = fs::read(signer.file("rsa.key")).unwrap();
    assert!(matches!(refused(&private), KeyringError::Empty(_)));
    let cut = format!("{good}{}", &good[..good.len() / 2]);
    assert!(matches!(refused(cut.as_bytes()), KeyringError::Damaged(_)));
    assert!(matches!(
        refused(&[0x30, 3, 2, 1, 5]),
        KeyringError::Key(_, 1, KeyParseError::Malformed)
    ));
    for (kind, option, expected) in [
        (
            "rsa",
            "rsa_keygen_bits:1024",
            KeyParseError::RsaLength(1024),
        ),
        (
            "ec",
            "ec_paramgen_curve:secp256k1",
            KeyParseError::Algorithm,
        ),
        ("ed25519", "", KeyParseError::Algorithm),
    ] {
        let mut command = Command::new("openssl");
        command.args(["genpkey", "-algorithm", kind]);
        if !option.is_empty() {
            command.args(["-pkeyopt", option]);
        }
        fs::write(signer.file("weak.key"), run(&mut command)).unwrap();
        let public = run(Command::new("openssl")
            .args(["pkey", "-pubout", "-in"])
            .arg(signer.file("weak.key")));
        let both = [good.as_bytes(), &public].concat();
        match refused(&both) {
            KeyringError::Key(_, 2, error) => assert_eq!(error, expected),
            other => panic!("{kind}: {other}"),
        }
    }
    fs::remove_file(&path).unwrap();
    assert!(matches!(keyring.add_file(&path), Err(KeyringError::Io(..))));
}

#[test]
fn keys_are_learned_from_the_kernels_own_keyrings_alone() {
    let mut keyring = Keyring::default();
    for (name, is_kernels) in [
        (".ima", true),
        ("_ima", false),
        ("ima", false),
        (".", false),
    ] {
        keyring.learn_from(name);
        assert_eq!(keyring.learns_from(name.as_bytes()), is_kernels, "{name}");
        assert_eq!(Keyring::kernel_name(name).is_ok(), is_kernels, "{name}");
    }
}

#[test]
fn learned_keys_survive_being_stored_and_are_bounded() {
    let signer = Signer::new(&["p256", "rsa"]);
    let mut learned = LearnedKeys::default();
    assert!(!learned.learn(b"no key"));
    for name in ["p256", "rsa", "p256"] {
        assert!(learned.learn(signer.keyring(&[name]).all()[0].der()));
    }
    assert_eq!(learned.ders().count(), 2);
    let id = signer.keyring(&["p256"]).all()[0].ids()[0];
    assert_eq!(learned.keys(&id.into()).count(), 1);
    assert_eq!(LearnedKeys::from_ders(learned.ders()), learned);
}

/// What `openssl cms` makes as the kernel's `sign-file` does, and with other options.
fn append(signer: &Signer, name: &str, hash: &str, options: &[&str]) -> Vec<u8> {
    run(Command::new("openssl")
        .args(["cms", "-sign", "-binary", "-outform", "DER", "-nosmimecap"])
        .args(["-md", hash])
        .args(options)
        .arg("-signer")
        .arg(signer.file(&format!("{name}.crt")))
        .arg("-inkey")
        .arg(signer.file(&format!("{name}.key")))
        .arg("-in")
        .arg(signer.file("pump")))
}

/// Data of an `ima-modsig` record of a file with this appended, and nothing in its attributes.
fn modsig(algorithm: &str, contents: &[u8], signature: &[u8], message: &[u8]) -> Vec<u8> {
    let mut buffer = [0; 8192];
    let mut writer = TemplateWriter::new(Endian::Little, &mut buffer);
    let whole = [contents, message].concat();
    writer
        .digest("sha256", &digest_of("sha256", &whole))
        .unwrap();
    writer.text(b"/lib/modules/pump.ko").unwrap();
    writer.bytes(signature).unwrap();
    writer
        .digest(algorithm, &digest_of(algorithm, contents))
        .unwrap();
    writer.bytes(message).unwrap();
    writer.finish().to_vec()
}

/// `sign-file`: CMS_NOCERTS, CMS_NOATTR, and CMS_USE_KEYID where asked for.
const AS_SIGN_FILE: &[&str] = &["-noattr", "-nocerts"];

#[test]
fn an_appended_signature_is_verified_over_the_file_without_it() {
    let names = KEYS.map(|(name, _)| name);
    let signer = Signer::new(&names);
    let keyring = signer.keyring(&names);
    for (name, alg, options) in [
        ("rsa", "sha256", AS_SIGN_FILE),
        ("rsa", "sha512", &["-noattr", "-nocerts", "-keyid"]),
        ("p256", "sha256", &["-noattr", "-nocerts", "-keyid"]),
        ("p384", "sha384", AS_SIGN_FILE),
        ("p521", "sha512", AS_SIGN_FILE),
        // With signed attributes, and with the certificate.
        ("p256", "sha256", &["-nocerts"]),
        ("rsa", "sha384", &[]),
    ] {
        let message = append(&signer, name, alg, options);
        let data = modsig(alg, CONTENTS, &[], &message);
        let signed_by = check("ima-modsig", &data, &keyring);
        assert_eq!(signed_by, Ok(format!("Test {name}")), "{name} {options:?}");
        // Other contents with the same appended.
        let other = check("ima-modsig", &modsig(alg, b"else", &[], &message), &keyring);
        let attributes = !options.contains(&"-noattr");
        match other {
            Err(SignatureError::Appended(why)) if attributes => {
                assert_eq!(why, "its attributes are of other contents");
            }
            Err(SignatureError::Invalid(_)) if !attributes => {}
            other => panic!("{name} {options:?}: {other:?}"),
        }
        // Another signer's is not taken for an allowed one's, its certificate inside or not.
        let others: Vec<_> = names.into_iter().filter(|other| *other != name).collect();
        let unknown = check("ima-modsig", &data, &signer.keyring(&others)).unwrap_err();
        assert!(
            matches!(unknown, SignatureError::UnknownSigner(_)),
            "{unknown}"
        );
        // In any other form than the kernel's, whoever wrote the file may have chosen the digest.
        for label in [
            "d-ng|n-ng|sig|modsig|d-modsig",
            "d-ng|n-ng|d-modsig|sig|modsig",
        ] {
            if let Ok(record) = TemplateData::parse(label, &data, Endian::Little) {
                assert_eq!(record.appended_signature(), None);
            }
        }
    }
}

#[test]
fn a_raw_key_verifies_an_appended_signature_that_names_a_certificate() {
    let signer = Signer::new(&["p256"]);
    run(Command::new("openssl")
        .args(["pkey", "-pubout", "-in"])
        .arg(signer.file("p256.key"))
        .arg("-out")
        .arg(signer.file("raw.pem")));
    let mut raw = Keyring::default();
    raw.add_file(&signer.file("raw.pem")).unwrap();
    let message = append(&signer, "p256", "sha256", AS_SIGN_FILE);
    check(
        "ima-modsig",
        &modsig("sha256", CONTENTS, &[], &message),
        &raw,
    )
    .unwrap();
}

#[test]
fn of_two_kinds_of_signatures_one_that_holds_is_enough() {
    let signer = Signer::new(&["p256", "rsa"]);
    let keyring = signer.keyring(&["p256"]);
    let message = append(&signer, "p256", "sha256", AS_SIGN_FILE);
    let other = append(&signer, "rsa", "sha256", AS_SIGN_FILE);
    // In `security.ima`: over other contents than the whole file, and by nobody who is allowed.
    let bad = signer.sign("p256", "sha256");
    let id = SignerId::from(keyring.all()[0].ids()[0]);
    let found = |signature: &[u8], message: &[u8]| {
        let data = modsig("sha256", CONTENTS, signature, message);
        check("ima-modsig", &data, &keyring)
    };
    assert_eq!(found(&bad, &message), Ok("Test p256".to_owned()));
    assert_eq!(found(&bad, &other), Err(SignatureError::Invalid(id)));
    assert_eq!(found(&[], &[]), Err(SignatureError::Absent));
}

#[test]
fn any_changed_bit_of_an_appended_signature_is_refused() {
    let signer = Signer::new(&["p256"]);
    let keyring = signer.keyring(&["p256"]);
    for options in [AS_SIGN_FILE, &["-nocerts"]] {
        let message = append(&signer, "p256", "sha256", options);
        let mut held = 0;
        for bit in 0..8 * message.len() {
            let mut changed = message.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let data = modsig("sha256", CONTENTS, &[], &changed);
            held += usize::from(check("ima-modsig", &data, &keyring).is_ok());
        }
        // Versions, the list of hashes and names of algorithms are not signed, nor do they decide
        // anything: the key's own algorithm does.
        assert!(held < 8 * 40, "{held} changed bits went unnoticed");
        for len in 0..message.len() {
            let data = modsig("sha256", CONTENTS, &[], &message[..len]);
            assert!(check("ima-modsig", &data, &keyring).is_err(), "{len} bytes");
        }
    }
}

#[test]
fn what_is_no_detached_signature_says_why() {
    let signer = Signer::new(&["p256"]);
    let keyring = signer.keyring(&["p256"]);
    let why = |message: &[u8]| match check(
        "ima-modsig",
        &modsig("sha256", CONTENTS, &[], message),
        &keyring,
    ) {
        Err(SignatureError::Appended(why)) => why,
        other => panic!("{other:?}"),
    };
    assert_eq!(why(b"PKCS#7"), "it is not CMS in DER");
    let attached = append(
        &signer,
        "p256",
        "sha256",
        &["-noattr", "-nocerts", "-nodetach"],
    );
    assert_eq!(why(&attached), "it has contents of its own");
    let sha1 = append(&signer, "p256", "sha1", AS_SIGN_FILE);
    assert_eq!(why(&sha1), "its hash is not SHA-256, SHA-384 or SHA-512");
    let data = run(Command::new("openssl")
        .args(["cms", "-data_create", "-binary", "-outform", "DER", "-in"])
        .arg(signer.file("pump")));
    assert_eq!(why(&data), "it is CMS, but not SignedData");
    let sha512 = append(&signer, "p256", "sha512", AS_SIGN_FILE);
    let data = modsig("sha256", CONTENTS, &[], &sha512);
    assert_eq!(
        check("ima-modsig", &data, &keyring),
        Err(SignatureError::OtherDigest {
            signed: "sha512".into(),
            measured: "sha256".into()
        })
    );
}

proptest! {
    #[test]
    fn no_bytes_make_a_header_or_a_key_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..96),
        kind in 0u8..8,
    ) {
        let _ = SignatureHeader::parse(&[&[kind, 2, 4][..], &bytes].concat());
        let _ = check("ima-modsig", &modsig("sha256", CONTENTS, &[], &bytes), &Keyring::default());
        let _ = FileKey::from_der(&bytes);
        let _ = FileKey::from_der(&[&[0x30, bytes.len() as u8][..], &bytes].concat());
    }
}
