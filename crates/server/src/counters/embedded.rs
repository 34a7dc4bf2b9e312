//! The counters of one process: everything is decided under the lock of the account in memory, and nothing is written.

use std::sync::Arc;

use billing::account::Room;
use billing::limit::{self, Refusal};
use billing::usage::UsageError;
use jiff::Timestamp;

use super::book::{Book, Slot, State};
use super::reservations::{Fate, Known};
use super::{Answer, Ask, Demand, Numbers, Outage, Port, Rate, Released, Verdict};

/// Counters in memory.
#[derive(Debug, Clone, Copy, Default)]
pub struct Embedded;

impl Port for Embedded {
    async fn reserve(&self, book: &Book, slot: &Arc<Slot>, ask: &Ask<'_>) -> Result<Answer, Outage> {
        may_decide(book)?;
        reserve(book, slot, ask)
    }

    async fn check(&self, book: &Book, slot: &Arc<Slot>, demand: &Demand<'_>, rate: Rate) -> Result<Answer, Outage> {
        may_decide(book)?;
        Ok(check(slot, demand, rate))
    }

    async fn release(&self, book: &Book, id: &str, _: &Known, now: Timestamp) -> Result<Released, Outage> {
        may_decide(book)?;
        Ok(release(book, id, now))
    }

    async fn counted(&self, _: &Slot, _: Timestamp) {}

    /// What is remembered in this process is all there is.
    async fn begin_commit(&self, _: &str, _: &Known, _: &str, _: Timestamp) -> Result<bool, Outage> {
        Ok(true)
    }

    async fn give_up_commit(&self, _: &str, _: &Known, _: &str) {}

    async fn find(&self, _: &str) -> Result<Option<Known>, Outage> {
        Ok(None)
    }

    async fn sweep(&self, book: &Book, now: Timestamp) -> Result<usize, Outage> {
        Ok(sweep(book, now))
    }
}

fn may_decide(book: &Book) -> Result<(), Outage> {
    if book.decides() { Ok(()) } else { Err(Outage("another process decides limits".into())) }
}

/// What this process can say of a demand by itself.
pub(super) fn check(slot: &Slot, demand: &Demand<'_>, rate: Rate) -> Answer {
    let mut state = slot.lock();
    match state.pass(demand, rate) {
        Ok(numbers) => Answer { verdict: Verdict::Granted, numbers },
        Err(refusal) => Answer { numbers: state.numbers(demand), verdict: Verdict::Refused(refusal) },
    }
}

/// The id is claimed and the account is asked under both locks, so that an id is held once, whoever asks at the same time.
fn reserve(book: &Book, slot: &Slot, ask: &Ask<'_>) -> Result<Answer, Outage> {
    let (demand, now_ms) = (&ask.demand, ask.demand.now.as_millisecond());
    let mut part = book.reservations.part(ask.id);
    let mut state = slot.lock();
    if state.is_forgotten {
        return Err(Outage("the account is being counted anew".into()));
    }
    let before = if ask.is_new { None } else { part.get(ask.id) };
    if let Some(known) = before.filter(|known| !known.is_over(now_ms)) {
        let verdict = again(known, &slot.user, demand);
        return Ok(Answer { verdict, numbers: state.numbers(demand) });
    }
    let (numbers, cost) = match state.admit(demand) {
        Ok(admitted) => admitted,
        Err(refusal) => return Ok(Answer { numbers: state.numbers(demand), verdict: Verdict::Refused(refusal) }),
    };
    let known = ask.held(slot, &mut state, cost);
    state.held.place(Arc::clone(ask.id), known.hold());
    drop(state);
    part.insert(ask.id, known);
    Ok(Answer { verdict: Verdict::Granted, numbers })
}

/// What an id that is known says to who asks for it again.
pub(super) fn again(known: &Known, user: &str, demand: &Demand<'_>) -> Verdict {
    match (known.differs(user, demand.kind, demand.quantity), known.fate) {
        (Some(member), _) => Verdict::Differs(member),
        (None, Fate::Held | Fate::Undecided | Fate::Committing { .. }) => Verdict::Again(known.clone()),
        (None, Fate::Committed(_) | Fate::Released) => Verdict::Resolved(known.clone()),
    }
}

