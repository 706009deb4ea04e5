//! What a boot event log proves, and what manifests say about it: on logs recorded from real firmware.

mod signatures;

use std::collections::BTreeMap;

use crate::device::{Device, Pcrs};
use mote_schemas::bootlog::{BootLog, BootPcrs};
use mote_schemas::message::Tier;
use mote_schemas::reason::Reason;
use mote_schemas::tpm::{BankSelection, Digest, HashAlg, PcrSelection, hash};
use mote_verifier::boot::{BootAppraisal, BootLogMismatch, CertifiedBootLog, Deviation, appraise};
use mote_verifier::manifest::{
    BootExpectations, BootReference, FileDigest, KeyVariable, StaticPcrs,
};
use mote_verifier::prefix::{CertifiedPrefix, LogState, Outcome, PendingLog};
use mote_verifier::store::Record;

use crate::common::unhex;

macro_rules! ovmf {
    ($name:literal) => {
        include_bytes!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../tests/data/ovmf-amd64/",
            $name
        ))
    };
}
const SECURE: (&[u8], &str) = (
    ovmf!("secureboot-uki/binary_bios_measurements"),
    include_str!("../../../tests/data/ovmf-amd64/secureboot-uki/pcrs.txt"),
);
const DIRECT: (&[u8], &str) = (
    ovmf!("direct/binary_bios_measurements"),
    include_str!("../../../tests/data/ovmf-amd64/direct/pcrs.txt"),
);

const KERNEL: &str = "3d616aa853fe11b1c0ea99a1cdb4fb6ddc9010ba7c4562de700ad94264989654";
const INITRD: &str = "9f322a419d76fdb88fe96eb300363cb1c3b9d8d7482ab2d9d79e8250afc51326";
const UKI: &str = "1f88460932a2bb0b23caedaea326cdd627a05bb76b53c7fc21187fc7bc675688";
const CMDLINE: &str =
    "console=ttyS0 panic=-1 rootfstype=ramfs ima_policy=tcb ima_hash=sha256 quiet";

/// `sha256:0-12`, and the same of other banks.
const MASK: u32 = 0x1FFF;

fn sha256(hex: &str) -> Digest {
    Digest::new(HashAlg::Sha256, &unhex(hex)).unwrap()
}

fn pcrs(text: &str) -> Pcrs {
    text.lines()
        .map(|line| {
            let words: Vec<_> = line.split_whitespace().collect();
            let bank = HashAlg::from_name(words[0]).unwrap();
            let value = Digest::new(bank, &unhex(&words[2].to_lowercase())).unwrap();
            ((bank, words[1].parse().unwrap()), value)
        })
        .collect()
}

/// These PCRs, certified by a quote over `mask` of each of `banks`.
fn prefix_of(values: &Pcrs, banks: &[HashAlg], mask: u32) -> CertifiedPrefix {
    let mut selection = PcrSelection::EMPTY;
    for bank in banks {
        selection
            .push(BankSelection::new(*bank, mask).unwrap())
            .unwrap();
    }
    let boot: Pcrs = values
        .iter()
        .filter(|((bank, pcr), _)| banks.contains(bank) && mask >> pcr & 1 == 1)
        .map(|(key, value)| (*key, *value))
        .collect();
    let mut device = Device::new(selection, &boot);
    let record = Record {
        template: "ima-ng".into(),
        data: vec![1],
        pcr: 10,
        violation: false,
    };
    device.extend(&record);
    let mut pending = PendingLog::new(LogState::at_boot());
    pending.append(0, [record]).unwrap();
    let claims = device.pcrs.clone();
    match pending.certify(&device.quote(), &claims, true) {
        Ok(Outcome::Certified(certified)) => certified.prefix().clone(),
        other => panic!("not certified: {other:?}"),
    }
}

fn prefix(text: &str) -> CertifiedPrefix {
    prefix_of(&pcrs(text), &[HashAlg::Sha256], MASK)
}

fn reference(label: &str, expectations: BootExpectations) -> BootReference {
    BootReference {
        manifest: label.to_owned(),
        pcrs: StaticPcrs::new(),
        expectations,
    }
}

