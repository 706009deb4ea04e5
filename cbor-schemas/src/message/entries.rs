//! Log entries on the wire: a lazily decoded array, so that neither side needs memory for more
//! than one entry. An item is a record in full, a file's record in short, or a run of records of
//! which only the first bytes of the template hash travel.

use core::fmt;

use minicbor::data::Type;
use minicbor::encode::write::Cursor;
use minicbor::{Decode, Decoder, Encode, Encoder, decode, encode};

use super::file_entry::{FIRST_KIND, FileEntry, MAX_BODY};
use super::path_code::PreviousPath;
use crate::cbor::BufferTooSmall;
use crate::limits::{MAX_IMA_TEMPLATE_DATA, MAX_IMA_TEMPLATE_NAME, PCR_COUNT};

/// The PCR that IMA extends unless its policy says otherwise (`CONFIG_IMA_MEASURE_PCR_IDX`).
pub const IMA_PCR: u32 = 10;

/// Template names that travel as one byte: index = id on the wire. Append only.
const TEMPLATES: [&str; 8] = [
    "ima-ng",
    "ima-sig",
    "ima-ngv2",
    "ima-sigv2",
    "ima-buf",
    "ima-modsig",
    "evm-sig",
    "ima",
];

/// One record of the kernel's list, in full. The verifier computes the template hash itself.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Template name, or format string such as `d-ng|n-ng`.
    pub template: &'a str,
    /// Template data as the kernel hashed it.
    pub data: &'a [u8],
    /// PCR that was extended.
    pub pcr: u32,
    /// The list shows an all-zero template hash: the kernel extended all ones instead.
    pub violation: bool,
}

impl fmt::Debug for Entry<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("template", &self.template)
            .field("data", &self.data.len())
            .field("pcr", &self.pcr)
            .field("violation", &self.violation)
            .finish()
    }
}

impl<C> Encode<C> for Entry<'_> {
    fn encode<W: encode::Write>(
        &self,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), encode::Error<W::Error>> {
        e.array(match (self.pcr, self.violation) {
            (_, true) => 4,
            (IMA_PCR, false) => 2,
            (_, false) => 3,
        })?;
        match TEMPLATES.iter().position(|t| *t == self.template) {
            Some(id) => e.u8(id as u8)?,
            None => e.str(self.template)?,
        };
        e.bytes(self.data)?;
        if self.violation || self.pcr != IMA_PCR {
            e.u32(self.pcr)?;
        }
        if self.violation {
            e.bool(true)?;
        }
        Ok(())
    }
}

/// Why an entry is refused. Its place is the number of entries before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryError {
    /// Not an array of two to four items, or an item of the wrong type.
    Shape,
    /// A template id that this version does not know.
    TemplateId,
    /// Name or data longer than `limits` allow, or no name.
    TooLong,
    /// No such PCR.
    Pcr,
    /// A path's code stands for nothing.
    Path,
    /// Not whole prefixes of 4 to 8 bytes.
    Prefixes,
}

impl fmt::Display for EntryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            EntryError::Shape => "log entry is not [template, data, ?pcr, ?violation]",
            EntryError::TemplateId => "unknown template id in a log entry",
            EntryError::TooLong => "template name or data of a log entry out of bounds",
            EntryError::Pcr => "log entry names a PCR that does not exist",
            EntryError::Path => "the path in a log entry is no code of a path",
            EntryError::Prefixes => "log entries by prefix are not whole prefixes of 4 to 8 bytes",
        })
    }
}

impl core::error::Error for EntryError {}

impl From<decode::Error> for EntryError {
    fn from(_: decode::Error) -> Self {
        EntryError::Shape
    }
}

/// Lengths that a prefix may have, in bytes.
pub const PREFIX_LENGTHS: core::ops::RangeInclusive<u8> = 4..=8;

/// Records of PCR 10, no violations, by the first bytes of their template hash as the list shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run<'a> {
    length: u8,
    prefixes: &'a [u8],
}

impl<'a> Run<'a> {
    /// The prefixes, in the order of the list.
    pub fn prefixes(&self) -> impl ExactSizeIterator<Item = &'a [u8]> + use<'a> {
        self.prefixes.chunks_exact(usize::from(self.length))
    }
}

