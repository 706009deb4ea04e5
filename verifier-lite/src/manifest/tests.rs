use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use bstr::ByteSlice;
use mote_schemas::tpm::{Digest, HashAlg};
use proptest::prelude::*;

use super::build::{BuildError, Quiet, hash_rootfs};
use super::*;
use crate::signing_key::SigningKey;
use crate::test_util::TempDir;

#[path = "tests/buffers.rs"]
mod of_buffers;

use of_buffers::with_buffers;

fn key(dir: &TempDir, name: &str) -> SigningKey {
    SigningKey::create(&dir.path().join(name)).unwrap()
}

fn file(path: &str, contents: u8) -> FileEntry {
    FileEntry {
        path: path.into(),
        digests: vec![FileDigest([contents; 32])],
    }
}

fn manifest(version: &str, files: Vec<FileEntry>, exclusions: &[&str]) -> Manifest {
    let exclusions = exclusions.iter().map(ToString::to_string).collect();
    Manifest::new("edge", version, None, files, exclusions, StaticPcrs::new()).unwrap()
}

fn full() -> Manifest {
    let values = [(0, vec![vec![1; 32], vec![2; 32]]), (7, vec![vec![3; 32]])];
    Manifest::new(
        "edge",
        "1.3",
        Some(1_700_000_000),
        vec![file("/b", 2), file("/a", 1), file("/b", 1)],
        vec!["/var/**".into(), "/tmp/*".into()],
        StaticPcrs::from([(0x000B, values.into())]),
    )
    .unwrap()
}

/// Every expectation there is.
fn with_boot() -> Manifest {
    let digest = |n, alg: HashAlg| Digest::new(alg, &vec![n; alg.digest_len()]).unwrap();
    full()
        .with_boot(BootExpectations {
            secure_boot: true,
            keys: KeyVariable::ALL
                .map(|key| (key, vec![FileDigest([2; 32]), FileDigest([1; 32])]))
                .into(),
            applications: vec![digest(2, HashAlg::Sha256), digest(3, HashAlg::Sha1)],
            kernels: vec![digest(4, HashAlg::Sha384)],
            initrds: vec![digest(5, HashAlg::Sha512), digest(5, HashAlg::Sha512)],
            command_lines: vec!["root=* quiet".into(), "quiet".into()],
            events: [(5, vec![digest(6, HashAlg::Sha256)])].into(),
            allowed_signatures: [
                (
                    KeyVariable::Db,
                    vec![FileDigest([4; 32]), FileDigest([3; 32])],
                ),
                (KeyVariable::Kek, vec![]),
            ]
            .into(),
            required_signatures: [(KeyVariable::Dbx, vec![FileDigest([5; 32])])].into(),
        })
        .unwrap()
}

/// What is written is read again, no other bytes are it, and no part of them is any.
fn assert_one_spelling(made: &Manifest) {
    let bytes = codec::encode(made);
    assert_eq!(codec::decode(&bytes).unwrap(), *made);
    for changed in 0..bytes.len() {
        let mut other = bytes.clone();
        other[changed] ^= 1;
        if let Ok(read) = codec::decode(&other) {
            assert_ne!(read, *made, "byte {changed}");
        }
        assert!(codec::decode(&bytes[..changed]).is_err());
    }
}

#[test]
fn boot_expectations_are_written_in_one_way_and_read_again() {
    let made = with_boot();
    assert_one_spelling(&made);
    assert_eq!(made.boot().initrds.len(), 1, "nothing twice");
    assert_eq!(made.boot().command_lines, ["quiet", "root=* quiet"]);
    // Nothing expected is no entry.
    assert_eq!(
        full().with_boot(BootExpectations::default()).unwrap(),
        full()
    );
}

