//! `motectl bootlog`: what a boot event log says, and whether PCRs bear it out.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use mote_schemas::bootlog::{BootLog, BootPcrs, Event, EventData, Signatures};
use mote_schemas::limits::MAX_BOOT_LOG;
use mote_schemas::tpm::{Digest, HashAlg, hash};
use serde::Serialize;

use super::{Context, Failure, Outcome};
use crate::boot::signature_in_words;
use crate::hex;
use crate::manifest::KeyVariable;
use crate::printable::printable;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Print the events of a log, and the PCRs that they lead to.
    #[command(after_help = "\
Examples:
  motectl bootlog show /sys/kernel/security/tpm0/binary_bios_measurements
  motectl bootlog show log --pcrs pcrs.txt
  motectl bootlog show log --json | jq '.events[] | select(.pcr == 4)'

An event's type is covered by no PCR, and its data only where the output says so.")]
    Show {
        /// The log.
        file: PathBuf,
        /// PCR values to compare with: lines of bank, number and hex.
        #[arg(long, value_name = "FILE")]
        pcrs: Option<PathBuf>,
    },
}

pub(super) fn run(context: &Context, command: Command) -> Outcome {
    let Command::Show { file, pcrs } = command;
    let bytes = read(&file, MAX_BOOT_LOG)?;
    let log =
        BootLog::parse(&bytes).map_err(|error| Failure(format!("{}: {error}", file.display())))?;
    let quoted = pcrs.as_deref().map(read_pcrs).transpose()?;
    let shown = Shown::new(&log, quoted.as_ref());
    let text = context.show(&shown, Shown::in_words)?;
    if shown.matches == Some(false) {
        // The output tells where; the exit status must not say that all is well.
        print!("{text}");
        return Err(Failure(format!(
            "{}: the log does not lead to these PCR values",
            file.display()
        )));
    }
    Ok(text)
}

/// A file of at most `max` bytes; securityfs gives no size beforehand.
pub(super) fn read(file: &Path, max: usize) -> Result<Vec<u8>, Failure> {
    use std::io::Read;
    let named = |error: std::io::Error| Failure(format!("{}: {error}", file.display()));
    let mut bytes = Vec::new();
    std::fs::File::open(file)
        .and_then(|open| open.take(max as u64 + 1).read_to_end(&mut bytes))
        .map_err(named)?;
    if bytes.len() > max {
        return Err(Failure(format!(
            "{}: larger than {max} bytes",
            file.display()
        )));
    }
    Ok(bytes)
}

/// PCR values by bank and number.
pub(super) type Pcrs = BTreeMap<(HashAlg, u32), Digest>;

/// Lines of bank, PCR, value: `sha256 0 <hex>`, or as in `sha256:0=<hex>`.
pub(super) fn read_pcrs(file: &Path) -> Result<Pcrs, Failure> {
    let bytes = read(file, 64 * 1024)?;
    let text = String::from_utf8_lossy(&bytes);
    let line = |line: &str| {
        let mut words = line
            .split([' ', '\t', ':', '='])
            .filter(|word| !word.is_empty());
        let bank = HashAlg::from_name(words.next()?)?;
        let pcr = words.next()?.parse().ok()?;
        let value = Digest::new(bank, &hex::decode(words.next()?)?)?;
        words.next().is_none().then_some(((bank, pcr), value))
    };
    text.lines()
        .enumerate()
        .filter(|(_, text)| !text.trim().is_empty())
        .map(|(number, text)| {
            line(text).ok_or_else(|| {
                Failure(format!(
                    "{}:{}: not a bank, a PCR and its value, such as: sha256 0 <64 hex digits>",
                    file.display(),
                    number + 1
                ))
            })
        })
        .collect()
}

#[derive(Serialize)]
struct Shown {
    /// `crypto-agile` or `sha1`.
    format: &'static str,
    banks: Vec<&'static str>,
    startup_locality: u8,
    events: Vec<ShownEvent>,
    /// Bank -> PCR -> value after the log, of the PCRs that it extends.
    pcrs: BTreeMap<&'static str, BTreeMap<u32, String>>,
    /// Whether the PCRs that the log extends have the given values; none were given: null.
    matches: Option<bool>,
    /// The PCRs that have not: `sha256:4`.
    differing: Vec<String>,
}

#[derive(Serialize)]
struct ShownEvent {
    number: u32,
    offset: usize,
    pcr: u32,
    #[serde(rename = "type")]
    event_type: String,
    extended: bool,
    digests: BTreeMap<String, String>,
    /// Whether the digests are those of the data, so that a PCR vouches for it.
    data_covered: bool,
    /// What the data says.
    text: String,
    /// What a variable of Secure Boot holds.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    signatures: Vec<ShownSignature>,
    data: String,
}

#[derive(Serialize)]
struct ShownSignature {
    /// What `motectl manifest build --secure-boot-allow` takes.
    digest: String,
    text: String,
}