/// All that is known about the recorded secure boot.
fn whole() -> BootExpectations {
    let log = BootLog::parse(SECURE.0).unwrap();
    let keys = KeyVariable::ALL.map(|key| {
        let value = log
            .events()
            .filter_map(|event| mote_schemas::bootlog::Variable::parse(event.data))
            .find(|variable| variable.name == *key.name())
            .unwrap();
        let digest = hash(HashAlg::Sha256, &[value.value]);
        (key, vec![FileDigest(digest.as_bytes().try_into().unwrap())])
    });
    let gpt = log
        .events()
        .find(|event| event.event_type.0 == 0x8000_0006)
        .unwrap();
    let actions = [
        "Exit Boot Services Invocation",
        "Exit Boot Services Returned with Success",
    ];
    let mut pcr5: Vec<_> = actions
        .iter()
        .map(|text| hash(HashAlg::Sha256, &[text.as_bytes()]))
        .collect();
    pcr5.push(gpt.digest(HashAlg::Sha256).unwrap());
    BootExpectations {
        secure_boot: true,
        keys: keys.into(),
        applications: vec![sha256(UKI)],
        kernels: vec![sha256(KERNEL)],
        initrds: vec![sha256(INITRD)],
        command_lines: vec![CMDLINE.to_owned()],
        events: BTreeMap::from([(5, pcr5)]),
        ..BootExpectations::default()
    }
}

fn of_secure(expectations: BootExpectations) -> BootAppraisal {
    appraise(
        &prefix(SECURE.1),
        Some(SECURE.0),
        &[reference("edge-1.4", expectations)],
    )
}

fn only(appraisal: BootAppraisal) -> Deviation {
    let [deviation] = <[Deviation; 1]>::try_from(appraisal.deviations).unwrap();
    deviation
}

fn reasons(appraisal: &BootAppraisal) -> Vec<Reason> {
    appraisal
        .deviations
        .iter()
        .map(|found| found.reason)
        .collect()
}

#[test]
fn a_boot_that_is_as_the_manifest_says_is_affirmed() {
    let appraisal = of_secure(whole());
    assert_eq!(appraisal.deviations, []);
    assert_eq!(appraisal.tier(), Tier::Affirming);
    assert_eq!(appraisal.manifest.as_deref(), Some("edge-1.4"));
}

#[test]
fn a_log_is_certified_in_the_strongest_quoted_bank_that_it_has() {
    let values = pcrs(SECURE.1);
    for (banks, strongest) in [
        (&[HashAlg::Sha1][..], HashAlg::Sha1),
        (&[HashAlg::Sha1, HashAlg::Sha256], HashAlg::Sha256),
        (&[HashAlg::Sha384], HashAlg::Sha384),
    ] {
        let log = BootLog::parse(SECURE.0).unwrap();
        let certified = CertifiedBootLog::certify(log, &prefix_of(&values, banks, MASK)).unwrap();
        assert_eq!(certified.bank(), strongest);
        assert_eq!(certified.certified_pcrs(), MASK & !(1 << 10));
        assert_eq!(certified.unexplained_pcrs(), 0);
        assert_eq!(certified.events().count(), 36, "all but the header");
    }
}

#[test]
fn a_log_of_another_boot_or_with_a_changed_digest_is_no_evidence() {
    let appraisal = appraise(&prefix(SECURE.1), Some(DIRECT.0), &[]);
    let deviation = only(appraisal);
    assert_eq!(deviation.reason, Reason::BootLogDoesNotReplay);
    let note = deviation.note.unwrap();
    assert!(
        note.contains("PCR 0, 1, 4, 5, 7, 9 in bank sha256"),
        "{note}"
    );

    let prefix = prefix(SECURE.1);
    let events: Vec<_> = BootLog::parse(SECURE.0).unwrap().events().collect();
    for event in events.iter().filter(|event| event.is_extended()) {
        let digest = event.digest(HashAlg::Sha256).unwrap();
        let at = SECURE.0[event.offset..]
            .windows(32)
            .position(|window| window == digest.as_bytes());
        let mut changed = SECURE.0.to_vec();
        changed[event.offset + at.unwrap()] ^= 1;
        let log = BootLog::parse(&changed).unwrap();
        match CertifiedBootLog::certify(log, &prefix) {
            Err(error) => assert_eq!(
                error,
                BootLogMismatch::DoesNotReplay {
                    bank: HashAlg::Sha256,
                    pcrs: vec![event.pcr]
                }
            ),
            // The running system may extend it too: its events are not believed.
            Ok(certified) => {
                assert_eq!(event.pcr, 11);
                assert!(!certified.certifies(11));
                assert_eq!(certified.unexplained_pcrs(), 1 << 11);
            }
        }
    }
}

