//! Records.

use mote_schemas::ima::{
    Endian, FieldKind, Length, ListError, ListFault, ListFormat, ListParser, MAX_HEADER,
    MAX_RECORD, Record, RecordError, Step, TemplateData, TemplateError, TemplateFault,
};
use mote_schemas::limits::{MAX_IMA_TEMPLATE_DATA, MAX_IMA_TEMPLATE_NAME};
use mote_schemas::tpm::{Digest, HashAlg, hash};
use proptest::prelude::*;

use crate::vectors::LIST;
use crate::{BE, LE, data, encoded, records};

#[test]
fn the_real_list_parses_and_encodes_to_the_same_bytes() {
    let all = records(LIST, LE);
    assert_eq!(all.len(), 2390);
    let again: Vec<u8> = all
        .iter()
        .flat_map(|r| encoded(r, Endian::Little))
        .collect();
    assert_eq!(again, LIST);
    for record in &all {
        assert_eq!(record.pcr, 10);
        assert_eq!(record.template_name, "ima-sig");
        assert!(record.claims_hash_ok() && !record.is_violation());
        assert_eq!(
            Record::measured(10, HashAlg::Sha1, "ima-sig", record.template_data),
            *record
        );
    }
}

#[test]
fn every_truncation_of_a_list_needs_more() {
    let list = &LIST[..700];
    let whole = {
        let mut parser = ListParser::new(LE);
        let mut ends = vec![0];
        let mut rest = LIST;
        while ends.last().unwrap() <= &list.len() {
            let Step::Record(_, len) = parser.next(rest).unwrap() else {
                panic!("list ended")
            };
            rest = &rest[len..];
            ends.push(ends.last().unwrap() + len);
        }
        ends
    };
    for cut in 0..list.len() {
        let mut parser = ListParser::new(LE);
        let mut rest = &list[..cut];
        let needed = loop {
            match parser.next(rest).unwrap() {
                Step::Record(_, len) => rest = &rest[len..],
                Step::NeedMore(needed) => break needed,
            }
        };
        assert!(needed > rest.len(), "cut at {cut}");
        let end = whole.iter().find(|end| **end > cut).unwrap();
        assert!(parser.offset() as usize + needed <= *end, "cut at {cut}");
        // A header is all that its length takes.
        if let Length::NeedMore(n) = parser.length(rest).unwrap() {
            assert!(n > rest.len() && n <= MAX_HEADER, "cut at {cut}");
        }
    }
}

#[test]
fn skipping_needs_a_header_only_and_arrives_at_the_same_record() {
    let all = records(LIST, LE);
    let mut parser = ListParser::new(LE);
    let mut at = 0;
    while parser.record() < 2383 {
        let window = &LIST[at..LIST.len().min(at + 64)];
        let Length::Known(len) = parser.length(window).unwrap() else {
            panic!("header longer than the window")
        };
        parser.skip(len);
        at += len;
    }
    assert_eq!(parser.offset(), at as u64);
    let Step::Record(record, _) = parser.next(&LIST[at..]).unwrap() else {
        panic!("list ended")
    };
    assert_eq!(record, all[2383]);
    assert_eq!(
        TemplateData::of(&record, Endian::Little).unwrap().name(),
        Some(&b"/usr/local/bin/job1"[..])
    );
}

#[test]
fn the_old_template_has_no_data_length_and_a_padded_hash() {
    let name = b"/sbin/init";
    let body = [&[0x5A; 20][..], &10_u32.to_be_bytes(), name].concat();
    let record = Record::measured(10, HashAlg::Sha1, "ima", &body);
    let mut padded = name.to_vec();
    padded.resize(256, 0);
    for bank in HashAlg::ALL {
        assert_eq!(
            record.extend_digest(bank),
            hash(bank, &[&[0x5A; 20], &padded])
        );
    }
    assert!(record.claims_hash_ok());

    let mut list = encoded(&record, Endian::Big);
    assert_eq!(list.len(), 4 + 20 + 4 + 3 + 20 + 4 + 10);
    let ng = Record::measured(11, HashAlg::Sha1, "ima-ng", b"");
    list.extend(encoded(&ng, Endian::Big));
    assert_eq!(records(&list, BE), [record, ng]);

    let data = TemplateData::of(&record, Endian::Big).unwrap();
    assert_eq!(data.name(), Some(&name[..]));
    assert_eq!(
        data.file_digest().unwrap().to_digest(),
        Digest::new(HashAlg::Sha1, &[0x5A; 20])
    );
    let kinds: Vec<_> = data.fields().map(|field| field.kind).collect();
    assert_eq!(kinds, [FieldKind::Digest, FieldKind::Name]);

    // In the other byte order the length does not fit.
    let mut out = [0; 256];
    assert_eq!(
        record.encode(Endian::Little, &mut out),
        Err(RecordError::DataLength(34))
    );
    assert_eq!(
        TemplateData::of(&record, Endian::Little).unwrap_err(),
        TemplateError {
            field: 1,
            offset: 20,
            fault: TemplateFault::Truncated
        }
    );
}

