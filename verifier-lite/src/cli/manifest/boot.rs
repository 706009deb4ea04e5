//! Boot expectations on the command line of `motectl manifest build`.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use clap::Args;
use mote_schemas::tpm::{Digest, HashAlg, Hasher};

use crate::cli::Failure;
use crate::hex;
use crate::manifest::{BootExpectations, FileDigest, KeyVariable};

#[derive(Debug, Args)]
#[command(next_help_heading = "What the boot event log must show")]
pub(super) struct BootOptions {
    /// UEFI Secure Boot must have been on.
    #[arg(long)]
    secure_boot: bool,
    /// SHA-256 of what PK, KEK, db or dbx may contain, as `motectl bootlog show` prints it.
    #[arg(long, value_name = "NAME=HEX")]
    secure_boot_key: Vec<String>,
    /// A signature that PK, KEK, db or dbx may hold, as `motectl bootlog show` prints it; then the variable
    /// must hold no other. `NAME=` alone: it must be empty.
    #[arg(long, value_name = "NAME=[HEX]")]
    secure_boot_allow: Vec<String>,
    /// A signature that PK, KEK, db or dbx must hold, whatever else they do.
    #[arg(long, value_name = "NAME=HEX")]
    secure_boot_require: Vec<String>,
    /// Authenticode digest of what the firmware may start; then PCR 4 must hold nothing else.
    #[arg(long, value_name = "HEX")]
    boot_app: Vec<String>,
    /// A kernel, of which one must have been loaded; hashed here.
    #[arg(long, value_name = "FILE")]
    kernel: Vec<PathBuf>,
    /// An initrd, of which one must have been loaded; hashed here.
    #[arg(long, value_name = "FILE")]
    initrd: Vec<PathBuf>,
    /// A kernel command line, of which one must have been given. `*`: any characters, `?`: one.
    #[arg(long, value_name = "LINE")]
    cmdline: Vec<String>,
    /// A digest that may be extended into a PCR; then it must hold nothing else.
    #[arg(long, value_name = "PCR=HEX")]
    boot_event: Vec<String>,
}

impl BootOptions {
    pub(super) fn expectations(&self) -> Result<BootExpectations, Failure> {
        let mut boot = BootExpectations {
            secure_boot: self.secure_boot,
            command_lines: self.cmdline.clone(),
            ..BootExpectations::default()
        };
        for (option, texts, listed) in [
            ("key", &self.secure_boot_key, &mut boot.keys),
            (
                "allow",
                &self.secure_boot_allow,
                &mut boot.allowed_signatures,
            ),
            (
                "require",
                &self.secure_boot_require,
                &mut boot.required_signatures,
            ),
        ] {
            for text in texts {
                let may_be_none = option == "allow";
                let (key, digest) = of_variable(text, may_be_none).ok_or_else(|| {
                    Failure(format!(
                        "--secure-boot-{option} {text}: not NAME=HEX, such as db=<64 hex digits>"
                    ))
                })?;
                listed.entry(key).or_default().extend(digest);
            }
        }
        for text in &self.boot_app {
            let digest = digest(text).ok_or_else(|| {
                Failure(format!("--boot-app {text}: not the hex digits of a digest"))
            })?;
            boot.applications.push(digest);
        }
        for (files, digests) in [
            (&self.kernel, &mut boot.kernels),
            (&self.initrd, &mut boot.initrds),
        ] {
            for file in files {
                digests.push(sha256(file)?);
            }
        }
        for text in &self.boot_event {
            let parsed = text
                .split_once('=')
                .and_then(|(pcr, value)| Some((pcr.parse().ok()?, digest(value)?)));
            let Some((pcr, digest)) = parsed else {
                return Err(Failure(format!(
                    "--boot-event {text}: not PCR=HEX, such as 5=<64 hex digits>"
                )));
            };
            boot.events.entry(pcr).or_default().push(digest);
        }
        Ok(boot)
    }
}

/// A variable and a digest of something in it.
fn of_variable(text: &str, may_be_none: bool) -> Option<(KeyVariable, Option<FileDigest>)> {
    let (name, value) = text.split_once('=')?;
    let key = KeyVariable::from_name(name)?;
    if value.is_empty() && may_be_none {
        return Some((key, None));
    }
    let digest = hex::decode(value)?.try_into().ok()?;
    Some((key, Some(FileDigest(digest))))
}

/// A digest: its length tells its algorithm.
fn digest(text: &str) -> Option<Digest> {
    let bytes = hex::decode(text)?;
    HashAlg::ALL
        .into_iter()
        .find_map(|alg| Digest::new(alg, &bytes))
}

fn sha256(file: &Path) -> Result<Digest, Failure> {
    let named = |error| Failure(format!("{}: {error}", file.display()));
    let mut open = File::open(file).map_err(named)?;
    let mut hasher = Hasher::new(HashAlg::Sha256);
    let mut buffer = vec![0; 128 * 1024];
    loop {
        match open.read(&mut buffer).map_err(named)? {
            0 => return Ok(hasher.finish()),
            len => hasher.update(&buffer[..len]),
        }
    }
}
