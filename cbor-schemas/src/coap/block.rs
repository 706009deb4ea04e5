//! Messages in pieces (RFC 7959, Block1 and Block2), as much of it as hello needs: what is too large
//! for one datagram goes in numbered blocks, each its own exchange.
//!
//! | type | side | what |
//! |---|---|---|
//! | [`Block`] | both | the value of a Block option |
//! | [`BlockSender`] | client | which piece of a request is next |
//! | [`BlockReceiver`] | client | puts a response together |
//! | [`Assembler`] | server | puts requests together, in bounded memory |
//!
//! **Who may lie.** Everyone: nothing here is authenticated, so whoever uses the whole must check the
//! whole (the transcript that the verifier signs covers every byte of hello). What a liar can reach is
//! that a transfer starts over. Memory is given only to peers whose address has been verified, one
//! transfer each; the caller sees to the first, [`Assembler`] to the second.

use core::ops::Range;
use core::time::Duration;

use heapless::Vec;

use super::message::{Body, Code, OptionValue};
use crate::time::Instant;

/// Exponent of the largest block, 1,024 bytes. 7 is reserved on UDP (RFC 7959, 2.2).
const MAX_EXPONENT: u8 = 6;

/// Largest block number: 20 bits (RFC 7959, 2.2).
const MAX_NUMBER: u32 = (1 << 20) - 1;

/// Longest Request-Tag (RFC 9175, 3.2.1).
pub const MAX_REQUEST_TAG: usize = 8;

/// A block's size as a power of two: 16 bytes to 1,024 (RFC 7959, 2.2, SZX).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BlockSize(u8);

impl BlockSize {
    /// 16 bytes.
    pub const MIN: BlockSize = BlockSize(0);
    /// 1,024 bytes.
    pub const MAX: BlockSize = BlockSize(MAX_EXPONENT);

    /// The largest that is at most `room` bytes; 16 bytes if even that is too much.
    pub const fn fitting(room: usize) -> BlockSize {
        let mut exponent = MAX_EXPONENT;
        while exponent > 0 && BlockSize(exponent).bytes() > room {
            exponent -= 1;
        }
        BlockSize(exponent)
    }

    /// In bytes.
    pub const fn bytes(self) -> usize {
        16 << self.0
    }
}

/// The value of a Block1 or Block2 option (RFC 7959, 2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// Position, in units of `size`.
    pub number: u32,
    /// Whether more blocks follow.
    pub more: bool,
    /// Size of every block but the last, which may be shorter.
    pub size: BlockSize,
}

/// A Block option with the reserved size 7, or longer than 3 bytes: to be answered with 4.00
/// (RFC 7959, 2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReservedBlock;

impl Block {
    /// Reads an option's value.
    pub fn decode(option: &OptionValue<'_>) -> Result<Block, ReservedBlock> {
        let value = option.uint().filter(|_| option.value.len() <= 3);
        let value = value.ok_or(ReservedBlock)?;
        let exponent = (value & 7) as u8;
        if exponent > MAX_EXPONENT {
            return Err(ReservedBlock);
        }
        Ok(Block {
            number: value >> 4,
            more: value & 8 != 0,
            size: BlockSize(exponent),
        })
    }

    /// The option `number` of a message, if it has one.
    pub fn of(body: &Body<'_>, number: u16) -> Result<Option<Block>, ReservedBlock> {
        body.option(number)
            .map(|option| Block::decode(&option))
            .transpose()
    }

    /// The option's value, as an unsigned integer.
    pub const fn encode(self) -> u32 {
        self.number << 4 | (self.more as u32) << 3 | self.size.0 as u32
    }

    /// Where the block begins, in bytes.
    pub const fn offset(self) -> usize {
        self.number as usize * self.size.bytes()
    }

    /// Whether a payload of this length can be this block: all but the last are full
    /// (RFC 7959, 2.3).
    const fn admits(self, length: usize) -> bool {
        if self.more {
            length == self.size.bytes()
        } else {
            length <= self.size.bytes()
        }
    }

