//! From records and the quote that covers them to what is certified, or to why it is not.

use log::warn;
use mote_schemas::message::Tier;
use mote_schemas::reason::{Reason, Severity};
use mote_schemas::tpm::Public;

use super::standing::Standing;
use super::{Attestation, LOAD};
use crate::engine::Internal;
use crate::engine::outcome::Refusal;
use crate::prefix::{Certified, IMA_PCR, LogState, Outcome, PendingLog, PrefixError, values_of};
use crate::quote::VerifiedQuote;
use crate::signature::VerifyingKey;
use crate::store::{BootState, Change, OutstandingQuote, Record};

impl Attestation<'_> {
    /// Certifies and appraises what can be, and says how the device stands. Refuses a message whose
    /// quote contradicts what came with it: that says nothing about the device's log.
    pub(in crate::engine) fn settle(&mut self) -> Result<Result<Standing, Refusal>, Internal> {
        let next_record = self.received();
        let due = self
            .record
            .boot
            .as_ref()
            .and_then(|boot| boot.outstanding.as_ref())
            .is_some_and(|quote| next_record >= quote.records);
        if due {
            self.quoted = true;
            if self.adds_nothing() {
                self.judge_again()?;
                return self.stands().map(Ok);
            }
            match self.certify()? {
                Ok(certified) => self.judge(&certified)?,
                Err(error) => return self.not_certified(&error),
            }
        }
        self.keep_records();
        self.stands().map(Ok)
    }

    /// Whether this message's quote says of every PCR what the one before has certified, and there is no record
    /// that it could certify: a replay would end where it begins, with the boot judged before. That is what a
    /// heartbeat is, mostly. What it changes is the clock, and when it was quoted.
    fn adds_nothing(&mut self) -> bool {
        let (Some(boot), Some(quote)) = (&self.record.boot, self.fresh) else {
            return false;
        };
        let outstanding = boot.outstanding.as_ref();
        let values = boot.pcrs.iter().map(|bank| bank.values.len());
        let as_before = boot.restarted.is_none()
            && !boot.boot_log.as_ref().is_some_and(|log| log.due)
            && outstanding.is_some_and(|outstanding| outstanding.claims.is_empty())
            && quote.selection().count() == values.sum::<usize>();
        let digest = quote.pcr_digest();
        as_before
            && self.brings_nothing()
            && self.unchanged(quote.selection(), digest.alg()).as_ref() == Some(digest)
    }

    /// Whether all records that are here were certified before, and some were.
    pub(super) fn brings_nothing(&self) -> bool {
        let boot = self.record.boot.as_ref();
        boot.is_some_and(|boot| boot.certified > 0 && boot.certified == self.received())
    }

    /// What becomes of a message when its quote, or the one before it, certifies nothing: another
    /// question, a refusal, or a verdict.
    fn not_certified(
        &mut self,
        error: &PrefixError,
    ) -> Result<Result<Standing, Refusal>, Internal> {
        if matches!(error, PrefixError::DoesNotReplay { .. }) && self.retract_guesses() {
            return self.stands().map(Ok);
        }
        let ask = match error {
            PrefixError::UnknownPcr { .. } => true,
            // Perhaps a PCR outside the log has changed since we last saw it.
            PrefixError::DoesNotReplay { .. } => !self.fresh_claims && self.has_boot_pcrs(),
            _ => false,
        };
        if ask {
            return Ok(Ok(self.ask_for_pcrs(Reason::QuoteOutstanding)));
        }
        if matches!(error, PrefixError::DoesNotReplay { .. }) && self.start_over() {
            return Ok(Ok(self.ask_for_pcrs(Reason::QuoteOutstanding)));
        }
        let reason = self.name_replay_failure(error);
        if reason.severity() == Severity::Refused {
            return Ok(if self.fresh.is_some() {
                Err(Refusal::new(reason, error))
            } else {
                Ok(self.ask_for_pcrs(reason))
            });
        }
        warn!("device {}: {error}", self.device);
        self.drop_outstanding();
        self.drop_false_records(reason)?;
        self.set_verdict(Tier::Contraindicated, &[reason], Some(error.to_string()))?;
        self.keep_records();
        // Nothing certified tells the next quote's pcrDigest.
        self.full_quote_wanted().map(Ok)
    }

    /// Forgets the records that no quote has certified, so that a list that was damaged on its way
    /// can be sent again. Once: a device whose list stays false does not send it at every heartbeat.
    fn drop_false_records(&mut self, reason: Reason) -> Result<(), Internal> {
        let again = self
            .current_verdict()?
            .is_some_and(|last| last.reasons == [reason.token()]);
        let Some(boot) = self.record.boot.as_ref().filter(|_| !again) else {
            return Ok(());
        };
        self.new.clear();
        if self.stored > boot.certified {
            self.changes.push(Change::TruncateLog {
                device: self.device,
                boot: boot.number,
                from: boot.certified,
            });
            self.stored = boot.certified;
        }
        Ok(())
    }

    /// Matches the outstanding quote with the records.
    fn certify(&mut self) -> Result<Result<Certified<Record>, PrefixError>, Internal> {
        let missing = || Internal::Other("no boot or no quote to certify");
        let boot = self.record.boot.as_ref().ok_or_else(missing)?;
        let quote = boot.outstanding.as_ref().ok_or_else(missing)?;
        let verified = match self.fresh {
            Some(verified) => verified,
            None => verify_again(&self.record.ak_public, quote)?,
        };
        let mut log = PendingLog::new(LogState::of(boot));
        if let Err(error) = log.append(boot.certified, self.uncertified(boot)?) {
            return Ok(Err(error));
        }

        let mut claims = values_of(&quote.claims);
        let mut outcome = log.certify(&verified, &claims, true);
        if matches!(outcome, Err(PrefixError::PcrDigestMismatch)) {
            // The log went on between the quote and the reading of the PCRs: without the values of
            // the PCRs that it extends, the others still stand.
            let log_pcrs = boot.log_pcrs | 1 << IMA_PCR;
            claims.retain(|(_, pcr), _| log_pcrs >> pcr & 1 == 0);
            outcome = match log.certify(&verified, &claims, true) {
                Err(PrefixError::DoesNotReplay { .. }) => Err(PrefixError::PcrDigestMismatch),
                other => other,
            };
        }
        Ok(match outcome {
            Ok(Outcome::Certified(certified)) => Ok(certified),
            // With `all_here` there is nothing more to need.
            Ok(Outcome::NeedMore) => Err(PrefixError::DoesNotReplay {
                records: self.received(),
            }),
            Err(error) => Err(error),
        })
    }

    /// All records that no quote has certified, those of this message last.
    pub(super) fn uncertified(&self, boot: &BootState) -> Result<Vec<Record>, Internal> {
        let mut records = Vec::new();
        let mut wanted = boot.certified;
        while wanted < self.stored {
            let ids = self.store.log(&self.device, boot.number, wanted, LOAD)?;
            if ids.is_empty() {
                return Err(Internal::Other("a stored log has a hole"));
            }
            for id in &ids {
                let record = self.store.record(id)?;
                records.push(record.ok_or(Internal::Other("a stored record is gone"))?);
            }
            wanted += ids.len() as u64;
        }
        records.extend_from_slice(&self.new);
        Ok(records)
    }

    /// Why a log that does not replay does not.
    fn name_replay_failure(&self, error: &PrefixError) -> Reason {
        let untouched = self.record.boot.as_ref().is_some_and(|boot| {
            let claims = boot.outstanding.as_ref().map(|quote| &quote.claims);
            let ima = claims.into_iter().flatten().flat_map(|bank| &bank.values);
            let mut ima = ima
                .filter(|value| u32::from(value.index) == IMA_PCR)
                .peekable();
            ima.peek().is_some() && ima.all(|value| value.value.iter().all(|byte| *byte == 0))
        });
        if matches!(error, PrefixError::DoesNotReplay { .. }) && untouched && self.received() > 0 {
            Reason::ImaWithoutTpm
        } else {
            error.reason()
        }
    }
}

fn verify_again(ak_public: &[u8], quote: &OutstandingQuote) -> Result<VerifiedQuote, Internal> {
    let spoiled = || Internal::Other("a stored quote does not verify any more");
    let ak = Public::parse(ak_public).map_err(|_| spoiled())?;
    let key = VerifyingKey::new(&ak).map_err(|_| spoiled())?;
    VerifiedQuote::verify(
        &quote.attest,
        &quote.signature,
        &key,
        &quote.extra_data,
        None,
    )
    .map_err(|_| spoiled())
}
