//! Agent and verifier with nothing between them but a count of the bytes: one device's session in
//! conversation with the [`Far`] end, in its time. That is a [`Lab`] (CoAP messages as they would stand
//! in datagrams), or a verifier's process behind TLS ([`crate::tls_wire`]).

use std::net::SocketAddr;

use heapless::Vec as Bounded;
use mote_agent::measurement_log::MeasurementLog;
use mote_agent::session::{Device, Event, Output, Pacing, Session, Settings};
use mote_agent::tpm::PcrSelection;
use mote_agent::verifier_key::VerifierKey;
use mote_schemas::coap::Parameters;
use mote_schemas::limits::{DEFAULT_DATAGRAM, MAX_MESSAGE, MAX_PCR_BANKS};
use mote_schemas::message::Tier;
use mote_schemas::time::Instant;
use mote_schemas::tpm::Public;
use mote_verifier::admission::{AdmissionRules, EkId};

use crate::lab::Lab;
use crate::simkernel::ima::Record;
use crate::soft_device::{SoftDevice, digest_of};
use crate::soft_tpm::SoftTpm;

/// What can go wrong is for a test to print.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// The verifier, and the way to it.
pub trait Far {
    /// The key that the agent pins.
    fn verifier_key(&self) -> Result<VerifierKey>;

    /// Milliseconds on its clock.
    fn clock(&self) -> u64;

    /// Lets time pass.
    fn pass(&mut self, milliseconds: u64);

    /// A new agent at this address: nothing is left of a connection that another one had.
    fn hang_up(&mut self, _peer: SocketAddr) {}

    /// Takes a request there and the answer back, and says what passed on the way.
    fn exchange(&mut self, peer: SocketAddr, request: &[u8]) -> Result<Exchanged>;
}

/// The rules of a verifier that admits these devices' endorsement keys.
///
/// # Panics
/// If a soft TPM has made no key.
pub fn admitting(wires: &[&Wire]) -> AdmissionRules {
    let mut rules = AdmissionRules::default();
    for wire in wires {
        let ek = Public::parse(wire.device.tpm.ek_public()).expect("an endorsement key");
        rules.allow(EkId::of(&ek));
    }
    rules
}

/// What came of a request.
#[derive(Clone, Debug, Default)]
pub struct Exchanged {
    /// Bytes that passed to the verifier.
    pub up: usize,
    /// Bytes that passed to the device.
    pub down: usize,
    /// The answer, as a datagram.
    pub reply: Option<Vec<u8>>,
}

impl Far for Lab {
    fn verifier_key(&self) -> Result<VerifierKey> {
        let key = VerifierKey::from_bytes(self.key().public_key().point());
        Ok(key.map_err(|error| format!("{error:?}"))?)
    }

    fn clock(&self) -> u64 {
        self.now
    }

    fn pass(&mut self, milliseconds: u64) {
        self.now += milliseconds;
    }

    fn exchange(&mut self, peer: SocketAddr, request: &[u8]) -> Result<Exchanged> {
        let reply = self.handle(peer, request);
        Ok(Exchanged {
            up: request.len(),
            down: reply.as_ref().map_or(0, Vec::len),
            reply,
        })
    }
}

/// sha256:0-10.
const PCRS: PcrSelection = PcrSelection {
    bank: 0x000b,
    mask: 0x7ff,
};

/// Bytes and messages, up (to the verifier) and down.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    /// Bytes up.
    pub up: usize,
    /// Bytes down.
    pub down: usize,
    /// Requests made, lost ones included.
    pub requests: usize,
    /// Bytes of the last request.
    pub last_up: usize,
    /// Bytes of the largest message either way.
    pub largest: usize,
}

impl Cost {
    /// Both ways.
    #[expect(
        clippy::cast_precision_loss,
        reason = "byte counts of one conversation"
    )]
    pub fn total(&self) -> f64 {
        (self.up + self.down) as f64
    }
}

/// One device in conversation with the verifier.
pub struct Wire {
    /// The device.
    pub device: SoftDevice,
    /// The list that the agent reads, if it is another than the device's own.
    pub log: Option<Box<dyn MeasurementLog>>,
    /// Largest datagram to fill.
    pub datagram: usize,
    /// Requests to lose on their way, by their number since the last verdict.
    pub lose: Option<usize>,
    /// Requests after which this side stops in the middle.
    pub stop_after: Option<usize>,
    /// The last verdict.
    pub tier: Tier,
    /// Records that the verifier has.
    pub records: u64,
    /// What is quoted.
    pub selection: Bounded<PcrSelection, MAX_PCR_BANKS>,
    session: Option<Session>,
    peer: SocketAddr,
    seed: u8,
    /// Random bytes drawn so far, in pieces of eight.
    counter: u64,
}

