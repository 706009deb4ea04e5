//! CoAP over a reliable stream (RFC 8323): framing, and the signals that keep a connection in order.
//!
//! A message means the same here and in a datagram; only the header differs, which has a length and
//! neither type nor message ID. So messages are transcribed ([`from_datagram`],
//! [`Frame::to_datagram`]), and everything above, OSCORE included, is one and the same: it protects
//! nothing of the header (RFC 8613, 4.1).
//!
//! **Who may lie.** The peer, about everything: a length that never comes, a flood of pings. The
//! buffer is the caller's size, and a frame that exceeds it ends the connection before it is read.

use coap_numbers::code;
use heapless::Vec;

use super::message::{Body, Code, HEADER, MAX_TOKEN, Message, OptionValue, Type};
use super::writer::{Writer, empty};

/// What the peer takes until its CSM says otherwise (RFC 8323, 5.3.1).
pub const BASE_MESSAGE: u32 = 1152;

/// Longest header: length byte, 4 bytes of extended length, code, token.
const MAX_HEADER: usize = 1 + 4 + 1 + MAX_TOKEN;

/// Options of signals. Numbers have their own meaning in each (RFC 8323, 5.2).
const CSM_MAX_MESSAGE_SIZE: u16 = 2;
const CSM_BLOCK_WISE_TRANSFER: u16 = 4;
const PING_CUSTODY: u16 = 2;
const ABORT_BAD_CSM_OPTION: u16 = 2;

/// Signaling codes (RFC 8323, 11.1).
const CSM: Code = Code(code::CSM);
const PING: Code = Code(code::PING);
const PONG: Code = Code(code::PONG);
const RELEASE: Code = Code(code::RELEASE);
const ABORT: Code = Code(code::ABORT);

/// A signal of ours, ready to be sent: header, token, and one option with an integer.
pub type Signal = Vec<u8, { 2 + MAX_TOKEN + 6 }>;

/// Why a stream cannot be understood any further. The connection is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// Longer than the buffer.
    TooLarge,
    /// Token length 9 to 15 (RFC 8323, 3.2).
    TokenLengthReserved,
}

/// One message as it came: header and token taken apart, the rest unchecked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Method, response code or signal.
    pub code: Code,
    /// 0 to 8 bytes.
    pub token: &'a [u8],
    /// Options and payload.
    pub tail: &'a [u8],
}

impl<'a> Frame<'a> {
    /// The first frame in `stream` and its length in bytes; `None` when it has not all come yet.
    /// `max` is the longest frame to take.
    pub fn parse(stream: &'a [u8], max: usize) -> Result<Option<(Frame<'a>, usize)>, FrameError> {
        let Some((&first, rest)) = stream.split_first() else {
            return Ok(None);
        };
        let token_length = usize::from(first & 0x0f);
        if token_length > MAX_TOKEN {
            return Err(FrameError::TokenLengthReserved);
        }
        // RFC 8323, 3.2: the length of options and payload, in 4 bits or 1, 2 or 4 further bytes.
        let (extension, base) = match first >> 4 {
            13 => (1, 13),
            14 => (2, 269),
            15 => (4, 65_805),
            length => (0, u64::from(length)),
        };
        let Some((length, rest)) = rest.split_at_checked(extension) else {
            return Ok(None);
        };
        let length = length
            .iter()
            .fold(0, |sum, &byte| sum << 8 | u64::from(byte))
            + base;
        let header = 1 + extension + 1 + token_length;
        let total = usize::try_from(length)
            .ok()
            .and_then(|length| length.checked_add(header))
            .filter(|&total| total <= max)
            .ok_or(FrameError::TooLarge)?;
        if stream.len() < total {
            return Ok(None);
        }
        let (code, rest) = rest.split_at(1);
        let (token, rest) = rest.split_at(token_length);
        let frame = Frame {
            code: Code(code[0]),
            token,
            tail: &rest[..total - header],
        };
        Ok(Some((frame, total)))
    }

    /// The same message as a datagram. Type and message ID are the caller's. `None` if `out` is too
    /// small.
    pub fn to_datagram(&self, kind: Type, message_id: u16, out: &mut [u8]) -> Option<usize> {
        let mut header = empty(kind, message_id);
        header[0] |= self.token.len() as u8;
        header[1] = self.code.0;
        concatenate(&[&header, self.token, self.tail], out)
    }
}

