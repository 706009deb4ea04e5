//! open, log and beat: what an enrolled device says, turned into one commit and a reply.
//!
//! A refusal changes nothing that is stored. A reply goes out only after the commit: durable when a
//! device, a session, an admission or a verdict changed, batched when only a position or a nonce did.

use std::time::Duration;

use log::info;
use mote_schemas::cbor::{self, Bytes, CborError};
use mote_schemas::coap::{Body, Code};
use mote_schemas::limits::MAX_MESSAGE;
use mote_schemas::message::{Beat, Log, Nonce, Open, Quote, Reasons, Reply, Wants, path};
use mote_schemas::reason::Reason;
use mote_schemas::tpm::Public;
use rustls_pki_types::UnixTime;

use super::attest::{self, Attestation, Standing};
use super::channel::Channel;
use super::hello::{Keys, Pending};
use super::keys::attestation_key;
use super::outcome::Refusal;
use super::{Engine, Internal, Now, random};
use crate::admission::{Admission as Decision, Grounds, Pending as Waits};
use crate::known::prefix_length;
use crate::quote::VerifiedQuote;
use crate::signature::VerifyingKey;
use crate::store::{
    Admission, Change, DeviceId, DeviceRecord, Durability, Kid, NonceRecord, SessionRecord,
};

/// Nonces outstanding per session: the last one, and the one before in case its reply was lost.
const NONCES: usize = 2;

/// Stands for the id of the nonce that open answers, which is the challenge's: the next is 0.
const OPEN: u64 = 0xff;

/// A reply's payload, or a refusal.
pub(super) type Answer = Result<Result<Vec<u8>, Refusal>, Internal>;

impl From<CborError> for Refusal {
    fn from(error: CborError) -> Self {
        Refusal::new(Reason::MessageMalformed, &error)
    }
}

impl Engine {
    /// Opens the session of a challenge whose answer has just decrypted, and enrols its device.
    pub(super) fn open(
        &mut self,
        now: Now,
        kid: &Kid,
        pending: &mut Pending,
        body: &Body<'_>,
        payload: &[u8],
    ) -> Answer {
        if body.code() != Code::POST || !body.path_is(&[path::OPEN]) {
            return Ok(Err(Refusal::new(
                Reason::OutOfOrder,
                "open the session first",
            )));
        }
        let open: Open<'_> = match cbor::decode(payload) {
            Ok(open) => open,
            Err(error) => return Ok(Err(error.into())),
        };
        let transcript = pending.channel.transcript();
        let extra_data = transcript.qualifying_data(&pending.nonce);
        let quote = (open.quote.attest.get(), open.quote.signature.get());
        let verified = attestation_key(&pending.keys.ak_public)
            .and_then(|key| verify(&key, quote, &extra_data));
        let verified = match verified {
            Ok(verified) => verified,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let device = pending.channel.record.device;
        let mut record = match self.store.device(&device)? {
            Some(record) => record,
            None => self.enrol(now, device, &pending.keys),
        };
        if let Some(refusal) = refused(&record) {
            return Ok(Err(refusal));
        }
        let is_new = record.session.is_none() && record.admission == Admission::Pending;
        if is_new && self.waiting >= self.settings.max_waiting {
            let detail = "too many devices wait for admission; admit or remove some";
            return Ok(Err(Refusal::new(Reason::VerifierBusy, detail)));
        }
        let ended = record.session.replace(*kid).filter(|old| old != kid);
        record.software = open.software.map(|text| text.get().to_owned());

        let boot_log = open
            .boot_log
            .and_then(|digest| digest.get().try_into().ok());
        pending.channel.record.boot_log = boot_log;
        pending.channel.record.deletes = open.anchor.map(|_| true);
        let mut attestation = Attestation::new(self, now, device, record, false)?;
        attestation.must_be_durable();
        let mut first = None;
        let mut standing = if attestation.is_admitted() {
            if let Err(refusal) = attestation.quote(&verified, quote, &extra_data, open.records) {
                return Ok(Err(refusal));
            }
            if let Some(anchor) = open.anchor {
                match attestation.locate(anchor, open.records)? {
                    Ok(number) => first = Some(number),
                    Err(refusal) => return Ok(Err(refusal)),
                }
            }
            attestation.boot_log(boot_log);
            attestation.claims(&open.pcrs);
            match attestation.settle()? {
                Ok(standing) => standing,
                Err(refusal) => return Ok(Err(refusal)),
            }
        } else {
            Standing::pending_admission()
        };
        standing.first = first;
        attestation.release_again(&mut standing, open.anchor.is_some());
        let admitted = attestation.is_admitted();
        let (mut changes, durability) = attestation.finish();
        let nonce = self.next_nonce(now, &mut pending.channel.record, OPEN)?;
        changes.extend(ended.map(Change::RemoveSession));
        changes.push(Change::PutSession(*kid, pending.channel.record.clone()));
        self.store.commit_owned(changes, durability)?;
        pending.channel.quoted = admitted;
        self.waiting += usize::from(is_new);
        self.refused.forget(&device);
        if let Some(ended) = ended {
            self.channels.take(&ended);
        }
        info!(
            "device {device}: session {kid} opened, {}",
            standing.tier.word()
        );
        let store = self.store.as_ref();
        let known = self.policies.known_records(store)?.len() as u64 + store.record_count()?;
        let length = (known > 0).then(|| prefix_length(known));
        self.reply(&standing, Some(&nonce), length).map(Ok)
    }

