//! Samples in `tests/data`, and what is wrong with changed ones.

use std::fs;
use std::path::Path;

use mote_schemas::bootlog::{Guid, Signature};
use proptest::prelude::*;

use super::*;
use crate::manifest::{Attributes, DeviceTable, Exclusion, KeyVariable, Manifest};

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
fn a_keylime_policy_gives_its_files_and_exclusions_and_names_the_rest() {
    let imported = keylime::read(sample("keylime-policy.json").as_bytes()).unwrap();
    assert_eq!(
        sorted(imported.files.clone()),
        [
            file("/usr/bin/log", &[0xc]),
            file("/usr/bin/pump", &[0xa, 0xb])
        ]
    );
    let exclusion = Exclusion::new(&imported.exclusions).unwrap();
    for (path, excluded) in [
        ("/var/log/a/b", true),
        ("/var/logs", false),
        ("/tmp/x/y", true),
        ("/etc/mote.toml", true),
        ("/etc/mote.toml.bak", false),
        ("/etc/moteXtoml", false),
        ("/run/user", true),
        ("/run/user0/bus", true),
        ("/a/tmp/x", false),
    ] {
        assert_eq!(
            exclusion.matches(path.as_bytes()).is_some(),
            excluded,
            "{path}"
        );
    }
    let left_out = imported.left_out.join("\n");
    for says in ["1 digests that are not SHA-256", "1 digests of no file"] {
        assert!(left_out.contains(says), "{says} is not in\n{left_out}");
    }
    assert_eq!(imported.left_out.len(), 2);
    assert_eq!(imported.buffers.known, [file(".ima", &[0xa])]);
    assert_eq!(imported.buffers.unjudged_keyrings, [".evm"]);
    manifest(&imported);

    // Everything that Keylime's type has, and two members that it does not have yet.
    let text = sample("keylime-policy.json");
    let with = |from: &str, to: &str| {
        assert!(text.contains(from), "{from}");
        keylime::read(text.replace(from, to).as_bytes())
    };
    let full = with(
        "\"dm_policy\": null},",
        "\"dm_policy\": {\"version\": 1, \"match_on\": \"name\", \"rules\": {}}, \"fs_verity\": true}, \
         \"rules\": \"x\",",
    );
    let left_out = full.unwrap().left_out.join("\n");
    for says in ["$.ima.dm_policy.version", "$.ima.fs_verity", "$.rules"] {
        assert!(left_out.contains(says), "{says} is not in\n{left_out}");
    }
    let keys = with(
        "\"verification-keys\": \"\"",
        "\"verification-keys\": \"-----BEGIN\"",
    );
    assert!(keys.unwrap().left_out.join("\n").contains("--ima-key"));
    let error = with("\"log_hash_alg\": \"sha1\"", "\"log_hash_alg\": \"md5\"").unwrap_err();
    assert_eq!(error.at, "$.ima.log_hash_alg");
    let error = with("\"ima-buf\": {}", "\"ima-buf\": {\"/x\": []}").unwrap_err();
    assert_eq!(error.at, "$.ima-buf[\"/x\"]");
    assert!(error.what.contains("name of a buffer"), "{error}");
    let error = with(
        "\"keyrings\": {\".ima\": [",
        "\"keyrings\": {\".ima\": [7, ",
    )
    .unwrap_err();
    assert_eq!(error.at, "$.keyrings[\".ima\"][0]");
    let error = with("\"ignored_keyrings\": [", "\"ignored_keyrings\": [\"\", ").unwrap_err();
    assert_eq!(error.at, "$.ima.ignored_keyrings[0]");
    let error = with("\"digests\"", "\"hashes\"").unwrap_err();
    assert_eq!(error.at, "$.hashes");
    assert!(error.what.contains("keylime_convert_runtime_policy"));
}

type Change = fn(&mut serde_json::Value);

