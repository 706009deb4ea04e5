//! One agent of a run: a [`Session`] on a [`Machine`], and what an onlooker would note of it.

use std::cell::RefCell;
use std::net::{Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use heapless::Vec as Bounded;
use mote_agent::session::{Device, Event, Output, Pacing, Session, Settings};
use mote_agent::tpm::PcrSelection;
use mote_agent::verifier_key::VerifierKey;
use mote_schemas::coap::Parameters;
use mote_schemas::limits::{DEFAULT_DATAGRAM, MAX_MESSAGE};
use mote_schemas::message::{DeviceId, Tier};
use mote_schemas::time::Instant;
use sha2::{Digest, Sha256};

use super::link::Link;
use super::machine::{Firmware, Handle, Machine};
use super::rng::Rng;
use crate::soft_boot::SoftBootLog;

/// How an agent of a run is set up.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Its way to the verifier.
    pub link: Link,
    /// As in its configuration.
    pub pacing: Pacing,
    /// As in its configuration.
    pub transmission: Parameters,
    /// As in its configuration.
    pub datagram: usize,
    /// Bit n: PCR n of the SHA-256 bank is quoted.
    pub pcrs: u32,
    /// Files measured before the agent starts.
    pub files: usize,
    /// Quotes, of 100, during which a file is measured.
    pub race: u8,
    /// What it boots with.
    pub firmware: Firmware,
}

impl Default for Setup {
    fn default() -> Self {
        Setup {
            link: Link::PERFECT,
            pacing: Pacing::default(),
            transmission: Parameters::default(),
            datagram: DEFAULT_DATAGRAM,
            pcrs: 0x7ff,
            files: 20,
            race: 0,
            firmware: Firmware::default(),
        }
    }
}

/// An answer that the agent took to be final for now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appraisal {
    /// When it came.
    pub at: u64,
    /// What it said.
    pub tier: Tier,
    /// Why.
    pub reasons: Vec<String>,
}

/// Bytes and datagrams at the socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Datagrams.
    pub datagrams: u64,
    /// CoAP bytes.
    pub bytes: u64,
    /// The largest datagram.
    pub largest: usize,
}

impl Count {
    pub(super) fn add(&mut self, len: usize) {
        self.datagrams += 1;
        self.bytes += len as u64;
        self.largest = self.largest.max(len);
    }
}

/// One device with its agent.
pub struct Agent {
    /// How it was set up; the link may change.
    pub setup: Setup,
    /// Where the verifier sees it.
    pub address: SocketAddr,
    /// What it said and heard.
    pub appraisals: Vec<Appraisal>,
    /// When it sent something.
    pub sent: Vec<u64>,
    /// When a hello led to keys.
    pub opened: Vec<u64>,
    /// hello exchanges that led to keys.
    pub sessions: u64,
    /// Times it found nobody.
    pub unreachable: Vec<(u64, Duration)>,
    /// Times it was refused.
    pub refused: Vec<(u64, String, Duration)>,
    /// Sent by it.
    pub up: Count,
    /// Delivered to it.
    pub down: Count,
    /// Counts power-ons and polls, so that a wake-up of the past is known as such.
    pub(super) generation: u64,
    machine: Rc<RefCell<Machine>>,
    boot_log: SoftBootLog,
    rng: Rng,
    session: Option<Session>,
    started: u64,
    settings: Settings,
    id: DeviceId,
    index: u16,
    /// When the last request that carries a quote was made.
    quoted_at: u64,
}

/// What an agent does next.
pub(super) enum Step {
    Send(Vec<u8>),
    /// Nothing before this virtual time.
    Sleep(u64),
    /// It goes round in circles.
    Spins,
}

impl Agent {
    /// A device that is off. `index` makes its keys and addresses.
    ///
    /// # Panics
    /// When `point` is no P-256 point, or `setup` selects no PCR.
    pub(super) fn new(index: u16, setup: Setup, point: &[u8; 65], rng: &mut Rng) -> Self {
        let mut selection = Bounded::new();
        let bank = PcrSelection {
            bank: 0x000b,
            mask: setup.pcrs,
        };
        assert!(selection.push(bank).is_ok(), "one bank fits");
        let verifier_key =
            VerifierKey::from_bytes(point).unwrap_or_else(|error| panic!("{error:?}"));
        let mut machine = Machine::new(1 + u64::from(index), rng.fork());
        machine.race = setup.race;
        machine.install(setup.firmware.clone());
        let boot_log = setup.firmware.shown().map(|bytes| SoftBootLog {
            bytes: bytes.to_vec(),
            named: Some(Sha256::digest(bytes).into()),
        });
        Agent {
            address: address(index, 0),
            appraisals: Vec::new(),
            sent: Vec::new(),
            opened: Vec::new(),
            sessions: 0,
            unreachable: Vec::new(),
            refused: Vec::new(),
            up: Count::default(),
            down: Count::default(),
            generation: 0,
            id: DeviceId::of_ek(machine.ek_public()),
            machine: Rc::new(RefCell::new(machine)),
            boot_log: boot_log.unwrap_or_default(),
            rng: rng.fork(),
            session: None,
            started: 0,
            settings: Settings {
                verifier_key,
                selection,
                datagram: setup.datagram,
                pacing: setup.pacing,
                transmission: setup.transmission,
            },
            index,
            quoted_at: 0,
            setup,
        }
    }

