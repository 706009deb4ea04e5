//! Reference values from `sha256sum` output (GNU coreutils, "md5sum invocation").
//!
//! ```text
//! <64 hex digits> <space or *> <name>
//! \<64 hex digits> <space or *> <name with \\, \n and \r escaped>
//! ```
//! Names are taken relative to the root of the image: `./usr/bin/ls`, `usr/bin/ls` and
//! `/usr/bin/ls` are the same file. The same name twice with different digests is a file that may
//! have either.

use std::fmt;
use std::io::{self, BufRead, Read};

use bstr::{BString, ByteSlice};

use super::{Exclusion, FileDigest, FileEntry, MAX_PATH};
use crate::hex;

/// Longest line: a path of which every byte is escaped.
const MAX_LINE: usize = 2 * MAX_PATH + 80;

/// A list that was refused: the line and why.
#[derive(Debug)]
pub struct SumsError {
    /// Counted from 1; 0 when no one line is to blame.
    pub line: u64,
    /// What is wrong with it.
    pub fault: SumsFault,
}

/// What is wrong with a line.
#[derive(Debug)]
pub enum SumsFault {
    /// Reading failed.
    Io(io::Error),
    /// Longer than any line can be.
    TooLong,
    /// Not digest, space, name.
    NotASum,
    /// A digest of another length: another `*sum` tool wrote it.
    NotSha256(usize),
    /// A backslash that escapes nothing.
    BadEscape,
    /// `..` in a name, or no name at all.
    BadName(BString),
    /// The list names no file.
    Empty,
}

impl fmt::Display for SumsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line > 0 {
            write!(f, "line {}: ", self.line)?;
        }
        match &self.fault {
            SumsFault::Io(error) => write!(f, "{error}"),
            SumsFault::TooLong => f.write_str("too long for a line of sha256sum"),
            SumsFault::NotASum => {
                f.write_str("not a line of sha256sum (64 hex digits, two spaces, a path)")
            }
            SumsFault::NotSha256(digits) => {
                write!(f, "a digest of {digits} hex digits; SHA-256 has 64")
            }
            SumsFault::BadEscape => f.write_str("unknown escape in the path"),
            SumsFault::BadName(name) => {
                write!(f, "{name:?} is not a path inside a root file system")
            }
            SumsFault::Empty => f.write_str("the list names no file"),
        }
    }
}

impl std::error::Error for SumsError {}

/// Reads a whole list, leaving out what `exclusion` matches. Order and duplicates are left to
/// [`Manifest::new`](super::Manifest::new).
pub fn read_sums(
    list: &mut dyn BufRead,
    exclusion: &Exclusion,
) -> Result<Vec<FileEntry>, SumsError> {
    let mut entries = Vec::new();
    let mut line = Vec::new();
    let mut lines = 0;
    loop {
        line.clear();
        lines += 1;
        let at = |fault| SumsError { line: lines, fault };
        let read = Read::take(&mut *list, MAX_LINE as u64 + 1)
            .read_until(b'\n', &mut line)
            .map_err(|error| at(SumsFault::Io(error)))?;
        if read == 0 {
            break;
        }
        if line.len() > MAX_LINE {
            return Err(at(SumsFault::TooLong));
        }
        let text = line.strip_suffix(b"\n").unwrap_or(&line);
        if text.trim().is_empty() {
            continue;
        }
        let entry = parse(text).map_err(at)?;
        if exclusion.matches(&entry.path).is_none() {
            entries.push(entry);
        }
    }
    if entries.is_empty() {
        return Err(SumsError {
            line: 0,
            fault: SumsFault::Empty,
        });
    }
    Ok(entries)
}

fn parse(line: &[u8]) -> Result<FileEntry, SumsFault> {
    let (escaped, line) = match line.strip_prefix(b"\\") {
        Some(rest) => (true, rest),
        None => (false, line),
    };
    let digits = line
        .iter()
        .take_while(|byte| byte.is_ascii_hexdigit())
        .count();
    let (digest, rest) = line.split_at(digits);
    let (b" " | b"\t", [b' ' | b'*', name @ ..]) = rest.split_at(rest.len().min(1)) else {
        return Err(SumsFault::NotASum);
    };
    if digits != 64 {
        return Err(SumsFault::NotSha256(digits));
    }
    // 64 hex digits, as just counted.
    let digest = hex::decode(&digest.to_str_lossy()).unwrap_or_default();
    let digest = <[u8; 32]>::try_from(digest).map_err(|_| SumsFault::NotASum)?;
    let name = if escaped {
        unescape(name)?
    } else {
        name.to_vec()
    };
    Ok(FileEntry {
        path: absolute(&name)?,
        digests: vec![FileDigest(digest)],
    })
}

fn unescape(name: &[u8]) -> Result<Vec<u8>, SumsFault> {
    let mut out = Vec::with_capacity(name.len());
    let mut bytes = name.iter();
    while let Some(&byte) = bytes.next() {
        out.push(match byte {
            b'\\' => match bytes.next() {
                Some(b'\\') => b'\\',
                Some(b'n') => b'\n',
                Some(b'r') => b'\r',
                _ => return Err(SumsFault::BadEscape),
            },
            other => other,
        });
    }
    Ok(out)
}

/// A path from the root, however it is written.
pub(crate) fn absolute(name: &[u8]) -> Result<BString, SumsFault> {
    let mut path = BString::default();
    for part in name.split_str("/") {
        match part {
            b"" | b"." => {}
            b".." => return Err(SumsFault::BadName(name.into())),
            part => {
                path.push(b'/');
                path.extend_from_slice(part);
            }
        }
    }
    if path.is_empty() || name.ends_with(b"/") {
        return Err(SumsFault::BadName(name.into()));
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn read(list: &str) -> Result<Vec<FileEntry>, SumsError> {
        read_sums(&mut list.as_bytes(), &Exclusion::new(&[]).unwrap())
    }

    #[test]
    fn every_way_sha256sum_writes_a_name_is_understood() {
        let list = format!(
            "{HEX}  ./usr/bin/ls\n{HEX} *etc/motd\n\n\\{HEX}  /odd\\n\\\\name\n{HEX}  /a//./ b"
        );
        let paths: Vec<_> = read(&list).unwrap().into_iter().map(|e| e.path).collect();
        assert_eq!(paths, ["/usr/bin/ls", "/etc/motd", "/odd\n\\name", "/a/ b"]);
    }

    #[test]
    fn a_bad_line_is_named_and_nothing_comes_out() {
        let cases = [
            (format!("{HEX}  a\n{}  b\n", &HEX[..40]), 2, "40 hex digits"),
            (format!("{HEX}  ../etc/shadow\n"), 1, "not a path inside"),
            (format!("\\{HEX}  a\\t\n"), 1, "unknown escape"),
            (
                format!("SHA256 (a) = {HEX}\n"),
                1,
                "not a line of sha256sum",
            ),
            (format!("{HEX} a\n"), 1, "not a line of sha256sum"),
            (format!("{HEX}  /\n"), 1, "not a path inside"),
            (format!("{HEX}  {}\n", "x".repeat(MAX_LINE)), 1, "too long"),
            ("\n".to_owned(), 0, "names no file"),
        ];
        for (list, line, what) in cases {
            let error = read(&list).unwrap_err();
            assert_eq!(error.line, line, "{error}");
            assert!(error.to_string().contains(what), "{error}");
        }
    }
}
