//! Requests in pieces, and replies in pieces (RFC 7959), for devices whose datagrams are smaller than
//! what there is to say: hello in the clear, everything else inside OSCORE (RFC 8613, 4.1.3.4.1).
//!
//! In the clear, memory is held only for addresses that have returned an Echo, under OSCORE for whoever
//! holds a session's keys: one request and one reply of each, a fixed number of either kind in all.
//! Whoever is pushed out is told to start over (4.08).

use std::borrow::Cow;
use std::collections::VecDeque;
use std::time::Duration;

use mote_schemas::coap::{Assembler, Block, Body, Code, option};
use mote_schemas::limits::MAX_MESSAGE;
use mote_schemas::time::Instant;

use super::echo::ECHO;
use super::outcome::Outcome;
use super::{Engine, Internal, Now, Peer, on_the_heap};

/// Requests that may be in the making at once: 160 kB. A device takes seconds to send one.
const REQUESTS: usize = 64;

/// Replies kept for their further blocks: less than 1 kB each.
const REPLIES: usize = 256;

/// How long a piece waits for the next. RFC 7959, 2.5 wants at least EXCHANGE_LIFETIME, 247 s
/// (RFC 7252, 4.8.2); on a slow link minutes pass each way, with retransmissions in between.
const LIFETIME: Duration = Duration::from_secs(1200);

struct Reply<O> {
    owner: O,
    tag: Vec<u8>,
    payload: Vec<u8>,
    expires: Instant,
}

/// Transfers under way, at most one each way for each owner `O`.
pub(super) struct Transfers<O> {
    requests: Box<Assembler<O, MAX_MESSAGE, REQUESTS>>,
    /// The oldest first.
    replies: VecDeque<Reply<O>>,
}

impl<O: Clone + Eq + Send> Transfers<O> {
    pub(super) fn new() -> Result<Self, Internal> {
        Ok(Transfers {
            requests: on_the_heap(|| Assembler::new(LIFETIME))?,
            replies: VecDeque::new(),
        })
    }

    fn keep(&mut self, reply: Reply<O>) {
        self.replies.retain(|other| other.owner != reply.owner);
        if self.replies.len() >= REPLIES {
            self.replies.pop_front();
        }
        self.replies.push_back(reply);
    }

    fn kept(&self, now: Instant, owner: &O, tag: &[u8]) -> Option<&[u8]> {
        self.replies
            .iter()
            .find(|reply| reply.owner == *owner && reply.tag == tag && now < reply.expires)
            .map(|reply| reply.payload.as_slice())
    }

    /// The whole payload of a request, once it is there; until then, what to answer.
    pub(super) fn whole<'b>(
        &mut self,
        now: Instant,
        owner: &O,
        blocks: &Blocks<'_>,
        payload: &'b [u8],
    ) -> Result<Cow<'b, [u8]>, Outcome> {
        if let Some(asked) = blocks.reply.filter(|block| block.number > 0) {
            let kept = self.kept(now, owner, blocks.tag);
            return Err(kept
                .and_then(|reply| piece(reply, asked))
                .unwrap_or_else(|| Outcome::clear(Code::REQUEST_ENTITY_INCOMPLETE)));
        }
        let Some(block) = blocks.request else {
            return Ok(Cow::Borrowed(payload));
        };
        let requests = &mut self.requests;
        match requests.receive(now, owner, blocks.tag, block, payload) {
            Ok(Some(whole)) => Ok(Cow::Owned(whole.to_vec())),
            Ok(None) => Err(Outcome::clear(Code::CONTINUE).block(option::BLOCK1, block)),
            Err(error) => Err(Outcome::clear(error.code())),
        }
    }

    /// The reply, or its first block if the peer wants blocks; the rest is kept for it.
    pub(super) fn in_blocks(
        &mut self,
        now: Instant,
        owner: O,
        blocks: &Blocks<'_>,
        reply: Vec<u8>,
    ) -> Outcome {
        let first = blocks
            .reply
            .filter(|asked| reply.len() > asked.size.bytes())
            .and_then(|asked| piece(&reply, asked));
        let outcome = match first {
            Some(first) => {
                self.keep(Reply {
                    owner,
                    tag: blocks.tag.to_vec(),
                    payload: reply,
                    expires: now + LIFETIME,
                });
                first
            }
            None => Outcome::clear(Code::CHANGED).payload(reply),
        };
        match blocks.request {
            Some(block) => outcome.block(option::BLOCK1, block),
            None => outcome,
        }
    }
}

