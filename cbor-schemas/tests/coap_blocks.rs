//! Block-wise transfer both ways (RFC 7959) on a link that loses, repeats, delays and reorders: what
//! arrives is what was sent, whole, or nothing; and what a stranger can make the server hold.
#![allow(clippy::unwrap_used, missing_docs)]

mod link;

use std::time::Duration;

use mote_schemas::coap::block::{AssembleError, ReceiveError, ReservedBlock, Sent};
use mote_schemas::coap::{
    Assembler, Block, BlockReceiver, BlockSender, BlockSize, Code, Dedup, Exchange, Message,
    OptionValue, Output, Parameters, Received, Seen, Type, Writer, option,
};
use mote_schemas::time::Instant;
use proptest::prelude::*;

use link::{Link, Random, To};

const LARGEST: usize = 600;
const LIFETIME: Duration = Duration::from_secs(247);

/// Puts requests together and answers each with its payload turned round, in blocks.
struct Server {
    seen: Dedup<u8, Vec<u8>, 64>,
    assembler: Assembler<u8, LARGEST, 4>,
    answer: Vec<u8>,
    /// Every request that was whole.
    whole: Vec<Vec<u8>>,
}

impl Server {
    fn receive(&mut self, now: Instant, datagram: &[u8]) -> Option<Vec<u8>> {
        let request = Message::parse(datagram).unwrap();
        let (id, kind) = (request.message_id(), request.kind());
        match self.seen.check(now, &0, id, kind) {
            Seen::Replied(reply) => return Some(reply.clone()),
            Seen::Pending => return None,
            Seen::New => {}
        }
        let body = request.body();
        let block1 = Block::of(&body, option::BLOCK1).unwrap();
        let block2 = Block::of(&body, option::BLOCK2).unwrap();
        let tag = body
            .option(option::REQUEST_TAG)
            .map_or(&[][..], |o| o.value);
        let code = match block1 {
            Some(block) => match self.assembler.receive(now, &0, tag, block, body.payload()) {
                Ok(None) => Code::CONTINUE,
                Ok(Some(whole)) => {
                    self.answer = whole.iter().rev().copied().collect();
                    self.whole.push(whole.to_vec());
                    Code::CHANGED
                }
                Err(error) => error.code(),
            },
            None => Code::CHANGED,
        };
        let mut buffer = [0; 256];
        let mut writer = Writer::new(
            &mut buffer,
            Type::Acknowledgement,
            code,
            id,
            request.token(),
        )
        .unwrap();
        let mut payload = &[][..];
        if code == Code::CHANGED {
            let asked = block2.unwrap();
            let at = Block::at(asked.offset(), self.answer.len(), asked.size).unwrap();
            let end = self.answer.len().min(at.offset() + at.size.bytes());
            payload = &self.answer[at.offset().min(end)..end];
            writer = writer.option_uint(option::BLOCK2, at.encode()).unwrap();
        }
        if let Some(block) = block1 {
            writer = writer.option_uint(option::BLOCK1, block.encode()).unwrap();
        }
        let length = writer.payload(payload).unwrap();
        let reply = buffer[..length].to_vec();
        self.seen.reply(&0, id, reply.clone()).unwrap();
        Some(reply)
    }
}

