//! The client's side of one confirmable request at a time (RFC 7252, 4.2, 5.2, 5.3; NSTART = 1
//! of 4.7).
//!
//! Everything that arrives may be forged: message IDs and tokens only keep honest messages apart.
//! Therefore [`Exchange::receive`] merely proposes a response; the exchange goes on as if it had
//! not come until the caller, who can check it (OSCORE, a signature), says [`Exchange::accept`].
//! What nobody can check is an empty ACK or RST: a forger who sees the message ID can make a
//! request end without an answer, though never with a wrong one.

use core::time::Duration;

use heapless::{Deque, Vec};

use super::message::{Message, Type};
use super::writer::{empty, reject};
use crate::time::Instant;

/// Confirmable responses whose acknowledgement we repeat when they arrive again. With one request
/// at a time a duplicate is of the last response or, after long delay, of the few before it.
const REMEMBERED_RESPONSES: usize = 4;

/// Longest time a datagram is thought to be under way (RFC 7252, 4.8.2).
const MAX_LATENCY: Duration = Duration::from_secs(100);

/// Transmission parameters (RFC 7252, 4.8). A slow link wants a longer `ack_timeout`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameters {
    /// Shortest time until the first retransmission.
    pub ack_timeout: Duration,
    /// The longest is this many percent of the shortest; at least 100.
    pub ack_random_percent: u16,
    /// Retransmissions after the first transmission, each after twice the time of the one before.
    pub max_retransmit: u8,
    /// How long to wait for a separate response after the request was acknowledged. RFC 7252
    /// leaves this to the application.
    pub response_timeout: Duration,
}

impl Default for Parameters {
    /// The defaults of RFC 7252, 4.8; and its `MAX_TRANSMIT_WAIT` for the separate response.
    fn default() -> Self {
        Parameters {
            ack_timeout: Duration::from_secs(2),
            ack_random_percent: 150,
            max_retransmit: 4,
            response_timeout: Duration::from_secs(93),
        }
    }
}

impl Parameters {
    /// For a transport that is reliable by itself (RFC 8323, 2): each request is sent once, and
    /// answered within `response_timeout` or not at all.
    pub const fn reliable(response_timeout: Duration) -> Self {
        Parameters {
            ack_timeout: response_timeout,
            ack_random_percent: 100,
            max_retransmit: 0,
            response_timeout,
        }
    }

    /// Time from the first transmission until the client gives up at the latest:
    /// `MAX_TRANSMIT_WAIT` of RFC 7252, 4.8.2.
    pub fn max_transmit_wait(&self) -> Duration {
        self.longest_ack_timeout()
            .saturating_mul(2_u32.saturating_pow(u32::from(self.max_retransmit) + 1) - 1)
    }

    /// How long the server must remember a message of such a client: `EXCHANGE_LIFETIME` of
    /// RFC 7252, 4.8.2, with its `MAX_LATENCY` (100 s) and the initial `PROCESSING_DELAY`.
    pub fn exchange_lifetime(&self) -> Duration {
        self.max_transmit_span()
            .saturating_add(2 * MAX_LATENCY)
            .saturating_add(self.ack_timeout)
    }

    /// The same for non-confirmable messages: `NON_LIFETIME`.
    pub fn non_lifetime(&self) -> Duration {
        self.max_transmit_span().saturating_add(MAX_LATENCY)
    }

    fn max_transmit_span(&self) -> Duration {
        self.longest_ack_timeout()
            .saturating_mul(2_u32.saturating_pow(u32::from(self.max_retransmit)) - 1)
    }

    fn longest_ack_timeout(&self) -> Duration {
        self.ack_timeout
            .saturating_mul(u32::from(self.ack_random_percent.max(100)))
            / 100
    }

    /// Uniform between the shortest and the longest initial timeout.
    fn initial_timeout(&self, random: u32) -> Duration {
        let spread = self.longest_ack_timeout().saturating_sub(self.ack_timeout);
        let share = spread.as_millis().saturating_mul(u128::from(random)) >> 32;
        self.ack_timeout.saturating_add(Duration::from_millis(
            u64::try_from(share).unwrap_or(u64::MAX),
        ))
    }
}

