//! The device under the agent: a soft TPM, and a kernel that measures files into it.
//!
//! As in the kernel, a record is first appended to the list and then extended into the TPM
//! (`ima_add_template_entry`), and that can happen at any moment: between a quote and the reading of
//! the list, and around a quote, so that it covers a record less than the list shows.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::OnceLock;

use heapless::Vec as Bounded;
use mote_agent::measurement_log::{Chunk, LogError, MeasurementLog};
use mote_agent::tpm::{HeldHandles, Identity, PcrSelection, Quote, Secret, Tpm, TpmError};
use mote_schemas::bootlog::{BootLog, Event as BootEvent};
use mote_schemas::limits::MAX_PCR_BANKS;
use mote_schemas::tpm::HashAlg;
use sha2::{Digest, Sha256};

use super::rng::Rng;
use crate::recorded;
use crate::simkernel::bank::Bank;
use crate::simkernel::bootlog::{self, Event};
use crate::simkernel::ima::{self, Record};
use crate::soft_device::record;
use crate::soft_tpm::SoftTpm;

/// What the recorded device measured.
pub struct Recording {
    /// By its firmware.
    pub boot: Vec<Event>,
    /// `boot_aggregate`.
    pub first: Record,
    /// Files, each of which reference values can be made for.
    pub files: Vec<Record>,
}

/// The recording, read once.
///
/// # Panics
/// When `tests/data` is not there.
pub fn recording() -> &'static Recording {
    static RECORDING: OnceLock<Recording> = OnceLock::new();
    RECORDING.get_or_init(|| {
        let list = recorded::read("binary_runtime_measurements").and_then(|list| {
            ima::records(&list).map_err(|error| crate::Error::Malformed(error.to_string()))
        });
        let boot = recorded::read("binary_bios_measurements").and_then(|log| {
            bootlog::parse(&log).map_err(|error| crate::Error::Malformed(error.to_string()))
        });
        let mut list = list.unwrap_or_else(|error| panic!("{error}"));
        let files = list.split_off(1);
        Recording {
            boot: boot.unwrap_or_else(|error| panic!("{error}")),
            first: list.remove(0),
            files,
        }
    })
}

/// What a record is, whatever it looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truth {
    /// A file that reference values know.
    Known,
    /// A file that they do not.
    Unknown,
    /// A buffer, which no reference values name: a reason to look, no more.
    Buffer,
}

/// What became of one boot: for the checks, which must know more than the verifier.
#[derive(Clone, Debug, Default)]
pub struct Boot {
    /// What each record of the list is.
    pub records: Vec<Truth>,
    /// Bytes of its buffers.
    pub buffered: u64,
}

/// What firmware a device has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Firmware {
    /// The recorded one, whose log is not shown.
    #[default]
    Silent,
    /// One whose log is this.
    Logs(Vec<u8>),
    /// One that measures the first and shows the second.
    Lies(Vec<u8>, Vec<u8>),
}

impl Firmware {
    /// The log that it shows.
    pub fn shown(&self) -> Option<&[u8]> {
        match self {
            Firmware::Silent => None,
            Firmware::Logs(log) | Firmware::Lies(_, log) => Some(log),
        }
    }

    /// The log of what it measures, if that is not the recorded one's.
    fn measured(&self) -> Option<&[u8]> {
        match self {
            Firmware::Silent => None,
            Firmware::Logs(log) | Firmware::Lies(log, _) => Some(log),
        }
    }
}

/// TPM and kernel of one device.
pub struct Machine {
    tpm: SoftTpm,
    rng: Rng,
    /// Times, of 100, that a file is measured while the TPM quotes.
    pub race: u8,
    list: Vec<u8>,
    ends: Vec<usize>,
    /// Records of the list that the TPM has not heard of yet.
    pending: Vec<Record>,
    next_file: usize,
    intruders: u64,
    firmware: Firmware,
    boots: Vec<Boot>,
    powered: bool,
    time: u64,
    /// Below this, the TPM's clock is not safe.
    safe_from: u64,
    /// Records that were extended when the TPM quoted last.
    quoted: u64,
    quotes: u64,
}

impl Machine {
    /// A device that is off and was never on. `seed` makes its keys.
    pub fn new(seed: u64, rng: Rng) -> Self {
        Machine {
            tpm: SoftTpm::new(seed),
            rng,
            race: 0,
            list: Vec::new(),
            ends: Vec::new(),
            pending: Vec::new(),
            next_file: 0,
            intruders: 0,
            firmware: Firmware::default(),
            boots: Vec::new(),
            powered: false,
            time: 0,
            safe_from: 0,
            quoted: 0,
            quotes: 0,
        }
    }

