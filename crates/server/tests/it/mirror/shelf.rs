//! A made-up Stripe: lists of objects that a test puts on a shelf, and nothing else.
//!
//! A list that is not there is a 404 in Stripe's words; a test can answer any single request by hand.

use std::collections::BTreeMap;
use std::io::{BufReader, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::harness::made_up::{Request, answer, listen};

/// Answers a request in the test's own way, or leaves it to the shelf.
pub type ByHand = Box<dyn FnMut(&Asked) -> Option<(u16, String)> + Send>;

/// A request: its path and its query.
#[derive(Debug, Clone)]
pub struct Asked {
    pub path: String,
    pub query: Vec<(String, String)>,
}

impl Asked {
    pub fn get(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }
}

#[derive(Default)]
struct Inside {
    lists: BTreeMap<String, Vec<Value>>,
    by_hand: Option<ByHand>,
}

#[derive(Clone)]
pub struct Shelf {
    port: u16,
    inside: Arc<Mutex<Inside>>,
}

impl Shelf {
    /// Serves these lists, newest first as they are given.
    pub fn of(lists: &[(&str, Vec<Value>)]) -> Shelf {
        let inside: Arc<Mutex<Inside>> = Arc::default();
        let there = Arc::clone(&inside);
        let shelf = Shelf { port: listen(move |stream| converse(&there, stream)), inside };
        for (path, objects) in lists {
            shelf.put(path, objects.clone());
        }
        shelf
    }

    /// All the lists of a small account, empty but for those given.
    pub fn whole(lists: &[(&str, Vec<Value>)]) -> Shelf {
        let names = [
            "coupons",
            "products",
            "prices",
            "customers",
            "subscriptions",
            "invoices",
            "charges",
            "refunds",
            "payment_methods",
        ];
        let shelf = Shelf::of(&names.map(|name| (name, Vec::new())));
        for (name, objects) in lists {
            shelf.put(name, objects.clone());
        }
        shelf
    }

    pub fn base(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn put(&self, name: &str, objects: Vec<Value>) {
        self.inside.lock().expect("whole").lists.insert(format!("/v1/{name}"), objects);
    }

    pub fn by_hand(&self, answer: impl FnMut(&Asked) -> Option<(u16, String)> + Send + 'static) {
        self.inside.lock().expect("whole").by_hand = Some(Box::new(answer));
    }
}

impl Inside {
    fn answer(&mut self, asked: &Asked) -> (u16, String) {
        if let Some(answer) = self.by_hand.as_mut().and_then(|by_hand| by_hand(asked)) {
            return answer;
        }
        if let Some(objects) = self.lists.get(&asked.path) {
            return (200, page(objects, asked));
        }
        let (list, id) = asked.path.rsplit_once('/').expect("a path");
        let objects = self.lists.get(list).into_iter().flatten();
        match objects.clone().find(|object| object["id"] == *id) {
            Some(object) => (200, object.to_string()),
            None if self.lists.contains_key(list) => refusal("resource_missing", "No such object", "id"),
            None => refusal("", "Unrecognized request URL", ""),
        }
    }
}

/// A 404 in Stripe's words.
pub fn refusal(code: &str, message: &str, param: &str) -> (u16, String) {
    let mut error = json!({"type": "invalid_request_error", "message": message});
    for (name, value) in [("code", code), ("param", param)] {
        if !value.is_empty() {
            error[name] = json!(value);
        }
    }
    (404, json!({"error": error}).to_string())
}

fn page(objects: &[Value], asked: &Asked) -> String {
    let holder = ["customer", "subscription"].into_iter().find_map(|name| Some((name, asked.get(name)?)));
    let mut rows: Vec<&Value> = objects.iter().filter(|row| holder.is_none_or(|(name, id)| row[name] == *id)).collect();
    if let Some(after) = asked.get("starting_after") {
        let place = rows.iter().position(|row| row["id"] == *after).map_or(rows.len(), |place| place + 1);
        rows.drain(..place);
    }
    let limit: usize = asked.get("limit").map_or(10, |limit| limit.parse().expect("a number"));
    let has_more = rows.len() > limit;
    rows.truncate(limit);
    list(&rows, has_more)
}

/// A list object.
pub fn list(rows: &[&Value], has_more: bool) -> String {
    json!({"object": "list", "data": rows, "has_more": has_more, "url": "/v1/list"}).to_string()
}

fn converse(inside: &Mutex<Inside>, mut stream: TcpStream) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    while let Some(request) = Request::read(&mut reader)? {
        let (status, body) = inside.lock().expect("whole").answer(&asked(&request));
        stream.write_all(answer(status, "Content-Type: application/json\r\n", &body).as_bytes())?;
    }
    Ok(())
}

fn asked(request: &Request) -> Asked {
    let (_, path, query) = request.target();
    let pair = |pair: &str| pair.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
    Asked { path: path.to_owned(), query: query.split('&').filter_map(pair).collect() }
}
