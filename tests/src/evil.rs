//! An agent that can say anything: honest by default, with every byte in the caller's hands.
//!
//! Messages are written here field by field, not with the agent's encoders: what is tested is what
//! the verifier does with bytes. Only OSCORE and the reading of replies come from `mote-schemas`.

use std::net::SocketAddr;

use minicbor::Encoder;
use mote_agent::tpm::{PcrSelection, Tpm};
use mote_schemas::cbor;
use mote_schemas::coap::{Code, Message, Type, Writer, option};
use mote_schemas::cose::Sign1;
use mote_schemas::limits::MAX_MESSAGE;
use mote_schemas::message::{Challenge, DeviceId, ErrorReply, Kid, Reply, Tier, Wants};
use mote_schemas::oscore::{Context, OscoreOption, SentRequest};
use mote_schemas::transcript::{HelloDigest, Transcript};

use crate::lab::Lab;
use crate::simkernel::ima::Record;
use crate::soft_device::SoftDevice;
use crate::soft_tpm::{Attest, SoftTpm};

/// What it quotes: PCR 0 to 10 of the SHA-256 bank.
pub const SELECTION: &[PcrSelection] = &[PcrSelection {
    bank: 0x000b,
    mask: 0x7ff,
}];

/// Keys and state of a session.
pub struct Session {
    context: Context,
    /// What quotes are bound to.
    pub transcript: Transcript,
    /// What the verifier calls it.
    pub kid: Kid,
    /// Id and value of the nonce to answer.
    pub nonce: (u8, Vec<u8>),
    sent: Option<SentRequest>,
}

/// A reply, opened if we have its keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// As it came.
    pub datagram: Vec<u8>,
    /// Response code; the inner one if protected.
    pub code: Code,
    /// It was the verifier's own word.
    pub protected: bool,
    /// Partial IV of the reply, if it has one.
    pub partial_iv: Option<u64>,
    /// Value of the Echo option, if there is one.
    pub echo: Option<Vec<u8>>,
    /// Payload; the inner one if protected.
    pub payload: Vec<u8>,
}

impl Answer {
    /// The reason token of an error, or the first one of a reply; empty if there is none.
    pub fn reason(&self) -> String {
        if self.code.class() >= 4 {
            let error = cbor::decode::<ErrorReply<'_>>(&self.payload);
            return error.map_or(String::new(), |error| error.reason.get().to_owned());
        }
        let reply = cbor::decode::<Reply<'_>>(&self.payload).ok();
        let reasons = reply.and_then(|reply| reply.reasons);
        reasons.map_or(String::new(), |reasons| {
            reasons.tokens().next().unwrap_or_default().to_owned()
        })
    }

    /// The verdict of a reply.
    ///
    /// # Panics
    /// When it is none.
    pub fn tier(&self) -> Tier {
        self.reply().tier
    }

    /// First record that the verifier does not have.
    ///
    /// # Panics
    /// When it is no reply.
    pub fn next_record(&self) -> u64 {
        self.reply().next_record
    }

    /// What the verifier asks for.
    ///
    /// # Panics
    /// When it is no reply.
    pub fn wants(&self) -> Wants {
        self.reply().wants.unwrap_or_default()
    }

    fn reply(&self) -> Reply<'_> {
        cbor::decode(&self.payload).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }
}

/// The agent.
pub struct Evil {
    /// Its TPM and list.
    pub device: SoftDevice,
    /// Where it sends from.
    pub peer: SocketAddr,
    /// Its session.
    pub session: Option<Session>,
    message_id: u16,
}

impl std::fmt::Debug for Evil {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Evil")
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}

impl Evil {
    /// A device that has just booted; `seed` decides its keys and its port.
    pub fn new(seed: u16) -> Self {
        Self::with_tpm(SoftTpm::new(seed.into()), seed)
    }

