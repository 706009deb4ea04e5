//! Devices and sessions in memory: those heard of lately are read from here, and what a healthy
//! heartbeat changes about them is written behind.
//!
//! A batched commit that only replaces devices and sessions stays here until the next commit of any other
//! kind, or flush, which puts it in front of its own changes, in the same transaction: so the order is
//! kept, and a crash loses what [`Durability::Batched`](super::Durability) says may be lost. Whatever is
//! here is in the file too, perhaps older: it is never the only trace of a device.
//!
//! One process has the file open, and all its changes pass here. At most [`MAX`] of each are held, and none
//! with more than [`MAX_LEN`] bytes of what a device can make long.

use std::collections::HashMap;
use std::hash::Hash;

use super::{Change, Commit, DeviceId, DeviceRecord, Kid, SessionRecord, VerdictRecord};

/// Devices held, and sessions. A device takes about 3 kB.
const MAX: usize = 8192;

/// Bytes of certificate and its fault, keys that were learned, token and outstanding quote with which a
/// device is held.
const MAX_LEN: usize = 4096;

/// What is held.
#[derive(Debug, Default)]
pub(super) struct Recent {
    devices: HashMap<DeviceId, Device>,
    sessions: HashMap<Kid, Held<SessionRecord>>,
    /// Those that are newer here than in the file, each once.
    waiting: (Vec<DeviceId>, Vec<Kid>),
    generation: Option<u64>,
}

#[derive(Debug)]
struct Held<T> {
    record: T,
    /// Newer than in the file.
    pending: bool,
}

#[derive(Debug)]
struct Device {
    held: Held<DeviceRecord>,
    /// Boot, and where its log ends.
    log_end: Option<(u64, u64)>,
    /// The last verdict; empty: there is none.
    verdict: Option<Vec<(u64, VerdictRecord)>>,
}

impl<T> Held<T> {
    fn stored(record: T) -> Self {
        Held {
            record,
            pending: false,
        }
    }

    /// Whether it did not wait before.
    fn replace(&mut self, record: T) -> bool {
        self.record = record;
        !std::mem::replace(&mut self.pending, true)
    }
}

impl Device {
    fn stored(record: DeviceRecord) -> Self {
        Device {
            held: Held::stored(record),
            log_end: None,
            verdict: None,
        }
    }
}

impl Recent {
    pub(super) fn device(&self, id: &DeviceId) -> Option<&DeviceRecord> {
        self.devices.get(id).map(|device| &device.held.record)
    }

    pub(super) fn session(&self, kid: &Kid) -> Option<&SessionRecord> {
        self.sessions.get(kid).map(|held| &held.record)
    }

    pub(super) fn log_end(&self, id: &DeviceId, boot: u64) -> Option<u64> {
        let (of, end) = self.devices.get(id)?.log_end?;
        (of == boot).then_some(end)
    }

    pub(super) fn verdict(&self, id: &DeviceId) -> Option<&[(u64, VerdictRecord)]> {
        self.devices.get(id)?.verdict.as_deref()
    }

    pub(super) fn generation(&self) -> Option<u64> {
        self.generation
    }

    /// Notes what was read from the file.
    pub(super) fn read_device(&mut self, id: DeviceId, record: &DeviceRecord) {
        if is_short(record) && has_room(&mut self.devices, |device| device.held.pending) {
            self.devices.insert(id, Device::stored(record.clone()));
        }
    }

    pub(super) fn read_session(&mut self, kid: Kid, record: &SessionRecord) {
        if has_room(&mut self.sessions, |held| held.pending) {
            self.sessions.insert(kid, Held::stored(record.clone()));
        }
    }

    pub(super) fn read_log_end(&mut self, id: &DeviceId, boot: u64, end: u64) {
        if let Some(device) = self.devices.get_mut(id) {
            device.log_end = Some((boot, end));
        }
    }

    pub(super) fn read_verdict(&mut self, id: &DeviceId, last: Option<&(u64, VerdictRecord)>) {
        if let Some(device) = self.devices.get_mut(id) {
            device.verdict = Some(last.cloned().into_iter().collect());
        }
    }

    pub(super) fn read_generation(&mut self, generation: u64) {
        self.generation = Some(generation);
    }

    /// Whether all of these changes can wait: those can that replace what is held here.
    pub(super) fn can_hold(&self, changes: &Commit) -> bool {
        changes.iter().all(|change| match change {
            Change::PutDevice(id, record) => is_short(record) && self.devices.contains_key(id),
            Change::PutSession(kid, record) => {
                self.sessions.contains_key(kid) && self.devices.contains_key(&record.device)
            }
            _ => false,
        })
    }

