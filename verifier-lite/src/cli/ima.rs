//! `motectl ima`: what an IMA list says, binary or as the kernel prints it, and whether PCRs bear it out.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::PathBuf;

use clap::Subcommand;
use mote_schemas::ima::{self, Endian, ListFormat, ListParser, Step, TemplateData};
use mote_schemas::pcr::{extend, initial};
use mote_schemas::tpm::{Digest, HashAlg};
use serde::Serialize;

use super::bootlog::{Pcrs, read, read_pcrs};
use super::{Context, Failure, Outcome};
use crate::hex;
use crate::log_entry::LogEntry;
use crate::printable::printable;
use crate::store::Record;

mod ascii;

/// Largest list, in bytes: a million records of 200.
const MAX_LIST: usize = 200 * 1024 * 1024;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Print the records of a list, and the PCR values that they lead to.
    #[command(after_help = "\
Examples:
  motectl ima show /sys/kernel/security/ima/binary_runtime_measurements
  motectl ima show ascii_runtime_measurements --pcrs pcrs.txt")]
    Show {
        /// The list: binary, in either byte order, or ASCII.
        file: PathBuf,
        /// PCR values to compare with: lines of bank, number and hex.
        #[arg(long, value_name = "FILE")]
        pcrs: Option<PathBuf>,
    },
}

pub(super) fn run(context: &Context, command: Command) -> Outcome {
    let Command::Show { file, pcrs } = command;
    let bytes = read(&file, MAX_LIST)?;
    let list = List::parse(&bytes).map_err(|why| Failure(format!("{}: {why}", file.display())))?;
    let quoted = pcrs.as_deref().map(read_pcrs).transpose()?;
    let shown = Shown::new(&list, quoted.as_ref());
    let text = context.show(&shown, Shown::in_words)?;
    if shown.matches == Some(false) {
        // The output tells where; the exit status must not say that all is well.
        print!("{text}");
        return Err(Failure(format!(
            "{}: the list does not lead to these PCR values",
            file.display()
        )));
    }
    Ok(text)
}

/// A whole list.
struct List {
    form: &'static str,
    endian: Endian,
    /// With the template hash that the list shows, and whether it is that of the data.
    records: Vec<(Record, Digest, bool)>,
}

impl List {
    fn parse(bytes: &[u8]) -> Result<Self, String> {
        if ascii::is_ascii(bytes) {
            let records = ascii::parse(bytes)?;
            return Ok(Self {
                form: "ascii",
                endian: Endian::Little,
                records,
            });
        }
        // Nothing in a list says how it is written; only one way lets it be read to its end.
        let mut first = None;
        for template_hash in HashAlg::ALL {
            for endian in [Endian::Little, Endian::Big] {
                match binary(
                    bytes,
                    ListFormat {
                        endian,
                        template_hash,
                    },
                ) {
                    Ok(records) => {
                        return Ok(Self {
                            form: "binary",
                            endian,
                            records,
                        });
                    }
                    Err(error) => first = first.or(Some(error)),
                }
            }
        }
        Err(first.unwrap_or_default())
    }
}

fn binary(bytes: &[u8], format: ListFormat) -> Result<Vec<(Record, Digest, bool)>, String> {
    let mut parser = ListParser::new(format);
    let mut rest = bytes;
    let mut records = Vec::new();
    while !rest.is_empty() {
        match parser.next(rest).map_err(|error| error.to_string())? {
            Step::Record(record, len) => {
                records.push(kept(&record));
                rest = &rest[len..];
            }
            Step::NeedMore(_) => {
                return Err(format!(
                    "IMA list, record {} at offset {}: the list ends inside the record",
                    parser.record(),
                    parser.offset()
                ));
            }
        }
    }
    Ok(records)
}

fn kept(record: &ima::Record<'_>) -> (Record, Digest, bool) {
    let holds = record.claims_hash_ok();
    (Record::from(record), record.template_hash, holds)
}

#[derive(Serialize)]
struct Shown {
    /// `binary` or `ascii`.
    form: &'static str,
    /// `little` or `big`.
    byte_order: &'static str,
    records: Vec<ShownRecord>,
    /// Bank -> PCR -> value after the list.
    pcrs: BTreeMap<&'static str, BTreeMap<u32, String>>,
    /// Banks that hold padded SHA-1, as the given PCR values show.
    padded: BTreeSet<&'static str>,
    /// Whether the PCRs that the list extends have the given values; none were given: null.
    matches: Option<bool>,
    /// The PCRs that have not: `sha256:10`.
    differing: Vec<String>,
}