/// A device-mapper policy in Keylime's form.
fn device_mapper(rules: &serde_json::Value) -> Result<Imported, ConvertError> {
    let policy = serde_json::json!({
        "digests": {},
        "ima": {"dm_policy": {"match_on": "name", "rules": rules}},
    });
    keylime::read(policy.to_string().as_bytes())
}

#[test]
fn a_device_mapper_policy_gives_tables_and_names_what_is_not_judged() {
    let rule = serde_json::json!({
        "required": true,
        "device_resume_required": false,
        "device_rename": {"valid_name": "root", "valid_uuid": null},
        "device_remove": {"allow_removal": true},
        "allow_clear": false,
        "table_load": {
            "allow_multiple_loads": true,
            "name": "root\\.dm",
            "uuid": "CRYPT-VERITY-.*",
            "major": 253,
            "minor": null,
            "minor_count": 1,
            "num_targets": 1,
            "targets": [{"target_name": "verity", "root_digest": "ab12", "ignore_zero_blocks": false}],
        },
    });
    let imported = device_mapper(&serde_json::json!({"root": rule})).unwrap();
    let attributes = |pairs: &[(&str, &str)]| {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        pairs.iter().map(owned).collect::<Attributes>()
    };
    let table = DeviceTable {
        device: attributes(&[
            ("name", "root.dm"),
            ("uuid", "CRYPT-VERITY-*"),
            ("major", "253"),
            ("minor_count", "1"),
        ]),
        targets: vec![attributes(&[
            ("target_name", "verity"),
            ("root_digest", "ab12"),
            ("ignore_zero_blocks", "n"),
        ])],
        may_clear: false,
        may_remove: true,
        may_become: Some(("root".into(), "*".into())),
    };
    assert_eq!(imported.buffers.tables, [table]);
    let order =
        "$.ima.dm_policy.rules[\"root\"].required: the order of device-mapper events is not judged";
    assert_eq!(imported.left_out, [order]);
    manifest(&imported).with_buffers(imported.buffers).unwrap();

    // An expression that is no pattern leaves out its rule alone, and says which.
    let mut odd = rule.clone();
    odd["table_load"]["targets"][0]["root_digest"] = "(ab|cd)12".into();
    let imported = device_mapper(&serde_json::json!({"a": odd, "b": rule})).unwrap();
    assert_eq!(imported.buffers.tables.len(), 1);
    let left_out = imported.left_out.join("\n");
    assert!(
        left_out.contains("rules[\"a\"].table_load.targets[0].root_digest: cannot"),
        "{left_out}"
    );

    let changes: [(Change, &str); 5] = [
        (
            |rule| rule["table_load"]["num_targets"] = 2.into(),
            ".table_load.num_targets",
        ),
        (|rule| rule["required"] = "yes".into(), ".required"),
        (
            |rule| rule["table_load"]["minor"] = serde_json::json!([]),
            ".table_load.minor",
        ),
        (
            |rule| rule["table_load"]["targets"] = 1.into(),
            ".table_load.targets",
        ),
        (
            |rule| drop(rule.as_object_mut().unwrap().remove("table_load")),
            "",
        ),
    ];
    for (change, at) in changes {
        let mut wrong = rule.clone();
        change(&mut wrong);
        let error = device_mapper(&serde_json::json!({"root": wrong})).unwrap_err();
        assert_eq!(
            error.at,
            format!("$.ima.dm_policy.rules[\"root\"]{at}"),
            "{error}"
        );
    }
}

