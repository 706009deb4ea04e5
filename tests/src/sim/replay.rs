//! Somebody who has listened: datagrams come again later, from elsewhere, as they were or altered.

use std::collections::VecDeque;
use std::net::{Ipv6Addr, SocketAddr};
use std::rc::Rc;

use mote_schemas::coap::{Message, option};

use super::Sim;
use super::rng::Rng;

/// Datagrams that an onlooker remembers of each agent and direction, to send them again later.
const CAPTURED: usize = 16;

#[derive(Default)]
pub(super) struct Captured {
    pub(super) up: VecDeque<Rc<[u8]>>,
    pub(super) down: VecDeque<Rc<[u8]>>,
}

impl Sim {
    pub(super) fn replay_up(&mut self, index: usize) {
        let Some(mut bytes) = pick(&self.captured[index].up, &mut self.rng) else {
            return;
        };
        if !self.verifier.is_up() {
            return;
        }
        let original = bytes.clone();
        if self.rng.percent(50) {
            alter(&mut bytes, &mut self.rng);
        }
        // What OSCORE protects, as it was made, is authentic wherever it comes from and in whatever
        // message, and is answered.
        let protected = protected_part(&original);
        let authentic = protected.is_some() && protected == protected_part(&bytes);
        let ip = Ipv6Addr::new(0x2001, 0xdb8, 0xbad, 0, 0, 0, 0, index as u16);
        let from = SocketAddr::new(ip.into(), 1 + self.rng.below(4) as u16);
        self.note("replayed up", index, bytes.len() as u64);
        let reply = self
            .handle(index, from, &bytes)
            .map_or(0, |reply| reply.len());
        if authentic {
            return;
        }
        let (received, sent) = self.spoofed.entry(from).or_default();
        *received += bytes.len() as u64;
        *sent += reply as u64;
        if sent > received {
            let what = format!("{sent} bytes for {received} to an address that answers nothing");
            self.check(index, Err(what));
        }
    }

    pub(super) fn replay_down(&mut self, index: usize) {
        let Some(mut bytes) = pick(&self.captured[index].down, &mut self.rng) else {
            return;
        };
        if self.rng.percent(50) {
            alter(&mut bytes, &mut self.rng);
        }
        self.note("replayed down", index, bytes.len() as u64);
        let to = self.agents[index].address;
        self.arrive_down(index, to, &bytes);
    }
}

pub(super) fn remember(captured: &mut VecDeque<Rc<[u8]>>, bytes: &Rc<[u8]>) {
    if captured.len() == CAPTURED {
        captured.pop_front();
    }
    captured.push_back(Rc::clone(bytes));
}

fn pick(captured: &VecDeque<Rc<[u8]>>, rng: &mut Rng) -> Option<Vec<u8>> {
    let index = rng.below(captured.len() as u64) as usize;
    captured.get(index).map(|bytes| bytes.to_vec())
}

/// Flips one bit, cuts the end off, or adds some.
fn alter(bytes: &mut Vec<u8>, rng: &mut Rng) {
    let at = rng.below(bytes.len() as u64) as usize;
    match rng.below(4) {
        0 => bytes.truncate(at),
        1 => bytes.extend(std::iter::repeat_n(0xff, 1 + at)),
        _ => bytes[at] ^= 1 << rng.below(8),
    }
}

/// OSCORE option and ciphertext (RFC 8613, 5.4: the AAD has nothing of the message's own header).
fn protected_part(datagram: &[u8]) -> Option<(&[u8], &[u8])> {
    let message = Message::parse(datagram).ok()?;
    let option = message.option(option::OSCORE)?;
    Some((option.value, message.payload()))
}
