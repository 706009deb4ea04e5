//! The programs of this workspace, as commands.

use std::env;
use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use crate::error::{Error, Result, during};
use crate::process::run;

/// A command for a program of this workspace.
///
/// Programs are taken from `$MOTE_BIN_DIR` where that is set (`run.sh` builds them once and says
/// so); else they are built, so that a test never meets yesterday's.
pub fn program(name: &str) -> Result<Command> {
    static BUILT: OnceLock<std::result::Result<PathBuf, String>> = OnceLock::new();
    let dir = BUILT
        .get_or_init(|| match env::var_os("MOTE_BIN_DIR") {
            Some(dir) => Ok(dir.into()),
            None => build().map_err(|error| error.to_string()),
        })
        .clone()
        .map_err(Error::Process)?;
    let path = dir.join(name);
    if path.is_file() {
        return Ok(Command::new(path));
    }
    Err(Error::Process(format!(
        "{} does not exist: build it with 'cargo build --workspace --bins'",
        path.display()
    )))
}

fn build() -> Result<PathBuf> {
    let exe = during("own path", env::current_exe())?;
    // target/PROFILE/deps/TEST-HASH; a binary of the workspace is one level up from there.
    let dir = exe
        .ancestors()
        .skip(1)
        .find(|dir| dir.file_name() != Some(OsStr::new("deps")))
        .ok_or_else(|| Error::Malformed(format!("{} is in no directory", exe.display())))?;
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    // As tests/build.sh does it.
    command.args(["build", "--quiet", "--workspace", "--bins", "--examples"]);
    command.args(["--features", "mote-agent/tpm-direct"]);
    if dir.file_name() == Some(OsStr::new("release")) {
        command.arg("--release");
    }
    command.current_dir(env!("CARGO_MANIFEST_DIR"));
    run(&mut command)?;
    Ok(dir.to_owned())
}
