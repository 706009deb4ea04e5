//! Recordings of a real kernel with a TPM; see `tests/data/debian12-amd64-6.1/README.md`.
#![allow(dead_code)] // each test binary uses its part

use std::fmt::Write;
use std::process::Command;

macro_rules! data {
    ($name:literal) => {
        include_bytes!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../tests/data/debian12-amd64-6.1/",
            $name
        ))
    };
}

/// 2,390 records, template ima-sig.
pub(crate) const LIST: &[u8] = data!("binary_runtime_measurements");
/// Every PCR of every bank after the last record: lines of bank, number, hex.
pub(crate) const PCRS: &[u8] = data!("pcrs.txt");
/// `TPMS_ATTEST` at records [`RECORDS`].
pub(crate) const ATTEST: [&[u8]; 2] = [data!("attest.1"), data!("attest.2")];
/// `TPMT_SIGNATURE` over each.
pub(crate) const SIG: [&[u8]; 2] = [data!("sig.1"), data!("sig.2")];
/// The PCR values under each, sha256:0-10,14.
pub(crate) const QUOTED: [&[u8]; 2] = [data!("pcrs.1"), data!("pcrs.2")];
/// Records in the list at each quote.
pub(crate) const RECORDS: [usize; 2] = [2383, 2390];
/// `TPMT_PUBLIC` of the key.
pub(crate) const AK_TPMT: &[u8] = data!("ak.tpmt");
/// Its Name.
pub(crate) const AK_NAME: &[u8] = data!("ak.name");
/// Its qualified name.
pub(crate) const AK_QN: &[u8] = data!("ak.qn");

/// Lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut s, b| {
        write!(s, "{b:02x}").unwrap();
        s
    })
}

/// [`LIST`] as the kernel prints it.
pub(crate) fn ascii_list() -> String {
    let file = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../tests/data/debian12-amd64-6.1/ascii_runtime_measurements.gz"
    );
    let out = Command::new("gzip").args(["-dc", file]).output().unwrap();
    assert!(out.status.success(), "gzip: {:?}", out.stderr);
    String::from_utf8(out.stdout).unwrap()
}
