//! `motectl manifest build`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::{ArgGroup, Args};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use sha2::{Digest, Sha256};

use super::{BANKS, Summary};
use crate::cli::{Context, Failure, Outcome};
use crate::convert::{ConvertError, Imported, corim, keylime, refstate, sbom};
use crate::hex;
use crate::manifest::build::{Progress, hash_rootfs};
use crate::manifest::sums::read_sums;
use crate::manifest::{
    ComponentEntry, Exclusion, FileDigest, FileEntry, Manifest, SignedManifest, StaticPcrs, sign,
};
use crate::signing_key::SigningKey;

/// Largest file to convert, in bytes: an SBOM of a desktop distribution.
const MAX_CONVERTED: u64 = 256 << 20;

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("source").required(true).args(["rootfs", "sha256sums", "keylime", "sbom", "corim", "component"]))]
pub(in crate::cli) struct Build {
    /// Hash every regular file under DIR.
    #[arg(long, value_name = "DIR")]
    rootfs: Option<PathBuf>,
    /// Take the digests from the output of sha256sum (`-`: standard input).
    #[arg(long, value_name = "FILE")]
    sha256sums: Option<PathBuf>,
    /// Convert a Keylime runtime policy (JSON).
    #[arg(long, value_name = "FILE")]
    keylime: Option<PathBuf>,
    /// Convert an SBOM's file digests: SPDX 2.3, SPDX 3 or CycloneDX, JSON. May be given several times.
    #[arg(long, value_name = "FILE")]
    sbom: Vec<PathBuf>,
    /// Convert a CoRIM's reference triples. A signature is not checked.
    #[arg(long, value_name = "FILE")]
    corim: Option<PathBuf>,
    /// A component that devices without a TPM measure: a file to hash, or sha256:HEX. May be given several
    /// times, and the same name for several digests.
    #[arg(long, value_name = "NAME=FILE|sha256:HEX")]
    component: Vec<String>,
    /// The private key to sign with (`motectl key new`).
    #[arg(long, value_name = "KEY")]
    sign: PathBuf,
    /// Where to put the manifest.
    #[arg(long, short, value_name = "MANIFEST")]
    output: PathBuf,
    /// Name of the image. Default: IMAGE_ID or ID of its os-release, or the output's file name.
    #[arg(long)]
    name: Option<String>,
    /// Version of the image. Default: IMAGE_VERSION or VERSION_ID of its os-release, or 0.
    #[arg(long)]
    version: Option<String>,
    /// Leave these paths out, and never judge them. `*` stops at `/`, `**` does not.
    #[arg(long, value_name = "GLOB")]
    exclude: Vec<String>,
    /// Expect of the boot what a Keylime measured-boot reference state (JSON) does.
    #[arg(long, value_name = "FILE")]
    mb_refstate: Option<PathBuf>,
    /// A value that a boot PCR may have, such as `sha256:7=<hex>`. May be given several times.
    #[arg(long, value_name = "BANK:PCR=HEX")]
    pcr: Vec<String>,
    #[command(flatten)]
    boot: super::boot::BootOptions,
    #[command(flatten)]
    buffers: super::buffers::BufferOptions,
    /// No progress bar.
    #[arg(long, short)]
    quiet: bool,
}

pub(super) fn run(context: &Context, options: Build) -> Outcome {
    let started = Instant::now();
    let key = SigningKey::load(&options.sign)?;
    let created = source_date_epoch()?;
    let mut pcrs = parse_pcrs(&options.pcr)?;
    let components = components(&options.component)?;
    let Imported {
        name: named,
        version: versioned,
        files,
        exclusions,
        pcrs: imported_pcrs,
        boot: imported_boot,
        buffers: imported_buffers,
        left_out,
    } = sources(context, &options)?;
    for what in left_out {
        eprintln!("motectl: left out: {what}");
    }
    for (bank, values) in imported_pcrs {
        for (pcr, values) in values {
            let known = pcrs.entry(bank).or_default().entry(pcr).or_default();
            known.extend(values);
        }
    }
    let release = options
        .rootfs
        .as_deref()
        .map(os_release)
        .unwrap_or_default();
    let of_release = |keys: [&str; 2]| keys.iter().find_map(|key| release.get(*key).cloned());
    let name = options
        .name
        .or_else(|| of_release(["IMAGE_ID", "ID"]))
        .or(named)
        .or_else(|| {
            let stem = options.output.file_stem()?;
            Some(stem.to_string_lossy().into_owned())
        });
    let version = options
        .version
        .or_else(|| of_release(["IMAGE_VERSION", "VERSION_ID"]))
        .or(versioned);
    let manifest = Manifest::new(
        &name.unwrap_or_default(),
        version.as_deref().unwrap_or("0"),
        created,
        files,
        [options.exclude, exclusions].concat(),
        pcrs,
    )?
    .with_boot(options.boot.expectations()?.and(imported_boot))?
    .with_firmware(components)?
    .with_buffers(options.buffers.expectations()?.and(imported_buffers))?;
    let bytes = sign(&manifest, &key)?;
    replace(&options.output, &bytes)
        .map_err(|error| Failure(format!("{}: {error}", options.output.display())))?;
    let signed = SignedManifest::parse(&bytes)?;
    // What was written is what will be read.
    let verified = signed.verify(std::slice::from_ref(key.public_key()))?;
    let summary = Summary::new(verified.manifest(), &signed, true);
    context.show(&summary, |summary| {
        format!(
            "{}: {} {}, {}, {} bytes, {:.1} s\n",
            options.output.display(),
            summary.name,
            summary.version,
            summary.contents(),
            bytes.len(),
            started.elapsed().as_secs_f64()
        )
    })
}