    /// A device with this TPM.
    pub fn with_tpm(tpm: SoftTpm, port: u16) -> Self {
        Self {
            device: SoftDevice::new(tpm),
            peer: SocketAddr::from(([192, 0, 2, 1], port)),
            session: None,
            message_id: 0,
        }
    }

    /// A device that is enrolled, admitted and trusted, with `/bin/0` and `/bin/1` run.
    ///
    /// # Panics
    /// When the verifier does not go along.
    pub fn trusted(lab: &mut Lab, seed: u16) -> Self {
        let mut evil = Self::new(seed);
        evil.hello(lab);
        let pending = evil.open(lab);
        assert_eq!(pending.reason(), "admission-pending", "{pending:?}");
        lab.admit(&evil.id());
        evil.device.run("/bin/0");
        evil.device.run("/bin/1");
        let answer = evil.beat(lab);
        assert_eq!(answer.tier(), Tier::Affirming, "{answer:?}");
        evil
    }

    /// Its device id.
    pub fn id(&self) -> DeviceId {
        DeviceId::of_ek(self.device.tpm.ek_public())
    }

    /// The session.
    ///
    /// # Panics
    /// When there is none.
    pub fn session(&mut self) -> &mut Session {
        self.session
            .as_mut()
            .unwrap_or_else(|| panic!("no session"))
    }

    // ---- whole steps, honestly ----

    /// Hello with keys, Echo included, up to session keys.
    ///
    /// # Panics
    /// When the verifier does not go along.
    pub fn hello(&mut self, lab: &mut Lab) {
        let payload = self.hello_payload(true);
        let answer = self.knock(lab, &payload);
        assert_eq!(answer.code, Code::CHANGED, "{answer:?}");
        self.take_challenge(&payload, &answer.payload);
    }

    /// Open with an honest quote.
    pub fn open(&mut self, lab: &mut Lab) -> Answer {
        let payload = self.open_payload(&self.quote(), self.device.list.0.len() as u64);
        self.ask(lab, "o", &payload)
    }

    /// Beat with an honest quote, PCR values, and every record from the first on.
    pub fn beat(&mut self, lab: &mut Lab) -> Answer {
        let payload = self.beat_payload(&self.quote(), 0, &self.device.list.0);
        self.ask(lab, "b", &payload)
    }

    /// Beat with an honest quote, and one record that is known by the first 8 bytes of its template hash.
    ///
    /// # Panics
    /// When there is no session.
    pub fn beat_known(&mut self, lab: &mut Lab, from: u64, hash: &[u8]) -> Answer {
        let quote = self.quote();
        let run = [&[8], hash].concat();
        let payload = self.beat_of(&quote, from, |e| e.array(1)?.bytes(&run)?.ok());
        self.ask(lab, "b", &payload)
    }

    /// Log with these records.
    pub fn log(&mut self, lab: &mut Lab, from: u64, records: &[Record]) -> Answer {
        self.ask(lab, "l", &log_payload(from, records))
    }

    /// A protected request to its reply, Echo included. The nonce of the reply is taken.
    pub fn ask(&mut self, lab: &mut Lab, path: &str, payload: &[u8]) -> Answer {
        let datagram = self.protect(path, None, payload);
        let first = self.send(lab, &datagram);
        let (true, Some(echo)) = (first.protected, &first.echo) else {
            return first;
        };
        let datagram = self.protect(path, Some(echo), payload);
        self.send(lab, &datagram)
    }

    /// Hello with this payload: once without Echo, once with the one that it was given. Returns the
    /// second answer, or the first if it holds no Echo.
    pub fn knock(&mut self, lab: &mut Lab, payload: &[u8]) -> Answer {
        let datagram = self.clear("h", None, payload);
        let first = self.send(lab, &datagram);
        let Some(echo) = &first.echo else {
            return first;
        };
        let datagram = self.clear("h", Some(echo), payload);
        self.send(lab, &datagram)
    }

    // ---- datagrams ----