#[test]
fn boot_expectations_that_no_boot_could_meet_are_refused() {
    let digest = Digest::new(HashAlg::Sha256, &[1; 32]).unwrap();
    for boot in [
        BootExpectations {
            command_lines: vec![String::new()],
            ..BootExpectations::default()
        },
        BootExpectations {
            command_lines: vec!["a\nb".into()],
            ..BootExpectations::default()
        },
        BootExpectations {
            events: [(24, vec![digest])].into(),
            ..BootExpectations::default()
        },
        BootExpectations {
            events: [(5, vec![])].into(),
            ..BootExpectations::default()
        },
        BootExpectations {
            keys: [(KeyVariable::Db, vec![])].into(),
            ..BootExpectations::default()
        },
        BootExpectations {
            required_signatures: [(KeyVariable::Dbx, vec![])].into(),
            ..BootExpectations::default()
        },
    ] {
        let error = full().with_boot(boot).unwrap_err();
        assert!(matches!(error.fault(), Fault::BadBoot(_)), "{error}");
    }
}

fn refused(manifest: &[u8]) -> ManifestError {
    codec::decode(manifest).expect_err("must be refused")
}

#[test]
fn what_is_encoded_decodes_to_the_same() {
    let full = full();
    assert_eq!(codec::decode(&codec::encode(&full)).unwrap(), full);
    let paths: Vec<_> = full.files().iter().map(|f| f.path.to_string()).collect();
    assert_eq!(paths, ["/a", "/b"], "sorted and merged");
    assert_eq!(full.files()[1].digests.len(), 2);
}

#[test]
fn a_signed_manifest_is_reproducible_and_verifies_with_its_key_only() {
    let dir = TempDir::new("manifest");
    let (ours, other) = (key(&dir, "ours"), key(&dir, "other"));
    let bytes = sign(&full(), &ours).unwrap();
    assert_eq!(bytes, sign(&full(), &ours).unwrap());

    let signed = SignedManifest::parse(&bytes).unwrap();
    let trusted = [other.public_key().clone(), ours.public_key().clone()];
    let verified = signed.verify(&trusted).unwrap();
    assert_eq!(verified.manifest(), &full());
    assert_eq!(verified.key_id(), ours.public_key().key_id());

    let error = signed.verify(&trusted[..1]).unwrap_err();
    assert!(matches!(error.fault(), Fault::UnknownSigner(id) if *id == verified.key_id()));
    assert!(matches!(
        signed.verify(&[]).unwrap_err().fault(),
        Fault::UnknownSigner(_)
    ));
}

#[test]
fn every_flipped_bit_and_every_truncation_is_refused() {
    let dir = TempDir::new("manifest");
    let key = key(&dir, "key");
    let trusted = [key.public_key().clone()];
    let small = manifest("1", vec![file("/bin/true", 7)], &[]);
    let bytes = sign(&small, &key).unwrap();
    let accepted = |bytes: &[u8]| SignedManifest::parse(bytes).and_then(|m| m.verify(&trusted));
    accepted(&bytes).unwrap();
    for bit in 0..8 * bytes.len() {
        let mut changed = bytes.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(accepted(&changed).is_err(), "bit {bit}");
    }
    for length in 0..bytes.len() {
        let error = accepted(&bytes[..length]).unwrap_err();
        assert!(
            matches!(error.fault(), Fault::Truncated),
            "{length}: {error}"
        );
    }
    let longer = [&bytes[..], &[0]].concat();
    let error = accepted(&longer).unwrap_err();
    assert!(matches!(error.fault(), Fault::TrailingBytes), "{error}");
    assert_eq!(error.offset(), Some(bytes.len() as u64));
}

#[test]
fn a_forged_key_id_is_a_wrong_signature() {
    let dir = TempDir::new("manifest");
    let (ours, other) = (key(&dir, "ours"), key(&dir, "other"));
    let bytes = sign(&full(), &ours).unwrap();
    let from = ours.public_key().key_id();
    let at = bytes.find(from).unwrap();
    let mut forged = bytes.clone();
    forged[at..at + 8].copy_from_slice(&other.public_key().key_id());
    let error = SignedManifest::parse(&forged)
        .unwrap()
        .verify(&[other.public_key().clone()])
        .unwrap_err();
    assert!(matches!(error.fault(), Fault::WrongSignature), "{error}");
}

#[test]
fn another_kind_of_signed_object_is_not_a_manifest() {
    let dir = TempDir::new("manifest");
    let mut bytes = sign(&full(), &key(&dir, "key")).unwrap();
    let at = bytes.find("vnd.mote.manifest").unwrap();
    bytes[at + 16] = b'x';
    let error = SignedManifest::parse(&bytes).unwrap_err();
    assert!(matches!(error.fault(), Fault::AnotherKind(_)), "{error}");
}

