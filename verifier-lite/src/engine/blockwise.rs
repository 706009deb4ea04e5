//! hello in pieces, and the challenge in pieces (RFC 7959), for devices whose datagrams are smaller
//! than what they have to say.
//!
//! Memory is held only for addresses that have returned an Echo, one request and one reply of each,
//! a fixed number in all. Whoever is pushed out is told to start over (4.08).

use std::borrow::Cow;
use std::collections::VecDeque;
use std::time::Duration;

use mote_schemas::coap::{Assembler, Block, Body, Code, option};
use mote_schemas::limits::MAX_MESSAGE;
use mote_schemas::time::Instant;

use super::outcome::Outcome;
use super::{Engine, Now, Peer};

/// Requests that may be in the making at once: 160 kB. A device takes seconds to send one.
const REQUESTS: usize = 64;

/// Replies kept for their further blocks: less than 1 kB each.
const REPLIES: usize = 256;

/// How long a piece waits for the next: EXCHANGE_LIFETIME (RFC 7959, 2.5; RFC 7252, 4.8.2).
const LIFETIME: Duration = Duration::from_secs(247);

struct Reply {
    peer: Peer,
    tag: Vec<u8>,
    payload: Vec<u8>,
    expires: Instant,
}

/// Transfers under way.
pub(super) struct Transfers {
    requests: Box<Assembler<Peer, MAX_MESSAGE, REQUESTS>>,
    /// The oldest first.
    replies: VecDeque<Reply>,
}

impl Transfers {
    pub(super) fn new() -> Self {
        Transfers {
            requests: Box::new(Assembler::new(LIFETIME)),
            replies: VecDeque::new(),
        }
    }

    fn keep(&mut self, reply: Reply) {
        self.replies.retain(|other| other.peer != reply.peer);
        if self.replies.len() >= REPLIES {
            self.replies.pop_front();
        }
        self.replies.push_back(reply);
    }

    fn kept(&self, now: Instant, peer: &Peer, tag: &[u8]) -> Option<&[u8]> {
        self.replies
            .iter()
            .find(|reply| reply.peer == *peer && reply.tag == tag && now < reply.expires)
            .map(|reply| reply.payload.as_slice())
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

    /// Whether memory is needed to answer.
    pub(super) fn are_used(&self) -> bool {
        self.request.is_some() || self.reply.is_some_and(|block| block.number > 0)
    }
}

impl Engine {
    /// The whole payload of a request from a verified address, once it is there; until then, what to
    /// answer.
    pub(super) fn assemble<'b>(
        &mut self,
        now: Now,
        peer: &Peer,
        blocks: &Blocks<'_>,
        payload: &'b [u8],
    ) -> Result<Cow<'b, [u8]>, Outcome> {
        if let Some(asked) = blocks.reply.filter(|block| block.number > 0) {
            let kept = self.transfers.kept(now.monotonic, peer, blocks.tag);
            return Err(kept
                .and_then(|reply| piece(reply, asked))
                .unwrap_or_else(|| Outcome::clear(Code::REQUEST_ENTITY_INCOMPLETE)));
        }
        let Some(block) = blocks.request else {
            return Ok(Cow::Borrowed(payload));
        };
        let requests = &mut self.transfers.requests;
        match requests.receive(now.monotonic, peer, blocks.tag, block, payload) {
            Ok(Some(whole)) => Ok(Cow::Owned(whole.to_vec())),
            Ok(None) => Err(Outcome::clear(Code::CONTINUE).block(option::BLOCK1, block)),
            Err(error) => Err(Outcome::clear(error.code())),
        }
    }

    /// The reply, or its first block if the peer wants blocks; the rest is kept for it.
    pub(super) fn in_blocks(
        &mut self,
        now: Now,
        peer: Peer,
        blocks: &Blocks<'_>,
        reply: Vec<u8>,
    ) -> Outcome {
        let first = blocks
            .reply
            .filter(|asked| reply.len() > asked.size.bytes())
            .and_then(|asked| piece(&reply, asked));
        let outcome = match first {
            Some(first) => {
                self.transfers.keep(Reply {
                    peer,
                    tag: blocks.tag.to_vec(),
                    payload: reply,
                    expires: now.monotonic + LIFETIME,
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
