//! A command on its way to the TPM and the response in its place (TPM 2.0 Library part 1, 18; part 3,
//! 5): header, handles, authorizations, parameters.

use core::ops::Range;

use mote_schemas::tpm::{EncodeError, Reader, WireError, Writer};

/// Tag, size, and command or response code.
pub(super) const HEADER: usize = 10;

/// Room for a command and its response. The longest that we ever get: 1,024 bytes of NV memory, or as
/// much of a capability (part 2, `TPM_PT_NV_BUFFER_MAX`, `MAX_CAP_BUFFER`), with what is around them.
pub(super) const MAX_FRAME: usize = 1280;

const TPM_ST_NO_SESSIONS: u16 = 0x8001;
const TPM_ST_SESSIONS: u16 = 0x8002;

/// `TPM_RS_PW`: the authorization is a password, for us an empty one.
const PASSWORD: [u8; 9] = [0x40, 0, 0, 9, 0, 0, 0, 0, 0];

/// Size of the authorization by a session of ours: handle, nonce, attributes, HMAC.
pub(super) const SESSION_AUTHORIZATION: usize = 4 + 2 + 32 + 1 + 2 + 32;

/// Authorizations of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Authorization {
    None,
    /// The first handle's, by an empty password.
    Password,
    /// The first handle's by an empty password, the second's by a session, which fills in its part
    /// later.
    PasswordAndSession,
}

impl Authorization {
    const fn size(self) -> usize {
        match self {
            Self::None => 0,
            Self::Password => PASSWORD.len(),
            Self::PasswordAndSession => PASSWORD.len() + SESSION_AUTHORIZATION,
        }
    }
}

/// Command and response, in one buffer.
pub(super) struct Frame {
    pub(super) buffer: [u8; MAX_FRAME],
    pub(super) len: usize,
    session: Range<usize>,
    parameters: usize,
}

impl Frame {
    pub(super) const fn new() -> Self {
        Self {
            buffer: [0; MAX_FRAME],
            len: 0,
            session: 0..0,
            parameters: 0,
        }
    }

    /// Writes a command.
    pub(super) fn command(
        &mut self,
        code: u32,
        handles: &[u32],
        authorization: Authorization,
        parameters: impl FnOnce(&mut Writer<'_>) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        let mut out = Writer::new(&mut self.buffer);
        out.u16(if authorization == Authorization::None {
            TPM_ST_NO_SESSIONS
        } else {
            TPM_ST_SESSIONS
        })?;
        out.u32(0)?; // the size, below
        out.u32(code)?;
        for handle in handles {
            out.u32(*handle)?;
        }
        let mut at = HEADER + 4 * handles.len();
        self.session = at..at;
        if authorization != Authorization::None {
            out.u32(authorization.size() as u32)?;
            out.bytes(&PASSWORD)?;
            at += 4 + PASSWORD.len();
            if authorization == Authorization::PasswordAndSession {
                out.bytes(&[0; SESSION_AUTHORIZATION])?;
                self.session = at..at + SESSION_AUTHORIZATION;
                at += SESSION_AUTHORIZATION;
            }
        }
        self.parameters = at;
        parameters(&mut out)?;
        self.len = out.finish().len();
        self.buffer[2..6].copy_from_slice(&(self.len as u32).to_be_bytes());
        Ok(())
    }

    /// The parameters of the command just written.
    pub(super) fn command_parameters(&self) -> &[u8] {
        &self.buffer[self.parameters..self.len]
    }

    /// Where the session of [`Authorization::PasswordAndSession`] has its part.
    pub(super) fn session_authorization(&mut self) -> &mut [u8] {
        &mut self.buffer[self.session.clone()]
    }

    /// The response's code, or what is wrong with its form.
    pub(super) fn response_code(&self) -> Result<u32, WireError> {
        let mut header = Reader::new(&self.buffer[..self.len]);
        let (_tag, size, code) = (header.u16()?, header.u32()?, header.u32()?);
        if size as usize == self.len {
            Ok(code)
        } else {
            Err(WireError::Truncated {
                at: 2,
                needed: size as usize,
            })
        }
    }

    /// Takes a successful response apart.
    pub(super) fn response(&self, has_handle: bool) -> Result<Response<'_>, WireError> {
        let bytes = &self.buffer[..self.len];
        let mut header = Reader::new(bytes);
        let tag = header.u16()?;
        header.bytes(HEADER - 2)?;
        let handle = if has_handle { header.u32()? } else { 0 };
        let (parameters, authorizations) = if tag == TPM_ST_SESSIONS {
            let size = header.u32()? as usize;
            let parameters = header.bytes(size)?;
            (parameters, &bytes[header.offset()..])
        } else {
            (&bytes[header.offset()..], &bytes[bytes.len()..])
        };
        Ok(Response {
            handle,
            parameters,
            authorizations,
        })
    }
}

impl core::fmt::Debug for Frame {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Frame({} bytes)", self.len)
    }
}

/// A successful response.
#[derive(Clone, Copy, Debug)]
pub(super) struct Response<'a> {
    /// The handle of the object that was made; 0 for commands that make none.
    pub(super) handle: u32,
    pub(super) parameters: &'a [u8],
    pub(super) authorizations: &'a [u8],
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_has_header_handles_authorization_and_parameters() {
        let mut frame = Frame::new();
        frame
            .command(0x158, &[0x8000_0000], Authorization::Password, |out| {
                out.tpm2b(b"n", 64)
            })
            .unwrap();
        let expected = [
            &[0x80, 0x02, 0, 0, 0, 30, 0, 0, 1, 0x58][..],
            &[0x80, 0, 0, 0],
            &[0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0],
            &[0, 1, b'n'],
        ]
        .concat();
        assert_eq!(frame.buffer[..frame.len], expected);
        assert_eq!(frame.command_parameters(), [0, 1, b'n']);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let mut frame = Frame::new();
        let too_much = frame.command(0x158, &[], Authorization::None, |out| {
            out.bytes(&[0; MAX_FRAME])
        });
        assert_eq!(too_much, Err(EncodeError::BufferTooSmall));
    }

    #[test]
    fn responses_that_lie_about_their_size_are_refused() {
        let mut frame = Frame::new();
        for (bytes, code) in [
            (&[0x80, 0x01, 0, 0, 0, 10, 0, 0, 1, 1][..], Some(0x101)),
            (&[0x80, 0x01, 0, 0, 0, 11, 0, 0, 1, 1], None),
            (&[0x80, 0x01, 0, 0, 0, 9, 0, 0, 1], None),
            (&[], None),
        ] {
            frame.buffer[..bytes.len()].copy_from_slice(bytes);
            frame.len = bytes.len();
            assert_eq!(frame.response_code().ok(), code, "{bytes:?}");
        }
        // Parameters that reach beyond the response.
        let bytes = [0x80, 0x02, 0, 0, 0, 15, 0, 0, 0, 0, 0, 0, 0, 2, 7];
        frame.buffer[..15].copy_from_slice(&bytes);
        frame.len = 15;
        assert!(frame.response(false).is_err());
    }
}
