//! `motectl manifest`.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Subcommand;
use mote_schemas::tpm::Digest;
use serde::Serialize;

use super::backend::{ask, unexpected};
use super::text::table;
use super::{Context, Failure, Outcome, stored, time};
use crate::admin::{ManifestView, Request, Response};
use crate::convert::{corim, keylime};
use crate::hex;
use crate::manifest::envelope::read_file;
use crate::manifest::{
    Attributes, BootExpectations, DeviceTable, FileDigest, KeyVariable, MAX_MANIFEST, Manifest,
    SignedManifest, VerifiedManifest,
};
use crate::printable::printable;
use crate::signing_key::PublicKey;

mod boot;
mod buffers;
mod build;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make a signed manifest of a finished root file system.
    #[command(after_help = "\
Examples:
  motectl manifest build --rootfs build/rootfs --sign image.key -o edge-1.3.mote
  motectl manifest build --rootfs / --exclude '/var/log/**' --sign image.key -o host.mote
  sha256sum $(cat files) | motectl manifest build --sha256sums - --sign image.key -o edge.mote
  motectl manifest build --keylime policy.json --sign image.key -o edge.mote
  motectl manifest build --sbom image.spdx.json --sign image.key -o edge.mote
  motectl manifest build --component bootloader=boot.bin --component app=app.bin \\
    --name valve --version 2.1 --sign image.key -o valve-2.1.mote

The same files, name, version and key always give the same bytes. A time is recorded only
from SOURCE_DATE_EPOCH.")]
    Build(Box<build::Build>),
    /// Show what a manifest says.
    Show {
        /// The manifest.
        file: PathBuf,
        /// Check it with this public key. May be given several times.
        #[arg(long, value_name = "KEY.pub")]
        key: Vec<PathBuf>,
        /// List every file with its digest, as sha256sum does.
        #[arg(long)]
        files: bool,
    },
    /// Convert a manifest into somebody else's format.
    #[command(after_help = "\
Examples:
  motectl manifest export edge-1.3.mote --key image.key.pub --format keylime -o policy.json
  motectl manifest export edge-1.3.mote --key image.key.pub --format corim -o edge.corim

What the other format cannot say is left out, and named on standard error.")]
    Export {
        /// The manifest.
        file: PathBuf,
        /// A public key that must have signed it. May be given several times.
        #[arg(long, value_name = "KEY.pub", required = true)]
        key: Vec<PathBuf>,
        /// keylime: a runtime policy, JSON. corim: an unsigned CoRIM, CBOR.
        #[arg(long)]
        format: Format,
        /// Where to put it.
        #[arg(long, short, value_name = "FILE")]
        output: PathBuf,
    },
    /// Check that one of the given keys signed a manifest, and that it is well-formed.
    Verify {
        /// The manifest.
        file: PathBuf,
        /// A trusted public key. May be given several times.
        #[arg(long, value_name = "KEY.pub", required = true)]
        key: Vec<PathBuf>,
    },
    /// Store manifests: they count for every device whose policy allows them.
    #[command(after_help = "\
Examples:
  motectl key trust image.key.pub --manifests
  motectl manifest add edge-1.4.mote

What is stored of the devices is appraised anew; none of them has to send anything.")]
    Add {
        /// Signed by a trusted key.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// List the stored manifests.
    List,
    /// Forget a stored manifest.
    Remove {
        /// name-version, or the first digits of its SHA-256.
        manifest: String,
    },
}

/// A format to export to.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(super) enum Format {
    Keylime,
    Corim,
}

pub(super) fn run(context: &Context, command: Command) -> Outcome {
    match command {
        Command::Add { files } => add(context, &files),
        Command::List => match ask(context, &Request::ManifestList)? {
            Response::Manifests(manifests) => {
                context.show(&manifests, |manifests| in_a_table(manifests))
            }
            other => unexpected(&other),
        },
        Command::Remove { manifest } => stored(context, "", &Request::ManifestRemove { manifest }),
        Command::Build(options) => build::run(context, *options),
        Command::Show { file, key, files } => show(context, &file, &key, files),
        Command::Export {
            file,
            key,
            format,
            output,
        } => export(&file, &load(&key)?, format, &output),
        Command::Verify { file, key } => {
            let verified = VerifiedManifest::read(&file, &load(&key)?)?;
            let signed = SignedManifest::read(&file)?;
            let summary = Summary::new(verified.manifest(), &signed, true);
            context.show(&summary, |summary| {
                format!(
                    "{}: good, {} {}\n",
                    file.display(),
                    summary.name,
                    summary.version
                )
            })
        }
    }
}

