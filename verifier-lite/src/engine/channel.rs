//! OSCORE sessions of enrolled devices (RFC 8613), as they survive a restart of this process.
//!
//! Stored: keys, transcript, and a sender sequence number below which everything may have been used
//! ([`RESERVE`] ahead, so that most replies need no write). Not stored: the replay window. A context
//! loaded from the store therefore answers its first request with an Echo challenge
//! (RFC 8613, B.1.2), and believes only what comes back with it.

use std::collections::HashMap;

use log::debug;
use mote_schemas::coap::{Body, Code, Message, option};
use mote_schemas::limits::MAX_MESSAGE;
use mote_schemas::oscore::{
    Context, OpenedRequest, ReceivedRequest, ReplayWindow, UnprotectRequestError, Unprotected,
};
use mote_schemas::reason::Reason;
use mote_schemas::transcript::Transcript;

use super::outcome::{Outcome, Refusal};
use super::{Engine, Internal, Now, random, response};
use crate::store::{Change, DeviceId, Durability, Kid, Secret, SessionRecord};

/// Sequence numbers reserved by one write.
pub(super) const RESERVE: u64 = 1024;

/// Contexts kept in memory; the rest is derived again on demand.
const MAX_CACHED: usize = 65_536;

/// Bytes of an Echo challenge under OSCORE.
const CHALLENGE: usize = 8;

/// A session in memory.
pub(super) struct Channel {
    pub(super) context: Context,
    pub(super) record: SessionRecord,
    /// Sent while the replay window is lost.
    challenge: [u8; CHALLENGE],
}

/// The sessions in memory.
#[derive(Default)]
pub(super) struct Channels(HashMap<Kid, Channel>);

impl Channels {
    pub(super) fn forget(&mut self, device: &DeviceId) {
        self.0.retain(|_, channel| channel.record.device != *device);
    }

    /// Puts a session into memory; one that is already there stays if there is no room.
    pub(super) fn insert(&mut self, kid: Kid, channel: Channel) {
        if self.0.len() >= MAX_CACHED {
            // Any will do: what is dropped here costs its device one Echo exchange.
            if let Some(victim) = self.0.keys().next().copied() {
                self.0.remove(&victim);
            }
        }
        self.0.insert(kid, channel);
    }

    pub(super) fn take(&mut self, kid: &Kid) -> Option<Channel> {
        self.0.remove(kid)
    }
}

impl Channel {
    /// A session that the peer has just opened.
    pub(super) fn new(kid: &Kid, record: SessionRecord, context: Context) -> Self {
        debug_assert_eq!(context.recipient_id(), kid.as_bytes());
        Channel {
            context,
            record,
            challenge: [0; CHALLENGE],
        }
    }

    /// Keys of a session: the verifier's Sender ID is empty, the agent's is its kid.
    pub(super) fn derive(kid: &Kid, master_secret: &[u8]) -> Result<Context, Internal> {
        Context::derive(master_secret, &[], None, &[], kid.as_bytes())
            .map_err(|_| Internal::Other("an OSCORE context cannot be derived"))
    }

    /// A session from the store, whose past is unknown.
    fn restore(kid: &Kid, record: SessionRecord) -> Result<Self, Internal> {
        let mut context = Self::derive(kid, &record.master_secret.0)?;
        context
            .set_sender_sequence(record.sender_sequence_reserved)
            .map_err(|_| Internal::Other("a stored sequence number is used up"))?;
        context.set_replay_window(ReplayWindow::lost());
        Ok(Channel {
            context,
            record,
            challenge: random()?,
        })
    }

    pub(super) fn transcript(&self) -> Transcript {
        Transcript::from_bytes(self.record.transcript_hash)
    }

    /// Whether the next reply may use a sequence number that is not reserved yet; if so, the record
    /// reserves more and must be stored before the reply goes out.
    pub(super) fn reserve(&mut self) -> bool {
        let next = self.context.sender_sequence();
        if next < self.record.sender_sequence_reserved {
            return false;
        }
        self.record.sender_sequence_reserved = next + RESERVE;
        true
    }

    /// A protected response to `received`, which came in `outer`.
    pub(super) fn seal(
        &mut self,
        outer: &Message<'_>,
        received: &ReceivedRequest,
        code: Code,
        options: &[(u16, Vec<u8>)],
        payload: &[u8],
    ) -> Result<Outcome, Internal> {
        debug_assert!(self.context.sender_sequence() < self.record.sender_sequence_reserved);
        let plain = response(outer, code, options, payload)?;
        let plain = Message::parse(&plain).map_err(|_| Internal::Other("a reply of ours"))?;
        let mut out = vec![0; MAX_MESSAGE];
        let len = self
            .context
            .protect_response(received, &plain, &mut out)
            .map_err(|_| Internal::Other("a reply cannot be protected"))?;
        out.truncate(len);
        Ok(Outcome::Protected(out))
    }
}

