//! One request under way: in one datagram, or in blocks where the path carries less than it needs, and
//! the same for its answer (RFC 7959; Request-Tag of RFC 9175, 3).
//!
//! hello goes in the clear: nothing of it is authenticated until the whole answer is, whose signature
//! covers every byte of the hello and of itself. A forged piece costs the transfer, never more. Every
//! other request goes inside OSCORE (RFC 8613, 4.1.3.4.1), block by block; its tag keeps pieces of two
//! requests apart that somebody on the path has held back (RFC 9175, 3.5.1).

use heapless::Vec;
use mote_schemas::coap::block::Sent as Acknowledged;
use mote_schemas::coap::{
    Block, BlockReceiver, BlockSender, BlockSize, Body, Code, Type, WriteError, Writer, option,
};
use mote_schemas::limits::MAX_MESSAGE;
use mote_schemas::transcript::HelloDigest;

/// Bytes of hello's token.
pub(super) const TOKEN: usize = 4;

/// Bytes of a Request-Tag: enough to tell one device's transfers apart.
pub(super) const TAG: usize = 2;

/// Block2, Block1, Echo of 8 bytes, Request-Tag.
pub(super) const OPTIONS: usize = 3 + 3 + 10 + 2 + TAG;

/// Header, token, Uri-Path, all options, payload marker.
const REQUEST_OVERHEAD: usize = 4 + TOKEN + 2 + OPTIONS + 1;

/// Header, token, both Block options, payload marker.
const RESPONSE_OVERHEAD: usize = 4 + TOKEN + 4 + 4 + 1;

/// No challenge is larger, in bytes: 64 of signature, 200 and 520 of credential at most, and their
/// heads. Where as much fits, no blocks are asked for.
const MAX_CHALLENGE: usize = 900;

/// How many bytes of payload fit a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Room {
    /// Of a request without blocks.
    pub(super) single: usize,
    /// Of one of a request's blocks.
    pub(super) block: usize,
    /// Of one of an answer's blocks.
    pub(super) answer: usize,
    /// Whether some answer may need blocks.
    pub(super) ask: bool,
}

impl Room {
    /// For hello, in datagrams of at most `datagram` bytes.
    pub(super) const fn of_hello(datagram: usize) -> Self {
        let request = datagram.saturating_sub(REQUEST_OVERHEAD);
        Room {
            single: request,
            block: request,
            answer: datagram.saturating_sub(RESPONSE_OVERHEAD),
            ask: datagram < MAX_CHALLENGE + RESPONSE_OVERHEAD,
        }
    }
}

/// A request, as far as it has got.
pub(super) struct Transfer {
    path: &'static str,
    payload: Vec<u8, MAX_MESSAGE>,
    tag: [u8; TAG],
    /// In pieces, if one datagram is not enough.
    sender: Option<BlockSender>,
    receiver: BlockReceiver<MAX_MESSAGE>,
    /// The piece of the answer to ask for.
    ask: Option<Block>,
    /// The server has answered: worth going on with.
    begun: bool,
}

/// What an answer to a piece means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// Send the next request of the same transfer.
    Next,
    /// The same, but the server has nothing of it any more.
    Restart,
    /// The whole answer has come: [`Transfer::answer`].
    Whole,
    /// Not an answer to what we asked.
    Foreign,
    /// A refusal, or a challenge of our address.
    Other,
}

impl Transfer {
    /// Of `payload` to `path`. `None` if the payload exceeds any message.
    pub(super) fn new(
        path: &'static str,
        payload: &[u8],
        room: Room,
        tag: [u8; TAG],
    ) -> Option<Self> {
        let ask = Block {
            number: 0,
            more: false,
            size: BlockSize::fitting(room.answer),
        };
        Some(Transfer {
            path,
            payload: Vec::from_slice(payload).ok()?,
            tag,
            sender: (payload.len() > room.single)
                .then(|| BlockSender::new(payload.len(), BlockSize::fitting(room.block))),
            receiver: BlockReceiver::new(),
            ask: room.ask.then_some(ask),
            begun: false,
        })
    }