    /// The block of this size that begins at `offset` of `length` bytes. `None` when it is not on a
    /// block's boundary or its number too large.
    pub fn at(offset: usize, length: usize, size: BlockSize) -> Option<Block> {
        let number = u32::try_from(offset / size.bytes()).ok()?;
        (offset.is_multiple_of(size.bytes()) && number <= MAX_NUMBER).then_some(Block {
            number,
            more: length.saturating_sub(offset) > size.bytes(),
            size,
        })
    }
}

/// Which piece of a request's payload to send next, one exchange at a time (RFC 7959, 2.3 and 2.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockSender {
    length: usize,
    offset: usize,
    size: BlockSize,
}

/// What the server's answer to a block means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// Send the next block.
    Next,
    /// The server lost track (4.08) or wants smaller blocks (4.13): start over, with another
    /// Request-Tag, from [`BlockSender::block`].
    Restart,
    /// The answer to the whole request.
    Final,
}

impl BlockSender {
    /// A transfer of `length` bytes.
    pub const fn new(length: usize, size: BlockSize) -> Self {
        BlockSender {
            length,
            offset: 0,
            size,
        }
    }

    /// Whether one message does for all of it, without a Block1 option.
    pub const fn is_single(&self) -> bool {
        self.length <= self.size.bytes()
    }

    /// Value of the Block1 option.
    pub fn block(&self) -> Block {
        // `offset` only moves by whole blocks, and no message of ours has 2^20 of them.
        Block::at(self.offset, self.length, self.size).unwrap_or(Block {
            number: 0,
            more: true,
            size: self.size,
        })
    }

    /// The bytes that go with it.
    pub fn range(&self) -> Range<usize> {
        self.offset..self.length.min(self.offset + self.size.bytes())
    }

    /// Takes the answer to the block that was sent, with its Block1 option.
    pub fn answered(&mut self, code: Code, answer: Option<Block>) -> Sent {
        let asked = self.block();
        match (code, answer) {
            // For another block, or for more than we have: not an answer to this request.
            (Code::CONTINUE, Some(answer)) if asked.more && answer.offset() == asked.offset() => {
                self.offset += asked.size.bytes();
                // RFC 7959, 2.3: the server may ask for smaller blocks from here on, never larger.
                self.size = self.size.min(answer.size);
                Sent::Next
            }
            (Code::REQUEST_ENTITY_TOO_LARGE, Some(answer)) if answer.size < self.size => {
                *self = BlockSender::new(self.length, answer.size);
                Sent::Restart
            }
            (Code::REQUEST_ENTITY_INCOMPLETE, _) => {
                self.offset = 0;
                Sent::Restart
            }
            _ => Sent::Final,
        }
    }
}

/// Why a piece of a response was not taken. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReceiveError {
    /// Not the block that was asked for.
    OutOfOrder,
    /// Its length is not its size.
    WrongLength,
    /// The whole would exceed the buffer.
    TooLarge,
}

/// A response put together from its blocks (RFC 7959, 2.4). `N` bounds it, in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlockReceiver<const N: usize> {
    body: Vec<u8, N>,
}

impl<const N: usize> BlockReceiver<N> {
    /// Nothing received yet.
    pub const fn new() -> Self {
        BlockReceiver { body: Vec::new() }
    }

    /// Appends a block. Returns the Block2 value to ask for next, or `None` when all is there.
    pub fn push(&mut self, block: Block, payload: &[u8]) -> Result<Option<Block>, ReceiveError> {
        if block.offset() != self.body.len() {
            return Err(ReceiveError::OutOfOrder);
        }
        if !block.admits(payload.len()) {
            return Err(ReceiveError::WrongLength);
        }
        self.body
            .extend_from_slice(payload)
            .map_err(|_| ReceiveError::TooLarge)?;
        Ok(block.more.then(|| Block {
            number: block.number + 1,
            more: false,
            size: block.size,
        }))
    }

    /// What has been received.
    pub fn body(&self) -> &[u8] {
        &self.body
    }
}

/// Why a piece of a request was not taken. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AssembleError {
    /// The pieces before it are not here: never came, belong to another Request-Tag, were pushed
    /// out, or are too old. The client starts over.
    Incomplete,
    /// The whole would exceed what any message of ours needs.
    TooLarge,
    /// Its length is not its size.
    WrongLength,
}

