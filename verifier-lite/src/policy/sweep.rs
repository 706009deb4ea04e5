//! Appraises stored devices anew when the operator has changed what is allowed, or a manifest has
//! expired. A few at a time: a device that says something meanwhile is appraised anew there and then.

use log::info;

use super::{Policies, reappraise};
use crate::engine::boot_log;
use crate::store::{Change, DeviceId, Durability, Store, StoreError};

/// How far the devices have been gone through.
#[derive(Debug, Default)]
pub struct Sweep {
    /// The generation that was, or is being, gone through.
    generation: Option<u64>,
    /// The last device looked at; `None`: at the beginning, or done.
    after: Option<DeviceId>,
    done: bool,
    /// When a manifest of any device's policy expires next: begin again then.
    until: Option<u64>,
}

/// What [`Sweep::go_on`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Devices appraised anew.
    pub appraised: u64,
    /// Of these, how many have another verdict now.
    pub changed: u64,
    /// Every device has been looked at.
    pub done: bool,
}

impl Sweep {
    /// Looks at up to `max` devices at `now` (Unix milliseconds), and appraises those anew whose policy is
    /// not the one that they were appraised under. Costs next to nothing when there is nothing to do.
    pub fn go_on(
        &mut self,
        store: &mut dyn Store,
        policies: &Policies,
        now: u64,
        max: usize,
    ) -> Result<Swept, StoreError> {
        let generation = store.generation()?;
        if self.generation != Some(generation) || self.until.is_some_and(|until| until <= now) {
            *self = Sweep {
                generation: Some(generation),
                ..Sweep::default()
            };
        }
        let mut swept = Swept::default();
        if self.done {
            swept.done = true;
            return Ok(swept);
        }
        let devices = store.devices(self.after.as_ref(), max)?;
        self.done = devices.len() < max;
        swept.done = self.done;
        for (id, mut record) in devices {
            self.after = Some(id);
            let policy = policies.for_device(store, &id, now)?;
            self.until = self.until.into_iter().chain(policy.valid_until()).min();
            if !reappraise::is_due(&record, &policy) {
                continue;
            }
            let Some(anew) = reappraise::reappraise(store, &id, &record, &policy, now)? else {
                continue;
            };
            swept.appraised += 1;
            if let Some(verdict) = &anew.verdict {
                swept.changed += 1;
                info!(
                    "device {id}: {} under a changed policy",
                    verdict.tier.word()
                );
            }
            record.set_content(anew.content);
            if let Some(boot) = &mut record.boot {
                boot_log::due_again(boot, anew.awaits_log);
            }
            let mut changes = vec![Change::PutDevice(id, record)];
            changes.extend(anew.changes);
            store.commit(&changes, Durability::Immediate)?;
        }
        Ok(swept)
    }
}
