//! `binary_bios_measurements`, cut into events.
//!
//! ```text
//! crypto-agile  u32 pcr | u32 type | u32 count | count x (u16 alg | digest) | u32 size | data
//! SHA-1         u32 pcr | u32 type | 20-byte digest                         | u32 size | data
//! ```
//! The first event of a crypto-agile log is in the SHA-1 form and names the algorithms with the sizes
//! of their digests (`TCG_EfiSpecIDEvent`, 10.4.5.1).

use core::fmt;

use super::event::Digests;
use super::{Event, EventType};
use crate::limits::{MAX_BOOT_LOG, MAX_BOOT_LOG_BANKS, PCR_COUNT};
use crate::tpm::HashAlg;

/// Signature of the header of a crypto-agile log.
const SPEC_ID_03: &[u8; 16] = b"Spec ID Event03\0";

/// Bytes of `TCG_EfiSpecIDEvent` between its signature and its number of algorithms: platform class,
/// minor and major version, errata, size of UINTN.
const SPEC_ID_FIXED: usize = 4 + 1 + 1 + 1 + 1;

/// Bytes of an event's PCR and type. So many zeros are padding; fewer may be an event cut off.
const PCR_AND_TYPE: usize = 8;

/// In which form a log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LogFormat {
    /// `TCG_PCR_EVENT`: SHA-1 alone.
    Sha1,
    /// `TCG_PCR_EVENT2`: a digest for each bank.
    CryptoAgile,
}

/// What is wrong with a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BootLogFault {
    /// It has no event.
    Empty,
    /// It is longer than [`MAX_BOOT_LOG`].
    TooLong(usize),
    /// It ends inside an event.
    Truncated,
    /// An event in a PCR that no PC Client TPM has.
    NoSuchPcr(u32),
    /// The header does not hold what its signature says.
    Header,
    /// The header names no algorithm, or more than [`MAX_BOOT_LOG_BANKS`].
    AlgorithmCount(u32),
    /// The header gives an algorithm's digests another size than they have, or names it twice.
    DigestSize {
        /// `TPM_ALG_ID`.
        alg: u16,
        /// Size in the header, in bytes.
        len: u16,
    },
    /// An event has more digests than the header has algorithms.
    DigestCount(u32),
    /// An event has a digest of an algorithm that the header does not name.
    UnknownAlgorithm(u16),
    /// An event has two digests of an algorithm.
    RepeatedAlgorithm(u16),
}

/// A log that cannot be cut into events. It is refused whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BootLogError {
    /// Number of the event, from 0.
    pub event: u32,
    /// Offset of what is wrong, in bytes from the start of the log.
    pub offset: usize,
    /// What is wrong.
    pub fault: BootLogFault,
}

impl fmt::Display for BootLogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "boot log, event {} at offset {}: ",
            self.event, self.offset
        )?;
        match self.fault {
            BootLogFault::Empty => f.write_str("the log is empty"),
            BootLogFault::TooLong(len) => {
                write!(f, "{len} bytes, at most {MAX_BOOT_LOG} are read")
            }
            BootLogFault::Truncated => f.write_str("the log ends inside the event"),
            BootLogFault::NoSuchPcr(pcr) => write!(f, "PCR {pcr} does not exist"),
            BootLogFault::Header => f.write_str("not a Spec ID event"),
            BootLogFault::AlgorithmCount(n) => {
                write!(f, "{n} algorithms, 1 to {MAX_BOOT_LOG_BANKS} are read")
            }
            BootLogFault::DigestSize { alg, len } => {
                write!(f, "algorithm {alg:#06x} twice, or not with {len} bytes")
            }
            BootLogFault::DigestCount(n) => write!(f, "{n} digests, more than algorithms"),
            BootLogFault::UnknownAlgorithm(alg) => {
                write!(f, "algorithm {alg:#06x} is not one of the header's")
            }
            BootLogFault::RepeatedAlgorithm(alg) => write!(f, "two digests of {alg:#06x}"),
        }
    }
}

impl core::error::Error for BootLogError {}

/// The algorithms of a log and the sizes of their digests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Banks {
    known: [(u16, u16); MAX_BOOT_LOG_BANKS],
    count: usize,
}

impl Banks {
    const SHA1: Self = {
        let mut banks = Self::NONE;
        banks.known[0] = (HashAlg::Sha1.to_u16(), HashAlg::Sha1.digest_len() as u16);
        banks.count = 1;
        banks
    };

    const NONE: Self = Self {
        known: [(0, 0); MAX_BOOT_LOG_BANKS],
        count: 0,
    };

