//! A small Stripe in memory: objects that change, an event for each change, and answers that may overtake each other.

use std::collections::BTreeMap;
use std::io::{BufReader, Write};
use std::net::TcpStream;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use ring::hmac;
use serde_json::{Value, json};

use crate::harness::made_up::{Request, answer, listen};

pub const VERSION: &str = "2026-09-30.endive";
pub const SECRET: &str = "whsec_canaryCANARY12345678";

/// Numbers that look random and repeat with their seed.
#[derive(Clone)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x1234_5678_9abc_def1)
    }

    /// From 0 to below `sides`.
    pub fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }

    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, usize::try_from(self.roll(last as u64 + 1)).expect("small"));
        }
    }
}

/// The way of answers. Some take long: an old one arrives after younger ones were asked for, given and written. Time on it is
/// counted in what happens, so that a fast machine and a slow one see the same.
pub struct Road {
    /// A closed road has none: nobody gets through while it is there.
    dice: Option<Dice>,
    now: u64,
    held: Vec<(u64, Sender<()>)>,
    /// Where nothing happens any more, nobody waits longer.
    patience: Duration,
}

impl Road {
    pub fn open(dice: Dice, patience: Duration) -> Road {
        Road { dice: Some(dice), now: 0, held: Vec::new(), patience }
    }

    pub fn closed() -> Road {
        Road { dice: None, now: 0, held: Vec::new(), patience: Duration::from_secs(30) }
    }

    /// Something has happened: who has waited long enough goes on.
    fn pass(&mut self) {
        self.now += 1;
        self.held.retain(|(until, _)| *until > self.now);
    }

    /// One in `sides` travellers waits until so many things have happened.
    fn hold(&mut self, sides: u64, longest: u64) -> Option<(Receiver<()>, Duration)> {
        let until = match &mut self.dice {
            None => u64::MAX,
            Some(dice) => {
                let (waits, until) = (dice.roll(sides) == 0, self.now + 1 + dice.roll(longest));
                waits.then_some(until)?
            }
        };
        let (arrive, arrived) = channel();
        self.held.push((until, arrive));
        Some((arrived, self.patience))
    }
}

/// Something that happened, as it is told.
#[derive(Debug, Clone)]
pub struct Told {
    pub id: String,
    pub created: i64,
    pub body: String,
}

#[derive(Default)]
pub struct Inside {
    /// `(list, object)`, oldest first.
    pub objects: Vec<(String, Value)>,
    pub events: Vec<Told>,
    /// How often an object of this name was deleted.
    pub deletions: BTreeMap<String, u64>,
    /// What the clock there shows.
    pub now: i64,
    pub next: u64,
    /// Objects asked for by their id.
    pub fetches: u64,
    pub requests: Vec<String>,
    /// A status for every question.
    pub trouble: Option<u16>,
    /// A status for questions about this object.
    pub trouble_with: Option<(String, u16)>,
    /// What is answered instead, by path without `/v1/`: a status and a body.
    pub instead: BTreeMap<String, (u16, String)>,
    /// The way that answers take; without one they are there at once.
    pub road: Option<Road>,
    /// Events before this one are no longer listed.
    pub forgotten: usize,
    pub no_events_list: bool,
    /// Answers do not say what time it is.
    pub timeless: bool,
    pub endpoints: Vec<Value>,
}

#[derive(Clone)]
pub struct Account {
    port: u16,
    inside: Arc<Mutex<Inside>>,
}

impl Account {
    pub fn open(now: i64) -> Account {
        let inside = Arc::new(Mutex::new(Inside { now, ..Inside::default() }));
        let there = Arc::clone(&inside);
        Account { port: listen(move |stream| converse(&there, stream)), inside }
    }

    pub fn base(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().expect("whole")
    }

    /// Changes an object, or makes it; the event that tells of it.
    pub fn put(&self, list: &str, id: &str, members: &Value) -> Told {
        self.inside().put(list, id, members)
    }

    /// Deletes an object; the event that tells of it.
    pub fn delete(&self, list: &str, id: &str) -> Told {
        self.inside().delete(list, id)
    }

    pub fn object(&self, list: &str, id: &str) -> Option<Value> {
        self.inside().find(list, id).cloned()
    }

    /// How many objects were asked for since the last time.
    pub fn take_fetches(&self) -> u64 {
        std::mem::take(&mut self.inside().fetches)
    }
}

/// `(noun, family of events)` of a list.
fn noun(list: &str) -> (&'static str, &'static str) {
    match list {
        "customers" => ("customer", "customer"),
        "products" => ("product", "product"),
        "subscriptions" => ("subscription", "customer.subscription"),
        "invoices" => ("invoice", "invoice"),
        "prices" => ("price", "price"),
        "coupons" => ("coupon", "coupon"),
        other => panic!("no events of {other}"),
    }
}

