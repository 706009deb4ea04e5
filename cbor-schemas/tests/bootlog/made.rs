use mote_schemas::bootlog::{
    BootLog, BootLogFault, BootPcrs, EventData, EventType, Guid, ReplayError, Utf16, Variable,
};
use mote_schemas::limits::MAX_BOOT_LOG;
use mote_schemas::tpm::{Digest, HashAlg, hash};

use crate::{SHA256, event, header, old_event, parsed};

/// TPM_ALG_SM3_256: not known here.
const SM3: u16 = 0x0012;

fn fault(log: &[u8]) -> (u32, usize, BootLogFault) {
    let error = BootLog::parse(log).unwrap_err();
    (error.event, error.offset, error.fault)
}

#[test]
fn each_fault_is_named_with_its_place() {
    let head = header(&[(SHA256, 32)]);
    let at = head.len();
    let with = |more: Vec<u8>| [head.clone(), more].concat();
    let digest = [7; 32];
    let good = event(4, 5, &[(SHA256, &digest)], b"x");

    assert_eq!(fault(b""), (0, 0, BootLogFault::Empty));
    assert_eq!(fault(&[0; 500]), (0, 0, BootLogFault::Empty));
    assert_eq!(
        fault(&vec![1; MAX_BOOT_LOG + 1]),
        (0, 0, BootLogFault::TooLong(MAX_BOOT_LOG + 1))
    );
    let log = with(event(24, 5, &[(SHA256, &digest)], b"x"));
    assert_eq!(fault(&log), (1, at, BootLogFault::NoSuchPcr(24)));
    let log = with(event(4, 5, &[(SM3, &digest)], b"x"));
    assert_eq!(
        fault(&log),
        (1, at + 12, BootLogFault::UnknownAlgorithm(SM3))
    );
    let twice = event(4, 5, &[(SHA256, &digest), (SHA256, &digest)], b"x");
    assert_eq!(
        fault(&with(twice)),
        (1, at + 8, BootLogFault::DigestCount(2))
    );
    let head2 = header(&[(SHA256, 32), (SM3, 32)]);
    let twice = event(4, 5, &[(SHA256, &digest), (SHA256, &digest)], b"x");
    assert_eq!(
        fault(&[head2.clone(), twice].concat()),
        (1, head2.len() + 46, BootLogFault::RepeatedAlgorithm(SHA256))
    );
    let log = with(good[..good.len() - 1].to_vec());
    assert_eq!(
        fault(&log),
        (1, at + good.len() - 1, BootLogFault::Truncated)
    );

    let spec = 32 + 24;
    assert_eq!(
        fault(&header(&[])),
        (0, spec, BootLogFault::AlgorithmCount(0))
    );
    assert_eq!(
        fault(&header(&[(SM3, 32); 9])),
        (0, spec, BootLogFault::AlgorithmCount(9))
    );
    let size = |alg, len| BootLogFault::DigestSize { alg, len };
    assert_eq!(
        fault(&header(&[(SHA256, 20)])),
        (0, spec + 4, size(SHA256, 20))
    );
    assert_eq!(fault(&header(&[(SM3, 0)])), (0, spec + 4, size(SM3, 0)));
    assert_eq!(
        fault(&header(&[(SM3, 32); 2])),
        (0, spec + 8, size(SM3, 32))
    );
    let short = old_event(0, 3, &[0; 20], b"Spec ID Event03\0\x55");
    assert_eq!(fault(&short), (0, 32, BootLogFault::Header));
}

#[test]
fn a_bank_that_is_not_known_here_does_not_hide_the_others() {
    let digest = [7; 32];
    let log = [
        header(&[(SM3, 32), (SHA256, 32)]),
        event(4, 5, &[(SM3, &[1; 32]), (SHA256, &digest)], b"x"),
    ]
    .concat();
    let log = parsed(&log);
    assert_eq!(log.banks().collect::<Vec<_>>(), [HashAlg::Sha256]);
    let event = log.events().nth(1).unwrap();
    assert_eq!(event.digests.iter().count(), 2);
    assert_eq!(
        event.digest(HashAlg::Sha256),
        Digest::new(HashAlg::Sha256, &digest)
    );
    assert_eq!(
        BootPcrs::replay(&log, HashAlg::Sha1),
        Err(ReplayError::NoDigest {
            event: 1,
            bank: HashAlg::Sha1
        })
    );
}

