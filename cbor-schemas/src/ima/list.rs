//! `binary_runtime_measurements`, cut into records.
//!
//! ```text
//! u32 pcr | template hash | u32 name length | name | u32 data length | data
//! ```
//! The template hash is SHA-1, except in `binary_runtime_measurements_<alg>` of newer kernels. The
//! `ima` template has no data length: its data is a 20-byte digest, a u32 and so many bytes of name.

use core::fmt;

use super::{Endian, IMA_DIGEST_SIZE, IMA_TEMPLATE, Record, take};
use crate::limits::{MAX_IMA_TEMPLATE_DATA, MAX_IMA_TEMPLATE_NAME, PCR_COUNT};
use crate::tpm::{Digest, HashAlg, MAX_DIGEST};

/// The most bytes in front of a record's data; of the `ima` template, of its name. A buffer of
/// this size can skip any record.
pub const MAX_HEADER: usize = 4 + MAX_DIGEST + 4 + MAX_IMA_TEMPLATE_NAME + IMA_DIGEST_SIZE + 4;

/// Longest record, in bytes.
pub const MAX_RECORD: usize = MAX_HEADER + MAX_IMA_TEMPLATE_DATA;

/// What a reader must know of a list beforehand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ListFormat {
    /// Byte order of its integers.
    pub endian: Endian,
    /// Algorithm of the template hashes it shows.
    pub template_hash: HashAlg,
}

impl Default for ListFormat {
    fn default() -> Self {
        Self::LITTLE_SHA1
    }
}

impl ListFormat {
    /// `binary_runtime_measurements` of a little-endian kernel.
    pub const LITTLE_SHA1: Self = Self {
        endian: Endian::Little,
        template_hash: HashAlg::Sha1,
    };
}

/// What is wrong with a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListFault {
    /// A PCR that no PC Client TPM has. Often the wrong byte order.
    NoSuchPcr(u32),
    /// A template name of no or too many bytes.
    NameLength(u32),
    /// A template name with bytes other than printable ASCII.
    NameText,
    /// More template data than any kernel writes.
    DataLength(u32),
}

/// A list that cannot be cut into records any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListError {
    /// Number of the record, counted from 0.
    pub record: u64,
    /// Offset of the faulty field, in bytes from the start of the list.
    pub offset: u64,
    /// What is wrong.
    pub fault: ListFault,
}

impl fmt::Display for ListError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "IMA list, record {} at offset {}: ",
            self.record, self.offset
        )?;
        match self.fault {
            ListFault::NoSuchPcr(n) => write!(f, "PCR {n} does not exist"),
            ListFault::NameLength(n) => write!(f, "template name of {n} bytes"),
            ListFault::NameText => f.write_str("template name is not printable ASCII"),
            ListFault::DataLength(n) => write!(f, "template data of {n} bytes"),
        }
    }
}

impl core::error::Error for ListError {}

/// What [`ListParser::next`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// A record, and its length: drop so many bytes from the front of the buffer.
    Record(Record<'a>, usize),
    /// The buffer ends inside a record. Call again with at least so many bytes, the present ones
    /// first; at the end of the list this means that the kernel was still writing, or that the
    /// buffer is empty and all is done.
    NeedMore(usize),
}

/// What [`ListParser::length`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// Length of the record at the front of the buffer, all of which need not be there yet.
    Known(usize),
    /// The buffer ends inside the record's header. Call again with at least so many bytes, the
    /// present ones first; never more than [`MAX_HEADER`].
    NeedMore(usize),
}

/// Cuts a list into records, in whatever pieces it arrives.
///
/// The caller owns the buffer and drops what was consumed; the parser knows only where it is. A
/// call that fails, or that needs more, changes nothing.
///
/// ```
/// use mote_schemas::ima::{ListFormat, ListParser, Step};
///
/// fn count(list: &[u8]) -> u64 {
///     let mut parser = ListParser::new(ListFormat::default());
///     let mut rest = list;
///     while let Ok(Step::Record(_, len)) = parser.next(rest) {
///         rest = &rest[len..];
///     }
///     parser.record()
/// }
/// assert_eq!(count(b""), 0);
/// ```
///
/// To pass records without looking at them, and without a buffer that holds them, ask for the
/// [`length`](Self::length), drop so many bytes, and say so with [`skip`](Self::skip).
#[derive(Clone, Debug)]
pub struct ListParser {
    format: ListFormat,
    record: u64,
    offset: u64,
}

impl ListParser {
    /// Starts at record 0.
    pub const fn new(format: ListFormat) -> Self {
        Self::resume(format, 0, 0)
    }