impl Wire {
    /// A new device, switched on; `seed` makes its keys and its address.
    pub fn new(seed: u8) -> Self {
        Self::with_tpm(SoftTpm::new(u64::from(seed)), seed)
    }

    /// The same, with this TPM.
    pub fn with_tpm(tpm: SoftTpm, seed: u8) -> Self {
        Wire {
            device: SoftDevice::new(tpm),
            selection: Bounded::from_iter([PCRS]),
            log: None,
            datagram: DEFAULT_DATAGRAM,
            lose: None,
            stop_after: None,
            session: None,
            peer: SocketAddr::from(([192, 0, 2, seed], 5683)),
            seed,
            counter: 0,
            tier: Tier::None,
            records: 0,
        }
    }

    /// Power on to the next verdict, or an interval later: what it costs until the verifier has
    /// appraised everything.
    pub fn until_appraised(&mut self, far: &mut impl Far) -> Result<Cost> {
        let mut cost = Cost::default();
        let (seed, counter) = (self.seed, &mut self.counter);
        let mut random = |out: &mut [u8]| {
            for chunk in out.chunks_mut(8) {
                *counter += 1;
                chunk.copy_from_slice(&digest_of(&format!("{seed} {counter}"))[..chunk.len()]);
            }
        };
        let mut buffer = [0; MAX_MESSAGE];
        for _ in 0..100_000 {
            if self.stop_after == Some(cost.requests) {
                return Err("stopped".into());
            }
            let mut device = Device {
                tpm: &mut self.device.tpm,
                log: match &mut self.log {
                    Some(log) => log.as_mut(),
                    None => &mut self.device.list,
                },
                boot_log: &mut self.device.boot_log,
                random: &mut random,
            };
            let now = Instant(far.clock());
            let session = match &mut self.session {
                Some(session) => session,
                none => {
                    far.hang_up(self.peer);
                    let settings = settings(far.verifier_key()?, self.datagram, &self.selection);
                    none.insert(Session::new(settings, now, &mut device))
                }
            };
            match session.poll(now, &mut device, &mut buffer) {
                Output::Transmit(len) => {
                    cost.requests += 1;
                    if self.lose.take_if(|lost| *lost == cost.requests).is_some() {
                        cost.up += len;
                        continue;
                    }
                    let Exchanged { up, down, reply } = far.exchange(self.peer, &buffer[..len])?;
                    cost.up += up;
                    cost.last_up = up;
                    cost.largest = cost.largest.max(len);
                    cost.down += down;
                    if let Some(reply) = reply {
                        cost.largest = cost.largest.max(reply.len());
                        session.receive(now, &reply, &mut device);
                    }
                }
                Output::Event(Event::Appraised { tier, records, .. }) => {
                    (self.tier, self.records) = (tier, records);
                    return Ok(cost);
                }
                Output::Event(Event::SessionOpened { .. }) => {}
                Output::Event(other) => return Err(format!("{other:?}").into()),
                Output::Wait(until) => {
                    let ahead = until.0.saturating_sub(now.0).max(1);
                    far.pass(ahead);
                    self.device.tpm.advance(ahead);
                }
            }
        }
        Err("the session comes to no end".into())
    }

    /// Ends the agent's process; the next conversation begins with another.
    pub fn restart(&mut self) {
        self.session = None;
    }

    /// Boots, measures `list`, and attests until all of it is trusted.
    pub fn boot(&mut self, far: &mut impl Far, list: &[Record]) -> Result<Cost> {
        if self.session.take().is_some() {
            self.device.reboot();
        }
        for record in list {
            self.device.measure(record.clone());
        }
        let cost = self.until_appraised(far)?;
        let wanted = (Tier::Affirming, self.device.list.0.len() as u64);
        if (self.tier, self.records) == wanted {
            Ok(cost)
        } else {
            Err(format!("{:?} after {} records", self.tier, self.records).into())
        }
    }
}

fn settings(
    verifier_key: VerifierKey,
    datagram: usize,
    selection: &Bounded<PcrSelection, MAX_PCR_BANKS>,
) -> Settings {
    Settings {
        verifier_key,
        selection: selection.clone(),
        datagram,
        pacing: Pacing::default(),
        transmission: Parameters::default(),
    }
}
