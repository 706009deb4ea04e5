//! The server's two operations: unprotect a request, protect its response (RFC 8613, 8.2 and 8.3).
//!
//! Order matters and is kept here: the window is asked before decryption, and moved only after
//! it. A server that lost its window gets an [`Unsynchronised`] request, whose content stays out
//! of reach until its Echo option has been checked (B.1.2).

use super::ProtectError;
use super::class;
use super::compression::OscoreOption;
use super::context::Context;
use super::crypto::{self, Aad, OpenError};
use crate::coap::{Body, Code, Message, option};

/// Names a request that has been authenticated, so that a response can be bound to it. Not
/// `Clone`: it is also the licence to use the request's nonce, once.
#[derive(Debug, PartialEq, Eq)]
pub struct ReceivedRequest {
    sequence: u64,
}

impl ReceivedRequest {
    /// The client's sequence number.
    pub const fn sequence(&self) -> u64 {
        self.sequence
    }
}

/// A request that is authentic and, by the replay window or by Echo, fresh.
#[derive(Debug, PartialEq, Eq)]
pub struct OpenedRequest<'o> {
    /// To protect the response with.
    pub request: ReceivedRequest,
    /// What the client asks.
    pub body: Body<'o>,
}

/// An authentic request.
#[derive(Debug)]
pub enum Unprotected<'o> {
    /// Not a replay.
    Fresh(OpenedRequest<'o>),
    /// The replay window is lost: nobody knows whether it is one.
    Unsynchronised(Unsynchronised<'o>),
}

/// An authentic request that may be a replay. Answer 4.01 Unauthorized with an Echo option,
/// protected for [`request`](Unsynchronised::request) with a partial IV of its own.
#[derive(Debug)]
pub struct Unsynchronised<'o>(OpenedRequest<'o>);

impl<'o> Unsynchronised<'o> {
    /// To protect the challenge with. Only lent: its nonce may have been used before the restart.
    pub const fn request(&self) -> &ReceivedRequest {
        &self.0.request
    }

    /// Accepts the request as fresh if its Echo option holds the value that this context was
    /// challenged with after the window was lost; the window starts again from it. That value must
    /// be unpredictable, and different after every loss (RFC 9175, 2.3).
    pub fn synchronise(
        self,
        context: &mut Context,
        challenge: &[u8],
    ) -> Result<OpenedRequest<'o>, Unsynchronised<'o>> {
        let echoed = self.0.body.option(option::ECHO);
        if challenge.is_empty() || echoed.is_none_or(|echo| echo.value != challenge) {
            return Err(self);
        }
        let sequence = self.0.request.sequence;
        if context.window.is_lost() {
            context.window.synchronise(sequence);
        } else if context.window.is_new(sequence) {
            context.window.commit(sequence);
        } else {
            // Another request has synchronised the window since, or this one has been here twice.
            return Err(self);
        }
        Ok(self.0)
    }
}

/// Why a request was not unprotected. The context has not changed, but for
/// [`MalformedPlaintext`](UnprotectRequestError::MalformedPlaintext), whose sequence number counts
/// as received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnprotectRequestError {
    /// No OSCORE option.
    NotProtected,
    /// The OSCORE option does not decompress, or lacks the kid or partial IV of a request.
    MalformedOption,
    /// Protected but without ciphertext (RFC 8613, 2).
    NoCiphertext,
    /// kid or ID context are not this context's.
    SecurityContextNotFound,
    /// An outer option asks for something we do not do: forward, or reassemble a proxy's
    /// fragments.
    UnsupportedOuterOption(u16),
    /// The sequence number has been received before, or is too old to tell.
    ReplayDetected,
    /// Forged or damaged.
    DecryptionFailed,
    /// Genuine, but not a well-formed request.
    MalformedPlaintext,
    /// The plaintext does not fit the buffer.
    BufferTooSmall,
}

impl UnprotectRequestError {
    /// The code of the unprotected error response (RFC 8613, 8.2). Max-Age should be 0 there.
    pub const fn code(self) -> Code {
        match self {
            Self::NotProtected | Self::SecurityContextNotFound | Self::ReplayDetected => {
                Code::UNAUTHORIZED
            }
            Self::UnsupportedOuterOption(number) if class::is_proxy(number) => {
                Code::PROXYING_NOT_SUPPORTED
            }
            Self::MalformedOption | Self::UnsupportedOuterOption(_) => Code::BAD_OPTION,
            Self::NoCiphertext | Self::DecryptionFailed | Self::MalformedPlaintext => {
                Code::BAD_REQUEST
            }
            Self::BufferTooSmall => Code::REQUEST_ENTITY_TOO_LARGE,
        }
    }

