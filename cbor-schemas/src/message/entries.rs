//! Log entries on the wire: a lazily decoded array, so that neither side needs memory for more
//! than one entry.

use core::fmt;

use minicbor::data::Type;
use minicbor::encode::write::Cursor;
use minicbor::{Decode, Decoder, Encode, Encoder, decode, encode};

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
}

impl fmt::Display for EntryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            EntryError::Shape => "log entry is not [template, data, ?pcr, ?violation]",
            EntryError::TemplateId => "unknown template id in a log entry",
            EntryError::TooLong => "template name or data of a log entry out of bounds",
            EntryError::Pcr => "log entry names a PCR that does not exist",
        })
    }
}

impl core::error::Error for EntryError {}

impl From<decode::Error> for EntryError {
    fn from(_: decode::Error) -> Self {
        EntryError::Shape
    }
}

impl<'a> Entry<'a> {
    fn decode(d: &mut Decoder<'a>) -> Result<Self, EntryError> {
        let items = d.array()?.ok_or(EntryError::Shape)?;
        if !(2..=4).contains(&items) {
            return Err(EntryError::Shape);
        }
        let template = match d.datatype()? {
            Type::String => d.str()?,
            _ => *TEMPLATES
                .get(usize::from(d.u8()?))
                .ok_or(EntryError::TemplateId)?,
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
        Ok(Self {
            template,
            data,
            pcr,
            violation,
        })
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

    /// Number of entries that the array claims.
    pub fn len(&self) -> u64 {
        Decoder::new(self.raw).array().ok().flatten().unwrap_or(0)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The entries; stops after the first one that is refused.
    pub fn iter(&self) -> impl Iterator<Item = Result<Entry<'a>, EntryError>> + use<'a> {
        let mut decoder = Decoder::new(self.raw);
        let mut left = decoder.array().ok().flatten().unwrap_or(0);
        core::iter::from_fn(move || {
            left = left.checked_sub(1)?;
            let entry = Entry::decode(&mut decoder);
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
    count: u16,
}

/// Room for the head of an array of up to 65,535 entries.
const HEAD: usize = 3;

impl<'b> EntriesWriter<'b> {
    /// An empty array in `buffer`, whose length bounds the encoded size.
    pub fn new(buffer: &'b mut [u8]) -> Self {
        Self {
            buffer,
            end: HEAD,
            count: 0,
        }
    }

    /// Appends `entry`, or leaves everything as it was when it does not fit.
    pub fn push(&mut self, entry: &Entry<'_>) -> Result<(), BufferTooSmall> {
        let room = self.buffer.get_mut(self.end..).ok_or(BufferTooSmall)?;
        let mut cursor = Cursor::new(room);
        minicbor::encode(entry, &mut cursor).map_err(|_| BufferTooSmall)?;
        self.count = self.count.checked_add(1).ok_or(BufferTooSmall)?;
        self.end += cursor.position();
        Ok(())
    }

    /// Number of entries so far.
    pub fn count(&self) -> u16 {
        self.count
    }

    /// The finished array.
    pub fn finish(self) -> Entries<'b> {
        if self.count == 0 {
            return Entries::EMPTY;
        }
        let mut head = [0u8; HEAD];
        let mut cursor = Cursor::new(&mut head[..]);
        // Three bytes hold every head of a u16.
        let _ = Encoder::new(&mut cursor).array(u64::from(self.count));
        let len = cursor.position();
        let start = HEAD - len;
        self.buffer[start..HEAD].copy_from_slice(&head[..len]);
        Entries {
            raw: &self.buffer[start..self.end],
        }
    }
}
