//! Boot event logs, kept once for the whole fleet by their SHA-256.
//!
//! open names the digest; a log that is known costs nothing more. Another is asked for in parts, once
//! the device's records have their verdict, and any device that has the same may go on with it.
//!
//! **Who may lie.** Every device, about every byte. A whole counts only with the digest that was named
//! for it; its events only when they replay to quoted PCRs (`crate::boot`). What others have begun may
//! be false: a device whose whole misses its digest is asked once more, on its own, and then believed to
//! have no log in this boot. While a log is awaited that a manifest expects something of, there is no
//! good verdict.

use log::{debug, info, warn};
use mote_schemas::cbor;
use mote_schemas::limits::MAX_BOOT_LOG;
use mote_schemas::message::{BootPart, DeviceId};
use mote_schemas::reason::Reason;
use mote_schemas::tpm::{HashAlg, hash};

use super::attest::{Attestation, Standing};
use super::channel::Channel;
use super::evidence::Answer;
use super::outcome::Refusal;
use super::{Engine, Internal, Now};
use crate::manifest::BootReference;
use crate::store::{
    Admission, BootLogState, BootState, Change, DeviceRecord, Durability, PcrBank, Store,
    StoreError,
};

/// Uploads in one boot that may miss their digest: the first perhaps by another device's fault.
const MAX_FAILURES: u8 = 2;

/// PCRs that firmware and boot loader extend.
const FIRMWARE_PCRS: std::ops::Range<u32> = 0..10;

/// What there is of the log of a device's boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum BootLog {
    /// None that could be had, or no quoted PCR to compare it with.
    None,
    /// Its bytes from this offset on are missing.
    Awaited(u32),
    /// All of it, with this digest.
    Known([u8; 32]),
}

/// Whether firmware PCRs are among those of the last certified quote.
pub(super) fn can_be_judged(pcrs: &[PcrBank]) -> bool {
    let mut values = pcrs.iter().flat_map(|bank| &bank.values);
    values.any(|value| FIRMWARE_PCRS.contains(&u32::from(value.index)))
}

/// What there is of the log of this boot.
pub(super) fn of_boot(
    store: &dyn Store,
    device: &DeviceId,
    boot: &BootState,
) -> Result<BootLog, StoreError> {
    let named = boot.boot_log.as_ref();
    let Some((state, digest)) = named.and_then(|state| Some((state, state.digest?))) else {
        return Ok(BootLog::None);
    };
    if !can_be_judged(&boot.pcrs) {
        return Ok(BootLog::None);
    }
    if store.has_boot_log(&digest)? {
        return Ok(BootLog::Known(digest));
    }
    if state.failures >= MAX_FAILURES {
        return Ok(BootLog::None);
    }
    let end = store.boot_upload_end(&upload(&digest, state, device))?;
    Ok(BootLog::Awaited(end))
}

/// The offset that a device is asked for.
pub(super) fn wanted(
    store: &dyn Store,
    device: &DeviceId,
    boot: Option<&BootState>,
) -> Result<Option<u32>, Internal> {
    // One that has been judged is of no more use, even if the store has had to give it up.
    let due = |boot: &&BootState| boot.boot_log.as_ref().is_some_and(|log| log.due);
    let Some(boot) = boot.filter(due) else {
        return Ok(None);
    };
    Ok(match of_boot(store, device, boot)? {
        BootLog::Awaited(offset) => Some(offset),
        BootLog::None | BootLog::Known(_) => None,
    })
}

/// Notes which log a session's open has named. One that was not named before is judged when it is here,
/// or missed when it is gone.
pub(super) fn named(boot: &mut BootState, digest: Option<[u8; 32]>) {
    if boot.boot_log.as_ref().map(|state| state.digest) != Some(digest) {
        boot.boot_log = Some(BootLogState {
            digest,
            failures: 0,
            due: true,
        });
    }
}

/// Asks for the log once more if it is awaited after all: another policy wants to see it.
pub(crate) fn due_again(boot: &mut BootState, awaited: bool) {
    if let Some(state) = &mut boot.boot_log {
        state.due |= awaited;
    }
}

/// The upload to add to: everybody's, or after a failure one that nobody else can spoil.
fn upload(digest: &[u8; 32], state: &BootLogState, device: &DeviceId) -> [u8; 32] {
    if state.failures == 0 {
        return *digest;
    }
    let parts: [&[u8]; 3] = [b"mote boot log of one device", digest, &device.0];
    sha256(&parts)
}

fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut digest = [0; 32];
    digest.copy_from_slice(hash(HashAlg::Sha256, parts).as_bytes());
    digest
}