impl AssembleError {
    /// The code to answer with (RFC 7959, 2.9).
    pub const fn code(self) -> Code {
        match self {
            AssembleError::Incomplete => Code::REQUEST_ENTITY_INCOMPLETE,
            AssembleError::TooLarge => Code::REQUEST_ENTITY_TOO_LARGE,
            AssembleError::WrongLength => Code::BAD_REQUEST,
        }
    }
}

struct Transfer<P, const N: usize> {
    peer: P,
    tag: Vec<u8, MAX_REQUEST_TAG>,
    body: Vec<u8, N>,
    expires: Instant,
}

/// Requests in the making, for one resource: at most one of each peer `P`, `S` in all, `N` bytes each.
/// A further one pushes out the one that has waited longest.
///
/// With a large `N * S`, keep it behind a `Box`.
pub struct Assembler<P, const N: usize, const S: usize> {
    /// The one that was fed last is last.
    transfers: Vec<Transfer<P, N>, S>,
    lifetime: Duration,
}

impl<P: Clone + Eq, const N: usize, const S: usize> Assembler<P, N, S> {
    /// Transfers are forgotten `lifetime` after their last block; RFC 7959, 2.5 suggests
    /// `EXCHANGE_LIFETIME`.
    pub const fn new(lifetime: Duration) -> Self {
        Assembler {
            transfers: Vec::new(),
            lifetime,
        }
    }

    /// Transfers that memory is held for.
    pub fn len(&self) -> usize {
        self.transfers.len()
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.transfers.is_empty()
    }

    /// Takes a block of a request with this Request-Tag (empty if it has none). Returns the whole
    /// payload once it is there, and then forgets it; `None` means 2.31 Continue.
    ///
    /// A block that is here already, byte for byte, is a copy and changes nothing.
    pub fn receive(
        &mut self,
        now: Instant,
        peer: &P,
        tag: &[u8],
        block: Block,
        payload: &[u8],
    ) -> Result<Option<Vec<u8, N>>, AssembleError> {
        if !block.admits(payload.len()) {
            return Err(AssembleError::WrongLength);
        }
        let end = block.offset().saturating_add(payload.len());
        if end > N || (block.more && end == N) {
            return Err(AssembleError::TooLarge);
        }
        self.transfers.retain(|transfer| now < transfer.expires);
        let own = self.transfers.iter().position(|t| t.peer == *peer);
        let same = own.filter(|&at| self.transfers[at].tag == tag);
        let (at, is_new) = match same.map(|at| (at, self.transfers[at].body.as_slice())) {
            Some((at, body)) if body.get(block.offset()..end) == Some(payload) && block.more => {
                (at, false)
            }
            Some((at, body)) if body.len() == block.offset() => (at, true),
            _ if block.number == 0 => (self.start(own, peer, tag)?, true),
            _ => return Err(AssembleError::Incomplete),
        };
        let mut transfer = self.transfers.remove(at);
        if is_new {
            // Fits: `end` is at most N.
            let _ = transfer.body.extend_from_slice(payload);
        }
        if !block.more {
            return Ok(Some(transfer.body));
        }
        transfer.expires = now + self.lifetime;
        // There is room: it was just taken out.
        let _ = self.transfers.push(transfer);
        Ok(None)
    }

    /// An empty transfer in place of `own`, or of the oldest if there is no room. Its index.
    fn start(&mut self, own: Option<usize>, peer: &P, tag: &[u8]) -> Result<usize, AssembleError> {
        let tag = Vec::from_slice(tag).map_err(|_| AssembleError::Incomplete)?;
        if let Some(at) = own.or(self.transfers.is_full().then_some(0)) {
            self.transfers.remove(at);
        }
        let transfer = Transfer {
            peer: peer.clone(),
            tag,
            body: Vec::new(),
            expires: Instant(0),
        };
        // There is room, unless S is 0: then nothing is ever taken.
        self.transfers
            .push(transfer)
            .map_err(|_| AssembleError::TooLarge)?;
        Ok(self.transfers.len() - 1)
    }
}
