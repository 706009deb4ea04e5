//! A place in the list, with the bytes around it. Reads with `pread` only, and onwards wherever it
//! can: securityfs files are sequential underneath, and the kernel walks from the start again for
//! any read that does not begin where the last one ended (`seq_read_iter`).

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use mote_schemas::ima::{Length, ListError, ListFormat, ListParser};

/// Bytes kept behind the place, so that what was read but not acknowledged can be had again, and
/// the least that is asked of the kernel at a time.
const WINDOW: usize = 8 * 1024;

/// Why a cursor could not move.
#[derive(Debug)]
pub(super) enum Fault {
    /// The system said so.
    Io(io::Error),
    /// What is there is not a record.
    List(ListError),
    /// A record that the caller's buffer cannot hold.
    TooLarge {
        /// Its number.
        record: u64,
        /// Its size in bytes.
        size: usize,
    },
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<ListError> for Fault {
    fn from(error: ListError) -> Self {
        Self::List(error)
    }
}

/// A record boundary, and the bytes of the list from there on as far as they were read.
#[derive(Debug)]
pub(super) struct Cursor {
    at: ListParser,
    /// Bytes of the list, of which those from `start` on are ahead of the cursor.
    bytes: Vec<u8>,
    start: usize,
}

impl Cursor {
    /// At the first record.
    pub(super) fn new(format: ListFormat) -> Self {
        Self {
            at: ListParser::new(format),
            bytes: Vec::new(),
            start: 0,
        }
    }

    /// Number of the record at which the cursor stands.
    pub(super) fn record(&self) -> u64 {
        self.at.record()
    }

    /// Where that record begins, in bytes.
    pub(super) fn offset(&self) -> u64 {
        self.at.offset()
    }

    /// Length of the record that comes after `records` records, `ahead` bytes long together;
    /// `None` where the list ends.
    pub(super) fn length(
        &mut self,
        file: &File,
        records: u64,
        ahead: usize,
    ) -> Result<Option<usize>, Fault> {
        let place = self.place(records, ahead);
        loop {
            let bytes = self.bytes.get(self.start + ahead..);
            match place.length(bytes.unwrap_or_default())? {
                Length::Known(length) => return Ok(Some(length)),
                Length::NeedMore(size) => {
                    if !self.fill(file, ahead + size)? {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// The `length` bytes `ahead` of the cursor; `None` where the list ends before.
    pub(super) fn bytes(
        &mut self,
        file: &File,
        ahead: usize,
        length: usize,
    ) -> io::Result<Option<&[u8]>> {
        let filled = self.fill(file, ahead + length)?;
        Ok(filled.then(|| &self.bytes[self.start + ahead..][..length]))
    }

    /// Moves the cursor over a number of records that were read and are `bytes` long together.
    pub(super) fn advance(&mut self, records: u64, bytes: usize) {
        self.at = self.place(records, bytes);
        self.start += bytes;
    }

    fn place(&self, records: u64, bytes: usize) -> ListParser {
        ListParser::resume(
            self.at.format(),
            self.at.record() + records,
            self.at.offset() + bytes as u64,
        )
    }

    /// Moves over one record without holding it; false where the list ends before its end.
    pub(super) fn pass(&mut self, file: &File) -> Result<bool, Fault> {
        let Some(length) = self.length(file, 0, 0)? else {
            return Ok(false);
        };
        if length > WINDOW && length > self.bytes.len() - self.start {
            let mut last = [0];
            let end = self.offset() + length as u64;
            if read_at(file, &mut last, end - 1)? == 0 {
                return Ok(false);
            }
            self.at = self.place(1, length);
            self.bytes.clear();
            self.start = 0;
            return Ok(true);
        }
        if !self.fill(file, length)? {
            return Ok(false);
        }
        self.advance(1, length);
        Ok(true)
    }

    /// Whether at least `size` bytes ahead of the cursor could be had.
    fn fill(&mut self, file: &File, size: usize) -> io::Result<bool> {
        if self.bytes.len() - self.start >= size {
            return Ok(true);
        }
        self.bytes.drain(..self.start);
        self.start = 0;
        // One large record must not cost memory for ever.
        if size <= WINDOW && self.bytes.capacity() > 4 * WINDOW {
            self.bytes.shrink_to(2 * WINDOW);
        }
        while self.bytes.len() < size {
            let have = self.bytes.len();
            let offset = self.offset() + have as u64;
            self.bytes.resize(size.max(have + WINDOW / 2), 0);
            let read = read_at(file, &mut self.bytes[have..], offset);
            self.bytes.truncate(have + *read.as_ref().unwrap_or(&0));
            if read? == 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Bytes ahead of the cursor beyond which a reader should [`advance`](Self::advance).
    pub(super) const fn window() -> usize {
        WINDOW
    }
}

pub(super) fn read_at(file: &File, out: &mut [u8], offset: u64) -> io::Result<usize> {
    loop {
        match file.read_at(out, offset) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            read => return read,
        }
    }
}
