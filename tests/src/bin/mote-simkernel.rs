//! Plays the Linux kernel of a device in front of a real swtpm; see `mote_tests::simkernel`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use mote_tests::simkernel::{Error, Kernel, Result, control, front::Front, tpm::Tpm};

/// Plays the Linux kernel of a device in front of a real swtpm.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Boot, then lend out the TPM and keep the IMA list until killed
    Run(Run),
    /// Send one command to a running kernel and print its answer
    Tell(Tell),
}

#[derive(Args)]
struct Run {
    /// swtpm's data port; its control port must be the next one
    #[arg(long, value_name = "HOST:PORT")]
    swtpm: SocketAddr,
    /// Where to offer the TPM (data; control on the next port); port 0 finds a free pair
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// A recorded device: `binary_bios_measurements` and `binary_runtime_measurements`
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// The IMA list to create (the device's `binary_runtime_measurements`)
    #[arg(long, value_name = "FILE")]
    list: PathBuf,
    /// Unix socket for `tell`; it appears once the kernel has booted
    #[arg(long, value_name = "SOCKET")]
    control: PathBuf,
    /// Milliseconds between a record in the list and its extension in the TPM
    #[arg(long, value_name = "MS", default_value_t = 0)]
    delay: u64,
}

#[derive(Args)]
struct Tell {
    /// The kernel's `--control` socket
    socket: PathBuf,
    /// Seconds to wait for the kernel to boot
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    wait: u64,
    /// `append N`, `append-until N`, `append-path PATH`, `append-file PATH DIGEST`,
    /// `violation PATH`, `delay MS`, `shutdown`, `status`
    #[arg(required = true, trailing_var_arg = true)]
    line: Vec<String>,
}

fn main() -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info")).init();
    let done = match Cli::parse().command {
        Command::Run(run) => boot(&run),
        Command::Tell(tell) => control::tell(
            &tell.socket,
            &tell.line.join(" "),
            Duration::from_secs(tell.wait),
        )
        .map(|answer| println!("{answer}")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mote-simkernel: {error}");
            ExitCode::FAILURE
        }
    }
}

fn boot(run: &Run) -> Result<()> {
    let read = |name: &str| {
        let path = run.data.join(name);
        std::fs::read(&path).map_err(|error| Error::Io(path.display().to_string(), error))
    };
    let mut swtpm_control = run.swtpm;
    swtpm_control.set_port(run.swtpm.port().saturating_add(1));
    control::remove_stale(&run.control)?;
    let tpm = Tpm::connect(run.swtpm)?;
    let front = Front::bind(run.listen)?;
    let kernel = Kernel::boot(
        tpm.clone(),
        &read("binary_bios_measurements")?,
        &read("binary_runtime_measurements")?,
        &run.list,
        Duration::from_millis(run.delay),
    )?;
    let port = front.port()?;
    front.serve(tpm, swtpm_control);
    log::info!("booted; the TPM is at swtpm:{}:{port}", run.listen.ip());
    control::serve(kernel, port, &run.control)
}
