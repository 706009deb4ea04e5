//! Log lines on standard error: for a console, for what an init script pipes to logger(1), or for systemd's
//! journal, which takes the priority from the line (sd-daemon(3)). By env_logger, or in the smallest build
//! without it: one write each, nothing allocated.

use std::env;
use std::io::Write;

use log::{Level, LevelFilter, Record};

/// Longest line; the rest is cut off.
const MAX_LINE: usize = 1024;

/// Targets of the TSS wrapper.
const LIBRARY: &str = "tss_esapi";

/// Starts logging, once. The TSS wrapper logs each failed command at level error, those that we expect
/// included, so it is heard only when everything is.
pub fn start(level: LevelFilter) {
    // Whether standard error is the journal's.
    let journal = env::var_os("JOURNAL_STREAM").is_some();
    install(level, journal);
}

/// The level from which on the TSS wrapper is heard.
const fn of_library(level: LevelFilter) -> LevelFilter {
    match level {
        LevelFilter::Trace => LevelFilter::Trace,
        _ => LevelFilter::Off,
    }
}

#[cfg(feature = "env_logger")]
fn install(level: LevelFilter, journal: bool) {
    // Fails only when there is a logger already.
    let _ = env_logger::Builder::new()
        .filter_level(level)
        .filter_module(LIBRARY, of_library(level))
        .format(move |out, record| {
            let mut line = [0; MAX_LINE];
            let size = format(&mut line, journal, record);
            out.write_all(&line[..size])
        })
        .try_init();
}

#[cfg(not(feature = "env_logger"))]
fn install(level: LevelFilter, journal: bool) {
    static CONSOLE: lines::Lines = lines::Lines { journal: false };
    static JOURNAL: lines::Lines = lines::Lines { journal: true };
    // Fails only when there is a logger already.
    if log::set_logger(if journal { &JOURNAL } else { &CONSOLE }).is_ok() {
        log::set_max_level(level);
    }
}

/// The smallest build's logger.
#[cfg(not(feature = "env_logger"))]
mod lines {
    use std::io::{self, Write};

    use log::{Log, Metadata, Record};

    use super::{LIBRARY, MAX_LINE, format, of_library};

    pub(super) struct Lines {
        /// Standard error is the journal's.
        pub(super) journal: bool,
    }

    impl Log for Lines {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            let ours = !metadata.target().starts_with(LIBRARY);
            ours || metadata.level() <= of_library(log::max_level())
        }

        fn log(&self, record: &Record<'_>) {
            if self.enabled(record.metadata()) {
                let mut line = [0; MAX_LINE];
                let size = format(&mut line, self.journal, record);
                // Nobody is left to tell.
                let _ = io::stderr().write_all(&line[..size]);
            }
        }

        fn flush(&self) {}
    }
}

/// Writes the line, with its end, and returns its length.
fn format(line: &mut [u8; MAX_LINE], journal: bool, record: &Record<'_>) -> usize {
    let mut rest = &mut line[..MAX_LINE - 1];
    // What does not fit is cut off.
    let _ = if journal {
        write!(rest, "<{}>{}", priority(record.level()), record.args())
    } else {
        let level = name(record.level());
        write!(rest, "mote-agent: {level}: {}", record.args())
    };
    let end = MAX_LINE - 1 - rest.len();
    line[end] = b'\n';
    end + 1
}

/// syslog(3)'s.
const fn priority(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

const fn name(level: Level) -> &'static str {
    match level {
        Level::Error => "error",
        Level::Warn => "warn",
        Level::Info => "info",
        Level::Debug => "debug",
        Level::Trace => "trace",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn line(journal: bool, text: &str) -> String {
        let mut line = [0; MAX_LINE];
        let size = format(
            &mut line,
            journal,
            &Record::builder()
                .level(Level::Warn)
                .args(format_args!("{text}"))
                .build(),
        );
        String::from_utf8(line[..size].to_vec()).unwrap()
    }

    #[test]
    fn a_line_has_its_level() {
        assert_eq!(line(false, "no TPM"), "mote-agent: warn: no TPM\n");
        assert_eq!(line(true, "no TPM"), "<4>no TPM\n");
    }

    #[test]
    fn a_long_line_is_cut() {
        let line = line(true, &"x".repeat(2 * MAX_LINE));
        assert_eq!(line.len(), MAX_LINE);
        assert!(line.ends_with("xx\n"));
    }

    #[test]
    fn the_library_is_heard_only_when_everything_is() {
        assert_eq!(of_library(LevelFilter::Debug), LevelFilter::Off);
        assert_eq!(of_library(LevelFilter::Trace), LevelFilter::Trace);
    }
}