#[test]
fn a_violation_is_zero_in_the_list_and_all_ones_in_every_bank() {
    let body = data(
        Endian::Little,
        &[&[b"sha1:\0", &[0; 20][..]].concat(), b"/var/log/x\0", b""],
    );
    let record = Record {
        template_hash: Digest::zero(HashAlg::Sha1),
        ..Record::measured(10, HashAlg::Sha1, "ima-sig", &body)
    };
    assert!(record.is_violation() && record.claims_hash_ok());
    for bank in HashAlg::ALL {
        assert_eq!(record.extend_digest(bank), Digest::ones(bank));
        // The padding stays zero (ima_init_digests).
        let padded = record.extend_digest_padded(bank);
        assert_eq!(padded.as_bytes()[..20], [0xFF; 20]);
        assert!(padded.as_bytes()[20..].iter().all(|b| *b == 0));
        assert_ne!(record.template_digest(bank), Digest::ones(bank));
    }
    let digest = TemplateData::of(&record, Endian::Little)
        .unwrap()
        .file_digest()
        .unwrap();
    assert!(digest.is_zero());

    let list = encoded(&record, Endian::Little);
    assert_eq!(records(&list, LE), [record]);
}

#[test]
fn a_false_template_hash_shows() {
    let mut record = records(LIST, LE)[7];
    record.template_hash = hash(HashAlg::Sha1, &[b"another"]);
    assert!(!record.claims_hash_ok());
    // What is extended never depends on it.
    assert_eq!(
        record.extend_digest(HashAlg::Sha256),
        hash(HashAlg::Sha256, &[record.template_data])
    );
}

#[test]
fn lists_with_template_hashes_of_another_bank_parse() {
    let format = ListFormat {
        endian: Endian::Little,
        template_hash: HashAlg::Sha256,
    };
    let source = records(LIST, LE);
    let made: Vec<_> = source[..3]
        .iter()
        .map(|r| Record::measured(10, HashAlg::Sha256, r.template_name, r.template_data))
        .collect();
    let list: Vec<u8> = made
        .iter()
        .flat_map(|r| encoded(r, Endian::Little))
        .collect();
    let parsed = records(&list, format);
    assert_eq!(parsed, made);
    assert_eq!(
        parsed[0].template_hash,
        source[0].extend_digest(HashAlg::Sha256)
    );
    assert!(parsed[0].claims_hash_ok());
}

#[test]
fn each_fault_of_a_list_is_named_with_its_place() {
    let mut parser = ListParser::resume(LE, 5, 1000);
    let head = |pcr: u32, name_len: u32, name: &[u8], data_len: u32| {
        [
            &pcr.to_le_bytes()[..],
            &[1; 20],
            &name_len.to_le_bytes(),
            name,
            &data_len.to_le_bytes(),
        ]
        .concat()
    };
    let long_name = MAX_IMA_TEMPLATE_NAME as u32 + 1;
    let long_data = MAX_IMA_TEMPLATE_DATA as u32 + 1;
    for (bytes, offset, fault) in [
        (head(24, 3, b"ima", 0), 1000, ListFault::NoSuchPcr(24)),
        (head(10, 0, b"", 0), 1024, ListFault::NameLength(0)),
        (
            head(10, long_name, b"", 0),
            1024,
            ListFault::NameLength(long_name),
        ),
        (head(10, 2, b"a\n", 0), 1028, ListFault::NameText),
        (head(10, 2, &[0xC3, 0xA4], 0), 1028, ListFault::NameText),
        (
            head(10, 2, b"ab", long_data),
            1030,
            ListFault::DataLength(long_data),
        ),
        (
            head(10, 3, &[b"ima", &[0; 20][..]].concat(), u32::MAX),
            1051,
            ListFault::DataLength(u32::MAX),
        ),
    ] {
        let error = ListError {
            record: 5,
            offset,
            fault,
        };
        assert_eq!(parser.next(&bytes), Err(error));
        assert_eq!(parser.length(&bytes), Err(error));
        assert_eq!((parser.record(), parser.offset()), (5, 1000));
    }
    // The wrong byte order is seen at once.
    assert!(matches!(
        ListParser::new(BE).next(LIST),
        Err(ListError {
            record: 0,
            offset: 0,
            fault: ListFault::NoSuchPcr(0x0A00_0000)
        })
    ));
    assert_eq!(
        ListError {
            record: 5,
            offset: 1024,
            fault: ListFault::NameLength(0)
        }
        .to_string(),
        "IMA list, record 5 at offset 1024: template name of 0 bytes"
    );
}

