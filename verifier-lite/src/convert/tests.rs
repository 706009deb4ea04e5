//! Samples in `tests/data`, and what is wrong with changed ones.

use std::fs;
use std::path::Path;

use mote_schemas::bootlog::{Guid, Signature};
use proptest::prelude::*;

use super::*;
use crate::manifest::{Attributes, DeviceTable, Exclusion, KeyVariable, Manifest};

#[path = "tests/keylime.rs"]
mod of_keylime;

fn sample(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data")
        .join(name);
    fs::read_to_string(path).unwrap()
}

fn sha256(digit: u8) -> FileDigest {
    FileDigest([digit << 4 | digit; 32])
}

fn file(path: &str, digits: &[u8]) -> FileEntry {
    FileEntry {
        path: path.into(),
        digests: digits.iter().map(|digit| sha256(*digit)).collect(),
    }
}

/// `manifest build` does the same.
fn manifest(imported: &Imported) -> Manifest {
    Manifest::new(
        imported.name.as_deref().unwrap_or("edge"),
        imported.version.as_deref().unwrap_or("1.3"),
        None,
        imported.files.clone(),
        imported.exclusions.clone(),
        imported.pcrs.clone(),
    )
    .unwrap()
}

fn sorted(mut files: Vec<FileEntry>) -> Vec<FileEntry> {
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
}

#[test]
fn sboms_give_their_files_and_say_which_have_no_digest() {
    let files = [file("/usr/bin/log", &[0xb]), file("/usr/bin/pump", &[0xa])];
    let spdx = sbom::read(sample("image.spdx.json").as_bytes()).unwrap();
    assert_eq!(sorted(spdx.files.clone()), files);
    assert_eq!(spdx.name.as_deref(), Some("edge-image"));
    let left_out = [
        "1 files without a SHA-256 checksum",
        "1 packages, which are no files",
    ];
    assert_eq!(spdx.left_out, left_out);
    let cyclonedx = sbom::read(sample("image.cdx.json").as_bytes()).unwrap();
    assert_eq!(sorted(cyclonedx.files.clone()), files);
    assert_eq!(cyclonedx.version.as_deref(), Some("1.4"));
    let left_out = [
        "1 files without a SHA-256 hash",
        "1 components that are no files",
    ];
    assert_eq!(cyclonedx.left_out, left_out);
    let spdx3 = sbom::read(sample("image.spdx3.json").as_bytes()).unwrap();
    assert_eq!(sorted(spdx3.files.clone()), files);
    assert_eq!(spdx3.name.as_deref(), Some("edge-image"));
    let left_out = [
        "1 files without a sha256 hash",
        "1 files of source code",
        "1 packages, which are no files",
    ];
    assert_eq!(spdx3.left_out, left_out);
    for imported in [spdx, cyclonedx, spdx3] {
        manifest(&imported);
    }
}

#[test]
fn what_is_wrong_in_a_json_file_is_named_with_its_place() {
    type Read = fn(&[u8]) -> Result<Imported, ConvertError>;
    let keylime: Read = keylime::read;
    let sbom: Read = sbom::read;
    let hex = "ab".repeat(32);
    for (read, text, at, what) in [
        (keylime, "{\"digests\": {}", "line 1, column 14", "not JSON"),
        (keylime, "[]", "$", "has no \"digests\""),
        (keylime, "{\"digests\": []}", "$.digests", "not an object"),
        (
            keylime,
            "{\"digests\": {\"/a\": \"x\"}}",
            "$.digests[\"/a\"]",
            "not an array",
        ),
        (
            keylime,
            "{\"digests\": {\"/a\": [7]}}",
            "$.digests[\"/a\"][0]",
            "not a string",
        ),
        (
            keylime,
            "{\"digests\": {\"/a\": [\"sha256:12\"]}}",
            "$.digests[\"/a\"][0]",
            "64 hex",
        ),
        (
            keylime,
            "{\"digests\": {\"/a\": [\"zz\"]}}",
            "$.digests[\"/a\"][0]",
            "hexadecimal",
        ),
        (
            keylime,
            &format!("{{\"digests\": {{\"/a/../b\": [\"{hex}\"]}}}}"),
            "$.digests[\"/a/../b\"]",
            "path",
        ),
        (
            keylime,
            "{\"digests\": {}}",
            "$.digests",
            "nothing to convert",
        ),
        (
            keylime,
            "{\"payload\": \"x\", \"signatures\": []}",
            "$",
            "signed policy",
        ),
        (sbom, "{}", "$", "neither SPDX"),
        (
            sbom,
            "{\"spdxVersion\": \"SPDX-3.0\"}",
            "$.spdxVersion",
            "SPDX-2.3",
        ),
        (sbom, "{\"bomFormat\": \"x\"}", "$.bomFormat", "CycloneDX"),
        (sbom, "{\"@graph\": {}}", "$.@graph", "not an array"),
        (sbom, "{\"@graph\": [{}]}", "$.@graph[0]", "type"),
        (
            sbom,
            "{\"@graph\": [{\"type\": \"CreationInfo\", \"specVersion\": \"4.0\"}]}",
            "$.@graph[0].specVersion",
            "SPDX 3",
        ),
        (
            sbom,
            "{\"@graph\": [{\"type\": \"software_File\", \"name\": \"a\", \"verifiedUsing\": [{\"type\": \
             \"Hash\", \"algorithm\": \"sha256\", \"hashValue\": \"12\"}]}]}",
            "$.@graph[0].verifiedUsing[0].hashValue",
            "64 hex",
        ),
        (
            sbom,
            "{\"spdxVersion\": \"SPDX-2.3\", \"files\": [{}]}",
            "$.files[0]",
            "fileName",
        ),
        (
            sbom,
            "{\"spdxVersion\": \"SPDX-2.3\", \"files\": [{\"fileName\": \"a\", \"checksums\": [{\"algorithm\": \
             \"SHA256\", \"checksumValue\": \"12\"}]}]}",
            "$.files[0].checksums[0].checksumValue",
            "64 hex",
        ),
        (
            sbom,
            "{\"bomFormat\": \"CycloneDX\", \"components\": [{\"type\": \"file\", \"name\": \"../x\"}]}",
            "$.components[0].name",
            "inside",
        ),
    ] {
        let error = read(text.as_bytes()).unwrap_err();
        assert_eq!(error.at, at, "{text}: {error}");
        assert!(error.what.contains(what), "{text}: {error}");
    }
    // Bounded depth, not a stack overflow.
    assert!(sbom::read("[".repeat(100_000).as_bytes()).is_err());
}