/// Why a request was not started. Nothing has changed then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartError {
    /// The previous request is still open (NSTART = 1).
    Busy,
    /// The bytes are not a confirmable request.
    NotAConfirmableRequest,
    /// The message ID is not the one of [`Exchange::next_message_id`].
    MessageIdMismatch,
    /// The token is that of the request before: a late answer to that one could not be told from
    /// an answer to this one.
    TokenReused,
    /// The request does not fit the exchange's buffer.
    TooLarge,
}

/// What to do next, as said by [`Exchange::poll`].
#[derive(Debug, PartialEq, Eq)]
pub enum Output<'e> {
    /// Send these bytes to the server, then poll again.
    Transmit(&'e [u8]),
    /// Nothing to do before this time, unless something is received.
    Wait(Instant),
    /// The server has not answered in time. Said once; the exchange is over.
    TimedOut,
    /// No request is open.
    Idle,
}

/// What a datagram was, as said by [`Exchange::receive`].
#[derive(Debug, PartialEq, Eq)]
pub enum Received<'d> {
    /// It claims to answer the open request. [`Exchange::accept`] it if it is genuine; otherwise
    /// do nothing.
    Response(Message<'d>),
    /// The server has no context for the request. The exchange is over.
    Reset,
    /// An acknowledgement, a duplicate, or nothing of ours. Any reply it needs comes from
    /// [`Exchange::poll`].
    Nothing,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Idle,
    /// The request goes out at `due`; `timeout` follows it.
    Sending {
        due: Instant,
        timeout: Duration,
        transmissions_left: u8,
    },
    /// An empty ACK came; the response follows by itself (RFC 7252, 5.2.2).
    Acknowledged {
        until: Instant,
    },
}

/// One client's conversation with one server. `N` bounds the request, in bytes.
#[derive(Debug)]
pub struct Exchange<const N: usize> {
    parameters: Parameters,
    state: State,
    request: Vec<u8, N>,
    message_id: u16,
    /// Of the open request, or of the last one.
    token: Option<Vec<u8, 8>>,
    /// ACKs and RSTs to send. One too many is dropped: the peer repeats itself.
    replies: Deque<[u8; 4], 4>,
    reply: [u8; 4],
    accepted: Deque<u16, REMEMBERED_RESPONSES>,
}

impl<const N: usize> Exchange<N> {
    /// A client without an open request. The first message ID should be random (RFC 7252, 4.4).
    pub const fn new(parameters: Parameters, first_message_id: u16) -> Self {
        Exchange {
            parameters,
            state: State::Idle,
            request: Vec::new(),
            message_id: first_message_id.wrapping_sub(1),
            token: None,
            replies: Deque::new(),
            reply: [0; 4],
            accepted: Deque::new(),
        }
    }

    /// Other parameters from the next request on.
    pub const fn set_parameters(&mut self, parameters: Parameters) {
        self.parameters = parameters;
    }

    /// The message ID that the next request must carry.
    pub const fn next_message_id(&self) -> u16 {
        self.message_id.wrapping_add(1)
    }

    /// Whether a request is open.
    pub const fn is_open(&self) -> bool {
        !matches!(self.state, State::Idle)
    }

    /// Opens an exchange with a complete confirmable request, which [`Exchange::poll`] then sends.
    /// Its token should be random (RFC 7252, 5.3.1). `random` spreads the retransmissions.
    pub fn start(&mut self, now: Instant, request: &[u8], random: u32) -> Result<(), StartError> {
        if self.is_open() {
            return Err(StartError::Busy);
        }
        let message = match Message::parse(request) {
            Ok(message) if message.kind() == Type::Confirmable && message.code().is_request() => {
                message
            }
            _ => return Err(StartError::NotAConfirmableRequest),
        };
        if message.message_id() != self.next_message_id() {
            return Err(StartError::MessageIdMismatch);
        }
        if self.token.as_deref() == Some(message.token()) {
            return Err(StartError::TokenReused);
        }
        let copy = Vec::from_slice(request).map_err(|_| StartError::TooLarge)?;
        self.token = Vec::from_slice(message.token()).ok();
        self.message_id = message.message_id();
        self.request = copy;
        self.state = State::Sending {
            due: now,
            timeout: self.parameters.initial_timeout(random),
            transmissions_left: self.parameters.max_retransmit.saturating_add(1),
        };
        Ok(())
    }

