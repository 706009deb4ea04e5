//! IMA's list as the kernel writes it: cutting a recorded one into records, and making new ones.
//!
//! Source: Linux 6.1, `ima_measurements_show` (record), `ima_template_lib.c` (fields). Integers
//! have the kernel's byte order; the recorded kernel's was little-endian.

use super::bank::Bank;
use super::{Error, Result};
use crate::hex;

/// The PCR that IMA extends (`CONFIG_IMA_MEASURE_PCR_IDX`).
pub const PCR: u8 = 10;
const TEMPLATE: &[u8] = b"ima-sig";
/// The template digest shown in the binary list is SHA-1 whatever the banks are.
const SHOWN_DIGEST: usize = 20;
/// Longest template data that a kernel can produce here: a path is at most `PATH_MAX`.
const MAX_TEMPLATE_DATA: usize = 16 * 1024;

/// One record of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The record as it stands in `binary_runtime_measurements`.
    pub bytes: Vec<u8>,
    /// Where the template data starts in `bytes`.
    data: usize,
    /// The path (field n-ng) without its NUL, or `boot_aggregate`.
    pub path: String,
}

impl Record {
    /// An ima-sig record of a file without signature; `digest` as `sha256:HEX` or 64 hex digits.
    pub fn file(path: &str, digest: &str) -> Result<Self> {
        let (name, digits) = digest.split_once(':').unwrap_or(("sha256", digest));
        let bank = Bank::from_name(name)
            .ok_or_else(|| Error::Refused(format!("digest algorithm '{name}' is not known")))?;
        let digest = hex::decode(digits)
            .filter(|bytes| bytes.len() == bank.size())
            .ok_or_else(|| {
                Error::Refused(format!("'{digits}' is not {} bytes of hex", bank.size()))
            })?;
        Self::new(path, bank, &digest, |data| Bank::Sha1.digest(data))
    }

    /// A violation (a file was open for writing while it was measured): file digest and template
    /// digest are zero in the list (`ima_add_violation`).
    pub fn violation(path: &str) -> Result<Self> {
        let bank = Bank::Sha256;
        Self::new(path, bank, &vec![0; bank.size()], |_| vec![0; SHOWN_DIGEST])
    }

    fn new(
        path: &str,
        bank: Bank,
        digest: &[u8],
        shown: impl Fn(&[u8]) -> Vec<u8>,
    ) -> Result<Self> {
        if path.is_empty() || path.contains('\0') || path.len() > 4096 {
            return Err(Error::Refused(
                "a path has 1 to 4096 bytes, none NUL".into(),
            ));
        }
        let d_ng = [bank.name().as_bytes(), b":\0", digest].concat();
        let data = template_data(&[&d_ng, &[path.as_bytes(), b"\0"].concat(), b""]);
        Ok(Self::whole(TEMPLATE, path, &shown(&data), &data))
    }

    /// A record of any other template but `ima`: the `fields`, each without its length.
    pub fn of_fields(template: &str, path: &str, fields: &[&[u8]]) -> Self {
        let data = template_data(fields);
        Self::whole(template.as_bytes(), path, &Bank::Sha1.digest(&data), &data)
    }

    /// An ima-buf record: the kernel measured `buffer` as `name`, a key for example
    /// (`ima_template_desc_buf`: d-ng, n-ng, buf).
    pub fn buffer(name: &str, buffer: &[u8]) -> Self {
        let digest = [b"sha256:\0", &Bank::Sha256.digest(buffer)[..]].concat();
        let path = [name.as_bytes(), b"\0"].concat();
        Self::of_fields("ima-buf", name, &[&digest, &path, buffer])
    }

    /// The same measurement under another template's name, which no PCR covers.
    #[must_use]
    pub fn labelled(&self, template: &str) -> Self {
        let shown = &self.bytes[4..4 + SHOWN_DIGEST];
        Self::whole(template.as_bytes(), &self.path, shown, self.template_data())
    }

    fn whole(template: &[u8], path: &str, shown: &[u8], data: &[u8]) -> Self {
        let mut bytes = u32::from(PCR).to_le_bytes().to_vec();
        bytes.extend(shown);
        bytes.extend((template.len() as u32).to_le_bytes());
        bytes.extend(template);
        bytes.extend((data.len() as u32).to_le_bytes());
        let start = bytes.len();
        bytes.extend(data);
        Self {
            bytes,
            data: start,
            path: path.to_owned(),
        }
    }

    /// Name of the template, or its format string.
    pub fn template(&self) -> &[u8] {
        &self.bytes[4 + SHOWN_DIGEST + 4..self.data - 4]
    }

    /// The template data: what is hashed for each bank.
    pub fn template_data(&self) -> &[u8] {
        &self.bytes[self.data..]
    }

    /// Whether the list shows a zero template digest.
    pub fn is_violation(&self) -> bool {
        self.bytes[4..4 + SHOWN_DIGEST]
            .iter()
            .all(|&byte| byte == 0)
    }

    /// What the kernel extends for this record in `bank`: for a violation all-ones
    /// (`ima_add_template_entry`), so that no list can pretend that it did not happen.
    pub fn extended(&self, bank: Bank) -> Vec<u8> {
        if self.is_violation() {
            vec![0xff; bank.size()]
        } else {
            bank.template_digest(self.template_data())
        }
    }

