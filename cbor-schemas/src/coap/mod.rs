//! CoAP (RFC 7252) as pure functions: bytes and the time come in, bytes and deadlines go out.
//!
//! | module | what | RFC 7252 |
//! |---|---|---|
//! | [`message`] | checked view of a datagram | 3 |
//! | [`writer`] | writing one | 3 |
//! | [`options`] | what each option we understand may look like | 5.4, 5.10 |
//! | [`exchange`] | client: one confirmable request at a time | 4.2, 4.7, 5.2, 5.3 |
//! | [`block`] | what is too large for a datagram, in pieces (RFC 7959, RFC 9175) | |
//! | [`stream`] | CoAP over TCP and TLS (RFC 8323) | |
//! | [`dedup`] | server: process each message once, repeat the same reply | 4.5 |
//!
//! There is no socket and no clock here. A client loops like this:
//!
//! ```
//! use mote_schemas::coap::{Code, Exchange, Output, Parameters, Received, Type, Writer};
//! use mote_schemas::time::Instant;
//!
//! let mut exchange = Exchange::<256>::new(Parameters::default(), 0x1234);
//! let mut buffer = [0; 256];
//! let (id, token) = (exchange.next_message_id(), *b"rand");
//! let writer = Writer::new(&mut buffer, Type::Confirmable, Code::POST, id, &token).unwrap();
//! let length = writer.payload(b"hello").unwrap();
//! exchange.start(Instant(0), &buffer[..length], 7).unwrap();
//!
//! // Drain after every start, receive and deadline: until Wait, Idle or TimedOut.
//! assert!(matches!(exchange.poll(Instant(0)), Output::Transmit(_)));
//! let Output::Wait(_deadline) = exchange.poll(Instant(0)) else { panic!() };
//!
//! let answer = [0x64, 0x44, 0x12, 0x34, b'r', b'a', b'n', b'd'];
//! let Received::Response(response) = exchange.receive(Instant(1), &answer) else { panic!() };
//! assert_eq!(response.code(), Code::CHANGED);
//! exchange.accept(&response); // once it is known to be genuine
//! assert!(matches!(exchange.poll(Instant(1)), Output::Idle));
//! ```

pub mod block;
pub mod dedup;
pub mod exchange;
pub mod message;
pub mod options;
pub mod stream;
pub mod writer;

pub use block::{Assembler, Block, BlockReceiver, BlockSender, BlockSize};
pub use coap_numbers::option;
pub use dedup::{Dedup, Seen};
pub use exchange::{Exchange, Output, Parameters, Received, StartError};
pub use message::{Body, Code, Message, OptionValue, Options, ParseError, Type};
pub use options::OptionSpec;
pub use writer::{WriteError, Writer, empty, reject};
