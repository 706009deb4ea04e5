//! The recorded device in `tests/data/`: see the README there for what each file is.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::error::{Error, Result, during};
use crate::hex;
use crate::simkernel::bank::Bank;

/// The directory of the recorded Debian 12 device.
pub fn dir() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("data/debian12-amd64-6.1")
}

/// One file of the recording.
pub fn read(name: &str) -> Result<Vec<u8>> {
    let path = dir().join(name);
    during(path.display().to_string(), std::fs::read(&path))
}

/// `pcrs.txt`: every PCR of every bank that the kernel showed, at the end of the recording.
pub fn pcrs() -> Result<BTreeMap<(Bank, u8), Vec<u8>>> {
    let text = String::from_utf8_lossy(&read("pcrs.txt")?).into_owned();
    let parse = |line: &str| {
        let mut words = line.split_whitespace();
        let bank = Bank::from_name(words.next()?)?;
        let pcr = words.next()?.parse().ok()?;
        Some(((bank, pcr), hex::decode(words.next()?)?))
    };
    text.lines()
        .map(|line| parse(line).ok_or_else(|| Error::Malformed(format!("pcrs.txt: '{line}'"))))
        .collect()
}