    /// Says what to do at `now`. Poll until it says [`Output::Wait`], [`Output::TimedOut`] or
    /// [`Output::Idle`].
    pub fn poll(&mut self, now: Instant) -> Output<'_> {
        if let Some(reply) = self.replies.pop_front() {
            self.reply = reply;
            return Output::Transmit(&self.reply);
        }
        match &mut self.state {
            State::Idle => Output::Idle,
            State::Sending { due: until, .. } | State::Acknowledged { until } if now < *until => {
                Output::Wait(*until)
            }
            State::Sending {
                due,
                timeout,
                transmissions_left: left @ 1..,
            } => {
                *left -= 1;
                *due = now + *timeout;
                *timeout = timeout.saturating_mul(2);
                Output::Transmit(&self.request)
            }
            State::Sending { .. } | State::Acknowledged { .. } => {
                self.state = State::Idle;
                Output::TimedOut
            }
        }
    }

    /// Looks at a datagram from the server. Poll afterwards: it may need an ACK or a RST.
    pub fn receive<'d>(&mut self, now: Instant, datagram: &'d [u8]) -> Received<'d> {
        let Ok(message) = Message::parse(datagram) else {
            self.reply(reject(datagram));
            return Received::Nothing;
        };
        let ours = self.is_open() && message.message_id() == self.message_id;
        if message.code().is_response() {
            // RFC 7252, 5.3.2: the token decides, and for a piggybacked response the message ID too.
            let piggybacked = message.kind() == Type::Acknowledgement;
            if self.is_open()
                && self.token.as_deref() == Some(message.token())
                && (!piggybacked || ours)
            {
                return Received::Response(message);
            }
            if message.kind() == Type::Confirmable
                && self.accepted.iter().any(|&id| id == message.message_id())
            {
                // RFC 7252, 4.2: every copy is acknowledged, whether or not the first ACK arrived.
                self.acknowledge(message.message_id());
            } else {
                self.reply(reject(datagram));
            }
            return Received::Nothing;
        }
        match message.kind() {
            Type::Acknowledgement if ours && matches!(self.state, State::Sending { .. }) => {
                self.state = State::Acknowledged {
                    until: now + self.parameters.response_timeout,
                };
            }
            Type::Reset if ours => {
                self.state = State::Idle;
                return Received::Reset;
            }
            // A request to us, who serve nothing; or a ping, which a RST answers (RFC 7252, 4.3).
            _ => self.reply(reject(datagram)),
        }
        Received::Nothing
    }

    /// Ends the exchange with a response that [`Exchange::receive`] proposed and that the caller
    /// found genuine; acknowledges it if it asks for that.
    pub fn accept(&mut self, response: &Message<'_>) {
        if !self.is_open() || self.token.as_deref() != Some(response.token()) {
            return;
        }
        self.state = State::Idle;
        if response.kind() == Type::Confirmable {
            self.acknowledge(response.message_id());
            if self.accepted.is_full() {
                self.accepted.pop_front();
            }
            // There is room: an entry was just dropped if it was full.
            let _ = self.accepted.push_back(response.message_id());
        }
    }

    /// Gives up on the open request, if any. An answer that still comes is rejected.
    pub fn cancel(&mut self) {
        self.state = State::Idle;
    }

    fn acknowledge(&mut self, message_id: u16) {
        self.reply(Some(empty(Type::Acknowledgement, message_id)));
    }

    fn reply(&mut self, reply: Option<[u8; 4]>) {
        if let Some(reply) = reply {
            let _ = self.replies.push_back(reply);
        }
    }
}