#[test]
fn a_log_without_the_quoted_bank_or_that_is_none_is_reported() {
    // SHA-1 alone, as old firmware writes it.
    let mut old = Vec::new();
    for event in BootLog::parse(SECURE.0).unwrap().events().skip(1) {
        old.extend(event.pcr.to_le_bytes());
        old.extend(event.event_type.0.to_le_bytes());
        old.extend(event.digest(HashAlg::Sha1).unwrap().as_bytes());
        old.extend((event.data.len() as u32).to_le_bytes());
        old.extend(event.data);
    }
    let deviation = only(appraise(&prefix(SECURE.1), Some(&old), &[]));
    assert_eq!(deviation.reason, Reason::BootLogDoesNotReplay);
    assert!(
        deviation
            .note
            .unwrap()
            .contains("no digests of a quoted bank")
    );
    let sha1 = prefix_of(&pcrs(SECURE.1), &[HashAlg::Sha1], MASK);
    assert_eq!(appraise(&sha1, Some(&old), &[]).deviations, []);

    let deviation = only(appraise(&prefix(SECURE.1), Some(&SECURE.0[..500]), &[]));
    assert_eq!(deviation.reason, Reason::BootLogMalformed);
    assert_eq!(deviation.tier(), Tier::Warning);
    assert!(deviation.note.unwrap().contains("at offset"));
}

#[test]
fn a_pcr_that_the_running_system_extends_is_not_believed_but_no_fault() {
    let mut values = pcrs(SECURE.1);
    let pcr11 = values.get_mut(&(HashAlg::Sha256, 11)).unwrap();
    *pcr11 = hash(HashAlg::Sha256, &[pcr11.as_bytes(), &[7; 32]]);
    let prefix = prefix_of(&values, &[HashAlg::Sha256], MASK);
    let deviation = only(appraise(&prefix, Some(SECURE.0), &[]));
    assert_eq!(
        (deviation.reason, deviation.pcr),
        (Reason::BootPcrUnexplained, Some(11))
    );
    assert_eq!(deviation.tier(), Tier::Warning);

    // The kernel was measured there alone; the rest of what is expected is elsewhere as well.
    let appraisal = appraise(&prefix, Some(SECURE.0), &[reference("edge-1.4", whole())]);
    assert_eq!(
        reasons(&appraisal),
        [Reason::BootPcrUnexplained, Reason::BootEventMissing]
    );
}

#[test]
fn secure_boot_that_is_off_is_seen() {
    let expectations = BootExpectations {
        secure_boot: true,
        ..BootExpectations::default()
    };
    let expected = [reference("edge-1.4", expectations)];
    let off = only(appraise(&prefix(DIRECT.1), Some(DIRECT.0), &expected));
    assert_eq!(off.reason, Reason::SecureBootOff);
    assert_eq!((off.pcr, off.event), (Some(7), Some(4)));
    assert_eq!(off.note.as_deref(), Some("SecureBoot is 00"));
    assert_eq!(off.what, "EV_EFI_VARIABLE_DRIVER_CONFIG SecureBoot");

    let missing = only(appraise(&prefix(DIRECT.1), None, &expected));
    assert_eq!(missing.reason, Reason::BootLogMissing);

    // PCR 7 is not quoted.
    let blind = prefix_of(&pcrs(SECURE.1), &[HashAlg::Sha256], MASK & !(1 << 7));
    let unseen = only(appraise(&blind, Some(SECURE.0), &expected));
    assert_eq!(unseen.reason, Reason::SecureBootOff);
    assert!(unseen.note.unwrap().contains("PCR 7"));
}

/// `log` with one more event at its end, and the PCRs that it leads to.
fn with_event(
    log: &[u8],
    pcr: u32,
    event_type: u32,
    digested: &[u8],
    data: &[u8],
) -> (Vec<u8>, Pcrs) {
    let mut log = log.to_vec();
    log.extend(pcr.to_le_bytes());
    log.extend(event_type.to_le_bytes());
    log.extend(4u32.to_le_bytes());
    for bank in HashAlg::ALL {
        log.extend(bank.to_u16().to_le_bytes());
        log.extend(hash(bank, &[digested]).as_bytes());
    }
    log.extend((data.len() as u32).to_le_bytes());
    log.extend(data);
    let parsed = BootLog::parse(&log).unwrap();
    let mut values = Pcrs::new();
    for bank in HashAlg::ALL {
        let replayed = BootPcrs::replay(&parsed, bank).unwrap();
        values.extend((0..16).map(|pcr| ((bank, pcr), *replayed.get(pcr).unwrap())));
    }
    (log, values)
}