    /// An unprotected request.
    ///
    /// # Panics
    /// When it does not fit a datagram.
    pub fn clear(&mut self, path: &str, echo: Option<&[u8]>, payload: &[u8]) -> Vec<u8> {
        let echo: Vec<(u16, &[u8])> = echo.map(|echo| (option::ECHO, echo)).into_iter().collect();
        self.clear_with(path, &echo, payload)
    }

    /// The same, with these options beyond the path's, ascending.
    fn clear_with(&mut self, path: &str, options: &[(u16, &[u8])], payload: &[u8]) -> Vec<u8> {
        self.message_id = self.message_id.wrapping_add(1);
        let mut buffer = vec![0; 60_000];
        let write = |buffer: &mut [u8]| {
            let id = self.message_id;
            let token = id.to_be_bytes();
            let mut writer = Writer::new(buffer, Type::Confirmable, Code::POST, id, &token)?
                .option(option::URI_PATH, path.as_bytes())?;
            for (number, value) in options {
                writer = writer.option(*number, value)?;
            }
            writer.payload(payload)
        };
        let length = write(&mut buffer).unwrap_or_else(|error| panic!("{error:?}"));
        buffer.truncate(length);
        buffer
    }

    /// A request under the session's keys, with the next sequence number.
    ///
    /// # Panics
    /// When there is no session, or it does not fit a message.
    pub fn protect(&mut self, path: &str, echo: Option<&[u8]>, payload: &[u8]) -> Vec<u8> {
        let plain = self.clear(path, echo, payload);
        self.seal(&plain)
    }

    /// The same, with these options beyond the path's, ascending.
    pub fn protect_with(
        &mut self,
        path: &str,
        options: &[(u16, &[u8])],
        payload: &[u8],
    ) -> Vec<u8> {
        let plain = self.clear_with(path, options, payload);
        self.seal(&plain)
    }

    fn seal(&mut self, plain: &[u8]) -> Vec<u8> {
        let plain = Message::parse(plain).unwrap_or_else(|error| panic!("{error:?}"));
        let mut out = vec![0; 60_000];
        let session = self.session();
        let sealed = session.context.protect_request(&plain, &mut out);
        let (length, sent) = sealed.unwrap_or_else(|error| panic!("{error:?}"));
        session.sent = Some(sent);
        out.truncate(length);
        out
    }

    /// Sends a datagram and opens the answer.
    ///
    /// # Panics
    /// When there is no answer, or it is not CoAP.
    pub fn send(&mut self, lab: &mut Lab, datagram: &[u8]) -> Answer {
        let reply = lab.handle(self.peer, datagram);
        let reply = reply.unwrap_or_else(|| panic!("no answer"));
        self.read(&reply)
    }

    /// Opens an answer to the last request.
    ///
    /// # Panics
    /// When it is not CoAP, or claims to be protected and does not open.
    pub fn read(&mut self, datagram: &[u8]) -> Answer {
        let message = Message::parse(datagram).unwrap_or_else(|error| panic!("{error:?}"));
        let header = OscoreOption::of(&message);
        let mut plain = [0; MAX_MESSAGE];
        let (body, protected) = match (&header, &self.session) {
            (Some(_), Some(session)) => {
                let sent = session.sent.unwrap_or_else(|| panic!("nothing was asked"));
                let opened = session
                    .context
                    .unprotect_response(&sent, &message, &mut plain);
                (opened.unwrap_or_else(|error| panic!("{error:?}")), true)
            }
            _ => (message.body(), false),
        };
        let answer = Answer {
            code: body.code(),
            protected,
            partial_iv: header.and_then(|header| header.ok()?.partial_iv),
            echo: body.option(option::ECHO).map(|echo| echo.value.to_vec()),
            payload: body.payload().to_vec(),
            datagram: datagram.to_vec(),
        };
        if answer.code == Code::CHANGED
            && protected
            && let Ok(reply) = cbor::decode::<Reply<'_>>(&answer.payload)
            && let Some(nonce) = reply.nonce
        {
            self.session().nonce = (nonce.id, nonce.value.get().to_vec());
        }
        answer
    }

