//! Conceptual Message Wrapper (RFC 9999): evidence of any kind, with its media type.
//!
//! Three forms: a record `[type, value, ? indicator]`, a CBOR tag whose number is the type (RFC 9277), and
//! a collection of these by label. What is in `value` is its kind's business; here it stays bytes.
//!
//! Others write wrappers too, so nothing asks for deterministic CBOR: a value may come in chunks
//! (indefinite length), which is also how a device wraps what it cannot hold. Lengths and nesting are bounded
//! by the input and [`MAX_DEPTH`].
//!
//! **Who may lie**: everyone. A media type says how to look at the value, nothing about its truth.

use core::fmt;

use minicbor::data::{Tag, Type};
use minicbor::encode::{Error as EncodeError, Write};
use minicbor::{Decoder, Encoder};

/// CoAP Content-Format of `application/cmw+cbor`.
pub const CONTENT_FORMAT: u16 = 273;

/// Indicator bit of evidence (RFC 9999, 3.1: reference values 0, endorsements 1, evidence 2, results 3).
pub const EVIDENCE: u64 = 1 << 2;

/// Deepest nesting of collections.
pub const MAX_DEPTH: usize = 4;

/// TN(0) of RFC 9277, 4.3: the tags of content formats begin here.
const FIRST_TAG: u64 = 0x6374_0101;

/// Content formats in a row of 256 tags.
const ROW: u64 = 255;

/// Key of a collection's type.
const COLLECTION_TYPE: &str = "__cmwc_t";

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MediaType<'a> {
    /// By its CoAP Content-Format.
    ContentFormat(u16),
    /// By its name.
    Name(&'a str),
}

impl fmt::Display for MediaType<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ContentFormat(number) => write!(f, "content format {number}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// A wrapper: nothing in it is verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cmw<'a> {
    /// One conceptual message.
    Record(Record<'a>),
    /// Several, by label.
    Collection(Collection<'a>),
}

/// One conceptual message and what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Type of the value.
    pub media_type: MediaType<'a>,
    /// The message.
    pub value: Value<'a>,
    /// Which kinds of conceptual messages are in the value; `None`: the media type tells.
    pub indicator: Option<u64>,
}

impl Record<'_> {
    /// Whether the sender says that there is no evidence in it.
    pub fn is_other_than_evidence(&self) -> bool {
        self.indicator.is_some_and(|bits| bits & EVIDENCE == 0)
    }
}

/// A byte string, in one piece or in several: well-formed, as [`Cmw::parse`] has seen to it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Value<'a>(&'a [u8]);

impl<'a> Value<'a> {
    /// Its pieces, in order.
    pub fn chunks(self) -> impl Iterator<Item = &'a [u8]> {
        let mut d = Decoder::new(self.0);
        let mut whole = None;
        if d.datatype().is_ok_and(|t| t == Type::Bytes) {
            whole = d.bytes().ok();
        } else {
            // The head of an indefinite length is one byte.
            d.set_position(1);
        }
        let mut done = whole.is_some();
        core::iter::from_fn(move || {
            if let Some(whole) = whole.take() {
                return Some(whole);
            }
            if done {
                return None;
            }
            let next = d.bytes().ok();
            done = next.is_none();
            next
        })
    }

    /// All of it, if it came in one piece.
    pub fn in_one_piece(self) -> Option<&'a [u8]> {
        let mut chunks = self.chunks();
        let first = chunks.next().unwrap_or_default();
        chunks.next().is_none().then_some(first)
    }
}

impl fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("h'")?;
        let mut bytes = self.chunks().flatten();
        bytes.try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str("'")
    }
}

/// Label of a collection's entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Label<'a> {
    /// A number.
    Number(i64),
    /// A text.
    Text(&'a str),
}

/// Wrappers by label: well-formed, as [`Cmw::parse`] has seen to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Collection<'a>(&'a [u8]);

impl<'a> Collection<'a> {
    /// Its entries, in the order in which they came.
    pub fn entries(self) -> impl Iterator<Item = (Label<'a>, Cmw<'a>)> {
        let mut d = Decoder::new(self.0);
        let mut left = d.map().ok().flatten().unwrap_or(0);
        core::iter::from_fn(move || {
            while left > 0 {
                left -= 1;
                let label = label(&mut d).ok()?;
                if label == Label::Text(COLLECTION_TYPE) {
                    d.skip().ok()?;
                    continue;
                }
                return Some((label, cmw(&mut d, MAX_DEPTH).ok()?));
            }
            None
        })
    }