    /// Starts at record number `record`, which begins at byte `offset` of the list.
    pub const fn resume(format: ListFormat, record: u64, offset: u64) -> Self {
        Self {
            format,
            record,
            offset,
        }
    }

    /// Number of the record that comes next.
    pub const fn record(&self) -> u64 {
        self.record
    }

    /// Where that record begins, in bytes from the start of the list.
    pub const fn offset(&self) -> u64 {
        self.offset
    }

    /// The format.
    pub const fn format(&self) -> ListFormat {
        self.format
    }

    /// Reads the record at the front of `buf`.
    #[allow(clippy::should_implement_trait)] // an iterator cannot lend from an argument
    pub fn next<'a>(&mut self, buf: &'a [u8]) -> Result<Step<'a>, ListError> {
        let header = match self.header(buf)? {
            Ok(header) => header,
            Err(needed) => return Ok(Step::NeedMore(needed)),
        };
        let Some(template_data) = buf.get(header.data_at..header.len) else {
            return Ok(Step::NeedMore(header.len));
        };
        self.skip(header.len);
        let record = Record {
            pcr: header.pcr,
            template_hash: header.template_hash,
            template_name: header.template_name,
            template_data,
        };
        Ok(Step::Record(record, header.len))
    }

    /// Length of the record at the front of `buf`, from its header alone.
    pub fn length(&self, buf: &[u8]) -> Result<Length, ListError> {
        Ok(match self.header(buf)? {
            Ok(header) => Length::Known(header.len),
            Err(needed) => Length::NeedMore(needed),
        })
    }

    /// Counts a record of `len` bytes as passed.
    pub fn skip(&mut self, len: usize) {
        self.record += 1;
        self.offset += len as u64;
    }

    fn header<'a>(&self, buf: &'a [u8]) -> Result<Result<Header<'a>, usize>, ListError> {
        read_header(self.format, buf).map_err(|(at, fault)| ListError {
            record: self.record,
            offset: self.offset + at as u64,
            fault,
        })
    }
}

struct Header<'a> {
    pcr: u32,
    template_hash: Digest,
    template_name: &'a str,
    data_at: usize,
    len: usize,
}

/// Reads up to the data. The outer error is fatal and says where; the inner one is the number of
/// bytes to come back with.
#[allow(clippy::type_complexity)]
fn read_header(
    format: ListFormat,
    buf: &[u8],
) -> Result<Result<Header<'_>, usize>, (usize, ListFault)> {
    let hash_len = format.template_hash.digest_len();
    let name_at = 4 + hash_len + 4;
    let mut rest = buf;
    let Some(pcr) = take(&mut rest) else {
        return Ok(Err(name_at));
    };
    let pcr = format.endian.u32(pcr);
    if pcr >= PCR_COUNT as u32 {
        return Err((0, ListFault::NoSuchPcr(pcr)));
    }
    let Some((hash, mut rest)) = rest.split_at_checked(hash_len) else {
        return Ok(Err(name_at));
    };
    let (Some(template_hash), Some(name_len)) =
        (Digest::new(format.template_hash, hash), take(&mut rest))
    else {
        return Ok(Err(name_at));
    };
    let name_len = format.endian.u32(name_len);
    if name_len == 0 || name_len as usize > MAX_IMA_TEMPLATE_NAME {
        return Err((name_at - 4, ListFault::NameLength(name_len)));
    }
    let name_end = name_at + name_len as usize;
    let Some((name, rest)) = rest.split_at_checked(name_len as usize) else {
        return Ok(Err(name_end + 4));
    };
    let template_name = template_name(name).ok_or((name_at, ListFault::NameText))?;

    let (before_len, data_at) = if template_name == IMA_TEMPLATE {
        (IMA_DIGEST_SIZE, name_end)
    } else {
        (0, name_end + 4)
    };
    let len_at = name_end + before_len;
    let Some(data_len) = rest.get(before_len..).and_then(|mut r| take(&mut r)) else {
        return Ok(Err(len_at + 4));
    };
    let data_len = format.endian.u32(data_len);
    if data_len as usize > MAX_IMA_TEMPLATE_DATA {
        return Err((len_at, ListFault::DataLength(data_len)));
    }
    Ok(Ok(Header {
        pcr,
        template_hash,
        template_name,
        data_at,
        len: len_at + 4 + data_len as usize,
    }))
}

/// A template name is a name or a format string that the kernel made: printable ASCII.
fn template_name(name: &[u8]) -> Option<&str> {
    let printable = name.iter().all(u8::is_ascii_graphic);
    core::str::from_utf8(name).ok().filter(|_| printable)
}
