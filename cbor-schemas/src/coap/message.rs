//! CoAP messages on the wire (RFC 7252, 3): a checked view of received bytes, and a writer.
//!
//! A [`Message`] exists only if its bytes are well formed from end to end, so that no later stage
//! meets a truncated option. Who sent it, and whether it is what they meant, is not known here.
//!
//! Option headers are decoded, walked and encoded by `coap-message-implementations`. Its own
//! message types are not used: they accept a payload marker without payload and stop silently at a
//! malformed option, and their writer truncates the length of an oversized option and moves its
//! cursor when a write fails.

use core::fmt;

use coap_message_implementations::option_extension::{
    ExtensionError, encode_extensions, take_extension,
};
use coap_message_implementations::option_iteration::{OptItem, OptPayloadReader};
use coap_numbers::code;

use super::options::OptionSpec;

const VERSION: u8 = 1;
const HEADER: usize = 4;
const MAX_TOKEN: usize = 8;
const PAYLOAD_MARKER: u8 = 0xff;

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

/// Why bytes are not a CoAP message. What to answer is said by [`reject`].
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

/// Why a message could not be written. The buffer's content is unspecified then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteError {
    /// The buffer ends before the message does.
    BufferTooSmall,
    /// Token longer than 8 bytes.
    TokenTooLong,
    /// Options must come in ascending order of their numbers.
    OptionOutOfOrder,
    /// Option value longer than 65,535 bytes.
    OptionTooLong,
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

/// An empty message: ACK, RST, or CON as a ping (RFC 7252, 4.1 and 4.3).
pub const fn empty(kind: Type, message_id: u16) -> [u8; HEADER] {
    let id = message_id.to_be_bytes();
    [VERSION << 6 | (kind as u8) << 4, 0, id[0], id[1]]
}

/// How to reject a datagram that is malformed or for which there is no context: a RST for a
/// confirmable message, silence for everything else (RFC 7252, 4.2 and 4.3; 3 for the version).
pub fn reject(datagram: &[u8]) -> Option<[u8; HEADER]> {
    match datagram {
        [first, _, high, low, ..] if first >> 4 == VERSION << 2 => {
            Some(empty(Type::Reset, u16::from_be_bytes([*high, *low])))
        }
        _ => None,
    }
}

/// Writes one message into a caller's buffer: options in ascending order, then the payload.
///
/// ```
/// use mote_schemas::coap::{Code, Message, Type, Writer, option};
///
/// let mut buffer = [0; 64];
/// let length = Writer::new(&mut buffer, Type::Confirmable, Code::POST, 1, b"tk")?
///     .option(option::URI_PATH, b"beat")?
///     .option_uint(option::CONTENT_FORMAT, 60)?
///     .payload(b"\x80")?;
/// assert!(Message::parse(&buffer[..length]).unwrap().body().path_is(&["beat"]));
/// # Ok::<(), mote_schemas::coap::WriteError>(())
/// ```
#[derive(Debug)]
pub struct Writer<'b> {
    buffer: &'b mut [u8],
    length: usize,
    last_option: u16,
}

impl<'b> Writer<'b> {
    /// Starts a message with its header and token.
    pub fn new(
        buffer: &'b mut [u8],
        kind: Type,
        code: Code,
        message_id: u16,
        token: &[u8],
    ) -> Result<Writer<'b>, WriteError> {
        if token.len() > MAX_TOKEN {
            return Err(WriteError::TokenTooLong);
        }
        let mut header = empty(kind, message_id);
        header[0] |= token.len() as u8;
        header[1] = code.0;
        let mut writer = Writer {
            buffer,
            length: 0,
            last_option: 0,
        };
        writer.append(&header)?;
        writer.append(token)?;
        Ok(writer)
    }

    /// Starts a bare body, code first: the plaintext of OSCORE (RFC 8613, 5.3).
    pub fn body(buffer: &'b mut [u8], code: Code) -> Result<Writer<'b>, WriteError> {
        let mut writer = Writer {
            buffer,
            length: 0,
            last_option: 0,
        };
        writer.append(&[code.0])?;
        Ok(writer)
    }

    /// Adds an option. Numbers must not descend.
    pub fn option(mut self, number: u16, value: &[u8]) -> Result<Self, WriteError> {
        let delta = number
            .checked_sub(self.last_option)
            .ok_or(WriteError::OptionOutOfOrder)?;
        let length = u16::try_from(value.len()).map_err(|_| WriteError::OptionTooLong)?;
        self.append(encode_extensions(delta, length).as_ref())?;
        self.append(value)?;
        self.last_option = number;
        Ok(self)
    }

    /// Adds an option whose value is an unsigned integer, in the fewest bytes (RFC 7252, 3.2).
    pub fn option_uint(self, number: u16, value: u32) -> Result<Self, WriteError> {
        let skip = value.leading_zeros() as usize / 8;
        self.option(number, &value.to_be_bytes()[skip..])
    }

    /// Ends the message with a payload, which may be empty. Returns the length of the message.
    pub fn payload(self, payload: &[u8]) -> Result<usize, WriteError> {
        self.payload_with(|space| {
            space
                .get_mut(..payload.len())
                .ok_or(WriteError::BufferTooSmall)?
                .copy_from_slice(payload);
            Ok(payload.len())
        })
    }

    /// Ends the message with a payload that `fill` writes into the space that is left; `fill`
    /// returns how much it wrote. Returns the length of the message.
    pub fn payload_with<E: From<WriteError>>(
        self,
        fill: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<usize, E> {
        let (marker, space) = match self.buffer.get_mut(self.length..) {
            Some([marker, space @ ..]) => (Some(marker), space),
            _ => (None, &mut [][..]),
        };
        let available = space.len();
        let written = fill(space)?;
        if written == 0 {
            return Ok(self.length);
        }
        let marker = marker.ok_or(WriteError::BufferTooSmall)?;
        *marker = PAYLOAD_MARKER;
        Ok(self.length + 1 + written.min(available))
    }

    /// Ends the message without a payload. Returns its length.
    pub fn finish(self) -> usize {
        self.length
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        self.buffer
            .get_mut(self.length..)
            .and_then(|space| space.get_mut(..bytes.len()))
            .ok_or(WriteError::BufferTooSmall)?
            .copy_from_slice(bytes);
        self.length += bytes.len();
        Ok(())
    }
}
