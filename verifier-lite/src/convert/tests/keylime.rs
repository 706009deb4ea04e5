//! Runtime policies and measured-boot reference states.

use super::*;
use crate::convert::keylime;

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
    let of_all = "1 device-mapper rules' demands on the order of events";
    assert!(imported.left_out[0].starts_with(of_all));
    assert_eq!(imported.left_out[1..], [order]);
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