    /// log, beat, or a part of something, in an open session. `payload` is all of it; that of `body` may
    /// be the last block.
    pub(super) fn evidence(
        &mut self,
        now: Now,
        kid: &Kid,
        channel: &mut Channel,
        body: &Body<'_>,
        payload: &[u8],
    ) -> Answer {
        let device = channel.record.device;
        let Some(record) = self.store.device(&device)? else {
            return Ok(Err(Refusal::new(Reason::DeviceUnknown, "say hello again")));
        };
        if let Some(refusal) = refused(&record) {
            return Ok(Err(refusal));
        }
        match body.code() {
            Code::POST if body.path_is(&[path::LOG]) => self.log(now, channel, record, payload),
            Code::POST if body.path_is(&[path::BEAT]) => {
                self.beat(now, kid, channel, record, payload)
            }
            Code::POST if body.path_is(&[path::BOOT]) => {
                self.boot_part(now, channel, record, payload)
            }
            Code::POST if body.path_is(&[path::RECORD]) => {
                self.record_part(now, channel, record, payload)
            }
            _ => Ok(Err(Refusal::new(
                Reason::OutOfOrder,
                "the session is open already",
            ))),
        }
    }

    fn log(&mut self, now: Now, channel: &Channel, record: DeviceRecord, payload: &[u8]) -> Answer {
        let log: Log<'_> = match cbor::decode(payload) {
            Ok(log) => log,
            Err(error) => return Ok(Err(error.into())),
        };
        let mut attestation =
            Attestation::new(self, now, channel.record.device, record, channel.quoted)?;
        let mut standing = if attestation.is_admitted() {
            if let Err(refusal) = attestation.append(log.from, &log.entries)? {
                return Ok(Err(refusal));
            }
            match attestation.settle()? {
                Ok(standing) => standing,
                Err(refusal) => return Ok(Err(refusal)),
            }
        } else {
            Standing::pending_admission()
        };
        attestation.release(&mut standing, channel.record.deletes == Some(true));
        let (changes, durability) = attestation.finish();
        self.store.commit_owned(changes, durability)?;
        self.reply(&standing, None, None).map(Ok)
    }

    fn beat(
        &mut self,
        now: Now,
        kid: &Kid,
        channel: &mut Channel,
        record: DeviceRecord,
        payload: &[u8],
    ) -> Answer {
        let beat: Beat<'_> = match cbor::decode(payload) {
            Ok(beat) => beat,
            Err(error) => return Ok(Err(error.into())),
        };
        let device = channel.record.device;
        let mut session = channel.record.clone();
        let id = u64::from(beat.nonce_id);
        let known = session.nonces.iter().position(|nonce| nonce.id == id);
        let nonce = known.map(|at| session.nonces.remove(at));
        let Some(nonce) = nonce.filter(|nonce| now.unix < nonce.expires) else {
            let attestation = Attestation::new(self, now, device, record, channel.quoted)?;
            let standing = attestation.nonce_expired()?;
            let fresh = self.next_nonce(now, &mut session, id)?;
            let change = Change::PutSession(*kid, session.clone());
            self.store.commit(&[change], Durability::Batched)?;
            channel.record = session;
            return self.reply(&standing, Some(&fresh), None).map(Ok);
        };
        let extra_data = channel.transcript().qualifying_data(&nonce.value);
        let key = match self.keys.of(&record.ak_public) {
            Ok(key) => key,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let mut attestation = Attestation::new(self, now, device, record, channel.quoted)?;
        let taken = match &beat.quote {
            Quote::Full(quote) => {
                let quote = (quote.attest.get(), quote.signature.get());
                let verified = match verify(&key, quote, &extra_data) {
                    Ok(verified) => verified,
                    Err(refusal) => return Ok(Err(refusal)),
                };
                if attestation.is_admitted() {
                    let records = attest::records_after(&beat);
                    match attestation.quote(&verified, quote, &extra_data, records) {
                        Ok(()) => attestation.take_records(&beat)?.map(|()| true),
                        Err(refusal) => Err(refusal),
                    }
                } else {
                    Ok(true)
                }
            }
            Quote::Elided(quote) if attestation.is_admitted() => {
                attestation.elided(quote, &beat, &key, &extra_data)?
            }
            Quote::Elided(_) => Ok(true),
        };
        let quoted = matches!(taken, Ok(true)) && attestation.is_admitted();
        let mut standing = match taken {
            Err(refusal) => return Ok(Err(refusal)),
            // Nothing of the message counts, but the nonce is used up.
            Ok(false) => {
                let records = attestation.wanted_in_full();
                let before = self.store.device(&device)?;
                let before = before.ok_or(Internal::Other("a device is gone"))?;
                attestation = Attestation::new(self, now, device, before, channel.quoted)?;
                if records.is_empty() {
                    attestation.full_quote_wanted()?
                } else {
                    attestation.records_wanted(records)?
                }
            }
            Ok(true) if attestation.is_admitted() => {
                attestation.boot_log(session.boot_log);
                if let Some(pcrs) = &beat.pcrs {
                    attestation.claims(pcrs);
                }
                match attestation.settle()? {
                    Ok(standing) => standing,
                    Err(refusal) => return Ok(Err(refusal)),
                }
            }
            Ok(true) => Standing::pending_admission(),
        };
        attestation.release(&mut standing, session.deletes == Some(true));
        let (mut changes, durability) = attestation.finish();
        let fresh = self.next_nonce(now, &mut session, id)?;
        changes.push(Change::PutSession(*kid, session.clone()));
        self.store.commit_owned(changes, durability)?;
        channel.record = session;
        channel.quoted |= quoted;
        self.reply(&standing, Some(&fresh), None).map(Ok)
    }

    /// A device that this verifier has not seen before, and that has proved to hold its keys.
    fn enrol(&self, now: Now, device: DeviceId, keys: &Keys) -> DeviceRecord {
        let certificate = keys.ek_certificate.as_deref();
        let time = UnixTime::since_unix_epoch(Duration::from_millis(now.unix));
        let decision =
            Public::parse(&keys.ek_public).map(|ek| self.rules.decide(&ek, certificate, time));
        let admitted = |by: &str| Admission::Admitted {
            by: by.to_owned(),
            at: now.unix,
        };
        let mut certificate_fault = None;
        let admission = match decision {
            Ok(Decision::Admitted(Grounds::AllowList)) => admitted("allow-list"),
            Ok(Decision::Admitted(Grounds::Certificate)) => admitted("ek-certificate"),
            Ok(Decision::Pending(Waits::Certificate(error))) => {
                info!(
                    "device {device} waits for admission: {}: {error}",
                    error.reason().token()
                );
                certificate_fault = Some(error.to_string());
                Admission::Pending
            }
            // hello has refused what decide refuses.
            Ok(Decision::Pending(Waits::NoCertificate) | Decision::Refused(_)) | Err(_) => {
                Admission::Pending
            }
        };
        DeviceRecord {
            ek_certificate: keys.ek_certificate.clone(),
            admission,
            last_seen: Some(now.unix),
            certificate_fault,
            ..DeviceRecord::new(keys.ek_public.clone(), keys.ak_public.clone(), now.unix)
        }
    }

    /// A fresh nonce, remembered in `session`. Its id is another than `answered`, which the device may
    /// refer to once more if our reply is lost, and than those that are still outstanding.
    fn next_nonce(
        &self,
        now: Now,
        session: &mut SessionRecord,
        answered: u64,
    ) -> Result<NonceRecord, Internal> {
        let mut id = (answered + 1) & 0xff;
        while session.nonces.iter().any(|nonce| nonce.id == id) {
            id = (id + 1) & 0xff;
        }
        let nonce = NonceRecord {
            id,
            value: random::<16>()?.to_vec(),
            expires: now.unix + 1000 * u64::from(self.settings.nonce_lifetime),
        };
        session.nonces.push(nonce.clone());
        let surplus = session.nonces.len().saturating_sub(NONCES);
        session.nonces.drain(..surplus);
        Ok(nonce)
    }

    pub(super) fn reply(
        &self,
        standing: &Standing,
        nonce: Option<&NonceRecord>,
        prefix_length: Option<u8>,
    ) -> Result<Vec<u8>, Internal> {
        let reply = Reply {
            next_record: standing.next_record,
            tier: standing.tier,
            nonce: nonce.and_then(|nonce| {
                Some(Nonce {
                    id: u8::try_from(nonce.id).ok()?,
                    value: Bytes::new(&nonce.value)?,
                    lifetime: self.settings.nonce_lifetime,
                })
            }),
            interval: nonce.map(|_| self.settings.interval),
            reasons: Reasons::new(standing.reasons.iter().copied()),
            wants: (standing.wants != Wants::default()).then_some(standing.wants),
            records: (!standing.records.is_empty()).then(|| standing.records.clone()),
            prefix_length,
            boot_log: standing.boot_log,
            record_offset: standing.record_offset,
            first: standing.first,
            released: standing.released,
        };
        let mut payload = [0; MAX_MESSAGE];
        let len = cbor::encode(&reply, &mut payload)
            .map_err(|_| Internal::Other("a reply does not fit a message"))?;
        Ok(payload[..len].to_vec())
    }
}

fn verify(
    key: &VerifyingKey,
    (attest, signature): (&[u8], &[u8]),
    extra_data: &[u8],
) -> Result<VerifiedQuote, Refusal> {
    VerifiedQuote::verify(attest, signature, key, extra_data, None)
        .map_err(|e| Refusal::new(e.reason(), &e))
}

fn refused(record: &DeviceRecord) -> Option<Refusal> {
    let refused = matches!(record.admission, Admission::Refused { .. });
    refused.then(|| Refusal::new(Reason::AdmissionRefused, "the operator refused this device"))
}
