//! Golden bytes of every message, valid and invalid, against our codec and against an independent
//! CDDL validator.
#![allow(clippy::unwrap_used, clippy::too_many_lines, missing_docs)]

use std::fmt::Write as _;

use cddl_cat::validate_cbor_bytes;
use minicbor::{Decode, Encode};
use mote_schemas::cbor::{self, Bytes, Fault, Text};
use mote_schemas::cose::Sign1;
use mote_schemas::ima::{Endian, TemplateWriter};
use mote_schemas::message::{
    Anchor, Beat, BootPart, Challenge, Changes, DeviceId, DeviceKeys, ElidedQuote, EntriesWriter,
    Entry, EntryError, ErrorReply, FullQuote, Hello, Kid, Log, Nonce, Open, PcrBank, PcrBanks,
    Quote, Ranges, Reasons, RecordPart, Reply, Tier, Wants,
};
use mote_schemas::reason::Reason;
use mote_schemas::tpm::LowClock;

const CDDL: &str = concat!(
    include_str!("../cddl/mote.cddl"),
    include_str!("../cddl/reasons.cddl")
);
const VECTORS: &str = include_str!("../vectors/messages.txt");

/// `valid|invalid RULE NAME HEX [FAULT]`, `#` starts a comment.
fn vectors(kind: &str) -> impl Iterator<Item = (&str, &str, Vec<u8>, Option<&str>)> {
    VECTORS.lines().filter_map(move |line| {
        let mut words = line.split('#').next()?.split_whitespace();
        if words.next()? != kind {
            return None;
        }
        let (rule, name, bytes) = (words.next()?, words.next()?, unhex(words.next()?));
        Some((rule, name, bytes, words.next()))
    })
}

fn unhex(hex: &str) -> Vec<u8> {
    let hex = hex.trim_start_matches('-');
    (0..hex.len())
        .step_by(2)
        .map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap())
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut s, b| {
        write!(s, "{b:02x}").unwrap();
        s
    })
}

fn schema_accepts(rule: &str, bytes: &[u8]) -> Result<(), String> {
    validate_cbor_bytes(rule, CDDL, bytes).map_err(|e| e.to_string())
}

/// What our encoder makes equals the golden bytes, decodes to itself, and satisfies the CDDL.
fn golden<'b, T>(rule: &str, name: &str, value: &T, buffer: &'b mut [u8])
where
    T: Encode<()> + Decode<'b, ()> + PartialEq + std::fmt::Debug,
{
    let len = cbor::encode(value, buffer).unwrap();
    let bytes = &buffer[..len];
    let wanted = vectors("valid")
        .find(|v| (v.0, v.1) == (rule, name))
        .map(|v| hex(&v.2));
    assert_eq!(Some(hex(bytes)), wanted, "{rule} {name}");
    assert_eq!(&cbor::decode::<T>(bytes).unwrap(), value, "{rule} {name}");
    schema_accepts(rule, bytes).unwrap_or_else(|e| panic!("{rule} {name}: {e}"));
}

fn quote() -> FullQuote<'static> {
    FullQuote {
        attest: Bytes::new(&[0xa7; 129]).unwrap(),
        signature: Bytes::new(&[0x51; 72]).unwrap(),
    }
}

fn banks() -> PcrBanks<'static> {
    let bank = |hash_alg, mask, values| PcrBank {
        hash_alg,
        mask,
        values: Bytes::new(values).unwrap(),
    };
    PcrBanks::new([
        bank(0x0b, 1 << 10 | 1, &[0xbc; 64]),
        bank(0x04, 1 << 10, &[0xaa; 20]),
    ])
    .unwrap()
}

