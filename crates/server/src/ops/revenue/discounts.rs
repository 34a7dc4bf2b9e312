//! Discounts that an event only names, found where they are shown whole. A discount never changes what it takes off, so any
//! place will do: the mirrored text, what was just read, an event of the discount itself, or what the mirror had before.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::error::Result;
use crate::store::mirror::Resource;
use crate::store::{Tx, mirror, readings};

/// The discounts of one subscription.
#[derive(Debug, Default)]
pub struct Discounts<'a> {
    /// The subscription as it was just read.
    found: Option<&'a str>,
    shown: BTreeMap<String, Value>,
    /// Those that Stripe itself only names to us: what they take off is in no worth of ours.
    only_named: BTreeSet<String>,
    looked: Looked,
}

/// Where was looked already.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Looked {
    #[default]
    Nowhere,
    Now,
    Back,
}

impl<'a> Discounts<'a> {
    pub fn of(found: Option<&'a str>) -> Self {
        Self { found, ..Self::default() }
    }

    /// Takes in what an object shows: a subscription, or a discount itself.
    pub fn learn(&mut self, object: &Value) {
        if object["object"] == "discount" {
            // The event that it was taken away says so of a discount that was there until then.
            let mut discount = object.clone();
            discount.as_object_mut().into_iter().for_each(|members| drop(members.remove("deleted")));
            return self.take(&discount);
        }
        for discount in holders(object).into_iter().flat_map(discounts_of) {
            self.take(discount);
        }
    }

    fn take(&mut self, discount: &Value) {
        let Some(id) = id_of(discount) else { return };
        if is_whole(discount) {
            self.shown.insert(id.to_owned(), discount.clone());
        } else {
            self.only_named.insert(id.to_owned());
        }
    }

    /// Whether Stripe itself shows us no more of each of them than its name.
    pub fn are_only_named(&self, ids: &[String]) -> bool {
        ids.iter().all(|id| self.only_named.contains(id))
    }

    /// The object of an event with the discounts in the place of their names, as far as anything shows them.
    pub fn shown_in<'o>(&mut self, tx: &mut Tx<'_>, object: &'o Value) -> Result<Cow<'o, Value>> {
        let discounts = || holders(object).into_iter().flat_map(discounts_of);
        let named: Vec<&str> = discounts().filter(|discount| !is_whole(discount)).filter_map(id_of).collect();
        if named.is_empty() {
            return Ok(Cow::Borrowed(object));
        }
        self.look_for(tx, object["id"].as_str().unwrap_or_default(), &named)?;
        let mut object = object.clone();
        self.put_into(&mut object);
        object["items"]["data"].as_array_mut().into_iter().flatten().for_each(|item| self.put_into(item));
        Ok(Cow::Owned(object))
    }

    fn look_for(&mut self, tx: &mut Tx<'_>, subscription: &str, named: &[&str]) -> Result<()> {
        let is_known = |known: &Self, id: &str| known.shown.contains_key(id) || known.only_named.contains(id);
        let is_missing = |known: &Self| !named.iter().all(|id| is_known(known, id));
        if self.looked < Looked::Now && is_missing(self) {
            self.looked = Looked::Now;
            let mirrored = mirror::raw(tx, Resource::Subscriptions, subscription)?;
            for text in [mirrored.as_deref(), self.found].into_iter().flatten() {
                self.learn_text(text);
            }
        }
        if self.looked < Looked::Back && is_missing(self) {
            self.looked = Looked::Back;
            let before = readings::history(tx, Resource::Subscriptions, subscription)?;
            for before in before {
                self.learn_text(&before.raw);
            }
        }
        Ok(())
    }

    fn learn_text(&mut self, text: &str) {
        if let Ok(object) = serde_json::from_str(text) {
            self.learn(&object);
        }
    }

    fn put_into(&self, holder: &mut Value) {
        for discount in holder["discounts"].as_array_mut().into_iter().flatten() {
            if let Some(shown) = id_of(discount).and_then(|id| self.shown.get(id)) {
                *discount = shown.clone();
            }
        }
    }
}

/// The subscription and its items.
fn holders(object: &Value) -> Vec<&Value> {
    let items = object["items"]["data"].as_array().into_iter().flatten();
    std::iter::once(object).chain(items).collect()
}

fn discounts_of(holder: &Value) -> impl Iterator<Item = &Value> {
    holder["discounts"].as_array().into_iter().flatten()
}

fn id_of(discount: &Value) -> Option<&str> {
    discount.as_str().or_else(|| discount["id"].as_str())
}

/// With its coupon, or the name of that, in either of the places where it has been.
fn is_whole(discount: &Value) -> bool {
    !discount["source"]["coupon"].is_null() || !discount["coupon"].is_null()
}
