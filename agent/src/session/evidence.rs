//! open, log and beat, and what the verifier's replies make of them.

use core::time::Duration;

use heapless::Vec;
use mote_schemas::cbor::{self, BufferTooSmall, Bytes, Text};
use mote_schemas::coap::{Body, Code, Message};
use mote_schemas::ima::{Endian, ListFormat, ListParser, Record, Step as Parsed};
use mote_schemas::limits::{
    MAX_IMA_TEMPLATE_DATA, MAX_IMA_TEMPLATE_NAME, MAX_MESSAGE, MAX_PCR_BANKS, PCR_COUNT,
};
use mote_schemas::message::{
    self as message, Beat, Changes, Entries, EntriesWriter, Entry, FullQuote, IMA_PCR, Log, Nonce,
    Open, PREFIX_LENGTHS, PcrBank, PcrBanks, Ranges, Reasons, Reply, Wants, path,
};
use mote_schemas::reason::Reason;
use mote_schemas::time::Instant;

use super::channel::Opened;
use super::quotes::Quotes;
use super::transfer::{Piece, Room, Transfer};
use super::{Device, Event, Session, Step, StepError, Token};
use crate::measurement_log::{LogError, MeasurementLog};
use crate::tpm::{PcrSelection, Quote, Tpm};

/// PCR values of every bank that may be quoted, SHA-512 in the worst case.
const MAX_PCR_VALUES: usize = MAX_PCR_BANKS * PCR_COUNT * 64;

/// Room for records in the kernel's format; they shrink when they are encoded.
const READ_BUFFER: usize = MAX_MESSAGE + 512;

/// Largest record in the kernel's format, in bytes: PCR, SHA-1 and two lengths around name and data.
const MAX_KERNEL_RECORD: usize = 4 + 20 + 4 + MAX_IMA_TEMPLATE_NAME + 4 + MAX_IMA_TEMPLATE_DATA;

/// Bytes that records add to a beat besides their own, at most: their first number and how many there
/// are, each with its key, and the key of the records.
const WITH_RECORDS: usize = 10 + 10 + 1;

/// The list as this machine's kernel writes it.
pub(super) const KERNEL_LIST: ListFormat = ListFormat {
    endian: Endian::NATIVE,
    ..ListFormat::LITTLE_SHA1
};

/// Interval until the verifier sets one.
const DEFAULT_INTERVAL: Duration = Duration::from_secs(300);

/// Where the conversation stands.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "what the verifier asked for, each independent of the others"
)]
pub(super) struct Progress {
    /// The verifier's nonce and its id.
    nonce: Option<(u8, Vec<u8, 32>)>,
    /// First record that the verifier does not have.
    pub(super) wanted: u64,
    /// First record that the last request did not carry.
    pub(super) sent: u64,
    /// The list went on after that.
    pub(super) behind: bool,
    /// A record that goes in parts.
    pub(super) long: Option<super::long_record::LongRecord>,
    /// The verifier asked for PCR values with the next beat.
    pcr_values: bool,
    /// The verifier asked for a whole quote in the next beat.
    full_quote: bool,
    /// The last beat's quote did not count: another one at once.
    beat_again: bool,
    /// Bytes of a template hash that name a record, once the verifier has said so.
    prefix_length: Option<u8>,
    /// Records that the verifier wants in full.
    in_full: Ranges,
    /// The quotes that both sides know.
    quotes: Quotes,
    interval: Duration,
    /// How far the boot log has got.
    pub(super) boot: super::boot::Upload,
}

impl Default for Progress {
    fn default() -> Self {
        Progress {
            nonce: None,
            wanted: 0,
            sent: 0,
            behind: false,
            long: None,
            pcr_values: false,
            full_quote: false,
            beat_again: false,
            prefix_length: None,
            in_full: Ranges::default(),
            quotes: Quotes::default(),
            interval: DEFAULT_INTERVAL,
            boot: super::boot::Upload::default(),
        }
    }
}

