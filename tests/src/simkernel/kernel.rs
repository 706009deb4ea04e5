//! The kernel itself: boots once, then measures.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::thread;
use std::time::Duration;

use super::bank::Bank;
use super::ima::{self, Record};
use super::tpm::Tpm;
use super::{Error, Result, bootlog, during};
use crate::hex;

/// A booted kernel with its IMA list.
#[derive(Debug)]
pub struct Kernel {
    tpm: Tpm,
    banks: Vec<Bank>,
    list: File,
    /// The recorded list, in its order, and which of its records have been measured again.
    recorded: Vec<(Record, bool)>,
    written: usize,
    violations: usize,
    delay: Duration,
}

/// What [`Kernel::status`] reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Records in the list, `boot_aggregate` included.
    pub records: usize,
    /// Those among them that are violations.
    pub violations: usize,
    /// Records of the recorded list that are still to come.
    pub left: usize,
    /// PCR 10 in each active bank, as the TPM says.
    pub pcr10: Vec<(Bank, Vec<u8>)>,
}

impl Kernel {
    /// Plays firmware and the start of the kernel on a TPM that has just been reset: extends what
    /// the boot log says, checks that the recorded list belongs to this boot, creates the list
    /// file, and measures `boot_aggregate`, the first record of every list.
    ///
    /// `delay` is the time between a record's appearance in the list and the TPM's extension: real
    /// kernels have one too, and evidence must survive it.
    ///
    /// # Errors
    /// [`Error::Inconsistent`] when the TPM was not reset, when the boot log lacks an active bank,
    /// or when `boot_aggregate` is not what the TPM's PCRs give. The list file is not touched then.
    pub fn boot(
        tpm: Tpm,
        boot_log: &[u8],
        recorded_list: &[u8],
        list: &Path,
        delay: Duration,
    ) -> Result<Self> {
        let events = bootlog::parse(boot_log)?;
        let recorded = ima::records(recorded_list)?;
        let banks = tpm.banks()?;
        for &bank in &banks {
            if tpm.pcr_read(bank, 0)?.iter().any(|&byte| byte != 0) {
                return Err(Error::Inconsistent(format!(
                    "PCR 0 ({}) is not zero: a boot needs a TPM reset, so restart swtpm first",
                    bank.name()
                )));
            }
        }
        for event in &events {
            let mut digests = Vec::new();
            for &bank in &banks {
                let digest = event.digests.iter().find(|(of, _)| *of == bank);
                digests.push(digest.cloned().ok_or_else(|| {
                    Error::Inconsistent(format!("the boot log has no {} digests", bank.name()))
                })?);
            }
            tpm.pcr_extend(event.pcr, &digests)?;
        }
        let first = recorded
            .first()
            .ok_or_else(|| Error::Malformed("the recorded list is empty".into()))?;
        check_boot_aggregate(&tpm, first)?;
        let file = during(format!("creating {}", list.display()), File::create(list))?;
        let mut kernel = Self {
            tpm,
            banks,
            list: file,
            recorded: recorded.into_iter().map(|record| (record, false)).collect(),
            written: 0,
            violations: 0,
            delay,
        };
        kernel.append(1)?;
        Ok(kernel)
    }

    /// Measures the next `count` records of the recorded list.
    ///
    /// # Errors
    /// [`Error::Refused`] when fewer are left; nothing is measured then.
    pub fn append(&mut self, count: usize) -> Result<()> {
        let next: Vec<usize> = self.unused().take(count).collect();
        if next.len() < count {
            return Err(Error::Refused(format!(
                "{count} records wanted, {} left of the recorded list",
                next.len()
            )));
        }
        next.into_iter().try_for_each(|index| self.replay(index))
    }

