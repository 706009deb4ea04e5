//! The settings, one row each: name, default, what `--help` says, and how its text is understood.

use core::time::Duration;
use std::path::PathBuf;

use heapless::Vec as Bounded;
use log::LevelFilter;
use mote_schemas::limits::{DEFAULT_DATAGRAM, MAX_MESSAGE, MAX_PCR_BANKS};

use super::endpoint::{Endpoint, Scheme};
use super::tls::TlsSettings;
use super::{Config, LocalConfig};
use super::{key, pcrs};
use crate::boot_log;
use crate::measurement_log::DEFAULT_PATH;
use crate::tpm::{KeyKind, PcrSelection, TpmOptions};
use crate::verifier_key::VerifierKey;

/// Smallest datagram: less, and OSCORE and CoAP leave no room for a block of 16 bytes with all options.
const MIN_DATAGRAM: usize = 64;

/// How a setting is written in TOML.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A string.
    Text,
    /// A non-negative integer.
    Number,
    /// `true` or `false`.
    Switch,
}

/// One setting.
#[derive(Debug)]
pub struct Setting {
    /// Key in the file.
    pub name: &'static str,
    /// How it is written there.
    pub kind: Kind,
    /// Its text when nobody says anything; empty for one that must be given.
    pub default: &'static str,
    /// What `--help` shows for its value; empty for a switch.
    pub value: &'static str,
    /// What `--help` says.
    pub help: &'static str,
    pub(super) apply: fn(&mut Partial, &str) -> Result<(), String>,
}

/// A configuration in the making.
#[derive(Clone, Debug, Default)]
pub(super) struct Partial {
    verifier: Option<Endpoint>,
    tls: TlsSettings,
    verifier_key: Option<VerifierKey>,
    tpm: TpmOptions,
    ima_log: Option<PathBuf>,
    delete_records: Option<bool>,
    boot_log: Option<PathBuf>,
    pcrs: Option<Bounded<PcrSelection, MAX_PCR_BANKS>>,
    log_level: Option<LevelFilter>,
    jitter: Option<u8>,
    start_jitter: Option<Duration>,
    ack_timeout: Option<Duration>,
    max_retransmit: Option<u8>,
    datagram: Option<usize>,
    once: Option<bool>,
    user: Option<String>,
}

impl Partial {
    /// What is wrong if TLS is asked for without saying whom to believe, or half of who we are.
    pub(super) fn without_trust(&self) -> Option<String> {
        let verifier = self.verifier.as_ref()?;
        let TlsSettings { pin, ca, .. } = &self.tls;
        if verifier.scheme == Scheme::CoapsTcp && pin.is_none() && ca.is_none() {
            return Some(format!(
                "{verifier} needs tls_pin or tls_ca, to know the server by"
            ));
        }
        (self.tls.certificate.is_some() != self.tls.key.is_some())
            .then(|| "tls_cert and tls_key need each other".to_owned())
    }

    /// What is wrong if records are to be deleted by somebody who may not.
    pub(super) fn without_root(&self) -> Option<String> {
        (self.delete_records == Some(true) && self.user.is_some())
            .then(|| "delete_records takes root: leave user unset".to_owned())
    }

    /// `None` while anything is missing, of which there is a [`super::Problem`] then.
    pub(super) fn finish(self) -> Option<Config> {
        Some(Config {
            verifier: self.verifier?,
            tls: self.tls,
            verifier_key: self.verifier_key?,
            tpm: self.tpm,
            ima_log: self.ima_log?,
            delete_records: self.delete_records?,
            boot_log: self.boot_log?,
            pcrs: self.pcrs?,
            log_level: self.log_level?,
            jitter: self.jitter?,
            start_jitter: self.start_jitter?,
            ack_timeout: self.ack_timeout?,
            max_retransmit: self.max_retransmit?,
            datagram: self.datagram?,
            once: self.once?,
            user: self.user,
        })
    }

    /// The same for what concerns this device alone.
    pub(super) fn finish_local(self) -> Option<LocalConfig> {
        Some(LocalConfig {
            tpm: self.tpm,
            ima_log: self.ima_log?,
            pcrs: self.pcrs?,
        })
    }
}

impl Setting {
    /// Name as a flag, without dashes in front.
    pub fn flag(&self) -> String {
        self.name.replace('_', "-")
    }

    /// Name of the environment variable.
    pub fn variable(&self) -> String {
        format!("MOTE_{}", self.name.to_uppercase())
    }

