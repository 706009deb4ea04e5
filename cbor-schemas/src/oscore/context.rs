//! The security context that two peers share (RFC 8613, 3).

use core::fmt;

use heapless::Vec;
use zeroize::Zeroize;

use super::ProtectError;
use super::class::{self, Class};
use super::compression::OscoreOption;
use super::crypto::{self, Aad, KEY, Kdf, NONCE};
use super::window::ReplayWindow;
use crate::coap::{Body, Code, Message, WriteError, Writer, option};
use crate::limits::{MAX_ID_CONTEXT, MAX_KID};

/// Sender ID, Recipient ID or kid: 0 to 7 bytes.
pub type Id = Vec<u8, MAX_KID>;

/// Highest sequence number (RFC 8613, 7.2.1).
pub const MAX_SEQUENCE: u64 = (1 << 40) - 1;

/// Why no context was derived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeriveError {
    /// An ID longer than the nonce has room for: 7 bytes (RFC 8613, 3.3).
    IdTooLong,
    /// ID Context longer than [`MAX_ID_CONTEXT`].
    IdContextTooLong,
    /// Both IDs are equal, so both sides would use the same nonces with the same key.
    IdsNotUnique,
}

/// The sequence number lies below one that may have been used: nonces would repeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SequenceReused;

/// One side's security context. What to keep across a restart: what it was derived from, and a
/// bound on [`sender_sequence`](Context::sender_sequence). Keys are wiped when it is dropped.
#[expect(
    clippy::struct_field_names,
    reason = "ID Context is its name in RFC 8613"
)]
pub struct Context {
    pub(super) sender_id: Id,
    pub(super) recipient_id: Id,
    pub(super) id_context: Option<Vec<u8, MAX_ID_CONTEXT>>,
    pub(super) sender_key: [u8; KEY],
    pub(super) recipient_key: [u8; KEY],
    pub(super) common_iv: [u8; NONCE],
    pub(super) window: ReplayWindow,
    sender_sequence: u64,
}

impl Context {
    /// Derives both keys and the Common IV (RFC 8613, 3.2). An absent Master Salt is the empty
    /// one. The sequence number starts at 0 and the replay window is fresh, which is right only if
    /// these inputs have never been used before.
    pub fn derive(
        master_secret: &[u8],
        master_salt: &[u8],
        id_context: Option<&[u8]>,
        sender_id: &[u8],
        recipient_id: &[u8],
    ) -> Result<Context, DeriveError> {
        if sender_id == recipient_id {
            return Err(DeriveError::IdsNotUnique);
        }
        let id = |bytes| Vec::from_slice(bytes).map_err(|_| DeriveError::IdTooLong);
        let mut context = Context {
            sender_id: id(sender_id)?,
            recipient_id: id(recipient_id)?,
            id_context: id_context
                .map(Vec::from_slice)
                .transpose()
                .map_err(|_| DeriveError::IdContextTooLong)?,
            sender_key: [0; KEY],
            recipient_key: [0; KEY],
            common_iv: [0; NONCE],
            window: ReplayWindow::fresh(),
            sender_sequence: 0,
        };
        let kdf = Kdf::new(master_secret, master_salt);
        kdf.key(sender_id, id_context, &mut context.sender_key);
        kdf.key(recipient_id, id_context, &mut context.recipient_key);
        kdf.common_iv(id_context, &mut context.common_iv);
        Ok(context)
    }

    /// Our Sender ID: the kid of our requests.
    pub fn sender_id(&self) -> &[u8] {
        &self.sender_id
    }

    /// The peer's Sender ID.
    pub fn recipient_id(&self) -> &[u8] {
        &self.recipient_id
    }

    /// ID Context, if there is one.
    pub fn id_context(&self) -> Option<&[u8]> {
        self.id_context.as_deref()
    }

    /// The next sequence number to be used; `MAX_SEQUENCE + 1` if there is none left.
    pub const fn sender_sequence(&self) -> u64 {
        self.sender_sequence
    }

    /// Skips to a sequence number: after a restart, to one that was stored ahead of use
    /// (RFC 8613, B.1.1). It never goes back.
    pub fn set_sender_sequence(&mut self, next: u64) -> Result<(), SequenceReused> {
        if next < self.sender_sequence {
            return Err(SequenceReused);
        }
        self.sender_sequence = next;
        Ok(())
    }

    /// The sequence numbers received from the peer.
    pub const fn replay_window(&self) -> &ReplayWindow {
        &self.window
    }

    /// Replaces the replay window by a stored one, or by a lost one when the context has been
    /// derived again after a restart.
    pub fn set_replay_window(&mut self, window: ReplayWindow) {
        self.window = window;
    }

    pub(super) fn next_sequence(&self) -> Result<u64, ProtectError> {
        if self.sender_sequence > MAX_SEQUENCE {
            return Err(ProtectError::SequenceExhausted);
        }
        Ok(self.sender_sequence)
    }

    /// Writes the protected form of `message` (RFC 8613, 8.1 and 8.3).
    ///
    /// The partial IV in `header`, if any, is our next sequence number. It is used up just before
    /// the AEAD sees it, so that no later error can make it be used twice.
    pub(super) fn seal(
        &mut self,
        message: &Message<'_>,
        outer_code: Code,
        header: &OscoreOption<'_>,
        nonce: &[u8; NONCE],
        aad: &Aad,
        out: &mut [u8],
    ) -> Result<usize, ProtectError> {
        if let Some(refused) = message
            .options()
            .find(|option| class::of(option.number) == Class::Refused)
        {
            return Err(ProtectError::UnsupportedOption(refused.number));
        }
        let outer = || {
            message
                .options()
                .filter(|option| class::of(option.number) == Class::U)
        };
        let mut writer = Writer::new(
            out,
            message.kind(),
            outer_code,
            message.message_id(),
            message.token(),
        )?;
        for option in outer().filter(|option| option.number < option::OSCORE) {
            writer = writer.option(option.number, option.value)?;
        }
        writer = writer.option(option::OSCORE, &header.encode())?;
        for option in outer().filter(|option| option.number > option::OSCORE) {
            writer = writer.option(option.number, option.value)?;
        }
        writer.payload_with(|buffer| {
            let length = write_plaintext(message.body(), buffer)?;
            if buffer.len() - length < crypto::TAG {
                return Err(WriteError::BufferTooSmall.into());
            }
            if let Some(sequence) = header.partial_iv {
                self.sender_sequence = sequence + 1;
            }
            crypto::seal(&self.sender_key, nonce, aad, buffer, length)
                .ok_or(ProtectError::Write(WriteError::BufferTooSmall))
        })
    }
}

/// RFC 8613, 5.3: code, class E options and payload.
pub(super) fn write_plaintext(body: Body<'_>, buffer: &mut [u8]) -> Result<usize, WriteError> {
    let mut inner = Writer::body(buffer, body.code())?;
    for option in body
        .options()
        .filter(|option| class::of(option.number) == Class::E)
    {
        inner = inner.option(option.number, option.value)?;
    }
    inner.payload(body.payload())
}

impl Drop for Context {
    fn drop(&mut self) {
        self.sender_key.zeroize();
        self.recipient_key.zeroize();
        self.common_iv.zeroize();
    }
}

impl fmt::Debug for Context {
    /// Without keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("sender_id", &self.sender_id)
            .field("recipient_id", &self.recipient_id)
            .field("id_context", &self.id_context)
            .field("sender_sequence", &self.sender_sequence)
            .field("window", &self.window)
            .finish_non_exhaustive()
    }
}