    fn iter(&self) -> impl Iterator<Item = (u16, u16)> {
        self.known.into_iter().take(self.count)
    }

    /// Size of this algorithm's digests, in bytes.
    pub(super) fn digest_len(&self, alg: u16) -> Option<usize> {
        self.iter()
            .find(|(known, _)| *known == alg)
            .map(|(_, len)| usize::from(len))
    }
}

/// A log of which every event was found.
#[derive(Clone, Copy, Debug)]
pub struct BootLog<'a> {
    bytes: &'a [u8],
    end: usize,
    format: LogFormat,
    banks: Banks,
    events: u32,
}

impl<'a> BootLog<'a> {
    /// Walks the whole log. Zeros, or ones, behind the last event are the rest of the firmware's
    /// buffer and no part of the log.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BootLogError> {
        let whole = |fault| BootLogError {
            event: 0,
            offset: 0,
            fault,
        };
        if bytes.is_empty() {
            return Err(whole(BootLogFault::Empty));
        }
        if bytes.len() > MAX_BOOT_LOG {
            return Err(whole(BootLogFault::TooLong(bytes.len())));
        }
        let mut walk = Walk {
            reader: Reader { bytes, at: 0 },
            end: end(bytes),
            format: LogFormat::Sha1,
            banks: Banks::SHA1,
            number: 0,
        };
        let mut events = 0;
        let (mut format, mut banks) = (walk.format, walk.banks);
        while let Some(event) = walk.step()? {
            if events == 0 && event.data.starts_with(SPEC_ID_03) && !event.is_extended() {
                let data_at = walk.reader.at - event.data.len();
                banks = spec_id(event.data).map_err(|(at, fault)| BootLogError {
                    event: 0,
                    offset: data_at + at,
                    fault,
                })?;
                format = LogFormat::CryptoAgile;
                (walk.format, walk.banks) = (format, banks);
            }
            events += 1;
        }
        if events == 0 {
            return Err(whole(BootLogFault::Empty));
        }
        Ok(Self {
            bytes,
            end: walk.end,
            format,
            banks,
            events,
        })
    }

    /// Its form.
    pub const fn format(&self) -> LogFormat {
        self.format
    }

    /// Number of events, the header included.
    pub const fn len(&self) -> u32 {
        self.events
    }

    /// Whether it has no event but a header.
    pub fn is_empty(&self) -> bool {
        !self.events().any(|event| event.is_extended())
    }

    /// The banks it has digests for, of those that are known here.
    pub fn banks(&self) -> impl Iterator<Item = HashAlg> {
        self.banks
            .iter()
            .filter_map(|(alg, _)| HashAlg::from_u16(alg))
    }

    /// The events, the header first if there is one.
    pub fn events(&self) -> Events<'a> {
        Events {
            walk: Walk {
                reader: Reader {
                    bytes: self.bytes,
                    at: 0,
                },
                end: self.end,
                format: LogFormat::Sha1,
                banks: Banks::SHA1,
                number: 0,
            },
            then: (self.format, self.banks),
        }
    }
}

/// Events of a log; see [`BootLog::events`].
#[derive(Clone, Debug)]
pub struct Events<'a> {
    walk: Walk<'a>,
    /// What events after the first are like.
    then: (LogFormat, Banks),
}

impl<'a> Iterator for Events<'a> {
    type Item = Event<'a>;

    fn next(&mut self) -> Option<Event<'a>> {
        // A BootLog exists only if the whole walk succeeds.
        let event = self.walk.step().ok().flatten();
        (self.walk.format, self.walk.banks) = self.then;
        event
    }
}

/// `TCG_EfiSpecIDEvent`: the algorithms. An error comes with its offset in `data`.
fn spec_id(data: &[u8]) -> Result<Banks, (usize, BootLogFault)> {
    let mut reader = Reader { bytes: data, at: 0 };
    let header = |at| move |()| (at, BootLogFault::Header);
    reader
        .take(SPEC_ID_03.len() + SPEC_ID_FIXED)
        .map_err(header(0))?;
    let at = reader.at;
    let count = reader.u32().map_err(header(at))?;
    if count == 0 || count as usize > MAX_BOOT_LOG_BANKS {
        return Err((at, BootLogFault::AlgorithmCount(count)));
    }
    let mut banks = Banks::NONE;
    for _ in 0..count {
        let at = reader.at;
        let alg = reader.u16().map_err(header(at))?;
        let len = reader.u16().map_err(header(at))?;
        let wrong = HashAlg::from_u16(alg).is_some_and(|alg| alg.digest_len() != usize::from(len));
        if wrong || len == 0 || banks.digest_len(alg).is_some() {
            return Err((at, BootLogFault::DigestSize { alg, len }));
        }
        banks.known[banks.count] = (alg, len);
        banks.count += 1;
    }
    // What follows is the vendor's, with one byte of length in front; Linux and tpm2-tools do not
    // look at it either.
    Ok(banks)
}

