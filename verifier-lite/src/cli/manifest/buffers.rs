//! Expectations on measured buffers on the command line of `motectl manifest build`.

use clap::Args;

use super::build::named_digest;
use crate::cli::Failure;
use crate::hex;
use crate::manifest::{BufferExpectations, DeviceTable, FileEntry};

#[derive(Debug, Args)]
#[command(next_help_heading = "What the kernel may measure besides files")]
pub(super) struct BufferOptions {
    /// A buffer by the kernel's name for it, such as a key in DER by its keyring (.ima=FILE) or kexec-cmdline: a
    /// file to hash, or sha256:HEX. May be given several times, and the same name for several digests.
    #[arg(long, value_name = "NAME=FILE|sha256:HEX")]
    buffer: Vec<String>,
    /// A keyring whose keys are not judged; `*`: every keyring.
    #[arg(long, value_name = "KEYRING")]
    unjudged_keyring: Vec<String>,
    /// A dm-verity device that the device mapper may make, with this root digest.
    #[arg(long, value_name = "DEVICE=HEX")]
    verity: Vec<String>,
}

impl BufferOptions {
    pub(super) fn expectations(&self) -> Result<BufferExpectations, Failure> {
        let mut buffers = BufferExpectations {
            unjudged_keyrings: self.unjudged_keyring.clone(),
            ..BufferExpectations::default()
        };
        for text in &self.buffer {
            let (name, digest) = named_digest("--buffer", text)?;
            buffers.known.push(FileEntry {
                path: name.into(),
                digests: vec![digest],
            });
        }
        for text in &self.verity {
            let parsed = text
                .split_once('=')
                .filter(|(_, root)| !root.is_empty() && hex::decode(root).is_some());
            let Some((device, root)) = parsed else {
                return Err(Failure(format!(
                    "--verity {text}: not DEVICE=HEX, the root digest that veritysetup prints"
                )));
            };
            let root = root.to_ascii_lowercase();
            buffers.tables.push(DeviceTable::verity(device, &root));
        }
        Ok(buffers)
    }
}