/// One client's transfer of `body`; its answer, if it came through.
fn run(seed: u64, size: BlockSize, body: &[u8]) -> Option<Vec<u8>> {
    let mut random = Random(seed);
    let loss = random.next() % 45;
    let mut link = Link::new(random, loss);
    let mut server = Server {
        seen: Dedup::new(&Parameters::default()),
        assembler: Assembler::new(LIFETIME),
        answer: Vec::new(),
        whole: Vec::new(),
    };
    let mut client = Exchange::<256>::new(Parameters::default(), 9);
    let mut sender = BlockSender::new(body.len(), size);
    let mut receiver = BlockReceiver::<LARGEST>::new();
    let mut tag = 1_u8;
    let mut ask: Option<Block> = None;
    let mut now = Instant(0);
    loop {
        let wait = match client.poll(now) {
            Output::Transmit(bytes) => {
                let bytes = bytes.to_vec();
                link.send(now, To::Server, &bytes);
                continue;
            }
            Output::TimedOut => return None,
            Output::Wait(until) => Some(until),
            Output::Idle => {
                let mut buffer = [0; 256];
                let token = link.random.next().to_le_bytes();
                let id = client.next_message_id();
                let writer =
                    Writer::new(&mut buffer, Type::Confirmable, Code::POST, id, &token).unwrap();
                let first = Block {
                    number: 0,
                    more: false,
                    size,
                };
                let writer = writer.option_uint(option::BLOCK2, ask.unwrap_or(first).encode());
                let (writer, payload) = match ask {
                    Some(_) => (writer, &[][..]),
                    None => (
                        writer.and_then(|w| w.option_uint(option::BLOCK1, sender.block().encode())),
                        &body[sender.range()],
                    ),
                };
                let length = writer
                    .and_then(|w| w.option(option::REQUEST_TAG, &[tag]))
                    .and_then(|w| w.payload(payload))
                    .unwrap();
                let spread = link.random.next() as u32;
                client.start(now, &buffer[..length], spread).unwrap();
                continue;
            }
        };
        now = now.max(wait.into_iter().chain(link.next_arrival()).min()?);
        if link.next_arrival() != Some(now) {
            continue;
        }
        let (to, datagram) = link.receive().unwrap();
        if to == To::Server {
            if let Some(reply) = server.receive(now, &datagram) {
                link.send(now, To::Client, &reply);
            }
        } else if let Received::Response(response) = client.receive(now, &datagram) {
            client.accept(&response);
            let answer = response.body();
            let block1 = Block::of(&answer, option::BLOCK1).unwrap();
            if ask.is_none() {
                match sender.answered(answer.code(), block1) {
                    Sent::Next => continue,
                    Sent::Restart => {
                        tag += 1;
                        continue;
                    }
                    Sent::Final => {}
                }
            }
            assert_eq!(answer.code(), Code::CHANGED, "seed {seed}");
            let block = Block::of(&answer, option::BLOCK2).unwrap().unwrap();
            ask = receiver.push(block, answer.payload()).unwrap();
            if ask.is_none() {
                assert_eq!(
                    server.whole,
                    [body.to_vec()],
                    "seed {seed}: taken once, as sent"
                );
                return Some(receiver.body().to_vec());
            }
        }
    }
}

#[test]
fn a_transfer_arrives_whole_or_not_at_all() {
    let mut arrived = 0;
    for seed in 0..400 {
        let mut random = Random(!seed);
        let length = 1 + (random.next() as usize) % (LARGEST - 1);
        let size = BlockSize::fitting(16 << (random.next() % 3));
        let body: Vec<u8> = (0..length).map(|_| random.next() as u8).collect();
        if let Some(answer) = run(seed, size, &body) {
            let turned: Vec<u8> = body.iter().rev().copied().collect();
            assert_eq!(answer, turned, "seed {seed}");
            arrived += 1;
        }
    }
    // Up to 45 % loss each way, up to 76 exchanges in a row.
    assert!(arrived > 200, "only {arrived} of 400 arrived");
}

const TAG: &[u8] = b"t1";

fn block(number: u32, more: bool) -> Block {
    Block {
        number,
        more,
        size: BlockSize::MIN,
    }
}

fn assembler() -> Assembler<u8, 64, 2> {
    Assembler::new(LIFETIME)
}