    /// The value as TOML writes it.
    pub(super) fn as_toml(&self, text: &str) -> String {
        match self.kind {
            Kind::Number | Kind::Switch => text.to_owned(),
            Kind::Text if text.contains('\n') => format!("\"\"\"\n{}\n\"\"\"", text.trim()),
            Kind::Text => format!("{text:?}"),
        }
    }
}

/// All settings, in the order in which a person would think of them.
pub const SETTINGS: [Setting; 21] = [
    Setting {
        name: "verifier",
        kind: Kind::Text,
        default: "",
        value: "[SCHEME://]HOST[:PORT]",
        help: "the verifier, by coap:// (UDP, port 5683) unless coaps+tcp:// (TLS, port 5684)",
        apply: |draft, text| {
            draft.verifier = Some(text.parse()?);
            Ok(())
        },
    },
    Setting {
        name: "verifier_key",
        kind: Kind::Text,
        default: "",
        value: "FILE|KEY",
        help: "the verifier's public key (P-256): a file, or the key itself, as PEM, hex or base64",
        apply: |draft, text| {
            draft.verifier_key = Some(key::parse(text)?);
            Ok(())
        },
    },
    Setting {
        name: "tls_pin",
        kind: Kind::Text,
        default: "",
        value: "[raw:]SHA256",
        help: "coaps+tcp: SHA-256 of the server's certificate or key (DER); raw: key only",
        apply: |draft, text| {
            draft.tls.pin = super::tls::pin(text)?;
            Ok(())
        },
    },
    Setting {
        name: "tls_ca",
        kind: Kind::Text,
        default: "",
        value: "FILE",
        help: "instead of tls_pin: authorities (PEM) that the server's certificate may chain to",
        apply: |draft, text| {
            draft.tls.ca = super::tls::file(text);
            Ok(())
        },
    },
    Setting {
        name: "tls_cert",
        kind: Kind::Text,
        default: "",
        value: "FILE",
        help: "our certificate chain (PEM), where the server asks for one",
        apply: |draft, text| {
            draft.tls.certificate = super::tls::file(text);
            Ok(())
        },
    },
    Setting {
        name: "tls_key",
        kind: Kind::Text,
        default: "",
        value: "FILE",
        help: "its private key (PEM)",
        apply: |draft, text| {
            draft.tls.key = super::tls::file(text);
            Ok(())
        },
    },
    Setting {
        name: "tpm",
        kind: Kind::Text,
        default: "device:/dev/tpmrm0",
        value: "device:PATH|swtpm:HOST:PORT",
        help: "where the TPM is",
        apply: |draft, text| {
            draft.tpm.address = text
                .parse()
                .map_err(|error| format!("{error}, not {text:?}"))?;
            Ok(())
        },
    },
    Setting {
        name: "ek",
        kind: Kind::Text,
        default: "auto",
        value: "auto|ecc|rsa",
        help: "endorsement key; auto: the one with a certificate in the TPM, else ECC if it can",
        apply: |draft, text| {
            draft.tpm.ek = key_kind(text)?;
            Ok(())
        },
    },
    Setting {
        name: "ak",
        kind: Kind::Text,
        default: "auto",
        value: "auto|ecc|rsa",
        help: "attestation key; auto: ECC P-256 where the TPM can, else RSA-2048",
        apply: |draft, text| {
            draft.tpm.ak = key_kind(text)?;
            Ok(())
        },
    },
    Setting {
        name: "ima_log",
        kind: Kind::Text,
        default: DEFAULT_PATH,
        value: "FILE",
        help: "the kernel's binary measurement list",
        apply: |draft, text| {
            if text.is_empty() {
                return Err(format!("name a file, such as {DEFAULT_PATH}"));
            }
            draft.ima_log = Some(PathBuf::from(text));
            Ok(())
        },
    },
    Setting {
        name: "delete_records",
        kind: Kind::Switch,
        default: "false",
        value: "",
        help: "delete from kernel memory (Linux 7.2) what the verifier has stored for good",
        apply: |draft, text| {
            draft.delete_records = Some(switch(text)?);
            Ok(())
        },
    },
    Setting {
        name: "boot_log",
        kind: Kind::Text,
        default: boot_log::DEFAULT_PATH,
        value: "FILE",
        help: "the boot event log; empty: none",
        apply: |draft, text| {
            draft.boot_log = Some(PathBuf::from(text));
            Ok(())
        },
    },
    Setting {
        name: "pcrs",
        kind: Kind::Text,
        default: pcrs::DEFAULT,
        value: "BANK:LIST[+...]",
        help: "PCRs to quote, such as sha256:0-10,14+sha1:10",
        apply: |draft, text| {
            draft.pcrs = Some(pcrs::parse_pcrs(text).map_err(|error| error.to_string())?);
            Ok(())
        },
    },
    Setting {
        name: "log_level",
        kind: Kind::Text,
        default: "info",
        value: "off|error|warn|info|debug|trace",
        help: "what goes to standard error",
        apply: |draft, text| {
            let level = text.parse().map_err(|_| {
                format!("one of off, error, warn, info, debug and trace, not {text:?}")
            })?;
            draft.log_level = Some(level);
            Ok(())
        },
    },
    Setting {
        name: "jitter",
        kind: Kind::Number,
        default: "10",
        value: "PERCENT",
        help: "shorten each interval at random by up to this much, so that a fleet spreads out",
        apply: |draft, text| {
            draft.jitter = Some(number(text, 0, 100)? as u8);
            Ok(())
        },
    },
    Setting {
        name: "start_jitter",
        kind: Kind::Number,
        default: "10",
        value: "SECONDS",
        help: "wait a random part of this before the first attestation; not with --once",
        apply: |draft, text| {
            let seconds = number(text, 0, 24 * 60 * 60)?;
            draft.start_jitter = Some(Duration::from_secs(seconds as u64));
            Ok(())
        },
    },
    Setting {
        name: "ack_timeout",
        kind: Kind::Number,
        // RFC 7252, 4.8; a test compares them.
        default: "2",
        value: "SECONDS",
        help: "UDP: send again after this time, then after twice that, ...",
        apply: |draft, text| {
            let seconds = number(text, 1, 600)?;
            draft.ack_timeout = Some(Duration::from_secs(seconds as u64));
            Ok(())
        },
    },
    Setting {
        name: "max_retransmit",
        kind: Kind::Number,
        default: "4",
        value: "COUNT",
        help: "UDP: send again so often before giving up for a while",
        apply: |draft, text| {
            draft.max_retransmit = Some(number(text, 1, 10)? as u8);
            Ok(())
        },
    },
    Setting {
        name: "datagram",
        kind: Kind::Number,
        // DEFAULT_DATAGRAM; a test compares them.
        default: "1024",
        value: "BYTES",
        help: "largest datagram either way; more goes in parts. Smaller for lossy or narrow links",
        apply: |draft, text| {
            draft.datagram = Some(number(text, MIN_DATAGRAM, MAX_MESSAGE)?);
            Ok(())
        },
    },
    Setting {
        name: "once",
        kind: Kind::Switch,
        default: "false",
        value: "",
        help: "attest once, print the verdict, and exit with it",
        apply: |draft, text| {
            draft.once = Some(switch(text)?);
            Ok(())
        },
    },
    Setting {
        name: "user",
        kind: Kind::Text,
        default: "",
        value: "NAME",
        help: "become this user when TPM and measurement list are open",
        apply: |draft, text| {
            draft.user = (!text.is_empty()).then(|| text.to_owned());
            Ok(())
        },
    },
];