/// Reads or makes the reference values, and what is expected of the boot.
fn sources(context: &Context, options: &Build) -> Result<Imported, Failure> {
    let mut imported = source(context, options)?;
    if let Some(file) = &options.mb_refstate {
        let state = convert(file, refstate::read)?;
        imported.boot = state.boot;
        imported.left_out.extend(state.left_out);
    }
    Ok(imported)
}

/// Reads or makes the reference values.
fn source(context: &Context, options: &Build) -> Result<Imported, Failure> {
    let only = |files| Imported {
        files,
        ..Imported::default()
    };
    if let Some(root) = &options.rootfs {
        refuse_inside(root, &options.output)?;
        let bar = Bar::new(options.quiet || context.json);
        let files = hash_rootfs(root, &options.exclude, &bar);
        bar.0.finish_and_clear();
        return Ok(only(files?));
    }
    if let Some(list) = &options.sha256sums {
        return Ok(only(sums(list, &options.exclude)?));
    }
    if !options.component.is_empty() {
        return Ok(Imported::default());
    }
    let mut imported = if let Some(file) = &options.keylime {
        convert(file, keylime::read)?
    } else if let Some(file) = &options.corim {
        convert(file, corim::read)?
    } else {
        let mut all = Imported::default();
        for file in &options.sbom {
            let one = convert(file, sbom::read)?;
            all.name = all.name.or(one.name);
            all.version = all.version.or(one.version);
            all.files.extend(one.files);
            let named = |what| format!("{}: {what}", file.display());
            all.left_out.extend(one.left_out.into_iter().map(named));
        }
        all
    };
    let exclusion = Exclusion::new(&options.exclude)?;
    imported
        .files
        .retain(|file| exclusion.matches(&file.path).is_none());
    Ok(imported)
}

fn convert(
    file: &Path,
    read: impl Fn(&[u8]) -> Result<Imported, ConvertError>,
) -> Result<Imported, Failure> {
    let named = |error: &dyn std::fmt::Display| Failure(format!("{}: {error}", file.display()));
    let length = fs::metadata(file).map_err(|error| named(&error))?.len();
    if length > MAX_CONVERTED {
        return Err(named(&"larger than 256 MiB"));
    }
    let bytes = fs::read(file).map_err(|error| named(&error))?;
    read(&bytes).map_err(|error| named(&error))
}

/// Components with the digests of their files.
fn components(options: &[String]) -> Result<Vec<ComponentEntry>, Failure> {
    let component = |text: &String| {
        let (name, digest) = named_digest("--component", text)?;
        Ok(ComponentEntry {
            name: name.to_owned(),
            digests: vec![digest],
        })
    };
    options.iter().map(component).collect()
}

/// NAME=FILE, which is hashed, or NAME=sha256:HEX.
pub(super) fn named_digest<'t>(
    option: &str,
    text: &'t str,
) -> Result<(&'t str, FileDigest), Failure> {
    let wrong = || Failure(format!("{option} {text}: not NAME=FILE or NAME=sha256:HEX"));
    let (name, value) = text.split_once('=').ok_or_else(wrong)?;
    let digest: [u8; 32] = if let Some(digits) = value.strip_prefix("sha256:") {
        hex::decode(digits)
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or_else(wrong)?
    } else {
        let bytes = fs::read(value).map_err(|e| Failure(format!("{value}: {e}")))?;
        if option == "--buffer" && bytes.starts_with(b"-----BEGIN ") {
            return Err(Failure(format!(
                "{value}: PEM, of which the kernel measures the DER: convert it with openssl"
            )));
        }
        Sha256::digest(bytes).into()
    };
    Ok((name, FileDigest(digest)))
}

