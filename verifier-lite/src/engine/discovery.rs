//! `/.well-known/core`: what is here, for whoever looks (RFC 6690, 4; RFC 7252, 7.2).
//!
//! Short enough for anybody: with any token, the answer is no longer than the shortest request for
//! it, so that it needs no proof of the address first, not even after a restart or under load: one
//! exchange, stateless, and nothing to compute.

use mote_schemas::coap::options::OptionSpec;
use mote_schemas::coap::{Body, Code, option};

use super::outcome::Outcome;

/// Options that a request for it may carry.
const OPTIONS: &[OptionSpec] = &[
    OptionSpec::URI_HOST,
    OptionSpec::URI_PORT,
    OptionSpec::URI_PATH,
    // A filter. Who does not support it ignores it (RFC 6690, 4.1).
    OptionSpec::URI_QUERY,
    OptionSpec::ACCEPT,
    OptionSpec::ECHO,
    // A wish for blocks of at least 16 bytes, which is more than all of it.
    OptionSpec::BLOCK2,
];

/// Where a conversation begins. What follows needs the keys that it gives.
const LINKS: &[u8] = b"</h>;rt=mote";

/// application/link-format.
const LINK_FORMAT: u32 = 40;

pub(super) fn is_asked(body: &Body<'_>) -> bool {
    body.path_is(&[".well-known", "core"])
}

pub(super) fn answer(body: &Body<'_>) -> Outcome {
    if body.code() != Code::GET {
        return Outcome::clear(Code::METHOD_NOT_ALLOWED);
    }
    if body.unrecognised_critical(OPTIONS).is_some() {
        return Outcome::clear(Code::BAD_OPTION);
    }
    let uint = |number| body.option(number).and_then(|option| option.uint());
    if uint(option::ACCEPT).is_some_and(|format| format != LINK_FORMAT) {
        return Outcome::clear(Code::NOT_ACCEPTABLE);
    }
    // RFC 7959, 2.2: the number is all but the last four bits. There is no second block.
    if uint(option::BLOCK2).is_some_and(|block| block >> 4 != 0) {
        return Outcome::clear(Code::BAD_REQUEST);
    }
    Outcome::clear(Code::CONTENT)
        .option(option::CONTENT_FORMAT, &[LINK_FORMAT as u8])
        .payload(LINKS.to_vec())
}

#[cfg(test)]
mod tests {
    use mote_schemas::coap::{Message, Type, Writer};

    use super::*;

    fn ask(token: &[u8], further: &[(u16, u32)]) -> (usize, Option<Vec<u8>>) {
        let mut request = [0; 64];
        let mut writer = Writer::new(&mut request, Type::Confirmable, Code::GET, 7, token)
            .and_then(|writer| writer.option(option::URI_PATH, b".well-known"))
            .and_then(|writer| writer.option(option::URI_PATH, b"core"))
            .unwrap();
        for (number, value) in further {
            writer = writer.option_uint(*number, *value).unwrap();
        }
        let len = writer.finish();
        let message = Message::parse(&request[..len]).unwrap();
        assert!(is_asked(&message.body()));
        (len, answer(&message.body()).encode(&message, len))
    }

    #[test]
    fn the_shortest_request_from_an_unverified_address_gets_a_whole_answer_no_longer_than_itself() {
        for token in [&[][..], b"a", b"12345678"] {
            let (asked, reply) = ask(token, &[]);
            let reply = reply.unwrap();
            assert!(reply.len() <= asked, "{} bytes for {asked}", reply.len());
            let reply = Message::parse(&reply).unwrap();
            assert_eq!(reply.code(), Code::CONTENT);
            assert_eq!(reply.token(), token);
            assert_eq!(reply.payload(), LINKS);
        }
    }

    #[test]
    fn what_cannot_be_had_is_refused_with_the_code_for_it() {
        for (asked, code) in [
            ((option::URI_QUERY, 0x7274_3d61), Code::CONTENT),
            ((option::ACCEPT, 40), Code::CONTENT),
            ((option::ACCEPT, 60), Code::NOT_ACCEPTABLE),
            ((option::BLOCK2, 0), Code::CONTENT),
            ((option::BLOCK2, 1 << 4), Code::BAD_REQUEST),
            ((option::IF_NONE_MATCH + 60_000, 0), Code::BAD_OPTION),
        ] {
            let reply = ask(b"t", &[asked]).1.unwrap();
            assert_eq!(Message::parse(&reply).unwrap().code(), code, "{asked:?}");
        }
    }
}
