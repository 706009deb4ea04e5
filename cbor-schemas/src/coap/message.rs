//! CoAP messages as received (RFC 7252, 3): a checked view of a datagram.
//!
//! A [`Message`] exists only if its bytes are well formed from end to end, so that no later stage
//! meets a truncated option. Who sent it, and whether it is what they meant, is not known here.
//!
//! Option headers are decoded and walked by `coap-message-implementations`. Its own message type
//! is not used: it accepts a payload marker without payload, and stops silently at a malformed
//! option.

use core::fmt;

use coap_message_implementations::option_extension::{ExtensionError, take_extension};
use coap_message_implementations::option_iteration::{OptItem, OptPayloadReader};
use coap_numbers::code;

use super::options::OptionSpec;

pub(super) const VERSION: u8 = 1;
pub(super) const HEADER: usize = 4;
pub(super) const MAX_TOKEN: usize = 8;
pub(super) const PAYLOAD_MARKER: u8 = 0xff;

/// Message type (RFC 7252, 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// CON: wants an acknowledgement.
    Confirmable,
    /// NON: does not.
    NonConfirmable,
    /// ACK, empty or with a piggybacked response.
    Acknowledgement,
    /// RST: the peer has no context for our message.
    Reset,
}

/// Method or response code, `class << 5 | detail` (RFC 7252, 3 and 12.1).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Code(pub u8);

impl Code {
    /// 0.00, the code of an empty message.
    pub const EMPTY: Code = Code(0);
    /// 0.01
    pub const GET: Code = Code(code::GET);
    /// 0.02, also the outer code of every OSCORE request.
    pub const POST: Code = Code(code::POST);
    /// 2.04, also the outer code of every OSCORE response.
    pub const CHANGED: Code = Code(code::CHANGED);
    /// 2.05
    pub const CONTENT: Code = Code(code::CONTENT);
    /// 2.31: send the next block.
    pub const CONTINUE: Code = Code(code::CONTINUE);
    /// 4.00
    pub const BAD_REQUEST: Code = Code(code::BAD_REQUEST);
    /// 4.01
    pub const UNAUTHORIZED: Code = Code(code::UNAUTHORIZED);
    /// 4.02
    pub const BAD_OPTION: Code = Code(code::BAD_OPTION);
    /// 4.03
    pub const FORBIDDEN: Code = Code(code::FORBIDDEN);
    /// 4.04
    pub const NOT_FOUND: Code = Code(code::NOT_FOUND);
    /// 4.05
    pub const METHOD_NOT_ALLOWED: Code = Code(code::METHOD_NOT_ALLOWED);
    /// 4.06
    pub const NOT_ACCEPTABLE: Code = Code(code::NOT_ACCEPTABLE);
    /// 4.08: blocks before this one are missing.
    pub const REQUEST_ENTITY_INCOMPLETE: Code = Code(code::REQUEST_ENTITY_INCOMPLETE);
    /// 4.13
    pub const REQUEST_ENTITY_TOO_LARGE: Code = Code(code::REQUEST_ENTITY_TOO_LARGE);
    /// 4.15
    pub const UNSUPPORTED_CONTENT_FORMAT: Code = Code(code::UNSUPPORTED_CONTENT_FORMAT);
    /// 5.00
    pub const INTERNAL_SERVER_ERROR: Code = Code(code::INTERNAL_SERVER_ERROR);
    /// 5.05
    pub const PROXYING_NOT_SUPPORTED: Code = Code(code::PROXYING_NOT_SUPPORTED);
    /// 5.03, with Max-Age saying when to come back.
    pub const SERVICE_UNAVAILABLE: Code = Code(code::SERVICE_UNAVAILABLE);

    /// The digit before the dot.
    pub const fn class(self) -> u8 {
        self.0 >> 5
    }

    /// The two digits after the dot.
    pub const fn detail(self) -> u8 {
        self.0 & 0x1f
    }

    /// Whether this is a method (0.01 to 0.31).
    pub const fn is_request(self) -> bool {
        self.class() == 0 && self.detail() != 0
    }