    /// Gives it other firmware; to be called while it is off.
    pub fn install(&mut self, firmware: Firmware) {
        self.firmware = firmware;
    }

    /// Power on at `now`: the firmware measures, then the kernel `files` files.
    pub fn boot(&mut self, now: u64, files: usize) {
        self.time = now;
        self.powered = true;
        // A new TPM has just been started already.
        if !self.boots.is_empty() {
            self.tpm.reboot();
        }
        self.boots.push(Boot::default());
        self.list.clear();
        self.ends.clear();
        self.pending.clear();
        self.quoted = 0;
        self.next_file = self.rng.below(recording().files.len() as u64) as usize;
        let first = match self.firmware.measured() {
            Some(log) => boot_as_logged(&mut self.tpm, log),
            None => boot_as_recorded(&mut self.tpm),
        };
        self.append(&first, Truth::Known);
        self.extend();
        for _ in 0..files {
            self.measure(true);
        }
    }

    /// Power cut: the clock falls back by up to `lost` milliseconds and says so until it has caught
    /// up (TPM 2.0 Library part 1, 36.3.2).
    pub fn power_cut(&mut self, lost: u64) {
        self.powered = false;
        let clock = self.tpm.clock();
        self.safe_from = clock;
        self.tpm.set_clock(clock.saturating_sub(lost));
        self.tpm.set_safe(lost == 0);
    }

    /// Whether it has power.
    pub fn is_powered(&self) -> bool {
        self.powered
    }

    /// Lets the TPM's clock go on to `now`.
    pub fn advance(&mut self, now: u64) {
        self.tpm.advance(now.saturating_sub(self.time));
        self.time = now;
        if self.tpm.clock() >= self.safe_from {
            self.tpm.set_safe(true);
        }
    }

    /// The kernel measures a file; `known` says whether reference values have it.
    pub fn measure(&mut self, known: bool) {
        self.append_file(known);
        self.extend();
    }

    /// The kernel measures a buffer of `len` bytes that no other has measured.
    pub fn measure_buffer(&mut self, len: usize) {
        let mut buffer = vec![0; len];
        self.rng.fill(&mut buffer);
        // DER, as keys are. What begins as a signature does is judged as a file's (`is_signature`):
        // the template's name is in no PCR.
        if let Some(first) = buffer.first_mut() {
            *first = 0x30;
        }
        self.append(&Record::buffer(".ima", &buffer), Truth::Buffer);
        self.extend();
        if let Some(boot) = self.boots.last_mut() {
            boot.buffered += len as u64;
        }
    }

    /// What happened in each boot, the current one last. `TPMS_CLOCK_INFO.resetCount` counts them.
    pub fn boots(&self) -> &[Boot] {
        &self.boots
    }

    /// Records of the current boot that the TPM has heard of.
    pub fn extended(&self) -> u64 {
        (self.ends.len() - self.pending.len()) as u64
    }

    /// Records that the last quote of this boot covers.
    pub fn quoted(&self) -> u64 {
        self.quoted
    }

    /// Quotes made so far.
    pub fn quotes(&self) -> u64 {
        self.quotes
    }

    /// `TPMT_PUBLIC` of the endorsement key.
    pub fn ek_public(&self) -> &[u8] {
        self.tpm.ek_public()
    }

    fn append_file(&mut self, known: bool) {
        let files = &recording().files;
        if known {
            let file = &files[self.next_file % files.len()];
            self.next_file += 1;
            self.append(file, Truth::Known);
            return;
        }
        self.intruders += 1;
        let digest = format!("sha256:{:064x}", self.rng.next_u64());
        // As often a file that the image has, with other contents, as one that it has not.
        let path = match self.intruders % 2 {
            0 => files[self.next_file % files.len()].path.clone(),
            _ => format!("/opt/intruder-{}", self.intruders),
        };
        match Record::file(&path, &digest) {
            Ok(record) => self.append(&record, Truth::Unknown),
            Err(error) => unreachable!("{error}"),
        }
    }

    fn append(&mut self, record: &Record, truth: Truth) {
        self.list.extend_from_slice(&record.bytes);
        self.ends.push(self.list.len());
        self.pending.push(record.clone());
        if let Some(boot) = self.boots.last_mut() {
            boot.records.push(truth);
        }
    }

