//! The client's two operations: protect a request, unprotect its response (RFC 8613, 8.1 and 8.4).

use super::ProtectError;
use super::class;
use super::compression::OscoreOption;
use super::context::Context;
use super::crypto::{self, Aad, OpenError};
use crate::coap::{Body, Code, Message, ParseError};

/// What the client must keep of a request to understand the response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SentRequest {
    pub(super) sequence: u64,
}

impl SentRequest {
    /// The request's sequence number.
    pub const fn sequence(&self) -> u64 {
        self.sequence
    }
}

/// Why a response was not unprotected. Nothing has changed: the client goes on waiting for a
/// genuine one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnprotectResponseError {
    /// No OSCORE option: an error of the server's outer layer, or of a proxy, or a forgery.
    NotProtected,
    /// The OSCORE option does not decompress.
    MalformedOption,
    /// Protected but without ciphertext (RFC 8613, 2).
    NoCiphertext,
    /// It names a kid or ID context other than the server's.
    SecurityContextNotFound,
    /// An outer option asks for something we do not do (a fragment made by a proxy).
    UnsupportedOuterOption(u16),
    /// Forged, damaged, or the answer to another request.
    DecryptionFailed,
    /// Genuine, but not a well-formed response.
    MalformedPlaintext,
    /// The plaintext does not fit the buffer.
    BufferTooSmall,
}

impl From<OpenError> for UnprotectResponseError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::BufferTooSmall => UnprotectResponseError::BufferTooSmall,
            OpenError::DecryptionFailed => UnprotectResponseError::DecryptionFailed,
        }
    }
}

impl From<ParseError> for UnprotectResponseError {
    fn from(_: ParseError) -> Self {
        UnprotectResponseError::MalformedPlaintext
    }
}

impl Context {
    /// Protects a request with a sequence number of its own (RFC 8613, 8.1). Type, message ID and
    /// token are kept. Returns the length of the protected message in `out`.
    ///
    /// A retransmission sends the same bytes again; it must not be protected again.
    pub fn protect_request(
        &mut self,
        request: &Message<'_>,
        out: &mut [u8],
    ) -> Result<(usize, SentRequest), ProtectError> {
        if !request.code().is_request() {
            return Err(ProtectError::WrongCode);
        }
        let sequence = self.next_sequence()?;
        let kid = self.sender_id.clone();
        let id_context = self.id_context.clone();
        let header = OscoreOption {
            partial_iv: Some(sequence),
            kid_context: id_context.as_deref(),
            kid: Some(&kid),
        };
        let nonce = crypto::nonce(&self.common_iv, &kid, sequence);
        let aad = Aad::new(&kid, sequence);
        let length = self.seal(request, Code::POST, &header, &nonce, &aad, out)?;
        Ok((length, SentRequest { sequence }))
    }

    /// Opens the response to `request` (RFC 8613, 8.4), whether it carries a partial IV of its own
    /// or relies on the request's.
    pub fn unprotect_response<'o>(
        &self,
        request: &SentRequest,
        response: &Message<'_>,
        out: &'o mut [u8],
    ) -> Result<Body<'o>, UnprotectResponseError> {
        let header = OscoreOption::of(response)
            .ok_or(UnprotectResponseError::NotProtected)?
            .map_err(|_| UnprotectResponseError::MalformedOption)?;
        if let Some(outer) = response
            .options()
            .find(|option| class::is_unsupported_outer(option.number))
        {
            return Err(UnprotectResponseError::UnsupportedOuterOption(outer.number));
        }
        if response.payload().is_empty() {
            return Err(UnprotectResponseError::NoCiphertext);
        }
        let ours = header.kid.is_none_or(|kid| kid == self.recipient_id())
            && (header.kid_context.is_none() || header.kid_context == self.id_context());
        if !ours {
            return Err(UnprotectResponseError::SecurityContextNotFound);
        }
        let nonce = match header.partial_iv {
            Some(sequence) => crypto::nonce(&self.common_iv, &self.recipient_id, sequence),
            None => crypto::nonce(&self.common_iv, &self.sender_id, request.sequence),
        };
        let aad = Aad::new(&self.sender_id, request.sequence);
        let plaintext = crypto::open(&self.recipient_key, &nonce, &aad, response.payload(), out)?;
        match plaintext.split_first() {
            Some((&code, tail)) if Code(code).is_response() => Ok(Body::parse(Code(code), tail)?),
            _ => Err(UnprotectResponseError::MalformedPlaintext),
        }
    }
}