    /// Whether this is a response (2.xx, 4.xx, 5.xx).
    pub const fn is_response(self) -> bool {
        matches!(self.class(), 2 | 4 | 5)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:02}", self.class(), self.detail())
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why bytes are not a CoAP message. What to answer is said by [`reject`](super::reject).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParseError {
    /// Shorter than the header and token it announces.
    Truncated,
    /// Version other than 1: to be ignored in silence (RFC 7252, 3).
    UnknownVersion,
    /// Token length 9 to 15 (RFC 7252, 3).
    TokenLengthReserved,
    /// Code class 1, 6 or 7 (RFC 7252, 4.2).
    ReservedCodeClass,
    /// Code 0.00 with anything after the message ID (RFC 7252, 4.1).
    EmptyWithContent,
    /// A combination that table 1 of RFC 7252, 4.3 rules out: a request in an ACK, an empty NON,
    /// a RST that is not empty.
    TypeCodeMismatch,
    /// Option delta or length nibble 15 that is not the payload marker (RFC 7252, 3.1).
    OptionReserved,
    /// An option runs past the end of the message.
    OptionTruncated,
    /// Option number or length above 65,535.
    OptionOverflow,
    /// Payload marker with nothing behind it (RFC 7252, 3).
    EmptyPayload,
}

/// Code, options and payload: what OSCORE calls the plaintext, and all that an application needs.
/// Well formed by construction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Body<'a> {
    code: Code,
    options: &'a [u8],
    payload: &'a [u8],
}

impl<'a> Body<'a> {
    /// Checks the options and payload marker in `tail`, which is all that follows the token.
    pub fn parse(code: Code, tail: &'a [u8]) -> Result<Body<'a>, ParseError> {
        let mut rest = tail;
        let mut number = 0_u16;
        loop {
            let end = tail.len() - rest.len();
            let Some((&header, after)) = rest.split_first() else {
                return Ok(Body {
                    code,
                    options: tail,
                    payload: &[],
                });
            };
            if header == PAYLOAD_MARKER {
                if after.is_empty() {
                    return Err(ParseError::EmptyPayload);
                }
                return Ok(Body {
                    code,
                    options: &tail[..end],
                    payload: after,
                });
            }
            rest = after;
            let mut delta = u16::from(header >> 4);
            let mut length = u16::from(header & 0x0f);
            take_extension(&mut delta, &mut rest)?;
            take_extension(&mut length, &mut rest)?;
            number = number
                .checked_add(delta)
                .ok_or(ParseError::OptionOverflow)?;
            rest = rest
                .get(usize::from(length)..)
                .ok_or(ParseError::OptionTruncated)?;
        }
    }

    /// Method or response code.
    pub const fn code(&self) -> Code {
        self.code
    }

    /// All options, in ascending order of their numbers.
    pub fn options(&self) -> Options<'a> {
        Options(OptPayloadReader::new(self.options))
    }

    /// First occurrence of an option.
    pub fn option(&self, number: u16) -> Option<OptionValue<'a>> {
        self.options().find(|option| option.number == number)
    }

    /// Payload; empty if there is none.
    pub const fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// Whether the Uri-Path is exactly these segments.
    pub fn path_is(&self, segments: &[&str]) -> bool {
        self.options()
            .filter(|option| option.number == coap_numbers::option::URI_PATH)
            .map(|option| option.value)
            .eq(segments.iter().map(|segment| segment.as_bytes()))
    }

    /// The first critical option that is not understood, if any. A request that has one is
    /// answered with 4.02 Bad Option, a response that has one is rejected (RFC 7252, 5.4.1).
    ///
    /// An occurrence whose length is out of range, or that repeats an option that may not be
    /// repeated, counts as not understood (RFC 7252, 5.4.3 and 5.4.5).
    pub fn unrecognised_critical(&self, supported: &[OptionSpec]) -> Option<u16> {
        let mut previous = None;
        self.options()
            .find(|option| {
                let repeated = previous.replace(option.number) == Some(option.number);
                let understood = supported.iter().any(|spec| spec.admits(option, repeated));
                option.is_critical() && !understood
            })
            .map(|option| option.number)
    }
}

impl From<ExtensionError> for ParseError {
    fn from(error: ExtensionError) -> Self {
        match error {
            ExtensionError::Reserved15 => ParseError::OptionReserved,
            ExtensionError::OutOfBytes => ParseError::OptionTruncated,
            ExtensionError::Overflow => ParseError::OptionOverflow,
        }
    }
}