impl Engine {
    /// A message under OSCORE: finds its keys, and hands what is authentic and fresh to
    /// `evidence`.
    pub(super) fn protected(
        &mut self,
        now: Now,
        outer: &Message<'_>,
        kid: &[u8],
    ) -> Result<Outcome, Internal> {
        let Some(kid) = Kid::new(kid) else {
            return Ok(unknown());
        };
        if self.hellos.get(&kid, now.monotonic).is_some() {
            return self.first(now, outer, &kid);
        }
        let Some(mut channel) = self.channel(&kid)? else {
            return Ok(unknown());
        };
        let outcome = self.request_in(now, outer, &kid, &mut channel);
        // Back into memory, with its window moved, whatever became of the request. A session that
        // ended meanwhile is not in the store any more.
        if self.store.session(&kid)?.is_some() {
            self.channels.insert(kid, channel);
        }
        outcome
    }

    fn channel(&mut self, kid: &Kid) -> Result<Option<Channel>, Internal> {
        if let Some(channel) = self.channels.take(kid) {
            return Ok(Some(channel));
        }
        self.store
            .session(kid)?
            .map(|record| Channel::restore(kid, record))
            .transpose()
    }

    fn request_in(
        &mut self,
        now: Now,
        outer: &Message<'_>,
        kid: &Kid,
        channel: &mut Channel,
    ) -> Result<Outcome, Internal> {
        let mut plain = [0; MAX_MESSAGE];
        let opened = match channel.context.unprotect_request(outer, &mut plain) {
            Ok(Unprotected::Fresh(opened)) => opened,
            Ok(Unprotected::Unsynchronised(request)) => {
                let challenge = channel.challenge;
                match request.synchronise(&mut channel.context, &challenge) {
                    Ok(opened) => opened,
                    Err(request) => {
                        debug!("session {kid}: asking for Echo after a restart");
                        self.reserve(kid, channel)?;
                        let echo = [(option::ECHO, challenge.to_vec())];
                        return channel.seal(outer, request.request(), Code::UNAUTHORIZED, &echo, &[]);
                    }
                }
            }
            Err(error) => return Ok(refused(error)),
        };
        let OpenedRequest { request, body } = opened;
        self.dispatch(now, outer, kid, channel, &request, &body)
    }

    /// Stores a larger reservation, if one is due.
    pub(super) fn reserve(&mut self, kid: &Kid, channel: &mut Channel) -> Result<(), Internal> {
        if channel.reserve() {
            let change = Change::PutSession(*kid, channel.record.clone());
            self.store.commit(&[change], Durability::Immediate)?;
        }
        Ok(())
    }

    /// The first message under a challenge's keys: whoever made it holds the EK and the AK.
    fn first(&mut self, now: Now, outer: &Message<'_>, kid: &Kid) -> Result<Outcome, Internal> {
        let Some(pending) = self.hellos.get(kid, now.monotonic) else {
            return Ok(unknown());
        };
        let record = SessionRecord {
            device: pending.device,
            master_secret: Secret(pending.master_secret.to_vec()),
            transcript_hash: *pending.transcript.as_bytes(),
            sender_sequence_reserved: 0,
            nonces: Vec::new(),
            created: now.unix,
        };
        let context = Channel::derive(kid, &record.master_secret.0)?;
        let mut channel = Channel::new(kid, record, context);
        let mut plain = [0; MAX_MESSAGE];
        let (request, body) = match channel.context.unprotect_request(outer, &mut plain) {
            Ok(Unprotected::Fresh(OpenedRequest { request, body })) => (request, body),
            // A context that was just derived has its window.
            Ok(Unprotected::Unsynchronised(_)) => return Err(Internal::Other("window lost")),
            Err(error) => return Ok(refused(error)),
        };
        self.open(now, outer, kid, channel, &request, &body)
    }
}

/// No session has this kid. Unprotected, for lack of keys: a hint to say hello.
fn unknown() -> Outcome {
    let refusal = Refusal::new(Reason::SessionUnknown, "say hello again");
    Outcome::refused(Code::UNAUTHORIZED, refusal).option(option::MAX_AGE, &[])
}

fn refused(error: UnprotectRequestError) -> Outcome {
    let reason = match error {
        UnprotectRequestError::ReplayDetected => Reason::OscoreReplayed,
        _ => Reason::OscoreInvalid,
    };
    let refusal = Refusal::new(reason, error.diagnostic());
    Outcome::refused(error.code(), refusal).option(option::MAX_AGE, &[])
}

/// Reads a request's path: which of the three protected resources it is for.
pub(super) fn is_post_to(body: &Body<'_>, path: &str) -> bool {
    body.code() == Code::POST && body.path_is(&[path])
}
