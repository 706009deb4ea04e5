//! What the agent is told: command line over environment over one TOML file over defaults.
//!
//! Every setting has one name, which is the key in the file, the flag (`--ima-log` for `ima_log`)
//! and, in capitals with `MOTE_` in front, the environment variable. Whoever can write any of these
//! decides which verifier this device believes.

mod endpoint;
mod file;
mod key;
mod pcrs;
mod setting;
mod tls;

use core::fmt;
use core::time::Duration;
use std::path::PathBuf;

use heapless::Vec as Bounded;
use log::LevelFilter;
use mote_schemas::coap::Parameters;
use mote_schemas::limits::{MAX_MESSAGE, MAX_PCR_BANKS};

use crate::session::{Pacing, Settings};
use crate::tpm::{PcrSelection, TpmOptions};
use crate::verifier_key::VerifierKey;

pub use endpoint::{Endpoint, Scheme};
pub(crate) use file::nearest;
pub use pcrs::{PcrListError, parse_pcrs};
pub use setting::{SETTINGS, Setting};
pub use tls::{Pin, TlsSettings};

/// Where the file is unless `--config` or `MOTE_CONFIG` say otherwise. It may be absent there.
pub const DEFAULT_FILE: &str = "/etc/mote/agent.toml";

/// How long a verifier on a reliable link may take to answer.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(60);

/// A configuration without a fault.
#[derive(Clone, Debug)]
pub struct Config {
    /// The verifier.
    pub verifier: Endpoint,
    /// How to know it, where it is spoken to by TLS.
    pub tls: TlsSettings,
    /// Its pinned public key.
    pub verifier_key: VerifierKey,
    /// The TPM and the kinds of its keys.
    pub tpm: TpmOptions,
    /// The kernel's measurement list.
    pub ima_log: PathBuf,
    /// Delete records of that list when the verifier says that they need not be kept.
    pub delete_records: bool,
    /// The firmware's boot event log; empty: none.
    pub boot_log: PathBuf,
    /// The PCRs to quote.
    pub pcrs: Bounded<PcrSelection, MAX_PCR_BANKS>,
    /// What is written to standard error.
    pub log_level: LevelFilter,
    /// Share of each interval by which it is shortened at random, at most, in percent.
    pub jitter: u8,
    /// The first hello after start waits a random part of this.
    pub start_jitter: Duration,
    /// Shortest time until a request is sent again.
    pub ack_timeout: Duration,
    /// How often a request is sent again before the agent gives up for a while.
    pub max_retransmit: u8,
    /// Largest datagram either way, in bytes.
    pub datagram: usize,
    /// Attest once and exit with the verdict.
    pub once: bool,
    /// Whom to become once TPM and measurement list are open.
    pub user: Option<String>,
}

impl Config {
    /// The part of it that the session needs.
    pub fn session(&self) -> Settings {
        Settings {
            verifier_key: self.verifier_key.clone(),
            selection: self.pcrs.clone(),
            datagram: match self.verifier.scheme {
                Scheme::Coap => self.datagram,
                // The transport cuts it up as it sees fit.
                Scheme::CoapsTcp => MAX_MESSAGE,
            },
            pacing: Pacing {
                start_jitter: if self.once {
                    Duration::ZERO
                } else {
                    self.start_jitter
                },
                jitter_percent: self.jitter,
                ..Pacing::default()
            },
            transmission: match self.verifier.scheme {
                Scheme::Coap => Parameters {
                    ack_timeout: self.ack_timeout,
                    max_retransmit: self.max_retransmit,
                    ..Parameters::default()
                },
                Scheme::CoapsTcp => Parameters::reliable(RESPONSE_TIMEOUT),
            },
        }
    }
}

/// What concerns this device alone, and no verifier.
#[derive(Clone, Debug)]
pub struct LocalConfig {
    /// The TPM and the kinds of its keys.
    pub tpm: TpmOptions,
    /// The kernel's measurement list.
    pub ima_log: PathBuf,
    /// The PCRs to quote.
    pub pcrs: Bounded<PcrSelection, MAX_PCR_BANKS>,
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody said anything.
    Default,
    /// The file, on this line.
    File(PathBuf, usize),
    /// The environment.
    Environment,
    /// The command line.
    Flag,
}

/// Something wrong with the configuration, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where the faulty text is, such as `/etc/mote/agent.toml:3` or `--pcrs`.
    pub place: String,
    /// What is wrong and what to do.
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.what)
    }
}

/// One setting as it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Given {
    text: String,
    origin: Origin,
}

/// Values by setting, in the order of [`SETTINGS`], before anyone asks whether they make sense.
#[derive(Clone, Debug)]
pub struct Draft {
    values: [Option<Given>; SETTINGS.len()],
    problems: Vec<Problem>,
}

impl Default for Draft {
    fn default() -> Self {
        Self {
            values: [const { None }; SETTINGS.len()],
            problems: Vec::new(),
        }
    }
}