#[test]
fn encoders_give_the_golden_bytes() {
    let mut buffer = [0; 4096];
    let mut known = Hello {
        version: 1,
        random: [0x11; 16],
        device: DeviceId([0xde; 16]),
        keys: None,
    };
    golden("hello", "known", &known, &mut buffer);
    let mut buffer = [0; 4096];
    known.keys = Some(DeviceKeys {
        ek_public: Bytes::new(&[0xe1; 122]).unwrap(),
        ak_public: Bytes::new(&[0xa1; 88]).unwrap(),
        ek_certificate: Bytes::new(&[0x30; 700]),
    });
    golden("hello", "enrol", &known, &mut buffer);
    let mut buffer = [0; 4096];
    let challenge = Challenge {
        version: 1,
        random: [0x22; 16],
        credential_blob: Bytes::new(&[0xcb; 68]).unwrap(),
        encrypted_secret: Bytes::new(&[0x5e; 68]).unwrap(),
        kid: Kid::new(&[1, 2, 3]).unwrap(),
    };
    golden("challenge", "ecc", &challenge, &mut buffer);
    let mut buffer = [0; 4096];
    let open = Open {
        quote: quote(),
        pcrs: banks(),
        records: 2390,
        boot_log: Bytes::new(&[0xb0; 32]),
        software: Some(Text::truncated("mote-agent 0.1.0")),
        anchor: None,
    };
    golden("open", "two-banks", &open, &mut buffer);
    for (name, anchor) in [
        ("whole-anchor", Anchor::Whole),
        ("record-anchor", Anchor::Record([0xac; 8])),
    ] {
        let mut buffer = [0; 4096];
        let open = Open {
            anchor: Some(anchor),
            ..open.clone()
        };
        golden("open", name, &open, &mut buffer);
    }

    let (mut room, mut buffer) = ([0; 512], [0; 4096]);
    let mut entries = EntriesWriter::new(&mut room);
    let mut entry = Entry {
        template: "ima-ng",
        data: b"ima-ng data",
        pcr: 10,
        violation: false,
    };
    entries.push(&entry).unwrap();
    entry.template = "d-ng|n-ng";
    entry.pcr = 11;
    entries.push(&entry).unwrap();
    entry.template = "ima-sig";
    entry.violation = true;
    entries.push(&entry).unwrap();
    let entries = entries.finish();
    golden("log", "three-kinds", &Log { from: 7, entries }, &mut buffer);
    let mut buffer = [0; 4096];
    let idle = Beat {
        nonce_id: 3,
        quote: Quote::Full(quote()),
        pcrs: None,
        from: None,
        entries: None,
        records: None,
        changes: None,
    };
    golden("beat", "idle", &idle, &mut buffer);
    let mut buffer = [0; 4096];
    let busy = Beat {
        nonce_id: 255,
        pcrs: Some(banks()),
        from: Some(2390),
        entries: Some(entries),
        records: Some(2400),
        ..idle
    };
    golden("beat", "busy", &busy, &mut buffer);
    let (mut room, mut buffer) = ([0; 520], [0; 4096]);
    let clock = LowClock::new(&[1, 2, 3]).unwrap();
    let mut elided = Beat {
        nonce_id: 3,
        quote: Quote::Elided(ElidedQuote::new(&[0x51; 64], &clock, &mut room).unwrap()),
        pcrs: None,
        from: None,
        entries: None,
        records: None,
        changes: None,
    };
    golden("beat", "elided", &elided, &mut buffer);
    let mut buffer = [0; 4096];
    elided.changes = Some(Changes {
        restart_count: Some(2),
        safe: Some(false),
        pcr_digest: Bytes::new(&[0xd1; 32]),
    });
    golden("beat", "elided-changes", &elided, &mut buffer);

    let (mut room, mut data, mut buffer) = ([0; 512], [0; 256], [0; 4096]);
    let mut entries = EntriesWriter::new(&mut room);
    for hash in [[0xa1; 20], [0xa2; 20]] {
        entries.push_known(&hash, 5).unwrap();
    }
    for (path, signature) in [(&b"/usr/bin/cat"[..], &b""[..]), (b"/usr/bin/cut", b"sig")] {
        let mut writer = TemplateWriter::new(Endian::Little, &mut data);
        writer.digest("sha256", &[0xd1; 32]).unwrap();
        writer.text(path).unwrap();
        writer.bytes(signature).unwrap();
        let data = writer.finish();
        let entry = Entry {
            template: "ima-sig",
            data,
            pcr: 10,
            violation: false,
        };
        entries.push(&entry).unwrap();
    }
    assert_eq!(entries.records(), 4);
    let entries = entries.finish();
    assert_eq!(entries.records(), 4);
    golden("log", "in-short", &Log { from: 9, entries }, &mut buffer);
}

#[test]
fn parts_of_a_boot_log_give_the_golden_bytes() {
    for (name, offset, bytes, last) in [
        ("first", 0, &[1, 2, 3, 4, 5][..], None),
        ("last", 0xa3f0, &[0xbe, 0xef], Some(true)),
        ("beyond", 0xa3f0, &[], Some(true)),
    ] {
        let mut buffer = [0; 64];
        let part = BootPart {
            offset,
            bytes: Bytes::new(bytes).unwrap(),
            last,
        };
        golden("boot-part", name, &part, &mut buffer);
    }
}

