//! Who answers: the verifier that runs on the state directory, or, when none runs, its store.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::admin::{self, Effect, Office, Request, Response, socket};
use crate::policy::{Policies, Sweep};
use crate::signing_key::SigningKey;
use crate::store::{RedbStore, StoreError};

use super::{Context, Failure};
use crate::{daemon, server};
use socket::ClientError;

/// How long a verifier may take from opening its store to listening.
const START: Duration = Duration::from_secs(5);

/// The answer to `request`; a refusal is a failure.
pub(super) fn ask(context: &Context, request: &Request) -> Result<Response, Failure> {
    match call(context, request)? {
        Response::Error(error) => Err(Failure(error.message)),
        response => Ok(response),
    }
}

/// A response of another kind than the request's: only another version does that.
pub(super) fn unexpected<T>(response: &Response) -> Result<T, Failure> {
    Err(Failure(format!(
        "the verifier answered something else ({response:?}); \
         are motectl and mote-verifier of the same version?"
    )))
}

fn call(context: &Context, request: &Request) -> Result<Response, Failure> {
    let state = &context.state;
    match socket::call(state, request) {
        Ok(response) => return Ok(response),
        Err(ClientError::NotRunning) => {}
        Err(ClientError::Io(path, error)) if error.kind() == denied() => {
            return Err(Failure(format!(
                "{}: {error}; run motectl as the verifier's user",
                path.display()
            )));
        }
        Err(error) => return Err(error.into()),
    }
    match RedbStore::open(state) {
        Ok(mut store) => Ok(on_the_store(context, &mut store, request)),
        Err(StoreError::Missing(path)) => Err(Failure(format!(
            "no verifier runs on {}, and there is no store {}; start mote-verifier, \
             or give its state directory with --state",
            state.display(),
            path.display()
        ))),
        Err(error @ StoreError::Locked(..)) => ask_starting(state, request).ok_or_else(|| {
            Failure(format!(
                "{error}, but does not answer on {}; restart it, or stop it to let motectl work \
                 on the store itself",
                state.join(socket::FILE).display()
            ))
        }),
        Err(StoreError::Io(path, error)) if error.kind() == denied() => Err(Failure(format!(
            "{}: {error}; run motectl as the verifier's user",
            path.display()
        ))),
        Err(error) => Err(error.into()),
    }
}

/// What a verifier would do, without one.
fn on_the_store(context: &Context, store: &mut RedbStore, request: &Request) -> Response {
    let policies = Policies::default();
    let key = SigningKey::load(&context.state.join(daemon::KEY)).ok();
    let mut office = Office {
        store,
        policies: &policies,
        key: key.as_ref(),
        refused: &[],
    };
    let (response, effect) = admin::handle(&mut office, context.now, request);
    if effect != Some(Effect::PolicyChanged) {
        return response;
    }
    let mut sweep = Sweep::default();
    server::with_sweep(response, |max| {
        sweep.go_on(office.store, &policies, context.now, max)
    })
}

/// Asks a verifier that has the store open but does not listen yet.
fn ask_starting(state: &Path, request: &Request) -> Option<Response> {
    let deadline = Instant::now() + START;
    loop {
        match socket::call(state, request) {
            Ok(response) => return Some(response),
            Err(_) if Instant::now() < deadline => thread::sleep(START / 100),
            Err(_) => return None,
        }
    }
}

fn denied() -> std::io::ErrorKind {
    std::io::ErrorKind::PermissionDenied
}