impl Shown {
    fn new(log: &BootLog<'_>, quoted: Option<&Pcrs>) -> Self {
        let mut pcrs = BTreeMap::new();
        let mut differing = Vec::new();
        let mut startup_locality = 0;
        for bank in log.banks() {
            let Ok(replayed) = BootPcrs::replay(log, bank) else {
                continue;
            };
            startup_locality = replayed.startup_locality();
            let extended = (0..24).filter(|pcr| replayed.extended() >> pcr & 1 == 1);
            let values: BTreeMap<u32, Digest> = extended
                .filter_map(|pcr| Some((pcr, *replayed.get(pcr)?)))
                .collect();
            for (pcr, value) in &values {
                if let Some(other) = quoted.and_then(|quoted| quoted.get(&(bank, *pcr)))
                    && other != value
                {
                    differing.push(format!("{bank}:{pcr}"));
                }
            }
            let values = values
                .into_iter()
                .map(|(pcr, value)| (pcr, value.to_string()));
            pcrs.insert(bank.name(), values.collect());
        }
        let compared = quoted.is_some_and(|quoted| {
            let mut extended = quoted.keys();
            extended.any(|(bank, pcr)| {
                let values: Option<&BTreeMap<u32, String>> = pcrs.get(bank.name());
                values.is_some_and(|values| values.contains_key(pcr))
            })
        });
        Self {
            format: match log.format() {
                mote_schemas::bootlog::LogFormat::Sha1 => "sha1",
                mote_schemas::bootlog::LogFormat::CryptoAgile => "crypto-agile",
            },
            banks: log.banks().map(HashAlg::name).collect(),
            startup_locality,
            events: log.events().map(|event| ShownEvent::new(&event)).collect(),
            pcrs,
            matches: quoted.map(|_| compared && differing.is_empty()),
            differing,
        }
    }

    fn in_words(&self) -> String {
        let mut out = String::new();
        let mut line = |text: std::fmt::Arguments<'_>| {
            // Writing to a String does not fail.
            let _ = out.write_fmt(text);
        };
        line(format_args!(
            "{} log, {} events, banks: {}\n",
            self.format,
            self.events.len(),
            self.banks.join(" ")
        ));
        for event in &self.events {
            let pcr = if event.extended {
                format!("PCR {}", event.pcr)
            } else {
                "-".to_owned()
            };
            line(format_args!(
                "{:>3}  {pcr:<6}  {}{}\n",
                event.number,
                event.event_type,
                if event.extended && !event.data_covered {
                    "  (data not covered)"
                } else {
                    ""
                }
            ));
            if !event.text.is_empty() {
                line(format_args!("     {}\n", event.text));
            }
            for ShownSignature { digest, text } in &event.signatures {
                line(format_args!("       holds {digest}\n         {text}\n"));
            }
            if event.extended {
                for (bank, digest) in &event.digests {
                    line(format_args!("     {bank} {digest}\n"));
                }
            }
        }
        if self.startup_locality != 0 {
            line(format_args!(
                "started at locality {}\n",
                self.startup_locality
            ));
        }
        for (bank, values) in &self.pcrs {
            for (pcr, value) in values {
                let differs = self.differing.contains(&format!("{bank}:{pcr}"));
                let mark = if differs { "  DIFFERS" } else { "" };
                line(format_args!("{bank}:{pcr} {value}{mark}\n"));
            }
        }
        if self.matches == Some(true) {
            line(format_args!("the log leads to the given PCR values\n"));
        }
        out
    }
}

impl ShownEvent {
    fn new(event: &Event<'_>) -> Self {
        let digests: BTreeMap<String, String> = event
            .digests
            .iter()
            .map(|digest| {
                let name = HashAlg::from_u16(digest.alg)
                    .map_or_else(|| format!("{:#06x}", digest.alg), |alg| alg.to_string());
                (name, hex::encode(digest.bytes))
            })
            .collect();
        let mut known = HashAlg::ALL
            .into_iter()
            .filter(|bank| event.digest(*bank).is_some())
            .peekable();
        let data_covered = known.peek().is_some() && known.all(|bank| event.covers_data(bank));
        Self {
            number: event.number,
            offset: event.offset,
            pcr: event.pcr,
            event_type: event.event_type.to_string(),
            extended: event.is_extended(),
            digests,
            data_covered,
            text: printable(words(event).as_bytes()),
            signatures: signatures(event),
            data: hex::encode(event.data),
        }
    }
}

fn signatures(event: &Event<'_>) -> Vec<ShownSignature> {
    let EventData::Variable(variable) = event.view() else {
        return Vec::new();
    };
    if KeyVariable::from_name(&variable.name.to_string()).is_none() {
        return Vec::new();
    }
    Signatures::new(variable.value)
        .map_while(Result::ok)
        .map(|signature| ShownSignature {
            digest: signature.digest().to_string(),
            text: signature_in_words(&signature),
        })
        .collect()
}

/// The data in words; empty if it has none.
fn words(event: &Event<'_>) -> String {
    match event.view() {
        EventData::StartupLocality(locality) => format!("started at locality {locality}"),
        EventData::Separator(0) => "the firmware is done".to_owned(),
        EventData::Separator(_) => "the firmware failed".to_owned(),
        EventData::Variable(variable) => {
            let name = variable.name.to_string();
            let digest = hash(HashAlg::Sha256, &[variable.value]);
            if KeyVariable::from_name(&name).is_some() {
                return format!("{name}, {} bytes, SHA-256 {digest}", variable.value.len());
            }
            let mut value = hex::encode(variable.value);
            if value.len() > 64 {
                value.truncate(64);
                value.push_str("...");
            }
            format!("{name} = {value}")
        }
        EventData::ImageLoad(image) => image.file().map_or_else(String::new, |f| f.to_string()),
        EventData::Tagged(tag) => {
            let text = String::from_utf8_lossy(tag.data);
            format!("{} ({:#010x})", text.trim_end_matches('\0'), tag.id)
        }
        EventData::Gpt(gpt) => {
            let partitions: Vec<_> = gpt
                .partitions()
                .map(|partition| format!("{} {}", partition.name, partition.id))
                .collect();
            format!("disk {}: {}", gpt.disk, partitions.join(", "))
        }
        EventData::FirmwareBlob(base, len) => format!("{len} bytes at {base:#x}"),
        EventData::Text(text) => text.to_owned(),
        EventData::Text16(text) => text.to_string(),
        _ => String::new(),
    }
}