    fn extend(&mut self) {
        for record in std::mem::take(&mut self.pending) {
            self.tpm.extend(usize::from(ima::PCR), |alg| {
                Some(record.extended(Bank::from_alg(alg.to_u16())?))
            });
        }
    }

    fn quote(&mut self, selection: &[PcrSelection], data: &[u8; 32]) -> Result<Quote, TpmError> {
        let races = self.rng.percent(self.race);
        let extended_late = races && self.rng.percent(50);
        if extended_late {
            self.append_file(true);
        }
        let quote = self.tpm.quote(selection, data);
        self.quoted = self.extended();
        self.quotes += 1;
        if extended_late {
            self.extend();
        } else if races {
            self.measure(true);
        }
        quote
    }
}

/// Firmware measures what the recorded one did; the kernel's first record.
fn boot_as_recorded(tpm: &mut SoftTpm) -> Record {
    for event in &recording().boot {
        tpm.extend(usize::from(event.pcr), |alg| {
            let digest = |(bank, digest): &(Bank, Vec<u8>)| {
                (bank.alg() == alg.to_u16()).then(|| digest.clone())
            };
            event.digests.iter().find_map(digest)
        });
    }
    recording().first.clone()
}

/// The same with what this log shows.
fn boot_as_logged(tpm: &mut SoftTpm, log: &[u8]) -> Record {
    let parsed = BootLog::parse(log).unwrap_or_else(|error| unreachable!("{error}"));
    for event in parsed.events().filter(BootEvent::is_extended) {
        tpm.extend(event.pcr as usize, |alg| {
            Some(event.digest(alg)?.as_bytes().to_vec())
        });
    }
    let boot_pcrs: Vec<u8> = (0..10)
        .flat_map(|pcr| tpm.pcr(HashAlg::Sha256, pcr).unwrap_or(&[]))
        .copied()
        .collect();
    record("boot_aggregate", &Sha256::digest(boot_pcrs).into())
}

/// A machine as the agent sees it.
#[derive(Clone)]
pub struct Handle(pub Rc<RefCell<Machine>>);

impl Tpm for Handle {
    fn identity(&mut self) -> Result<Identity, TpmError> {
        self.0.borrow_mut().tpm.identity()
    }

    fn ek_certificate(&mut self, out: &mut [u8]) -> Result<Option<usize>, TpmError> {
        self.0.borrow_mut().tpm.ek_certificate(out)
    }

    fn activate_credential(&mut self, blob: &[u8], secret: &[u8]) -> Result<Secret, TpmError> {
        self.0.borrow_mut().tpm.activate_credential(blob, secret)
    }

    fn quote(&mut self, selection: &[PcrSelection], data: &[u8; 32]) -> Result<Quote, TpmError> {
        self.0.borrow_mut().quote(selection, data)
    }

    fn read_pcrs(&mut self, selection: &[PcrSelection], out: &mut [u8]) -> Result<usize, TpmError> {
        self.0.borrow_mut().tpm.read_pcrs(selection, out)
    }

    fn banks(&mut self) -> Result<Bounded<PcrSelection, MAX_PCR_BANKS>, TpmError> {
        self.0.borrow_mut().tpm.banks()
    }

    fn random(&mut self, out: &mut [u8]) -> Result<(), TpmError> {
        self.0.borrow_mut().tpm.random(out)
    }

    fn held_handles(&mut self) -> Result<HeldHandles, TpmError> {
        self.0.borrow_mut().tpm.held_handles()
    }
}

impl MeasurementLog for Handle {
    fn count(&mut self) -> Result<u64, LogError> {
        Ok(self.0.borrow().ends.len() as u64)
    }

    fn read(&mut self, from: u64, out: &mut [u8]) -> Result<Chunk, LogError> {
        let machine = self.0.borrow();
        let at = |record: usize| {
            record
                .checked_sub(1)
                .map_or(0, |before| machine.ends[before])
        };
        let end = machine.ends.len();
        let first = usize::try_from(from).unwrap_or(usize::MAX).min(end);
        let start = at(first);
        let fits = |record: &usize| at(*record) - start <= out.len();
        let last = (first..=end).take_while(fits).last().unwrap_or(first);
        if last == first && first < end {
            return Err(LogError::RecordTooLarge {
                record: from,
                size: at(first + 1) - start,
            });
        }
        let bytes = at(last) - start;
        out[..bytes].copy_from_slice(&machine.list[start..at(last)]);
        Ok(Chunk {
            records: (last - first) as u32,
            bytes,
            more: last < end,
        })
    }
}
