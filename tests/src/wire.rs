//! Agent and engine with nothing between them but a count of the bytes: one device's session in
//! conversation with a [`Lab`], in its time.

use std::net::SocketAddr;

use heapless::Vec as Bounded;
use mote_agent::session::{Device, Event, Output, Pacing, Session, Settings};
use mote_agent::tpm::PcrSelection;
use mote_agent::verifier_key::VerifierKey;
use mote_schemas::coap::Parameters;
use mote_schemas::limits::{DEFAULT_DATAGRAM, MAX_MESSAGE};
use mote_schemas::message::Tier;
use mote_schemas::time::Instant;

use crate::lab::Lab;
use crate::simkernel::ima::Record;
use crate::soft_device::{SoftDevice, digest_of};
use crate::soft_tpm::SoftTpm;

/// What can go wrong is for a test to print.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// PCR 0 to 10.
const PCRS: u32 = 0x7ff;

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
    /// Largest datagram to fill.
    pub datagram: usize,
    /// PCRs of the SHA-256 bank that it quotes: bit n is PCR n.
    pub pcrs: u32,
    /// Requests to lose on their way, by their number since the last verdict.
    pub lose: Option<usize>,
    /// Requests after which this side stops in the middle.
    pub stop_after: Option<usize>,
    /// The last verdict.
    pub tier: Tier,
    /// Records that the verifier has.
    pub records: u64,
    session: Option<Session>,
    peer: SocketAddr,
    seed: u8,
    /// Random bytes drawn so far, in pieces of eight.
    counter: u64,
}

impl Wire {
    /// A new device, switched on; `seed` makes its keys and its address.
    pub fn new(seed: u8) -> Self {
        Wire {
            device: SoftDevice::new(SoftTpm::new(u64::from(seed))),
            datagram: DEFAULT_DATAGRAM,
            pcrs: PCRS,
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
    pub fn until_appraised(&mut self, lab: &mut Lab) -> Result<Cost> {
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
                log: &mut self.device.list,
                boot_log: &mut self.device.boot_log,
                random: &mut random,
            };
            let now = Instant(lab.now);
            let session = match &mut self.session {
                Some(session) => session,
                none => {
                    let settings = settings(lab, self.datagram, self.pcrs)?;
                    none.insert(Session::new(settings, now, &mut device))
                }
            };
            match session.poll(now, &mut device, &mut buffer) {
                Output::Transmit(len) => {
                    cost.up += len;
                    cost.last_up = len;
                    cost.requests += 1;
                    if self.lose.take_if(|lost| *lost == cost.requests).is_some() {
                        continue;
                    }
                    if let Some(reply) = lab.handle(self.peer, &buffer[..len]) {
                        cost.down += reply.len();
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
                    let ahead = until.0.saturating_sub(lab.now).max(1);
                    lab.now += ahead;
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
    pub fn boot(&mut self, lab: &mut Lab, list: &[Record]) -> Result<Cost> {
        if self.session.take().is_some() {
            self.device.reboot();
        }
        for record in list {
            self.device.measure(record.clone());
        }
        let cost = self.until_appraised(lab)?;
        let wanted = (Tier::Affirming, self.device.list.0.len() as u64);
        if (self.tier, self.records) == wanted {
            Ok(cost)
        } else {
            Err(format!("{:?} after {} records", self.tier, self.records).into())
        }
    }
}

fn settings(lab: &Lab, datagram: usize, mask: u32) -> Result<Settings> {
    let selection = PcrSelection { bank: 0x000b, mask };
    let key = VerifierKey::from_bytes(lab.key().public_key().point());
    Ok(Settings {
        verifier_key: key.map_err(|error| format!("{error:?}"))?,
        selection: Bounded::from_slice(&[selection]).map_err(|_| "one bank fits")?,
        datagram,
        pacing: Pacing::default(),
        transmission: Parameters::default(),
    })
}