#[test]
fn the_startup_locality_is_where_pcr_0_begins() {
    let remark = |locality| [&b"StartupLocality\0"[..], &[locality]].concat();
    let build = |locality, late: bool| {
        let no = event(0, 3, &[(SHA256, &[0; 32])], &remark(locality));
        let extend = event(0, 8, &[(SHA256, &[9; 32])], b"v");
        let events = if late { [extend, no] } else { [no, extend] };
        [header(&[(SHA256, 32)]), events.concat()].concat()
    };
    let after = |first: [u8; 32]| hash(HashAlg::Sha256, &[&first, &[9; 32]]);
    let start = |locality| {
        let mut value = [0; 32];
        value[31] = locality;
        value
    };
    for (log, locality) in [
        (build(3, false), 3),
        (build(4, false), 4),
        (build(0, false), 0),
        // No TPM starts there, and after the first extend it is too late.
        (build(7, false), 0),
        (build(3, true), 0),
    ] {
        let pcrs = BootPcrs::replay(&parsed(&log), HashAlg::Sha256).unwrap();
        assert_eq!(pcrs.startup_locality(), locality);
        assert_eq!(pcrs.get(0), Some(&after(start(locality))));
        assert_eq!(pcrs.extended(), 1);
    }
}

#[test]
fn a_remark_extends_nothing_whatever_pcr_it_names() {
    let log = [
        header(&[(SHA256, 32)]),
        event(
            u32::MAX,
            EventType::NO_ACTION.0,
            &[(SHA256, &[5; 32])],
            b"remark",
        ),
    ]
    .concat();
    let log = parsed(&log);
    assert!(log.is_empty());
    assert_eq!(log.len(), 2);
    assert_eq!(
        BootPcrs::replay(&log, HashAlg::Sha256).unwrap().extended(),
        0
    );
}

#[test]
fn a_type_that_is_not_known_is_kept_and_shown() {
    let log = [
        header(&[(SHA256, 32)]),
        event(6, 0x1234, &[(SHA256, &[5; 32])], &[1, 2, 3]),
    ]
    .concat();
    let event = parsed(&log).events().nth(1).unwrap();
    assert_eq!(event.event_type.to_string(), "0x00001234");
    assert_eq!(event.view(), EventData::Bytes(&[1, 2, 3]));
    assert!(event.is_extended());
}

#[test]
fn a_guid_is_read_as_it_is_written() {
    for guid in [Guid::GLOBAL_VARIABLE, Guid::CERT_X509, Guid([7; 16])] {
        assert_eq!(Guid::parse(&guid.to_string()), Some(guid));
    }
    // UEFI 2.10, 32.4.1.
    let x509 = "a5c059a1-94e4-4aa7-87b5-ab155c2bf072";
    assert_eq!(Guid::parse(&x509.to_uppercase()), Some(Guid::CERT_X509));
    let sha256 = "c1c41626-504c-4092-aca9-41f936934328";
    assert_eq!(Guid::CERT_SHA256.to_string(), sha256);
    for wrong in [
        "",
        &x509[1..],
        &x509.replace('-', ""),
        &x509.replace("a5", "+5"),
        &x509.replace("a5", "é"),
        &format!("{x509}-00"),
        &format!("{x509}0"),
    ] {
        assert_eq!(Guid::parse(wrong), None, "{wrong}");
    }
}

#[test]
fn a_variable_is_one_only_with_all_its_bytes() {
    let mut data = Guid::GLOBAL_VARIABLE.0.to_vec();
    data.extend(2u64.to_le_bytes());
    data.extend(1u64.to_le_bytes());
    data.extend(b"P\0K\0");
    data.push(9);
    let variable = Variable::parse(&data).unwrap();
    assert!(variable.name == *"PK");
    assert_eq!(variable.value, [9]);
    for end in 0..data.len() {
        assert_eq!(Variable::parse(&data[..end]), None);
    }
    data.push(9);
    assert_eq!(Variable::parse(&data), None);
    data[16..24].copy_from_slice(&u64::MAX.to_le_bytes());
    assert_eq!(Variable::parse(&data), None);
}

#[test]
fn utf16_ends_at_its_nul_and_shows_what_is_no_character() {
    assert_eq!(Utf16::new(b"a"), None);
    let text = Utf16::new(b"a\0\0\0b\0").unwrap();
    assert!(text == *"a" && text.is_text());
    let lone = Utf16::new(&[0x00, 0xD8]).unwrap();
    assert_eq!(lone.to_string(), "\u{FFFD}");
    assert!(!lone.is_text());
}