#[test]
fn parts_of_a_long_record_give_the_golden_bytes() {
    for (name, offset, bytes, last) in [
        ("first", 0, &[0x81, 0x82, 4, 0x59, 0x20][..], None),
        ("last", 0x2005, &[0xbe, 0xef], Some(true)),
    ] {
        let mut buffer = [0; 64];
        let part = RecordPart {
            record: 2390,
            offset,
            bytes: Bytes::new(bytes).unwrap(),
            last,
        };
        golden("record-part", name, &part, &mut buffer);
    }
}

#[test]
fn replies_give_the_golden_bytes() {
    let mut buffer = [0; 512];
    let mut reply = Reply {
        next_record: 2390,
        tier: Tier::Affirming,
        nonce: Some(Nonce {
            id: 4,
            value: Bytes::new(&[0x99; 16]).unwrap(),
            lifetime: 3600,
        }),
        interval: Some(300),
        reasons: None,
        wants: None,
        records: None,
        prefix_length: None,
        boot_log: None,
        record_offset: None,
        first: None,
        released: None,
    };
    golden("reply", "affirming", &reply, &mut buffer);
    let mut buffer = [0; 512];
    reply.tier = Tier::Contraindicated;
    reply.reasons = Reasons::new([Reason::FileUnknown, Reason::FileModified]);
    reply.wants = Some(Wants::PCR_VALUES);
    golden("reply", "contraindicated", &reply, &mut buffer);
    let mut buffer = [0; 512];
    let bare = Reply {
        next_record: 0,
        tier: Tier::None,
        nonce: None,
        interval: None,
        reasons: None,
        wants: None,
        records: None,
        prefix_length: None,
        boot_log: None,
        record_offset: None,
        first: None,
        released: None,
    };
    golden("reply", "bare", &bare, &mut buffer);
    let mut buffer = [0; 512];
    let boot_log = Reply {
        boot_log: Some(0xa3f0),
        ..bare.clone()
    };
    golden("reply", "boot-log", &boot_log, &mut buffer);
    let mut buffer = [0; 512];
    let long_record = Reply {
        next_record: 2390,
        record_offset: Some(0x1234),
        ..bare.clone()
    };
    golden("reply", "long-record", &long_record, &mut buffer);
    let mut buffer = [0; 512];
    let released = Reply {
        first: Some(100),
        released: Some(2390),
        ..bare.clone()
    };
    golden("reply", "released", &released, &mut buffer);
    let mut buffer = [0; 512];
    let mut records = Ranges::default();
    for record in [7, 8, 9, 300] {
        assert!(records.push(record));
    }
    let wanting = Reply {
        records: Some(records),
        prefix_length: Some(5),
        ..bare
    };
    golden("reply", "wanting", &wanting, &mut buffer);
    let mut buffer = [0; 512];
    let error = ErrorReply {
        reason: Text::truncated(Reason::SessionUnknown.token()),
        detail: Some(Text::truncated("say hello again")),
    };
    golden("error", "session-unknown", &error, &mut buffer);

    let mut bytes = [0; 256];
    let mut cursor = minicbor::encode::write::Cursor::new(&mut bytes[..]);
    let sign1 = Sign1 {
        payload: &[0xa0; 40],
        kid: None,
        signature: &[0x51; 64],
    };
    sign1.write(&mut cursor).unwrap();
    let len = cursor.position();
    schema_accepts("hello-reply", &bytes[..len]).unwrap();
}

#[test]
fn every_invalid_vector_is_refused_with_its_fault_and_no_schema_fault_passes_the_validator() {
    let mut seen = 0;
    for (rule, name, bytes, expected) in vectors("invalid") {
        let error = match rule {
            "hello" => cbor::decode::<Hello>(&bytes).map(drop),
            "challenge" => cbor::decode::<Challenge>(&bytes).map(drop),
            "open" => cbor::decode::<Open>(&bytes).map(drop),
            "log" => cbor::decode::<Log>(&bytes).map(drop),
            "beat" => cbor::decode::<Beat>(&bytes).map(drop),
            "boot-part" => cbor::decode::<BootPart>(&bytes).map(drop),
            "record-part" => cbor::decode::<RecordPart>(&bytes).map(drop),
            "reply" => cbor::decode::<Reply>(&bytes).map(drop),
            "error" => cbor::decode::<ErrorReply>(&bytes).map(drop),
            other => panic!("no such rule: {other}"),
        }
        .expect_err(name);
        assert_eq!(
            format!("{:?}", error.fault),
            expected.unwrap(),
            "{rule} {name}"
        );
        // Determinism is beyond CDDL; everything else must fail there too.
        if error.fault == Fault::Schema {
            assert!(
                schema_accepts(rule, &bytes).is_err(),
                "CDDL accepts {rule} {name}"
            );
        }
        seen += 1;
    }
    assert!(seen >= 20, "only {seen} invalid vectors");
}

