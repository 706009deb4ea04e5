//! A client and a server on a link that loses, repeats, delays and reorders: each request is
//! handled once, and the client sees its own answer or a timeout.
#![allow(clippy::unwrap_used, missing_docs)]

mod link;

use std::collections::HashMap;
use std::time::Duration;

use mote_schemas::coap::{
    Code, Dedup, Exchange, Message, Output, Parameters, Received, Seen, Type, Writer, empty,
};
use mote_schemas::time::Instant;

use link::{Link, Random, To};

const REQUESTS: u32 = 12;

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
    let mut link = Link::new(random, loss);
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
        let arrival = link.next_arrival();
        let Some(next) = wait.into_iter().chain(arrival).min() else {
            break;
        };
        now = now.max(next);
        if arrival != Some(next) {
            continue;
        }
        let (to, datagram) = link.receive().unwrap();
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
