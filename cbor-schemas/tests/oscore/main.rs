//! What OSCORE refuses, and that refusing changes nothing.
#![allow(clippy::unwrap_used, missing_docs)]

use mote_schemas::coap::{Body, Code, Message, Type, WriteError, Writer, option};
use mote_schemas::oscore::{
    Context, DeriveError, MAX_SEQUENCE, MalformedOption, OscoreOption, ProtectError, ReplayWindow,
    SentRequest, SequenceReused, UnprotectRequestError, UnprotectResponseError, Unprotected,
};
use proptest::prelude::*;

mod receiving;
mod replay;
mod sending;

const SECRET: &[u8] = b"a secret from the TPM";
const KID: &[u8] = &[0xa1, 0xb2, 0xc3];

/// Numbers and values.
type Options<'a> = &'a [(u16, &'a [u8])];

fn client() -> Context {
    Context::derive(SECRET, b"salt", None, KID, b"").unwrap()
}

fn server() -> Context {
    Context::derive(SECRET, b"salt", None, b"", KID).unwrap()
}

fn write(code: Code, options: Options<'_>, payload: &[u8]) -> Vec<u8> {
    let mut buffer = vec![0; 1024];
    let mut writer = Writer::new(&mut buffer, Type::Confirmable, code, 77, b"tokn").unwrap();
    for (number, value) in options {
        writer = writer.option(*number, value).unwrap();
    }
    let length = writer.payload(payload).unwrap();
    buffer.truncate(length);
    buffer
}

fn request() -> Vec<u8> {
    write(
        Code::POST,
        &[(3, b"verifier"), (11, b"beat"), (12, &[60])],
        b"evidence",
    )
}

fn response() -> Vec<u8> {
    write(Code::CHANGED, &[(14, &[30])], b"verdict")
}

fn protect(client: &mut Context, plain: &[u8]) -> (Vec<u8>, SentRequest) {
    let mut out = vec![0; 1024];
    let message = Message::parse(plain).unwrap();
    let (length, sent) = client.protect_request(&message, &mut out).unwrap();
    out.truncate(length);
    (out, sent)
}

fn outcome(server: &mut Context, datagram: &[u8]) -> Result<bool, UnprotectRequestError> {
    let message = Message::parse(datagram).unwrap();
    let mut out = [0; 1024];
    let opened = server.unprotect_request(&message, &mut out)?;
    Ok(matches!(opened, Unprotected::Fresh(_)))
}

/// `plain` as the server gives it back, through both contexts.
fn with_opened<T>(
    server: &mut Context,
    datagram: &[u8],
    check: impl FnOnce(&mut Context, mote_schemas::oscore::OpenedRequest<'_>) -> T,
) -> T {
    let message = Message::parse(datagram).unwrap();
    let mut out = [0; 1024];
    match server.unprotect_request(&message, &mut out).unwrap() {
        Unprotected::Fresh(opened) => check(server, opened),
        Unprotected::Unsynchronised(_) => panic!("window is lost"),
    }
}

fn mutable_state(context: &Context) -> (u64, ReplayWindow) {
    (context.sender_sequence(), *context.replay_window())
}
