//! OSCORE sessions of enrolled devices (RFC 8613), as they survive a restart of this process.
//!
//! Stored: keys, transcript, and a sender sequence number below which everything may have been used
//! ([`RESERVE`] ahead, so that most replies need no write). Not stored: the replay window. A context
//! loaded from the store therefore answers its first request with an Echo challenge
//! (RFC 8613, B.1.2), and believes only what comes back with it.

use std::borrow::Cow;
use std::collections::HashMap;

use aws_lc_rs::digest;
use log::{debug, info};
use mote_schemas::coap::{Body, Code, Message, option};
use mote_schemas::limits::MAX_MESSAGE;
use mote_schemas::oscore::{
    Context, OpenedRequest, ReceivedRequest, ReplayWindow, UnprotectRequestError, Unprotected,
};
use mote_schemas::reason::Reason;
use mote_schemas::transcript::Transcript;

use super::blockwise::{Blocks, Transfers};
use super::hello::{OPTIONS, Pending};
use super::outcome::{Outcome, Refusal};
use super::{Engine, Internal, Now, random, response};
use crate::store::{Change, DeviceId, Durability, Kid, SessionRecord};

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
    /// This process has taken a quote in this session.
    pub(super) quoted: bool,
    /// Sent while the replay window is lost.
    challenge: [u8; CHALLENGE],
    /// The last request that was taken, by its digest, and the reply to it.
    answered: Option<([u8; 32], Vec<u8>)>,
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
    /// A session with new keys: the verifier's Sender ID is empty, the agent's is its kid.
    pub(super) fn new(kid: &Kid, record: SessionRecord) -> Result<Self, Internal> {
        let context = Context::derive(&record.master_secret.0, &[], None, &[], kid.as_bytes())
            .map_err(|_| Internal::Other("an OSCORE context cannot be derived"))?;
        Ok(Channel {
            context,
            record,
            quoted: false,
            challenge: random()?,
            answered: None,
        })
    }

    /// A session from the store, whose past is unknown.
    fn restore(kid: &Kid, record: SessionRecord) -> Result<Self, Internal> {
        let mut channel = Self::new(kid, record)?;
        channel
            .context
            .set_sender_sequence(channel.record.sender_sequence_reserved)
            .map_err(|_| Internal::Other("a stored sequence number is used up"))?;
        channel.context.set_replay_window(ReplayWindow::lost());
        Ok(channel)
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
        let mut out = [0; MAX_MESSAGE];
        let len = self
            .context
            .protect_response(received, &plain, &mut out)
            .map_err(|_| Internal::Other("a reply cannot be protected"))?;
        Ok(Outcome::Protected(out[..len].to_vec()))
    }

    /// The same of what was said of a block.
    fn seal_outcome(
        &mut self,
        outer: &Message<'_>,
        received: &ReceivedRequest,
        outcome: Outcome,
    ) -> Result<Outcome, Internal> {
        match outcome {
            Outcome::Protected(_) => Ok(outcome),
            Outcome::Clear {
                code,
                options,
                payload,
                ..
            } => self.seal(outer, received, code, &options, &payload),
        }
    }

    /// The reply to the last request, if this is a copy of that. The same bytes again protect nothing
    /// new, and the device may have another address by now, so that nobody else knows it for a copy.
    /// It may also be anybody's address: no more bytes than came from there.
    fn again(&self, outer: &Message<'_>) -> Option<Outcome> {
        let (request, reply) = self.answered.as_ref()?;
        let same = digest_of(outer) == *request;
        (same && reply.len() <= outer.payload().len()).then(|| Outcome::Protected(reply.clone()))
    }

    fn remember(&mut self, outer: &Message<'_>, outcome: &Outcome) {
        if let Outcome::Protected(reply) = outcome {
            self.answered = Some((digest_of(outer), reply.clone()));
        }
    }

    fn refuse(
        &mut self,
        outer: &Message<'_>,
        received: &ReceivedRequest,
        refusal: &Refusal,
        room: Option<usize>,
    ) -> Result<Outcome, Internal> {
        info!(
            "device {}: refused: {}: {}",
            self.record.device,
            refusal.reason.token(),
            refusal.detail
        );
        let code = match refusal.reason {
            Reason::MessageMalformed => Code::BAD_REQUEST,
            _ => Code::FORBIDDEN,
        };
        let mut words = refusal.encode(true);
        if room.is_some_and(|room| words.len() > room) {
            words = refusal.encode(false);
        }
        self.seal(outer, received, code, &[], &words)
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
        if let Some(pending) = self.hellos.take(&kid, now.monotonic) {
            return self.first(now, outer, &kid, pending);
        }
        let Some(mut channel) = self.channel(&kid)? else {
            return Ok(unknown());
        };
        let outcome = self.request_in(now, outer, &kid, &mut channel);
        // Back into memory, with its window moved, whatever became of the request. A session that
        // ended meanwhile is not in the store any more.
        if self.store.has_session(&kid)? {
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
                        return channel.seal(
                            outer,
                            request.request(),
                            Code::UNAUTHORIZED,
                            &echo,
                            &[],
                        );
                    }
                }
            }
            Err(UnprotectRequestError::ReplayDetected) => {
                let refused = || refused(UnprotectRequestError::ReplayDetected);
                return Ok(channel.again(outer).unwrap_or_else(refused));
            }
            Err(error) => return Ok(refused(error)),
        };
        let OpenedRequest { request, body } = opened;
        let transfers = &mut self.protected_transfers;
        let outcome = match piece(transfers, now, kid, &body) {
            Err(answer) => {
                self.reserve(kid, channel)?;
                channel.seal_outcome(outer, &request, answer)
            }
            Ok((blocks, payload)) => {
                let answer = self.evidence(now, kid, channel, &body, &payload)?;
                self.reserve(kid, channel)?;
                match answer {
                    Ok(reply) => {
                        let transfers = &mut self.protected_transfers;
                        let reply = transfers.in_blocks(now.monotonic, *kid, &blocks, reply);
                        channel.seal_outcome(outer, &request, reply)
                    }
                    Err(refusal) => channel.refuse(outer, &request, &refusal, blocks.reply_size()),
                }
            }
        }?;
        channel.remember(outer, &outcome);
        Ok(outcome)
    }

    /// Stores a larger reservation, if one is due.
    pub(super) fn reserve(&mut self, kid: &Kid, channel: &mut Channel) -> Result<(), Internal> {
        if channel.reserve() {
            let change = Change::PutSession(*kid, channel.record.clone());
            self.store.commit(&[change], Durability::Immediate)?;
        }
        Ok(())
    }

    /// A message under a challenge's keys: whoever made it holds the EK and the AK. Unless it opens
    /// the session, the challenge goes on waiting.
    fn first(
        &mut self,
        now: Now,
        outer: &Message<'_>,
        kid: &Kid,
        mut pending: Pending,
    ) -> Result<Outcome, Internal> {
        let mut plain = [0; MAX_MESSAGE];
        let outcome = match pending.channel.context.unprotect_request(outer, &mut plain) {
            Ok(Unprotected::Fresh(OpenedRequest { request, body })) => {
                let (blocks, payload) = match piece(&mut self.protected_transfers, now, kid, &body)
                {
                    Ok(whole) => whole,
                    // So many that the reserved numbers are used up: say hello again.
                    Err(_) if pending.channel.reserve() => return Ok(unknown()),
                    Err(answer) => {
                        pending.prolong(now.monotonic);
                        let sealed = pending.channel.seal_outcome(outer, &request, answer);
                        self.hellos.insert(*kid, pending);
                        return sealed;
                    }
                };
                match self.open(now, kid, &mut pending, &body, &payload)? {
                    Ok(reply) => {
                        let mut channel = pending.channel;
                        let transfers = &mut self.protected_transfers;
                        let reply = transfers.in_blocks(now.monotonic, *kid, &blocks, reply);
                        let sealed = channel.seal_outcome(outer, &request, reply);
                        if let Ok(outcome) = &sealed {
                            channel.remember(outer, outcome);
                        }
                        self.channels.insert(*kid, channel);
                        return sealed;
                    }
                    // So many refusals that the reserved numbers are used up: say hello again.
                    Err(_) if pending.channel.reserve() => return Ok(unknown()),
                    Err(refusal) => {
                        let room = blocks.reply_size();
                        pending.channel.refuse(outer, &request, &refusal, room)
                    }
                }
            }
            // A context that was just derived has its window.
            Ok(Unprotected::Unsynchronised(_)) => Err(Internal::Other("replay window lost")),
            Err(error) => Ok(refused(error)),
        };
        self.hellos.insert(*kid, pending);
        outcome
    }
}

/// The blocks of a request and the whole payload, once it is there; until then, what to answer.
fn piece<'b>(
    transfers: &mut Transfers<Kid>,
    now: Now,
    kid: &Kid,
    body: &Body<'b>,
) -> Result<(Blocks<'b>, Cow<'b, [u8]>), Outcome> {
    let bad = |code| Outcome::clear(code);
    // RFC 7252, 5.4.1.
    if body.unrecognised_critical(OPTIONS).is_some() {
        return Err(bad(Code::BAD_OPTION));
    }
    let blocks = Blocks::of(body).ok_or_else(|| bad(Code::BAD_REQUEST))?;
    let payload = transfers.whole(now.monotonic, kid, &blocks, body.payload())?;
    Ok((blocks, payload))
}

/// Of everything in a protected request that its reply depends on.
fn digest_of(outer: &Message<'_>) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(&outer.message_id().to_be_bytes());
    context.update(&[outer.token().len() as u8]);
    context.update(outer.token());
    if let Some(oscore) = outer.body().option(option::OSCORE) {
        context.update(&[oscore.value.len() as u8]);
        context.update(oscore.value);
    }
    context.update(outer.payload());
    let mut digest = [0; 32];
    digest.copy_from_slice(context.finish().as_ref());
    digest
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