    /// What the verifier's signature must cover, if this is a hello.
    pub(super) fn digest(&self) -> HelloDigest {
        HelloDigest::of(&self.payload)
    }

    /// Whether pieces have arrived, so that the rest may follow.
    pub(super) fn is_begun(&self) -> bool {
        self.begun
    }

    /// The server has nothing of it: from the front, with a tag that no other transfer of ours had.
    pub(super) fn restart(&mut self, tag: [u8; TAG]) {
        self.tag = tag;
        self.begun = true;
    }

    /// The request that is due, in `out`; returns its length.
    pub(super) fn request(
        &self,
        message_id: u16,
        token: &[u8],
        echo: &[u8],
        out: &mut [u8],
    ) -> Result<usize, WriteError> {
        let mut writer = Writer::new(out, Type::Confirmable, Code::POST, message_id, token)?
            .option(option::URI_PATH, self.path.as_bytes())?;
        if let Some(ask) = self.ask {
            writer = writer.option_uint(option::BLOCK2, ask.encode())?;
        }
        let (mut payload, mut tagged) = (&self.payload[..], false);
        if !self.receiver.body().is_empty() {
            // RFC 7959, 3.3: the request is all there; only its answer goes on.
            (payload, tagged) = (&[], true);
        } else if let Some(sender) = &self.sender {
            writer = writer.option_uint(option::BLOCK1, sender.block().encode())?;
            (payload, tagged) = (&self.payload[sender.range()], true);
        }
        if !echo.is_empty() {
            writer = writer.option(option::ECHO, echo)?;
        }
        // RFC 9175, 3.4: the answer's pieces are asked for under the request's tag.
        if tagged || self.ask.is_some() {
            writer = writer.option(option::REQUEST_TAG, &self.tag)?;
        }
        writer.payload(payload)
    }

    /// Takes the answer to the last request.
    pub(super) fn answered(&mut self, body: &Body<'_>) -> Piece {
        let (Ok(block1), Ok(block2)) = (
            Block::of(body, option::BLOCK1),
            Block::of(body, option::BLOCK2),
        ) else {
            return Piece::Foreign;
        };
        let asking = !self.receiver.body().is_empty();
        if asking && body.code() == Code::REQUEST_ENTITY_INCOMPLETE {
            return self.start_over();
        }
        if !asking && let Some(sender) = &mut self.sender {
            match sender.answered(body.code(), block1) {
                Acknowledged::Next => {
                    self.begun = true;
                    return Piece::Next;
                }
                Acknowledged::Restart => return Piece::Restart,
                Acknowledged::Final => {}
            }
        }
        if body.code() != Code::CHANGED {
            return Piece::Other;
        }
        let whole = Block {
            number: 0,
            more: false,
            size: BlockSize::MAX,
        };
        match self.receiver.push(block2.unwrap_or(whole), body.payload()) {
            Ok(Some(next)) => {
                self.ask = Some(next);
                self.begun = true;
                Piece::Next
            }
            Ok(None) => Piece::Whole,
            Err(_) => Piece::Foreign,
        }
    }

    /// The whole answer, once it is there.
    pub(super) fn answer(&self) -> &[u8] {
        self.receiver.body()
    }

    /// Forgets the answer's pieces; the caller goes on listening for others.
    pub(super) fn forget_answer(&mut self) {
        self.receiver = BlockReceiver::new();
        self.ask = self.ask.map(|ask| Block { number: 0, ..ask });
    }

    fn start_over(&mut self) -> Piece {
        self.forget_answer();
        if let Some(sender) = &mut self.sender {
            *sender = BlockSender::new(self.payload.len(), sender.block().size);
        }
        Piece::Restart
    }
}

#[cfg(test)]
mod tests {
    use mote_schemas::coap::Message;