    /// Calls `found` with each record in it, whatever collection it is in.
    pub fn records(self, found: &mut dyn FnMut(Record<'a>)) {
        for (_, entry) in self.entries() {
            match entry {
                Cmw::Record(record) => found(record),
                Cmw::Collection(inner) => inner.records(found),
            }
        }
    }
}

/// Why bytes are no wrapper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CmwError {
    /// They end too early.
    Truncated,
    /// They go on behind it, from this offset.
    TrailingBytes(usize),
    /// Something else at this offset than a wrapper has there.
    Malformed(usize),
    /// A collection in a collection in a collection ...
    TooDeep,
}

impl fmt::Display for CmwError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("CMW: ends too early"),
            Self::TrailingBytes(offset) => {
                write!(f, "CMW: bytes behind its end, at offset {offset}")
            }
            Self::Malformed(offset) => write!(
                f,
                "CMW: not a record, tag or collection, at offset {offset}"
            ),
            Self::TooDeep => f.write_str("CMW: collections nested too deep"),
        }
    }
}

impl core::error::Error for CmwError {}

impl<'a> Cmw<'a> {
    /// Takes a wrapper apart, all of `bytes`.
    ///
    /// ```
    /// use mote_schemas::cmw::{Cmw, MediaType};
    /// let Ok(Cmw::Record(record)) = Cmw::parse(&[0x82, 0x19, 0x01, 0x07, 0x41, 0xaa]) else {
    ///     panic!("a record of content format 263");
    /// };
    /// assert_eq!(record.media_type, MediaType::ContentFormat(263));
    /// assert_eq!(record.value.in_one_piece(), Some(&[0xaa][..]));
    /// ```
    pub fn parse(bytes: &'a [u8]) -> Result<Self, CmwError> {
        let mut d = Decoder::new(bytes);
        let cmw = cmw(&mut d, MAX_DEPTH)?;
        if d.position() < bytes.len() {
            return Err(CmwError::TrailingBytes(d.position()));
        }
        Ok(cmw)
    }
}

fn fault(at: usize, error: &minicbor::decode::Error) -> CmwError {
    if error.is_end_of_input() {
        CmwError::Truncated
    } else {
        CmwError::Malformed(error.position().unwrap_or(at))
    }
}

fn cmw<'a>(d: &mut Decoder<'a>, depth: usize) -> Result<Cmw<'a>, CmwError> {
    let at = d.position();
    let wrong = CmwError::Malformed(at);
    match d.datatype().map_err(|e| fault(at, &e))? {
        Type::Array => {
            let items = d.array().map_err(|e| fault(at, &e))?;
            let media_type = media_type(d)?;
            let value = value(d)?;
            let indicator = match items {
                Some(2) => None,
                Some(3) => Some(d.u64().map_err(|e| fault(at, &e))?),
                _ => return Err(wrong),
            };
            Ok(Cmw::Record(Record {
                media_type,
                value,
                indicator,
            }))
        }
        Type::Tag => {
            let tag = d.tag().map_err(|e| fault(at, &e))?;
            let format = format_of_tag(tag.as_u64()).ok_or(wrong)?;
            Ok(Cmw::Record(Record {
                media_type: MediaType::ContentFormat(format),
                value: value(d)?,
                indicator: None,
            }))
        }
        Type::Map => collection(d, depth),
        _ => Err(wrong),
    }
}

fn collection<'a>(d: &mut Decoder<'a>, depth: usize) -> Result<Cmw<'a>, CmwError> {
    let at = d.position();
    let depth = depth.checked_sub(1).ok_or(CmwError::TooDeep)?;
    let entries = d.map().map_err(|e| fault(at, &e))?;
    let entries = entries.ok_or(CmwError::Malformed(at))?;
    let mut wrappers = 0u64;
    for _ in 0..entries {
        if label(d)? == Label::Text(COLLECTION_TYPE) {
            let at = d.position();
            // A URI, or an OID in dotted form or as a tag.
            d.skip().map_err(|e| fault(at, &e))?;
        } else {
            cmw(d, depth)?;
            wrappers += 1;
        }
    }
    if wrappers == 0 {
        return Err(CmwError::Malformed(at));
    }
    Ok(Cmw::Collection(Collection(&d.input()[at..d.position()])))
}

fn label<'a>(d: &mut Decoder<'a>) -> Result<Label<'a>, CmwError> {
    let at = d.position();
    match d.datatype().map_err(|e| fault(at, &e))? {
        Type::String => d.str().map(Label::Text),
        _ => d.i64().map(Label::Number),
    }
    .map_err(|e| fault(at, &e))
}

