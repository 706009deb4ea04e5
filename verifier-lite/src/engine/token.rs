//! Tokens of devices without a TPM, over CoAP: a nonce, and evidence in a wrapper (content format 273).
//!
//! ```text
//! device                                             verifier
//!   | POST n  {version, device id}                     ->
//!   |                          <-  {nonce}                       unsigned, no longer than the request
//!   | POST c  CMW [263, COSE_Sign1(claims, nonce)]     ->
//!   |                          <-  COSE_Sign1(reply: verdict, reasons, interval, next nonce)
//! ```
//!
//! **What is authenticated.** The token, by the key that was endorsed, once for each nonce; the reply to it, by the
//! verifier's key, bound to the wrapper by the SHA-256 in external_aad. **What is not**: the reply with a nonce (a false
//! one costs the device a signature, and its token is then refused) and every refusal. **Nothing is secret** on UDP:
//! whoever is on the path reads the claims. CoAP over TLS hides them.
//!
//! **Who may lie.** Everyone; only the signature tells. Until it has been checked nothing is stored, nothing is
//! kept for a peer but pieces of a transfer whose address has returned an Echo, and no answer is longer than
//! what it answers. Checking costs public-key work, so that is done only for a device that is known and a
//! nonce that was given to it and not answered yet, so many times a second; beyond that the peer must show
//! by an Echo that it is where it says.

use log::{debug, info};
use mote_schemas::cbor::{self, Bytes};
use mote_schemas::cmw;
use mote_schemas::coap::{Body, Code, option};
use mote_schemas::message::{
    DeviceId, Nonce, NonceReply, NonceRequest, Reasons, Reply, Tier, VERSION,
};
use mote_schemas::reason::Reason;

use super::blockwise::Whole;
use super::outcome::{Outcome, Refusal};
use super::{Engine, Internal, Now, Peer};
use crate::evidence::token::{Hints, verify_endorsed, verify_stored};
use crate::evidence::{Appraise, KindId, Wrapped};
use crate::policy::Settled;
use crate::store::{
    Admission, Change, DeviceRecord, Durability, TokenEvidence, TokenState, VerdictRecord,
};

/// Most reasons in a reply: as many as [`Reasons`] holds.
const MAX_REASONS: usize = 8;

impl Engine {
    /// A nonce, for whoever names an enrolled device.
    pub(super) fn token_nonce(&self, now: Now, body: &Body<'_>) -> Result<Outcome, Internal> {
        let request: NonceRequest = match cbor::decode(body.payload()) {
            Ok(request) => request,
            Err(error) => {
                let refusal = Refusal::new(Reason::MessageMalformed, &error);
                return Ok(Outcome::refused(Code::BAD_REQUEST, refusal));
            }
        };
        if request.version != VERSION {
            let detail = format!("this verifier speaks version {VERSION}");
            let refusal = Refusal::new(Reason::VersionUnsupported, &detail);
            return Ok(Outcome::refused(Code::BAD_REQUEST, refusal));
        }
        let record = self.store.device(&request.device)?;
        let Some(state) = record.as_ref().and_then(|record| record.token.as_ref()) else {
            return Ok(Outcome::refused(Code::NOT_FOUND, not_endorsed()));
        };
        let nonce = self.next_token_nonce(now, &request.device, state);
        let reply = NonceReply {
            nonce: Bytes::new(&nonce).ok_or(Internal::Other("a nonce"))?,
        };
        Ok(Outcome::clear(Code::CONTENT).payload(encode(&reply)?))
    }

    fn next_token_nonce(&self, now: Now, device: &DeviceId, state: &TokenState) -> [u8; 16] {
        // Later than the last, even if our clock was set back.
        let last = state.last.as_ref().map_or(0, |last| last.nonce_at + 1);
        self.nonces.make(device, now.unix.max(last))
    }

