use mote_schemas::bootlog::{
    BootLog, BootLogError, BootLogFault, BootPcrs, Event, EventData, EventType, Guid, LogFormat,
    Signatures, TaggedEvent,
};
use mote_schemas::tpm::{Digest, HashAlg, hash};
use proptest::prelude::*;

use crate::{DIRECT, SEABIOS, SECURE, old_event, parsed};

const KERNEL: &str = "3d616aa853fe11b1c0ea99a1cdb4fb6ddc9010ba7c4562de700ad94264989654";
const INITRD: &str = "9f322a419d76fdb88fe96eb300363cb1c3b9d8d7482ab2d9d79e8250afc51326";
const UKI: &str = "1f88460932a2bb0b23caedaea326cdd627a05bb76b53c7fc21187fc7bc675688";
const CMDLINE: &str =
    "console=ttyS0 panic=-1 rootfstype=ramfs ima_policy=tcb ima_hash=sha256 quiet";

/// `pcrs.txt`: bank, PCR, value.
fn quoted(pcrs: &[u8]) -> Vec<(HashAlg, u32, String)> {
    let text = std::str::from_utf8(pcrs).unwrap();
    let line = |line: &str| {
        let mut words = line.split_whitespace();
        let bank = HashAlg::from_name(words.next()?)?;
        let pcr = words.next()?.parse().ok()?;
        Some((bank, pcr, words.next()?.to_ascii_lowercase()))
    };
    text.lines().map(|l| line(l).unwrap()).collect()
}

fn secure() -> Vec<Event<'static>> {
    parsed(SECURE.0).events().collect()
}

fn sha256(event: &Event<'_>) -> String {
    event.digest(HashAlg::Sha256).unwrap().to_string()
}

#[test]
fn every_log_replays_to_the_pcrs_of_its_tpm_in_every_bank() {
    for (log, pcrs) in [SEABIOS, SECURE, DIRECT] {
        let log = parsed(log);
        assert_eq!(log.format(), LogFormat::CryptoAgile);
        assert_eq!(log.banks().collect::<Vec<_>>(), HashAlg::ALL);
        let mut compared = 0;
        for (bank, pcr, value) in quoted(pcrs) {
            if !matches!(pcr, 0..=9 | 11..=15) {
                continue;
            }
            let replayed = BootPcrs::replay(&log, bank).unwrap();
            assert_eq!(
                replayed.get(pcr).unwrap().to_string(),
                value,
                "{bank}:{pcr}"
            );
            compared += 1;
        }
        assert!(compared >= 45, "{compared}");
    }
}

#[test]
fn the_old_form_of_a_log_replays_to_the_same_sha1_pcrs() {
    let agile = parsed(SECURE.0);
    let mut old = Vec::new();
    for event in agile.events() {
        let digest = event.digest(HashAlg::Sha1).unwrap();
        let digest: &[u8; 20] = digest.as_bytes().try_into().unwrap();
        let data = if event.number == 0 {
            b"Spec ID Event00\0"
        } else {
            event.data
        };
        old.extend(old_event(event.pcr, event.event_type.0, digest, data));
    }
    let old = parsed(&old);
    assert_eq!(old.format(), LogFormat::Sha1);
    assert_eq!(old.banks().collect::<Vec<_>>(), [HashAlg::Sha1]);
    assert_eq!(old.len(), agile.len());
    let replay = |log| BootPcrs::replay(log, HashAlg::Sha1).unwrap();
    assert_eq!(replay(&old), replay(&agile));
    assert!(BootPcrs::replay(&old, HashAlg::Sha256).is_err());
}