impl Inside {
    /// What its clock shows, as a header.
    fn time(&self) -> String {
        let now = jiff::Timestamp::from_second(self.now).expect("an instant");
        if self.timeless { String::new() } else { now.strftime("Date: %a, %d %b %Y %H:%M:%S GMT\r\n").to_string() }
    }

    pub fn find(&self, list: &str, id: &str) -> Option<&Value> {
        self.objects.iter().find(|(of, object)| of == list && object["id"] == id).map(|(_, object)| object)
    }

    fn put(&mut self, list: &str, id: &str, members: &Value) -> Told {
        let created = self.now;
        let (mut previous, mut what) = (json!({}), "updated");
        if self.find(list, id).is_none() {
            what = "created";
            let object =
                json!({ "id": id, "object": noun(list).0, "created": created, "livemode": false, "metadata": {} });
            self.objects.push((list.to_owned(), object));
        }
        let place = self.objects.iter_mut().find(|(of, object)| of == list && object["id"] == id).expect("there");
        for (name, value) in members.as_object().expect("members") {
            previous[name] = place.1[name].clone();
            place.1[name] = value.clone();
        }
        let object = place.1.clone();
        self.tell(list, what, object, (what == "updated").then_some(previous))
    }

    fn delete(&mut self, list: &str, id: &str) -> Told {
        let place = self.objects.iter().position(|(of, object)| of == list && object["id"] == id).expect("there");
        let (_, object) = self.objects.remove(place);
        *self.deletions.entry(id.to_owned()).or_default() += 1;
        self.tell(list, "deleted", object, None)
    }

    fn tell(&mut self, list: &str, what: &str, object: Value, previous: Option<Value>) -> Told {
        self.next += 1;
        self.road.iter_mut().for_each(Road::pass);
        let mut data = json!({ "object": object });
        if let Some(previous) = previous {
            data["previous_attributes"] = previous;
        }
        let id = format!("evt_{:06}", self.next);
        let body = json!({
            "id": id, "object": "event", "type": format!("{}.{what}", noun(list).1), "created": self.now,
            "api_version": VERSION, "livemode": false, "data": data,
        });
        let told = Told { id, created: self.now, body: body.to_string() };
        self.events.push(told.clone());
        told
    }

    fn answer(
        &mut self,
        method: &str,
        path: &str,
        query: &[(String, String)],
        form: &[(String, String)],
    ) -> (u16, String) {
        let get = |name: &str| query.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str());
        self.requests.push(format!("{method} {path}"));
        self.road.iter_mut().for_each(Road::pass);
        let parts: Vec<&str> = path.trim_start_matches("/v1/").split('/').collect();
        let trouble = self.trouble_with.as_ref().filter(|(id, _)| parts.get(1) == Some(&id.as_str()));
        if let Some(status) = trouble.map(|(_, status)| *status).or(self.trouble) {
            return (status, json!({"error": {"type": "api_error", "message": "trouble"}}).to_string());
        }
        if let Some(instead) = self.instead.get(path.trim_start_matches("/v1/")) {
            return instead.clone();
        }
        match (method, parts.as_slice()) {
            ("GET", ["events"]) if self.no_events_list => refusal("", "Unrecognized request URL (GET: /v1/events)."),
            ("GET", ["events"]) => {
                let since: i64 = get("created[gte]").map_or(i64::MIN, |text| text.parse().expect("a number"));
                let listed = self.events[self.forgotten..].iter().rev().filter(|event| event.created >= since);
                page(listed.map(|event| (event.id.clone(), event.body.clone())).collect(), query)
            }
            ("GET", ["webhook_endpoints"]) => {
                let listed = self.endpoints.iter().rev();
                page(listed.map(|endpoint| (text(&endpoint["id"]), endpoint.to_string())).collect(), query)
            }
            ("POST", ["webhook_endpoints", rest @ ..]) => self.endpoint(rest.first().copied(), form),
            ("GET", ["customers", _, "payment_methods"]) => page(Vec::new(), query),
            ("GET", [list]) => {
                let listed = self.objects.iter().rev().filter(|(of, _)| of == list);
                page(listed.map(|(_, object)| (text(&object["id"]), object.to_string())).collect(), query)
            }
            ("GET", [list, id]) => {
                self.fetches += 1;
                match self.find(list, id) {
                    Some(object) => (200, object.to_string()),
                    None => refusal("resource_missing", "No such object"),
                }
            }
            _ => refusal("", "Unrecognized request URL"),
        }
    }

    /// Makes a webhook endpoint or changes one.
    fn endpoint(&mut self, id: Option<&str>, form: &[(String, String)]) -> (u16, String) {
        let one = |name: &str| form.iter().find(|(found, _)| found == name).map(|(_, value)| value.clone());
        let events: Vec<&String> =
            form.iter().filter(|(name, _)| name == "enabled_events[]").map(|(_, value)| value).collect();
        if let Some(id) = id {
            let endpoint = self.endpoints.iter_mut().find(|endpoint| endpoint["id"] == id).expect("there");
            endpoint["enabled_events"] = json!(events);
            endpoint["status"] =
                json!(if one("disabled").as_deref() == Some("false") { "enabled" } else { "disabled" });
            return (200, endpoint.to_string());
        }
        let number = self.endpoints.len() + 1;
        let mut endpoint = json!({
            "id": format!("we_{number}"), "object": "webhook_endpoint", "url": one("url"), "status": "enabled",
            "api_version": one("api_version"), "enabled_events": events,
        });
        self.endpoints.push(endpoint.clone());
        endpoint["secret"] = json!(format!("whsec_secret{number}secret"));
        (200, endpoint.to_string())
    }
}

fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

pub fn refusal(code: &str, message: &str) -> (u16, String) {
    let mut error = json!({"type": "invalid_request_error", "message": message});
    if !code.is_empty() {
        error["code"] = json!(code);
        error["param"] = json!("id");
    }
    (404, json!({ "error": error }).to_string())
}

/// A page of a list that begins with the newest, either way.
fn page(rows: Vec<(String, String)>, query: &[(String, String)]) -> (u16, String) {
    let get = |name: &str| query.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str());
    let limit: usize = get("limit").map_or(10, |limit| limit.parse().expect("a number"));
    let place = |id: &str| rows.iter().position(|(found, _)| found == id);
    let missing = |param: &str| {
        let error =
            json!({"type": "invalid_request_error", "code": "resource_missing", "param": param, "message": "No such"});
        (404, json!({ "error": error }).to_string())
    };
    let (from, to, more) = match (get("starting_after"), get("ending_before")) {
        (Some(after), _) => {
            let Some(place) = place(after) else { return missing("starting_after") };
            let to = (place + 1 + limit).min(rows.len());
            (place + 1, to, to < rows.len())
        }
        (None, Some(before)) => {
            let Some(place) = place(before) else { return missing("ending_before") };
            let from = place.saturating_sub(limit);
            (from, place, from > 0)
        }
        (None, None) => (0, limit.min(rows.len()), rows.len() > limit),
    };
    let data: Vec<&str> = rows[from..to].iter().map(|(_, body)| body.as_str()).collect();
    (200, format!(r#"{{"object":"list","url":"/v1/list","has_more":{more},"data":[{}]}}"#, data.join(",")))
}

/// Waits where the road says so. Nobody waits on a road that is there no more.
fn wait(inside: &Mutex<Inside>, sides: u64, longest: u64) {
    let held = inside.lock().expect("whole").road.as_mut().and_then(|road| road.hold(sides, longest));
    if let Some((arrived, patience)) = held {
        let _ = arrived.recv_timeout(patience);
    }
}

fn converse(inside: &Mutex<Inside>, mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    while let Some(request) = Request::read(&mut reader)? {
        let (method, path, query) = request.target();
        // A list takes longest: what it says may be old when it arrives.
        let longest = if path.matches('/').count() == 2 { 300 } else { 120 };
        wait(inside, 8, 10);
        let (time, (status, body)) = {
            let mut inside = inside.lock().expect("whole");
            (inside.time(), inside.answer(method, path, &pairs(query), &pairs(&request.body)))
        };
        wait(inside, 4, longest);
        stream.write_all(answer(status, &format!("{time}Content-Type: application/json\r\n"), &body).as_bytes())?;
    }
    Ok(())
}

fn pairs(text: &str) -> Vec<(String, String)> {
    let plain = |text: &str| {
        let mut bytes = Vec::new();
        let mut rest = text.as_bytes();
        while let Some((first, after)) = rest.split_first() {
            let hex = (*first == b'%').then(|| after.get(..2)).flatten();
            let code = hex.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
            bytes.push(code.unwrap_or(if *first == b'+' { b' ' } else { *first }));
            rest = if code.is_some() { &after[2..] } else { after };
        }
        String::from_utf8(bytes).expect("utf-8")
    };
    text.split('&').filter_map(|pair| pair.split_once('=')).map(|(name, value)| (plain(name), plain(value))).collect()
}

/// `Stripe-Signature` of a body.
pub fn signature(secret: &str, time: i64, body: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let mut message = format!("{time}.").into_bytes();
    message.extend_from_slice(body);
    let digest = hmac::sign(&key, &message);
    let digest = digest.as_ref().iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
    format!("t={time},v1={digest}")
}