fn media_type<'a>(d: &mut Decoder<'a>) -> Result<MediaType<'a>, CmwError> {
    let at = d.position();
    match d.datatype().map_err(|e| fault(at, &e))? {
        Type::String => d.str().map(MediaType::Name),
        _ => d.u16().map(MediaType::ContentFormat),
    }
    .map_err(|e| fault(at, &e))
}

fn value<'a>(d: &mut Decoder<'a>) -> Result<Value<'a>, CmwError> {
    let at = d.position();
    match d.datatype().map_err(|e| fault(at, &e))? {
        Type::Bytes | Type::BytesIndef => {}
        _ => return Err(CmwError::Malformed(at)),
    }
    let chunks = d.bytes_iter().map_err(|e| fault(at, &e))?;
    for chunk in chunks {
        chunk.map_err(|e| fault(at, &e))?;
    }
    Ok(Value(&d.input()[at..d.position()]))
}

/// The tag of a content format (RFC 9277, 4.3); `None`: it has none.
pub fn tag_of_format(format: u16) -> Option<u64> {
    let format = u64::from(format);
    (format <= 65_024).then(|| FIRST_TAG + format / ROW * (ROW + 1) + format % ROW)
}

/// The content format of a tag.
fn format_of_tag(tag: u64) -> Option<u16> {
    let at = tag.checked_sub(FIRST_TAG)?;
    let (row, column) = (at / (ROW + 1), at % (ROW + 1));
    let format = row.checked_mul(ROW)?.checked_add(column)?;
    (column < ROW && format <= 65_024).then_some(format as u16)
}

/// Writes a record of evidence.
pub fn write_evidence<W: Write>(
    media_type: MediaType<'_>,
    value: &[u8],
    out: W,
) -> Result<(), EncodeError<W::Error>> {
    let mut e = Encoder::new(out);
    write_type(&mut e, 3, media_type)?;
    e.bytes(value)?.u64(EVIDENCE)?.ok()
}

/// Writes the tag form; `None`: this format has no tag.
pub fn write_tagged<W: Write>(
    format: u16,
    value: &[u8],
    out: W,
) -> Option<Result<(), EncodeError<W::Error>>> {
    let tag = Tag::new(tag_of_format(format)?);
    let mut e = Encoder::new(out);
    Some(e.tag(tag).and_then(|e| e.bytes(value)?.ok()))
}

/// Begins a record of evidence whose value will be written in chunks: definite byte strings, each by
/// itself. [`end_chunks`] ends it.
pub fn begin_chunks<W: Write>(
    media_type: MediaType<'_>,
    out: W,
) -> Result<(), EncodeError<W::Error>> {
    let mut e = Encoder::new(out);
    write_type(&mut e, 3, media_type)?;
    e.begin_bytes()?.ok()
}

/// Ends what [`begin_chunks`] began.
pub fn end_chunks<W: Write>(out: W) -> Result<(), EncodeError<W::Error>> {
    Encoder::new(out).end()?.u64(EVIDENCE)?.ok()
}

fn write_type<W: Write>(
    e: &mut Encoder<W>,
    items: u64,
    media_type: MediaType<'_>,
) -> Result<(), EncodeError<W::Error>> {
    e.array(items)?;
    match media_type {
        MediaType::ContentFormat(format) => e.u16(format)?.ok(),
        MediaType::Name(name) => e.str(name)?.ok(),
    }
}

#[cfg(test)]
mod tests {
    use minicbor::encode::write::Cursor;

    use super::*;

    fn written(write: impl FnOnce(&mut Cursor<&mut [u8]>), room: &mut [u8]) -> usize {
        let mut cursor = Cursor::new(room);
        write(&mut cursor);
        cursor.position()
    }

    #[test]
    fn the_tags_are_those_of_rfc_9277() {
        // RFC 9277, 4.3: TN(0), TN(60) and the last one.
        assert_eq!(tag_of_format(0), Some(1_668_546_817));
        assert_eq!(tag_of_format(60), Some(1_668_546_817 + 60));
        assert_eq!(tag_of_format(254), Some(1_668_546_817 + 254));
        assert_eq!(tag_of_format(255), Some(1_668_546_817 + 256));
        assert_eq!(tag_of_format(65_024), Some(1_668_612_095));
        assert_eq!(tag_of_format(65_025), None);
        for format in 0..=65_024 {
            let tag = tag_of_format(format).unwrap();
            assert_eq!(format_of_tag(tag), Some(format));
        }
        // A column that no format has.
        assert_eq!(format_of_tag(FIRST_TAG + 255), None);
        assert_eq!(format_of_tag(FIRST_TAG - 1), None);
        assert_eq!(format_of_tag(u64::MAX), None);
    }