#[test]
fn a_gap_or_a_wrong_order_is_incomplete_and_changes_nothing() {
    let mut server = assembler();
    let now = Instant(0);
    let (a, b) = ([b'a'; 16], [b'b'; 16]);
    assert_eq!(
        server.receive(now, &1, TAG, block(1, true), &b),
        Err(AssembleError::Incomplete)
    );
    assert!(server.is_empty());
    assert_eq!(server.receive(now, &1, TAG, block(0, true), &a), Ok(None));
    assert_eq!(
        server.receive(now, &1, TAG, block(2, false), b"c"),
        Err(AssembleError::Incomplete)
    );
    assert_eq!(server.receive(now, &1, TAG, block(1, true), &b), Ok(None));
    let whole = server.receive(now, &1, TAG, block(2, false), b"c");
    assert_eq!(
        whole.unwrap().unwrap().as_slice(),
        [&a[..], &b, b"c"].concat()
    );
    assert!(server.is_empty());
}

#[test]
fn a_copy_of_an_earlier_block_changes_nothing_and_other_bytes_in_its_place_are_refused() {
    let mut server = assembler();
    let now = Instant(0);
    for (number, byte) in [(0, b'a'), (1, b'b'), (0, b'a'), (1, b'b')] {
        let taken = server.receive(now, &1, TAG, block(number, true), &[byte; 16]);
        assert_eq!(taken, Ok(None));
    }
    assert_eq!(
        server.receive(now, &1, TAG, block(1, true), &[b'x'; 16]),
        Err(AssembleError::Incomplete)
    );
    let whole = server.receive(now, &1, TAG, block(2, false), b"c");
    assert_eq!(whole.unwrap().unwrap().len(), 33);
}

#[test]
fn blocks_of_another_request_tag_never_mix_and_a_first_one_starts_over() {
    let mut server = assembler();
    let now = Instant(0);
    assert_eq!(
        server.receive(now, &1, TAG, block(0, true), &[1; 16]),
        Ok(None)
    );
    assert_eq!(
        server.receive(now, &1, b"t2", block(1, false), b"x"),
        Err(AssembleError::Incomplete)
    );
    assert_eq!(
        server.receive(now, &1, b"t2", block(0, true), &[2; 16]),
        Ok(None)
    );
    assert_eq!(server.len(), 1, "one transfer of each peer");
    assert_eq!(
        server.receive(now, &1, TAG, block(1, false), b"x"),
        Err(AssembleError::Incomplete)
    );
    let whole = server.receive(now, &1, b"t2", block(1, false), b"y");
    assert_eq!(
        whole.unwrap().unwrap().as_slice(),
        [&[2; 16][..], b"y"].concat()
    );
}

#[test]
fn memory_is_bounded_for_each_peer_and_in_all() {
    let mut server = assembler();
    let now = Instant(0);
    for peer in 0..100_u8 {
        assert_eq!(
            server.receive(now, &peer, TAG, block(0, true), &[0; 16]),
            Ok(None)
        );
        assert!(server.len() <= 2);
    }
    // The two that came last are there, the others start over.
    assert_eq!(
        server.receive(now, &97, TAG, block(1, false), b""),
        Err(AssembleError::Incomplete)
    );
    assert!(
        server
            .receive(now, &98, TAG, block(1, false), b"")
            .unwrap()
            .is_some()
    );
    // 64 bytes of a peer and no more.
    for number in 1..3 {
        assert_eq!(
            server.receive(now, &99, TAG, block(number, true), &[0; 16]),
            Ok(None)
        );
    }
    assert_eq!(
        server.receive(now, &99, TAG, block(3, true), &[0; 16]),
        Err(AssembleError::TooLarge)
    );
    assert!(
        server
            .receive(now, &99, TAG, block(3, false), &[0; 16])
            .unwrap()
            .is_some()
    );
    // And none for longer than said.
    assert_eq!(
        server.receive(now, &1, TAG, block(0, true), &[0; 16]),
        Ok(None)
    );
    let late = now + LIFETIME;
    assert_eq!(
        server.receive(late, &1, TAG, block(1, false), b""),
        Err(AssembleError::Incomplete)
    );
    assert!(server.is_empty());
}

