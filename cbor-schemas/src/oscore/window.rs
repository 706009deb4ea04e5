//! Which sequence numbers of the peer have been received (RFC 8613, 3.2.2 and 7.4).

/// Numbers remembered below the highest.
const WIDTH: u64 = 64;

/// Sliding window over the peer's sequence numbers.
///
/// A server that restarts without it must not guess: the window is [`lost`](ReplayWindow::lost)
/// until a request proves that it is not a replay (RFC 8613, B.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplayWindow(Option<Received>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Received {
    /// One above the highest number received.
    next: u64,
    /// Bit i: `next - 1 - i` has been received.
    seen: u64,
}

impl ReplayWindow {
    /// The window of a context that has never been used: everything is new.
    pub const fn fresh() -> Self {
        ReplayWindow(Some(Received { next: 0, seen: 0 }))
    }

    /// The window of a context whose past is unknown: nothing can be called new.
    pub const fn lost() -> Self {
        ReplayWindow(None)
    }

    /// A window that a caller had stored: one above the highest number received, and the bit map
    /// of those below, as [`stored`](ReplayWindow::stored) gave them.
    pub const fn restore(next: u64, seen: u64) -> Self {
        ReplayWindow(Some(Received { next, seen }))
    }

    /// What [`restore`](ReplayWindow::restore) takes; `None` if the window is lost.
    pub const fn stored(&self) -> Option<(u64, u64)> {
        match self.0 {
            Some(Received { next, seen }) => Some((next, seen)),
            None => None,
        }
    }

    /// Whether the window is lost.
    pub const fn is_lost(&self) -> bool {
        self.0.is_none()
    }

    /// Whether a number has certainly not been received before. Changes nothing, since whoever
    /// claims the number has not been authenticated yet.
    pub const fn is_new(&self, sequence: u64) -> bool {
        match self.0 {
            None => false,
            Some(Received { next, .. }) if sequence >= next => true,
            Some(Received { next, seen }) => {
                let age = next - 1 - sequence;
                age < WIDTH && seen >> age & 1 == 0
            }
        }
    }

    /// Records the number of a message that has been authenticated.
    pub(super) fn commit(&mut self, sequence: u64) {
        let Some(Received { next, seen }) = &mut self.0 else {
            return;
        };
        if sequence >= *next {
            let advance = sequence + 1 - *next;
            *seen = if advance < WIDTH { *seen << advance } else { 0 } | 1;
            *next = sequence + 1;
        } else if *next - 1 - sequence < WIDTH {
            *seen |= 1 << (*next - 1 - sequence);
        }
    }

    /// Starts anew from a number that is known to be fresh: all up to it count as received.
    pub(super) fn synchronise(&mut self, sequence: u64) {
        self.0 = Some(Received {
            next: sequence + 1,
            seen: u64::MAX,
        });
    }
}
