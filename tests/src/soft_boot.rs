//! A firmware's boot event log, made up: the crypto-agile form with SHA-256 digests (PC Client Platform
//! Firmware Profile 1.06, 10.4), as long as wanted.

use mote_agent::boot_log::BootLog;
use mote_agent::measurement_log::LogError;
use mote_schemas::tpm::HashAlg;
use sha2::{Digest, Sha256};

const SHA256: u16 = HashAlg::Sha256 as u16;
/// `EV_EFI_BOOT_SERVICES_APPLICATION`.
const APPLICATION: u32 = 0x8000_0003;
/// `EV_EFI_VARIABLE_DRIVER_CONFIG`.
const VARIABLE: u32 = 0x8000_0001;
const NO_ACTION: u32 = 3;

/// The boot log as the device shows it.
#[derive(Clone, Debug, Default)]
pub struct SoftBootLog {
    /// The bytes; none: there is no log.
    pub bytes: Vec<u8>,
    /// Instead of their digest.
    pub named: Option<[u8; 32]>,
}

impl BootLog for SoftBootLog {
    fn digest(&mut self) -> Option<[u8; 32]> {
        let own = || Sha256::digest(&self.bytes).into();
        (!self.bytes.is_empty()).then(|| self.named.unwrap_or_else(own))
    }

    fn read(&mut self, offset: u32, out: &mut [u8]) -> Result<usize, LogError> {
        let rest = self.bytes.get(offset as usize..).unwrap_or(&[]);
        let len = rest.len().min(out.len());
        out[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }
}

/// A log of `len` bytes or a little more: variables of 1 to 2 kB in PCR 1 and 7 (what makes real logs
/// large is `db` and `dbx`), applications in PCR 4, all of them of `model`.
pub fn boot_log(model: u8, len: usize) -> Vec<u8> {
    let mut log = header();
    let mut number = 0_u16;
    while log.len() < len {
        number += 1;
        let (pcr, kind, size) = match number % 4 {
            0 => (4, APPLICATION, 120),
            1 => (1, VARIABLE, 900 + usize::from(number)),
            _ => (7, VARIABLE, 1900),
        };
        let size = size.min(len.saturating_sub(log.len() + 50).max(16));
        let mut data = vec![model; size];
        data[..2].copy_from_slice(&number.to_le_bytes());
        log.extend(event(pcr, kind, &Sha256::digest(&data).into(), &data));
    }
    log
}

/// An event of this type that extends one digest.
pub fn event(pcr: u32, kind: u32, digest: &[u8; 32], data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend(pcr.to_le_bytes());
    out.extend(kind.to_le_bytes());
    out.extend(1_u32.to_le_bytes());
    out.extend(SHA256.to_le_bytes());
    out.extend(digest);
    out.extend((data.len() as u32).to_le_bytes());
    out.extend(data);
    out
}

fn header() -> Vec<u8> {
    let mut data = b"Spec ID Event03\0".to_vec();
    data.extend([0, 0, 0, 0, 0, 2, 0, 2]);
    data.extend(1_u32.to_le_bytes());
    data.extend(SHA256.to_le_bytes());
    data.extend(32_u16.to_le_bytes());
    data.push(0);
    let mut out = Vec::new();
    out.extend(0_u32.to_le_bytes());
    out.extend(NO_ACTION.to_le_bytes());
    out.extend([0; 20]);
    out.extend((data.len() as u32).to_le_bytes());
    out.extend(data);
    out
}