#[test]
fn what_was_booted_can_be_read_from_the_log() {
    let events = secure();
    assert_eq!(events.len(), 37);
    let by_type = |wanted| events.iter().filter(move |e| e.event_type == wanted);

    let variables: Vec<_> = by_type(EventType::EFI_VARIABLE_DRIVER_CONFIG)
        .map(|event| {
            assert_eq!(event.pcr, 7);
            assert!(HashAlg::ALL.iter().all(|bank| event.covers_data(*bank)));
            match event.view() {
                EventData::Variable(variable) => variable,
                other => panic!("{other:?}"),
            }
        })
        .collect();
    let names: Vec<_> = variables.iter().map(|v| v.name.to_string()).collect();
    assert_eq!(names, ["SecureBoot", "PK", "KEK", "db", "dbx"]);
    assert_eq!(variables[0].value, [1]);
    assert_eq!(variables[0].guid, Guid::GLOBAL_VARIABLE);
    assert_eq!(
        variables[0].guid.to_string(),
        "8be4df61-93ca-11d2-aa0d-00e098032b8c"
    );
    assert_eq!(variables[3].guid, Guid::IMAGE_SECURITY_DATABASE);
    assert_eq!(
        variables[3].guid.to_string(),
        "d719b2cb-3d3a-4596-a3bc-dad00e67656f"
    );

    let application = by_type(EventType::EFI_BOOT_SERVICES_APPLICATION)
        .next()
        .unwrap();
    assert_eq!((application.pcr, sha256(application)), (4, UKI.to_owned()));
    assert!(
        !application.covers_data(HashAlg::Sha256),
        "an Authenticode digest"
    );
    let EventData::ImageLoad(image) = application.view() else {
        panic!("{:?}", application.view());
    };
    assert!(image.file().unwrap() == *"\\EFI\\BOOT\\BOOTX64.EFI");

    let tags: Vec<_> = by_type(EventType::EVENT_TAG)
        .map(|event| match event.view() {
            EventData::Tagged(tag) => (event, tag.id),
            other => panic!("{other:?}"),
        })
        .collect();
    let (options, id) = tags[0];
    assert_eq!((options.pcr, id), (9, TaggedEvent::LINUX_LOAD_OPTIONS));
    let utf16: Vec<u8> = CMDLINE
        .encode_utf16()
        .chain([0])
        .flat_map(u16::to_le_bytes)
        .collect();
    assert!(options.covers(HashAlg::Sha512, &utf16));
    let (initrd, id) = tags[1];
    assert_eq!((initrd.pcr, id), (9, TaggedEvent::LINUX_INITRD));
    assert_eq!(sha256(initrd), INITRD);

    let sections: Vec<_> = by_type(EventType::IPL)
        .map(|event| (event.pcr, sha256(event)))
        .collect();
    for content in [
        INITRD.to_owned(),
        KERNEL.to_owned(),
        hash(HashAlg::Sha256, &[CMDLINE.as_bytes()]).to_string(),
    ] {
        assert!(sections.contains(&(11, content)), "{sections:?}");
    }

    let gpt = by_type(EventType::EFI_GPT_EVENT).next().unwrap();
    assert!(gpt.covers_data(HashAlg::Sha256));
    let EventData::Gpt(table) = gpt.view() else {
        panic!("{:?}", gpt.view());
    };
    assert_eq!(
        table.disk.to_string(),
        "11111111-2222-3333-4444-555555555555"
    );
    let partitions: Vec<_> = table.partitions().collect();
    assert_eq!(partitions.len(), 1);
    assert_eq!(
        partitions[0].id.to_string(),
        "66666666-7777-8888-9999-aaaaaaaaaaaa"
    );
    assert!(partitions[0].name == *"esp");
    assert_eq!(partitions[0].first, 2048);

    for event in by_type(EventType::SEPARATOR) {
        assert_eq!(event.view(), EventData::Separator(0));
        assert!(event.covers_data(HashAlg::Sha256));
    }
    let actions: Vec<_> = by_type(EventType::EFI_ACTION).map(Event::view).collect();
    assert_eq!(
        actions[0],
        EventData::Text("Calling EFI Application from Boot Option")
    );
    let blob = by_type(EventType::EFI_PLATFORM_FIRMWARE_BLOB)
        .next()
        .unwrap();
    assert!(matches!(blob.view(), EventData::FirmwareBlob(base, len) if base > 0 && len > 0));
    assert_eq!(events[0].view(), EventData::SpecId);
}

#[test]
fn without_secure_boot_the_log_says_so() {
    let first = parsed(DIRECT.0)
        .events()
        .find(|event| event.pcr == 7)
        .unwrap();
    let EventData::Variable(variable) = first.view() else {
        panic!("{:?}", first.view());
    };
    assert!(variable.name == *"SecureBoot");
    assert_eq!(variable.value, [0]);
}

