//! The IMA list of a real kernel, and lists that no kernel writes.
#![allow(clippy::unwrap_used)]

mod list;
mod template;
#[path = "../vectors/mod.rs"]
mod vectors;

use mote_schemas::ima::{Endian, ListFormat, ListParser, Record, Step, TemplateWriter};
use mote_schemas::tpm::HashAlg;

pub(crate) const LE: ListFormat = ListFormat::LITTLE_SHA1;

pub(crate) const BE: ListFormat = ListFormat {
    endian: Endian::Big,
    template_hash: HashAlg::Sha1,
};

/// All records of a list that is whole.
pub(crate) fn records(list: &[u8], format: ListFormat) -> Vec<Record<'_>> {
    let mut parser = ListParser::new(format);
    let mut rest = list;
    let mut out = Vec::new();
    while !rest.is_empty() {
        match parser.next(rest).unwrap() {
            Step::Record(record, len) => {
                out.push(record);
                rest = &rest[len..];
            }
            Step::NeedMore(n) => panic!("{n} bytes needed at {}", parser.offset()),
        }
    }
    assert_eq!(parser.record(), out.len() as u64);
    assert_eq!(parser.offset(), list.len() as u64);
    out
}

pub(crate) fn encoded(record: &Record<'_>, endian: Endian) -> Vec<u8> {
    let mut out = vec![0; record.encoded_len()];
    assert_eq!(record.encode(endian, &mut out).unwrap().len(), out.len());
    out
}

/// Template data of these fields.
pub(crate) fn data(endian: Endian, fields: &[&[u8]]) -> Vec<u8> {
    let mut out = [0; 1024];
    let mut w = TemplateWriter::new(endian, &mut out);
    for field in fields {
        w.bytes(field).unwrap();
    }
    w.finish().to_vec()
}