#[derive(Serialize)]
struct ShownRecord {
    number: usize,
    pcr: u32,
    template: String,
    template_hash: String,
    /// Whether the template hash is that of the template data.
    hash_holds: bool,
    violation: bool,
    digest: Option<String>,
    name: String,
    /// Why the template data cannot be read.
    fault: Option<String>,
}

/// How a kernel may fill a bank; see [`crate::prefix`].
const READINGS: [fn(&Record, HashAlg) -> Digest; 3] = [
    |record, bank| record.extend_digest(bank),
    |record, bank| record.extend_digest_padded(bank, false),
    |record, bank| record.extend_digest_padded(bank, true),
];

impl Shown {
    fn new(list: &List, quoted: Option<&Pcrs>) -> Self {
        let extended: BTreeSet<u32> = list.records.iter().map(|(record, ..)| record.pcr).collect();
        let mut pcrs: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
        let (mut padded, mut differing) = (BTreeSet::new(), Vec::new());
        let mut compared = false;
        for bank in HashAlg::ALL {
            for &pcr in &extended {
                let replay = |digest: &fn(&Record, HashAlg) -> Digest| {
                    let of_pcr = list.records.iter().filter(|(record, ..)| record.pcr == pcr);
                    of_pcr.fold(initial(bank, pcr), |value, (record, ..)| {
                        extend(&value, &digest(record, bank)).unwrap_or(value)
                    })
                };
                let mut value = replay(&READINGS[0]);
                if let Some(quoted) = quoted.and_then(|quoted| quoted.get(&(bank, pcr))) {
                    compared = true;
                    if value != *quoted {
                        match READINGS[1..]
                            .iter()
                            .map(replay)
                            .find(|value| value == quoted)
                        {
                            Some(found) => {
                                value = found;
                                padded.insert(bank.name());
                            }
                            None => differing.push(format!("{bank}:{pcr}")),
                        }
                    }
                }
                let bank = pcrs.entry(bank.name()).or_default();
                bank.insert(pcr, value.to_string());
            }
        }
        let records = list.records.iter().enumerate();
        Self {
            form: list.form,
            byte_order: match list.endian {
                Endian::Little => "little",
                Endian::Big => "big",
            },
            records: records
                .map(|(number, record)| ShownRecord::new(number, record, list.endian))
                .collect(),
            pcrs,
            padded,
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
        for record in &self.records {
            let digest = record.digest.as_deref().unwrap_or("-");
            line(format_args!(
                "{:>5} PCR {} {} {digest} {}{}{}\n",
                record.number,
                record.pcr,
                record.template,
                record.name,
                if record.violation { "  VIOLATION" } else { "" },
                if record.hash_holds {
                    ""
                } else {
                    "  TEMPLATE HASH DIFFERS"
                },
            ));
            if let Some(fault) = &record.fault {
                line(format_args!("      {fault}\n"));
            }
        }
        line(format_args!(
            "{} records, {}, {}-endian\n",
            self.records.len(),
            self.form,
            self.byte_order
        ));
        for (bank, values) in &self.pcrs {
            for (pcr, value) in values {
                let mark = if self.differing.contains(&format!("{bank}:{pcr}")) {
                    "  DIFFERS"
                } else if self.padded.contains(bank) {
                    "  (padded SHA-1)"
                } else {
                    ""
                };
                line(format_args!("{bank}:{pcr} {value}{mark}\n"));
            }
        }
        if self.matches == Some(true) {
            line(format_args!("the list leads to the given PCR values\n"));
        }
        out
    }
}

impl ShownRecord {
    fn new(number: usize, kept: &(Record, Digest, bool), endian: Endian) -> Self {
        let (record, template_hash, hash_holds) = kept;
        let data = TemplateData::parse(&record.template, &record.data, endian);
        let read = data.as_ref().ok();
        Self {
            number,
            pcr: record.pcr,
            template: record.template.to_string(),
            template_hash: template_hash.to_string(),
            hash_holds: *hash_holds,
            violation: record.violation,
            digest: read.and_then(TemplateData::file_digest).map(|digest| {
                let algorithm = match digest.algorithm {
                    "" => "sha1",
                    name => name,
                };
                format!("{algorithm}:{}", hex::encode(digest.digest))
            }),
            name: printable(read.and_then(TemplateData::name).unwrap_or_default()),
            fault: data.err().map(|error| error.to_string()),
        }
    }
}
