//! A client and a server on a link that loses, repeats, delays and reorders: each request is
//! handled once, and the client sees its own answer or a timeout.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use mote_schemas::coap::{
    Code, Dedup, Exchange, Message, Output, Parameters, Received, Seen, Type, Writer, empty,
};
use mote_schemas::time::Instant;

const REQUESTS: u32 = 12;

/// SplitMix64: the whole run follows from its seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn percent(&mut self, chance: u64) -> bool {
        self.next() % 100 < chance
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum To {
    Client,
    Server,
}

/// Datagrams in flight, by time of arrival.
struct Link {
    random: Random,
    loss: u64,
    flight: BTreeMap<(Instant, u64), (To, Vec<u8>)>,
}

impl Link {
    fn send(&mut self, now: Instant, to: To, datagram: &[u8]) {
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

/// Answers at once, or acknowledges and answers later. Resends a separate response blindly.
struct Server {
    seen: Dedup<(), Vec<u8>, 64>,
    handled: HashMap<Vec<u8>, u32>,
    message_id: u16,
}

impl Server {
    fn receive(&mut self, now: Instant, datagram: &[u8], link: &mut Link) {
        let request = Message::parse(datagram).unwrap();
        if !request.code().is_request() {
            return;
        }
        match self
            .seen
            .check(now, &(), request.message_id(), request.kind())
        {
            Seen::Replied(reply) => return link.send(now, To::Client, reply),
            Seen::Pending => return,
            Seen::New => {}
        }
        *self.handled.entry(request.payload().to_vec()).or_default() += 1;
        let answer = |kind, id| {
            let mut buffer = [0; 64];
            let length = Writer::new(&mut buffer, kind, Code::CONTENT, id, request.token())
                .and_then(|writer| writer.payload(request.payload()))
                .unwrap();
            buffer[..length].to_vec()
        };
        let reply = if link.random.percent(50) {
            answer(Type::Acknowledgement, request.message_id())
        } else {
            self.message_id = self.message_id.wrapping_add(1);
            let separate = answer(Type::Confirmable, self.message_id);
            for after in [1, 4, 10, 22] {
                link.send(now + Duration::from_secs(after), To::Client, &separate);
            }
            empty(Type::Acknowledgement, request.message_id()).to_vec()
        };
        link.send(now, To::Client, &reply);
        self.seen.reply(&(), request.message_id(), reply).unwrap();
    }
}

/// Returns how many requests were answered.
fn run(seed: u64) -> u32 {
    let mut random = Random(seed);
    let loss = random.next() % 70;
    let mut link = Link {
        random,
        loss,
        flight: BTreeMap::new(),
    };
    let mut server = Server {
        seen: Dedup::new(&Parameters::default()),
        handled: HashMap::new(),
        message_id: 0,
    };
    let mut client = Exchange::<64>::new(Parameters::default(), 0xfffa);
    let (mut now, mut current, mut answered) = (Instant(0), 0_u32, 0);
    loop {
        let wait = match client.poll(now) {
            Output::Transmit(bytes) => {
                let bytes = bytes.to_vec();
                link.send(now, To::Server, &bytes);
                continue;
            }
            Output::TimedOut => continue,
            Output::Wait(until) => Some(until),
            Output::Idle if current < REQUESTS => {
                current += 1;
                let mut buffer = [0; 64];
                let (id, token) = (client.next_message_id(), link.random.next().to_le_bytes());
                let length = Writer::new(&mut buffer, Type::Confirmable, Code::POST, id, &token)
                    .and_then(|writer| writer.payload(&current.to_le_bytes()))
                    .unwrap();
                let spread = link.random.next() as u32;
                client.start(now, &buffer[..length], spread).unwrap();
                continue;
            }
            Output::Idle => None,
        };
        let arrival = link.flight.keys().next().map(|(at, _)| *at);
        let Some(next) = wait.into_iter().chain(arrival).min() else {
            break;
        };
        now = now.max(next);
        if arrival != Some(next) {
            continue;
        }
        let (_, (to, datagram)) = link.flight.pop_first().unwrap();
        if to == To::Server {
            server.receive(now, &datagram, &mut link);
        } else if let Received::Response(response) = client.receive(now, &datagram) {
            assert_eq!(
                response.payload(),
                current.to_le_bytes(),
                "seed {seed}: not its answer"
            );
            client.accept(&response);
            answered += 1;
        }
    }
    for (request, times) in &server.handled {
        assert_eq!(
            *times, 1,
            "seed {seed}: request {request:?} handled {times} times"
        );
    }
    assert!(answered <= server.handled.len() as u32, "seed {seed}");
    if loss == 0 {
        assert_eq!(
            answered, REQUESTS,
            "seed {seed}: nothing is lost, yet not all answered"
        );
    }
    answered
}

#[test]
fn each_request_is_handled_once_and_sees_its_own_answer_or_a_timeout() {
    let answered: u32 = (0..2000).map(run).sum();
    // The worst links lose 69 % each way, and still most requests get through.
    let share = f64::from(answered) / f64::from(2000 * REQUESTS);
    assert!(share > 0.9, "answered {share}");
}