    /// Makes session keys of a signed challenge.
    ///
    /// # Panics
    /// When it is none for this TPM.
    pub fn take_challenge(&mut self, hello: &[u8], reply: &[u8]) {
        let sign1 = Sign1::parse(reply).unwrap_or_else(|error| panic!("{error}"));
        let challenge: Challenge<'_> =
            cbor::decode(sign1.payload).unwrap_or_else(|error| panic!("{error}"));
        let secret = self.device.tpm.activate_credential(
            challenge.credential_blob.get(),
            challenge.encrypted_secret.get(),
        );
        let secret = secret.unwrap_or_else(|error| panic!("{error}"));
        let transcript = Transcript::new(HelloDigest::of(hello), sign1.payload);
        let master = transcript.master_secret(secret.as_bytes());
        let kid = challenge.kid;
        let context = Context::derive(&*master, &[], None, kid.as_bytes(), &[]);
        self.session = Some(Session {
            context: context.unwrap_or_else(|error| panic!("{error:?}")),
            transcript,
            kid,
            nonce: (0, challenge.random.to_vec()),
            sent: None,
        });
    }

    // ---- payloads ----

    /// hello, with or without keys.
    pub fn hello_payload(&mut self, keys: bool) -> Vec<u8> {
        let mut random = [0; 16];
        // A soft TPM's generator does not fail.
        let _ = self.device.tpm.random(&mut random);
        let keys = keys.then(|| Keys {
            ek: self.device.tpm.ek_public().to_vec(),
            ak: self.device.tpm.ak_public().to_vec(),
            certificate: self.device.tpm.certificate().map(<[u8]>::to_vec),
        });
        hello_payload(1, &random, &self.id().0, keys.as_ref())
    }

    /// The quote that the verifier expects now, to be altered.
    ///
    /// # Panics
    /// When there is no session.
    pub fn attest(&self) -> Attest {
        let session = self.session.as_ref();
        let session = session.unwrap_or_else(|| panic!("no session"));
        let extra_data = session.transcript.qualifying_data(&session.nonce.1);
        let attest = self.device.tpm.attest(SELECTION, &extra_data);
        attest.unwrap_or_else(|error| panic!("{error}"))
    }

    /// That quote, signed: `TPMS_ATTEST` and `TPMT_SIGNATURE`.
    pub fn quote(&self) -> (Vec<u8>, Vec<u8>) {
        self.signed(&self.attest())
    }

    /// Any quote, signed.
    pub fn signed(&self, attest: &Attest) -> (Vec<u8>, Vec<u8>) {
        let bytes = attest.encode();
        let signature = self.device.tpm.sign(&bytes);
        (bytes, signature)
    }

    /// open with this quote and the TPM's PCR values.
    pub fn open_payload(&self, quote: &(Vec<u8>, Vec<u8>), records: u64) -> Vec<u8> {
        encode(|e| {
            e.map(3)?.u8(0)?;
            encode_quote(e, quote)?;
            e.u8(1)?;
            self.encode_pcrs(e)?;
            e.u8(2)?.u64(records)?.ok()
        })
    }

    /// beat with this quote, the TPM's PCR values, and records.
    ///
    /// # Panics
    /// When there is no session.
    pub fn beat_payload(
        &self,
        quote: &(Vec<u8>, Vec<u8>),
        from: u64,
        records: &[Record],
    ) -> Vec<u8> {
        self.beat_of(quote, from, |e| encode_entries(e, records))
    }

    fn beat_of(
        &self,
        quote: &(Vec<u8>, Vec<u8>),
        from: u64,
        entries: impl FnOnce(&mut Encoder<Vec<u8>>) -> Written,
    ) -> Vec<u8> {
        let session = self.session.as_ref();
        let id = session.unwrap_or_else(|| panic!("no session")).nonce.0;
        encode(|e| {
            e.map(5)?.u8(0)?.u8(id)?.u8(1)?;
            encode_quote(e, quote)?;
            e.u8(2)?;
            self.encode_pcrs(e)?;
            e.u8(3)?.u64(from)?.u8(4)?;
            entries(e)
        })
    }