#[test]
fn the_largest_record_fits_its_bounds_and_one_byte_more_does_not() {
    let name = "x".repeat(MAX_IMA_TEMPLATE_NAME);
    let body = vec![7; MAX_IMA_TEMPLATE_DATA];
    let record = Record::measured(10, HashAlg::Sha512, &name, &body);
    assert!(record.encoded_len() <= MAX_RECORD);
    let list = encoded(&record, Endian::Little);
    let format = ListFormat {
        endian: Endian::Little,
        template_hash: HashAlg::Sha512,
    };
    assert_eq!(records(&list, format), [record]);

    let mut small = vec![0; list.len() - 1];
    assert_eq!(
        record.encode(Endian::Little, &mut small),
        Err(RecordError::BufferTooSmall)
    );
    let (long_name, long_body) = (name.clone() + "x", vec![7; body.len() + 1]);
    let mut out = vec![0; MAX_RECORD + 2];
    let too_long = Record {
        template_name: &long_name,
        ..record
    };
    assert_eq!(
        too_long.encode(Endian::Little, &mut out),
        Err(RecordError::NameLength(MAX_IMA_TEMPLATE_NAME + 1))
    );
    let too_long = Record {
        template_data: &long_body,
        ..record
    };
    assert_eq!(
        too_long.encode(Endian::Little, &mut out),
        Err(RecordError::DataLength(MAX_IMA_TEMPLATE_DATA + 1))
    );
}

/// A list of a few records of any template, with some of them violations.
fn any_list() -> impl Strategy<Value = Vec<u8>> {
    let name = prop::sample::select(vec!["ima", "ima-ng", "ima-sig", "d-ng|n-ng", "acme"]);
    let body = prop::collection::vec(any::<u8>(), 0..80);
    prop::collection::vec((0..24_u32, name, body, any::<bool>()), 0..6).prop_map(|list| {
        list.iter()
            .flat_map(|(pcr, name, body, violation)| {
                let body = match *name {
                    "ima" => {
                        let len = (body.len() as u32).to_le_bytes();
                        [&[9; 20], &len[..], body].concat()
                    }
                    _ => body.clone(),
                };
                let mut record = Record::measured(*pcr, HashAlg::Sha1, name, &body);
                if *violation {
                    record.template_hash = Digest::zero(HashAlg::Sha1);
                }
                encoded(&record, Endian::Little)
            })
            .collect()
    })
}

/// Feeds `list` in pieces of these sizes; returns (pcr, hash, name, data) of each record.
fn fed(list: &[u8], sizes: &[usize]) -> Vec<(u32, Digest, String, Vec<u8>)> {
    let mut parser = ListParser::new(LE);
    let (mut buf, mut out) = (Vec::new(), Vec::new());
    let mut rest = list;
    for size in sizes.iter().cycle() {
        let (head, tail) = rest.split_at((*size).min(rest.len()));
        buf.extend(head);
        rest = tail;
        while let Step::Record(r, len) = parser.next(&buf).unwrap() {
            out.push((
                r.pcr,
                r.template_hash,
                r.template_name.to_owned(),
                r.template_data.to_vec(),
            ));
            buf.drain(..len);
        }
        if rest.is_empty() {
            break;
        }
    }
    assert!(buf.is_empty());
    out
}

proptest! {
    #[test]
    fn any_split_of_a_list_gives_the_same_records(
        list in any_list(),
        sizes in prop::collection::vec(1..50_usize, 1..20),
    ) {
        prop_assert_eq!(fed(&list, &sizes), fed(&list, &[usize::MAX]));
    }

    #[test]
    fn whatever_parses_encodes_to_the_same_bytes(
        list in any_list(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
        big: bool,
    ) {
        let mut list = list;
        for (at, v) in edits {
            if !list.is_empty() {
                let at = at.index(list.len());
                list[at] = v;
            }
        }
        let format = if big { BE } else { LE };
        let mut parser = ListParser::new(format);
        let mut rest = &list[..];
        loop {
            let length = parser.length(rest);
            match parser.next(rest) {
                Ok(Step::Record(record, len)) => {
                    prop_assert_eq!(length, Ok(Length::Known(len)));
                    prop_assert_eq!(&encoded(&record, format.endian), &rest[..len]);
                    for bank in HashAlg::ALL {
                        prop_assert_eq!(record.extend_digest(bank).alg(), bank);
                        prop_assert_eq!(record.extend_digest_padded(bank).alg(), bank);
                    }
                    let _ = TemplateData::of(&record, format.endian);
                    rest = &rest[len..];
                }
                Ok(Step::NeedMore(n)) => {
                    prop_assert!(n > rest.len());
                    break;
                }
                Err(error) => {
                    prop_assert_eq!(parser.next(rest), Err(error));
                    break;
                }
            }
        }
    }
}