/// One by one: a file that is refused does not undo those before it, and its name is in the error.
fn add(context: &Context, files: &[PathBuf]) -> Outcome {
    let mut out = String::new();
    for file in files {
        let bytes = read_file(file, MAX_MANIFEST)?;
        SignedManifest::parse(&bytes)
            .and_then(|signed| signed.claims())
            .map_err(|error| error.in_file(file))?;
        let request = Request::ManifestAdd {
            data: STANDARD.encode(bytes),
        };
        out += &stored(context, "added ", &request)
            .map_err(|Failure(why)| Failure(format!("{}: {why}", file.display())))?;
    }
    Ok(out)
}

fn in_a_table(manifests: &[ManifestView]) -> String {
    if manifests.is_empty() {
        return "no manifest is stored; `motectl manifest add` adds one\n".to_owned();
    }
    let mut rows = vec![["NAME", "VERSION", "FILES", "SIGNED BY", "SHA-256"].map(String::from)];
    rows.extend(manifests.iter().map(|manifest| {
        [
            printable(manifest.name.as_bytes()),
            printable(manifest.version.as_bytes()),
            manifest.files.to_string(),
            manifest.key_id.clone(),
            manifest.digest.clone(),
        ]
    }));
    table([20, 16, 8, 16, 64], &rows)
}

#[derive(Serialize)]
struct Summary {
    verified: bool,
    name: String,
    version: String,
    /// Seconds since 1970.
    created: Option<u64>,
    key_id: String,
    /// SHA-256 of the manifest file.
    digest: String,
    files: usize,
    exclusions: Vec<String>,
    /// Bank -> PCR -> allowed values.
    pcrs: BTreeMap<String, BTreeMap<u8, Vec<String>>>,
    boot: Expected,
    /// Component -> allowed SHA-256 digests.
    firmware: BTreeMap<String, Vec<String>>,
    /// Measured buffer -> allowed SHA-256 digests.
    buffers: BTreeMap<String, Vec<String>>,
    unjudged_keyrings: Vec<String>,
    device_mapper: Vec<ShownTable>,
}

/// A device that the device mapper may make. Values are patterns.
#[derive(Serialize)]
struct ShownTable {
    device: Attributes,
    targets: Vec<Attributes>,
    may_be_cleared: bool,
    may_be_removed: bool,
    /// Patterns of a new name and UUID.
    may_become: Option<(String, String)>,
}

impl ShownTable {
    fn new(table: &DeviceTable) -> Self {
        Self {
            device: table.device.clone(),
            targets: table.targets.clone(),
            may_be_cleared: table.may_clear,
            may_be_removed: table.may_remove,
            may_become: table.may_become.clone(),
        }
    }

    fn in_words(&self) -> String {
        let words = |attributes: &Attributes| {
            let words = attributes
                .iter()
                .map(|(key, value)| format!("{key}={value}"));
            words.collect::<Vec<_>>().join(",")
        };
        let mut text = words(&self.device);
        for target in &self.targets {
            let _ = write!(text, "; {}", words(target));
        }
        printable(text.as_bytes())
    }
}

/// What the boot event log must show.
#[derive(Serialize)]
struct Expected {
    secure_boot: bool,
    /// Variable -> SHA-256 of what it may contain.
    secure_boot_keys: BTreeMap<&'static str, Vec<String>>,
    /// Variable -> signatures, of which it may hold any and no other.
    secure_boot_allowed: BTreeMap<&'static str, Vec<String>>,
    /// Variable -> signatures that it must hold.
    secure_boot_required: BTreeMap<&'static str, Vec<String>>,
    applications: Vec<String>,
    kernels: Vec<String>,
    initrds: Vec<String>,
    command_lines: Vec<String>,
    /// PCR -> digests.
    events: BTreeMap<u8, Vec<String>>,
}