#[test]
fn a_secure_boot_variable_after_the_separator_is_not_the_firmwares() {
    // Whoever controls the running system can extend PCR 7 and write the log to fit.
    let secure_boot = BootLog::parse(SECURE.0)
        .unwrap()
        .events()
        .nth(4)
        .unwrap()
        .data;
    let (log, values) = with_event(DIRECT.0, 7, 0x8000_0001, secure_boot, secure_boot);
    let prefix = prefix_of(&values, &[HashAlg::Sha256], MASK);
    let expectations = BootExpectations {
        secure_boot: true,
        ..BootExpectations::default()
    };
    let deviation = only(appraise(
        &prefix,
        Some(&log),
        &[reference("edge-1.4", expectations)],
    ));
    assert_eq!(deviation.reason, Reason::SecureBootOff);
}

#[test]
fn data_that_no_digest_covers_is_not_believed() {
    // PCR 7 without its first event, SecureBoot, and in its place one whose data says "on".
    let log = BootLog::parse(DIRECT.0).unwrap();
    let event = log.events().nth(4).unwrap();
    let at = event.data.as_ptr() as usize - DIRECT.0.as_ptr() as usize + event.data.len() - 1;
    let mut changed = DIRECT.0.to_vec();
    assert_eq!(changed[at], 0);
    changed[at] = 1;
    let expectations = BootExpectations {
        secure_boot: true,
        ..BootExpectations::default()
    };
    let expected = [reference("edge-1.4", expectations)];
    let deviation = only(appraise(&prefix(DIRECT.1), Some(&changed), &expected));
    assert_eq!(deviation.reason, Reason::SecureBootOff);
    assert!(deviation.note.unwrap().contains("did not measure"));
}

#[test]
fn each_expectation_names_the_event_that_misses_it() {
    let mut other = whole();
    other.applications = vec![sha256(KERNEL)];
    let found = of_secure(other);
    assert_eq!(
        reasons(&found),
        [Reason::BootEventUnexpected, Reason::BootEventMissing]
    );
    let deviation = &found.deviations[0];
    assert_eq!((deviation.pcr, deviation.event), (Some(4), Some(24)));
    assert_eq!(deviation.measured.as_deref(), Some(&unhex(UKI)[..]));
    assert_eq!(deviation.expected, [unhex(KERNEL)]);
    assert_eq!(deviation.manifest, "edge-1.4");
    assert_eq!(
        deviation.what,
        "EV_EFI_BOOT_SERVICES_APPLICATION \\EFI\\BOOT\\BOOTX64.EFI"
    );

    let mut other = whole();
    other
        .keys
        .insert(KeyVariable::Db, vec![FileDigest([1; 32])]);
    let deviation = only(of_secure(other));
    assert_eq!(deviation.reason, Reason::SecureBootKeysUnexpected);
    assert_eq!(deviation.expected, [[1; 32]]);
    assert!(deviation.note.unwrap().contains("contents of db"));

    let mut other = whole();
    other.initrds = vec![sha256(KERNEL)];
    let found = of_secure(other);
    assert_eq!(
        reasons(&found),
        [Reason::BootEventUnexpected],
        "the kernel is no initrd twice"
    );
    assert_eq!(found.deviations[0].what, "EV_EVENT_TAG Linux initrd");

    let mut other = whole();
    other.kernels = vec![sha256(UKI)];
    assert_eq!(only(of_secure(other)).reason, Reason::BootEventMissing);

    let mut other = whole();
    other.command_lines = vec![format!("{CMDLINE} debug")];
    assert_eq!(
        reasons(&of_secure(other)),
        [Reason::CmdlineUnexpected, Reason::BootEventUnexpected]
    );

    let mut other = whole();
    other.events.get_mut(&5).unwrap().pop();
    let deviation = only(of_secure(other));
    assert_eq!(deviation.reason, Reason::BootEventUnexpected);
    assert_eq!(deviation.pcr, Some(5));
    assert_eq!(deviation.what, "EV_EFI_GPT_EVENT");
}

#[test]
fn what_is_measured_besides_is_not_hidden_by_its_type() {
    for (pcr, reason) in [
        (4, Reason::BootEventUnexpected),
        (5, Reason::BootEventUnexpected),
        (8, Reason::BootEventUnexpected),
        (9, Reason::BootEventUnexpected),
        (12, Reason::BootEventUnexpected),
    ] {
        for event_type in [4, 5, 13, 0x8000_0003, 0x1234] {
            let (log, values) = with_event(SECURE.0, pcr, event_type, b"MZ\x90evil", b"innocent");
            let prefix = prefix_of(&values, &[HashAlg::Sha256], MASK);
            let found = only(appraise(
                &prefix,
                Some(&log),
                &[reference("edge-1.4", whole())],
            ));
            assert_eq!(
                (found.reason, found.pcr, found.event),
                (reason, Some(pcr), Some(37))
            );
        }
    }
}

