//! Attesting: what each event of a session means to an operator's log and to an exit code.

use std::io;
use std::time::{Duration, Instant as Clock};

use log::{error, info, warn};
use mote_schemas::message::Tier;
use mote_schemas::reason::Reason;

use crate::account::become_user;
use crate::boot_log::FileBootLog;
use crate::config::{Config, Endpoint, Scheme};
use crate::exit::Exit;
use crate::link::{self, Ended, Route};
use crate::measurement_log::{FileLog, MeasurementLog as _, NATIVE_FORMAT, deletion};
use crate::session::{Device, DeviceError, Event, Session, Token};
use crate::status::Status;
use crate::tpm::{Tpm, TpmError};

/// Attests as configured: once, or until a signal.
pub fn run(
    config: &Config,
    tpm: &mut dyn Tpm,
    random: &mut dyn FnMut(&mut [u8]),
) -> io::Result<Exit> {
    let route = match route(config) {
        Ok(route) => route,
        Err(problem) => {
            error!("{problem}");
            return Ok(Exit::Usage);
        }
    };
    let mut log = FileLog::new(&config.ima_log, NATIVE_FORMAT);
    if config.delete_records {
        log = log.deleting(deletion::delete);
    }
    let mut boot_log = FileBootLog::open(&config.boot_log);
    let status = Status::new();
    if let Some(user) = &config.user {
        // The list must be open by then: only root may open it.
        if let Err(error) = log.count() {
            error!("{error}");
            return Ok(Exit::MeasurementLog);
        }
        if let Err(error) = become_user(user) {
            error!("cannot become user {user}: {error}");
            return Ok(Exit::Usage);
        }
    }
    status.ready();
    let start = Clock::now();
    let mut device = Device {
        tpm,
        log: &mut log,
        boot_log: &mut boot_log,
        random,
    };
    let mut session = Session::new(config.session(), link::now(start), &mut device);
    let once = config.once;
    let ended = link::run(&route, &mut session, &mut device, start, |event| {
        report(&config.verifier, event);
        status.tell(event);
        if once { verdict(event) } else { None }
    })?;
    Ok(match ended {
        Ended::Done(exit) => exit,
        Ended::Signal => {
            info!("stopped");
            Exit::Trusted
        }
    })
}

/// The way to the verifier; reads the files that TLS needs.
fn route(config: &Config) -> Result<Route, String> {
    let server = config.verifier.authority.clone();
    match config.verifier.scheme {
        Scheme::Coap => Ok(Route::Udp(server)),
        #[cfg(feature = "tls")]
        Scheme::CoapsTcp => link::tls::TlsClient::new(&config.tls)
            .map(|client| Route::Tls(server, client))
            .map_err(|problem| format!("TLS: {problem}")),
        #[cfg(not(feature = "tls"))]
        Scheme::CoapsTcp => Err("this mote-agent was built without TLS".to_owned()),
    }
}

/// The exit code of `--once`, when the event decides it.
fn verdict(event: &Event) -> Option<Exit> {
    match event {
        Event::SessionOpened { .. } | Event::NotTheVerifier(_) => None,
        Event::Appraised { tier, .. } => Some(match tier {
            Tier::Affirming | Tier::Warning => Exit::Trusted,
            Tier::Contraindicated => Exit::Untrusted,
            Tier::None => Exit::NoVerdict,
        }),
        Event::Refused { .. } => Some(Exit::NoVerdict),
        Event::Unreachable { .. } => Some(Exit::Unreachable),
        Event::Device { error, .. } => Some(exit_of(error)),
    }
}

/// The exit code that a failure of the device deserves.
pub(crate) fn exit_of(error: &DeviceError) -> Exit {
    match error {
        DeviceError::Tpm(TpmError::WrongCredential | TpmError::MalformedCredential) => {
            Exit::NoVerdict
        }
        DeviceError::Tpm(_) => Exit::Tpm,
        DeviceError::Log(_) => Exit::MeasurementLog,
    }
}

fn report(verifier: &Endpoint, event: &Event) {
    match event {
        Event::SessionOpened { device } => info!("device {device}: session open with {verifier}"),
        Event::Appraised {
            tier: Tier::Affirming,
            records,
            next,
            ..
        } => info!(
            "trusted, {records} records known; next in {} s",
            seconds(*next)
        ),
        Event::Appraised {
            tier,
            reasons,
            records,
            next,
        } => {
            let because = Because(reasons);
            let next = seconds(*next);
            let pending = Reason::AdmissionPending.token();
            if reasons.iter().any(|reason| reason.as_str() == pending) {
                warn!("waiting to be admitted by the verifier's operator; next in {next} s");
            } else {
                warn!(
                    "{}: {because}, {records} records known; next in {next} s",
                    tier.word()
                );
            }
        }
        Event::Refused {
            reason,
            detail,
            retry,
        } => warn!(
            "{verifier} refused: {reason}{}{detail}; again in {} s",
            if detail.is_empty() { "" } else { ": " },
            seconds(*retry)
        ),
        Event::NotTheVerifier(error) => warn!("ignored an answer: {error}"),
        Event::Unreachable { retry } => warn!(
            "no answer from {verifier}; nothing is lost, again in {} s",
            seconds(*retry)
        ),
        Event::Device { error, retry } => {
            error!("{error}; again in {} s", seconds(*retry));
        }
    }
}

/// Whole seconds, rounded up.
fn seconds(time: Duration) -> u128 {
    time.as_millis().div_ceil(1000)
}

/// Reason tokens with commas.
struct Because<'a>(&'a [Token]);

impl std::fmt::Display for Because<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, token) in self.0.iter().enumerate() {
            write!(f, "{}{token}", if index == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}
