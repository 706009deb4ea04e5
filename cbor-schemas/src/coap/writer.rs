//! CoAP messages as sent (RFC 7252, 3): a writer into the caller's buffer.
//!
//! Option headers are encoded by `coap-message-implementations`. Its own writer is not used: it
//! truncates the length of an oversized option, and moves its cursor even when a write fails.

use coap_message_implementations::option_extension::encode_extensions;

use super::message::{Code, HEADER, MAX_TOKEN, PAYLOAD_MARKER, Type, VERSION};

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