    /// Evidence in a wrapper.
    pub(super) fn wrapped(
        &mut self,
        now: Now,
        peer: Peer,
        body: &Body<'_>,
    ) -> Result<Outcome, Internal> {
        let format = body
            .option(option::CONTENT_FORMAT)
            .and_then(|option| option.uint());
        if format != Some(u32::from(cmw::CONTENT_FORMAT)) {
            let refusal = Refusal::new(
                Reason::MediaTypeUnsupported,
                "evidence comes as application/cmw+cbor (273)",
            );
            return Ok(Outcome::refused(Code::UNSUPPORTED_CONTENT_FORMAT, refusal));
        }
        let Whole {
            blocks,
            challenge,
            payload,
        } = match self.whole(now, &peer, body) {
            Ok(whole) => whole,
            Err(answer) => return Ok(answer),
        };
        let refused = |refusal: Refusal| {
            info!(
                "{peer}: evidence refused: {}: {}",
                refusal.reason.token(),
                refusal.detail
            );
            let code = match refusal.reason {
                Reason::DeviceUnknown => Code::NOT_FOUND,
                Reason::MediaTypeUnsupported => Code::UNSUPPORTED_CONTENT_FORMAT,
                Reason::MessageMalformed | Reason::TokenMalformed => Code::BAD_REQUEST,
                _ => Code::FORBIDDEN,
            };
            Ok(Outcome::refused(code, refusal))
        };
        let offered = match self.offered(now, &payload)? {
            Ok(offered) => offered,
            Err(refusal) => return refused(refusal),
        };
        // From here on it costs public-key work.
        if self.tokens.take(now.monotonic).is_err() {
            if let Some(challenge) = &challenge {
                return Ok(Outcome::clear(Code::UNAUTHORIZED).option(option::ECHO, challenge));
            }
            if let Err(seconds) = self.bucket.take(now.monotonic) {
                return Ok(super::hello::busy(seconds));
            }
        }
        let room = match peer {
            Peer::Udp(_) if challenge.is_some() => payload.len(),
            _ => usize::MAX,
        };
        match self.attested(now, offered, &payload, room)? {
            Ok(reply) => {
                let transfers = &mut self.transfers;
                let outcome = transfers.in_blocks(now.monotonic, peer, &blocks, reply);
                Ok(match challenge {
                    Some(_) => outcome,
                    None => outcome.for_verified_address(),
                })
            }
            Err(refusal) => refused(refusal),
        }
    }

    /// A token of a device that we know, for a nonce that we gave it and that is still open: all that can be
    /// found out without public-key work.
    fn offered(&self, now: Now, payload: &[u8]) -> Result<Result<Offered, Refusal>, Internal> {
        let refuse =
            |reason, detail: &dyn ToString| Ok(Err(Refusal::new(reason, &detail.to_string())));
        let wrapped = match Wrapped::open(payload) {
            Ok(wrapped) if wrapped.kind == KindId::Token => wrapped,
            Ok(wrapped) => {
                let name = wrapped.kind.media_type();
                let detail = format!("{name} does not come this way");
                return refuse(Reason::MediaTypeUnsupported, &detail);
            }
            Err(error) => return refuse(error.reason(), &error),
        };
        let hints = match Hints::of(&wrapped.value) {
            Ok(hints) => hints,
            Err(error) => return refuse(error.reason(), &error),
        };
        let Some(device) = hints.device else {
            let what = "the token's kid is not a device id of 16 bytes";
            return refuse(Reason::TokenMalformed, &what);
        };
        let Some(record) = self.store.device(&device)? else {
            return Ok(Err(not_endorsed()));
        };
        let Some(state) = record.token.clone() else {
            return Ok(Err(not_endorsed()));
        };
        if !matches!(record.admission, Admission::Admitted { .. }) {
            return refuse(
                Reason::AdmissionRefused,
                &"the operator refused this device",
            );
        }
        let Some(nonce_at) = self.nonces.given_at(&device, hints.nonce) else {
            return refuse(Reason::TokenWrongNonce, &"not a nonce for this device");
        };
        if state
            .last
            .as_ref()
            .is_some_and(|last| nonce_at <= last.nonce_at)
        {
            return refuse(Reason::TokenReplayed, &"this nonce was answered");
        }
        let age = now.unix.saturating_sub(nonce_at);
        if age > 1000 * u64::from(self.settings.nonce_lifetime) {
            return refuse(Reason::NonceExpired, &"ask for another");
        }
        let nonce = hints.nonce.to_vec();
        let token = wrapped.value.into_owned();
        Ok(Ok(Offered {
            device,
            record,
            state,
            token,
            nonce,
            nonce_at,
        }))
    }