    /// Measures recorded records until the list holds `records`.
    ///
    /// # Errors
    /// [`Error::Refused`] when the list is longer already or so many cannot be had.
    pub fn append_until(&mut self, records: usize) -> Result<()> {
        let count = records.checked_sub(self.written).ok_or_else(|| {
            Error::Refused(format!("the list holds {} records already", self.written))
        })?;
        self.append(count)
    }

    /// Measures the next recorded record of this path, out of turn.
    ///
    /// # Errors
    /// [`Error::Refused`] when there is none or it was measured already: IMA measures a file that
    /// did not change only once.
    pub fn append_path(&mut self, path: &str) -> Result<()> {
        let index = self
            .unused()
            .find(|&index| self.recorded[index].0.path == path);
        let index = index.ok_or_else(|| {
            Error::Refused(format!("the recorded list has no record of {path} left"))
        })?;
        self.replay(index)
    }

    /// Measures a file that the recorded device never had.
    pub fn append_file(&mut self, path: &str, digest: &str) -> Result<()> {
        let record = Record::file(path, digest)?;
        self.measure(&record)
    }

    /// Records a violation for a path.
    pub fn violation(&mut self, path: &str) -> Result<()> {
        let record = Record::violation(path)?;
        self.measure(&record)
    }

    /// Tells the TPM that power is about to go, as an orderly reboot does.
    pub fn shutdown(&self) -> Result<()> {
        self.tpm.shutdown()
    }

    /// Sets the time between list and TPM for the records to come.
    pub fn set_delay(&mut self, delay: Duration) {
        self.delay = delay;
    }

    /// Where the kernel is.
    pub fn status(&self) -> Result<Status> {
        let mut pcr10 = Vec::new();
        for &bank in &self.banks {
            pcr10.push((bank, self.tpm.pcr_read(bank, ima::PCR)?));
        }
        Ok(Status {
            records: self.written,
            violations: self.violations,
            left: self.unused().count(),
            pcr10,
        })
    }

    fn unused(&self) -> impl Iterator<Item = usize> {
        let records = self.recorded.iter().enumerate();
        records
            .filter(|(_, (_, used))| !used)
            .map(|(index, _)| index)
    }

    fn replay(&mut self, index: usize) -> Result<()> {
        let record = self.recorded[index].0.clone();
        self.measure(&record)?;
        self.recorded[index].1 = true;
        Ok(())
    }

    /// List first, TPM after: the order of `ima_add_template_entry`.
    fn measure(&mut self, record: &Record) -> Result<()> {
        during(
            "appending to the IMA list",
            self.list.write_all(&record.bytes),
        )?;
        self.written += 1;
        self.violations += usize::from(record.is_violation());
        thread::sleep(self.delay);
        let digests: Vec<_> = self
            .banks
            .iter()
            .map(|&bank| (bank, record.extended(bank)))
            .collect();
        self.tpm.pcr_extend(ima::PCR, &digests)
    }
}

/// `boot_aggregate` is the digest over PCR 0 to 9 (SHA-1: 0 to 7) of the bank with the hash's name
/// (Linux 6.1, `ima_calc_boot_aggregate_tfm`).
fn check_boot_aggregate(tpm: &Tpm, first: &Record) -> Result<()> {
    let (name, digest) = first.file_digest()?;
    let bank = Bank::from_name(name)
        .filter(|_| first.path == "boot_aggregate")
        .ok_or_else(|| Error::Malformed("the recorded list has no boot_aggregate".into()))?;
    let last = if bank == Bank::Sha1 { 7 } else { 9 };
    let mut values = Vec::new();
    for pcr in 0..=last {
        values.extend(tpm.pcr_read(bank, pcr)?);
    }
    let expected = bank.digest(&values);
    if expected != digest {
        return Err(Error::Inconsistent(format!(
            "boot_aggregate of the recorded list is {}, the TPM's PCR 0-{last} ({name}) give {}: \
             boot log and IMA list are not of the same boot",
            hex::encode(digest),
            hex::encode(&expected)
        )));
    }
    Ok(())
}
