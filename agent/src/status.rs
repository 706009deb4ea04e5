//! How it stands, for whoever is on the device: a boot script, an LED, an init system.
//!
//! The agent writes no file and listens on no socket. It keeps one line in a memfd: memory that no path
//! leads to, that dies with the process, and that `mote-agent status` finds through `/proc/PID/fd`, which
//! only root may read once the agent has given up root. Under systemd the same line goes to `$NOTIFY_SOCKET`
//! (sd_notify(3)), with a sign of life for its watchdog.
//!
//! Who may lie: whoever runs as the agent's user. The line is for local convenience; what counts is what
//! the verifier says.

use std::env;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::FileExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::time::Duration;

use mote_schemas::message::Tier;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::time::{ClockId, clock_gettime};

use crate::exit::Exit;
use crate::session::Event;

/// Name of the memfd.
const NAME: &str = "mote-status";

/// The line's size, padded with spaces, so that it is replaced in one write.
const SIZE: usize = 160;

/// How much longer than announced an event may take: a CoAP exchange that goes unanswered (RFC 7252,
/// 4.8.2, MAX_TRANSMIT_WAIT, 93 s) and a slow TPM.
const SLACK: Duration = Duration::from_secs(180);

/// Where the agent says how it stands.
#[derive(Debug)]
pub struct Status {
    line: Option<File>,
    systemd: Option<(UnixDatagram, SocketAddr)>,
    watchdog: bool,
}

impl Status {
    /// Ready to tell. What cannot be told somewhere is not told there; attesting goes on.
    pub fn new() -> Self {
        let line = memfd_create(NAME, MFdFlags::MFD_CLOEXEC).map(File::from);
        let status = Self {
            line: line.ok(),
            systemd: systemd(),
            watchdog: watchdog_wanted(),
        };
        status.write("starting", Exit::NoVerdict, SLACK);
        status
    }

    /// TPM and measurement list are open, and the first attestation is on its way.
    pub fn ready(&self) {
        self.notify(format_args!("READY=1\n"));
    }

    /// What an event says about how it stands.
    pub fn tell(&self, event: &Event) {
        let (what, exit, next) = match event {
            Event::SessionOpened { .. } | Event::NotTheVerifier(_) => return,
            Event::Appraised { tier, next, .. } => {
                let exit = match tier {
                    Tier::Affirming | Tier::Warning => Exit::Trusted,
                    Tier::Contraindicated => Exit::Untrusted,
                    Tier::None => Exit::NoVerdict,
                };
                (tier.word(), exit, *next)
            }
            Event::Refused { retry, .. } => ("refused", Exit::NoVerdict, *retry),
            Event::Unreachable { retry } => ("unreachable", Exit::Unreachable, *retry),
            Event::Device { error, retry } => ("failed", crate::run::exit_of(error), *retry),
        };
        // An event comes at the latest after this; a verdict that is older is none.
        let until = next * 2 + SLACK;
        self.write(what, exit, until);
        self.notify(format_args!("STATUS={what}\n"));
        if self.watchdog {
            let limit = until.as_micros();
            self.notify(format_args!("WATCHDOG=1\nWATCHDOG_USEC={limit}\n"));
        }
    }

    fn write(&self, what: &str, exit: Exit, valid: Duration) {
        let mut line = [b' '; SIZE];
        let written = write!(
            &mut line[..],
            "{} {} {} {what}",
            uptime().as_secs(),
            valid.as_secs(),
            exit.code()
        );
        if let (Some(file), Ok(())) = (&self.line, written) {
            // Memory; fails when there is none left, and then the old line expires.
            let _ = file.write_all_at(&line, 0);
        }
    }

    fn notify(&self, message: std::fmt::Arguments<'_>) {
        if let Some((socket, address)) = &self.systemd {
            let mut buffer = [0; 96];
            let mut rest = &mut buffer[..];
            if rest.write_fmt(message).is_ok() {
                let left = rest.len();
                let size = buffer.len() - left;
                // A manager that does not listen any more restarts us by itself.
                let _ = socket.send_to_addr(&buffer[..size], address);
            }
        }
    }
}

impl Default for Status {
    fn default() -> Self {
        Self::new()
    }
}

/// `$NOTIFY_SOCKET`: a path, or a name in the abstract namespace after `@`.
fn systemd() -> Option<(UnixDatagram, SocketAddr)> {
    let name = env::var("NOTIFY_SOCKET").ok()?;
    let address = match name.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(&name),
    };
    let socket = UnixDatagram::unbound().ok()?;
    // A manager that hangs must not hang us.
    socket.set_nonblocking(true).ok()?;
    Some((socket, address.ok()?))
}

/// sd_watchdog_enabled(3): the variable may be meant for another process.
fn watchdog_wanted() -> bool {
    let ours = std::process::id().to_string();
    env::var_os("WATCHDOG_USEC").is_some() && env::var("WATCHDOG_PID").map_or(true, |id| id == ours)
}

/// Time since boot, sleep included.
fn uptime() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from)
}

/// `mote-agent status`: prints how the running agent stands, and exits as `--once` would have.
pub fn show(out: &mut dyn Write) -> io::Result<Exit> {
    let lines: Vec<String> = fs::read_dir("/proc")?
        .flatten()
        .filter_map(|process| line_of(&process.path()))
        .collect();
    let [line] = lines.as_slice() else {
        let what = match lines.len() {
            0 => "no mote-agent runs here, or not one that this user may look at (try as root)",
            _ => "several mote-agents run here",
        };
        writeln!(out, "{what}")?;
        return Ok(Exit::NoVerdict);
    };
    let Some((what, exit, age)) = read(line, uptime()) else {
        writeln!(out, "the agent of another version runs here")?;
        return Ok(Exit::NoVerdict);
    };
    writeln!(out, "{what}, as of {age} s ago")?;
    Ok(exit)
}