/// A well-formed datagram as a frame: its length in `out`, which is no longer than the datagram up to 64 kB.
/// `None` if `out` is too small.
pub fn from_datagram(message: &Message<'_>, datagram: &[u8], out: &mut [u8]) -> Option<usize> {
    let tail = datagram.get(HEADER + message.token().len()..)?;
    write(message.code(), message.token(), tail, out)
}

fn write(code: Code, token: &[u8], tail: &[u8], out: &mut [u8]) -> Option<usize> {
    let mut header = Vec::<u8, MAX_HEADER>::new();
    let length = tail.len();
    let (nibble, extension, width) = match length {
        0..13 => (length, 0, 0),
        13..269 => (13, length - 13, 1),
        269..65_805 => (14, length - 269, 2),
        _ => (15, length - 65_805, 4),
    };
    let extension = u32::try_from(extension).ok()?.to_be_bytes();
    let parts = [
        &[(nibble << 4 | token.len()) as u8][..],
        &extension[4 - width..],
        &[code.0],
        token,
    ];
    for part in parts {
        header.extend_from_slice(part).ok()?;
    }
    concatenate(&[&header, tail], out)
}

fn concatenate(parts: &[&[u8]], out: &mut [u8]) -> Option<usize> {
    let mut length = 0;
    for part in parts {
        out.get_mut(length..)?
            .get_mut(..part.len())?
            .copy_from_slice(part);
        length += part.len();
    }
    Some(length)
}

/// A signal with at most one option.
fn signal(code: Code, token: &[u8], option: Option<(u16, u32)>) -> Signal {
    let mut tail = [0; 8];
    let body = Writer::body(&mut tail, code).and_then(|writer| match option {
        Some((number, value)) => writer.option_uint(number, value),
        None => Ok(writer),
    });
    // An option of at most 6 bytes after the code.
    let length = body.map_or(1, Writer::finish);
    let mut signal = Signal::new();
    let _ = signal.resize_default(signal.capacity());
    let length = write(code, token, &tail[1..length], &mut signal).unwrap_or(0);
    signal.truncate(length);
    signal
}

/// What came, as said by [`Connection::poll`].
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'c> {
    /// A request or a response, well formed.
    Message(Frame<'c>),
    /// Send this, then poll again.
    Send(Signal),
    /// Send this (it may be empty), then close the connection: nothing further is understood.
    Close(Signal, Closed),
    /// Nothing more until more bytes come.
    Idle,
}

/// Why a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// The peer wants to close (RFC 8323, 5.5).
    Released,
    /// The peer met an error (RFC 8323, 5.6).
    Aborted,
    /// The peer's first message was not its CSM (RFC 8323, 5.3).
    NoCsm,
    /// A critical option in a signal that we do not understand (RFC 8323, 5.2).
    BadSignalOption(u16),
    /// What came is not a message.
    Malformed,
    /// A message longer than we said that we take.
    TooLarge,
}

/// The receiving half of one connection, with a buffer of `N` bytes: the longest message it takes.
#[derive(Debug)]
pub struct Connection<const N: usize> {
    input: Vec<u8, N>,
    /// Bytes at the front of `input` that have been handed out.
    taken: usize,
    greeted: bool,
    closed: bool,
    peer_max: u32,
    peer_takes_blocks: bool,
}

impl<const N: usize> Default for Connection<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> Connection<N> {
    /// A connection that nothing has come on. Send [`Connection::greeting`] first.
    pub const fn new() -> Self {
        Connection {
            input: Vec::new(),
            taken: 0,
            greeted: false,
            closed: false,
            peer_max: BASE_MESSAGE,
            peer_takes_blocks: false,
        }
    }

    /// Our CSM, the first message on every connection (RFC 8323, 5.3). It does not offer block-wise
    /// transfer: together with a message size above 1,152 bytes that would promise BERT
    /// (RFC 8323, 6), and whatever is ours fits one message here.
    pub fn greeting() -> Signal {
        signal(CSM, &[], Some((CSM_MAX_MESSAGE_SIZE, N as u32)))
    }

    /// Says that we close in an orderly way (RFC 8323, 5.5).
    pub fn farewell() -> Signal {
        signal(RELEASE, &[], None)
    }

    /// Longest message that the peer takes.
    pub const fn peer_max(&self) -> u32 {
        self.peer_max
    }

    /// Whether the peer takes messages in blocks, too (RFC 8323, 5.3.2).
    pub const fn peer_takes_blocks(&self) -> bool {
        self.peer_takes_blocks
    }

