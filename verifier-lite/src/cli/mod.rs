//! `motectl`: what an operator or an image build does by hand.
//!
//! Results go to standard output, in words or with `--json` for machines; everything else to standard
//! error. Exit code 0: done; 1: refused, failed or not trusted, with the reason; 2: wrong usage.

use std::fmt::{Display, Write as _};
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::admin::{Request, Response};

mod backend;
mod bootlog;
mod device;
mod explain;
mod ima;
mod key;
mod manifest;
mod policy;
mod result;
mod text;
mod time;
mod verify;

/// Where the verifier keeps its state unless told otherwise.
pub const DEFAULT_STATE: &str = "/var/lib/mote";

#[derive(Debug, Parser)]
#[command(
    name = "motectl",
    version,
    about,
    max_term_width = 100,
    after_help = "\
Examples:
  motectl key new --out image.key
  motectl manifest build --rootfs build/rootfs --sign image.key -o edge-1.3.mote
  motectl device list
  motectl device admit 3f9a --name gate-7
  motectl policy bind gates group:gate
  motectl explain gate-7
  motectl result gate-7 --jwt

  motectl verify evidence.cbor --nonce 5e1f... --ak gate-7.ak --manifest edge-1.3.mote \\
    --manifest-key image.key.pub"
)]
/// Works with a Mote verifier: its devices, manifests, policies, keys and results.
struct Arguments {
    /// The verifier's state directory.
    #[arg(long, global = true, env = "MOTE_STATE", value_name = "DIR", default_value = DEFAULT_STATE)]
    state: PathBuf,

    /// Print JSON, for machines.
    #[arg(long, global = true)]
    json: bool,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make, check and store reference values of an image.
    #[command(subcommand)]
    Manifest(manifest::Command),
    /// Look at boot event logs.
    #[command(subcommand)]
    Bootlog(bootlog::Command),
    /// Look at IMA measurement lists.
    #[command(subcommand)]
    Ima(ima::Command),
    /// Make, store and bind appraisal policies: what is allowed on which devices.
    #[command(subcommand)]
    Policy(policy::Command),
    /// Make signing keys, and say which to trust.
    #[command(subcommand)]
    Key(key::Command),
    /// See devices and decide about them.
    #[command(subcommand)]
    Device(device::Command),
    /// Say in plain words why a device is not trusted, and what to do.
    #[command(after_help = "\
Examples:
  motectl explain gate-7
  motectl explain 3f9a --json | jq -r '.reasons[].deviations[].path'")]
    Explain {
        /// Name, or the first digits of the id.
        device: String,
    },
    /// Print a device's attestation result (EAR), signed by the verifier, for relying parties.
    Result(result::Options),
    /// Appraise evidence that `mote-agent evidence` wrote to a file, without verifier or network.
    Verify(verify::Verify),
}

/// What stopped a command, in words that say what to do.
struct Failure(String);

impl<E: Display> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

/// What a command has to say on standard output.
type Outcome = Result<String, Failure>;

/// Runs the command line.
pub fn main() -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn"))
        .format_timestamp(None)
        .init();
    let arguments = Arguments::parse();
    let context = Context {
        state: arguments.state,
        json: arguments.json,
        now: time::now(),
    };
    let mut trusted = true;
    let outcome = match arguments.command {
        Command::Manifest(command) => manifest::run(&context, command),
        Command::Bootlog(command) => bootlog::run(&context, command),
        Command::Ima(command) => ima::run(&context, command),
        Command::Key(command) => key::run(&context, command),
        Command::Device(command) => device::run(&context, command),
        Command::Policy(command) => policy::run(&context, command),
        Command::Explain { device } => explain::run(&context, device),
        Command::Result(options) => result::run(&context, options),
        Command::Verify(options) => verify::run(&context, &options).map(|(text, good)| {
            trusted = good;
            text
        }),
    };
    match outcome {
        Ok(text) if trusted => print(&text),
        Ok(text) => {
            print(&text);
            ExitCode::FAILURE
        }
        Err(Failure(why)) => {
            eprintln!("motectl: {why}");
            ExitCode::FAILURE
        }
    }
}

/// What every command needs.
struct Context {
    state: PathBuf,
    json: bool,
    /// Unix milliseconds.
    now: u64,
}

impl Context {
    /// `value` as JSON, or what `words` makes of it.
    fn show<T: serde::Serialize>(&self, value: &T, words: impl FnOnce(&T) -> String) -> Outcome {
        if !self.json {
            return Ok(words(value));
        }
        let mut text = serde_json::to_string_pretty(value)?;
        text.push('\n');
        Ok(text)
    }
}

/// What a stored, bound or removed object led to.
fn stored(context: &Context, verb: &str, request: &Request) -> Outcome {
    match backend::ask(context, request)? {
        response @ Response::Stored { .. } => {
            context.show(&response, |response| stored_in_words(verb, response))
        }
        other => backend::unexpected(&other),
    }
}

fn stored_in_words(verb: &str, response: &Response) -> String {
    let Response::Stored {
        what,
        appraised,
        changed,
        done,
    } = response
    else {
        return String::new();
    };
    let devices = |n: u64| match n {
        1 => "1 device".to_owned(),
        n => format!("{n} devices"),
    };
    let mut text = format!("{verb}{what}\n");
    if *appraised > 0 {
        let _ = writeln!(
            text,
            "appraised {} anew: {} with another verdict",
            devices(*appraised),
            devices(*changed)
        );
    }
    if !done {
        text.push_str("more devices are being appraised anew\n");
    }
    text
}

fn print(text: &str) -> ExitCode {
    match io::stdout()
        .write_all(text.as_bytes())
        .and_then(|()| io::stdout().flush())
    {
        Ok(()) => ExitCode::SUCCESS,
        // The reader had enough: `motectl device list | head`.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("motectl: standard output: {error}");
            ExitCode::FAILURE
        }
    }
}
