//! The server's memory of messages it has seen, so that each is processed once and a copy gets the
//! very same reply (RFC 7252, 4.2 and 4.5).
//!
//! Keyed by peer address and message ID, both of which anyone may forge. Memory is bounded: a
//! flood pushes out the oldest entries, whose copies would then be processed again. What must not
//! happen twice has to be protected by more than this (the replay window of OSCORE).

use core::hash::Hash;
use core::time::Duration;

use heapless::Deque;
use heapless::index_map::FnvIndexMap;

use super::exchange::Parameters;
use super::message::Type;
use crate::time::Instant;

/// What is known of a message that has just arrived.
#[derive(Debug, PartialEq, Eq)]
pub enum Seen<'t, R> {
    /// Never seen, and now remembered: process it, then hand its reply to [`Dedup::reply`].
    New,
    /// A copy of one that has no reply (yet): drop it.
    Pending,
    /// A copy of one that has been answered: send these bytes again.
    Replied(&'t R),
}

struct Entry<R> {
    generation: u32,
    expires: Instant,
    reply: Option<R>,
}

/// Table of at most `N` messages (a power of two, at least 2), from peers named by `P`, with
/// replies stored as `R`: a `heapless::Vec` on a device, a `Vec<u8>` or a reference-counted slice
/// elsewhere.
///
/// With a large `N`, keep it behind a `Box`.
pub struct Dedup<P, R, const N: usize> {
    entries: FnvIndexMap<(P, u16), Entry<R>, N>,
    /// Keys in order of arrival, with the generation of the entry that was inserted then.
    arrivals: Deque<((P, u16), u32), N>,
    generation: u32,
    exchange_lifetime: Duration,
    non_lifetime: Duration,
}

impl<P: Clone + Eq + Hash, R, const N: usize> Dedup<P, R, N> {
    /// An empty table. Messages are remembered as long as the slowest client's parameters ask for:
    /// 247 s, or 145 s if non-confirmable, with the defaults.
    pub fn new(slowest: &Parameters) -> Self {
        Dedup {
            exchange_lifetime: slowest.exchange_lifetime(),
            non_lifetime: slowest.non_lifetime(),
            entries: FnvIndexMap::new(),
            arrivals: Deque::new(),
            generation: 0,
        }
    }

    /// Messages remembered, including those that have expired but were not yet swept out.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Looks up a message and remembers it if it is new. `kind` sets how long.
    pub fn check(&mut self, now: Instant, peer: &P, message_id: u16, kind: Type) -> Seen<'_, R> {
        let key = (peer.clone(), message_id);
        let alive = self
            .entries
            .get(&key)
            .is_some_and(|entry| now < entry.expires);
        if alive {
            return match self
                .entries
                .get(&key)
                .and_then(|entry| entry.reply.as_ref())
            {
                Some(reply) => Seen::Replied(reply),
                None => Seen::Pending,
            };
        }
        self.entries.remove(&key);
        while self.arrivals.is_full() || self.oldest_is_dead(now) {
            self.drop_oldest();
        }
        let lifetime = match kind {
            Type::NonConfirmable => self.non_lifetime,
            _ => self.exchange_lifetime,
        };
        self.generation = self.generation.wrapping_add(1);
        let entry = Entry {
            generation: self.generation,
            expires: now + lifetime,
            reply: None,
        };
        // Both have room: `arrivals` was made not full, and holds every key of `entries`.
        let _ = self.arrivals.push_back((key.clone(), self.generation));
        let _ = self.entries.insert(key, entry);
        Seen::New
    }

    /// Stores the reply to a message, for its copies. Gives it back if the message has been
    /// forgotten. May be called again: an ACK first, a later reply instead of it.
    pub fn reply(&mut self, peer: &P, message_id: u16, reply: R) -> Result<(), R> {
        match self.entries.get_mut(&(peer.clone(), message_id)) {
            Some(entry) => {
                entry.reply = Some(reply);
                Ok(())
            }
            None => Err(reply),
        }
    }

    fn oldest_is_dead(&self, now: Instant) -> bool {
        self.arrivals.front().is_some_and(|(key, generation)| {
            self.entries
                .get(key)
                .is_none_or(|entry| entry.generation != *generation || now >= entry.expires)
        })
    }

    fn drop_oldest(&mut self) {
        if let Some((key, generation)) = self.arrivals.pop_front() {
            // The same key may have been remembered anew since.
            if self
                .entries
                .get(&key)
                .is_some_and(|entry| entry.generation == generation)
            {
                self.entries.remove(&key);
            }
        }
    }
}