    /// Whether the peer's CSM has come.
    pub const fn is_greeted(&self) -> bool {
        self.greeted
    }

    /// Bytes that [`Connection::feed`] would take. After [`Event::Idle`] there is always room.
    pub fn room(&self) -> usize {
        N - (self.input.len() - self.taken)
    }

    /// Takes bytes from the stream; returns how many. Poll until [`Event::Idle`], then feed the rest.
    pub fn feed(&mut self, bytes: &[u8]) -> usize {
        self.compact();
        let count = bytes.len().min(N - self.input.len());
        // There is room for `count` bytes.
        let _ = self.input.extend_from_slice(&bytes[..count]);
        count
    }

    /// What to do next.
    pub fn poll(&mut self) -> Event<'_> {
        loop {
            if self.closed {
                return Event::Idle;
            }
            self.compact();
            let (code, length) = match Frame::parse(&self.input, N) {
                Ok(Some((frame, length))) => (frame.code, length),
                Ok(None) => return Event::Idle,
                Err(FrameError::TooLarge) => return self.abort(Closed::TooLarge),
                Err(FrameError::TokenLengthReserved) => return self.abort(Closed::Malformed),
            };
            self.taken = length;
            if code == Code::EMPTY {
                // RFC 8323, 3.4: may come at any time, means nothing.
                continue;
            }
            if !self.greeted && code != CSM {
                return match code {
                    ABORT => self.close(Signal::new(), Closed::Aborted),
                    _ => self.abort(Closed::NoCsm),
                };
            }
            if code.class() == 7 {
                match self.signal() {
                    Some(Ok(reply)) => return Event::Send(reply),
                    Some(Err(why)) => return self.abort(why),
                    None if code == RELEASE => {
                        return self.close(Signal::new(), Closed::Released);
                    }
                    None if code == ABORT => return self.close(Signal::new(), Closed::Aborted),
                    None => continue,
                }
            }
            let good = (code.is_request() || code.is_response())
                && self
                    .current()
                    .is_some_and(|frame| Body::parse(frame.code, frame.tail).is_ok());
            if !good {
                return self.abort(Closed::Malformed);
            }
            // `good` has parsed it; `None` cannot be.
            return self.current().map_or(Event::Idle, Event::Message);
        }
    }

    /// Acts on the signal at the front; what to send back, if anything.
    fn signal(&mut self) -> Option<Result<Signal, Closed>> {
        let frame = self.current()?;
        let Ok(body) = Body::parse(frame.code, frame.tail) else {
            return Some(Err(Closed::Malformed));
        };
        // Only options with even numbers are defined for CSM, Ping, Pong, Release and Abort.
        if frame.code != ABORT
            && let Some(option) = body.options().find(OptionValue::is_critical)
        {
            return Some(Err(Closed::BadSignalOption(option.number)));
        }
        match frame.code {
            CSM => {
                let size = body.option(CSM_MAX_MESSAGE_SIZE).and_then(|o| o.uint());
                let blocks = body.option(CSM_BLOCK_WISE_TRANSFER).is_some();
                self.greeted = true;
                // What one CSM does not say stays as the one before it said.
                self.peer_max = size.unwrap_or(self.peer_max);
                self.peer_takes_blocks |= blocks;
                None
            }
            PING => {
                // RFC 8323, 5.4.1: whatever came before has been processed.
                let custody = body.option(PING_CUSTODY).map(|_| (PING_CUSTODY, 0));
                Some(Ok(signal(PONG, frame.token, custody)))
            }
            // An unknown signal is ignored, as an elective option would be.
            _ => None,
        }
    }

    fn current(&self) -> Option<Frame<'_>> {
        Frame::parse(&self.input, N).ok()?.map(|(frame, _)| frame)
    }

    fn abort(&mut self, why: Closed) -> Event<'_> {
        let option = match why {
            Closed::BadSignalOption(number) => Some((ABORT_BAD_CSM_OPTION, u32::from(number))),
            _ => None,
        };
        self.close(signal(ABORT, &[], option), why)
    }

    fn close(&mut self, last: Signal, why: Closed) -> Event<'_> {
        self.closed = true;
        Event::Close(last, why)
    }

    fn compact(&mut self) {
        if self.taken > 0 {
            let length = self.input.len();
            self.input.copy_within(self.taken.., 0);
            self.input.truncate(length - self.taken);
            self.taken = 0;
        }
    }
}
