//! `/subscriptions`: who is on which plan since when, and what happens when that changes.

use super::agenda::Due;
use super::asked::{Call, Fields};
use super::customers;
use super::desk::{Answer, Reply};
use super::instant::{self, MILLISECOND, Micros};
use super::invoices;
use super::page::Page;
use super::periods::{BillingTime, Period, period};
use super::plans::Plan;
use super::refusal::{Faulty, Refusal};
use super::table::Place;
use super::world::{World, uuid};
use serde_json::{Value, json};

#[derive(Debug)]
pub(super) struct Subscription {
    pub(super) lago_id: String,
    pub(super) external_id: String,
    pub(super) customer: Place,
    pub(super) plan: Place,
    pub(super) state: State,
    name: Value,
    billing_time: BillingTime,
    /// Its `subscription_at`, from which anniversaries are counted.
    anchor: Micros,
    ending_at: Option<Micros>,
    created_at: Micros,
    /// The one whose place this took or will take.
    previous: Option<Place>,
    /// The cheaper one that waits for the end of the period.
    next: Option<Place>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Until its `subscription_at`, or until the period of the one before it ends.
    Pending,
    Active {
        since: Micros,
    },
    Terminated {
        since: Micros,
        at: Micros,
    },
    Canceled {
        at: Micros,
    },
}

impl State {
    fn name(self) -> &'static str {
        match self {
            State::Pending => "pending",
            State::Active { .. } => "active",
            State::Terminated { .. } => "terminated",
            State::Canceled { .. } => "canceled",
        }
    }
}

impl Subscription {
    /// The start, floored to the millisecond: an event with whole seconds in the second of the start lies before it.
    pub(super) fn counts_from(&self) -> Micros {
        match self.state {
            State::Active { since } | State::Terminated { since, .. } => since.div_euclid(MILLISECOND) * MILLISECOND,
            State::Pending | State::Canceled { .. } => Micros::MAX,
        }
    }
}

/// The running subscription of an external id.
pub(super) fn active(world: &World, external_id: &str) -> Option<Place> {
    in_state(world, external_id, "active")
}

/// The newest subscription of an external id in a state.
fn in_state(world: &World, external_id: &str, state: &str) -> Option<Place> {
    let all = world.by_external_id.get(external_id)?;
    all.iter().rev().copied().find(|place| world.subscriptions[*place].state.name() == state)
}

/// The running and waiting ones of a customer.
pub(super) fn of_customer(world: &World, customer: Place) -> Vec<Place> {
    let own = |place: &Place| {
        let subscription = &world.subscriptions[*place];
        subscription.customer == customer && matches!(subscription.state, State::Pending | State::Active { .. })
    };
    (0..world.subscriptions.len()).filter(own).collect()
}

/// The billing period that an instant lies in; the instant itself where that is beyond the calendar.
pub(super) fn period_at(world: &World, place: Place, at: Micros) -> Period {
    let own = &world.subscriptions[place];
    let zone = &world.customers[own.customer].zone;
    let interval = world.plans[own.plan].interval;
    period(interval, own.billing_time, own.anchor, zone, at).unwrap_or(Period { from: at, until: at })
}

/// The part of a period in which usage counts.
pub(super) fn counted_part(world: &World, place: Place, period: Period) -> Period {
    Period { from: period.from.max(world.subscriptions[place].counts_from()), until: period.until }
}

/// `POST /subscriptions`
pub(super) fn create(world: &mut World, call: &Call) -> Answer {
    let sent = call.root("subscription")?;
    if sent.value("plan_overrides").is_some() {
        return Err(Refusal::forbidden("feature_unavailable"));
    }
    let plan =
        sent.text("plan_code").and_then(|code| world.plans.find(&code)).ok_or_else(|| Refusal::not_found("plan"))?;
    let wanted = read(world, sent, plan)?;
    let customer_id = sent.text("external_customer_id").unwrap_or_default();
    let current = active(world, &wanted.external_id).or_else(|| in_state(world, &wanted.external_id, "pending"));
    let stranger =
        current.filter(|place| world.customers.find(&customer_id) != Some(world.subscriptions[*place].customer));
    if stranger.is_some() {
        return Err(Refusal::field("external_id", "value_already_exist"));
    }
    let customer = world.customers.find(&customer_id).unwrap_or_else(|| customers::add(world, &customer_id));
    adopt_currency(world, customer, plan)?;
    let wanted = Subscription { customer, ..wanted };
    let place = match current {
        None => begin(world, wanted),
        Some(current) => replace(world, current, wanted),
    };
    Ok(Reply::Json(json!({"subscription": view(world, place)})))
}