    /// The field d-ng of this record: hash name and digest.
    pub fn file_digest(&self) -> Result<(&str, &[u8])> {
        let field = field(self.template_data(), 0)?;
        let colon = field.iter().position(|&byte| byte == b':');
        colon
            .and_then(|at| {
                let digest = field.get(at + 2..)?;
                Some((std::str::from_utf8(&field[..at]).ok()?, digest))
            })
            .ok_or_else(|| Error::Malformed(format!("d-ng of {}", self.path)))
    }
}

fn template_data(fields: &[&[u8]]) -> Vec<u8> {
    let mut data = Vec::new();
    for field in fields {
        data.extend((field.len() as u32).to_le_bytes());
        data.extend(*field);
    }
    data
}

/// Cuts a binary list of template ima-ng or ima-sig into its records.
pub fn records(list: &[u8]) -> Result<Vec<Record>> {
    let mut records = Vec::new();
    let mut rest = list;
    while !rest.is_empty() {
        let record = first(rest).map_err(|error| {
            Error::Malformed(format!("IMA list, record {}: {error}", records.len()))
        })?;
        rest = &rest[record.bytes.len()..];
        records.push(record);
    }
    Ok(records)
}

fn first(list: &[u8]) -> Result<Record> {
    let name_size = u32_at(list, 4 + SHOWN_DIGEST)?;
    if u32_at(list, 0)? != usize::from(PCR) || name_size != TEMPLATE.len() {
        return Err(Error::Malformed("not an ima-sig record for PCR 10".into()));
    }
    let size_at = 4 + SHOWN_DIGEST + 4 + name_size;
    let data = size_at + 4;
    let size = u32_at(list, size_at)?;
    if list.get(size_at - name_size..size_at) != Some(TEMPLATE) || size > MAX_TEMPLATE_DATA {
        return Err(Error::Malformed("not an ima-sig record".into()));
    }
    let bytes = list
        .get(..data + size)
        .ok_or_else(|| Error::Malformed("ends early".into()))?
        .to_vec();
    let path = field(&bytes[data..], 1)?;
    let path = String::from_utf8_lossy(path.strip_suffix(b"\0").unwrap_or(path)).into_owned();
    Ok(Record { bytes, data, path })
}

/// Field number `index` of template data: each is a length and that many bytes.
fn field(data: &[u8], index: usize) -> Result<&[u8]> {
    let mut at = 0;
    for _ in 0..index {
        at += 4 + u32_at(data, at)?;
    }
    let size = u32_at(data, at)?;
    data.get(at + 4..at + 4 + size)
        .ok_or_else(|| Error::Malformed("a template field ends early".into()))
}

fn u32_at(bytes: &[u8], at: usize) -> Result<usize> {
    bytes
        .get(at..)
        .and_then(<[u8]>::first_chunk)
        .map(|chunk| u32::from_le_bytes(*chunk) as usize)
        .ok_or_else(|| Error::Malformed("ends early".into()))
}

/// PCR 10 after these records, in one bank.
pub fn replay(records: &[Record], bank: Bank) -> Vec<u8> {
    records.iter().fold(vec![0; bank.size()], |value, record| {
        bank.extend(&value, &record.extended(bank))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recorded;

    fn recorded_list() -> Vec<u8> {
        recorded::read("binary_runtime_measurements").unwrap()
    }

    #[test]
    fn the_recorded_list_replays_to_the_recorded_pcr_10() {
        let records = records(&recorded_list()).unwrap();
        assert_eq!(records.len(), 2390);
        let expected = recorded::pcrs().unwrap();
        for bank in [Bank::Sha1, Bank::Sha256, Bank::Sha384] {
            let value = replay(&records, bank);
            assert_eq!(value, expected[&(bank, PCR)], "{}", bank.name());
        }
    }

    #[test]
    fn a_made_up_record_equals_the_kernels_for_the_same_file() {
        for record in records(&recorded_list()).unwrap() {
            let (name, digest) = record.file_digest().unwrap();
            let made =
                Record::file(&record.path, &format!("{name}:{}", hex::encode(digest))).unwrap();
            assert_eq!(made, record);
        }
    }

    #[test]
    fn a_violation_is_zero_in_the_list_and_all_ones_in_the_pcr() {
        let record = Record::violation("/var/log/wtmp").unwrap();
        assert!(record.is_violation());
        assert_eq!(record.extended(Bank::Sha1), [0xff; 20]);
        assert_eq!(record.extended(Bank::Sha256), [0xff; 32]);
        assert_eq!(records(&record.bytes).unwrap(), [record]);
    }

    #[test]
    fn bad_digests_and_paths_are_refused() {
        for (path, digest) in [
            ("/a", "00"),
            ("/a", "md5:00"),
            ("/a", "zz"),
            ("", "sha1:0000000000000000000000000000000000000000"),
            ("/a\0b", "sha1:0000000000000000000000000000000000000000"),
        ] {
            let error = Record::file(path, digest).unwrap_err();
            assert!(
                matches!(error, Error::Refused(_)),
                "{path} {digest}: {error}"
            );
        }
    }

    #[test]
    fn a_list_cut_within_a_record_is_refused() {
        let list = recorded_list();
        let length = first(&list).unwrap().bytes.len();
        for end in 1..length {
            assert!(matches!(records(&list[..end]), Err(Error::Malformed(_))));
        }
    }
}