/// `full()` with one stretch of its bytes replaced; where that was.
fn patched(find: &[u8], replace: &[u8]) -> (Vec<u8>, u64) {
    let bytes = codec::encode(&full());
    let at = bytes.find(find).unwrap();
    let rest = &bytes[at + find.len()..];
    ([&bytes[..at], replace, rest].concat(), at as u64)
}

#[test]
fn each_malformation_is_named_with_its_offset() {
    // Keys 1 (format) and 2 (name) of an 8-key map.
    let (bytes, at) = patched(&[0x01, 0x01, 0x02, 0x64], &[0x01, 0x02, 0x02, 0x64]);
    let error = refused(&bytes);
    assert!(
        matches!(error.fault(), Fault::UnsupportedFormat(2)),
        "{error}"
    );
    assert_eq!(error.offset(), Some(at + 1));

    let (bytes, at) = patched(&[0x01, 0x01, 0x02, 0x64], &[0x01, 0x01, 0x01, 0x64]);
    let error = refused(&bytes);
    assert!(matches!(error.fault(), Fault::DuplicateKey(1)), "{error}");
    assert_eq!(error.offset(), Some(at + 2));

    // 1 in two bytes instead of one.
    let (bytes, at) = patched(&[0x01, 0x01, 0x02, 0x64], &[0x01, 0x18, 0x01, 0x02, 0x64]);
    let error = refused(&bytes);
    assert!(matches!(error.fault(), Fault::NotCanonical), "{error}");
    assert_eq!(error.offset(), Some(at + 1));

    let (bytes, at) = patched(&[0x02, 0x64], &[0x02, 0x44]);
    let error = refused(&bytes);
    assert!(
        matches!(error.fault(), Fault::Expected("a name (text)")),
        "{error}"
    );
    assert_eq!(error.offset(), Some(at + 1));

    // An indefinite-length list of files; -16 is 0x2F.
    let (bytes, at) = patched(&[0x05, 0x2F, 0x06, 0x82], &[0x05, 0x2F, 0x06, 0x9F]);
    let error = refused(&bytes);
    assert!(matches!(error.fault(), Fault::NotCanonical), "{error}");
    assert_eq!(error.offset(), Some(at + 3));

    let (bytes, _) = patched(&[0x05, 0x2F, 0x06, 0x82], &[0x05, 0x2B, 0x06, 0x82]);
    assert!(matches!(
        refused(&bytes).fault(),
        Fault::UnsupportedHash(-12)
    ));

    let (bytes, _) = patched(b"\x42/a", b"\x42/c");
    assert!(matches!(refused(&bytes).fault(), Fault::UnsortedPath(p) if p == "/b"));
    let (bytes, _) = patched(b"\x42/a", b"\x42/b");
    assert!(matches!(refused(&bytes).fault(), Fault::DuplicatePath(p) if p == "/b"));
    let (bytes, _) = patched(b"\x42/a", b"\x42.a");
    assert!(matches!(refused(&bytes).fault(), Fault::BadPath(..)));

    let (bytes, at) = patched(&[&[0x58, 0x20][..], &[1; 32]].concat(), &[0x41, 0x01]);
    let error = refused(&bytes);
    assert!(
        matches!(error.fault(), Fault::BadDigestLength(_, 1)),
        "{error}"
    );
    assert_eq!(error.offset(), Some(at));

    let two = [&[0x58, 0x20][..], &[1; 32], &[0x58, 0x20], &[2; 32]].concat();
    let same = [&[0x58, 0x20][..], &[2; 32], &[0x58, 0x20], &[2; 32]].concat();
    let (bytes, _) = patched(
        &[b"\x42/b", &two[..]].concat(),
        &[b"\x42/b", &same[..]].concat(),
    );
    assert!(matches!(refused(&bytes).fault(), Fault::UnsortedDigests(p) if p == "/b"));

    let (bytes, _) = patched(b"\x66/tmp/*", b"\x66/tmp/[");
    assert!(matches!(refused(&bytes).fault(), Fault::BadGlob(..)));

    // An array that claims four billion files.
    let (bytes, at) = patched(
        &[0x05, 0x2F, 0x06, 0x82],
        &[5, 0x2F, 6, 0x9A, 255, 255, 255, 255],
    );
    let error = refused(&bytes);
    assert!(matches!(error.fault(), Fault::Truncated), "{error}");
    assert_eq!(error.offset(), Some(at + 3));
}

