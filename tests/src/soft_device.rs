//! A device in memory: a [`SoftTpm`] whose kernel measures what it runs.
//!
//! Every file's content is its path, so that [`digest_of`] is all a manifest needs to know.

use mote_agent::measurement_log::{Chunk, LogError, MeasurementLog};
use mote_schemas::bootlog::{BootLog, Event as BootEvent};
use mote_schemas::tpm::HashAlg;
use sha2::{Digest, Sha256};

use crate::hex;
use crate::simkernel::bank::Bank;
use crate::simkernel::ima::{PCR, Record};
use crate::soft_boot::SoftBootLog;
use crate::soft_tpm::SoftTpm;

/// Digest of the file that [`SoftDevice::run`] runs.
pub fn digest_of(path: &str) -> [u8; 32] {
    Sha256::digest(path.as_bytes()).into()
}

/// The IMA list. Whether it is what the TPM was told is up to whoever holds it.
#[derive(Clone, Debug, Default)]
pub struct SoftList(pub Vec<Record>);

/// TPM and list.
#[derive(Clone, Debug)]
pub struct SoftDevice {
    /// The TPM.
    pub tpm: SoftTpm,
    /// The list.
    pub list: SoftList,
    /// The firmware's log.
    pub boot_log: SoftBootLog,
}

impl SoftDevice {
    /// Boots a kernel on this TPM.
    pub fn new(tpm: SoftTpm) -> Self {
        let list = SoftList::default();
        let mut device = Self {
            tpm,
            list,
            boot_log: SoftBootLog::default(),
        };
        device.boot();
        device
    }

    /// Firmware measures itself, then the kernel `boot_aggregate`.
    fn boot(&mut self) {
        self.list.0.clear();
        // With a log, that is all that is measured; a log that is none measures nothing.
        let bytes = &self.boot_log.bytes;
        if let Ok(log) = BootLog::parse(bytes) {
            for event in log.events().filter(BootEvent::is_extended) {
                self.tpm.extend(event.pcr as usize, |alg| {
                    Some(event.digest(alg)?.as_bytes().to_vec())
                });
            }
        }
        let without = if bytes.is_empty() { 0..8 } else { 0..0 };
        for pcr in without {
            self.tpm.extend(pcr, |alg| {
                let bank = Bank::from_alg(alg.to_u16())?;
                Some(bank.digest(&[pcr as u8]))
            });
        }
        let boot_pcrs: Vec<u8> = (0..10)
            .flat_map(|pcr| self.tpm.pcr(HashAlg::Sha256, pcr).unwrap_or(&[]))
            .copied()
            .collect();
        self.measure(record("boot_aggregate", &Sha256::digest(boot_pcrs).into()));
    }

    /// Measures a file that a manifest with [`digest_of`] this path knows.
    pub fn run(&mut self, path: &str) {
        self.measure(record(path, &digest_of(path)));
    }

    /// List first, TPM after, as a kernel does.
    pub fn measure(&mut self, record: Record) {
        self.tpm.extend(PCR.into(), |alg| {
            Some(record.extended(Bank::from_alg(alg.to_u16())?))
        });
        self.list.0.push(record);
    }

    /// Power off, other firmware with this boot log, and on.
    pub fn install(&mut self, boot_log: Vec<u8>) {
        self.boot_log.bytes = boot_log;
        self.reboot();
    }

    /// Suspend to RAM and back.
    pub fn suspend(&mut self) {
        self.tpm.resume();
    }

    /// Suspend to RAM, and power lost before it comes back: a boot of which the TPM says that it is none
    /// (`restartCount`).
    pub fn lose_power_in_suspend(&mut self) {
        self.tpm.restart();
        self.boot();
    }

    /// Hibernation: the TPM is started as for a boot, the kernel that restores the image measures, and
    /// the restored one goes on with its own list.
    pub fn hibernate(&mut self) {
        let list = self.list.clone();
        self.lose_power_in_suspend();
        self.list = list;
    }

    /// kexec: the next kernel goes on with the list and measures `boot_aggregate` again.
    pub fn kexec(&mut self) {
        let aggregate = self.list.0[0].clone();
        self.measure(aggregate);
    }

    /// Power off and on.
    pub fn reboot(&mut self) {
        self.tpm.reboot();
        self.boot();
    }
}

/// The record of a file.
///
/// # Panics
/// When the path cannot be one.
pub fn record(path: &str, digest: &[u8; 32]) -> Record {
    Record::file(path, &hex::encode(digest)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

impl MeasurementLog for SoftList {
    fn count(&mut self) -> Result<u64, LogError> {
        Ok(self.0.len() as u64)
    }

    fn read(&mut self, from: u64, out: &mut [u8]) -> Result<Chunk, LogError> {
        let from = usize::try_from(from).unwrap_or(usize::MAX);
        let mut chunk = Chunk::default();
        for record in self.0.iter().skip(from) {
            let end = chunk.bytes + record.bytes.len();
            let Some(room) = out.get_mut(chunk.bytes..end) else {
                chunk.more = true;
                break;
            };
            room.copy_from_slice(&record.bytes);
            chunk.bytes = end;
            chunk.records += 1;
        }
        if chunk.more && chunk.records == 0 {
            return Err(LogError::RecordTooLarge {
                record: from as u64,
                size: self.0[from].bytes.len(),
            });
        }
        Ok(chunk)
    }
}
