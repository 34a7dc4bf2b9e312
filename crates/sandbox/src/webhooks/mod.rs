//! Webhooks: each event goes to the endpoints that want it, signed, and again after growing pauses where it was not taken.

pub(crate) mod chaos;
pub(crate) mod courier;
pub(crate) mod signature;

use crate::calendar::DAY;
use crate::events::{Event, fits};
use crate::kind::Kind;
use crate::store::Store;
use crate::world::array;
use chaos::{Chance, Chaos};
use serde::Serialize;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;

/// Pauses before the second try, the third, ...; the last one repeats until three days are over.
const PAUSES: [i64; 7] = [60, 5 * 60, 30 * 60, 2 * 3600, 5 * 3600, 10 * 3600, 12 * 3600];

/// How long a message is tried, seconds of the sandbox's clock.
const GIVEN_UP_AFTER: i64 = 3 * DAY;

/// Tries that are remembered.
const KEPT: usize = 20_000;

/// One try to deliver an event, for assertions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Delivery {
    /// `evt_…`
    pub event: String,
    /// Its type.
    pub name: String,
    /// `we_…`
    pub endpoint: String,
    /// 1 is the first.
    pub attempt: u32,
    /// The instant on the sandbox's clock, seconds since 1970.
    pub at: i64,
    /// The answer's status; none where there was no answer.
    pub status: Option<u16>,
    /// Why there was none: no connection, no answer in time, lost by [`Chaos`].
    pub failure: Option<String>,
}

/// A message that waits.
#[derive(Debug, Clone)]
pub(crate) struct Letter {
    pub(crate) event: Arc<Event>,
    pub(crate) endpoint: Arc<str>,
    pub(crate) attempt: u32,
    first_at: i64,
}

/// When a message is due, and its turn among those of the same instant.
type Turn = (i64, u64);

/// What is to be delivered.
#[derive(Default)]
pub(crate) struct Queue {
    waiting: HashMap<Arc<str>, BTreeMap<Turn, Letter>>,
    busy: HashSet<Arc<str>>,
    turns: u64,
    tries: VecDeque<Delivery>,
    chance: Chance,
}

/// The endpoints that an event of this type goes to.
pub(crate) fn addressees(store: &Store, name: &str) -> Vec<Arc<str>> {
    let wants = |endpoint: &&Arc<serde_json::Value>| {
        endpoint["status"] == "enabled"
            && array(&endpoint["enabled_events"]).iter().any(|asked| fits(asked.as_str().unwrap_or_default(), name))
    };
    let endpoints = store.held(Kind::WebhookEndpoint).map(|(_, endpoint)| endpoint).filter(wants);
    endpoints.map(|endpoint| Arc::from(endpoint["id"].as_str().unwrap_or_default())).collect()
}

impl Queue {
    pub(crate) fn set_chaos(&mut self, chaos: Chaos) {
        self.chance = Chance::new(chaos);
    }

    pub(crate) fn chaos(&self) -> Chaos {
        self.chance.chaos
    }

    /// Takes an event in for all whom it is for; chaos may lose it, send it twice, or hold it back.
    pub(crate) fn post(&mut self, event: &Arc<Event>, now: i64) {
        for endpoint in &event.to {
            let letter = Letter { event: Arc::clone(event), endpoint: Arc::clone(endpoint), attempt: 1, first_at: now };
            if self.chance.loses() {
                event.delivered();
                self.remember(&letter, now, &Err("lost on the way".to_owned()));
                continue;
            }
            if self.chance.repeats() {
                let late = now + self.chance.delay();
                self.wait(letter.clone(), late);
            }
            let late = now + self.chance.delay();
            self.wait(letter, late);
        }
    }

    /// Sends an event to one endpoint whatever became of it before.
    pub(crate) fn post_again(&mut self, event: &Arc<Event>, endpoint: &str, now: i64) {
        let endpoint = Arc::from(endpoint);
        self.wait(Letter { event: Arc::clone(event), endpoint, attempt: 1, first_at: now }, now);
    }

    fn wait(&mut self, letter: Letter, at: i64) {
        self.turns += 1;
        self.waiting.entry(Arc::clone(&letter.endpoint)).or_default().insert((at, self.turns), letter);
    }

    /// Forgets what waits for an endpoint that is no more.
    pub(crate) fn forget(&mut self, endpoint: &str) {
        for (_, letter) in self.waiting.remove(endpoint).into_iter().flatten() {
            letter.event.delivered();
        }
    }

    /// Endpoints with something due that nobody delivers to yet; they are somebody's from now on.
    pub(crate) fn claim(&mut self, now: i64) -> Vec<Arc<str>> {
        let due = |letters: &BTreeMap<Turn, Letter>| letters.first_key_value().is_some_and(|(turn, _)| turn.0 <= now);
        let found = self.waiting.iter().filter(|(endpoint, letters)| due(letters) && !self.busy.contains(*endpoint));
        let found: Vec<Arc<str>> = found.map(|(endpoint, _)| Arc::clone(endpoint)).collect();
        self.busy.extend(found.iter().map(Arc::clone));
        found
    }

    /// The next message for an endpoint that was claimed; where there is none, the claim ends.
    pub(crate) fn take(&mut self, endpoint: &Arc<str>, now: i64) -> Option<Letter> {
        let letters = self.waiting.get_mut(endpoint);
        let first = letters.and_then(|letters| letters.first_entry()).filter(|first| first.key().0 <= now);
        if first.is_none() {
            self.busy.remove(endpoint);
        }
        first.map(|first| first.remove())
    }

    /// Whether nothing is due and nothing on its way.
    pub(crate) fn is_quiet(&self, now: i64) -> bool {
        self.busy.is_empty() && self.next_at().is_none_or(|at| at > now)
    }

    /// When the next message is due.
    pub(crate) fn next_at(&self) -> Option<i64> {
        self.waiting.values().filter_map(|letters| letters.first_key_value()).map(|(turn, _)| turn.0).min()
    }

    /// What became of a try: taken, to be tried again, or given up. Returns whether it is over.
    pub(crate) fn tried(&mut self, mut letter: Letter, now: i64, answer: &Result<u16, String>) -> bool {
        self.remember(&letter, now, answer);
        if matches!(answer, Ok(200..=299)) {
            letter.event.delivered();
            return true;
        }
        let place = usize::try_from(letter.attempt - 1).unwrap_or(usize::MAX).min(PAUSES.len() - 1);
        let at = now + PAUSES[place];
        if at > letter.first_at + GIVEN_UP_AFTER {
            return true;
        }
        letter.attempt += 1;
        self.wait(letter, at);
        false
    }

    fn remember(&mut self, letter: &Letter, now: i64, answer: &Result<u16, String>) {
        if self.tries.len() == KEPT {
            self.tries.pop_front();
        }
        self.tries.push_back(Delivery {
            event: letter.event.id.to_string(),
            name: letter.event.name.to_owned(),
            endpoint: letter.endpoint.to_string(),
            attempt: letter.attempt,
            at: now,
            status: answer.as_ref().ok().copied(),
            failure: answer.as_ref().err().cloned(),
        });
    }

    /// The last tries, oldest first.
    pub(crate) fn tries(&self) -> Vec<Delivery> {
        self.tries.iter().cloned().collect()
    }
}
