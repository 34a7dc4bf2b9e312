//! An event in our own notation.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::exact::{self, fault};
use super::read::{Outcome, Wire, member, named};
use crate::ops::usage::{Told, properties};
use crate::store::log::Source;

/// `{"transaction_id","user_id","type","quantity","timestamp","properties"?}`, borrowed from the body.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub struct Item<'a> {
    #[serde(borrow)]
    transaction_id: Cow<'a, str>,
    #[serde(borrow)]
    user_id: Cow<'a, str>,
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    quantity: &'a RawValue,
    #[serde(borrow)]
    timestamp: Cow<'a, str>,
    #[serde(borrow)]
    properties: Option<&'a RawValue>,
}

impl<'a> Wire<'a> for Item<'a> {
    fn judge(self, told: &mut Vec<Told>) -> (Cow<'a, str>, Outcome) {
        let mut faults = Vec::new();
        for (text, pointer) in
            [(&self.transaction_id, "/transaction_id"), (&self.user_id, "/user_id"), (&self.kind, "/type")]
        {
            named(text, pointer, &mut faults);
        }
        let quantity = exact::quantity(self.quantity.get());
        if quantity.is_none() {
            faults.push(exact::no_quantity("/quantity"));
        }
        let at = exact::instant(&self.timestamp);
        if at.is_none() {
            faults.push(exact::no_instant("/timestamp"));
        }
        if let Some(Err(detail)) =
            self.properties.map(|properties| properties::look(properties.get(), properties::OWN_MAX))
        {
            faults.push(fault("/properties", detail));
        }
        let (Some(quantity), true) = (quantity, faults.is_empty()) else {
            return (self.transaction_id, Outcome::Faulty(faults));
        };
        told.push(Told {
            transaction_id: self.transaction_id.clone().into_owned(),
            producer: None,
            user: self.user_id.into_owned(),
            kind: self.kind.into_owned(),
            quantity,
            at,
            properties: self.properties.map(|properties| properties.get().to_owned()),
            source: Source::Own,
        });
        (self.transaction_id, Outcome::Told)
    }

    fn id_of(text: &'a str) -> Option<Cow<'a, str>> {
        member(text, "transaction_id")
    }
}
