//! A link that loses, repeats, delays and reorders, all of it from one seed.

use std::collections::BTreeMap;
use std::time::Duration;

use mote_schemas::time::Instant;

/// SplitMix64: the whole run follows from its seed.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn percent(&mut self, chance: u64) -> bool {
        self.next() % 100 < chance
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum To {
    Client,
    Server,
}

/// Datagrams in flight, by time of arrival.
pub(crate) struct Link {
    pub(crate) random: Random,
    loss: u64,
    flight: BTreeMap<(Instant, u64), (To, Vec<u8>)>,
}

impl Link {
    pub(crate) fn new(random: Random, loss: u64) -> Self {
        Link {
            random,
            loss,
            flight: BTreeMap::new(),
        }
    }

    pub(crate) fn next_arrival(&self) -> Option<Instant> {
        self.flight.keys().next().map(|(at, _)| *at)
    }

    pub(crate) fn receive(&mut self) -> Option<(To, Vec<u8>)> {
        self.flight.pop_first().map(|(_, arrived)| arrived)
    }

    pub(crate) fn send(&mut self, now: Instant, to: To, datagram: &[u8]) {
        let copies = match (self.random.percent(self.loss), self.random.percent(20)) {
            (true, _) => 0,
            (false, true) => 2,
            (false, false) => 1,
        };
        for _ in 0..copies {
            // Mostly quick; now and then so late that later exchanges are long under way.
            let delay = if self.random.percent(5) {
                60_000
            } else {
                3_000
            };
            let at = now + Duration::from_millis(1 + self.random.next() % delay);
            let key = (at, self.random.next());
            self.flight.insert(key, (to, datagram.to_vec()));
        }
    }
}
