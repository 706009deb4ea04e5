//! One OSCORE session with the verifier (RFC 8613): keys in RAM, wiped when dropped.

use mote_schemas::coap::{Body, Code, Message, Type, Writer, option};
use mote_schemas::limits::MAX_MESSAGE;
use mote_schemas::message::Kid;
use mote_schemas::oscore::{Context, SentRequest, UnprotectResponseError};
use mote_schemas::transcript::Transcript;

use super::StepError;

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

    /// A protected POST in `out`; returns its length. The token may be short: nobody without the
    /// keys can make an answer, whatever token it carries.
    pub(super) fn seal(
        &mut self,
        message_id: u16,
        token: [u8; 2],
        path: &str,
        echo: &[u8],
        payload: &[u8],
        out: &mut [u8],
    ) -> Result<usize, StepError> {
        let mut plain = [0; MAX_MESSAGE];
        let mut writer = Writer::new(
            &mut plain,
            Type::Confirmable,
            Code::POST,
            message_id,
            &token,
        )?
        .option(option::URI_PATH, path.as_bytes())?;
        if !echo.is_empty() {
            writer = writer.option(option::ECHO, echo)?;
        }
        let len = writer.payload(payload)?;
        // Our own bytes of a moment ago parse.
        let message = Message::parse(&plain[..len]).map_err(|_| StepError::Stale)?;
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