fn read(world: &World, sent: Fields<'_>, plan: Place) -> Result<Subscription, Refusal> {
    let mut faulty = Faulty::default();
    let external_id = sent.text("external_id");
    faulty.add_if(sent.text("external_customer_id").is_none(), "external_customer_id", "value_is_mandatory");
    faulty.add_if(external_id.is_none(), "external_id", "value_is_mandatory");
    let instant = |name: &str| sent.value(name).map(|value| value.as_str().and_then(instant::of_text));
    let (subscription_at, ending_at) = (instant("subscription_at"), instant("ending_at"));
    faulty.add_if(subscription_at == Some(None), "subscription_at", "invalid_date");
    let subscription_at = subscription_at.flatten().unwrap_or(world.now);
    let over = |at: Option<Micros>| at.is_none_or(|at| at <= world.now.max(subscription_at));
    faulty.add_if(ending_at.is_some_and(over), "ending_at", "invalid_date");
    let billing_time = sent.text("billing_time").map_or(Some(BillingTime::Calendar), |name| BillingTime::parse(&name));
    faulty.add_if(billing_time.is_none(), "billing_time", "value_is_invalid");
    faulty.verdict()?;
    Ok(Subscription {
        lago_id: uuid("subscription", world.subscriptions.len()),
        external_id: external_id.unwrap_or_default(),
        customer: 0,
        plan,
        state: State::Pending,
        name: sent.sent("name"),
        billing_time: billing_time.unwrap_or(BillingTime::Calendar),
        anchor: subscription_at,
        ending_at: ending_at.flatten(),
        created_at: world.now,
        previous: None,
        next: None,
    })
}

/// A customer pays in one currency: that of the first plan where none is set.
fn adopt_currency(world: &mut World, customer: Place, plan: Place) -> Result<(), Refusal> {
    let wanted = world.plans[plan].currency.clone();
    match world.customers[customer].text("currency") {
        "" => {
            world.customers[customer].view.insert("currency".to_owned(), wanted.into());
            Ok(())
        }
        own if own == wanted => Ok(()),
        _ => Err(Refusal::field("currency", "currencies_does_not_match")),
    }
}

/// Adds one, which waits if its time has not come.
fn begin(world: &mut World, wanted: Subscription) -> Place {
    let (at, ending_at) = (wanted.anchor, wanted.ending_at);
    let place = add(world, wanted);
    if at > world.now {
        world.agenda.put(at, Due::Start(place));
    } else {
        start_since(world, place, at);
    }
    if let Some(ending_at) = ending_at {
        world.agenda.put(ending_at, Due::End(place));
    }
    place
}

fn add(world: &mut World, wanted: Subscription) -> Place {
    let (lago_id, external_id) = (wanted.lago_id.clone(), wanted.external_id.clone());
    let place = world.subscriptions.push(&lago_id, wanted);
    world.by_external_id.entry(external_id).or_default().push(place);
    place
}

/// What a second subscription under the same external id does to the first: nothing with the same plan, an upgrade now with
/// a dearer one, a downgrade at the end of the period with a cheaper one.
fn replace(world: &mut World, current: Place, wanted: Subscription) -> Place {
    let old = &world.subscriptions[current];
    if old.plan == wanted.plan {
        return current;
    }
    let (billing_time, anchor) = (old.billing_time, old.anchor);
    if old.state == State::Pending {
        world.subscriptions[current].plan = wanted.plan;
        return current;
    }
    let dearer = world.plans[wanted.plan].amount_per_year() >= world.plans[old.plan].amount_per_year();
    let waiting = world.subscriptions[current].next.take();
    if let Some(waiting) = waiting {
        world.subscriptions[waiting].state = State::Canceled { at: world.now };
    }
    let place = add(world, Subscription { billing_time, anchor, previous: Some(current), ..wanted });
    if dearer {
        terminate(world, current);
        start_since(world, place, world.now);
        return place;
    }
    world.subscriptions[current].next = Some(place);
    current
}

/// A subscription's time has come.
pub(super) fn start(world: &mut World, place: Place) {
    if world.subscriptions[place].state == State::Pending {
        start_since(world, place, world.now);
    }
}

fn start_since(world: &mut World, place: Place, since: Micros) {
    let since = since.max(last_end(world, place));
    world.subscriptions[place].state = State::Active { since };
    let until = period_at(world, place, world.now).until;
    if until > world.now {
        world.agenda.put(until, Due::Close(place));
    }
    let view = view(world, place);
    world.tell("subscription.started", "subscription", &view);
}

/// A start in the past does not reach into what another one of the same id has already been billed for.
fn last_end(world: &World, place: Place) -> Micros {
    let all = world.by_external_id.get(&world.subscriptions[place].external_id);
    let ends = all.into_iter().flatten().filter_map(|other| match world.subscriptions[*other].state {
        State::Terminated { at, .. } => Some(at),
        State::Pending | State::Active { .. } | State::Canceled { .. } => None,
    });
    ends.max().unwrap_or(Micros::MIN)
}

/// The period that ends now is billed, and the next begins, perhaps on another plan.
pub(super) fn close_period(world: &mut World, place: Place) {
    let State::Active { since } = world.subscriptions[place].state else { return };
    let over = period_at(world, place, world.now - 1);
    invoices::close(world, place, over);
    if let Some(next) = world.subscriptions[place].next.take() {
        world.subscriptions[place].state = State::Terminated { since, at: world.now };
        let ended = view(world, place);
        world.tell("subscription.terminated", "subscription", &ended);
        start_since(world, next, world.now);
    } else {
        let until = period_at(world, place, world.now).until;
        if until > world.now {
            world.agenda.put(until, Due::Close(place));
        }
    }
}