/// The line of the process with this directory in /proc, if it is an agent.
fn line_of(process: &Path) -> Option<String> {
    let wanted = format!("/memfd:{NAME} ");
    let descriptor = fs::read_dir(process.join("fd"))
        .ok()?
        .flatten()
        .find(|fd| {
            fs::read_link(fd.path())
                .is_ok_and(|target| target.to_string_lossy().starts_with(&wanted))
        })?;
    fs::read_to_string(descriptor.path()).ok()
}

/// What a line says at `now`, its exit code, and its age in seconds. A line that is overdue says
/// nothing about the present.
fn read(line: &str, now: Duration) -> Option<(String, Exit, u64)> {
    let mut fields = line.trim_end().splitn(4, ' ');
    let mut number = || fields.next()?.parse::<u64>().ok();
    let (at, valid, code) = (number()?, number()?, number()?);
    let what = fields.next()?;
    let exit = Exit::ALL
        .into_iter()
        .find(|exit| u64::from(exit.code()) == code)?;
    let age = now.as_secs().saturating_sub(at);
    if age > valid {
        let what = format!("silent for too long; the last was \"{what}\"");
        return Some((what, Exit::NoVerdict, age));
    }
    Some((what.to_owned(), exit, age))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measurement_log::LogError;
    use crate::session::DeviceError;
    use crate::tpm::TpmError;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_line_says_what_was_told_and_for_how_long() {
        let status = Status {
            line: memfd_create("test", MFdFlags::MFD_CLOEXEC)
                .map(File::from)
                .ok(),
            systemd: None,
            watchdog: false,
        };
        status.write(
            "a rather long word that the next one does not cover",
            Exit::Tpm,
            SECOND,
        );
        status.write("untrusted", Exit::Untrusted, 300 * SECOND);
        let mut line = [0; SIZE];
        status
            .line
            .as_ref()
            .unwrap()
            .read_exact_at(&mut line, 0)
            .unwrap();
        let line = std::str::from_utf8(&line).unwrap();
        let now = uptime();
        let (what, exit, age) = read(line, now).unwrap();
        assert_eq!((what.as_str(), exit), ("untrusted", Exit::Untrusted));
        assert!(age <= 2);
        let (what, exit, _) = read(line, now + 303 * SECOND).unwrap();
        assert_eq!(exit, Exit::NoVerdict, "{what}");
        assert!(what.contains("silent"), "{what}");
    }

    #[test]
    fn every_event_has_its_word_and_its_exit_code() {
        let appraised = |tier| Event::Appraised {
            tier,
            reasons: heapless::Vec::new(),
            records: 1,
            next: SECOND,
        };
        let device = |error| Event::Device {
            error,
            retry: SECOND,
        };
        let path = std::path::PathBuf::from("/nonexistent");
        for (event, word, code) in [
            (appraised(Tier::Affirming), "trusted", 0),
            (appraised(Tier::Warning), "warning", 0),
            (appraised(Tier::Contraindicated), "untrusted", 1),
            (appraised(Tier::None), "unknown", 3),
            (
                Event::Refused {
                    reason: crate::session::Token::new(),
                    detail: heapless::String::new(),
                    retry: SECOND,
                },
                "refused",
                3,
            ),
            (Event::Unreachable { retry: SECOND }, "unreachable", 4),
            (device(DeviceError::Tpm(TpmError::PcrsMoving)), "failed", 5),
            // The TPM did its part: somebody else's credential, or none.
            (
                device(DeviceError::Tpm(TpmError::WrongCredential)),
                "failed",
                3,
            ),
            (
                device(DeviceError::Log(LogError::NotFound { path })),
                "failed",
                6,
            ),
        ] {
            let status = Status {
                line: memfd_create("test", MFdFlags::MFD_CLOEXEC)
                    .map(File::from)
                    .ok(),
                systemd: None,
                watchdog: false,
            };
            status.tell(&event);
            let mut line = [0; SIZE];
            let file = status.line.as_ref().unwrap();
            file.read_exact_at(&mut line, 0).unwrap();
            let line = std::str::from_utf8(&line).unwrap();
            let (what, exit, _) = read(line, uptime()).unwrap();
            assert_eq!((what.as_str(), exit.code()), (word, code), "{event:?}");
        }
    }

    #[test]
    fn what_is_no_line_says_nothing() {
        for line in ["", "1 2", "1 2 99 trusted", "x 2 0 trusted", "1 2 0"] {
            assert_eq!(read(line, SECOND), None, "{line:?}");
        }
    }

    #[test]
    fn systemd_hears_of_readiness_and_life() {
        let name = format!("mote-notify-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let manager = UnixDatagram::bind_addr(&address).unwrap();
        let status = Status {
            line: None,
            systemd: Some((UnixDatagram::unbound().unwrap(), address)),
            watchdog: true,
        };
        status.ready();
        status.tell(&Event::Unreachable { retry: 10 * SECOND });
        let hear = || {
            let mut buffer = [0; 128];
            let size = manager.recv(&mut buffer).unwrap();
            String::from_utf8(buffer[..size].to_vec()).unwrap()
        };
        assert_eq!(hear(), "READY=1\n");
        assert_eq!(hear(), "STATUS=unreachable\n");
        assert_eq!(hear(), "WATCHDOG=1\nWATCHDOG_USEC=200000000\n");
    }
}