    /// As the verifier knows it.
    pub fn id(&self) -> DeviceId {
        self.id
    }

    /// Digest of the boot log that it shows.
    pub fn boot_log(&self) -> Option<[u8; 32]> {
        self.boot_log.named
    }

    /// TPM and kernel.
    pub fn machine(&self) -> std::cell::RefMut<'_, Machine> {
        self.machine.borrow_mut()
    }

    /// Whether the device has power and the agent runs.
    pub fn is_on(&self) -> bool {
        self.session.is_some()
    }

    /// When it last asked its TPM to quote, or 0.
    pub fn quoted_at(&self) -> u64 {
        self.quoted_at
    }

    pub(super) fn power_on(&mut self, now: u64) {
        self.machine.borrow_mut().boot(now, self.setup.files);
        self.start(now);
    }

    /// Starts the process, the machine being on.
    pub(super) fn start(&mut self, now: u64) {
        self.started = now;
        let settings = self.settings.clone();
        let session = self.with_device(|device| Session::new(settings, Instant(0), device));
        self.session = Some(session);
        self.generation += 1;
    }

    /// Ends the process; the machine stays on.
    pub(super) fn stop(&mut self) {
        self.session = None;
        self.generation += 1;
    }

    pub(super) fn power_off(&mut self, lost: u64) {
        self.stop();
        self.machine.borrow_mut().power_cut(lost);
    }

    /// Another address, as behind a NAT whose entry has expired.
    pub(super) fn rebind(&mut self) {
        let before = self.address.port();
        self.address = address(self.index, before.wrapping_add(1));
    }

    fn with_device<T>(&mut self, work: impl FnOnce(&mut Device<'_>) -> T) -> T {
        let handle = || Handle(Rc::clone(&self.machine));
        let (mut tpm, mut log) = (handle(), handle());
        let rng = &mut self.rng;
        work(&mut Device {
            tpm: &mut tpm,
            log: &mut log,
            boot_log: &mut self.boot_log,
            random: &mut |out| rng.fill(out),
        })
    }

    pub(super) fn poll(&mut self, now: u64) -> (Vec<Event>, Step) {
        self.machine.borrow_mut().advance(now);
        let mut events = Vec::new();
        let Some(mut session) = self.session.take() else {
            return (events, Step::Sleep(u64::MAX));
        };
        let local = Instant(now - self.started);
        let quotes = self.machine.borrow().quotes();
        let mut buffer = [0; MAX_MESSAGE];
        let mut step = Step::Spins;
        self.with_device(|device| {
            for _ in 0..100 {
                match session.poll(local, device, &mut buffer) {
                    Output::Transmit(len) => {
                        step = Step::Send(buffer[..len].to_vec());
                        return;
                    }
                    Output::Event(event) => events.push(event),
                    Output::Wait(until) if until > local => {
                        step = Step::Sleep(until.0);
                        return;
                    }
                    // Due at once: poll again.
                    Output::Wait(_) => {}
                }
            }
        });
        if let Step::Sleep(until) = &mut step {
            *until = until.saturating_add(self.started);
        }
        if self.machine.borrow().quotes() > quotes {
            self.quoted_at = now;
        }
        self.session = Some(session);
        (events, step)
    }

    pub(super) fn receive(&mut self, now: u64, datagram: &[u8]) {
        let Some(mut session) = self.session.take() else {
            return;
        };
        self.machine.borrow_mut().advance(now);
        let local = Instant(now - self.started);
        self.with_device(|device| session.receive(local, datagram, device));
        self.session = Some(session);
    }
}

/// Documentation addresses (RFC 3849), one for each device.
fn address(index: u16, port: u16) -> SocketAddr {
    let ip = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, index);
    SocketAddr::new(ip.into(), 40_000u16.max(port))
}