#[test]
fn a_command_line_is_read_where_it_can_be_and_recognised_where_not() {
    // As GRUB, U-Boot and systemd-stub measure it.
    let line = "root=/dev/mmcblk0p2 ro quiet";
    let wide: Vec<u8> = line
        .encode_utf16()
        .chain([0])
        .flat_map(u16::to_le_bytes)
        .collect();
    let described = format!("kernel_cmdline: {line}");
    let nul = format!("{line}\0");
    for (pcr, digested, data) in [
        (8, line.as_bytes(), described.as_bytes()),
        (1, nul.as_bytes(), nul.as_bytes()),
        (12, &wide[..], &wide[..]),
        // A hash alone.
        (11, line.as_bytes(), b".cmdline"),
    ] {
        let (log, values) = with_event(
            include_bytes!("../../../tests/data/debian12-amd64-6.1/binary_bios_measurements"),
            pcr,
            13,
            digested,
            data,
        );
        let prefix = prefix_of(&values, &[HashAlg::Sha256], MASK);
        for (pattern, read, recognised) in [
            (line, true, true),
            ("root=/dev/mmcblk?p2 *", true, false),
            ("root=/dev/sda2 *", false, false),
        ] {
            let expectations = BootExpectations {
                command_lines: vec![pattern.to_owned()],
                ..BootExpectations::default()
            };
            let found = appraise(&prefix, Some(&log), &[reference("edge-1.4", expectations)]);
            let right = if pcr == 11 { recognised } else { read };
            assert_eq!(
                found.deviations.is_empty(),
                right,
                "PCR {pcr}, {pattern}: {found:?}"
            );
            if !right {
                assert!(
                    reasons(&found)
                        .iter()
                        .all(|r| *r == Reason::CmdlineUnexpected),
                    "{found:?}"
                );
            }
        }
    }
}

#[test]
fn a_device_without_a_log_may_have_any_of_the_listed_pcr_values() {
    let values = pcrs(SECURE.1);
    let value = |pcr: u32| values[&(HashAlg::Sha256, pcr)].as_bytes().to_vec();
    let static_pcrs = |pcr: u8, allowed: Vec<Vec<u8>>| BootReference {
        manifest: "edge-1.4".to_owned(),
        pcrs: StaticPcrs::from([(0x000B, BTreeMap::from([(pcr, allowed)]))]),
        expectations: BootExpectations::default(),
    };
    let prefix = prefix(SECURE.1);
    let one_of_two = static_pcrs(0, vec![vec![9; 32], value(0)]);
    assert_eq!(appraise(&prefix, None, &[one_of_two]).deviations, []);

    let other = static_pcrs(4, vec![vec![9; 32]]);
    let deviation = only(appraise(&prefix, None, &[other]));
    assert_eq!(deviation.reason, Reason::PcrValueUnexpected);
    assert_eq!(deviation.pcr, Some(4));
    assert_eq!(deviation.measured, Some(value(4)));
    assert_eq!(deviation.expected, [[9; 32]]);

    let unquoted = static_pcrs(14, vec![vec![0; 32]]);
    let deviation = only(appraise(&prefix, None, &[unquoted]));
    assert_eq!(deviation.reason, Reason::PcrValueUnexpected);
    assert!(deviation.note.unwrap().contains("does not cover"));
}

#[test]
fn during_an_update_either_image_may_run_but_no_mixture() {
    let old = reference(
        "edge-1.3",
        BootExpectations {
            applications: vec![sha256(KERNEL)],
            initrds: vec![sha256(INITRD)],
            ..BootExpectations::default()
        },
    );
    let new = reference("edge-1.4", whole());
    let prefix = prefix(SECURE.1);
    for references in [[old.clone(), new.clone()], [new.clone(), old.clone()]] {
        let appraisal = appraise(&prefix, Some(SECURE.0), &references);
        assert_eq!(appraisal.deviations, []);
        assert_eq!(appraisal.manifest.as_deref(), Some("edge-1.4"));
    }
    let mut mixed = whole();
    mixed.applications = vec![sha256(KERNEL)];
    let other = reference(
        "edge-1.5",
        BootExpectations {
            applications: vec![sha256(UKI)],
            initrds: vec![sha256(KERNEL)],
            ..BootExpectations::default()
        },
    );
    let appraisal = appraise(
        &prefix,
        Some(SECURE.0),
        &[reference("edge-1.4", mixed), other],
    );
    assert!(!appraisal.deviations.is_empty());
}
