//! Records of the measurement list that are longer than a datagram, in parts: `ima-buf` with a large
//! buffer, `ima-modsig` with its signature, a path of thousands of bytes.
//!
//! Parts are stored as they come, apart from records, and are forgotten when the record is whole: an
//! upload outlasts the session, the power of the device's agent and this process. Each device has at most
//! one under way in a boot, for the record that is wanted next.
//!
//! **Who may lie.** The device, about every byte, as about any record: the whole is decoded as an entry
//! of `log` is, and counts when a quote certifies it. A device that is not admitted stores nothing here.

use log::debug;
use mote_schemas::cbor;
use mote_schemas::limits::MAX_RECORD;
use mote_schemas::message::{DeviceId, Entries, RecordPart};
use mote_schemas::reason::Reason;
use mote_schemas::tpm::{HashAlg, hash};

use super::attest::{Attestation, Standing};
use super::channel::Channel;
use super::evidence::Answer;
use super::outcome::Refusal;
use super::{Engine, Now};
use crate::store::{Change, DeviceRecord, Durability};

impl Engine {
    /// A part of a long record.
    pub(super) fn record_part(
        &mut self,
        now: Now,
        channel: &Channel,
        record: DeviceRecord,
        payload: &[u8],
    ) -> Answer {
        let device = channel.record.device;
        let part: RecordPart<'_> = match cbor::decode(payload) {
            Ok(part) => part,
            Err(error) => return Ok(Err(error.into())),
        };
        let mut attestation = Attestation::new(self, now, device, record, channel.quoted)?;
        if !attestation.is_admitted() {
            return self
                .reply(&Standing::pending_admission(), None, None)
                .map(Ok);
        }
        let Some((boot, wanted)) = attestation.log_end() else {
            return Ok(Err(Refusal::new(Reason::OutOfOrder, "quote first")));
        };
        if part.record != wanted {
            // Of a copy, or beyond a gap: the reply says where to go on.
            let standing = attestation.stands()?;
            return self.reply(&standing, None, None).map(Ok);
        }
        let upload = upload(&device, boot, part.record);
        let end = self.store.boot_upload_end(&upload)?;
        if part.offset != end {
            debug!(
                "device {device}: record {wanted} from {}, {end} bytes stored",
                part.offset
            );
            let mut standing = attestation.stands()?;
            standing.record_offset = Some(end);
            return self.reply(&standing, None, None).map(Ok);
        }
        let bytes = part.bytes.get();
        if end as usize + bytes.len() > MAX_RECORD {
            let detail = format!("record {wanted} is longer than {MAX_RECORD} bytes");
            return self.spoiled(upload, &detail);
        }
        if part.last != Some(true) {
            let mut standing = attestation.stands()?;
            standing.record_offset = Some(end + bytes.len() as u32);
            let change = Change::AppendBootUpload {
                upload,
                offset: end,
                bytes: bytes.to_vec(),
                at: now.unix,
            };
            self.store.commit(&[change], Durability::Batched)?;
            return self.reply(&standing, None, None).map(Ok);
        }
        let mut whole = self.store.boot_upload(&upload)?;
        whole.extend_from_slice(bytes);
        let entries: Entries<'_> = match cbor::decode(&whole) {
            Ok(entries) => entries,
            Err(error) => return self.spoiled(upload, &format!("record {wanted}: {error}")),
        };
        if let Some(Err(error)) = entries.iter().find(Result::is_err) {
            return self.spoiled(upload, &format!("record {wanted}: {error}"));
        }
        if entries.records() != 1 {
            return self.spoiled(upload, &format!("record {wanted}: not one record"));
        }
        if let Err(refusal) = attestation.append(wanted, &entries)? {
            return Ok(Err(refusal));
        }
        let mut standing = match attestation.settle()? {
            Ok(standing) => standing,
            Err(refusal) => return Ok(Err(refusal)),
        };
        attestation.release(&mut standing, channel.record.deletes == Some(true));
        let (mut changes, durability) = attestation.finish();
        changes.push(Change::DropBootUpload(upload));
        self.store.commit(&changes, durability)?;
        self.reply(&standing, None, None).map(Ok)
    }

    /// What has come cannot be the encoding of a record: forgets it, so that the device can begin anew.
    /// Nothing else that is stored changes.
    fn spoiled(&mut self, upload: [u8; 32], detail: &str) -> Answer {
        let change = Change::DropBootUpload(upload);
        self.store.commit(&[change], Durability::Batched)?;
        Ok(Err(Refusal::new(Reason::RecordMalformed, detail)))
    }
}

/// The name of an upload that nobody else has: of this record, in this boot of this device.
fn upload(device: &DeviceId, boot: u64, record: u64) -> [u8; 32] {
    let (boot, record) = (boot.to_be_bytes(), record.to_be_bytes());
    let parts: [&[u8]; 4] = [b"mote long record", &device.0, &boot, &record];
    let mut digest = [0; 32];
    digest.copy_from_slice(hash(HashAlg::Sha256, &parts).as_bytes());
    digest
}