#[test]
fn what_keylime_gets_it_gives_back() {
    let buffers = BufferExpectations {
        known: vec![file(".ima", &[1]), file("kexec-cmdline", &[2, 3])],
        unjudged_keyrings: vec![".evm".to_owned()],
        tables: Vec::new(),
    };
    let of_buffers = manifest(&Imported::default())
        .with_buffers(buffers.clone())
        .unwrap();
    let (text, left_out) = keylime::write(&of_buffers).unwrap();
    assert_eq!(left_out, Vec::<String>::new());
    let back = keylime::read(text.as_bytes()).unwrap();
    let back = manifest(&back).with_buffers(back.buffers).unwrap();
    assert_eq!(back.buffers(), &buffers);
    let imported = Imported {
        files: vec![file("/usr/bin/a b", &[1]), file("/usr/bin/pump", &[2, 3])],
        exclusions: vec!["/etc/*.conf".to_owned(), "/var/log/**".to_owned()],
        ..Imported::default()
    };
    let (text, left_out) = keylime::write(&manifest(&imported)).unwrap();
    assert_eq!(left_out, Vec::<String>::new());
    let policy: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(policy["excludes"][0], "/etc/[^/]*\\.conf$");
    assert_eq!(policy["excludes"][1], "/var/log/.+$");
    assert_eq!(policy["meta"]["version"], 1);
    // As the kernel would log it.
    assert!(policy["digests"]["/usr/bin/a_b"].is_array());
    let mut without = policy.clone();
    without["excludes"] = serde_json::json!([]);
    let back = keylime::read(without.to_string().as_bytes()).unwrap();
    assert_eq!(
        sorted(back.files),
        [file("/usr/bin/a_b", &[1]), file("/usr/bin/pump", &[2, 3])]
    );
    let classes = Imported {
        exclusions: vec!["/x/{a,b}".to_owned()],
        ..imported
    };
    let error = keylime::write(&manifest(&classes)).unwrap_err();
    assert!(error.to_string().contains("/x/{a,b}"), "{error}");
}

#[test]
fn an_exclude_that_is_no_glob_is_refused_where_it_stands() {
    for (regex, what) in [
        ("/var/(log|tmp)/", "("),
        ("/dev/sd[ab]", "["),
        ("/x+", "+"),
        ("/a.*b", "*"),
        ("/a\\\\d", "\\d"),
        ("var/log", "begin with /"),
        ("/a\\\\", "backslash"),
    ] {
        let policy = format!("{{\"digests\": {{}}, \"excludes\": [\"/ok/\", \"{regex}\"]}}");
        let error = keylime::read(policy.as_bytes()).unwrap_err();
        assert_eq!(error.at, "$.excludes[1]", "{error}");
        assert!(error.what.contains(what), "{error}");
    }
}