/// A manifest with all that a CoRIM can say.
fn full() -> Imported {
    let mut pcrs = StaticPcrs::new();
    pcrs.entry(0x000B)
        .or_default()
        .insert(7, vec![vec![1; 32], vec![2; 32]]);
    pcrs.entry(0x000C).or_default().insert(4, vec![vec![3; 48]]);
    Imported {
        name: Some("edge".to_owned()),
        files: vec![file("/usr/bin/log", &[1]), file("/usr/bin/pump", &[2, 3])],
        pcrs,
        ..Imported::default()
    }
}

#[test]
fn a_corim_gives_back_files_and_pcrs() {
    let imported = full();
    let (bytes, left_out) = corim::write(&manifest(&imported));
    assert_eq!(left_out, Vec::<String>::new());
    // #6.501, a map of two.
    assert_eq!(bytes[..4], [0xd9, 0x01, 0xf5, 0xa2]);
    assert_eq!(corim::read(&bytes), Ok(imported.clone()));

    // Signed: COSE_Sign1 with that as its payload.
    let mut e = minicbor::Encoder::new(Vec::new());
    e.tag(minicbor::data::Tag::new(18))
        .unwrap()
        .array(4)
        .unwrap();
    e.bytes(&[0xa0])
        .unwrap()
        .map(0)
        .unwrap()
        .bytes(&bytes)
        .unwrap();
    let signed = e.bytes(&[0; 64]).unwrap().writer().clone();
    let read = corim::read(&signed).unwrap();
    assert_eq!((&read.files, &read.pcrs), (&imported.files, &imported.pcrs));
    assert_eq!(read.left_out, ["1 signature, which was not checked"]);

    let excluding = Imported {
        exclusions: vec!["/var/**".to_owned()],
        ..imported
    };
    let (_, left_out) = corim::write(&manifest(&excluding));
    assert_eq!(left_out, ["1 exclusions: reference values only"]);
}

