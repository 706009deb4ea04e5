//! The command line: from arguments, environment and file to a [`Config`], or to what else was
//! asked for (`--help`, `--check-config`, ...).

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;

use crate::config::{Config, DEFAULT_FILE, Draft, SETTINGS, nearest};
use crate::evidence_file;
use crate::exit::Exit;

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Attest.
    Run,
    /// Print the configuration and what is wrong with it.
    CheckConfig,
    /// The same, and try the TPM and the measurement list.
    Probe,
    /// Write evidence to a file.
    Evidence,
    /// Say how the agent that runs here stands.
    Status,
    /// Print the help.
    Help,
    /// Print the version.
    Version,
}

/// A command line with all that goes with it.
#[derive(Clone, Debug)]
pub struct CommandLine {
    /// What to do.
    pub action: Action,
    /// With which settings.
    pub draft: Draft,
    /// What `evidence` was told besides.
    pub evidence: evidence_file::Request,
}

impl CommandLine {
    /// Reads arguments (without the program's name), environment and file.
    ///
    /// # Errors
    /// A line for the user, when there is an argument that means nothing.
    pub fn parse(
        arguments: impl IntoIterator<Item = OsString>,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, String> {
        use lexopt::prelude::{Long, Short, Value};

        let mut action = Action::Run;
        let mut file = None;
        let mut flags = Vec::new();
        let mut evidence = evidence_file::Request::default();
        let mut first = true;
        let mut parser = lexopt::Parser::from_args(arguments);
        while let Some(argument) = parser.next().map_err(|error| error.to_string())? {
            let first = std::mem::take(&mut first);
            match argument {
                Value(value) if first && value == "evidence" => action = Action::Evidence,
                Short('o') | Long("output") if action == Action::Evidence => {
                    let value = parser.value().map_err(|error| error.to_string())?;
                    evidence.output = Some(PathBuf::from(value));
                }
                Long("boot-log") if action == Action::Evidence => {
                    let value = parser.value().map_err(|error| error.to_string())?;
                    evidence.boot_log = Some(PathBuf::from(value));
                }
                Long("nonce") if action == Action::Evidence => {
                    let value = parser.value().map_err(|error| error.to_string())?;
                    evidence.set_nonce(&value.to_string_lossy())?;
                }
                Short('h') | Long("help") => action = Action::Help,
                Short('V') | Long("version") if action != Action::Help => action = Action::Version,
                Long("check-config") if action == Action::Run => action = Action::CheckConfig,
                Long("probe") if matches!(action, Action::Run | Action::CheckConfig) => {
                    action = Action::Probe;
                }
                Short('V') | Long("version" | "check-config" | "probe") => {}
                Short('c') | Long("config") => {
                    let value = parser.value().map_err(|error| error.to_string())?;
                    file = Some(PathBuf::from(value));
                }
                Long(name) => {
                    let name = name.to_owned();
                    let Some(setting) = SETTINGS.iter().find(|setting| setting.flag() == name)
                    else {
                        return Err(unknown(&format!("--{name}")));
                    };
                    let value = if setting.value.is_empty() {
                        // A switch: `--once`, or `--once=false` to undo a file.
                        parser.optional_value().unwrap_or_else(|| "true".into())
                    } else {
                        parser.value().map_err(|error| error.to_string())?
                    };
                    let value = value
                        .into_string()
                        .map_err(|value| format!("--{name}: {} is not UTF-8", value.display()))?;
                    flags.push((name, value));
                }
                Short(letter) => return Err(unknown(&format!("-{letter}"))),
                Value(value) if value == "status" && action == Action::Run => {
                    action = Action::Status;
                }
                Value(value) => {
                    return Err(format!(
                        "unexpected argument {}: settings are given as --NAME VALUE (see --help)",
                        value.display()
                    ));
                }
            }
        }

        let mut draft = Draft::default();
        if !matches!(action, Action::Help | Action::Version | Action::Status) {
            let file = file.or_else(|| variable("MOTE_CONFIG").map(PathBuf::from));
            match &file {
                Some(file) => draft.file(file, true),
                None => draft.file(DEFAULT_FILE.as_ref(), false),
            }
            draft.environment(variable);
            for (name, value) in flags {
                draft.flag(&name, value);
            }
        }
        Ok(Self {
            action,
            draft,
            evidence,
        })
    }

    /// Does what was asked for, unless that is to attest: then gives the configuration for it.
    pub fn start(&self, out: &mut dyn Write) -> io::Result<Result<Config, Exit>> {
        match self.action {
            Action::Help => help(out)?,
            Action::Status => return Ok(Err(crate::status::show(out)?)),
            Action::Version => writeln!(out, "mote-agent {}", env!("CARGO_PKG_VERSION"))?,
            Action::Run => match self.draft.finish() {
                Ok(config) => return Ok(Ok(config)),
                Err(problems) => {
                    for problem in problems {
                        log::error!("{problem}");
                    }
                    log::error!("see `mote-agent --check-config` and `mote-agent --help`");
                    return Ok(Err(Exit::Usage));
                }
            },
            Action::Evidence => {
                return Ok(Err(match self.draft.finish_local() {
                    Ok(config) => evidence_file::run(&config, &self.evidence),
                    Err(problems) => {
                        for problem in problems {
                            log::error!("{problem}");
                        }
                        Exit::Usage
                    }
                }));
            }
            Action::CheckConfig | Action::Probe => {
                write!(out, "{}", self.draft)?;
                let config = match self.draft.finish() {
                    Ok(config) => config,
                    Err(problems) => {
                        writeln!(out)?;
                        for problem in problems {
                            writeln!(out, "wrong: {problem}")?;
                        }
                        return Ok(Err(Exit::Usage));
                    }
                };
                writeln!(out, "\nThe configuration is valid.")?;
                if self.action == Action::Probe {
                    return Ok(Err(crate::probe::probe(&config, out)?));
                }
            }
        }
        Ok(Err(Exit::Trusted))
    }
}

fn unknown(flag: &str) -> String {
    const OTHERS: [&str; 5] = ["config", "check-config", "probe", "help", "version"];
    let names: Vec<String> = SETTINGS
        .iter()
        .map(crate::config::Setting::flag)
        .chain(OTHERS.map(str::to_owned))
        .collect();
    match nearest(
        flag.trim_start_matches('-'),
        names.iter().map(String::as_str),
    ) {
        Some(name) => format!("unknown option {flag}; did you mean --{name}?"),
        None => format!("unknown option {flag} (see --help)"),
    }
}

fn help(out: &mut dyn Write) -> io::Result<()> {
    out.write_all(
        b"mote-agent: proves to a Mote verifier what this device runs

Quotes the TPM and sends the kernel's IMA measurement list, as far as the verifier has not seen
it, by CoAP over UDP or TLS. Writes no file. Runs until SIGTERM, or once with --once.

usage: mote-agent --verifier [SCHEME://]HOST[:PORT] --verifier-key FILE [options]
       mote-agent evidence -o FILE --nonce HEX [--boot-log FILE] [options]
       mote-agent status    how the agent that runs here stands; the exit code says it, too

The second form sends nothing: it writes the same evidence to FILE (- for standard output), for
`motectl verify`. The nonce is 8 to 64 bytes that whoever verifies has chosen.

",
    )?;
    for setting in &SETTINGS {
        let flag = format!("--{} {}", setting.flag(), setting.value);
        let default = match setting.default {
            "" | "false" => String::new(),
            default => format!(" [{default}]"),
        };
        help_line(out, flag.trim_end(), &format!("{}{default}", setting.help))?;
    }
    let file = format!("read settings from FILE [{DEFAULT_FILE}, if there is one]");
    for (flag, help) in [
        ("-c, --config FILE", file.as_str()),
        (
            "--check-config",
            "print the settings in force and what is wrong with them",
        ),
        (
            "--probe",
            "the same, and try the TPM and the measurement list",
        ),
        ("-h, --help", "print this"),
        ("-V, --version", "print the version"),
    ] {
        help_line(out, flag, help)?;
    }
    out.write_all(
        b"
A setting is taken from the command line, else from the environment (MOTE_VERIFIER,
MOTE_VERIFIER_KEY, ...; MOTE_CONFIG names the file), else from the file, else the default in
brackets. The file is TOML:

  verifier = \"verifier.example.com\"
  verifier_key = \"/etc/mote/verifier.pem\"

exit codes:
",
    )?;
    for exit in Exit::ALL {
        writeln!(out, "  {}  {}", exit.code(), exit.meaning())?;
    }
    Ok(())
}

fn help_line(out: &mut dyn Write, flag: &str, help: &str) -> io::Result<()> {
    /// Flags up to this width share the line with their help.
    const WIDTH: usize = 24;
    if flag.len() <= WIDTH {
        writeln!(out, "  {flag:WIDTH$}  {help}")
    } else {
        writeln!(out, "  {flag}\n  {:WIDTH$}  {help}", "")
    }
}

#[cfg(test)]
mod tests {
    use log::LevelFilter;

    use super::*;
    use std::fs;

    const KEY: &str = "046b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c2964fe342e2fe1a\
                       7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5";

    fn line(arguments: &[&str], environment: &[(&str, &str)]) -> Result<CommandLine, String> {
        CommandLine::parse(arguments.iter().map(OsString::from), |name| {
            let (_, value) = environment.iter().find(|(other, _)| *other == name)?;
            Some((*value).to_owned())
        })
    }

    fn output(line: &CommandLine) -> (String, Option<Exit>) {
        let mut out = Vec::new();
        let exit = line.start(&mut out).unwrap().err();
        (String::from_utf8(out).unwrap(), exit)
    }

    /// A file that is there while the test runs.
    struct File(PathBuf);

    impl File {
        fn new(name: &str, text: &str) -> Self {
            let name = format!("mote-agent-cli-{}-{name}", std::process::id());
            let path = std::env::temp_dir().join(name);
            fs::write(&path, text).unwrap();
            Self(path)
        }

        fn name(&self) -> &str {
            self.0.to_str().unwrap()
        }
    }

    impl Drop for File {
        fn drop(&mut self) {
            let _ = fs::remove_file(&self.0);
        }
    }

    #[test]
    fn flags_come_before_environment_before_file_before_defaults() {
        let file = File::new(
            "order.toml",
            &format!("verifier = 'file'\njitter = 1\ndatagram = 100\nverifier_key = '{KEY}'"),
        );
        let environment = [
            ("MOTE_CONFIG", file.name()),
            ("MOTE_VERIFIER", "environment"),
            ("MOTE_JITTER", "2"),
        ];
        let line = line(&["--verifier", "flag:1"], &environment).unwrap();
        assert_eq!(line.action, Action::Run);
        let config = line.draft.finish().unwrap();
        assert_eq!(config.verifier.to_string(), "flag:1");
        assert_eq!(config.jitter, 2);
        assert_eq!(config.datagram, 100);
        assert_eq!(config.log_level, LevelFilter::Info);
        assert!(!config.once);
        let shown = line.draft.to_string();
        let name = file.name();
        for says in [
            "verifier = \"flag:1\"  # --verifier\n",
            "jitter = 2  # MOTE_JITTER\n",
            &format!("datagram = 100  # {name}:3\n"),
            "pcrs = \"sha256:0-10,14\"  # default\n",
        ] {
            assert!(shown.contains(says), "{says:?} is not in\n{shown}");
        }
    }

    #[test]
    fn what_check_config_prints_is_a_file_that_says_the_same() {
        let given = line(
            &[
                "--check-config",
                "--verifier=[::1]:7",
                "--verifier-key",
                KEY,
                "--once",
                "--ak=rsa",
            ],
            &[],
        )
        .unwrap();
        assert_eq!(given.action, Action::CheckConfig);
        let (shown, exit) = output(&given);
        assert_eq!(exit, Some(Exit::Trusted));
        let (toml, rest) = shown.split_once("\n\n").unwrap();
        assert_eq!(rest, "The configuration is valid.\n");
        let file = File::new("shown.toml", toml);
        let again = line(&["-c", file.name()], &[])
            .unwrap()
            .draft
            .finish()
            .unwrap();
        let config = given.draft.finish().unwrap();
        assert_eq!(format!("{again:?}"), format!("{config:?}"));
        assert!(again.once);
        assert_eq!(again.verifier.to_string(), "[::1]:7");
    }

    #[test]
    fn all_that_is_wrong_is_said_at_once_and_where() {
        let file = File::new("wrong.toml", "\nverfier = 'a'\npcrs = 'sha256:99'\n");
        let arguments = ["--check-config", "-c", file.name(), "--datagram", "63"];
        let (shown, exit) = output(&line(&arguments, &[("MOTE_EK", "dsa")]).unwrap());
        assert_eq!(exit, Some(Exit::Usage));
        let name = file.name();
        for says in [
            format!("wrong: {name}:2: unknown key \"verfier\"; did you mean \"verifier\"?\n"),
            format!("wrong: {name}:3: pcrs: \"99\" is not a PCR from 0 to 23 or a range of them\n"),
            "wrong: verifier: not set; name the verifier as HOST:PORT".to_owned(),
            "wrong: verifier_key: not set; give the verifier's public key".to_owned(),
            "wrong: MOTE_EK: auto, ecc or rsa, not \"dsa\"\n".to_owned(),
            "wrong: --datagram: a number from 64 to 2560, not \"63\"\n".to_owned(),
        ] {
            assert!(shown.contains(&says), "{says:?} is not in\n{shown}");
        }
        assert_eq!(shown.matches("wrong: ").count(), 6, "{shown}");
        // The same without --check-config.
        let run = line(&arguments[1..], &[]).unwrap();
        assert_eq!(output(&run), (String::new(), Some(Exit::Usage)));
    }

    #[test]
    fn a_file_that_was_named_must_be_there() {
        let nowhere = line(&["--check-config", "--config=/nowhere/agent.toml"], &[]).unwrap();
        assert!(
            output(&nowhere)
                .0
                .contains("wrong: /nowhere/agent.toml: no such file\n")
        );
        let nowhere = line(&["--check-config"], &[("MOTE_CONFIG", "/nowhere/2")]).unwrap();
        assert!(
            output(&nowhere)
                .0
                .contains("wrong: /nowhere/2: no such file\n")
        );
        let directory = line(&["--check-config", "-c", "/tmp"], &[]).unwrap();
        assert!(output(&directory).0.contains("wrong: /tmp: "));
        let endless = line(&["--check-config", "-c", "/dev/zero"], &[]).unwrap();
        assert!(output(&endless).0.contains("is this the right file?"));
    }

    #[test]
    fn arguments_that_mean_nothing_are_refused() {
        for (arguments, says) in [
            (&["--verfier", "a"][..], "did you mean --verifier?"),
            (&["--prob"], "did you mean --probe?"),
            (&["--frobnicate"], "see --help"),
            (&["-x"], "unknown option -x"),
            (&["verifier"], "unexpected argument verifier"),
            (&["--verifier"], "missing argument"),
            (&["--check-config=yes"], "unexpected argument"),
        ] {
            let error = line(arguments, &[]).unwrap_err();
            assert!(error.contains(says), "{arguments:?}: {error}");
        }
        let off = line(&["--once=false"], &[("MOTE_ONCE", "1")]).unwrap();
        assert!(off.draft.to_string().contains("once = false  # --once"));
    }

    #[test]
    fn the_help_names_every_setting_and_exit_code_in_80_columns_or_little_more() {
        let (help, exit) = output(&line(&["--version", "-h"], &[]).unwrap());
        assert_eq!(exit, Some(Exit::Trusted));
        for setting in &SETTINGS {
            assert!(help.contains(&format!("--{}", setting.flag())));
        }
        for exit in Exit::ALL {
            assert!(help.contains(&format!("\n  {}  {}\n", exit.code(), exit.meaning())));
        }
        for line in help.lines() {
            assert!(line.len() <= 120, "{line}");
        }
        let (version, _) = output(&line(&["-V"], &[]).unwrap());
        assert_eq!(
            version,
            format!("mote-agent {}\n", env!("CARGO_PKG_VERSION"))
        );
    }
}