#[test]
fn a_boot_reference_state_gives_what_must_be_started_and_names_the_rest() {
    let text = sample("mb-refstate.json");
    let imported = refstate::read(text.as_bytes()).unwrap();
    let boot = &imported.boot;
    assert!(boot.secure_boot);
    let bytes = |digests: &[mote_schemas::tpm::Digest]| -> Vec<u8> {
        digests.iter().map(|digest| digest.as_bytes()[0]).collect()
    };
    assert_eq!(bytes(&boot.applications), [0xaa, 0xbb, 0xcc]);
    assert_eq!(bytes(&boot.initrds), [0xdd]);
    assert_eq!(
        boot.command_lines,
        ["/boot/vmlinuz-6.1.0 root=UUID=* ro console=ttyS0"]
    );
    // Of PCR 0 nothing but this CRTM and firmware.
    assert_eq!(bytes(&boot.events[&0]), [0x11, 0x22]);
    // PK may hold this certificate, KEK and db nothing; of dbx nothing is demanded.
    let owner = Guid::parse("00000000-0000-0000-0000-000000000001").unwrap();
    let of = |kind, data| {
        let signature = Signature { kind, owner, data };
        FileDigest(signature.digest().as_bytes().try_into().unwrap())
    };
    let pk = of(Guid::CERT_X509, &[0x30, 0]);
    let allowed = [
        (KeyVariable::Pk, vec![pk]),
        (KeyVariable::Kek, vec![]),
        (KeyVariable::Db, vec![]),
    ];
    assert_eq!(boot.allowed_signatures, allowed.clone().into());
    assert!(boot.required_signatures.is_empty());
    // Of PCR 14 this list, and whether shim's keys are trusted, in each bank.
    assert_eq!(boot.events[&14].len(), 1 + 2 * 4);
    assert_eq!(boot.events[&14][0].as_bytes(), [0x33; 32]);
    assert_eq!(imported.left_out, [""; 0]);
    manifest(&imported).with_boot(boot.clone()).unwrap();

    let changed = |from: &str, to: &str| {
        assert!(text.contains(from));
        refstate::read(text.replace(from, to).as_bytes()).unwrap_err()
    };
    let error = changed("UUID=.* ro", "UUID=(a|b) ro");
    assert_eq!(error.at, "$.kernels[0].kernel_cmdline");
    let error = changed(&format!("0x{}", "d".repeat(64)), "0xdd");
    assert_eq!(error.at, "$.kernels[0].initrd_plain_sha256");
    assert_eq!(
        changed("\"kernels\"", "\"kernel\"").what,
        "has no \"kernels\""
    );
    let empty = refstate::read(b"{\"kernels\": []}").unwrap_err();
    assert!(empty.what.contains("nothing to convert"), "{empty}");
    let error = changed(&format!("0x{}", "2".repeat(64)), "0x22");
    assert_eq!(
        error.at,
        "$.scrtm_and_bios[0].platform_firmware[0][\"sha256\"]"
    );
    assert_eq!(
        changed("\"platform_firmware\"", "\"firmware\"").what,
        "has no \"platform_firmware\""
    );
    let error = changed("0-0000-000000000001", "0-000000000001");
    assert_eq!(error.at, "$.pk[0].SignatureOwner", "{error}");
    let error = changed("0x3000", "0x300");
    assert_eq!(error.at, "$.pk[0].SignatureData", "{error}");
    let error = changed("\"mokxdig\": []", "\"mokxdig\": [{\"sha1\": \"0x00\"}]");
    assert_eq!(error.at, "$.mokxdig[0][\"sha1\"]", "{error}");

    // dbx must hold digests of images, and certificates.
    let listed = format!(
        "\"dbx\": [{{\"SignatureOwner\": \"{owner}\", \"SignatureData\": \"0x{}\"}}, \
         {{\"SignatureOwner\": \"{owner}\", \"SignatureData\": \"0x3000\"}}]",
        "7".repeat(64)
    );
    let forbids = refstate::read(text.replace("\"dbx\": []", &listed).as_bytes()).unwrap();
    let required = [of(Guid::CERT_SHA256, &[0x77; 32]), pk];
    assert_eq!(
        forbids.boot.required_signatures,
        [(KeyVariable::Dbx, required.to_vec())].into()
    );
    assert_eq!(forbids.boot.allowed_signatures, allowed.into());
    manifest(&forbids).with_boot(forbids.boot).unwrap();

    // Without Secure Boot GRUB measures the kernel as a file, under another name.
    let off = text
        .replace(
            "{\n  \"scrtm",
            "{\n  \"has_secureboot\": false, \"vendor_db\": [{}],\n  \"scrtm",
        )
        .replace("kernel_authcode_sha256", "vmlinuz_plain_sha256")
        .replace(
            "\"kernel_cmdline\"",
            "\"shim_version\": 15, \"kernel_cmdline\"",
        );
    let off = refstate::read(off.as_bytes()).unwrap();
    assert!(!off.boot.secure_boot);
    assert_eq!(
        off.boot.allowed_signatures,
        [(KeyVariable::Pk, vec![pk])].into(),
        "without Secure Boot an empty list says nothing"
    );
    assert_eq!(bytes(&off.boot.applications), [0xaa, 0xbb]);
    assert_eq!(bytes(&off.boot.kernels), [0xcc]);
    let left_out = off.left_out.join("\n");
    for says in [
        "Secure Boot be off",
        "vendor_db",
        "$.kernels[0].shim_version",
    ] {
        assert!(left_out.contains(says), "{says} is not in\n{left_out}");
    }
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