    fn encode_pcrs(&self, e: &mut Encoder<Vec<u8>>) -> Written {
        let mut values = [0; 11 * 32];
        let read = self.device.tpm.clone().read_pcrs(SELECTION, &mut values);
        let read = read.unwrap_or_else(|error| panic!("{error}"));
        e.array(1)?.array(3)?.u16(0x000b)?.u32(0x7ff)?;
        e.bytes(&values[..read])?.ok()
    }
}

/// The keys of a hello.
#[derive(Clone, Debug)]
pub struct Keys {
    /// `TPMT_PUBLIC` of the EK.
    pub ek: Vec<u8>,
    /// `TPMT_PUBLIC` of the AK.
    pub ak: Vec<u8>,
    /// EK certificate.
    pub certificate: Option<Vec<u8>>,
}

type Written = Result<(), minicbor::encode::Error<std::convert::Infallible>>;

/// CBOR in memory.
pub fn encode(write: impl FnOnce(&mut Encoder<Vec<u8>>) -> Written) -> Vec<u8> {
    let mut encoder = Encoder::new(Vec::new());
    // Writing to memory cannot fail.
    let _ = write(&mut encoder);
    encoder.into_writer()
}

/// hello with any content.
pub fn hello_payload(version: u8, random: &[u8], device: &[u8], keys: Option<&Keys>) -> Vec<u8> {
    encode(|e| {
        e.map(3 + u64::from(keys.is_some()))?;
        e.u8(0)?.u8(version)?.u8(1)?.bytes(random)?;
        e.u8(2)?.bytes(device)?;
        let Some(keys) = keys else { return Ok(()) };
        e.u8(3)?.map(2 + u64::from(keys.certificate.is_some()))?;
        e.u8(0)?.bytes(&keys.ek)?.u8(1)?.bytes(&keys.ak)?;
        match &keys.certificate {
            Some(der) => e.u8(2)?.bytes(der)?.ok(),
            None => Ok(()),
        }
    })
}

/// log with records.
pub fn log_payload(from: u64, records: &[Record]) -> Vec<u8> {
    encode(|e| {
        e.map(2)?.u8(0)?.u64(from)?.u8(1)?;
        encode_entries(e, records)
    })
}

/// All of a record as one part of a long one.
pub fn record_payload(number: u64, record: &Record) -> Vec<u8> {
    let whole = encode(|e| encode_entries(e, std::slice::from_ref(record)));
    encode(|e| {
        e.map(4)?.u8(0)?.u64(number)?.u8(1)?.u32(0)?;
        e.u8(2)?.bytes(&whole)?.u8(3)?.bool(true)?.ok()
    })
}

/// A part of a boot log, not the last.
pub fn boot_payload(offset: u32, bytes: &[u8]) -> Vec<u8> {
    encode(|e| e.map(2)?.u8(0)?.u32(offset)?.u8(1)?.bytes(bytes)?.ok())
}

fn encode_quote(e: &mut Encoder<Vec<u8>>, (attest, signature): &(Vec<u8>, Vec<u8>)) -> Written {
    e.array(2)?.bytes(attest)?.bytes(signature)?.ok()
}

/// Entries in PCR 10; violations say so.
fn encode_entries(e: &mut Encoder<Vec<u8>>, records: &[Record]) -> Written {
    e.array(records.len() as u64)?;
    for record in records {
        let violation = record.is_violation();
        e.array(if violation { 4 } else { 2 })?;
        match record.template() {
            b"ima-sig" => e.u8(1)?,
            other => e.str(&String::from_utf8_lossy(other))?,
        };
        e.bytes(record.template_data())?;
        if violation {
            e.u32(10)?.bool(true)?;
        }
    }
    Ok(())
}