/// A manifest inside the image would be one of the files that the next build of it lists.
fn refuse_inside(root: &Path, output: &Path) -> Result<(), Failure> {
    let directory = output
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let inside = fs::canonicalize(directory.unwrap_or(Path::new(".")))
        .and_then(|directory| Ok(directory.starts_with(fs::canonicalize(root)?)));
    // The whole machine as an image is fine: only what is measured there counts.
    if inside.is_ok_and(|inside| inside) && root != Path::new("/") {
        return Err(Failure(format!(
            "{}: lies inside the root file system that it describes; put it beside the image",
            output.display()
        )));
    }
    Ok(())
}

fn sums(list: &Path, exclude: &[String]) -> Result<Vec<FileEntry>, Failure> {
    let exclusion = Exclusion::new(exclude)?;
    let named = |error: String| Failure(format!("{}: {error}", list.display()));
    let mut input: Box<dyn BufRead> = if list == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        Box::new(BufReader::new(
            File::open(list).map_err(|error| named(error.to_string()))?,
        ))
    };
    read_sums(&mut *input, &exclusion).map_err(|error| named(error.to_string()))
}

/// <https://reproducible-builds.org/specs/source-date-epoch/>
fn source_date_epoch() -> Result<Option<u64>, Failure> {
    let Some(value) = std::env::var_os("SOURCE_DATE_EPOCH") else {
        return Ok(None);
    };
    match value.to_str().map(str::parse) {
        Some(Ok(seconds)) => Ok(Some(seconds)),
        _ => Err(Failure(format!(
            "SOURCE_DATE_EPOCH={}: not a number of seconds",
            value.display()
        ))),
    }
}

/// `KEY=value` lines (os-release(5)) of the image, never of the machine that builds it: a link could
/// lead there.
fn os_release(root: &Path) -> BTreeMap<String, String> {
    let candidates = ["usr/lib/os-release", "etc/os-release"].map(|name| root.join(name));
    let text = candidates
        .iter()
        .filter(|path| fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file()))
        .find_map(|path| fs::read_to_string(path).ok())
        .unwrap_or_default();
    text.lines()
        .filter_map(|line| line.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.trim_matches(['"', '\'']).to_owned()))
        .filter(|(_, value)| !value.is_empty())
        .collect()
}

fn parse_pcrs(values: &[String]) -> Result<StaticPcrs, Failure> {
    let mut pcrs = StaticPcrs::new();
    for text in values {
        let parsed = text.split_once('=').and_then(|(selection, value)| {
            let (bank, pcr) = selection.split_once(':')?;
            let (_, alg) = BANKS.iter().find(|(name, _)| *name == bank)?;
            Some((*alg, pcr.parse::<u8>().ok()?, hex::decode(value)?))
        });
        let Some((alg, pcr, value)) = parsed else {
            return Err(Failure(format!(
                "--pcr {text}: not BANK:PCR=HEX, such as sha256:7=<64 hex digits>"
            )));
        };
        pcrs.entry(alg)
            .or_default()
            .entry(pcr)
            .or_default()
            .push(value);
    }
    Ok(pcrs)
}

/// Puts a whole file in place of `path`, or leaves it as it was.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = OsString::from(path);
    name.push(format!(".new-{}", std::process::id()));
    let temporary = PathBuf::from(name);
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&temporary)
        .and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        })
        .and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // The first error is the one to tell.
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// A progress bar on standard error, where that is a terminal.
struct Bar(ProgressBar);

impl Bar {
    fn new(quiet: bool) -> Self {
        let target = if quiet {
            ProgressDrawTarget::hidden()
        } else {
            ProgressDrawTarget::stderr()
        };
        let bar = ProgressBar::with_draw_target(None, target);
        let style = "{bar:30} {bytes}/{total_bytes} {bytes_per_sec} {msg}";
        if let Ok(style) = ProgressStyle::with_template(style) {
            bar.set_style(style);
        }
        Self(bar)
    }
}

impl Progress for Bar {
    fn start(&self, files: u64, bytes: u64) {
        self.0.set_length(bytes);
        self.0.set_message(format!("in {files} files"));
    }

    fn advance(&self, bytes: u64) {
        self.0.inc(bytes);
    }
}