/// A CoRIM as a firmware's maker writes it rather than we do: profile, validity, class id, vendor, svn,
/// digests named in words, a measurement by OID, an endorsement.
#[test]
fn what_a_corim_says_besides_is_named() {
    let mut e = minicbor::Encoder::new(Vec::new());
    let written: Result<(), minicbor::encode::Error<std::convert::Infallible>> = (|| {
        e.map(4)?.u8(0)?.str("en-GB")?;
        e.u8(1)?.map(1)?.u8(0)?.str("bl1")?;
        e.u8(3)?.array(1)?.map(2)?.u8(0)?.str("bl0")?.u8(1)?.u8(0)?;
        e.u8(4)?.map(2)?;
        e.u8(0)?.array(1)?.array(2)?;
        // Environment: class id (OID), vendor, model, layer; instance.
        e.map(2)?.u8(0)?.map(4)?;
        e.u8(0)?
            .tag(minicbor::data::Tag::new(111))?
            .bytes(&[0x2a, 3, 4])?;
        e.u8(1)?.str("ACME")?.u8(2)?.str("edge")?.u8(3)?.u8(0)?;
        e.u8(1)?
            .tag(minicbor::data::Tag::new(550))?
            .bytes(&[1; 7])?;
        e.array(3)?;
        // A file: svn, digests in words, one of another algorithm; an authority.
        e.map(3)?.u8(0)?.str("/lib/firmware/a")?;
        e.u8(1)?.map(2)?.u8(1)?.u8(5)?.u8(2)?.array(2)?;
        e.array(2)?.str("sha-256")?.bytes(&[0xaa; 32])?;
        e.array(2)?.u8(7)?.bytes(&[0xbb; 48])?;
        e.u8(2)?.array(0)?;
        // By OID: no file. A PCR in a bank that is known and in one that is not.
        e.map(2)?
            .u8(0)?
            .tag(minicbor::data::Tag::new(111))?
            .bytes(&[0x2a, 3])?;
        e.u8(1)?.map(1)?.u8(4)?.bytes(&[1])?;
        e.map(1)?.u8(1)?.map(1)?.u8(14)?.map(1)?.u8(7)?.array(2)?;
        e.array(2)?.u8(1)?.bytes(&[0xcc; 32])?;
        e.array(2)?.u8(12)?.bytes(&[0xdd; 64])?;
        // Endorsed triples.
        e.u8(1)?.array(0)?;
        Ok(())
    })();
    written.unwrap();
    let comid = e.into_writer();
    let mut e = minicbor::Encoder::new(Vec::new());
    let written: Result<(), minicbor::encode::Error<std::convert::Infallible>> = (|| {
        e.tag(minicbor::data::Tag::new(501))?
            .map(4)?
            .u8(0)?
            .str("bl1")?;
        e.u8(1)?
            .array(1)?
            .tag(minicbor::data::Tag::new(506))?
            .bytes(&comid)?;
        e.u8(3)?
            .tag(minicbor::data::Tag::new(32))?
            .str("http://a.example/1")?;
        e.u8(4)?
            .map(1)?
            .u8(1)?
            .tag(minicbor::data::Tag::new(1))?
            .u32(1_900_000_000)?;
        Ok(())
    })();
    written.unwrap();
    let imported = corim::read(&e.into_writer()).unwrap();
    assert_eq!(imported.name.as_deref(), Some("edge"));
    assert_eq!(imported.files, [file("/lib/firmware/a", &[0xa])]);
    assert_eq!(imported.pcrs[&0x000B][&7], [vec![0xcc; 32]]);
    let left_out = imported.left_out.join("\n");
    for says in [
        "profile",
        "validity",
        "1 list of linked tags",
        "class id, vendor, layer, instance of the environment",
        "svn, authority, 1 digests that are not SHA-256 of the measurement",
        "1 measurement of no file",
        "raw value of the measurement",
        "1 registers of other algorithms of the measurement",
        "1 kinds of triples that are no reference triples",
    ] {
        assert!(left_out.contains(says), "{says} is not in\n{left_out}");
    }
    // What came in goes out again.
    let (bytes, left_out) = corim::write(&manifest(&imported));
    assert_eq!(left_out, Vec::<String>::new());
    let again = corim::read(&bytes).unwrap();
    assert_eq!((again.files, again.pcrs), (imported.files, imported.pcrs));
    assert_eq!(again.left_out, Vec::<String>::new());
}

#[test]
fn a_damaged_corim_is_refused_with_its_offset() {
    let (bytes, _) = corim::write(&manifest(&full()));
    for len in 0..bytes.len() {
        let error = corim::read(&bytes[..len]).unwrap_err();
        assert!(error.at.starts_with("offset "), "{len}: {error}");
    }
    let trailing = [&bytes[..], &[0]].concat();
    let error = corim::read(&trailing).unwrap_err();
    assert_eq!(error.at, format!("offset {}", bytes.len()));
    assert_eq!(corim::read(b"{}").unwrap_err().at, "offset 0");
    // A digest that is one byte short.
    let short = bytes
        .windows(3)
        .position(|window| window == [0x82, 1, 0x58])
        .unwrap();
    let mut changed = bytes.clone();
    changed[short + 1] = 7;
    let error = corim::read(&changed).unwrap_err();
    assert_eq!(error.at, format!("offset {}", short + 2), "{error}");
}

proptest! {
    #[test]
    fn no_bytes_make_a_converter_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        let _ = corim::read(&[&[0xd9, 0x01, 0xf5][..], &bytes].concat());
        let _ = keylime::read(&bytes);
        let _ = sbom::read(&bytes);
        let _ = refstate::read(&bytes);
    }

    #[test]
    fn no_changed_byte_of_a_sample_makes_a_converter_panic(at in any::<prop::sample::Index>(), to in any::<u8>()) {
        let (boot, keylime) = ("mb-refstate.json", "keylime-policy.json");
        for name in [boot, keylime, "image.spdx.json", "image.spdx3.json", "image.cdx.json"] {
            let mut bytes = sample(name).into_bytes();
            let at = at.index(bytes.len());
            bytes[at] = to;
            let read = match name {
                _ if name == boot => refstate::read(&bytes),
                _ if name == keylime => keylime::read(&bytes),
                _ => sbom::read(&bytes),
            };
            if let Err(error) = read {
                prop_assert!(!error.at.is_empty() && !error.what.is_empty());
            }
        }
    }
}