impl Progress {
    /// A new session: the challenge's random is the nonce of open's quote.
    pub(super) fn opening(random: &[u8; 16]) -> Self {
        Progress {
            nonce: Vec::from_slice(random).ok().map(|nonce| (0, nonce)),
            ..Progress::default()
        }
    }
}

impl Session {
    pub(super) fn request_open(
        &mut self,
        now: Instant,
        device: &mut Device<'_>,
    ) -> Result<(), StepError> {
        let before = device.log.count()?;
        let (_, _, quote) = self.quote(device)?;
        let mut values = [0; MAX_PCR_VALUES];
        let pcrs = read_pcrs(device.tpm, &self.settings.selection, &mut values)?;
        let anchor = device.log.anchor()?;
        let records = device.log.count()?;
        let boot_log = device.boot_log.digest();
        let open = Open {
            quote: full_quote(&quote)?,
            pcrs: pcrs.ok_or(StepError::Stale)?,
            records: records - anchor.map_or(0, |(first, _)| first.min(records)),
            boot_log: boot_log.as_ref().and_then(|digest| Bytes::new(digest)),
            software: Some(Text::truncated(concat!(
                "mote-agent ",
                env!("CARGO_PKG_VERSION")
            ))),
            anchor: anchor.map(|(_, anchor)| anchor),
        };
        let still = records == before;
        self.progress.quotes.sending(&quote, still, false);
        self.progress.sent = 0;
        self.progress.behind = records > 0;
        let mut payload = [0; MAX_MESSAGE];
        let len = cbor::encode(&open, &mut payload)?;
        self.send_protected(now, path::OPEN, &payload[..len], device)
    }

    pub(super) fn request_log(
        &mut self,
        now: Instant,
        device: &mut Device<'_>,
    ) -> Result<(), StepError> {
        let from = self.progress.wanted;
        if self.is_in_parts(from) {
            return self.request_record_part(now, device);
        }
        let (mut room, mut payload) = ([0; MAX_MESSAGE], [0; MAX_MESSAGE]);
        let entries = Entries::EMPTY;
        let bare = cbor::encode(&Log { from, entries }, &mut payload)?;
        let budget = self.room()?.single.saturating_sub(bare).min(MAX_MESSAGE);
        let (entries, more) = self.read_entries(device.log, &mut room[..budget])?;
        if entries.is_empty() && more {
            // Not even one fits.
            return self.request_record_part(now, device);
        }
        self.progress.sent = from + entries.records();
        self.progress.behind = more;
        let len = cbor::encode(&Log { from, entries }, &mut payload)?;
        self.send_protected(now, path::LOG, &payload[..len], device)
    }

