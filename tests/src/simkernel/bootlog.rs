//! What the firmware measured: a TCG crypto-agile boot event log.
//!
//! Source: TCG PC Client Platform Firmware Profile 1.05, 10.2. Integers are little-endian. Only
//! what is needed to extend the same digests again is read; event data is not interpreted.

use super::bank::Bank;
use super::{Error, Result};

/// Not extended: carries information about the log itself (10.4.1).
const EV_NO_ACTION: u32 = 0x0000_0003;
const SPEC_ID: &[u8] = b"Spec ID Event03\0";
const STARTUP_LOCALITY: &[u8] = b"StartupLocality\0";

/// One measurement of the firmware.
#[derive(Debug, PartialEq, Eq)]
pub struct Event {
    /// The PCR that was extended.
    pub pcr: u8,
    /// The digest in every bank that the firmware knew.
    pub digests: Vec<(Bank, Vec<u8>)>,
}

/// The measurements of a log, in order. Events that were not extended are left out.
pub fn parse(log: &[u8]) -> Result<Vec<Event>> {
    let mut reader = Reader { log, offset: 0 };
    // The first event is in the SHA-1-only format and says that the rest is not (10.2.1, 10.4.5.1).
    let (_, kind) = (reader.u32()?, reader.u32()?);
    reader.take(20)?;
    let size = reader.u32()?;
    if kind != EV_NO_ACTION || !reader.take(size as usize)?.starts_with(SPEC_ID) {
        return Err(Error::Malformed(
            "boot log: the first event is not 'Spec ID Event03'; only crypto-agile logs are played"
                .into(),
        ));
    }
    let mut events = Vec::new();
    while reader.offset < log.len() {
        let start = reader.offset;
        let (pcr, kind) = (reader.u32()?, reader.u32()?);
        let digests = reader.digests()?;
        let size = reader.u32()?;
        let data = reader.take(size as usize)?;
        if kind == EV_NO_ACTION {
            // Sets PCR 0 before the first extend; swtpm is started at locality 0.
            if data.starts_with(STARTUP_LOCALITY) && data.get(STARTUP_LOCALITY.len()) != Some(&0) {
                return Err(Error::Malformed(
                    "boot log: started at a locality other than 0, which cannot be played".into(),
                ));
            }
            continue;
        }
        let pcr = u8::try_from(pcr)
            .ok()
            .filter(|&pcr| pcr < 24)
            .ok_or_else(|| Error::Malformed(format!("boot log: PCR {pcr} at offset {start}")))?;
        events.push(Event { pcr, digests });
    }
    Ok(events)
}

struct Reader<'a> {
    log: &'a [u8],
    offset: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8]> {
        let end = self.offset.checked_add(n);
        let bytes = end
            .and_then(|end| self.log.get(self.offset..end))
            .ok_or_else(|| Error::Malformed(format!("boot log ends early at {}", self.offset)))?;
        self.offset += n;
        Ok(bytes)
    }

    fn u16(&mut self) -> Result<u16> {
        let bytes = self.take(2)?;
        Ok(u16::from_le_bytes([bytes[0], bytes[1]]))
    }

    fn u32(&mut self) -> Result<u32> {
        let bytes = self.take(4)?;
        Ok(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    /// `TPML_DIGEST_VALUES`.
    fn digests(&mut self) -> Result<Vec<(Bank, Vec<u8>)>> {
        let mut digests = Vec::new();
        for _ in 0..self.u32()? {
            let start = self.offset;
            let alg = self.u16()?;
            let bank = Bank::from_alg(alg).ok_or_else(|| {
                Error::Malformed(format!("boot log: algorithm {alg:#06x} at offset {start}"))
            })?;
            digests.push((bank, self.take(bank.size())?.to_vec()));
        }
        Ok(digests)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recorded;

    #[test]
    fn the_recorded_log_replays_to_the_recorded_pcrs() {
        let events = parse(&recorded::read("binary_bios_measurements").unwrap()).unwrap();
        let expected = recorded::pcrs().unwrap();
        for bank in [Bank::Sha1, Bank::Sha256, Bank::Sha384] {
            for pcr in 0..10u8 {
                let value = events
                    .iter()
                    .filter(|event| event.pcr == pcr)
                    .flat_map(|event| &event.digests)
                    .filter(|(of, _)| *of == bank)
                    .fold(vec![0; bank.size()], |value, (_, digest)| {
                        bank.extend(&value, digest)
                    });
                assert_eq!(value, expected[&(bank, pcr)], "{} PCR {pcr}", bank.name());
            }
        }
    }

    #[test]
    fn a_log_cut_anywhere_but_between_events_is_refused() {
        let log = recorded::read("binary_bios_measurements").unwrap();
        let mut whole = 0;
        for end in 0..log.len() {
            match parse(&log[..end]) {
                Ok(_) => whole += 1,
                Err(error) => assert!(matches!(error, Error::Malformed(_)), "{error}"),
            }
        }
        assert_eq!(
            whole,
            parse(&log).unwrap().len(),
            "one cut before each event"
        );
    }
}
