//! The boot log's way to the verifier: parts from the offset that it wants, each acknowledged by the
//! next, after the measurement list has its verdict.
//!
//! Heartbeats do not wait for it: one that is due goes between two parts. When the last part has been
//! taken another one follows at once, so that a fresh quote stands behind what the log says.

use mote_schemas::cbor::{self, Bytes};
use mote_schemas::limits::{MAX_BOOT_PART, MAX_MESSAGE};
use mote_schemas::message::{BootPart, path};
use mote_schemas::time::Instant;

use super::{Device, Session, Step, StepError};

/// Bytes of a part that are not the log, at most: a map of an offset, the head of the bytes, the end.
const OVERHEAD: usize = 1 + 6 + 4 + 2;

/// How far the log has got.
#[derive(Debug, Default)]
pub(super) struct Upload {
    /// The offset that the verifier wants, while it wants anything.
    wanted: Option<u32>,
    /// Something has been sent that no heartbeat has followed yet.
    under_way: bool,
    /// When the next heartbeat is due, while the log is on its way.
    beat_due: Option<Instant>,
}

impl Upload {
    /// Takes what a reply wants; whether the upload has moved on.
    pub(super) fn answered(&mut self, wanted: Option<u32>) -> bool {
        let before = std::mem::replace(&mut self.wanted, wanted);
        before.is_some_and(|before| self.under_way && wanted.is_none_or(|wanted| wanted > before))
    }
}

impl Session {
    /// What the boot log makes the next step, if anything.
    pub(super) fn boot_step(&mut self, now: Instant, device: &mut Device<'_>) -> Option<Step> {
        let due = self.progress.boot.beat_due;
        if self.progress.boot.wanted.is_none() || device.boot_log.digest().is_none() {
            let boot = std::mem::take(&mut self.progress.boot);
            return boot.under_way.then_some(Step::Beat);
        }
        match due {
            Some(due) if now >= due => {
                self.progress.boot.beat_due = None;
                Some(Step::Beat)
            }
            Some(_) => Some(Step::Boot),
            None => {
                let next = now + self.next_interval(device);
                self.progress.boot.beat_due = Some(next);
                Some(Step::Boot)
            }
        }
    }

    pub(super) fn request_boot(
        &mut self,
        now: Instant,
        device: &mut Device<'_>,
    ) -> Result<(), StepError> {
        let offset = self.progress.boot.wanted.ok_or(StepError::Stale)?;
        let mut room = [0; MAX_BOOT_PART];
        let budget = self.room()?.single.saturating_sub(OVERHEAD);
        let budget = budget.clamp(1, MAX_BOOT_PART);
        let len = device.boot_log.read(offset, &mut room[..budget])?;
        // Perhaps the log ends right here, and the next part is empty.
        let last = len < budget;
        let part = BootPart {
            offset,
            bytes: Bytes::new(&room[..len]).ok_or(StepError::Stale)?,
            last: last.then_some(true),
        };
        let mut payload = [0; MAX_MESSAGE];
        let len = cbor::encode(&part, &mut payload)?;
        self.progress.boot.under_way = true;
        self.send_protected(now, path::BOOT, &payload[..len], device)
    }
}