/// One option of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OptionValue<'a> {
    /// Option number (IANA registry "CoAP Option Numbers").
    pub number: u16,
    /// Its value.
    pub value: &'a [u8],
}

impl OptionValue<'_> {
    /// The value as an unsigned integer. Leading zero bytes are tolerated, as RFC 7252, 3.2 asks;
    /// `None` if it exceeds 32 bits.
    pub fn uint(&self) -> Option<u32> {
        self.value.iter().try_fold(0_u32, |sum, &byte| {
            Some(sum.checked_mul(256)? | u32::from(byte))
        })
    }

    /// Whether an endpoint that does not understand this option must reject the message
    /// (RFC 7252, 5.4.6).
    pub const fn is_critical(&self) -> bool {
        self.number & 1 == 1
    }
}

/// Iterator over the options of a [`Body`].
pub struct Options<'a>(OptPayloadReader<'a>);

impl<'a> Iterator for Options<'a> {
    type Item = OptionValue<'a>;

    fn next(&mut self) -> Option<OptionValue<'a>> {
        match self.0.next()? {
            OptItem::Option { number, data } => Some(OptionValue {
                number,
                value: data,
            }),
            // `Body::parse` has seen every option, and the slice ends before the payload marker.
            OptItem::Payload(_) | OptItem::Error(_) => None,
        }
    }
}

/// Checked view of one datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    kind: Type,
    id: u16,
    token: &'a [u8],
    body: Body<'a>,
}

impl<'a> Message<'a> {
    /// Checks a whole datagram. There is no other way to get a `Message`.
    pub fn parse(datagram: &'a [u8]) -> Result<Message<'a>, ParseError> {
        let Some((header, rest)) = datagram.split_first_chunk::<HEADER>() else {
            // A foreign version is not ours to call truncated.
            return Err(match datagram.first() {
                Some(first) if first >> 6 != VERSION => ParseError::UnknownVersion,
                _ => ParseError::Truncated,
            });
        };
        if header[0] >> 6 != VERSION {
            return Err(ParseError::UnknownVersion);
        }
        let kind = match header[0] >> 4 & 3 {
            0 => Type::Confirmable,
            1 => Type::NonConfirmable,
            2 => Type::Acknowledgement,
            _ => Type::Reset,
        };
        let code = Code(header[1]);
        let token_length = usize::from(header[0] & 0x0f);
        if code == Code::EMPTY && (token_length != 0 || !rest.is_empty()) {
            return Err(ParseError::EmptyWithContent);
        }
        if !(code == Code::EMPTY || code.is_request() || code.is_response()) {
            return Err(ParseError::ReservedCodeClass);
        }
        let allowed = match kind {
            Type::Confirmable => true,
            Type::NonConfirmable => code != Code::EMPTY,
            Type::Acknowledgement => !code.is_request(),
            Type::Reset => code == Code::EMPTY,
        };
        if !allowed {
            return Err(ParseError::TypeCodeMismatch);
        }
        if token_length > MAX_TOKEN {
            return Err(ParseError::TokenLengthReserved);
        }
        let (token, tail) = rest
            .split_at_checked(token_length)
            .ok_or(ParseError::Truncated)?;
        Ok(Message {
            kind,
            id: u16::from_be_bytes([header[2], header[3]]),
            token,
            body: Body::parse(code, tail)?,
        })
    }

    /// Message type.
    pub const fn kind(&self) -> Type {
        self.kind
    }

    /// Message ID: matches ACK and RST to their message, and tells duplicates.
    pub const fn message_id(&self) -> u16 {
        self.id
    }

    /// Token, 0 to 8 bytes: matches a response to its request.
    pub const fn token(&self) -> &'a [u8] {
        self.token
    }

    /// Code, options and payload.
    pub const fn body(&self) -> Body<'a> {
        self.body
    }

    /// Method or response code.
    pub const fn code(&self) -> Code {
        self.body.code
    }

    /// All options, in ascending order of their numbers.
    pub fn options(&self) -> Options<'a> {
        self.body.options()
    }

    /// First occurrence of an option.
    pub fn option(&self, number: u16) -> Option<OptionValue<'a>> {
        self.body.option(number)
    }

    /// Payload; empty if there is none.
    pub const fn payload(&self) -> &'a [u8] {
        self.body.payload
    }
}