#[test]
fn every_valid_vector_decodes_and_satisfies_the_schema_and_no_truncation_does() {
    for (rule, name, bytes, _) in vectors("valid") {
        schema_accepts(rule, &bytes).unwrap_or_else(|e| panic!("{rule} {name}: {e}"));
        for cut in 0..bytes.len() {
            let fault = cbor::check(&bytes[..cut]).unwrap_err().fault;
            assert_eq!(fault, Fault::Truncated, "{rule} {name} cut at {cut}");
        }
    }
}

#[test]
fn a_bad_entry_is_refused_by_name_and_ends_the_iteration() {
    for (entries, expected) in [
        ("8181 00", EntryError::Shape),
        ("81 8500400af5f5", EntryError::Shape),
        ("81 840041ff0af4", EntryError::Shape),
        ("81 82184041ff", EntryError::TemplateId),
        ("81 820841ff", EntryError::TemplateId),
        ("81 45036162636465", EntryError::Prefixes),
        ("81 4404616263", EntryError::Prefixes),
        ("81 826041ff", EntryError::TooLong),
        ("81 830041ff1818", EntryError::Pcr),
        ("81 82004161 00", EntryError::Shape),
    ] {
        let bytes = unhex(&format!("a2000001{}", entries.replace(' ', "")));
        let Ok(log) = cbor::decode::<Log>(&bytes) else {
            // Two items where the array says one: refused before the entries are looked at.
            assert_eq!(cbor::check(&bytes).unwrap_err().fault, Fault::TrailingBytes);
            continue;
        };
        let all: Vec<_> = log.entries.iter().collect();
        assert_eq!(all, [Err(expected)], "{entries}");
        assert!(
            schema_accepts("log", &bytes).is_err(),
            "CDDL accepts {entries}"
        );
    }
}

proptest::proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
        let _ = cbor::decode::<Hello>(&bytes);
        let _ = cbor::decode::<Open>(&bytes);
        let _ = cbor::decode::<Reply>(&bytes);
        if let Ok(log) = cbor::decode::<Log>(&bytes) {
            let _ = log.entries.iter().count();
        }
    }

    #[test]
    fn a_changed_byte_decodes_to_something_else_or_not_at_all(
        which in 0usize..7, at in 0usize..4096, flip in 1u8..=255
    ) {
        let (rule, _, good, _) = vectors("valid").nth(which).unwrap();
        let mut bytes = good.clone();
        let at = at % bytes.len();
        bytes[at] ^= flip;
        // One spelling per message: different bytes never decode to the same value.
        match rule {
            "hello" => if let Ok(changed) = cbor::decode::<Hello>(&bytes) {
                proptest::prop_assert_ne!(changed, cbor::decode::<Hello>(&good).unwrap());
            },
            "beat" => if let Ok(changed) = cbor::decode::<Beat>(&bytes) {
                proptest::prop_assert_ne!(changed, cbor::decode::<Beat>(&good).unwrap());
            },
            _ => { let _ = cbor::check(&bytes); }
        }
    }
}

#[test]
fn ranges_take_in_others_without_losing_any_record() {
    let of = |ranges: &[(u64, u64)]| {
        let mut all = Ranges::default();
        for (first, count) in ranges {
            assert!(all.push_range(*first, *count));
        }
        all
    };
    let mut all = of(&[(27, 1)]);
    all.extend(&of(&[(25, 1)]));
    all.extend(&of(&[(27, 1)]));
    assert!(all.contains(25) && !all.contains(26) && all.contains(27));
    all.forget_before(26);
    assert!(!all.contains(25) && all.contains(27));

    let scattered: Vec<(u64, u64)> = (0..8).map(|n| (100 + 10 * n, 2)).collect();
    let mut all = of(&scattered);
    all.extend(&of(&[(5, 1), (300, 3)]));
    for record in [5, 100, 101, 171, 300, 302] {
        assert!(all.contains(record), "{record}");
    }
    assert!(!all.contains(4) && !all.contains(303));
}
