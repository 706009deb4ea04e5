use minicbor::Encoder;
use mote_schemas::cmw::{self, write_evidence, write_tagged};

use super::*;
use crate::manifest::envelope::in_memory;

fn record(media_type: MediaType<'_>, value: &[u8]) -> Vec<u8> {
    let mut out = minicbor::encode::write::Writer::new(Vec::new());
    write_evidence(media_type, value, &mut out).unwrap();
    out.into_inner()
}

#[test]
fn each_kind_is_found_by_its_media_type_in_every_form() {
    let mut tagged = minicbor::encode::write::Writer::new(Vec::new());
    write_tagged(263, b"token", &mut tagged).unwrap().unwrap();
    for (bytes, kind) in [
        (
            record(MediaType::ContentFormat(263), b"token"),
            KindId::Token,
        ),
        (
            record(MediaType::Name("application/eat+cwt"), b"token"),
            KindId::Token,
        ),
        (
            record(
                MediaType::Name("Application/EAT+CWT; eat_profile=\"tag:x\""),
                b"token",
            ),
            KindId::Token,
        ),
        (tagged.into_inner(), KindId::Token),
        (
            record(MediaType::Name(bundle::MEDIA_TYPE), b"token"),
            KindId::TpmIma,
        ),
    ] {
        let wrapped = Wrapped::open(&bytes).unwrap();
        assert_eq!((wrapped.kind, &wrapped.value[..]), (kind, &b"token"[..]));
    }
}

#[test]
fn what_is_no_evidence_of_ours_is_named_and_refused() {
    let results =
        in_memory(|e: &mut Encoder<Vec<u8>>| e.array(3)?.u16(263)?.bytes(b"x")?.u8(1 << 3)?.ok());
    let other = record(MediaType::Name("application/rim+cose"), b"x");
    for (bytes, what) in [
        (&results, "content format 263"),
        (&other, "application/rim+cose"),
        (
            &record(MediaType::ContentFormat(60), b"x"),
            "content format 60",
        ),
    ] {
        let error = Wrapped::open(bytes).unwrap_err();
        assert_eq!(error.reason(), Reason::MediaTypeUnsupported);
        assert!(error.to_string().contains(what), "{error}");
    }
    let error = Wrapped::open(b"\xff\xff").unwrap_err();
    assert_eq!(error.reason(), Reason::MessageMalformed);
    assert_eq!(error, WrapError::Cmw(cmw::CmwError::Malformed(0)));
}

#[test]
fn a_collection_must_leave_no_doubt_which_evidence_is_meant() {
    let collection = |formats: &[u16]| {
        in_memory(|e: &mut Encoder<Vec<u8>>| {
            e.map(formats.len() as u64)?;
            for (label, format) in formats.iter().enumerate() {
                e.u64(label as u64)?.array(2)?.u16(*format)?;
                e.bytes(&[label as u8])?;
            }
            Ok(())
        })
    };
    let wrapped = collection(&[60, 263]);
    assert_eq!(Wrapped::open(&wrapped).unwrap().value[..], [1]);
    let several = Wrapped::open(&collection(&[263, 60, 263])).unwrap_err();
    assert_eq!(several, WrapError::Several(2));
    let none = Wrapped::open(&collection(&[60, 61])).unwrap_err();
    assert_eq!(none.reason(), Reason::MediaTypeUnsupported);
}
