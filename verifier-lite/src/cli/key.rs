//! `motectl key`.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::PathBuf;

use clap::Subcommand;
use serde::Serialize;

use super::backend::{ask, unexpected};
use super::text::table;
use super::{Context, Failure, Outcome, stored};
use crate::admin::{KeyView, Request, Response};
use crate::hex;
use crate::signing_key::{PublicKey, SigningKey};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make a key (ECDSA P-256): KEY, readable by you alone, and KEY.pub.
    #[command(after_help = "\
Examples:
  motectl key new --out image.key       signs manifests; image.key.pub goes to the verifier
  motectl key new --out verifier.key    the verifier's own; verifier.key.pub goes to the devices

A key is never replaced: move an old one away first.")]
    New {
        /// Where to put the private key.
        #[arg(long, short, value_name = "KEY", default_value = "mote.key")]
        out: PathBuf,
    },
    /// Believe what a key signs.
    #[command(after_help = "\
Examples:
  motectl key trust image.key.pub --manifests
  motectl key trust security.key.pub --policies")]
    Trust {
        /// A public key (PEM).
        #[arg(value_name = "KEY.pub")]
        file: PathBuf,
        /// Manifests only, unless --policies is given too. Default: both.
        #[arg(long)]
        manifests: bool,
        /// Policies only, unless --manifests is given too. Default: both.
        #[arg(long)]
        policies: bool,
    },
    /// Believe a key no longer. The manifests that it signed count no longer either.
    Distrust {
        /// The first digits of its id.
        key: String,
    },
    /// List the keys that are believed.
    List,
    /// Show a public key and its id.
    Show {
        /// A public key (PEM).
        #[arg(value_name = "KEY.pub")]
        file: PathBuf,
    },
}

#[derive(Serialize)]
struct Made {
    #[serde(skip_serializing_if = "Option::is_none")]
    private: Option<PathBuf>,
    public: PathBuf,
    key_id: String,
    /// Uncompressed, hex.
    point: String,
}

pub(super) fn run(context: &Context, command: Command) -> Outcome {
    match command {
        Command::New { out } => {
            let mut name = OsString::from(&out);
            name.push(".pub");
            let public = PathBuf::from(name);
            // Before the private key, of which it would be the only trace.
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .open(&public)
                .map_err(|error| Failure(format!("{}: {error}", public.display())))?;
            let made = SigningKey::create(&out)
                .map_err(Failure::from)
                .and_then(|key| {
                    file.write_all(key.public_key().to_pem()?.as_bytes())?;
                    file.sync_all()?;
                    Ok(key)
                });
            let key = match made {
                Ok(key) => key,
                Err(failure) => {
                    fs::remove_file(&public)?;
                    return Err(failure);
                }
            };
            show(context, Some(out), public, key.public_key())
        }
        Command::Trust {
            file,
            manifests,
            policies,
        } => {
            let both = manifests == policies;
            let request = Request::KeyTrust {
                pem: PublicKey::load(&file)?.to_pem()?,
                manifests: manifests || both,
                policies: policies || both,
            };
            stored(context, "", &request)
        }
        Command::Distrust { key } => stored(context, "", &Request::KeyDistrust { key }),
        Command::List => match ask(context, &Request::KeyList)? {
            Response::Keys(keys) => context.show(&keys, |keys| in_a_table(keys)),
            other => unexpected(&other),
        },
        Command::Show { file } => {
            let key = PublicKey::load(&file)?;
            show(context, None, file, &key)
        }
    }
}

fn in_a_table(keys: &[KeyView]) -> String {
    if keys.is_empty() {
        return "no key is trusted; `motectl key trust KEY.pub` adds one\n".to_owned();
    }
    let mut rows = vec![["KEY", "MANIFESTS", "POLICIES"].map(String::from)];
    let yes = |is: bool| if is { "yes" } else { "-" }.to_owned();
    rows.extend(
        keys.iter()
            .map(|key| [key.key_id.clone(), yes(key.manifests), yes(key.policies)]),
    );
    table([16, 9, 8], &rows)
}

fn show(context: &Context, private: Option<PathBuf>, public: PathBuf, key: &PublicKey) -> Outcome {
    let made = Made {
        private,
        public,
        key_id: hex::encode(&key.key_id()),
        point: hex::encode(key.point()),
    };
    context.show(&made, |key| {
        let private = key.private.as_ref().map_or_else(String::new, |path| {
            format!("private key  {} (keep it secret)\n", path.display())
        });
        format!(
            "{private}public key   {}\nkey id       {}\n",
            key.public.display(),
            key.key_id
        )
    })
}