const CDDL: &str = include_str!("../../../cbor-schemas/cddl/manifest.cddl");

#[test]
fn the_cddl_fits_what_is_written_and_refuses_what_is_malformed() {
    let valid = |rule: &str, bytes: &[u8]| cddl_cat::validate_cbor_bytes(rule, CDDL, bytes);
    let dir = TempDir::new("manifest");
    let key = key(&dir, "key");
    for made in [
        full(),
        with_boot(),
        with_buffers(),
        manifest("1", vec![], &[]),
        manifest("1", vec![file("/a", 1)], &["/b"]),
    ] {
        let signed = sign(&made, &key).unwrap();
        assert_eq!(signed[0], 0xD2, "tag 18");
        valid("signed-manifest", &signed[1..]).unwrap();
        valid("manifest", &codec::encode(&made)).unwrap();
    }
    let digest = [&[0x58, 0x20][..], &[1; 32]].concat();
    let two = [digest.clone(), [&[0x58, 0x20][..], &[2; 32]].concat()].concat();
    let value = [&[0x07, 0x81, 0x58, 0x20][..], &[3; 32]].concat();
    let name = [&[0x02, 0x78, 0x81][..], &[b'x'; 129]].concat();
    for (find, replace) in [
        // Format 2; a name that is no text; one that is empty; one that is too long.
        (&[0x01, 0x01, 0x02, 0x64][..], &[0x01, 0x02, 0x02, 0x64][..]),
        (b"\x02\x64edge", b"\x02\x44edge"),
        (b"\x02\x64edge", b"\x02\x60"),
        (b"\x02\x64edge", &name),
        // SHA-256/64 instead of SHA-256; an unknown key; a digest of one byte; a file without any.
        (&[0x05, 0x2F, 0x06, 0x82], &[0x05, 0x2E, 0x06, 0x82]),
        (&[0x05, 0x2F], &[0x0A, 0x2F]),
        (&digest, &[0x41, 0x01]),
        (&[b"\x83\x42/b", &two[..]].concat(), b"\x81\x42/b"),
        // An exclusion that is no text; PCR 24; a PCR without values; bank SM3.
        (b"\x66/tmp/*", b"\x46/tmp/*"),
        (&value, &[&[0x18, 0x18], &value[1..]].concat()),
        (&value, &[0x07, 0x80]),
        (&[0x08, 0xA1, 0x0B], &[0x08, 0xA1, 0x12]),
    ] {
        let (bytes, at) = patched(find, replace);
        assert!(
            valid("manifest", &bytes).is_err(),
            "CDDL, byte {at}: {replace:02x?}"
        );
        refused(&bytes);
    }
}

#[test]
fn an_oversize_manifest_is_refused_and_named() {
    let dir = TempDir::new("manifest");
    let path = dir.path().join("big.mote");
    fs::File::create(&path)
        .unwrap()
        .set_len(MAX_MANIFEST as u64 + 1)
        .unwrap();
    let error = SignedManifest::read(&path).unwrap_err();
    assert!(matches!(error.fault(), Fault::Oversize(_)));
    assert!(error.to_string().contains("big.mote"), "{error}");
}

#[test]
fn labels_and_pcr_values_that_nothing_could_use_are_refused() {
    for name in ["", "a\nb", &"x".repeat(MAX_LABEL + 1)] {
        let made = Manifest::new(name, "1", None, vec![], vec![], StaticPcrs::new());
        assert!(matches!(made.unwrap_err().fault(), Fault::BadLabel("name")));
    }
    for (pcr, values) in [(24, vec![vec![0; 32]]), (0, vec![vec![0; 20]]), (0, vec![])] {
        let pcrs = StaticPcrs::from([(0x000B, [(pcr, values)].into())]);
        let made = Manifest::new("edge", "1", None, vec![], vec![], pcrs);
        assert!(matches!(made.unwrap_err().fault(), Fault::BadPcr));
    }
}