    pub(super) fn request_beat(
        &mut self,
        now: Instant,
        device: &mut Device<'_>,
    ) -> Result<(), StepError> {
        let before = device.log.count()?;
        let (nonce_id, extra_data, quote) = self.quote(device)?;
        let (mut elided_room, mut room) = ([0; MAX_MESSAGE], [0; MAX_MESSAGE]);
        let (mut values, mut fresh_values) = ([0; MAX_PCR_VALUES], [0; MAX_PCR_VALUES]);
        let ak = self.identity.as_ref().map_or(&[][..], |id| &id.ak);
        let quotes = &self.progress.quotes;
        // Whoever asks for PCR values cannot rebuild a digest over them.
        let elided = if self.progress.full_quote || self.progress.pcr_values {
            None
        } else {
            quotes.elide(&quote, ak, &extra_data, &mut elided_room)
        };
        let mut beat = Beat {
            nonce_id,
            quote: match elided {
                Some((elided, _)) => message::Quote::Elided(elided),
                None => message::Quote::Full(full_quote(&quote)?),
            },
            pcrs: if self.progress.pcr_values {
                read_pcrs(device.tpm, &self.settings.selection, &mut values)?
            } else {
                None
            },
            from: None,
            entries: None,
            records: None,
            changes: elided.map(|(_, changes)| changes),
        };
        let mut payload = [0; MAX_MESSAGE];
        let bare = cbor::encode(&beat, &mut payload)?;
        let budget = self.room()?.single.saturating_sub(bare + WITH_RECORDS);
        let (entries, more) = self.read_entries(device.log, &mut room[..budget])?;
        let records = device.log.count()?;
        let still = records == before;
        if !entries.is_empty() {
            beat.from = Some(self.progress.wanted);
            beat.entries = Some(entries);
        }
        if more {
            beat.records = Some(records);
        }
        if let Some(mut changes) = beat.changes {
            if still && !more {
                // The quote is over all of the list, which the verifier then has.
                changes.pcr_digest = None;
            }
            beat.changes = (changes != Changes::default()).then_some(changes);
            if still && !more && entries.is_empty() && quotes.other_pcrs_changed(&quote) {
                beat.quote = message::Quote::Full(full_quote(&quote)?);
                beat.changes = None;
                let selection = &self.settings.selection;
                beat.pcrs = read_pcrs(device.tpm, selection, &mut fresh_values)?;
            }
        }
        let is_elided = matches!(beat.quote, message::Quote::Elided(_));
        let len = cbor::encode(&beat, &mut payload)?;
        let progress = &mut self.progress;
        progress.sent = progress.wanted + entries.records();
        progress.behind = more;
        progress.pcr_values = false;
        progress.beat_again = false;
        progress.quotes.sending(&quote, still, is_elided);
        self.send_protected(now, path::BEAT, &payload[..len], device)
    }

    /// Quotes over the current nonce; its id and the extraData come along.
    fn quote(&self, device: &mut Device<'_>) -> Result<(u8, [u8; 32], Quote), StepError> {
        let channel = self.channel.as_ref().ok_or(StepError::Stale)?;
        let (id, nonce) = self.progress.nonce.as_ref().ok_or(StepError::Stale)?;
        let qualifying_data = channel.transcript().qualifying_data(nonce);
        let quote = device
            .tpm
            .quote(&self.settings.selection, &qualifying_data)?;
        Ok((*id, qualifying_data, quote))
    }