const _: () = assert!(DEFAULT_DATAGRAM >= MIN_DATAGRAM && DEFAULT_DATAGRAM <= MAX_MESSAGE);

fn switch(text: &str) -> Result<bool, String> {
    match text {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" | "" => Ok(false),
        _ => Err(format!("true or false, not {text:?}")),
    }
}

fn number(text: &str, least: usize, most: usize) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|number| (least..=most).contains(number))
        .ok_or_else(|| format!("a number from {least} to {most}, not {text:?}"))
}

fn key_kind(text: &str) -> Result<KeyKind, String> {
    match text {
        "auto" => Ok(KeyKind::Auto),
        "ecc" => Ok(KeyKind::Ecc),
        "rsa" => Ok(KeyKind::Rsa),
        _ => Err(format!("auto, ecc or rsa, not {text:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_what_the_other_crates_call_so() {
        let datagram = SETTINGS.iter().find(|setting| setting.name == "datagram");
        assert_eq!(datagram.unwrap().default, DEFAULT_DATAGRAM.to_string());
        let default = |name| SETTINGS.iter().find(|s| s.name == name).unwrap().default;
        let parameters = mote_schemas::coap::Parameters::default();
        let (timeout, retransmit) = (parameters.ack_timeout, parameters.max_retransmit);
        assert_eq!(default("ack_timeout"), timeout.as_secs().to_string());
        assert_eq!(default("max_retransmit"), retransmit.to_string());
    }
}