    #[test]
    fn each_form_reads_back_and_every_cut_is_truncated() {
        let value = [7u8; 40];
        let mut room = [0; 128];
        let name = MediaType::Name("application/eat+cwt");
        let format = MediaType::ContentFormat(263);
        for form in 0..4 {
            let len = written(
                |out| match form {
                    0 => write_evidence(name, &value, out).unwrap(),
                    1 => write_evidence(format, &value, out).unwrap(),
                    2 => write_tagged(263, &value, out).unwrap().unwrap(),
                    _ => {
                        begin_chunks(name, &mut *out).unwrap();
                        for chunk in value.chunks(7) {
                            Encoder::new(&mut *out).bytes(chunk).unwrap();
                        }
                        end_chunks(out).unwrap();
                    }
                },
                &mut room,
            );
            let bytes = &room[..len];
            let Ok(Cmw::Record(record)) = Cmw::parse(bytes) else {
                panic!("form {form}");
            };
            let expected = if form % 3 == 0 { name } else { format };
            assert_eq!(record.media_type, expected);
            assert!(record.value.chunks().flatten().eq(&value), "form {form}");
            assert!(!record.is_other_than_evidence());
            assert_eq!(record.value.in_one_piece().is_some(), form != 3);
            for cut in 0..len {
                assert_eq!(Cmw::parse(&bytes[..cut]), Err(CmwError::Truncated), "{cut}");
            }
        }
    }

    #[test]
    fn a_collection_gives_its_records_and_its_type_is_none() {
        // {"__cmwc_t": "tag:x", "a": [263, h'01'], 2: {"b": tag(h'02')}}
        let mut room = [0; 128];
        let len = written(
            |out| {
                let mut e = Encoder::new(out);
                e.map(3).unwrap();
                e.str(COLLECTION_TYPE).unwrap().str("tag:x").unwrap();
                e.str("a").unwrap().array(2).unwrap().u16(263).unwrap();
                e.bytes(&[1]).unwrap();
                e.u8(2).unwrap().map(1).unwrap().str("b").unwrap();
                let tag = tag_of_format(60).unwrap();
                e.tag(Tag::new(tag)).unwrap().bytes(&[2]).unwrap();
            },
            &mut room,
        );
        let Ok(Cmw::Collection(collection)) = Cmw::parse(&room[..len]) else {
            panic!("a collection");
        };
        let mut seen = heapless::Vec::<_, 4>::new();
        collection.records(&mut |record| seen.push((record.media_type, record.value)).unwrap());
        assert_eq!(seen.len(), 2);
        assert_eq!(seen[0].0, MediaType::ContentFormat(263));
        assert_eq!(seen[1].1.in_one_piece(), Some(&[2][..]));
    }

    #[test]
    fn what_is_no_wrapper_is_refused_with_its_place() {
        for (bytes, error) in [
            (&[0x80][..], CmwError::Truncated),
            (&[0x01], CmwError::Malformed(0)),
            (&[0x81, 0x01], CmwError::Truncated),
            (&[0x82, 0x01, 0x61, 0x61], CmwError::Malformed(2)),
            (&[0x82, 0x20, 0x40], CmwError::Malformed(1)),
            (&[0x84, 0x01, 0x40, 0x04, 0x04], CmwError::Malformed(0)),
            (&[0x82, 0x01, 0x40, 0x00], CmwError::TrailingBytes(3)),
            (&[0xa0], CmwError::Malformed(0)),
            (&[0xc1, 0x40], CmwError::Malformed(0)),
            (&[0x9f, 0x01, 0x40, 0xff], CmwError::Malformed(0)),
        ] {
            assert_eq!(Cmw::parse(bytes), Err(error), "{bytes:02x?}");
        }
        let deep = [
            0xa1, 0x00, 0xa1, 0x00, 0xa1, 0x00, 0xa1, 0x00, 0xa1, 0x00, 0x82, 0x01, 0x40,
        ];
        assert_eq!(Cmw::parse(&deep), Err(CmwError::TooDeep));
        assert!(Cmw::parse(&deep[2..]).is_ok());
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..64)) {
            if let Ok(Cmw::Collection(collection)) = Cmw::parse(&bytes) {
                collection.records(&mut |record| { let _ = record.value.in_one_piece(); });
            }
        }
    }
}
