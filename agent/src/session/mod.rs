//! The attester's side of the conversation, sans-IO.
//!
//! [`Session::poll`] and [`Session::receive`] are the whole protocol: time, datagrams and the
//! [`Device`] come in as arguments, datagrams and [`Event`]s go out, and the next deadline is a
//! return value. Nothing here opens a socket, reads a clock or keeps anything across a restart.
//! The canonical loop:
//!
//! ```ignore
//! loop {
//!     match session.poll(now(), &mut device, &mut buffer) {
//!         Output::Transmit(len) => socket.send(&buffer[..len]),
//!         Output::Event(event) => report(event),
//!         Output::Wait(until) => match socket.receive_until(until) {
//!             Some(datagram) => session.receive(now(), &datagram, &mut device),
//!             None => {}
//!         },
//!     }
//! }
//! ```
//!
//! **Who may lie.** Anyone on the path may drop, repeat, reorder, alter or invent datagrams. A hello
//! reply counts only when the pinned key signed it for the hello we just sent; everything later
//! counts only when it decrypts under keys that this TPM and that verifier share. An unprotected
//! error is a hint, worth at most another hello after a back-off.
//!
//! **What it never does.** It never judges its own evidence, never guesses what the verifier has (the
//! verifier says which record it wants), never drops a record, never treats silence as an answer.
//! Quote first, then read the list: the list may then only be ahead of the quote.

mod boot;
mod channel;
mod event;
mod evidence;
mod hello;
mod long_record;
mod pacing;
mod quotes;
mod transfer;

use core::fmt;
use core::time::Duration;

use heapless::Vec;
use mote_schemas::coap::{
    Body, Code, Exchange, Message, Output as Exchanged, Parameters, Received, WriteError, option,
};
use mote_schemas::limits::{MAX_MESSAGE, MAX_PCR_BANKS};
use mote_schemas::time::Instant;

pub use event::{Event, Token};
pub use pacing::Pacing;

use crate::boot_log::BootLog;
use crate::measurement_log::{LogError, MeasurementLog};
use crate::tpm::{Identity, PcrSelection, Tpm, TpmError};
use crate::verifier_key::VerifierKey;
use channel::Channel;
use pacing::{Backoff, Patience};
use transfer::Transfer;

/// Requests in a row that an answer may trigger at once, beyond those that move the log forward.
/// Enough for hello, Echo, enrolment and open; a verifier that keeps asking is waited for.
const MAX_IMMEDIATE: u8 = 6;

/// Longest Echo option value (RFC 9175, 2.2.1).
const MAX_ECHO: usize = 40;

/// The device that the session speaks for. Borrowed for each call; all of it may block.
pub struct Device<'a> {
    /// The TPM.
    pub tpm: &'a mut dyn Tpm,
    /// The measurement list.
    pub log: &'a mut dyn MeasurementLog,
    /// The boot event log.
    pub boot_log: &'a mut dyn BootLog,
    /// Unpredictable bytes (tokens, hello's random) and jitter.
    pub random: &'a mut dyn FnMut(&mut [u8]),
}

impl Device<'_> {
    fn random_u32(&mut self) -> u32 {
        let mut bytes = [0; 4];
        (self.random)(&mut bytes);
        u32::from_ne_bytes(bytes)
    }
}

/// The part of the device that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceError {
    /// The TPM.
    Tpm(TpmError),
    /// The measurement list.
    Log(LogError),
}

impl fmt::Display for DeviceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeviceError::Tpm(error) => error.fmt(f),
            DeviceError::Log(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for DeviceError {}

impl From<TpmError> for DeviceError {
    fn from(error: TpmError) -> Self {
        DeviceError::Tpm(error)
    }
}

impl From<LogError> for DeviceError {
    fn from(error: LogError) -> Self {
        DeviceError::Log(error)
    }
}

/// What does not change while the agent runs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The pinned key.
    pub verifier_key: VerifierKey,
    /// PCRs to quote.
    pub selection: Vec<PcrSelection, MAX_PCR_BANKS>,
    /// Largest datagram to send or to be sent, in bytes. What needs more goes in parts.
    pub datagram: usize,
    /// Patience.
    pub pacing: Pacing,
    /// Retransmission.
    pub transmission: Parameters,
}

/// What to do now, as said by [`Session::poll`].
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "moved once per poll; the device allocates nothing for it"
)]
pub enum Output {
    /// Send this many bytes of the buffer, then poll again.
    Transmit(usize),
    /// Something worth knowing happened; poll again.
    Event(Event),
    /// Poll again at this time, or after [`Session::receive`].
    Wait(Instant),
}

