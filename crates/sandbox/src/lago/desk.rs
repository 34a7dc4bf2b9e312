//! From a request to an answer: key, route, the work itself, and the forms of Lago's answers.

use super::Config;
use super::asked::{Arrived, Call, decoded};
use super::faults::{FaultKind, Faults};
use super::instant::Micros;
use super::post_validation;
use super::refusal::Refusal;
use super::router;
use super::state::{self, Change, Found, State};
use super::world::World;
use crate::Clock;
use serde::Serialize;
use serde_json::{Value, json};
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What a handler answers with 200.
#[derive(Debug)]
pub(super) enum Reply {
    Json(Value),
    /// Already written.
    Written(String),
    Text(String),
}

pub(super) type Answer = Result<Reply, Refusal>;

impl Reply {
    /// Written right here, for answers that are large or asked for often.
    pub(super) fn of(view: &impl Serialize) -> Answer {
        Ok(Reply::Written(serde_json::to_string(view).map_err(|_| Refusal::not_found("view"))?))
    }
}

/// An answer before it becomes bytes on a wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reaction {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: String,
}

impl Reaction {
    pub(super) fn json(status: u16, body: String) -> Reaction {
        Reaction { status, headers: vec![("content-type".into(), "application/json; charset=utf-8".into())], body }
    }
}

impl From<Refusal> for Reaction {
    fn from(refusal: Refusal) -> Reaction {
        Reaction::json(refusal.status, refusal.body.to_string())
    }
}

/// The part of the sandbox that answers.
pub(super) struct Desk {
    world: Mutex<World>,
    state: Mutex<Option<State>>,
    key: Option<String>,
    now: Clock,
    faults: Faults,
}

impl Desk {
    /// Errors: the state file.
    pub(super) fn open(config: Config, faults: Faults) -> io::Result<Desk> {
        let born = (config.now)().as_microsecond();
        let found = config.state.map(|path| state::open(&path, config.store, born)).transpose()?;
        let born = found.as_ref().map_or(born, |found| found.born);
        let mut world = World::new(config.store, born);
        post_validation::plan(&mut world);
        let state = found.map(|found| resume(&mut world, found));
        Ok(Desk { world: Mutex::new(world), state: Mutex::new(state), key: config.key, now: config.now, faults })
    }

    pub(super) fn now(&self) -> Micros {
        (self.now)().as_microsecond()
    }

    /// The world at this moment: what is due by now has happened.
    pub(super) fn world(&self) -> MutexGuard<'_, World> {
        let mut world = self.world.lock().unwrap_or_else(PoisonError::into_inner);
        world.pass_to(self.now(), self.faults.is_on(&FaultKind::StaleUsage));
        world
    }

    /// Answers a request; never fails, because errors are answers too.
    pub(super) fn answer(&self, arrived: &Arrived) -> Reaction {
        match self.handle(arrived) {
            Ok(Reply::Json(value)) => Reaction::json(200, value.to_string()),
            Ok(Reply::Written(text)) => Reaction::json(200, text),
            Ok(Reply::Text(text)) => {
                let kind = ("content-type".to_owned(), "text/plain; charset=utf-8".to_owned());
                Reaction { status: 200, headers: vec![kind], body: text }
            }
            Err(refusal) => refusal.into(),
        }
    }

    fn handle(&self, arrived: &Arrived) -> Answer {
        if matches!(arrived.path.as_str(), "/health" | "/ready") {
            return Ok(Reply::Json(json!({"version": "sandbox", "message": "Success"})));
        }
        let pieces = pieces(arrived);
        let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
        let handler = router::route(&arrived.method, &pieces).ok_or_else(|| Refusal::not_found("resource"))?;
        self.authenticate(arrived.authorization.as_deref())?;
        let mut call = Call::of(arrived, self.faults.is_on(&FaultKind::LegacyPartialStore))?;
        let batch_max = self.faults.pending().into_iter().find_map(|fault| match fault.kind {
            FaultKind::BatchMax { events } => Some(events),
            _ => None,
        });
        call.batch_max = batch_max.unwrap_or(call.batch_max);
        let mut world = self.world();
        let answer = handler(&mut world, &call);
        // A refusal changes nothing, except that of a batch before 1.39.
        if arrived.method != "GET" && (answer.is_ok() || call.legacy) {
            self.keep(arrived, world.now, call.legacy)?;
        }
        answer
    }

    fn keep(&self, arrived: &Arrived, at: Micros, legacy: bool) -> Result<(), Refusal> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(state) = &mut *state else { return Ok(()) };
        state.keep(&Change::of(arrived, at, legacy)).map_err(|error| {
            tracing::error!(%error, "the Lago sandbox cannot write its state");
            Refusal { status: 500, body: json!({"status": 500, "error": "the state file cannot be written"}) }
        })
    }

    /// The second word is the key; Lago does not look at the first.
    fn authenticate(&self, header: Option<&str>) -> Result<(), Refusal> {
        let given = header.and_then(|header| header.split_whitespace().nth(1));
        let good = match (&self.key, given) {
            (Some(key), Some(given)) => key == given,
            (None, given) => given.is_some(),
            (Some(_), None) => false,
        };
        if good { Ok(()) } else { Err(Refusal::unauthorized()) }
    }
}

/// The words of a path below `/api/v1/`; none for any other.
fn pieces(arrived: &Arrived) -> Vec<String> {
    let path = arrived.path.strip_prefix("/api/v1/").unwrap_or_default();
    path.trim_end_matches('/').split('/').map(|piece| decoded(piece, false)).collect()
}

/// Does again what is in a state file, each change at its own time.
fn resume(world: &mut World, found: Found) -> State {
    for change in found.changes {
        world.pass_to(change.at, false);
        let legacy = change.legacy;
        let arrived = change.arrived();
        let pieces = pieces(&arrived);
        let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
        // What was answered then is of no interest now, and it was answered the same.
        if let (Some(handler), Ok(call)) = (router::route(&arrived.method, &pieces), Call::of(&arrived, legacy)) {
            let _ = handler(world, &call);
        }
    }
    world.outbox.forget_pending();
    found.state
}