/// The Block options of a request, and what they belong to.
pub(super) struct Blocks<'b> {
    request: Option<Block>,
    reply: Option<Block>,
    tag: &'b [u8],
}

impl<'b> Blocks<'b> {
    /// `None` if one of them is reserved (RFC 7959, 2.2).
    pub(super) fn of(body: &Body<'b>) -> Option<Self> {
        Some(Blocks {
            request: Block::of(body, option::BLOCK1).ok()?,
            reply: Block::of(body, option::BLOCK2).ok()?,
            tag: body
                .option(option::REQUEST_TAG)
                .map_or(&[][..], |tag| tag.value),
        })
    }

    /// Most bytes of a reply that the peer takes at once, if it has said so.
    pub(super) fn reply_size(&self) -> Option<usize> {
        self.reply.map(|block| block.size.bytes())
    }

    /// Whether memory is needed to answer.
    pub(super) fn are_used(&self) -> bool {
        self.request.is_some() || self.reply.is_some_and(|block| block.number > 0)
    }
}

/// A request in the clear, all of it.
pub(super) struct Whole<'b> {
    pub(super) blocks: Blocks<'b>,
    /// What the peer has yet to return to show that it receives what is sent to it; `None` if it has.
    pub(super) challenge: Option<[u8; ECHO]>,
    pub(super) payload: Cow<'b, [u8]>,
}

impl Engine {
    /// All of a request in the clear, once it is there; until then, what to answer. Before any memory or
    /// public-key work, and before anything longer than the request: does the peer receive at this address?
    pub(super) fn whole<'b>(
        &mut self,
        now: Now,
        peer: &Peer,
        body: &Body<'b>,
    ) -> Result<Whole<'b>, Outcome> {
        let blocks = Blocks::of(body).ok_or_else(|| Outcome::clear(Code::BAD_REQUEST))?;
        let challenge = self.echo_for(now, peer, body);
        if let Some(challenge) = &challenge
            && blocks.are_used()
        {
            return Err(Outcome::clear(Code::UNAUTHORIZED).option(option::ECHO, challenge));
        }
        let transfers = &mut self.transfers;
        let payload = transfers.whole(now.monotonic, peer, &blocks, body.payload())?;
        Ok(Whole {
            blocks,
            challenge,
            payload,
        })
    }

    fn echo_for(&self, now: Now, peer: &Peer, body: &Body<'_>) -> Option<[u8; ECHO]> {
        let Peer::Udp(address) = peer else {
            return None;
        };
        let echo = body.option(option::ECHO).map(|echo| echo.value);
        let accepted = echo.is_some_and(|echo| self.echo.accepts(address, now.monotonic, echo));
        (!accepted).then(|| self.echo.challenge(address, now.monotonic))
    }
}

/// The block of `reply` that is asked for; `None` if it ends before that.
fn piece(reply: &[u8], asked: Block) -> Option<Outcome> {
    let block = Block::at(asked.offset(), reply.len(), asked.size)?;
    let rest = reply
        .get(block.offset()..)
        .filter(|rest| !rest.is_empty())?;
    let payload = &rest[..rest.len().min(block.size.bytes())];
    Some(
        Outcome::clear(Code::CHANGED)
            .block(option::BLOCK2, block)
            .payload(payload.to_vec())
            .for_verified_address(),
    )
}
