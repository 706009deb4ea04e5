//! The settings, one row each: name, default, what `--help` says, and how its text is understood.

use core::time::Duration;
use std::path::PathBuf;

use heapless::Vec as Bounded;
use log::LevelFilter;
use mote_schemas::limits::{DEFAULT_DATAGRAM, MAX_MESSAGE, MAX_PCR_BANKS};

use super::Config;
use super::{key, pcrs};
use crate::measurement_log::DEFAULT_PATH;
use crate::tpm::{KeyKind, PcrSelection, TpmOptions};
use crate::verifier_key::VerifierKey;

/// Port of CoAP over UDP (RFC 7252, 12.6).
const COAP_PORT: u16 = 5683;

/// Smallest datagram worth filling: less, and OSCORE and CoAP leave no room for an entry.
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
    verifier: Option<String>,
    verifier_key: Option<VerifierKey>,
    tpm: TpmOptions,
    ima_log: Option<PathBuf>,
    pcrs: Option<Bounded<PcrSelection, MAX_PCR_BANKS>>,
    log_level: Option<LevelFilter>,
    jitter: Option<u8>,
    start_jitter: Option<Duration>,
    datagram: Option<usize>,
    once: Option<bool>,
    user: Option<String>,
}

impl Partial {
    /// `None` while anything is missing, of which there is a [`super::Problem`] then.
    pub(super) fn finish(self) -> Option<Config> {
        Some(Config {
            verifier: self.verifier?,
            verifier_key: self.verifier_key?,
            tpm: self.tpm,
            ima_log: self.ima_log?,
            pcrs: self.pcrs?,
            log_level: self.log_level?,
            jitter: self.jitter?,
            start_jitter: self.start_jitter?,
            datagram: self.datagram?,
            once: self.once?,
            user: self.user,
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
pub const SETTINGS: [Setting; 13] = [
    Setting {
        name: "verifier",
        kind: Kind::Text,
        default: "",
        value: "HOST[:PORT]",
        help: "the verifier, by CoAP over UDP; port 5683 unless given",
        apply: |draft, text| {
            draft.verifier = Some(host_and_port(text)?);
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
        name: "datagram",
        kind: Kind::Number,
        // DEFAULT_DATAGRAM; a test compares them.
        default: "1024",
        value: "BYTES",
        help: "fill datagrams with log entries up to this size; smaller for lossy or narrow links",
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
            draft.once = Some(match text {
                "true" | "1" | "yes" | "on" => true,
                "false" | "0" | "no" | "off" | "" => false,
                _ => return Err(format!("true or false, not {text:?}")),
            });
            Ok(())
        },
    },
    Setting {
        name: "user",
        kind: Kind::Text,
        default: "",
        value: "NAME",
        help: "become this user once the TPM and the measurement list are open; unset: stay",
        apply: |draft, text| {
            draft.user = (!text.is_empty()).then(|| text.to_owned());
            Ok(())
        },
    },
];

const _: () = assert!(DEFAULT_DATAGRAM >= MIN_DATAGRAM && DEFAULT_DATAGRAM <= MAX_MESSAGE);

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

/// `host:port` with the default port filled in.
fn host_and_port(text: &str) -> Result<String, String> {
    const WANTED: &str = "HOST:PORT, such as verifier.example.com:5683 or [2001:db8::1]:5683";
    if text.is_empty() {
        return Err(format!("not set; name the verifier as {WANTED}"));
    }
    let wrong = || format!("{WANTED}, not {text:?}");
    let rest = match text.split_once("://") {
        Some(("coap", rest)) => rest.strip_suffix('/').unwrap_or(rest),
        Some((scheme, _)) => {
            return Err(format!(
                "{scheme}:// is not spoken here; use coap://HOST:PORT"
            ));
        }
        None => text,
    };
    let (host, port) = match rest.rsplit_once(':') {
        // A bare IPv6 address has colons of its own.
        Some((host, port)) if host.ends_with(']') || !host.contains(':') => (host, port),
        _ if rest.ends_with(']') || !rest.contains(':') => {
            return Ok(format!(
                "{}:{COAP_PORT}",
                checked_host(rest).ok_or_else(wrong)?
            ));
        }
        _ => {
            return Ok(format!(
                "[{}]:{COAP_PORT}",
                rest.parse::<core::net::Ipv6Addr>().map_err(|_| wrong())?
            ));
        }
    };
    let host = checked_host(host).ok_or_else(wrong)?;
    match port.parse::<u16>() {
        Ok(port) if port != 0 => Ok(format!("{host}:{port}")),
        _ => Err(wrong()),
    }
}

fn checked_host(host: &str) -> Option<&str> {
    let named = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let valid = match host.strip_prefix('[').map(|host| host.strip_suffix(']')) {
        Some(address) => {
            // A link-local address names its interface: fe80::1%eth0.
            let address = address?;
            let (address, zone) = address.split_once('%').unwrap_or((address, "0"));
            address.parse::<core::net::Ipv6Addr>().is_ok() && !zone.is_empty()
        }
        None => !host.is_empty() && host.chars().all(named),
    };
    valid.then_some(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verifier_is_a_host_and_perhaps_a_port() {
        for (text, address) in [
            ("verifier", "verifier:5683"),
            ("verifier.example.com:77", "verifier.example.com:77"),
            ("coap://verifier:5683", "verifier:5683"),
            ("coap://verifier/", "verifier:5683"),
            ("192.0.2.1", "192.0.2.1:5683"),
            ("[2001:db8::1]", "[2001:db8::1]:5683"),
            ("[2001:db8::1]:77", "[2001:db8::1]:77"),
            ("2001:db8::1", "[2001:db8::1]:5683"),
            ("[fe80::1%eth0]:77", "[fe80::1%eth0]:77"),
        ] {
            assert_eq!(host_and_port(text).as_deref(), Ok(address), "{text}");
        }
        for text in [
            "",
            ":5683",
            "verifier:",
            "verifier:0",
            "verifier:65536",
            "verifier:x",
            "a b",
            "[::1",
            "::1]",
            "[verifier]:1",
            "coaps://verifier",
            "https://verifier",
            "user@host",
            "a:b:c",
        ] {
            assert!(host_and_port(text).is_err(), "{text}");
        }
    }

    #[test]
    fn defaults_are_what_the_other_crates_call_so() {
        let datagram = SETTINGS.iter().find(|setting| setting.name == "datagram");
        assert_eq!(datagram.unwrap().default, DEFAULT_DATAGRAM.to_string());
    }
}
