//! Boot event logs of real firmware, and logs that no firmware writes.
#![allow(clippy::unwrap_used)]

mod made;
mod recorded;

use mote_schemas::bootlog::BootLog;
use mote_schemas::tpm::HashAlg;

macro_rules! data {
    ($name:literal) => {
        include_bytes!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../tests/data/",
            $name
        ))
    };
}

/// Logs with the PCRs that the TPM had afterwards.
pub(crate) const SEABIOS: (&[u8], &[u8]) = (
    data!("debian12-amd64-6.1/binary_bios_measurements"),
    data!("debian12-amd64-6.1/pcrs.txt"),
);
pub(crate) const SECURE: (&[u8], &[u8]) = (
    data!("ovmf-amd64/secureboot-uki/binary_bios_measurements"),
    data!("ovmf-amd64/secureboot-uki/pcrs.txt"),
);
pub(crate) const DIRECT: (&[u8], &[u8]) = (
    data!("ovmf-amd64/direct/binary_bios_measurements"),
    data!("ovmf-amd64/direct/pcrs.txt"),
);

/// An event in the crypto-agile form.
pub(crate) fn event(pcr: u32, event_type: u32, digests: &[(u16, &[u8])], data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend(pcr.to_le_bytes());
    out.extend(event_type.to_le_bytes());
    out.extend((digests.len() as u32).to_le_bytes());
    for (alg, digest) in digests {
        out.extend(alg.to_le_bytes());
        out.extend(*digest);
    }
    out.extend((data.len() as u32).to_le_bytes());
    out.extend(data);
    out
}

/// An event in the SHA-1 form.
pub(crate) fn old_event(pcr: u32, event_type: u32, digest: &[u8; 20], data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend(pcr.to_le_bytes());
    out.extend(event_type.to_le_bytes());
    out.extend(digest);
    out.extend((data.len() as u32).to_le_bytes());
    out.extend(data);
    out
}

/// The header of a crypto-agile log with these algorithms.
pub(crate) fn header(algorithms: &[(u16, u16)]) -> Vec<u8> {
    let mut data = b"Spec ID Event03\0".to_vec();
    data.extend([0, 0, 0, 0, 0, 2, 0, 2]);
    data.extend((algorithms.len() as u32).to_le_bytes());
    for (alg, len) in algorithms {
        data.extend(alg.to_le_bytes());
        data.extend(len.to_le_bytes());
    }
    data.push(0);
    old_event(0, 3, &[0; 20], &data)
}

pub(crate) fn parsed(log: &[u8]) -> BootLog<'_> {
    BootLog::parse(log).unwrap()
}

pub(crate) const SHA256: u16 = HashAlg::Sha256 as u16;
