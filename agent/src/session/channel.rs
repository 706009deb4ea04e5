//! One OSCORE session with the verifier (RFC 8613): keys in RAM, wiped when dropped.

use mote_schemas::coap::{Body, Message};
use mote_schemas::message::Kid;
use mote_schemas::oscore::{Context, SentRequest, UnprotectResponseError};
use mote_schemas::transcript::Transcript;

use super::StepError;
use super::transfer::{OPTIONS, Room, TAG};

/// Bytes of a protected request's token. It may be short: nobody without the keys can make an answer,
/// whatever token it carries.
pub(super) const TOKEN: usize = 2;

/// In a request, around kid, Partial IV and payload: header, token, head and flags of the OSCORE
/// option, marker, inner code, Uri-Path, inner marker, AEAD tag.
const REQUEST_OVERHEAD: usize = 4 + TOKEN + 2 + 1 + 1 + 2 + 1 + 8;

/// In a response, around the payload: header, token, OSCORE option with a Partial IV of 3 bytes (2^24
/// replies), marker, inner code, both Block options, inner marker, AEAD tag.
const RESPONSE_OVERHEAD: usize = 4 + TOKEN + 5 + 1 + 1 + 4 + 4 + 1 + 8;

/// No reply is longer, in bytes: eight reasons and eight ranges of records with all else that a reply
/// may have. Where as much fits, no blocks are asked for.
const MAX_REPLY: usize = 500;

/// The keys of one session.
pub(super) struct Channel {
    context: Context,
    transcript: Transcript,
    sent: Option<SentRequest>,
}

/// What a response turned out to be.
pub(super) enum Opened<'p> {
    /// The verifier's own words.
    Protected(Body<'p>),
    /// An error that anybody could have written.
    Unprotected,
    /// Neither: as if it had not come.
    Forged,
}

impl Channel {
    /// Keys from the secret that the TPM released (see [`Transcript::master_secret`]). `None` when
    /// the verifier gave us a kid that cannot be ours.
    pub(super) fn new(transcript: &Transcript, credential: &[u8], kid: &Kid) -> Option<Self> {
        let secret = transcript.master_secret(credential);
        let context = Context::derive(&*secret, &[], None, kid.as_bytes(), &[]).ok()?;
        Some(Channel {
            context,
            transcript: *transcript,
            sent: None,
        })
    }

    pub(super) fn transcript(&self) -> &Transcript {
        &self.transcript
    }

    /// What fits the next datagrams of at most `datagram` bytes, the next of which returns an Echo of
    /// `echo` bytes.
    pub(super) fn room(&self, datagram: usize, echo: usize) -> Room {
        let sequence = self.context.sender_sequence();
        let partial_iv = (u64::BITS - (sequence | 1).leading_zeros()).div_ceil(8) as usize;
        let request = REQUEST_OVERHEAD + self.context.sender_id().len() + partial_iv;
        let ask = datagram < MAX_REPLY + RESPONSE_OVERHEAD;
        let echo = if echo == 0 { 0 } else { 3 + echo };
        // Block2, and Request-Tag with the longest head.
        let asking = if ask { 2 + 3 + TAG } else { 0 };
        Room {
            single: datagram.saturating_sub(request + echo + asking),
            // While it lasts, the Partial IV may grow.
            block: datagram.saturating_sub(request + 1 + OPTIONS),
            answer: datagram.saturating_sub(RESPONSE_OVERHEAD),
            ask,
        }
    }

    /// The protected form of a request, in `out`; returns its length.
    pub(super) fn seal(&mut self, plain: &[u8], out: &mut [u8]) -> Result<usize, StepError> {
        // Our own bytes of a moment ago parse.
        let message = Message::parse(plain).map_err(|_| StepError::Stale)?;
        let (len, sent) = self
            .context
            .protect_request(&message, out)
            .map_err(|_| StepError::Stale)?;
        self.sent = Some(sent);
        Ok(len)
    }

    /// Opens the response to the last request.
    pub(super) fn open<'p>(&self, response: &Message<'_>, plain: &'p mut [u8]) -> Opened<'p> {
        let Some(sent) = &self.sent else {
            return Opened::Forged;
        };
        match self.context.unprotect_response(sent, response, plain) {
            Ok(body) => Opened::Protected(body),
            Err(UnprotectResponseError::NotProtected) if response.code().class() >= 4 => {
                Opened::Unprotected
            }
            Err(_) => Opened::Forged,
        }
    }
}