impl Engine {
    /// A part of a boot log.
    pub(super) fn boot_part(
        &mut self,
        now: Now,
        channel: &Channel,
        mut record: DeviceRecord,
        payload: &[u8],
    ) -> Answer {
        let device = channel.record.device;
        let part: BootPart<'_> = match cbor::decode(payload) {
            Ok(part) => part,
            Err(error) => return Ok(Err(error.into())),
        };
        if !matches!(record.admission, Admission::Admitted { .. }) {
            return self
                .reply(&Standing::pending_admission(), None, None)
                .map(Ok);
        }
        let Some(boot) = &mut record.boot else {
            return Ok(Err(Refusal::new(Reason::OutOfOrder, "quote first")));
        };
        let status = of_boot(self.store.as_ref(), &device, boot)?;
        let mut refusal = None;
        if let (BootLog::Awaited(end), Some(state)) = (status, &mut boot.boot_log)
            && let Some(digest) = state.digest
            // Of a copy, or of what another device has sent meanwhile: the reply says how far it is.
            && part.offset == end
        {
            let upload = upload(&digest, state, &device);
            let taken = self.taken(&part, &digest, &upload, now)?;
            let (changes, durability) = if let Some(taken) = taken {
                taken
            } else {
                warn!("device {device}: its boot log does not have the digest it named");
                state.failures += 1;
                if state.failures >= MAX_FAILURES {
                    refusal = Some(Refusal::new(
                        Reason::BootLogMismatch,
                        "the boot log does not have the digest that open named",
                    ));
                }
                let changes = vec![
                    Change::PutDevice(device, record.clone()),
                    Change::DropBootUpload(upload),
                ];
                (changes, Durability::Immediate)
            };
            self.store.commit(&changes, durability)?;
        }
        if let Some(refusal) = refusal {
            return Ok(Err(refusal));
        }
        let attestation = Attestation::new(self, now, device, record, channel.quoted)?;
        let standing = attestation.stands()?;
        self.reply(&standing, None, None).map(Ok)
    }

    /// What to store of a part that goes on where the upload ends; `None` if the log cannot be the one
    /// with this digest.
    fn taken(
        &self,
        part: &BootPart<'_>,
        digest: &[u8; 32],
        upload: &[u8; 32],
        now: Now,
    ) -> Result<Option<(Vec<Change>, Durability)>, Internal> {
        let bytes = part.bytes.get();
        if part.offset as usize + bytes.len() > MAX_BOOT_LOG {
            return Ok(None);
        }
        if part.last != Some(true) {
            let change = Change::AppendBootUpload {
                upload: *upload,
                offset: part.offset,
                bytes: bytes.to_vec(),
                at: now.unix,
            };
            return Ok(Some((vec![change], Durability::Batched)));
        }
        let mut whole = self.store.boot_upload(upload)?;
        whole.extend_from_slice(bytes);
        if sha256(&[&whole]) != *digest {
            return Ok(None);
        }
        info!(
            "boot log {} is here, {} bytes",
            crate::hex::encode(digest),
            whole.len()
        );
        let changes = vec![
            Change::PutBootLog {
                digest: *digest,
                bytes: whole,
                at: now.unix,
            },
            Change::DropBootUpload(*upload),
        ];
        Ok(Some((changes, Durability::Immediate)))
    }
}

/// What to judge a boot by.
pub(crate) struct Evidence {
    /// The log, if all of it is here.
    pub(crate) log: Option<Vec<u8>>,
    /// What is expected. Not of a log that is still awaited: that is judged when it is here.
    pub(crate) references: Vec<BootReference>,
    /// The log is still awaited.
    pub(crate) awaited: bool,
    /// Something is expected of the log that is still awaited.
    pub(crate) waits: bool,
}

/// What to judge this boot by, where `expected` is what the device's policy refers to.
pub(crate) fn evidence(
    store: &dyn Store,
    device: &DeviceId,
    boot: &BootState,
    expected: &[BootReference],
) -> Result<Evidence, StoreError> {
    let mut evidence = Evidence {
        log: None,
        references: expected.to_vec(),
        awaited: false,
        waits: false,
    };
    match of_boot(store, device, boot)? {
        BootLog::None => {}
        BootLog::Known(digest) => evidence.log = store.boot_log(&digest)?,
        BootLog::Awaited(offset) => {
            debug!("device {device}: boot log awaited from {offset} on");
            evidence.awaited = true;
            for reference in &mut evidence.references {
                evidence.waits |= !std::mem::take(&mut reference.expectations).is_empty();
            }
        }
    }
    Ok(evidence)
}