    /// Entries from the wanted record on, as many as fit `room`, and whether the list goes on.
    fn read_entries<'r>(
        &self,
        log: &mut dyn MeasurementLog,
        room: &'r mut [u8],
    ) -> Result<(Entries<'r>, bool), StepError> {
        let mut raw = [0; READ_BUFFER];
        let mut writer = EntriesWriter::new(room);
        let mut number = self.progress.wanted;
        loop {
            let mut large = std::vec::Vec::new();
            let (chunk, bytes) = match log.read(number, &mut raw) {
                // A few bytes of its hash may do all the same.
                Err(LogError::RecordTooLarge { size, .. }) if size <= MAX_KERNEL_RECORD => {
                    large.resize(size, 0);
                    (log.read(number, &mut large)?, &large[..])
                }
                other => (other?, &raw[..]),
            };
            let mut rest = &bytes[..chunk.bytes];
            let mut parser = ListParser::new(KERNEL_LIST);
            // The log hands out whole records that it has parsed itself.
            while let Ok(Parsed::Record(record, len)) = parser.next(rest) {
                if self.push(&mut writer, number, &record).is_err() {
                    return Ok((writer.finish(), true));
                }
                number += 1;
                rest = &rest[len..];
            }
            if !chunk.more {
                return Ok((writer.finish(), false));
            }
        }
    }

    /// Writes a record by the first bytes of its template hash, or in full where the verifier wants
    /// that or could not know it.
    fn push(
        &self,
        writer: &mut EntriesWriter<'_>,
        number: u64,
        record: &Record<'_>,
    ) -> Result<(), BufferTooSmall> {
        let violation = record.is_violation();
        match self.progress.prefix_length {
            Some(length)
                if record.pcr == IMA_PCR
                    && !violation
                    && !self.progress.in_full.contains(number) =>
            {
                writer.push_known(record.template_hash.as_bytes(), length)
            }
            _ => writer.push(&Entry {
                template: record.template_name,
                data: record.template_data,
                pcr: record.pcr,
                violation,
            }),
        }
    }

    pub(super) fn send_protected(
        &mut self,
        now: Instant,
        path: &'static str,
        payload: &[u8],
        device: &mut Device<'_>,
    ) -> Result<(), StepError> {
        let transfer = Transfer::new(path, payload, self.room()?, super::token(device));
        self.transfer = Some(transfer.ok_or(StepError::Stale)?);
        self.send_piece(now, device)
    }

    /// What fits the next datagram.
    pub(super) fn room(&self) -> Result<Room, StepError> {
        let channel = self.channel.as_ref().ok_or(StepError::Stale)?;
        Ok(channel.room(self.settings.datagram, self.echo.len()))
    }

    pub(super) fn evidence_response(
        &mut self,
        now: Instant,
        response: &Message<'_>,
        device: &mut Device<'_>,
    ) {
        let (Some(channel), Some(transfer)) = (&self.channel, &mut self.transfer) else {
            return;
        };
        let mut plain = [0; MAX_MESSAGE];
        let body = match channel.open(response, &mut plain) {
            Opened::Protected(body) => body,
            // Anyone can say so. It costs us one hello after a back-off, never the evidence.
            Opened::Unprotected => {
                self.accept(now, response);
                self.refused(now, response.code(), &response.body(), device);
                return;
            }
            Opened::Forged => return,
        };
        let piece = transfer.answered(&body);
        self.accept(now, response);
        match piece {
            Piece::Next => self.due = now,
            Piece::Restart => {
                if let Some(transfer) = &mut self.transfer {
                    transfer.restart(super::token(device));
                }
                self.go_on(now, self.step, device);
            }
            Piece::Whole => {
                let whole = self.transfer.take();
                match cbor::decode(whole.as_ref().map_or(&[], Transfer::answer)) {
                    Ok(reply) => self.reply(now, &reply, device),
                    Err(_) => {
                        self.start_over(now, device);
                    }
                }
            }
            // The verifier's own words, and none that an exchange of blocks knows.
            Piece::Foreign => {
                self.start_over(now, device);
            }
            Piece::Other => self.evidence_refused(now, &body, device),
        }
    }

    fn evidence_refused(&mut self, now: Instant, body: &Body<'_>, device: &mut Device<'_>) {
        match body.code() {
            // RFC 8613, B.1.2: the verifier lost its replay window; show that we are alive.
            Code::UNAUTHORIZED if self.take_echo(body) => self.go_on(now, self.step, device),
            code => self.refused(now, code, body, device),
        }
    }

    /// Time until the next heartbeat.
    pub(super) fn next_interval(&self, device: &mut Device<'_>) -> Duration {
        let random = device.random_u32();
        let pacing = &self.settings.pacing;
        pacing.jittered(self.progress.interval, random)
    }

    fn reply(&mut self, now: Instant, reply: &Reply<'_>, device: &mut Device<'_>) {
        let says = |reason: Reason| {
            let tokens = reply.reasons.as_ref();
            tokens.is_some_and(|list| list.tokens().any(|token| token == reason.token()))
        };
        if let Some(first) = reply.first {
            device.log.begins_with(first);
        }
        if let Some(released) = reply.released {
            device.log.release(released);
        }
        let progress = &mut self.progress;
        let advanced = reply.next_record > progress.wanted;
        progress.wanted = reply.next_record;
        progress.behind |= reply.next_record < progress.sent;
        if let Some(Nonce { id, value, .. }) = reply.nonce {
            progress.nonce = Vec::from_slice(value.get()).ok().map(|value| (id, value));
        }
        if let Some(length) = reply.prefix_length.filter(|l| PREFIX_LENGTHS.contains(l)) {
            progress.prefix_length = Some(length);
        }
        if let Some(records) = &reply.records {
            // A message that asks for more was not stored: what it had in full is wanted so again.
            progress.in_full.forget_before(reply.next_record);
            progress.in_full.extend(records);
        }
        if let Some(seconds) = reply.interval {
            progress.interval = Duration::from_secs(u64::from(seconds));
        }
        let wants = reply.wants.unwrap_or_default();
        progress.pcr_values |= wants.contains(Wants::PCR_VALUES);
        let quoted = matches!(self.step, Step::Open | Step::Beat);
        if says(Reason::AdmissionPending) {
            // Until an operator admits us, nothing is stored of us: there is no log to catch up
            // with, and no quote to refer to.
            progress.behind = false;
            progress.quotes = Quotes::default();
        } else if quoted && says(Reason::NonceExpired) {
            progress.quotes.refuse();
            progress.beat_again = true;
        } else if self.step == Step::Beat && reply.records.is_some() && progress.quotes.is_elided()
        {
            // A quote cannot be rebuilt without the records.
            progress.quotes.refuse();
            progress.beat_again = true;
        } else if quoted {
            progress.full_quote = wants.contains(Wants::FULL_QUOTE);
            if progress.full_quote {
                progress.beat_again |= progress.quotes.refuse();
            } else {
                progress.quotes.accept();
            }
        } else {
            progress.full_quote |= wants.contains(Wants::FULL_QUOTE);
        }
        let moved =
            self.progress.boot.answered(reply.boot_log) | self.progress.part_answered(reply);
        if advanced || moved || self.step == Step::Open {
            self.immediate = 0;
        }
        if wants.contains(Wants::HELLO) {
            self.go_on(now, Step::Hello { keys: true }, device);
        } else if self.progress.beat_again {
            self.go_on(now, Step::Beat, device);
        } else if self.progress.behind {
            self.go_on(now, Step::Log, device);
        } else if self.progress.pcr_values {
            self.go_on(now, Step::Beat, device);
        } else if let Some(step) = self.boot_step(now, device) {
            self.go_on(now, step, device);
        } else {
            self.backoff.reset();
            self.immediate = 0;
            let next = self.next_interval(device);
            self.step = Step::Beat;
            self.due = now + next;
            self.event = Some(Event::Appraised {
                tier: reply.tier,
                reasons: reply
                    .reasons
                    .iter()
                    .flat_map(Reasons::tokens)
                    .filter_map(|token| Token::try_from(token).ok())
                    .collect(),
                records: reply.next_record,
                next,
            });
        }
    }
}