#[test]
fn a_log_cut_anywhere_but_between_events_is_refused_where_it_ends() {
    let log = SECURE.0;
    let starts: Vec<usize> = parsed(log).events().map(|event| event.offset).collect();
    for end in 0..log.len() {
        let whole = BootLog::parse(&log[..end]);
        if let Some(n) = starts.iter().position(|start| *start == end && end > 0) {
            assert_eq!(whole.unwrap().len() as usize, n);
        } else {
            let error = whole.unwrap_err();
            assert!(error.offset <= end, "{error}");
            assert!(
                matches!(error.fault, BootLogFault::Truncated | BootLogFault::Empty),
                "{error}"
            );
        }
    }
}

#[test]
fn the_rest_of_the_firmwares_buffer_is_no_event() {
    for fill in [0, 0xFF] {
        let mut log = SECURE.0.to_vec();
        log.resize(log.len() + 5000, fill);
        assert_eq!(parsed(&log).len(), 37);
        *log.last_mut().unwrap() = 0x55;
        assert!(BootLog::parse(&log).is_err());
    }
}

proptest! {
    /// Any change of what is extended changes a PCR, in each bank that it is in.
    #[test]
    fn no_changed_digest_goes_unseen(number in 1usize..37, bank in 0usize..4, bit in 0usize..160) {
        let bank = HashAlg::ALL[bank];
        let event = secure()[number];
        let digest = event.digest(bank).unwrap();
        let at = SECURE.0[event.offset..]
            .windows(digest.as_bytes().len())
            .position(|window| window == digest.as_bytes())
            .unwrap();
        let mut changed = SECURE.0.to_vec();
        changed[event.offset + at + bit / 8] ^= 1 << (bit % 8);
        let before = BootPcrs::replay(&parsed(SECURE.0), bank).unwrap();
        let after = BootPcrs::replay(&parsed(&changed), bank).unwrap();
        prop_assert_ne!(before.get(event.pcr), after.get(event.pcr));
    }

    /// A change of the data is seen by whoever asks for it, where the profile says what it covers.
    #[test]
    fn changed_data_is_not_covered_any_more(number in 1usize..37, at in any::<prop::sample::Index>()) {
        let event = secure()[number];
        prop_assume!(event.covers_data(HashAlg::Sha256) && !event.data.is_empty());
        let mut data = event.data.to_vec();
        data[at.index(event.data.len())] ^= 1;
        let changed = Event { data: &data, ..event };
        prop_assert!(!changed.covers_data(HashAlg::Sha256));
    }

    #[test]
    fn nothing_panics_on_a_damaged_log(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
        end in any::<prop::sample::Index>(),
    ) {
        let mut log = SECURE.0.to_vec();
        for (at, byte) in changes {
            let at = at.index(log.len());
            log[at] = byte;
        }
        walk(&log[..end.index(log.len())]);
        walk(&log);
    }

    #[test]
    fn nothing_panics_on_noise(mut log in prop::collection::vec(any::<u8>(), 0..600), headed: bool) {
        if headed {
            log.splice(..0, SECURE.0[..65].iter().copied());
        }
        walk(&log);
    }
}

/// Reads all there is to read.
fn walk(log: &[u8]) {
    match BootLog::parse(log) {
        Err(BootLogError { offset, .. }) => assert!(offset <= log.len()),
        Ok(log) => {
            assert_eq!(log.events().count(), log.len() as usize);
            for event in log.events() {
                assert!(event.digests.iter().count() <= 8);
                match event.view() {
                    EventData::Variable(v) => {
                        let held = Signatures::new(v.value).map(|held| held.map(|s| s.data.len()));
                        let bytes: usize = held.filter_map(Result::ok).sum();
                        assert!(bytes <= v.value.len());
                        drop(v.name.to_string());
                    }
                    EventData::ImageLoad(image) => drop(image.file().map(|file| file.to_string())),
                    EventData::Gpt(gpt) => drop(gpt.partitions().count()),
                    EventData::Text16(text) => drop(text.to_string()),
                    _ => {}
                }
            }
            for bank in HashAlg::ALL {
                if let Ok(pcrs) = BootPcrs::replay(&log, bank) {
                    let untouched = (0..24).filter(|pcr| pcrs.extended() >> pcr & 1 == 0);
                    let zero = Digest::zero(bank);
                    for pcr in untouched.filter(|pcr| (1..17).contains(pcr)) {
                        assert_eq!(pcrs.get(pcr), Some(&zero));
                    }
                }
            }
        }
    }
}