fn write(root: &Path, name: &str, contents: &str) {
    let path = root.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, contents).unwrap();
}

#[test]
fn a_root_file_system_gives_its_regular_files_and_nothing_else() {
    let dir = TempDir::new("rootfs");
    let root = dir.path();
    write(root, "usr/bin/ls", "ls");
    write(root, ".hidden", "");
    write(root, "opt/proc/inside", "counts");
    write(root, "proc/cpuinfo", "not of the image");
    write(root, "run", "a file called run");
    write(root, "var/log/old", "excluded");
    symlink("ls", root.join("usr/bin/dir")).unwrap();
    symlink("/", root.join("loop")).unwrap();
    fs::hard_link(root.join("usr/bin/ls"), root.join("usr/bin/vdir")).unwrap();
    let odd = std::ffi::OsStr::from_bytes(b"\xFF\n");
    fs::write(root.join(odd), "odd").unwrap();

    let exclusions = vec!["/var/**".to_owned()];
    let hash = || hash_rootfs(root, &exclusions, &Quiet).unwrap();
    let make = |files| {
        let none = StaticPcrs::new();
        Manifest::new("edge", "1", None, files, exclusions.clone(), none).unwrap()
    };
    let listed = make(hash());
    let paths: Vec<&[u8]> = listed.files().iter().map(|f| f.path.as_slice()).collect();
    let expected: [&[u8]; 6] = [
        b"/.hidden",
        b"/opt/proc/inside",
        b"/run",
        b"/usr/bin/ls",
        b"/usr/bin/vdir",
        b"/\xFF\n",
    ];
    assert_eq!(paths, expected);
    assert_eq!(
        listed.files()[0].digests[0].to_string(),
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    );
    assert_eq!(listed.files()[3].digests, listed.files()[4].digests);
    assert_eq!(codec::encode(&listed), codec::encode(&make(hash())));
}

#[test]
fn what_cannot_be_hashed_is_named() {
    let dir = TempDir::new("rootfs");
    let root = dir.path().join("rootfs");
    let error = hash_rootfs(&root, &[], &Quiet).unwrap_err();
    assert!(matches!(error, BuildError::NotADirectory(p) if p == root));
    fs::create_dir(&root).unwrap();
    let error = hash_rootfs(&root, &[], &Quiet).unwrap_err();
    assert!(matches!(error, BuildError::Empty(p) if p == root));
    write(&root, "secret", "x");
    let secret = root.join("secret");
    fs::set_permissions(&secret, PermissionsExt::from_mode(0o000)).unwrap();
    // Root reads everything.
    if fs::File::open(&secret).is_err() {
        let error = hash_rootfs(&root, &[], &Quiet).unwrap_err();
        assert!(matches!(error, BuildError::Unreadable(p, _) if p == secret));
    }
}

fn verified(dir: &TempDir, manifest: &Manifest) -> VerifiedManifest {
    let key = key(dir, &manifest.label());
    let bytes = sign(manifest, &key).unwrap();
    let signed = SignedManifest::parse(&bytes).unwrap();
    signed.verify(&[key.public_key().clone()]).unwrap()
}

