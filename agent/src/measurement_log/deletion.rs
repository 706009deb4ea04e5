//! Deleting records from kernel memory: Linux 7.2, `Documentation/security/IMA-export-delete.rst`.
//!
//! Of its two ways the one called *staging and deleting*: N, written to the list itself, deletes the
//! first N records at once. The other (`A` and `D` to `..._staged`) would take all records away from
//! where other readers look for them, for as long as it takes to send them.
//!
//! Whoever has the list open for writing has it alone: the kernel refuses to open it while anyone reads
//! (`EBUSY`), and the other way round. So it can be made sure that the list still begins where we think,
//! and nobody else deletes in between. It takes `CAP_SYS_ADMIN`. Older kernels refuse the write.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::path::Path;

use mote_schemas::ima::ListFormat;
use nix::sys::statfs::fstatfs;

use super::cursor::{Cursor, Fault};

/// Deletes this many records from the beginning of the list at this path, if it begins with the one
/// that has this digest (`digest`).
pub type Delete = fn(&Path, ListFormat, u64, [u8; 8]) -> io::Result<()>;

/// `SECURITYFS_MAGIC`. A copy of a list somewhere else is not to be written to.
const SECURITYFS: i64 = 0x7363_6673;

/// [`Delete`] on the kernel's list.
pub fn delete(path: &Path, format: ListFormat, count: u64, first: [u8; 8]) -> io::Result<()> {
    let file = File::options().read(true).write(true).open(path)?;
    #[allow(clippy::unnecessary_cast)] // its type differs between architectures
    if fstatfs(&file)?.filesystem_type().0 as i64 != SECURITYFS {
        return Err(io::Error::new(
            ErrorKind::Unsupported,
            "not the kernel's list",
        ));
    }
    if digest(&file, format)? != Some(first) {
        return Err(io::Error::new(
            ErrorKind::InvalidData,
            "something else has deleted records",
        ));
    }
    let request = format!("{count}\n");
    if (&file).write(request.as_bytes())? != request.len() {
        return Err(ErrorKind::WriteZero.into());
    }
    Ok(())
}

/// The digest of a list's first record; `None` of an empty list.
fn digest(file: &File, format: ListFormat) -> io::Result<Option<[u8; 8]>> {
    let mut cursor = Cursor::new(format);
    let read = cursor.length(file, 0, 0).and_then(|length| {
        Ok(length
            .map(|length| cursor.bytes(file, 0, length))
            .transpose()?)
    });
    match read {
        Ok(bytes) => Ok(bytes
            .flatten()
            .and_then(|bytes| super::file::look(format, bytes))
            .map(|look| look.digest)),
        Err(Fault::Io(error)) => Err(error),
        Err(_) => Err(ErrorKind::InvalidData.into()),
    }
}