impl Expected {
    fn new(boot: &BootExpectations) -> Self {
        let texts = |list: &[Digest]| list.iter().map(ToString::to_string).collect();
        let by_name = |variables: &BTreeMap<KeyVariable, Vec<FileDigest>>| {
            variables
                .iter()
                .map(|(key, list)| (key.name(), list.iter().map(ToString::to_string).collect()))
                .collect()
        };
        Self {
            secure_boot: boot.secure_boot,
            secure_boot_keys: by_name(&boot.keys),
            secure_boot_allowed: by_name(&boot.allowed_signatures),
            secure_boot_required: by_name(&boot.required_signatures),
            applications: texts(&boot.applications),
            kernels: texts(&boot.kernels),
            initrds: texts(&boot.initrds),
            command_lines: boot.command_lines.clone(),
            events: boot
                .events
                .iter()
                .map(|(pcr, list)| (*pcr, texts(list)))
                .collect(),
        }
    }

    fn in_words(&self, mut line: impl FnMut(&str, &str)) {
        if self.secure_boot {
            line("secure boot", "on");
        }
        for (name, values) in &self.secure_boot_keys {
            for value in values {
                line(name, value);
            }
        }
        for (name, values) in &self.secure_boot_allowed {
            if values.is_empty() {
                line(name, "holds nothing");
            }
            for value in values {
                line(&format!("{name} may hold"), value);
            }
        }
        for (name, values) in &self.secure_boot_required {
            for value in values {
                line(&format!("{name} holds"), value);
            }
        }
        for (label, values) in [
            ("boot app", &self.applications),
            ("kernel", &self.kernels),
            ("initrd", &self.initrds),
            ("cmdline", &self.command_lines),
        ] {
            for value in values {
                line(label, value);
            }
        }
        for (pcr, values) in &self.events {
            let label = format!("in PCR {pcr}");
            for value in values {
                line(&label, value);
            }
        }
    }
}

impl Summary {
    fn new(manifest: &Manifest, signed: &SignedManifest, verified: bool) -> Self {
        let in_hex =
            |values: &Vec<Vec<u8>>| values.iter().map(|value| hex::encode(value)).collect();
        let bank = |(alg, pcrs): (&u16, &BTreeMap<u8, Vec<Vec<u8>>>)| {
            (
                bank_name(*alg),
                pcrs.iter()
                    .map(|(pcr, values)| (*pcr, in_hex(values)))
                    .collect(),
            )
        };
        let buffers = manifest.buffers();
        Self {
            verified,
            name: manifest.name().to_owned(),
            version: manifest.version().to_owned(),
            created: manifest.created(),
            key_id: hex::encode(&signed.key_id()),
            digest: hex::encode(&signed.digest()),
            files: manifest.files().len(),
            exclusions: manifest.exclusions().to_vec(),
            pcrs: manifest.pcrs().iter().map(bank).collect(),
            boot: Expected::new(manifest.boot()),
            firmware: manifest
                .firmware()
                .iter()
                .map(|component| {
                    let digests = component.digests.iter().map(ToString::to_string);
                    (component.name.clone(), digests.collect())
                })
                .collect(),
            buffers: buffers
                .known
                .iter()
                .map(|buffer| {
                    let digests = buffer.digests.iter().map(ToString::to_string);
                    (printable(&buffer.path), digests.collect())
                })
                .collect(),
            unjudged_keyrings: buffers.unjudged_keyrings.clone(),
            device_mapper: buffers.tables.iter().map(ShownTable::new).collect(),
        }
    }

    /// How many of what.
    fn contents(&self) -> String {
        match self.firmware.len() {
            0 => format!("{} files", self.files),
            components => format!("{components} components"),
        }
    }

