//! The agent's session in a test's hands: a soft device, a clock that the test turns, and every
//! datagram on its way shown before it arrives.

use std::net::SocketAddr;
use std::time::Duration;

use mote_agent::session::{Device, Event, Output, Pacing, Session, Settings};
use mote_agent::verifier_key::VerifierKey;
use mote_schemas::coap::Parameters;
use mote_schemas::limits::MAX_MESSAGE;
use mote_schemas::time::Instant;

use crate::evil::SELECTION;
use crate::lab::Lab;
use crate::soft_device::SoftDevice;
use crate::soft_tpm::SoftTpm;

/// What a session did until it had to wait.
#[derive(Debug)]
pub struct Done {
    /// Datagrams that it sent.
    pub sent: Vec<Vec<u8>>,
    /// What it told its owner.
    pub events: Vec<Event>,
    /// When it wants to be asked again, in milliseconds.
    pub until: u64,
}

/// An agent.
pub struct Attester {
    session: Session,
    /// Its TPM and list.
    pub device: SoftDevice,
    /// Its address.
    pub peer: SocketAddr,
    /// Its clock, in milliseconds.
    pub now: u64,
    drawn: u64,
}

impl std::fmt::Debug for Attester {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Attester")
            .field("session", &self.session)
            .field("now", &self.now)
            .finish_non_exhaustive()
    }
}

/// Patience of every attester: no jitter, back-off from 4 to 64 seconds.
pub const PACING: Pacing = Pacing {
    start_jitter: Duration::ZERO,
    jitter_percent: 0,
    backoff_first: Duration::from_secs(4),
    backoff_max: Duration::from_secs(64),
};

impl Attester {
    /// A device that has just booted and trusts this lab's verifier.
    ///
    /// # Panics
    /// When the lab's key is gone.
    pub fn new(lab: &Lab, seed: u16) -> Self {
        let key = VerifierKey::from_bytes(lab.key().public_key().point());
        Self::pinned_to(key.unwrap_or_else(|error| panic!("{error}")), lab.now, seed)
    }

    /// A device that trusts the verifier with this key.
    pub fn pinned_to(verifier_key: VerifierKey, now: u64, seed: u16) -> Self {
        let mut soft = SoftDevice::new(SoftTpm::new(seed.into()));
        let mut drawn = u64::from(seed) << 32;
        let settings = Settings {
            verifier_key,
            selection: SELECTION.iter().copied().collect(),
            datagram: 1024,
            pacing: PACING,
            transmission: Parameters::default(),
        };
        let session = with(&mut soft, &mut drawn, |device| {
            Session::new(settings, Instant(now), device)
        });
        Self {
            session,
            device: soft,
            peer: SocketAddr::from(([192, 0, 2, 9], seed)),
            now,
            drawn,
        }
    }

    /// Lets the session work until it waits.
    pub fn poll(&mut self) -> Done {
        let mut done = Done {
            sent: Vec::new(),
            events: Vec::new(),
            until: self.now,
        };
        let mut buffer = [0; MAX_MESSAGE];
        loop {
            let (session, now) = (&mut self.session, Instant(self.now));
            let output = with(&mut self.device, &mut self.drawn, |device| {
                session.poll(now, device, &mut buffer)
            });
            match output {
                Output::Transmit(length) => done.sent.push(buffer[..length].to_vec()),
                Output::Event(event) => done.events.push(event),
                Output::Wait(until) => {
                    done.until = until.0;
                    return done;
                }
            }
        }
    }

    /// Hands it a datagram.
    pub fn receive(&mut self, datagram: &[u8]) {
        let (session, now) = (&mut self.session, Instant(self.now));
        with(&mut self.device, &mut self.drawn, |device| {
            session.receive(now, datagram, device);
        });
    }

    /// Talks to the engine, honestly, until neither has more to say at this moment; what happened.
    pub fn talk(&mut self, lab: &mut Lab) -> Vec<Event> {
        let mut events = Vec::new();
        loop {
            let done = self.poll();
            events.extend(done.events);
            if done.sent.is_empty() {
                return events;
            }
            for datagram in done.sent {
                if let Some(reply) = lab.handle(self.peer, &datagram) {
                    self.receive(&reply);
                }
            }
        }
    }

    /// Lets time pass on both sides until the session wants to go on.
    pub fn sleep(&mut self, lab: &mut Lab) {
        let until = self.poll().until;
        self.device.tpm.advance(until - self.now);
        lab.now += until - self.now;
        self.now = until;
    }
}

/// The session borrows the device for each call. Randomness is a counter, spread.
fn with<R>(soft: &mut SoftDevice, drawn: &mut u64, call: impl FnOnce(&mut Device<'_>) -> R) -> R {
    let mut random = |out: &mut [u8]| {
        for byte in out {
            *drawn = drawn
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            *byte = (*drawn >> 56) as u8;
        }
    };
    call(&mut Device {
        tpm: &mut soft.tpm,
        log: &mut soft.list,
        boot_log: &mut soft.boot_log,
        random: &mut random,
    })
}
