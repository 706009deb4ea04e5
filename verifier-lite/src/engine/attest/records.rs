//! Records in a device's evidence: as they came, put together again, or guessed from a prefix of
//! their hash. A guess is settled by the replay; one that misses is asked for in full, and never
//! decides a verdict.

use log::debug;
use mote_schemas::limits::MAX_IMA_TEMPLATE_DATA;
use mote_schemas::message::{Entries, Item, PreviousPath, Ranges};
use mote_schemas::reason::Reason;

use super::Attestation;
use crate::engine::Internal;
use crate::engine::outcome::Refusal;
use crate::store::{Change, Record};

/// Records of one message, in the order in which they come.
struct Taken {
    /// Number of the next.
    number: u64,
    /// Records before this one are stored already.
    stored: u64,
    records: Vec<Record>,
    /// Those that could not be resolved; what follows them waits.
    unresolved: Ranges,
}

impl Taken {
    fn push(
        &mut self,
        record: impl FnOnce() -> Result<Option<Record>, Internal>,
    ) -> Result<(), Internal> {
        let number = self.number;
        self.number = number.saturating_add(1);
        if number < self.stored {
            return Ok(());
        }
        match record()? {
            Some(record) if self.unresolved.is_empty() => self.records.push(record),
            Some(_) => {}
            None => {
                self.unresolved.push(number);
            }
        }
        Ok(())
    }
}

impl Attestation<'_> {
    /// Takes records. Those that are stored already are passed over; those that would leave a gap are
    /// not taken, and the reply says where to begin.
    pub(in crate::engine) fn append(
        &mut self,
        from: u64,
        entries: &Entries<'_>,
    ) -> Result<Result<(), Refusal>, Internal> {
        let Some(boot) = &self.record.boot else {
            let refusal = Refusal::new(Reason::OutOfOrder, "records before any quote");
            return Ok(Err(refusal));
        };
        if from > self.stored {
            debug!(
                "device {}: records from {from}, {} stored",
                self.device, self.stored
            );
            return Ok(Ok(()));
        }
        let mut taken = Taken {
            number: from,
            stored: self.stored,
            records: Vec::new(),
            unresolved: Ranges::default(),
        };
        let in_full = boot.in_full.unwrap_or(0);
        let mut guessed = false;
        let mut previous = PreviousPath::default();
        let mut room = Vec::new();
        for item in entries.iter() {
            let refuse = |error, number| {
                Ok(Err(Refusal::new(
                    Reason::RecordMalformed,
                    &format!("record {number}: {error}"),
                )))
            };
            match item {
                Err(error) => return refuse(error, taken.number),
                Ok(Item::Full(entry)) => taken.push(|| Ok(Some(Record::from(&entry))))?,
                Ok(Item::File(file)) => {
                    room.resize(MAX_IMA_TEMPLATE_DATA, 0);
                    match file.expand(&mut previous, &mut room) {
                        Ok(entry) => taken.push(|| Ok(Some(Record::from(&entry))))?,
                        Err(error) => return refuse(error, taken.number),
                    }
                }
                Ok(Item::Known(run)) => {
                    let known = self.policies.known_records(self.store)?;
                    for prefix in run.prefixes() {
                        let number = taken.number;
                        taken.push(|| {
                            if number < in_full {
                                return Ok(None);
                            }
                            guessed = true;
                            Ok(known.resolve(self.store, prefix)?)
                        })?;
                    }
                }
            }
        }
        let waiting = self.stored - boot.certified + taken.records.len() as u64;
        if waiting > self.settings.max_uncertified {
            return Ok(Err(Refusal::new(
                Reason::LogTooLong,
                &format!("{waiting} records without a quote that certifies them"),
            )));
        }
        self.new = taken.records;
        self.unresolved = taken.unresolved;
        if let Some(boot) = &mut self.record.boot
            && guessed
        {
            boot.guessed = Some(true);
        }
        Ok(Ok(()))
    }

    /// Whether records are here that no quote covers, and this process has taken none in the session: the
    /// one that they belong to was stored in a batch, perhaps, and lost when the process before this one
    /// ended. Otherwise they are what the list has grown by since its quote.
    pub(super) fn misses_quote(&self) -> bool {
        let boot = self.record.boot.as_ref();
        let bare =
            boot.is_some_and(|boot| boot.outstanding.is_none() && self.received() > boot.certified);
        bare && !self.quoted
    }

    /// The records that are wanted in full: those that could not be resolved, or, after a wrong
    /// guess, all that no quote has certified.
    pub(in crate::engine) fn wanted_in_full(&self) -> Ranges {
        let received = self.received();
        let in_full = self.record.boot.as_ref().and_then(|boot| boot.in_full);
        match in_full.and_then(|end| end.checked_sub(received)) {
            None | Some(0) => self.unresolved.clone(),
            Some(count) => {
                let mut ranges = Ranges::default();
                ranges.push_range(received, count);
                ranges
            }
        }
    }

    /// Whether a replay that missed may be due to a guess. If so, all records that no quote has
    /// certified are forgotten, to be sent in full; the quote goes on waiting.
    pub(super) fn retract_guesses(&mut self) -> bool {
        let received = self.received();
        let Some(boot) = &mut self.record.boot else {
            return false;
        };
        if boot.guessed.take() != Some(true) {
            return false;
        }
        debug!(
            "device {}: replay missed with records known by prefix; asking for {} to {received} in full",
            self.device, boot.certified
        );
        boot.in_full = Some(received);
        if self.stored > boot.certified {
            self.changes.push(Change::TruncateLog {
                device: self.device,
                boot: boot.number,
                from: boot.certified,
            });
            self.stored = boot.certified;
        }
        self.new.clear();
        true
    }
}