    /// Verifies and appraises a token, and remembers what came of it; the signed reply, no longer than `room`.
    fn attested(
        &mut self,
        now: Now,
        offered: Offered,
        payload: &[u8],
        room: usize,
    ) -> Result<Result<Vec<u8>, Refusal>, Internal> {
        let Offered {
            device,
            mut record,
            mut state,
            token,
            nonce,
            nonce_at,
        } = offered;
        let verified = match verify_endorsed(&state, &token, &nonce, now.unix) {
            Ok(verified) => verified,
            Err(error) => return Ok(Err(Refusal::new(error.reason(), &error))),
        };
        let before = state.last.as_ref().map(|last| {
            // One that does not count any more tells nothing.
            let before = verify_stored(&state).ok().flatten();
            let count = before.and_then(|before| before.boot_count());
            (last.boot, last.since, count)
        });
        let (boot, since) = match (before, verified.boot_count()) {
            (None, _) => (1, now.unix),
            (Some((_, _, Some(old))), Some(new)) if new < old => {
                let detail = format!("bootcount was {old}, is {new}");
                return Ok(Err(Refusal::new(Reason::ClockWentBackwards, &detail)));
            }
            (Some((boot, _, Some(old))), Some(new)) if new > old => (boot + 1, now.unix),
            (Some((boot, since, _)), _) => (boot, since),
        };
        let store = self.store.as_ref();
        let policy = self.policies.for_device(store, &device, now.unix)?;
        let Settled {
            content,
            deviations,
            tier,
            reasons,
        } = verified.appraise(&policy, now.unix);
        let tokens: Vec<String> = reasons.iter().map(|r| r.token().to_owned()).collect();
        let old = store.deviations(&device, crate::store::MAX_DEVIATIONS as usize)?;
        let last = store
            .verdicts(&device, 1)?
            .pop()
            .map(|(_, verdict)| verdict);
        let unchanged = last
            .is_some_and(|last| last.boot == boot && last.tier == tier && last.reasons == tokens);
        state.last = Some(TokenEvidence {
            token,
            nonce,
            nonce_at,
            at: now.unix,
            boot,
            since,
            content,
        });
        record.last_seen = Some(now.unix);
        record.software = verified.software();
        let next = self.next_token_nonce(now, &device, &state);
        record.token = Some(state);
        let mut changes = vec![
            Change::PutDevice(device, record),
            Change::ClearDeviations(device),
        ];
        changes.extend(deviations.into_iter().map(|mut deviation| {
            deviation.since = crate::policy::reappraise::since(&old, &deviation);
            Change::AddDeviation(device, deviation)
        }));
        if !unchanged {
            debug!("device {device}: {tier}, {tokens:?}");
            changes.push(Change::AddVerdict(
                device,
                VerdictRecord {
                    at: now.unix,
                    boot,
                    tier,
                    reasons: tokens,
                },
            ));
        }
        // Always: what a token has answered must not count twice, whatever happens to us.
        self.store.commit(&changes, Durability::Immediate)?;
        self.token_reply(payload, &next, tier, &reasons, room)
            .map(Ok)
    }

    /// The signed reply, with as many reasons as there is room for.
    fn token_reply(
        &self,
        payload: &[u8],
        nonce: &[u8],
        tier: Tier,
        reasons: &[Reason],
        room: usize,
    ) -> Result<Vec<u8>, Internal> {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, payload);
        let mut count = reasons.len().min(MAX_REASONS);
        loop {
            let reply = Reply {
                tier,
                nonce: Some(Nonce {
                    id: 0,
                    value: Bytes::new(nonce).ok_or(Internal::Other("a nonce"))?,
                    lifetime: self.settings.nonce_lifetime,
                }),
                interval: Some(self.settings.interval),
                reasons: Reasons::new(reasons.iter().copied().take(count)),
                ..Reply::default()
            };
            let signed = self.sign(digest.as_ref(), &encode(&reply)?)?;
            if signed.len() <= room || count == 0 {
                return Ok(signed);
            }
            count -= 1;
        }
    }
}

/// A token before its signature has been looked at.
struct Offered {
    device: DeviceId,
    record: DeviceRecord,
    state: TokenState,
    token: Vec<u8>,
    nonce: Vec<u8>,
    nonce_at: u64,
}

fn not_endorsed() -> Refusal {
    Refusal::new(
        Reason::DeviceUnknown,
        "no key is endorsed for this device; see motectl device endorse",
    )
}

fn encode<T: minicbor::Encode<()>>(message: &T) -> Result<Vec<u8>, Internal> {
    let mut payload = vec![0; mote_schemas::limits::MAX_MESSAGE];
    let len = cbor::encode(message, &mut payload)
        .map_err(|_| Internal::Other("a reply does not fit a message"))?;
    payload.truncate(len);
    Ok(payload)
}
