//! From what was certified to a verdict, and the verdict's place in the history.

use log::debug;
use mote_schemas::ima::Endian;
use mote_schemas::message::Tier;
use mote_schemas::reason::Reason;

use super::Attestation;
use crate::appraise::{Appraisal, ReferenceLookup, appraise_first_again, appraise_next};
use crate::engine::{Internal, boot, boot_log};
use crate::ima_signature::LearnedKeys;
use crate::policy::{Settled, settle};
use crate::prefix::{Certified, IMA_PCR, are_values, values_by_bank};
use crate::store::{Change, Content, Deviation, Record, VerdictRecord};

impl Attestation<'_> {
    /// Appraises newly certified records and sets the verdict.
    pub(super) fn judge(&mut self, certified: &Certified<Record>) -> Result<(), Internal> {
        let state = certified.prefix().state();
        let Some(boot) = &mut self.record.boot else {
            return Ok(());
        };
        let before = boot::is_due(boot, certified.prefix()).then(|| boot.clone());
        boot.certified = state.records;
        boot.log_pcrs = state.log_pcrs;
        if !are_values(&boot.pcrs, state) {
            boot.pcrs = values_by_bank(state);
        }
        let (mut boot_found, mut waits) = (None, false);
        // Seldom: the log may be large, and is read from the store.
        if let Some(before) = &before {
            let expected = self.policy.boot();
            let evidence = boot_log::evidence(self.store, &self.device, boot, expected)?;
            if let Some(state) = &mut boot.boot_log {
                state.due = evidence.awaited;
            }
            waits = evidence.waits;
            boot_found = Some(boot::appraise(
                before,
                certified.prefix(),
                evidence.log.as_deref(),
                &evidence.references,
                self.now.unix,
            ));
        }
        let padded = state.padded.iter().map(|alg| alg.to_u16()).collect();
        boot.padded_banks = Some(padded).filter(|banks: &Vec<u16>| !banks.is_empty());

        let mut content = std::mem::take(&mut boot.content);
        let mut learned = LearnedKeys::from_ders(content.learned_keys.iter().map(|der| &der[..]));
        let policy = self.policy.as_ref();
        let mut appraisal = appraise_next(certified, policy, &mut learned, Endian::Little);
        // Boot PCRs that change while the device runs are no longer those that its kernel saw. Whoever appraises
        // the whole log sees it, after a change of policy for example; so it is said at once.
        if before.as_ref().is_some_and(|before| before.certified > 0)
            && let Some(id) = self.store.log(&self.device, boot.number, 0, 1)?.first()
            && let Some(first) = self.store.record(id)?
        {
            let mut again =
                appraise_first_again(&first, certified.prefix(), policy, Endian::Little);
            let is_new = |token: &str| !content.reasons.iter().any(|known| known == token);
            again
                .deviations
                .retain(|found| is_new(found.fault.reason().token()));
            appraisal.deviations.extend(again.deviations);
        }
        content.learned_keys = learned.ders().map(|der| der.to_vec().into()).collect();
        let of_boot = boot_found.map_or_else(Vec::new, |found| found.deviations);
        self.conclude(content, appraisal, of_boot, waits)
    }

    /// The verdict after a quote that adds nothing to what was certified before.
    pub(super) fn judge_again(&mut self) -> Result<(), Internal> {
        let content = match &mut self.record.boot {
            Some(boot) => std::mem::take(&mut boot.content),
            None => return Ok(()),
        };
        self.conclude(content, Appraisal::default(), Vec::new(), false)
    }

    /// Takes the outstanding quote for certified, and weighs what was found: in certified records so far
    /// (`content`), in those that it added, and in the boot.
    fn conclude(
        &mut self,
        content: Content,
        appraisal: Appraisal,
        of_boot: Vec<Deviation>,
        waits: bool,
    ) -> Result<(), Internal> {
        let received = self.received();
        let policy = self.policy.as_ref();
        let Some(boot) = &mut self.record.boot else {
            return Ok(());
        };
        if let Some(quote) = boot.outstanding.take() {
            boot.quoted_at = quote.at;
        }
        boot.restarted = None;
        // What was guessed has been confirmed, unless it is beyond this quote.
        if boot.certified == received {
            boot.guessed = None;
        }
        boot.in_full = boot.in_full.filter(|end| *end > boot.certified);
        let (ak, now) = (&self.record.ak_public, self.now.unix);
        let mut settled = settle(policy, ak, boot, content, appraisal, of_boot, now);
        if waits {
            settled.wait_for_log();
        }
        let Settled {
            content,
            deviations,
            tier,
            reasons,
        } = settled;
        boot.content = content;
        let found = deviations.into_iter();
        self.changes
            .extend(found.map(|deviation| Change::AddDeviation(self.device, deviation)));
        self.set_verdict(tier, &reasons, None)
    }

    /// The last verdict, if it is about this boot.
    pub(super) fn current_verdict(&self) -> Result<Option<VerdictRecord>, Internal> {
        let Some(boot) = &self.record.boot else {
            return Ok(None);
        };
        let pending = self.changes.iter().rev().find_map(|change| match change {
            Change::AddVerdict(_, verdict) => Some(verdict.clone()),
            _ => None,
        });
        let last = match pending {
            Some(verdict) => Some(verdict),
            None => self
                .store
                .verdicts(&self.device, 1)?
                .pop()
                .map(|(_, verdict)| verdict),
        };
        Ok(last.filter(|verdict| verdict.boot == boot.number))
    }

    /// Adds a verdict to the history if it is another one; durable before the reply then.
    pub(super) fn set_verdict(
        &mut self,
        tier: Tier,
        reasons: &[Reason],
        note: Option<String>,
    ) -> Result<(), Internal> {
        let boot = self.record.boot.as_ref().map_or(0, |boot| boot.number);
        let tokens: Vec<String> = reasons.iter().map(|r| r.token().to_owned()).collect();
        let unchanged = self
            .current_verdict()?
            .is_some_and(|last| last.tier == tier && last.reasons == tokens);
        if unchanged {
            return Ok(());
        }
        debug!("device {}: {tier}, {tokens:?}", self.device);
        if let Some(note) = note {
            let deviation = Deviation {
                reason: tokens.first().cloned().unwrap_or_default(),
                since: self.now.unix,
                record: None,
                pcr: Some(IMA_PCR as u8),
                path: None,
                measured: None,
                expected: Vec::new(),
                note: Some(note),
            };
            self.changes
                .push(Change::AddDeviation(self.device, deviation));
        }
        let verdict = VerdictRecord {
            at: self.now.unix,
            boot,
            tier,
            reasons: tokens,
        };
        self.changes.push(Change::AddVerdict(self.device, verdict));
        self.must_be_durable();
        Ok(())
    }
}