/// Where padding begins: nothing but zeros, or nothing but ones, up to the end. No event begins there,
/// since a whole one has a digest or data; an event that ends there may reach into it.
fn end(bytes: &[u8]) -> usize {
    match bytes.last() {
        Some(&fill @ (0 | 0xFF)) => bytes
            .iter()
            .rposition(|byte| *byte != fill)
            .map_or(0, |last| last + 1),
        _ => bytes.len(),
    }
}

/// A walk along the events; ends for good at the first fault.
#[derive(Clone, Debug)]
struct Walk<'a> {
    reader: Reader<'a>,
    end: usize,
    format: LogFormat,
    banks: Banks,
    number: u32,
}

impl<'a> Walk<'a> {
    fn step(&mut self) -> Result<Option<Event<'a>>, BootLogError> {
        let offset = self.reader.at;
        let left = self.reader.bytes.len() - offset;
        if left == 0 || (offset >= self.end && left >= PCR_AND_TYPE) {
            return Ok(None);
        }
        let number = self.number;
        let event = self.event(offset).map_err(|(at, fault)| BootLogError {
            event: number,
            offset: at,
            fault,
        })?;
        self.number += 1;
        Ok(Some(event))
    }

    fn event(&mut self, offset: usize) -> Result<Event<'a>, (usize, BootLogFault)> {
        let number = self.number;
        let pcr = self.reader.field_u32()?;
        let event_type = EventType(self.reader.field_u32()?);
        if pcr as usize >= PCR_COUNT && event_type != EventType::NO_ACTION {
            return Err((offset, BootLogFault::NoSuchPcr(pcr)));
        }
        let bare = self.format == LogFormat::Sha1;
        let raw = if bare {
            self.reader.field(HashAlg::Sha1.digest_len())?
        } else {
            self.digests()?
        };
        let size = self.reader.field_u32()? as usize;
        let data = self.reader.field(size)?;
        Ok(Event {
            number,
            offset,
            pcr,
            event_type,
            digests: Digests {
                banks: self.banks,
                raw,
                bare,
            },
            data,
        })
    }

    /// `TPML_DIGEST_VALUES`, without its count.
    fn digests(&mut self) -> Result<&'a [u8], (usize, BootLogFault)> {
        let count_at = self.reader.at;
        let count = self.reader.field_u32()?;
        if count as usize > self.banks.count {
            return Err((count_at, BootLogFault::DigestCount(count)));
        }
        let start = self.reader.at;
        let mut seen = [0; MAX_BOOT_LOG_BANKS];
        for n in 0..count as usize {
            let at = self.reader.at;
            let alg = self
                .reader
                .u16()
                .map_err(|()| (at, BootLogFault::Truncated))?;
            let len = self
                .banks
                .digest_len(alg)
                .ok_or((at, BootLogFault::UnknownAlgorithm(alg)))?;
            if seen[..n].contains(&alg) {
                return Err((at, BootLogFault::RepeatedAlgorithm(alg)));
            }
            seen[n] = alg;
            self.reader.field(len)?;
        }
        Ok(&self.reader.bytes[start..self.reader.at])
    }
}

/// Little-endian fields, front to back.
#[derive(Clone, Debug)]
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], ()> {
        let end = self.at.checked_add(len).ok_or(())?;
        let taken = self.bytes.get(self.at..end).ok_or(())?;
        self.at = end;
        Ok(taken)
    }

    fn u16(&mut self) -> Result<u16, ()> {
        let bytes = self.take(2)?;
        bytes.try_into().map(u16::from_le_bytes).map_err(|_| ())
    }

    fn u32(&mut self) -> Result<u32, ()> {
        let bytes = self.take(4)?;
        bytes.try_into().map(u32::from_le_bytes).map_err(|_| ())
    }

    fn field(&mut self, len: usize) -> Result<&'a [u8], (usize, BootLogFault)> {
        let at = self.at;
        self.take(len).map_err(|()| (at, BootLogFault::Truncated))
    }

    fn field_u32(&mut self) -> Result<u32, (usize, BootLogFault)> {
        let at = self.at;
        self.u32().map_err(|()| (at, BootLogFault::Truncated))
    }
}