impl From<BufferTooSmall> for StepError {
    /// Everything we encode is bounded below [`MAX_MESSAGE`], except an open with more PCR values
    /// than a message holds; a new session would not help, a smaller selection does.
    fn from(_: BufferTooSmall) -> Self {
        StepError::Stale
    }
}

fn full_quote(quote: &Quote) -> Result<FullQuote<'_>, StepError> {
    let attest = Bytes::new(&quote.attest).ok_or(StepError::Stale)?;
    let signature = Bytes::new(&quote.signature).ok_or(StepError::Stale)?;
    Ok(FullQuote { attest, signature })
}

/// Reads the selected PCRs into `values`, split by bank.
fn read_pcrs<'v>(
    tpm: &mut dyn Tpm,
    selection: &[PcrSelection],
    values: &'v mut [u8],
) -> Result<Option<PcrBanks<'v>>, StepError> {
    let len = tpm.read_pcrs(selection, values)?;
    let mut rest = &values[..len];
    let banks = selection.iter().map_while(|bank| {
        let digest_len = mote_schemas::tpm::HashAlg::from_u16(bank.bank)?.digest_len();
        let size = digest_len * bank.mask.count_ones() as usize;
        let (own, after) = rest.split_at_checked(size)?;
        rest = after;
        Some(PcrBank {
            hash_alg: bank.bank,
            mask: bank.mask,
            values: Bytes::new(own)?,
        })
    });
    Ok(PcrBanks::new(banks))
}
