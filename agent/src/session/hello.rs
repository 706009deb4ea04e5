//! hello: from nothing to session keys.

use mote_schemas::cbor::{self, Bytes};
use mote_schemas::coap::{Code, Message};
use mote_schemas::limits::{MAX_EK_CERTIFICATE, MAX_MESSAGE};
use mote_schemas::message::{DeviceId, DeviceKeys, Hello, VERSION, path};
use mote_schemas::time::Instant;

use super::channel::Channel;
use super::transfer::{Piece, Room, Transfer};
use super::{Device, Event, Session, Step, StepError, evidence, token};

impl Session {
    pub(super) fn request_hello(
        &mut self,
        now: Instant,
        with_keys: bool,
        device: &mut Device<'_>,
    ) -> Result<(), StepError> {
        self.transfer = Some(self.new_hello(with_keys, device)?);
        self.send_piece(now, device)
    }

    fn new_hello(
        &mut self,
        with_keys: bool,
        device: &mut Device<'_>,
    ) -> Result<Transfer, StepError> {
        if self.identity.is_none() {
            self.identity = Some(device.tpm.identity()?);
        }
        let Some(identity) = &self.identity else {
            return Err(StepError::Stale);
        };
        let mut certificate = [0; MAX_EK_CERTIFICATE];
        let mut keys = None;
        if with_keys {
            let len = device.tpm.ek_certificate(&mut certificate)?;
            keys = Bytes::new(&identity.ek).zip(Bytes::new(&identity.ak)).map(
                |(ek_public, ak_public)| DeviceKeys {
                    ek_public,
                    ak_public,
                    ek_certificate: len.and_then(|len| Bytes::new(&certificate[..len])),
                },
            );
        }
        let hello = Hello {
            version: VERSION,
            random: token(device),
            device: DeviceId::of_ek(&identity.ek),
            keys,
        };
        let mut payload = [0; MAX_MESSAGE];
        let len = cbor::encode(&hello, &mut payload).map_err(|_| StepError::Stale)?;
        let room = Room::of_hello(self.settings.datagram);
        Transfer::new(path::HELLO, &payload[..len], room, token(device)).ok_or(StepError::Stale)
    }

    /// Anyone may have sent this: only a signed challenge counts; errors are hints.
    pub(super) fn hello_response(
        &mut self,
        now: Instant,
        response: &Message<'_>,
        device: &mut Device<'_>,
    ) {
        let Some(hello) = &mut self.transfer else {
            return;
        };
        let body = response.body();
        match hello.answered(&body) {
            Piece::Next => {
                self.accept(now, response);
                // Not counted as a repetition: its length bounds how often.
                self.due = now;
            }
            Piece::Restart => {
                hello.restart(token(device));
                self.accept(now, response);
                self.go_on(now, self.step, device);
            }
            Piece::Foreign => {}
            Piece::Whole => self.challenged(now, response, device),
            Piece::Other => self.hello_refused(now, response, device),
        }
    }

    /// The answer is all there: whose is it?
    fn challenged(&mut self, now: Instant, response: &Message<'_>, device: &mut Device<'_>) {
        let Some(hello) = &mut self.transfer else {
            return;
        };
        let pinned = &self.settings.verifier_key;
        let verified = match pinned.check(hello.digest(), hello.answer()) {
            Ok(verified) => verified,
            Err(error) => {
                self.event = Some(Event::NotTheVerifier(error));
                if hello.is_begun() {
                    // Some piece was forged, now or earlier.
                    self.accept(now, response);
                    self.start_over(now, device);
                } else {
                    // Not accepted: the verifier's own answer may still come.
                    hello.forget_answer();
                }
                return;
            }
        };
        let challenge = verified.challenge();
        let took = now.since(self.sent_at);
        self.patience.answered(took, self.settings.transmission);
        self.exchange.accept(response);
        let secret = device.tpm.activate_credential(
            challenge.credential_blob.get(),
            challenge.encrypted_secret.get(),
        );
        match secret {
            Ok(secret) => {
                self.channel =
                    Channel::new(&verified.transcript(), secret.as_bytes(), &challenge.kid);
                self.progress = evidence::Progress::opening(&challenge.random);
                self.transfer = None;
                self.echo.clear();
                self.event = self.identity.as_ref().map(|identity| Event::SessionOpened {
                    device: DeviceId::of_ek(&identity.ek),
                });
                self.go_on(now, Step::Open, device);
            }
            Err(error) => {
                let retry = self.start_over(now, device);
                let error = error.into();
                self.event = Some(Event::Device { error, retry });
            }
        }
    }

    fn hello_refused(&mut self, now: Instant, response: &Message<'_>, device: &mut Device<'_>) {
        let body = response.body();
        let with_keys = matches!(self.step, Step::Hello { keys: true });
        let echo = self.take_echo(&body);
        match response.code() {
            // The verifier wants to see that we receive at this address (RFC 9175, 2.3).
            Code::UNAUTHORIZED if echo => {
                self.accept(now, response);
                self.go_on(now, self.step, device);
            }
            // It does not know us.
            Code::NOT_FOUND if echo || !with_keys => {
                self.accept(now, response);
                self.transfer = None;
                self.go_on(now, Step::Hello { keys: true }, device);
            }
            code => {
                self.accept(now, response);
                self.refused(now, code, &body, device);
            }
        }
    }
}