    fn in_words(&self) -> String {
        let mut out = String::new();
        let mut line = |label: &str, value: &str| {
            // Writing to a String does not fail.
            let _ = writeln!(out, "{label:<10} {value}");
        };
        line("name", &self.name);
        line("version", &self.version);
        if let Some(created) = self.created {
            line("created", &time::date(created.saturating_mul(1000)));
        }
        line("signed by", &self.key_id);
        line(
            "signature",
            if self.verified {
                "good"
            } else {
                "NOT CHECKED (give --key)"
            },
        );
        line("SHA-256", &self.digest);
        line("files", &self.files.to_string());
        for (index, glob) in self.exclusions.iter().enumerate() {
            line(
                if index == 0 { "excluded" } else { "" },
                &printable(glob.as_bytes()),
            );
        }
        for (bank, pcrs) in &self.pcrs {
            for (pcr, values) in pcrs {
                for value in values {
                    line(&format!("{bank}:{pcr}"), value);
                }
            }
        }
        for (name, digests) in &self.firmware {
            line("component", &printable(name.as_bytes()));
            for digest in digests {
                line("", digest);
            }
        }
        for (name, digests) in &self.buffers {
            line("buffer", name);
            for digest in digests {
                line("", digest);
            }
        }
        for keyring in &self.unjudged_keyrings {
            line("unjudged", &printable(keyring.as_bytes()));
        }
        for table in &self.device_mapper {
            line("device", &table.in_words());
        }
        self.boot.in_words(line);
        out
    }
}

fn load(keys: &[PathBuf]) -> Result<Vec<PublicKey>, Failure> {
    Ok(keys
        .iter()
        .map(|file| PublicKey::load(file))
        .collect::<Result<_, _>>()?)
}

fn show(context: &Context, file: &Path, keys: &[PathBuf], files: bool) -> Outcome {
    let signed = SignedManifest::read(file)?;
    let manifest = if keys.is_empty() {
        signed.claims()
    } else {
        signed
            .verify(&load(keys)?)
            .map(|verified| verified.manifest().clone())
    };
    let manifest = manifest.map_err(|error| error.in_file(file))?;
    if files {
        return list(context, &manifest);
    }
    context.show(
        &Summary::new(&manifest, &signed, !keys.is_empty()),
        Summary::in_words,
    )
}

fn export(file: &Path, keys: &[PublicKey], format: Format, output: &Path) -> Outcome {
    let verified = VerifiedManifest::read(file, keys)?;
    let manifest = verified.manifest();
    let (bytes, left_out) = match format {
        Format::Keylime => {
            let converted = keylime::write(manifest);
            let (text, left_out) =
                converted.map_err(|error| Failure(format!("{}: {error}", file.display())))?;
            (text.into_bytes(), left_out)
        }
        Format::Corim => corim::write(manifest),
    };
    for what in left_out {
        eprintln!("motectl: left out: {what}");
    }
    std::fs::write(output, &bytes)
        .map_err(|error| Failure(format!("{}: {error}", output.display())))?;
    Ok(format!("{}: {} bytes\n", output.display(), bytes.len()))
}

fn list(context: &Context, manifest: &Manifest) -> Outcome {
    #[derive(Serialize)]
    struct Entry {
        path: String,
        digests: Vec<String>,
    }
    let entries: Vec<Entry> = manifest
        .files()
        .iter()
        .map(|file| Entry {
            path: printable(&file.path),
            digests: file.digests.iter().map(ToString::to_string).collect(),
        })
        .collect();
    context.show(&entries, |entries| {
        let lines = entries.iter().flat_map(|entry| {
            entry
                .digests
                .iter()
                .map(|digest| format!("{digest}  {}\n", entry.path))
        });
        lines.collect()
    })
}

const BANKS: [(&str, u16); 4] = [
    ("sha1", 0x0004),
    ("sha256", 0x000B),
    ("sha384", 0x000C),
    ("sha512", 0x000D),
];

fn bank_name(alg: u16) -> String {
    let known = BANKS.iter().find(|(_, id)| *id == alg);
    known.map_or_else(|| format!("{alg:#06x}"), |(name, _)| (*name).to_owned())
}
