//! What a bad link does to a datagram: loses, repeats, delays, reorders, drops what is too large.
//!
//! Each direction has its own faults. Faults are drawn anew for each datagram; the sender never hears
//! of them.

use std::time::Duration;

use super::rng::Rng;

/// One direction of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Direction {
    /// Datagrams lost, of 100.
    pub loss: u8,
    /// Datagrams that arrive twice, of 100.
    pub duplicate: u8,
    /// Shortest time under way.
    pub delay: Duration,
    /// On top of it, anything up to this.
    pub jitter: Duration,
    /// Datagrams, of 100, that take [`Direction::detour`] more: later ones overtake them.
    pub reorder: u8,
    /// See [`Direction::reorder`].
    pub detour: Duration,
    /// Largest datagram, in bytes; larger ones vanish.
    pub mtu: usize,
}

impl Direction {
    /// A cable of 5 ms.
    pub const PERFECT: Direction = Direction {
        loss: 0,
        duplicate: 0,
        delay: Duration::from_millis(5),
        jitter: Duration::ZERO,
        reorder: 0,
        detour: Duration::ZERO,
        mtu: usize::MAX,
    };

    /// When the copies of one datagram arrive, counted from when it was sent: none, one or two.
    pub fn deliveries(&self, len: usize, rng: &mut Rng) -> impl Iterator<Item = Duration> + use<> {
        let lost = rng.percent(self.loss) || len > self.mtu;
        let copies = match (lost, rng.percent(self.duplicate)) {
            (true, _) => 0,
            (false, false) => 1,
            (false, true) => 2,
        };
        let mut times = [None; 2];
        for time in times.iter_mut().take(copies) {
            let mut under_way = self.delay + rng.time(self.jitter);
            if rng.percent(self.reorder) {
                under_way += rng.time(self.detour);
            }
            *time = Some(under_way);
        }
        times.into_iter().flatten()
    }
}

/// Both directions, from the agent's point of view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Agent to verifier.
    pub up: Direction,
    /// Verifier to agent.
    pub down: Direction,
}

impl Link {
    /// A cable.
    pub const PERFECT: Link = Link {
        up: Direction::PERFECT,
        down: Direction::PERFECT,
    };

    /// Nothing arrives.
    pub const CUT: Link = Link::lossy(100, Duration::ZERO);

    /// Equal loss each way, and a fixed delay.
    pub const fn lossy(loss: u8, delay: Duration) -> Link {
        let direction = Direction {
            loss,
            delay,
            ..Direction::PERFECT
        };
        Link {
            up: direction,
            down: direction,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_come_as_often_as_asked() {
        let direction = Direction {
            loss: 30,
            duplicate: 50,
            delay: Duration::from_secs(2),
            jitter: Duration::from_secs(1),
            reorder: 10,
            detour: Duration::from_secs(60),
            mtu: 100,
        };
        let mut rng = Rng::new(3);
        let (mut lost, mut twice, mut late) = (0, 0, 0);
        for _ in 0..10_000 {
            let times: Vec<_> = direction.deliveries(100, &mut rng).collect();
            assert!(times.iter().all(|time| *time >= Duration::from_secs(2)));
            lost += u32::from(times.is_empty());
            twice += u32::from(times.len() == 2);
            late += times
                .iter()
                .filter(|t| **t > Duration::from_secs(3))
                .count();
        }
        assert!((2_850..3_150).contains(&lost), "{lost}");
        assert!((3_350..3_650).contains(&twice), "{twice}");
        assert!((900..1_200).contains(&late), "{late}");
        assert_eq!(direction.deliveries(101, &mut rng).count(), 0);
        assert_eq!(Link::CUT.up.deliveries(1, &mut rng).count(), 0);
    }
}