    /// The diagnostic payload of the error response, in the words of RFC 8613, 8.2 where it has
    /// some.
    pub const fn diagnostic(self) -> &'static str {
        match self {
            Self::NotProtected => "OSCORE required",
            Self::MalformedOption => "Failed to decode COSE",
            Self::SecurityContextNotFound => "Security context not found",
            Self::ReplayDetected => "Replay detected",
            Self::DecryptionFailed => "Decryption failed",
            Self::UnsupportedOuterOption(_) => "Outer option not supported",
            Self::NoCiphertext => "No ciphertext",
            Self::MalformedPlaintext => "Malformed plaintext",
            Self::BufferTooSmall => "Request too large",
        }
    }
}

impl From<OpenError> for UnprotectRequestError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::BufferTooSmall => UnprotectRequestError::BufferTooSmall,
            OpenError::DecryptionFailed => UnprotectRequestError::DecryptionFailed,
        }
    }
}

impl Context {
    /// Opens a request (RFC 8613, 8.2). The server has chosen this context by the kid, see
    /// [`OscoreOption::of`]; it is checked again here.
    pub fn unprotect_request<'o>(
        &mut self,
        request: &Message<'_>,
        out: &'o mut [u8],
    ) -> Result<Unprotected<'o>, UnprotectRequestError> {
        let header = OscoreOption::of(request)
            .ok_or(UnprotectRequestError::NotProtected)?
            .map_err(|_| UnprotectRequestError::MalformedOption)?;
        let (Some(kid), Some(sequence)) = (header.kid, header.partial_iv) else {
            return Err(UnprotectRequestError::MalformedOption);
        };
        if let Some(outer) = request
            .options()
            .find(|option| class::is_unsupported_outer(option.number))
        {
            return Err(UnprotectRequestError::UnsupportedOuterOption(outer.number));
        }
        if request.payload().is_empty() {
            return Err(UnprotectRequestError::NoCiphertext);
        }
        let ours = kid == self.recipient_id()
            && (header.kid_context.is_none() || header.kid_context == self.id_context());
        if !ours {
            return Err(UnprotectRequestError::SecurityContextNotFound);
        }
        let lost = self.window.is_lost();
        if !lost && !self.window.is_new(sequence) {
            return Err(UnprotectRequestError::ReplayDetected);
        }
        let nonce = crypto::nonce(&self.common_iv, kid, sequence);
        let aad = Aad::new(kid, sequence);
        let plaintext = crypto::open(&self.recipient_key, &nonce, &aad, request.payload(), out)?;
        self.window.commit(sequence);
        let body = match plaintext.split_first() {
            Some((&code, tail)) if Code(code).is_request() => Body::parse(Code(code), tail)
                .map_err(|_| UnprotectRequestError::MalformedPlaintext)?,
            _ => return Err(UnprotectRequestError::MalformedPlaintext),
        };
        let opened = OpenedRequest {
            request: ReceivedRequest { sequence },
            body,
        };
        Ok(if lost {
            Unprotected::Unsynchronised(Unsynchronised(opened))
        } else {
            Unprotected::Fresh(opened)
        })
    }

    /// Protects a response with a partial IV of its own (RFC 8613, 8.3): always safe, at the cost
    /// of the partial IV's bytes and of a sequence number. Type, message ID and token of `response`
    /// are kept. Returns the length of the protected message in `out`.
    pub fn protect_response(
        &mut self,
        request: &ReceivedRequest,
        response: &Message<'_>,
        out: &mut [u8],
    ) -> Result<usize, ProtectError> {
        let sequence = self.next_sequence()?;
        let header = OscoreOption {
            partial_iv: Some(sequence),
            ..OscoreOption::default()
        };
        let nonce = crypto::nonce(&self.common_iv, &self.sender_id, sequence);
        self.respond(request.sequence, response, &header, &nonce, out)
    }

    /// Protects a response with the request's nonce, which is shorter. Takes the request, because
    /// that may be done only once for each; whoever cannot prove that it is the first time (after
    /// a crash, or beside other processes) uses [`protect_response`](Context::protect_response).
    #[expect(
        clippy::needless_pass_by_value,
        reason = "the nonce may be used once, so the licence to use it is consumed"
    )]
    pub fn protect_response_with_request_nonce(
        &mut self,
        request: ReceivedRequest,
        response: &Message<'_>,
        out: &mut [u8],
    ) -> Result<usize, ProtectError> {
        let nonce = crypto::nonce(&self.common_iv, &self.recipient_id, request.sequence);
        let header = OscoreOption::default();
        self.respond(request.sequence, response, &header, &nonce, out)
    }

    fn respond(
        &mut self,
        request_sequence: u64,
        response: &Message<'_>,
        header: &OscoreOption<'_>,
        nonce: &[u8; crypto::NONCE],
        out: &mut [u8],
    ) -> Result<usize, ProtectError> {
        if !response.code().is_response() {
            return Err(ProtectError::WrongCode);
        }
        let aad = Aad::new(&self.recipient_id, request_sequence);
        self.seal(response, Code::CHANGED, header, nonce, &aad, out)
    }
}
