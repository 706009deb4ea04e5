//! Devices that delete records from their kernel's list (IMA staging, Linux 7.2): where their list begins,
//! and what they need not keep any more.

use mote_schemas::message::Anchor;
use mote_schemas::reason::Reason;
use mote_schemas::tpm::HashAlg;

use super::standing::Standing;
use super::{Attestation, LOAD};
use crate::engine::Internal;
use crate::engine::outcome::Refusal;
use crate::log_entry::LogEntry as _;

impl Attestation<'_> {
    /// Finds the record with which the list of a device begins that deletes records, and counts those
    /// that the quote may cover from there. What was deleted was certified first, so that it is here.
    pub(in crate::engine) fn locate(
        &mut self,
        anchor: Anchor,
        records: u64,
    ) -> Result<Result<u64, Refusal>, Internal> {
        let first = match anchor {
            Anchor::Whole => Some(0),
            Anchor::Record(digest) => self.position(digest, records)?,
        };
        let Some(first) = first else {
            let detail =
                "the list begins with a record that is not certified here; reboot the device";
            return Ok(Err(Refusal::new(Reason::LogDeleted, detail)));
        };
        if let Some(outstanding) = self.outstanding() {
            outstanding.records = first.saturating_add(records);
        }
        Ok(Ok(first))
    }

    /// The certified record with this digest. A list grows only: `records` from there on reach at least
    /// as far as what is stored.
    fn position(&self, digest: [u8; 8], records: u64) -> Result<Option<u64>, Internal> {
        let Some(boot) = self.record.boot.as_ref() else {
            return Ok(None);
        };
        let mut number = self.stored.saturating_sub(records);
        while number < boot.certified {
            let ids = self.store.log(&self.device, boot.number, number, LOAD)?;
            if ids.is_empty() {
                return Err(Internal::Other("a stored log has a hole"));
            }
            for id in ids {
                let record = self.store.record(&id)?;
                let record = record.ok_or(Internal::Other("a stored record is gone"))?;
                let found = Anchor::digest(&record.extend_digest(HashAlg::Sha256)) == digest;
                if found && number < boot.certified {
                    return Ok(Some(number));
                }
                number += 1;
            }
        }
        Ok(None)
    }

    /// To a device that deletes: every record that a quote has certified. The commit that certifies them
    /// is durable then, and with it all that was batched before: records, findings and verdict.
    pub(in crate::engine) fn release(&mut self, standing: &mut Standing, deletes: bool) {
        let certified = self.record.boot.as_ref().map_or(0, |boot| boot.certified);
        if deletes && certified > self.certified_before {
            standing.released = Some(certified);
            self.must_be_durable();
        }
    }

    /// The same at the start of a session: also what an earlier reply has said, which may be lost.
    pub(in crate::engine) fn release_again(&mut self, standing: &mut Standing, deletes: bool) {
        self.certified_before = 0;
        self.release(standing, deletes);
    }
}