#[test]
fn a_block_that_is_not_its_size_is_refused() {
    let mut server = assembler();
    for (more, payload) in [(true, &[0; 15][..]), (true, &[0; 17]), (false, &[0; 17])] {
        assert_eq!(
            server.receive(Instant(0), &1, TAG, block(0, more), payload),
            Err(AssembleError::WrongLength)
        );
    }
    assert!(server.is_empty());

    let mut receiver = BlockReceiver::<40>::new();
    assert_eq!(
        receiver.push(block(1, true), &[0; 16]),
        Err(ReceiveError::OutOfOrder)
    );
    assert_eq!(
        receiver.push(block(0, true), &[0; 15]),
        Err(ReceiveError::WrongLength)
    );
    assert_eq!(
        receiver.push(block(0, true), &[0; 16]),
        Ok(Some(block(1, false)))
    );
    assert_eq!(
        receiver.push(block(0, true), &[0; 16]),
        Err(ReceiveError::OutOfOrder)
    );
    assert_eq!(
        receiver.push(block(1, true), &[0; 16]),
        Ok(Some(block(2, false)))
    );
    assert_eq!(
        receiver.push(block(2, true), &[0; 16]),
        Err(ReceiveError::TooLarge)
    );
    assert_eq!(receiver.push(block(2, false), &[0; 8]), Ok(None));
    assert_eq!(receiver.body().len(), 40);
}

#[test]
fn the_server_may_ask_for_smaller_blocks_midway_and_for_another_start() {
    let mut sender = BlockSender::new(200, BlockSize::fitting(64));
    assert_eq!(sender.range(), 0..64);
    let smaller = Block {
        number: 0,
        more: true,
        size: BlockSize::fitting(32),
    };
    assert_eq!(sender.answered(Code::CONTINUE, Some(smaller)), Sent::Next);
    assert_eq!((sender.range(), sender.block().number), (64..96, 2));
    // An acknowledgement of the first block is none of this one.
    assert_eq!(sender.answered(Code::CONTINUE, Some(smaller)), Sent::Final);
    assert_eq!(sender.range(), 64..96);
    assert_eq!(
        sender.answered(Code::REQUEST_ENTITY_INCOMPLETE, None),
        Sent::Restart
    );
    assert_eq!(sender.range(), 0..32);
    assert_eq!(
        sender.answered(Code::REQUEST_ENTITY_TOO_LARGE, Some(block(0, false))),
        Sent::Restart
    );
    assert_eq!(sender.range(), 0..16);
    assert_eq!(
        sender.answered(Code::REQUEST_ENTITY_TOO_LARGE, None),
        Sent::Final
    );
}

proptest! {
    #[test]
    fn a_block_option_reads_as_it_was_written(number in 0..1_u32 << 20, more: bool, room in 0..2000_usize) {
        let block = Block { number, more, size: BlockSize::fitting(room) };
        prop_assert!(block.size == BlockSize::MIN || block.size.bytes() <= room);
        let bytes = block.encode().to_be_bytes();
        let skip = block.encode().leading_zeros() as usize / 8;
        let value = OptionValue { number: option::BLOCK1, value: &bytes[skip..] };
        prop_assert_eq!(Block::decode(&value), Ok(block));
    }

    #[test]
    fn size_7_and_a_fourth_byte_are_reserved(value: u32) {
        let bytes = value.to_be_bytes();
        let option = OptionValue { number: option::BLOCK2, value: &bytes };
        prop_assert_eq!(Block::decode(&option), Err(ReservedBlock));
        let option = OptionValue { number: option::BLOCK2, value: &[bytes[0], bytes[1], bytes[2] | 7] };
        prop_assert_eq!(Block::decode(&option), Err(ReservedBlock));
    }

    #[test]
    fn blocks_cover_the_whole_once(length in 0..5000_usize, room in 0..1100_usize) {
        let mut sender = BlockSender::new(length, BlockSize::fitting(room));
        let mut covered = 0;
        loop {
            let (block, range) = (sender.block(), sender.range());
            prop_assert_eq!(range.start, covered);
            covered = range.end;
            if sender.answered(Code::CONTINUE, Some(block)) == Sent::Final {
                break;
            }
        }
        prop_assert_eq!(covered, length);
    }
}