    use mote_schemas::message::path;

    use super::*;

    const ECHO: [u8; 8] = [9; 8];

    fn hello(payload: &[u8], datagram: usize) -> Transfer {
        Transfer::new(path::HELLO, payload, Room::of_hello(datagram), [1, 2]).unwrap()
    }

    fn sent(transfer: &Transfer) -> (usize, std::vec::Vec<u8>) {
        let mut out = [0; MAX_MESSAGE];
        let len = transfer.request(7, &[1; TOKEN], &ECHO, &mut out).unwrap();
        let message = Message::parse(&out[..len]).unwrap();
        (len, message.payload().to_vec())
    }

    fn respond(
        transfer: &mut Transfer,
        code: Code,
        blocks: &[(u16, u32)],
        payload: &[u8],
    ) -> Piece {
        let mut out = [0; MAX_MESSAGE];
        let mut writer =
            Writer::new(&mut out, Type::Acknowledgement, code, 7, &[1; TOKEN]).unwrap();
        for (number, value) in blocks {
            writer = writer.option_uint(*number, *value).unwrap();
        }
        let len = writer.payload(payload).unwrap();
        transfer.answered(&Message::parse(&out[..len]).unwrap().body())
    }

    #[test]
    fn every_datagram_is_as_small_as_the_path_asks_and_all_of_hello_arrives() {
        for datagram in [64, 65, 100, 128, 300, 512, 1024] {
            let payload: std::vec::Vec<u8> = (0..1900_u16).map(|i| i as u8).collect();
            let mut transfer = hello(&payload, datagram);
            let mut arrived = std::vec::Vec::new();
            loop {
                let (len, piece) = sent(&transfer);
                assert!(len <= datagram, "{len} bytes for {datagram}");
                arrived.extend(piece);
                let block = transfer.sender.unwrap().block();
                if !block.more {
                    break;
                }
                let value = [(option::BLOCK1, block.encode())];
                assert_eq!(
                    respond(&mut transfer, Code::CONTINUE, &value, b""),
                    Piece::Next
                );
                assert!(transfer.is_begun());
            }
            assert_eq!(arrived, payload);
        }
    }

    #[test]
    fn what_fits_goes_whole_and_without_a_word_about_blocks() {
        let transfer = hello(&[7; 900], 1024);
        let (len, payload) = sent(&transfer);
        // Header, token, path, Echo, marker.
        assert_eq!((len, payload.len()), (4 + TOKEN + 2 + 10 + 1 + 900, 900));
    }

    #[test]
    fn the_answer_is_put_together_and_a_lost_one_starts_over() {
        let mut transfer = hello(&[7; 40], 128);
        let size = BlockSize::fitting(64);
        let block = |number, more| {
            let block = Block { number, more, size };
            [(option::BLOCK2, block.encode())]
        };
        assert_eq!(sent(&transfer).1, [7; 40]);
        assert_eq!(
            respond(&mut transfer, Code::CHANGED, &block(0, true), &[1; 64]),
            Piece::Next
        );
        assert_eq!(sent(&transfer).1, b"");
        assert_eq!(
            respond(&mut transfer, Code::CHANGED, &block(2, false), &[3; 9]),
            Piece::Foreign
        );
        assert_eq!(
            respond(&mut transfer, Code::REQUEST_ENTITY_INCOMPLETE, &[], b""),
            Piece::Restart
        );
        transfer.restart([3, 4]);
        assert_eq!(sent(&transfer).1, [7; 40]);
        for (number, more, byte) in [(0, true, 1), (1, true, 2), (2, false, 3)] {
            let piece = respond(
                &mut transfer,
                Code::CHANGED,
                &block(number, more),
                &[byte; 64],
            );
            assert_eq!(piece, if more { Piece::Next } else { Piece::Whole });
        }
        assert_eq!(transfer.answer(), [[1; 64], [2; 64], [3; 64]].concat());
    }
}