#[test]
fn several_manifests_answer_by_path_and_by_digest() {
    let dir = TempDir::new("reference");
    let old = verified(
        &dir,
        &manifest("1.3", vec![file("/a", 1), file("/b", 2)], &["/tmp/*"]),
    );
    let new = verified(
        &dir,
        &manifest("1.4", vec![file("/a", 3), file("/b", 2)], &["/var/**"]),
    );
    let values = ReferenceValues::new([&old, &new]).unwrap();
    assert_eq!(values.manifests(), ["edge-1.3", "edge-1.4"]);
    assert_eq!(values.len(), 4);

    let known = |path: &str, digest| match values.check(path.as_bytes(), &FileDigest([digest; 32]))
    {
        Match::Known(reference) => reference.manifest.to_owned(),
        other => panic!("{path}: {other:?}"),
    };
    assert_eq!(known("/a", 1), "edge-1.3");
    assert_eq!(known("/a", 3), "edge-1.4");
    assert_eq!(known("/b", 2), "edge-1.3");

    let Match::Modified(expected) = values.check(b"/a", &FileDigest([2; 32])) else {
        panic!("/a is listed");
    };
    let expected: Vec<_> = expected
        .iter()
        .map(|r| (r.digest.0[0], r.manifest))
        .collect();
    assert_eq!(expected, [(1, "edge-1.3"), (3, "edge-1.4")]);

    let Match::Unknown(elsewhere) = values.check(b"/evil", &FileDigest([2; 32])) else {
        panic!("/evil is not listed");
    };
    assert_eq!(elsewhere.len(), 2);
    assert!(elsewhere.iter().all(|r| r.path == "/b"));
    assert_eq!(
        values.check(b"/evil", &FileDigest([9; 32])),
        Match::Unknown(vec![])
    );
    assert_eq!(
        values.check(b"/tmp/x", &FileDigest([9; 32])),
        Match::Excluded("/tmp/*")
    );
    assert_eq!(
        values.check(b"/tmp/x/y", &FileDigest([9; 32])),
        Match::Unknown(vec![])
    );
    assert_eq!(
        values.check(b"/var/x/y", &FileDigest([9; 32])),
        Match::Excluded("/var/**")
    );
    assert!(ReferenceValues::new([]).unwrap().is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_manifest_survives_encoding_and_any_flipped_byte_is_another_or_none(
        files in prop::collection::vec(
            (prop::collection::vec(1u8..=255, 0..20), any::<[u8; 32]>()), 0..20),
        position in any::<prop::sample::Index>(),
        flip in 1u8..=255,
    ) {
        let files = files
            .into_iter()
            .map(|(path, digest)| FileEntry {
                path: [b"/", path.as_slice()].concat().into(),
                digests: vec![FileDigest(digest)],
            })
            .collect();
        let made = manifest("1", files, &[]);
        let mut bytes = codec::encode(&made);
        prop_assert_eq!(&codec::decode(&bytes).unwrap(), &made);
        let at = position.index(bytes.len());
        bytes[at] ^= flip;
        // The payload alone has no signature: a changed byte may be another manifest, never the same.
        if let Ok(other) = codec::decode(&bytes) {
            prop_assert_ne!(&other, &made);
            prop_assert_eq!(codec::encode(&other), bytes);
        }
    }

    #[test]
    fn no_input_is_more_than_refused(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        position in any::<prop::sample::Index>(),
    ) {
        let _ = SignedManifest::parse(&bytes);
        let _ = codec::decode(&bytes);
        // Nonsense in the middle of sense gets further.
        let sound = codec::encode(&full());
        let at = position.index(sound.len());
        let _ = codec::decode(&[&sound[..at], &bytes[..]].concat());
    }

    #[test]
    fn the_index_agrees_with_a_linear_search(
        files in prop::collection::vec((0u8..8, 0u8..8), 0..40),
        path in 0u8..8,
        digest in 0u8..8,
    ) {
        let dir = TempDir::new("reference");
        let entries = files.iter().map(|(p, d)| file(&format!("/{p}"), *d)).collect();
        let values = ReferenceValues::new([&verified(&dir, &manifest("1", entries, &[]))]).unwrap();
        let count = |keep: &dyn Fn(u8, u8) -> bool| {
            let mut hits: Vec<_> = files.iter().filter(|(p, d)| keep(*p, *d)).collect();
            hits.sort_unstable();
            hits.dedup();
            hits.len()
        };
        let digest_of = FileDigest([digest; 32]);
        let text = format!("/{path}");
        let same_path = count(&|p, _| p == path);
        prop_assert_eq!(values.with_path(text.as_bytes()).count(), same_path);
        prop_assert_eq!(values.with_digest(&digest_of).count(), count(&|_, d| d == digest));
        match values.check(text.as_bytes(), &digest_of) {
            Match::Known(r) => {
                prop_assert_eq!((r.path, r.digest), (bstr::BStr::new(&text), digest_of));
            }
            Match::Modified(list) => {
                prop_assert!(!files.contains(&(path, digest)));
                prop_assert_eq!(list.len(), same_path);
            }
            Match::Unknown(_) => prop_assert_eq!(same_path, 0),
            Match::Excluded(_) => prop_assert!(false, "nothing is excluded"),
        }
    }
}
