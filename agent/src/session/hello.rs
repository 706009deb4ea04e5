//! hello: from nothing to session keys.

use mote_schemas::cbor::{self, Bytes};
use mote_schemas::coap::{Code, Message, Type, WriteError, Writer, option};
use mote_schemas::limits::{MAX_EK_CERTIFICATE, MAX_MESSAGE};
use mote_schemas::message::{DeviceId, DeviceKeys, Hello, VERSION, path};
use mote_schemas::time::Instant;
use mote_schemas::transcript::HelloDigest;

use super::channel::Channel;
use super::{Device, Event, Session, Step, StepError, evidence, token};

/// What we must remember of the hello we sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent(HelloDigest);

impl Session {
    pub(super) fn request_hello(
        &mut self,
        now: Instant,
        with_keys: bool,
        device: &mut Device<'_>,
    ) -> Result<(), StepError> {
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
        let payload = &payload[..len];

        let mut message = [0; MAX_MESSAGE];
        let len = self
            .hello_message(payload, token(device), &mut message)
            .map_err(|_| StepError::Stale)?;
        self.hello = Some(Sent(HelloDigest::of(payload)));
        self.send(now, &message[..len], device)
    }

    fn hello_message(
        &self,
        payload: &[u8],
        token: [u8; 4],
        out: &mut [u8],
    ) -> Result<usize, WriteError> {
        let mut writer = Writer::new(
            out,
            Type::Confirmable,
            Code::POST,
            self.exchange.next_message_id(),
            &token,
        )?
        .option(option::URI_PATH, path::HELLO.as_bytes())?;
        if !self.echo.is_empty() {
            writer = writer.option(option::ECHO, &self.echo)?;
        }
        writer.payload(payload)
    }

    /// Anyone may have sent this: only a signed challenge counts; errors are hints.
    pub(super) fn hello_response(
        &mut self,
        now: Instant,
        response: &Message<'_>,
        device: &mut Device<'_>,
    ) {
        let Some(Sent(hello)) = self.hello else {
            return;
        };
        let body = response.body();
        match response.code() {
            Code::CHANGED => match self.settings.verifier_key.check(hello, body.payload()) {
                Ok(verified) => {
                    let challenge = verified.challenge();
                    self.exchange.accept(response);
                    let secret = device.tpm.activate_credential(
                        challenge.credential_blob.get(),
                        challenge.encrypted_secret.get(),
                    );
                    match secret {
                        Ok(secret) => {
                            self.channel = Channel::new(
                                &verified.transcript(),
                                secret.as_bytes(),
                                &challenge.kid,
                            );
                            self.progress = evidence::Progress::opening(&challenge.random);
                            self.hello = None;
                            self.event =
                                self.identity.as_ref().map(|identity| Event::SessionOpened {
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
                // Not accepted: the verifier's own answer may still come.
                Err(error) => self.event = Some(Event::NotTheVerifier(error)),
            },
            // The verifier wants to see that we receive at this address (RFC 9175, 2.3), and may
            // not know us.
            Code::UNAUTHORIZED | Code::NOT_FOUND if self.take_echo(&body) => {
                let keys = response.code() == Code::NOT_FOUND
                    || matches!(self.step, Step::Hello { keys: true });
                self.exchange.accept(response);
                self.go_on(now, Step::Hello { keys }, device);
            }
            code => {
                self.exchange.accept(response);
                self.refused(now, code, &body, device);
            }
        }
    }
}
