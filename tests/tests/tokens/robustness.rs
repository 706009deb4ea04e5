//! What strangers can cost: no answer longer than its question, no memory, little work.

use mote_schemas::coap::{Code, Message, Type, Writer, option};
use mote_schemas::message::{Tier, path};
use mote_tests::token_device::{post, wrap};

use super::{Answer, Bench, PEER};

#[test]
fn a_message_that_comes_twice_is_answered_twice_and_counts_once() {
    let mut bench = Bench::new();
    let nonce = bench.nonce();
    let datagram = post(path::EVIDENCE, 900, &bench.device.wrapped(&nonce));
    let first = bench.lab.handle(PEER, &datagram).unwrap();
    let before = bench.lab.stored();
    assert_eq!(bench.lab.handle(PEER, &datagram), Some(first));
    assert_eq!(bench.lab.stored(), before);
}

#[test]
fn pieces_are_kept_only_for_an_address_that_has_returned_an_echo() {
    let mut bench = Bench::new();
    let nonce = bench.nonce();
    let wrapper = bench.device.wrapped(&nonce);
    let size = 64;
    let blocks: Vec<&[u8]> = wrapper.chunks(size).collect();
    let mut echo = None;
    let mut id = 1000;
    let mut answers = Vec::new();
    let mut number = 0;
    while number < blocks.len() {
        id += 1;
        let mut room = [0; 256];
        let more = u32::from(number + 1 < blocks.len()) << 3;
        let writer = Writer::new(&mut room, Type::Confirmable, Code::POST, id, b"t").unwrap();
        let mut writer = writer.option(option::URI_PATH, b"c").unwrap();
        writer = writer.option_uint(option::CONTENT_FORMAT, 273).unwrap();
        writer = writer
            .option_uint(option::BLOCK1, (number as u32) << 4 | more | 2)
            .unwrap();
        if let Some(echo) = &echo {
            let echo: &Vec<u8> = echo;
            writer = writer.option(option::ECHO, echo).unwrap();
        }
        let len = writer.payload(blocks[number]).unwrap();
        let reply = bench.lab.handle(PEER, &room[..len]).unwrap();
        let message = Message::parse(&reply).unwrap();
        answers.push(message.code());
        if message.code() == Code::UNAUTHORIZED {
            assert!(echo.is_none());
            echo = message
                .body()
                .option(option::ECHO)
                .map(|o| o.value.to_vec());
            continue;
        }
        number += 1;
    }
    assert_eq!(answers[0], Code::UNAUTHORIZED);
    assert!(
        answers[1..blocks.len()]
            .iter()
            .all(|code| *code == Code::CONTINUE)
    );
    assert_eq!(answers.last(), Some(&Code::CHANGED));
}

#[test]
fn a_flood_of_false_tokens_must_show_where_it_comes_from_and_ours_gets_through() {
    let mut bench = Bench::new();
    let nonce = bench.nonce();
    let mut forged = bench.device.token(&nonce);
    let end = forged.len() - 1;
    // Whatever the rest becomes, it is not the signature.
    forged[end - 2] ^= 1;
    let mut codes = std::collections::BTreeMap::new();
    for round in 0..1200_u32 {
        forged[end] = round as u8;
        forged[end - 1] = (round >> 8) as u8;
        *codes
            .entry(bench.send_unchecked(&wrap(&forged)).to_string())
            .or_insert(0) += 1;
    }
    // Two seconds' worth are looked at; the rest is asked for an Echo.
    assert_eq!(codes[&Code::FORBIDDEN.to_string()], 1000);
    assert_eq!(codes[&Code::UNAUTHORIZED.to_string()], 200);
    let wrapper = bench.device.wrapped(&nonce);
    let asked = bench.exchange(path::EVIDENCE, &wrapper);
    assert_eq!(asked.0, Code::UNAUTHORIZED);
    let plain = post(path::EVIDENCE, 3000, &wrapper);
    let reply = bench.lab.handle(PEER, &plain).unwrap();
    let echo = Message::parse(&reply)
        .unwrap()
        .body()
        .option(option::ECHO)
        .unwrap()
        .value
        .to_vec();
    let mut room = vec![0; 1024];
    let writer = Writer::new(&mut room, Type::Confirmable, Code::POST, 3001, b"t").unwrap();
    let writer = writer.option(option::URI_PATH, b"c").unwrap();
    let writer = writer.option_uint(option::CONTENT_FORMAT, 273).unwrap();
    let writer = writer.option(option::ECHO, &echo).unwrap();
    let len = writer.payload(&wrapper).unwrap();
    assert_eq!(bench.datagram(&room[..len]).0, Code::CHANGED);
}

#[test]
fn no_answer_is_longer_than_its_question_however_many_reasons_there_are() {
    let mut bench = Bench::new();
    bench.device.components = (0..6).map(|n| (format!("x{n}"), [n; 32])).collect();
    bench.device.debug = None;
    bench.device.oem_boot = Some(false);
    bench.device.software = Some(("other".into(), "1".into()));
    let (tier, reasons) = bench.attest();
    assert_eq!(tier, Tier::Contraindicated);
    assert!(reasons.len() >= 4, "{reasons:?}");
    // Hardly any room: the reasons go, the verdict stays.
    bench.device = mote_tests::token_device::TokenDevice::new(&[0x11; 32]);
    bench.device.components.clear();
    bench.device.software = None;
    bench.device.ueid = None;
    bench.device.debug = None;
    let nonce = bench.nonce();
    let wrapper = bench.device.wrapped(&nonce);
    let answer = bench.send(&wrapper);
    assert!(
        matches!(answer, Answer::Verdict(Tier::Contraindicated, ..)),
        "{answer:?}"
    );
    assert!(bench.worst <= 1.0);
    println!("figure token_reply_share {:.2}", bench.worst);
}

#[test]
fn random_payloads_are_refused_and_change_nothing() {
    let mut bench = Bench::new();
    let nonce = bench.nonce();
    let wrapper = bench.device.wrapped(&nonce);
    let before = bench.lab.stored();
    for cut in 0..wrapper.len() {
        for to in [path::EVIDENCE, path::NONCE] {
            let (code, _) = bench.exchange(to, &wrapper[..cut]);
            assert!(
                !matches!(code, Code::CHANGED | Code::CONTENT),
                "{cut}: {code}"
            );
        }
    }
    assert_eq!(bench.lab.stored(), before);
}