/// One item of [`Entries`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// A record as it is.
    Full(Entry<'a>),
    /// A file's record.
    File(FileEntry<'a>),
    /// Records that the verifier is expected to know.
    Known(Run<'a>),
}

impl Item<'_> {
    /// Records that it stands for.
    pub fn records(&self) -> u64 {
        match self {
            Item::Full(_) | Item::File(_) => 1,
            Item::Known(run) => run.prefixes().len() as u64,
        }
    }
}

impl<'a> Item<'a> {
    fn decode(d: &mut Decoder<'a>) -> Result<Self, EntryError> {
        if d.datatype()? == Type::Bytes {
            let (length, prefixes) = d.bytes()?.split_first().ok_or(EntryError::Prefixes)?;
            let whole = PREFIX_LENGTHS.contains(length)
                && !prefixes.is_empty()
                && prefixes.len().is_multiple_of(usize::from(*length));
            if !whole {
                return Err(EntryError::Prefixes);
            }
            return Ok(Item::Known(Run {
                length: *length,
                prefixes,
            }));
        }
        let items = d.array()?.ok_or(EntryError::Shape)?;
        if !(2..=4).contains(&items) {
            return Err(EntryError::Shape);
        }
        let template = if d.datatype()? == Type::String {
            d.str()?
        } else {
            let id = d.u8()?;
            if id >= FIRST_KIND {
                return Self::decode_file(id, items, d);
            }
            TEMPLATES[usize::from(id)]
        };
        let data = d.bytes()?;
        if template.is_empty()
            || template.len() > MAX_IMA_TEMPLATE_NAME
            || data.len() > MAX_IMA_TEMPLATE_DATA
        {
            return Err(EntryError::TooLong);
        }
        let pcr = if items > 2 { d.u32()? } else { IMA_PCR };
        if pcr as usize >= PCR_COUNT {
            return Err(EntryError::Pcr);
        }
        let violation = items == 4;
        if violation && !d.bool()? {
            return Err(EntryError::Shape);
        }
        Ok(Item::Full(Entry {
            template,
            data,
            pcr,
            violation,
        }))
    }

    fn decode_file(id: u8, items: u64, d: &mut Decoder<'a>) -> Result<Self, EntryError> {
        if items > 3 {
            return Err(EntryError::Shape);
        }
        let body = d.bytes()?;
        let signature = if items == 3 { d.bytes()? } else { &[] };
        FileEntry::from_parts(id, body, signature)
            .map(Item::File)
            .ok_or(EntryError::TemplateId)
    }
}

/// An array of entries, decoded one by one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Entries<'a> {
    /// The whole CBOR array, head included; one well-formed item.
    raw: &'a [u8],
}

impl<'a> Entries<'a> {
    /// No entries.
    pub const EMPTY: Entries<'static> = Entries { raw: &[0x80] };

    /// Number of records that the items stand for, up to the first item that is refused.
    pub fn records(&self) -> u64 {
        self.iter().map_while(Result::ok).fold(0, |sum, item| {
            // The array's length bounds the sum.
            sum + item.records()
        })
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.raw == Self::EMPTY.raw
    }

    /// Their encoding.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.raw
    }

    /// The items; stops after the first one that is refused.
    pub fn iter(&self) -> impl Iterator<Item = Result<Item<'a>, EntryError>> + use<'a> {
        let mut decoder = Decoder::new(self.raw);
        let mut left = decoder.array().ok().flatten().unwrap_or(0);
        core::iter::from_fn(move || {
            left = left.checked_sub(1)?;
            let entry = Item::decode(&mut decoder);
            if entry.is_err() {
                left = 0;
            }
            Some(entry)
        })
    }
}

impl fmt::Debug for Entries<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<C> Encode<C> for Entries<'_> {
    fn encode<W: encode::Write>(
        &self,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), encode::Error<W::Error>> {
        // `raw` is one well-formed item: both constructors see to it.
        e.writer_mut()
            .write_all(self.raw)
            .map_err(encode::Error::write)
    }
}

impl<'b, C> Decode<'b, C> for Entries<'b> {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, decode::Error> {
        let from = d.position();
        if d.datatype()? != Type::Array {
            return Err(decode::Error::type_mismatch(d.datatype()?).at(from));
        }
        d.skip()?;
        Ok(Self {
            raw: &d.input()[from..d.position()],
        })
    }
}

/// Collects entries into a caller's buffer until it is full.
pub struct EntriesWriter<'b> {
    buffer: &'b mut [u8],
    end: usize,
    items: u16,
    records: u16,
    previous: PreviousPath,
    /// The run being written: where it begins, and its length of prefixes.
    run: Option<(usize, u8)>,
}