impl Draft {
    /// Adds what a file says. Something that is not there is an error only if somebody named it.
    pub fn file(&mut self, path: &std::path::Path, named: bool) {
        match file::read(path) {
            Ok(Some(text)) => self.text(path, &text),
            Ok(None) if !named => {}
            Ok(None) => self.problems.push(Problem {
                place: path.display().to_string(),
                what: "no such file".to_owned(),
            }),
            Err(error) => self.problems.push(Problem {
                place: path.display().to_string(),
                what: error.to_string(),
            }),
        }
    }

    /// Adds what the text of a file says.
    pub fn text(&mut self, path: &std::path::Path, text: &str) {
        let entries = file::parse(text);
        for entry in entries {
            let problem = |what| Problem {
                place: format!("{}:{}", path.display(), entry.line),
                what,
            };
            match entry.content {
                Ok((setting, text)) => {
                    let origin = Origin::File(path.to_owned(), entry.line);
                    self.values[setting] = Some(Given { text, origin });
                }
                Err(what) => self.problems.push(problem(what)),
            }
        }
    }

    /// Adds what the environment says, asked through `variable`.
    pub fn environment(&mut self, variable: impl Fn(&str) -> Option<String>) {
        for (index, setting) in SETTINGS.iter().enumerate() {
            if let Some(text) = variable(&setting.variable()) {
                self.set(index, text, Origin::Environment);
            }
        }
    }

    /// Adds a flag, without its dashes; false when there is no such setting.
    pub fn flag(&mut self, name: &str, text: String) -> bool {
        let Some(index) = SETTINGS.iter().position(|setting| setting.flag() == name) else {
            return false;
        };
        self.set(index, text, Origin::Flag);
        true
    }

    fn set(&mut self, setting: usize, text: String, origin: Origin) {
        self.values[setting] = Some(Given { text, origin });
    }

    /// The configuration, or everything that is wrong with it.
    pub fn finish(&self) -> Result<Config, Vec<Problem>> {
        let (draft, mut problems) = self.apply(|_| true);
        if let Some(what) = draft.without_trust() {
            let place = "tls_pin".to_owned();
            problems.push(Problem { place, what });
        }
        if let Some(what) = draft.without_root() {
            let place = "delete_records".to_owned();
            problems.push(Problem { place, what });
        }
        match draft.finish() {
            Some(config) if problems.is_empty() => Ok(config),
            _ => Err(problems),
        }
    }

    /// What of it concerns this device alone: nothing need be said about a verifier.
    pub fn finish_local(&self) -> Result<LocalConfig, Vec<Problem>> {
        let (draft, problems) = self.apply(|setting| !setting.default.is_empty());
        match draft.finish_local() {
            Some(config) if problems.is_empty() => Ok(config),
            _ => Err(problems),
        }
    }

    fn apply(&self, wanted: impl Fn(&Setting) -> bool) -> (setting::Partial, Vec<Problem>) {
        let mut draft = setting::Partial::default();
        let mut problems = self.problems.clone();
        let settings = SETTINGS.iter().zip(&self.values);
        for (setting, given) in settings.filter(|(setting, _)| wanted(setting)) {
            let (text, origin) = match given {
                Some(given) => (given.text.as_str(), &given.origin),
                None => (setting.default, &Origin::Default),
            };
            let place = || match origin {
                Origin::Default => setting.name.to_owned(),
                Origin::File(path, line) => format!("{}:{line}", path.display()),
                Origin::Environment => setting.variable(),
                Origin::Flag => format!("--{}", setting.flag()),
            };
            if let Err(what) = (setting.apply)(&mut draft, text) {
                let what = match origin {
                    Origin::File(..) => format!("{}: {what}", setting.name),
                    _ => what,
                };
                let place = place();
                problems.push(Problem { place, what });
            }
        }
        (draft, problems)
    }

    /// The level at which to report, known before anything else is right.
    pub fn log_level(&self) -> LevelFilter {
        SETTINGS
            .iter()
            .zip(&self.values)
            .find(|(setting, _)| setting.name == "log_level")
            .and_then(|(_, given)| given.as_ref()?.text.parse().ok())
            .unwrap_or(LevelFilter::Info)
    }
}

/// The effective settings as a file that would say the same, each with where it comes from.
impl fmt::Display for Draft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (setting, given) in SETTINGS.iter().zip(&self.values) {
            let (text, origin) = match given {
                Some(given) => (given.text.as_str(), &given.origin),
                None => (setting.default, &Origin::Default),
            };
            let hash = if text.is_empty() { "# " } else { "" };
            let value = setting.as_toml(text);
            write!(f, "{hash}{} = {value}", setting.name)?;
            match origin {
                Origin::Default if text.is_empty() => writeln!(f, "  (not set)")?,
                Origin::Default => writeln!(f, "  # default")?,
                Origin::File(path, line) => writeln!(f, "  # {}:{line}", path.display())?,
                Origin::Environment => writeln!(f, "  # {}", setting.variable())?,
                Origin::Flag => writeln!(f, "  # --{}", setting.flag())?,
            }
        }
        Ok(())
    }
}