    /// Takes changes of which [`Self::can_hold`] has said that they can wait.
    pub(super) fn hold(&mut self, changes: impl IntoIterator<Item = Change>) {
        for change in changes {
            match change {
                Change::PutDevice(id, record) => {
                    if let Some(device) = self.devices.get_mut(&id)
                        && device.held.replace(record)
                    {
                        self.waiting.0.push(id);
                    }
                }
                Change::PutSession(kid, record) => {
                    if let Some(held) = self.sessions.get_mut(&kid)
                        && held.replace(record)
                    {
                        self.waiting.1.push(kid);
                    }
                }
                _ => {}
            }
        }
    }

    /// Devices that wait.
    pub(super) fn waiting_devices(&self) -> impl Iterator<Item = (&DeviceId, &DeviceRecord)> {
        let waiting = self.waiting.0.iter();
        waiting.filter_map(|id| Some((id, self.device(id)?)))
    }

    /// Sessions that wait.
    pub(super) fn waiting_sessions(&self) -> impl Iterator<Item = (&Kid, &SessionRecord)> {
        let waiting = self.waiting.1.iter();
        waiting.filter_map(|kid| Some((kid, self.session(kid)?)))
    }

    /// Everything that waited is in the file now, and these changes after it.
    pub(super) fn written(&mut self, changes: &Commit) {
        for id in self.waiting.0.drain(..) {
            if let Some(device) = self.devices.get_mut(&id) {
                device.held.pending = false;
            }
        }
        for kid in self.waiting.1.drain(..) {
            if let Some(held) = self.sessions.get_mut(&kid) {
                held.pending = false;
            }
        }
        for change in changes {
            self.note(change);
        }
    }

    fn note(&mut self, change: &Change) {
        match change {
            Change::PutDevice(id, record) => match self.devices.get_mut(id) {
                Some(device) if is_short(record) => device.held = Held::stored(record.clone()),
                // Read again when it is asked for.
                _ => drop(self.devices.remove(id)),
            },
            Change::RemoveDevice(id) => {
                self.devices.remove(id);
                self.sessions.retain(|_, held| held.record.device != *id);
                self.generation = None;
            }
            Change::PutSession(kid, record) => {
                if let Some(held) = self.sessions.get_mut(kid) {
                    *held = Held::stored(record.clone());
                }
            }
            Change::RemoveSession(kid) => drop(self.sessions.remove(kid)),
            Change::AppendLog { device, .. } | Change::TruncateLog { device, .. } => {
                if let Some(device) = self.devices.get_mut(device) {
                    device.log_end = None;
                }
            }
            Change::AddVerdict(id, _) => {
                if let Some(device) = self.devices.get_mut(id) {
                    device.verdict = None;
                }
            }
            Change::PutObject(..) | Change::RemoveObject(..) => self.generation = None,
            Change::PutRecord(_)
            | Change::PutBootLog { .. }
            | Change::AppendBootUpload { .. }
            | Change::DropBootUpload(_)
            | Change::AddDeviation(..)
            | Change::ClearDeviations(_) => {}
        }
    }
}

/// Makes room for one more by giving up all that does not wait.
fn has_room<K: Eq + Hash, T>(held: &mut HashMap<K, T>, pending: impl Fn(&T) -> bool) -> bool {
    if held.len() >= MAX {
        held.retain(|_, entry| pending(entry));
    }
    held.len() < MAX
}