/// Room for the head of an array, or of a run, of up to 65,535 items or bytes.
const HEAD: usize = 3;

impl<'b> EntriesWriter<'b> {
    /// An empty array in `buffer`, whose length bounds the encoded size.
    pub fn new(buffer: &'b mut [u8]) -> Self {
        Self {
            buffer,
            end: HEAD,
            items: 0,
            records: 0,
            previous: PreviousPath::default(),
            run: None,
        }
    }

    /// Appends `entry`, in short if it is a file's, or leaves everything as it was when it does not
    /// fit.
    pub fn push(&mut self, entry: &Entry<'_>) -> Result<(), BufferTooSmall> {
        let records = self.records.checked_add(1).ok_or(BufferTooSmall)?;
        self.end_run();
        let room = self.buffer.get_mut(self.end..).ok_or(BufferTooSmall)?;
        let mut cursor = Cursor::new(room);
        let mut body = [0; MAX_BODY];
        match FileEntry::of(entry, &self.previous, &mut body) {
            Some((file, path)) => {
                encode_file(&file, &mut cursor).map_err(|_| BufferTooSmall)?;
                self.previous.set(path);
            }
            None => minicbor::encode(entry, &mut cursor).map_err(|_| BufferTooSmall)?,
        }
        self.end += cursor.position();
        self.items += 1;
        self.records = records;
        Ok(())
    }

    /// Appends a record by the first `length` bytes of its template hash, or leaves everything as it
    /// was when it does not fit.
    pub fn push_known(&mut self, hash: &[u8], length: u8) -> Result<(), BufferTooSmall> {
        let records = self.records.checked_add(1).ok_or(BufferTooSmall)?;
        let prefix = hash.get(..usize::from(length)).ok_or(BufferTooSmall)?;
        if self.run.is_some_and(|(_, running)| running != length) {
            self.end_run();
        }
        let start = if self.run.is_some() {
            self.end
        } else {
            self.end + HEAD + 1
        };
        let room = self.buffer.get_mut(start..start + prefix.len());
        room.ok_or(BufferTooSmall)?.copy_from_slice(prefix);
        if self.run.is_none() {
            self.run = Some((self.end, length));
            self.buffer[start - 1] = length;
            self.items += 1;
        }
        self.end = start + prefix.len();
        self.records = records;
        Ok(())
    }

    /// Gives the run being written its head, which is as short as its length allows.
    fn end_run(&mut self) {
        let Some((start, _)) = self.run.take() else {
            return;
        };
        let body = start + HEAD;
        let head = head(self.end - body, |e, len| e.bytes_len(len).is_ok());
        self.buffer.copy_within(body..self.end, start + head.len());
        self.buffer[start..start + head.len()].copy_from_slice(&head);
        self.end -= HEAD - head.len();
    }

    /// Number of records so far.
    pub fn records(&self) -> u16 {
        self.records
    }

    /// The finished array.
    pub fn finish(mut self) -> Entries<'b> {
        self.end_run();
        if self.items == 0 {
            return Entries::EMPTY;
        }
        let head = head(usize::from(self.items), |e, len| e.array(len).is_ok());
        let start = HEAD - head.len();
        self.buffer[start..HEAD].copy_from_slice(&head);
        Entries {
            raw: &self.buffer[start..self.end],
        }
    }
}

/// The head that `write` makes of `len`, which is below 65,536.
fn head(
    len: usize,
    write: impl FnOnce(&mut Encoder<&mut Cursor<&mut [u8]>>, u64) -> bool,
) -> heapless::Vec<u8, HEAD> {
    let mut bytes = [0; HEAD];
    let mut cursor = Cursor::new(&mut bytes[..]);
    let written = write(&mut Encoder::new(&mut cursor), len as u64);
    debug_assert!(written);
    let end = cursor.position();
    bytes[..end].iter().copied().collect()
}

fn encode_file(
    file: &FileEntry<'_>,
    cursor: &mut Cursor<&mut [u8]>,
) -> Result<(), encode::Error<encode::write::EndOfSlice>> {
    let (id, body, signature) = file.parts();
    let mut e = Encoder::new(cursor);
    let items = if signature.is_empty() { 2 } else { 3 };
    e.array(items)?.u8(id)?.bytes(body)?;
    if !signature.is_empty() {
        e.bytes(signature)?;
    }
    Ok(())
}