/// The request to make when it is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// hello; with keys once the verifier has said that it does not know us.
    Hello {
        keys: bool,
    },
    Open,
    Log,
    /// A part of the boot log.
    Boot,
    Beat,
}

/// One conversation after another with one verifier.
pub struct Session {
    settings: Settings,
    exchange: Exchange<MAX_MESSAGE>,
    step: Step,
    due: Instant,
    backoff: Backoff,
    patience: Patience,
    /// When the open request was first sent.
    sent_at: Instant,
    /// Requests made at once since the last wait.
    immediate: u8,
    event: Option<Event>,
    identity: Option<Identity>,
    echo: Vec<u8, MAX_ECHO>,
    /// The request under way.
    transfer: Option<Transfer>,
    channel: Option<Channel>,
    progress: evidence::Progress,
}

/// What stands in the way of a request.
enum StepError {
    Device(DeviceError),
    /// The session cannot go on: keys, nonce or sequence numbers are used up.
    Stale,
}

impl From<TpmError> for StepError {
    fn from(error: TpmError) -> Self {
        StepError::Device(error.into())
    }
}

impl From<LogError> for StepError {
    fn from(error: LogError) -> Self {
        StepError::Device(error.into())
    }
}

impl From<WriteError> for StepError {
    /// The message buffer holds every message of ours; see also [`evidence`].
    fn from(_: WriteError) -> Self {
        StepError::Stale
    }
}

impl Session {
    /// A session that says hello within [`Pacing::start_jitter`] of `now`.
    pub fn new(settings: Settings, now: Instant, device: &mut Device<'_>) -> Self {
        let due = now + settings.pacing.start(device.random_u32());
        // RFC 7252, 4.4: an unpredictable first message ID.
        let exchange = Exchange::new(settings.transmission, device.random_u32() as u16);
        Session {
            settings,
            exchange,
            step: Step::Hello { keys: false },
            due,
            backoff: Backoff::default(),
            patience: Patience::default(),
            sent_at: now,
            immediate: 0,
            event: None,
            identity: None,
            echo: Vec::new(),
            transfer: None,
            channel: None,
            progress: evidence::Progress::default(),
        }
    }

    /// Says what to do at `now`. `out` holds at least [`MAX_MESSAGE`] bytes. Call until it says
    /// [`Output::Wait`]; a call may take as long as the TPM takes to quote.
    pub fn poll(&mut self, now: Instant, device: &mut Device<'_>, out: &mut [u8]) -> Output {
        loop {
            if let Some(event) = self.event.take() {
                return Output::Event(event);
            }
            match self.exchange.poll(now) {
                Exchanged::Transmit(bytes) => {
                    out[..bytes.len()].copy_from_slice(bytes);
                    return Output::Transmit(bytes.len());
                }
                Exchanged::Wait(until) => return Output::Wait(until),
                Exchanged::TimedOut => {
                    self.patience.timed_out();
                    let retry = self.retry_later(now, device);
                    self.event = Some(Event::Unreachable { retry });
                }
                Exchanged::Idle if now < self.due => return Output::Wait(self.due),
                Exchanged::Idle => self.make_request(now, device),
            }
        }
    }

    /// Takes a datagram from the verifier's address. Poll afterwards.
    pub fn receive(&mut self, now: Instant, datagram: &[u8], device: &mut Device<'_>) {
        match self.exchange.receive(now, datagram) {
            Received::Response(message) if matches!(self.step, Step::Hello { .. }) => {
                self.hello_response(now, &message, device);
            }
            Received::Response(message) => self.evidence_response(now, &message, device),
            Received::Reset => {
                let retry = self.start_over(now, device);
                self.event = Some(Event::Unreachable { retry });
            }
            Received::Nothing => {}
        }
    }

    /// The connection is gone, and with it the answer to an open request. Poll afterwards.
    ///
    /// For reliable links only: a datagram that is lost is sent again by itself.
    pub fn disconnected(&mut self, now: Instant, device: &mut Device<'_>) {
        if self.exchange.is_open() {
            self.exchange.cancel();
            let retry = self.retry_later(now, device);
            self.event = Some(Event::Unreachable { retry });
        }
    }

    fn make_request(&mut self, now: Instant, device: &mut Device<'_>) {
        let made = match self.step {
            // What has arrived of it need not be sent again, whatever has happened in between.
            _ if self.transfer.as_ref().is_some_and(Transfer::is_begun) => {
                self.send_piece(now, device)
            }
            Step::Hello { keys } => self.request_hello(now, keys, device),
            Step::Open => self.request_open(now, device),
            Step::Log => self.request_log(now, device),
            Step::Boot => self.request_boot(now, device),
            Step::Beat => self.request_beat(now, device),
        };
        match made {
            Ok(()) => {}
            Err(StepError::Stale) => {
                self.start_over(now, device);
            }
            Err(StepError::Device(error)) => {
                // Of another list, the verifier has to say again which record it wants.
                let retry = match error {
                    DeviceError::Log(LogError::Restarted { .. }) => self.start_over(now, device),
                    _ => self.retry_later(now, device),
                };
                self.event = Some(Event::Device { error, retry });
            }
        }
    }