fn is_short(record: &DeviceRecord) -> bool {
    let boot = record.boot.as_ref();
    let quote = boot.and_then(|boot| boot.outstanding.as_ref());
    let learned = boot.into_iter().flat_map(|boot| &boot.content.learned_keys);
    let token = record.token.as_ref();
    let token = token.and_then(|token| token.last.as_ref());
    let len = record.ek_certificate.as_ref().map_or(0, Vec::len)
        + quote.map_or(0, |quote| quote.attest.len() + quote.signature.len())
        + learned.map(|der| der.len()).sum::<usize>()
        + token.map_or(0, |last| last.token.len())
        + record.certificate_fault.as_ref().map_or(0, String::len);
    len <= MAX_LEN
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{BootState, Secret};

    fn device(n: u64) -> DeviceRecord {
        DeviceRecord::new(Vec::new(), Vec::new(), n)
    }

    fn id(n: usize) -> DeviceId {
        DeviceId((n as u128).to_be_bytes())
    }

    fn defer(recent: &mut Recent, changes: &Commit) -> bool {
        let can_wait = recent.can_hold(changes);
        if can_wait {
            recent.hold(changes.iter().cloned());
        }
        can_wait
    }

    fn kid(n: usize) -> Option<Kid> {
        Kid::new(&n.to_be_bytes()[4..])
    }

    fn session(of: usize) -> SessionRecord {
        SessionRecord {
            device: id(of),
            master_secret: Secret(Vec::new()),
            transcript_hash: [0; 32],
            sender_sequence_reserved: 0,
            nonces: Vec::new(),
            created: 0,
            boot_log: None,
            deletes: None,
        }
    }

    #[test]
    fn only_what_replaces_something_held_waits_and_all_or_none_of_a_commit() {
        let (mut recent, kid) = (Recent::default(), kid(1).unwrap());
        let put = Change::PutDevice(id(1), device(2));
        let of_session = Change::PutSession(kid, session(1));
        assert!(
            !defer(&mut recent, std::slice::from_ref(&put)),
            "a new device"
        );
        recent.read_device(id(1), &device(1));
        for other in [
            of_session.clone(),
            Change::RemoveSession(kid),
            Change::ClearDeviations(id(1)),
        ] {
            assert!(!defer(&mut recent, &[put.clone(), other]));
            assert_eq!(recent.device(&id(1)), Some(&device(1)));
            assert_eq!(recent.waiting_devices().count(), 0);
        }
        recent.read_session(kid, &session(2));
        for _ in 0..2 {
            assert!(defer(&mut recent, &[put.clone(), of_session.clone()]));
        }
        let devices: Vec<_> = recent.waiting_devices().collect();
        assert_eq!(devices, [(&id(1), &device(2))], "once");
        assert_eq!(recent.waiting_sessions().count(), 1);
        recent.written(&[]);
        assert_eq!(recent.waiting_devices().count(), 0);
        assert_eq!(recent.waiting_sessions().count(), 0);
        assert_eq!(recent.device(&id(1)), Some(&device(2)), "still held");
    }

    #[test]
    fn what_is_written_past_it_is_not_held_as_it_was() {
        let (mut recent, kid) = (Recent::default(), kid(1).unwrap());
        recent.read_device(id(1), &device(1));
        recent.read_session(kid, &session(1));
        recent.read_log_end(&id(1), 3, 70);
        recent.read_verdict(&id(1), None);
        recent.read_generation(5);
        assert_eq!(recent.log_end(&id(1), 3), Some(70));
        assert_eq!(recent.log_end(&id(1), 2), None, "of another boot");
        recent.written(&[
            Change::PutDevice(id(1), device(2)),
            Change::TruncateLog {
                device: id(1),
                boot: 3,
                from: 0,
            },
            Change::PutObject(crate::store::ObjectKind::Labels, "x".into(), Vec::new()),
        ]);
        assert_eq!(recent.device(&id(1)), Some(&device(2)));
        assert_eq!(recent.log_end(&id(1), 3), None);
        assert_eq!(recent.verdict(&id(1)), Some(&[][..]));
        assert_eq!(recent.generation(), None);
        recent.written(&[Change::RemoveDevice(id(1))]);
        assert_eq!(recent.device(&id(1)), None);
        assert_eq!(recent.session(&kid), None);
        assert_eq!(recent.verdict(&id(1)), None);
    }

    #[test]
    fn no_more_is_held_than_there_is_room_for_and_what_waits_stays() {
        let mut recent = Recent::default();
        recent.read_device(id(0), &device(0));
        assert!(defer(&mut recent, &[Change::PutDevice(id(0), device(1))]));
        for n in 1..3 * MAX {
            recent.read_device(id(n), &device(0));
            recent.read_session(kid(n).unwrap(), &session(0));
            assert!(recent.devices.len() <= MAX && recent.sessions.len() <= MAX);
        }
        assert_eq!(recent.device(&id(0)), Some(&device(1)));

        let mut long = device(2);
        long.boot = Some(BootState::new(1, 0));
        if let Some(boot) = &mut long.boot {
            let der = vec![0; MAX_LEN + 1];
            boot.content.learned_keys = vec![der.into()];
        }
        assert!(!defer(
            &mut recent,
            &[Change::PutDevice(id(0), long.clone())]
        ));
        recent.written(&[Change::PutDevice(id(0), long.clone())]);
        recent.read_device(id(0), &long);
        assert_eq!(recent.device(&id(0)), None);
        for n in 0..2 * MAX {
            recent.read_device(id(n), &device(0));
            defer(&mut recent, &[Change::PutDevice(id(n), device(1))]);
        }
        assert_eq!(recent.waiting_devices().count(), MAX);
    }
}