/// Frees a hold of this process's own memory.
pub(super) fn release(book: &Book, id: &str, now: Timestamp) -> Released {
    let mut part = book.reservations.part(id);
    let Some(known) = part.get(id).cloned() else { return Released::Unknown };
    match known.fate {
        // Time has freed it. Whoever says later that the work was done is late, and heard.
        Fate::Held | Fate::Undecided if known.is_over(now.as_millisecond()) => Released::Before,
        Fate::Held | Fate::Undecided => {
            book.change_held(&known.user, |held| held.take(id));
            part.resolve(id, Fate::Released);
            Released::Now
        }
        Fate::Committing { .. } | Fate::Committed(_) => Released::Committed,
        Fate::Released => Released::Before,
    }
}

/// Forgets what was remembered under an id that is somebody else's after all: whoever asks next must not hear of this user.
pub(super) fn disown(book: &Book, id: &str, user: &str) {
    let mut part = book.reservations.part(id);
    if part.get(id).is_some_and(|known| *known.user == *user) {
        book.change_held(user, |held| held.take(id));
        part.resolve(id, Fate::Released);
        part.drop_known(id);
    }
}

/// Takes a release back that came to nothing.
pub(super) fn hold_again(book: &Book, id: &str) {
    let mut part = book.reservations.part(id);
    let Some(known) = part.get(id).filter(|known| known.fate == Fate::Released) else { return };
    book.change_held(&known.user, |held| held.place(id, known.hold()));
    part.resolve(id, Fate::Held);
}

/// Frees what has expired in this process's own memory.
pub(super) fn sweep(book: &Book, now: Timestamp) -> usize {
    let now_ms = now.as_millisecond();
    let over = book.reservations.expire(now_ms);
    over.iter().filter_map(|user| book.get(user)).map(|slot| slot.lock().held.expire(now_ms)).sum()
}

impl State {
    /// Whether there is room, and how the user stands now.
    fn decide(&mut self, demand: &Demand<'_>) -> Result<Numbers, Refusal> {
        let now_ms = demand.now.as_millisecond();
        self.held.expire(now_ms);
        let room = self.room(now_ms).map_err(|_| Refusal::Uncountable(UsageError::Overflow))?;
        limit::decide(&room, &self.held, demand.limit, demand.kind, demand.quantity, demand.weight)?;
        Ok(self.numbers_in(&room, demand))
    }

    /// Decides, and takes the rate where that is asked; how the user stands then.
    fn pass(&mut self, demand: &Demand<'_>, rate: Rate) -> Result<Numbers, Refusal> {
        let numbers = self.decide(demand)?;
        let tat_ns = demand.rate(numbers.tat_ns)?;
        let (Some(after), Rate::Taken) = (tat_ns, rate) else { return Ok(numbers) };
        self.set_rate(demand.kind, after);
        Ok(Numbers { tat_ns, ..numbers })
    }

    /// Decides and takes the rate; how the user stands once the demand is held, and what it costs.
    fn admit(&mut self, demand: &Demand<'_>) -> Result<(Numbers, billing::usage::Credits), Refusal> {
        let numbers = self.decide(demand)?;
        let cost = demand.cost().map_err(Refusal::Uncountable)?;
        let tat_ns = demand.rate(numbers.tat_ns)?;
        if let Some(tat_ns) = tat_ns {
            self.set_rate(demand.kind, tat_ns);
        }
        Ok((Numbers { tat_ns: tat_ns.or(numbers.tat_ns), ..numbers.with_held(demand.quantity, cost) }, cost))
    }

    /// How the user stands now.
    pub(super) fn numbers(&mut self, demand: &Demand<'_>) -> Numbers {
        self.room(demand.now.as_millisecond())
            .map_or_else(|_| Numbers::default(), |room| self.numbers_in(&room, demand))
    }

    fn numbers_in(&self, room: &Room, demand: &Demand<'_>) -> Numbers {
        let held = self.held.quantity(demand.kind);
        let with_held = |used: billing::usage::Quantity| used.plus(held).unwrap_or(used);
        Numbers {
            credits: room.credits.map(|credits| credits.minus(self.held.credits()).unwrap_or(credits)),
            today: with_held(room.today(demand.kind)),
            month: with_held(room.month(demand.kind)),
            tat_ns: self.rate(demand.kind),
        }
    }

    pub(super) fn rate(&self, kind: &str) -> Option<i64> {
        self.rates.iter().find(|(name, _)| **name == *kind).map(|(_, tat_ns)| *tat_ns)
    }

    pub(super) fn set_rate(&mut self, kind: &str, tat_ns: i64) {
        match self.rates.iter_mut().find(|(name, _)| **name == *kind) {
            Some((_, known)) => *known = tat_ns,
            None => self.rates.push((kind.into(), tat_ns)),
        }
    }
}
