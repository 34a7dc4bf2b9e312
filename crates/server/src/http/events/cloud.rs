//! An event as a CloudEvent (version 1.0, JSON format).

pub mod binary;

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::exact::{self, fault};
use super::read::{Outcome, Wire, member, named};
use crate::error::Fault;
use crate::ops::usage::{Told, properties};
use crate::store::log::Source;

/// `id`, `subject` (the user), `type`, `time` and `data.quantity`. Other attributes are extensions, and anybody may have some.
#[derive(Debug, Deserialize)]
#[serde(expecting = "an object")]
pub struct Item<'a> {
    #[serde(borrow)]
    specversion: Cow<'a, str>,
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    source: Cow<'a, str>,
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    subject: Cow<'a, str>,
    #[serde(borrow)]
    time: Option<Cow<'a, str>>,
    #[serde(borrow)]
    data: &'a RawValue,
}

/// What we read of `data`. All of it is kept as the event's properties.
#[derive(Debug, Deserialize)]
#[serde(expecting = "an object")]
struct Data<'a> {
    #[serde(borrow)]
    quantity: Option<&'a RawValue>,
}

impl<'a> Wire<'a> for Item<'a> {
    fn judge(self, told: &mut Vec<Told>) -> (Cow<'a, str>, Outcome) {
        let mut faults = Vec::new();
        if self.specversion != "1.0" {
            faults.push(fault("/specversion", "expected 1.0"));
        }
        for (text, pointer) in
            [(&self.id, "/id"), (&self.source, "/source"), (&self.subject, "/subject"), (&self.kind, "/type")]
        {
            named(text, pointer, &mut faults);
        }
        let at = self.time.as_deref().map(exact::instant);
        if at == Some(None) {
            faults.push(exact::no_instant("/time"));
        }
        let quantity = quantity(self.data.get(), &mut faults);
        let (Some(quantity), true) = (quantity, faults.is_empty()) else { return (self.id, Outcome::Faulty(faults)) };
        told.push(Told {
            transaction_id: self.id.clone().into_owned(),
            producer: Some(self.source.into_owned()),
            user: self.subject.into_owned(),
            kind: self.kind.into_owned(),
            quantity,
            at: at.flatten(),
            properties: Some(self.data.get().to_owned()),
            source: Source::CloudEvents,
        });
        (self.id, Outcome::Told)
    }

    fn id_of(text: &'a str) -> Option<Cow<'a, str>> {
        member(text, "id")
    }

    fn place(pointer: &str) -> Cow<'_, str> {
        Cow::Borrowed(match pointer {
            "/transaction_id" => "/id",
            "/user_id" => "/subject",
            "/timestamp" => "/time",
            "/quantity" => "/data/quantity",
            "/properties" => "/data",
            same => same,
        })
    }
}

fn quantity(data: &str, faults: &mut Vec<Fault>) -> Option<billing::usage::Quantity> {
    if let Err(detail) = properties::look(data, properties::FOREIGN_MAX) {
        faults.push(fault("/data", detail));
        return None;
    }
    let Ok(Data { quantity: Some(said) }) = serde_json::from_str::<Data<'_>>(data) else {
        faults.push(fault("/data/quantity", "is required"));
        return None;
    };
    let quantity = exact::quantity(said.get());
    if quantity.is_none() {
        faults.push(exact::no_quantity("/data/quantity"));
    }
    quantity
}