/// Ends one now, and bills what has come together; one that waits is canceled.
pub(super) fn terminate(world: &mut World, place: Place) {
    let now = world.now;
    match world.subscriptions[place].state {
        State::Pending => world.subscriptions[place].state = State::Canceled { at: now },
        State::Terminated { .. } | State::Canceled { .. } => return,
        State::Active { since } => {
            let over = Period { until: now, ..period_at(world, place, now) };
            invoices::close(world, place, over);
            world.subscriptions[place].state = State::Terminated { since, at: now };
            if let Some(next) = world.subscriptions[place].next.take() {
                world.subscriptions[next].state = State::Canceled { at: now };
            }
        }
    }
    let kind = match world.subscriptions[place].state {
        State::Canceled { .. } => "subscription.canceled",
        _ => "subscription.terminated",
    };
    let view = view(world, place);
    world.tell(kind, "subscription", &view);
}

/// As Lago shows it.
pub(super) fn view(world: &World, place: Place) -> Value {
    let own = &world.subscriptions[place];
    let (customer, plan) = (&world.customers[own.customer], &world.plans[own.plan]);
    let (started_at, terminated_at, canceled_at) = match own.state {
        State::Pending => (None, None, None),
        State::Active { since } => (Some(since), None, None),
        State::Terminated { since, at } => (Some(since), Some(at), None),
        State::Canceled { at } => (None, None, Some(at)),
    };
    let period = started_at.filter(|_| terminated_at.is_none()).map(|_| period_at(world, place, world.now));
    let part = period.map(|period| counted_part(world, place, period));
    let next = own.next.map(|next| &world.plans[world.subscriptions[next].plan]);
    let code = |plan: &Plan| plan.code.clone();
    let text = |at: Option<Micros>| at.map(instant::seconds);
    json!({
        "lago_id": own.lago_id,
        "external_id": own.external_id,
        "lago_customer_id": customer.view["lago_id"],
        "external_customer_id": customer.view["external_id"],
        "name": own.name,
        "plan_code": plan.code,
        "plan_amount_cents": plan.amount_cents,
        "plan_amount_currency": plan.currency,
        "status": own.state.name(),
        "billing_time": own.billing_time.name(),
        "subscription_at": instant::seconds(own.anchor),
        "started_at": text(started_at),
        "trial_ended_at": null,
        "ending_at": text(own.ending_at),
        "terminated_at": text(terminated_at),
        "canceled_at": text(canceled_at),
        "created_at": instant::seconds(own.created_at),
        "previous_plan_code": own.previous.map(|previous| code(&world.plans[world.subscriptions[previous].plan])),
        "next_plan_code": next.map(code),
        "downgrade_plan_date": period.filter(|_| next.is_some()).map(|period| instant::seconds(period.until)[..10].to_owned()),
        "current_billing_period_started_at": text(part.map(|part| part.from)),
        "current_billing_period_ending_at": text(period.map(|period| period.until - 1)),
        "on_termination_credit_note": null,
        "on_termination_invoice": "generate",
        "plan": plan.view,
    })
}

/// `GET /subscriptions/{external_id}`, which knows running ones only unless it is told a state.
pub(super) fn show(world: &World, call: &Call, external_id: &str) -> Answer {
    let place = in_state(world, external_id, call.query("status").unwrap_or("active"));
    let place = place.ok_or_else(|| Refusal::not_found("subscription"))?;
    Ok(Reply::Json(json!({"subscription": view(world, place)})))
}

/// `GET /subscriptions`
pub(super) fn list(world: &World, call: &Call) -> Reply {
    let mut states = call.queries("status");
    if states.is_empty() {
        states.push("active");
    }
    let customer = call.query("external_customer_id");
    let plan = call.query("plan_code");
    let wanted = |place: &Place| {
        let own = &world.subscriptions[*place];
        states.contains(&own.state.name())
            && customer.is_none_or(|id| world.customers[own.customer].text("external_id") == id)
            && plan.is_none_or(|code| world.plans[own.plan].code == code)
    };
    let all: Vec<Place> = (0..world.subscriptions.len()).rev().filter(wanted).collect();
    Page::of(call).show("subscriptions", &all, |place| view(world, *place))
}

/// `DELETE /subscriptions/{external_id}`
pub(super) fn delete(world: &mut World, call: &Call, external_id: &str) -> Answer {
    let place = in_state(world, external_id, call.query("status").unwrap_or("active"));
    let place =
        place.filter(|place| matches!(world.subscriptions[*place].state, State::Active { .. } | State::Pending));
    let place = place.ok_or_else(|| Refusal::not_found("subscription"))?;
    terminate(world, place);
    Ok(Reply::Json(json!({"subscription": view(world, place)})))
}