    /// Sends what is due of the request under way.
    fn send_piece(&mut self, now: Instant, device: &mut Device<'_>) -> Result<(), StepError> {
        let transfer = self.transfer.as_ref().ok_or(StepError::Stale)?;
        let id = self.exchange.next_message_id();
        let (mut plain, mut message) = ([0; MAX_MESSAGE], [0; MAX_MESSAGE]);
        let len = if matches!(self.step, Step::Hello { .. }) {
            let token = token::<{ transfer::TOKEN }>(device);
            transfer.request(id, &token, &self.echo, &mut message)?
        } else {
            let token = token::<{ channel::TOKEN }>(device);
            let len = transfer.request(id, &token, &self.echo, &mut plain)?;
            self.echo.clear();
            let channel = self.channel.as_mut().ok_or(StepError::Stale)?;
            channel.seal(&plain[..len], &mut message)?
        };
        self.send(now, &message[..len], device)
    }

    /// Starts the exchange of a request that is complete in `bytes`.
    fn send(
        &mut self,
        now: Instant,
        bytes: &[u8],
        device: &mut Device<'_>,
    ) -> Result<(), StepError> {
        let random = device.random_u32();
        self.sent_at = now;
        self.exchange
            .set_parameters(self.patience.stretched(self.settings.transmission));
        self.exchange
            .start(now, bytes, random)
            .map_err(|_| StepError::Stale)
    }

    /// Ends the exchange with this response.
    fn accept(&mut self, now: Instant, response: &Message<'_>) {
        let took = now.since(self.sent_at);
        self.patience.answered(took, self.settings.transmission);
        self.exchange.accept(response);
    }

    /// Makes `step` next, at once unless the verifier has had us do so too often in a row.
    fn go_on(&mut self, now: Instant, step: Step, device: &mut Device<'_>) {
        self.step = step;
        self.immediate = self.immediate.saturating_add(1);
        if self.immediate > MAX_IMMEDIATE {
            self.retry_later(now, device);
        } else {
            self.due = now;
        }
    }

    /// Tries the same step again after a back-off.
    fn retry_later(&mut self, now: Instant, device: &mut Device<'_>) -> Duration {
        let retry = self
            .backoff
            .next(&self.settings.pacing, device.random_u32());
        self.due = now + retry;
        self.immediate = 0;
        retry
    }

    /// Forgets the session and says hello after a back-off.
    fn start_over(&mut self, now: Instant, device: &mut Device<'_>) -> Duration {
        self.channel = None;
        self.transfer = None;
        self.echo.clear();
        self.step = Step::Hello { keys: false };
        self.retry_later(now, device)
    }

    /// The verifier is there and said no.
    fn refused(&mut self, now: Instant, code: Code, message: &Body<'_>, device: &mut Device<'_>) {
        let mut retry = if code == Code::SERVICE_UNAVAILABLE {
            self.retry_later(now, device)
        } else {
            self.start_over(now, device)
        };
        // RFC 7252, 5.9.3.4: the server's Max-Age says when to come back; never sooner than that.
        if let Some(seconds) = message.option(option::MAX_AGE).and_then(|o| o.uint()) {
            let asked =
                Duration::from_secs(u64::from(seconds)).min(self.settings.pacing.backoff_max);
            // Many may have been told the same.
            retry = retry.max(Pacing::after(asked, device.random_u32()));
            self.due = now + retry;
        }
        self.event = Some(Event::refused(code, message.payload(), retry));
    }

    /// Keeps the value of an Echo option for the next request (RFC 9175, 2.2).
    fn take_echo(&mut self, body: &Body<'_>) -> bool {
        body.option(option::ECHO)
            .and_then(|echo| Vec::from_slice(echo.value).ok())
            .map(|echo| self.echo = echo)
            .is_some()
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("step", &self.step)
            .field("due", &self.due)
            .field("open", &self.exchange.is_open())
            .finish_non_exhaustive()
    }
}

/// A fresh token: unpredictable, so that an off-path attacker cannot answer for the verifier
/// (RFC 7252, 5.3.1). Protected requests need less: only the verifier can make their answers.
fn token<const N: usize>(device: &mut Device<'_>) -> [u8; N] {
    let mut token = [0; N];
    (device.random)(&mut token);
    token
}
