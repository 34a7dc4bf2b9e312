//! Bodies with events in them, one or many: read in one pass while all is well, and item by item once something is not, so
//! that a bad item never takes a good one with it.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::error::{Error, Fault, Result};
use crate::http::body::{self, Object};
use crate::ops::usage::{self, Told};

/// Items of one batch.
pub const ITEMS_MAX: usize = 1_000;
/// Bytes of an item, at the least that is usual.
const ITEM: usize = 128;

/// An event in somebody's notation.
pub trait Wire<'a>: Deserialize<'a> {
    /// Which event it is, and all that is wrong with it; what it tells is added to `told`.
    fn judge(self, told: &mut Vec<Told>) -> (Cow<'a, str>, Outcome);

    /// Which event it is, where the rest cannot be read.
    fn id_of(text: &'a str) -> Option<Cow<'a, str>>;

    /// Where this notation has what ours has at a pointer.
    fn place(pointer: &str) -> Cow<'_, str> {
        pointer.into()
    }
}

/// The same of a notation ([`Wire::place`]).
pub type Places = fn(&str) -> Cow<'_, str>;

/// What was read from a body.
#[derive(Debug, Default)]
pub struct Read<'a> {
    /// One for each item, in order.
    pub lines: Vec<Line<'a>>,
    /// The events of those lines that say `Told`, in order.
    pub told: Vec<Told>,
}

/// An item, for the answer.
#[derive(Debug)]
pub struct Line<'a> {
    /// Nothing where no id could be read.
    pub id: Option<Cow<'a, str>>,
    pub outcome: Outcome,
}

/// What an item turned out to be.
#[derive(Debug)]
pub enum Outcome {
    Told,
    /// Nothing that anybody is billed for; why.
    Ignored(&'static str),
    Faulty(Vec<Fault>),
}

impl<'a> Read<'a> {
    fn add(&mut self, item: impl Wire<'a>) {
        let (id, outcome) = item.judge(&mut self.told);
        self.lines.push(Line { id: Some(id), outcome });
    }
}

/// The body as text.
pub fn text(bytes: &[u8]) -> Result<&str> {
    std::str::from_utf8(bytes).map_err(|_| body::malformed("body.malformed", "The body is not valid UTF-8."))
}

/// Whether a body is an array, by its first character.
pub fn is_array(text: &str) -> bool {
    text.trim_start_matches([' ', '\t', '\r', '\n']).starts_with('[')
}

/// Reads one event.
///
/// # Errors
/// `Malformed` where the text is not one clear JSON document, `Invalid` with everything that is wrong with the event.
pub fn one<'a, W: Wire<'a>>(text: &'a str) -> Result<(Cow<'a, str>, Vec<Told>)> {
    let mut told = Vec::with_capacity(1);
    match serde_json::from_str(text).map(|Object(item): Object<W>| item.judge(&mut told)) {
        Ok((_, Outcome::Faulty(faults))) => body::strictly(text).and(Err(Error::Invalid(faults))),
        Ok((id, _)) => Ok((id, told)),
        Err(fault) => body::strictly(text).and(Err(body::misshapen(text, &fault))),
    }
}

/// Reads an array of events.
///
/// # Errors
/// `Malformed` where the text is not JSON, or has more items than are taken.
pub fn many<'a, W: Wire<'a>>(text: &'a str) -> Result<Read<'a>> {
    let mut reader = serde_json::Deserializer::from_str(text);
    let items = Items { roughly: text.len() / ITEM, wire: PhantomData::<W> };
    match reader.deserialize_seq(items).and_then(|read| reader.end().map(|()| read)) {
        Ok(read) => Ok(read),
        Err(_) => one_by_one::<W>(&array(text)?),
    }
}

/// Items that have their shape, all of them. Each is judged as soon as it is read, while it is in the processor's cache.
struct Items<W> {
    roughly: usize,
    wire: PhantomData<W>,
}

impl<'de, W: Wire<'de>> Visitor<'de> for Items<W> {
    type Value = Read<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let room = self.roughly.min(ITEMS_MAX);
        let mut read = Read { lines: Vec::with_capacity(room), told: Vec::with_capacity(room) };
        while let Some(Object(item)) = items.next_element::<Object<W>>()? {
            if read.lines.len() == ITEMS_MAX {
                return Err(A::Error::custom("too many"));
            }
            read.add(item);
        }
        Ok(read)
    }
}

/// The items of an array, unread.
///
/// # Errors
/// `Malformed` where the text is not JSON, `Invalid` where it is no array.
pub fn array(text: &str) -> Result<Vec<&RawValue>> {
    serde_json::from_str(text).map_err(|fault| {
        if !fault.is_data() {
            return body::not_json(&fault);
        }
        body::strictly(text).err().unwrap_or_else(|| Error::invalid("", "expected an array of objects"))
    })
}

/// Reads items that are known to be JSON, each for itself.
///
/// # Errors
/// `Malformed` where there are more than are taken.
pub fn one_by_one<'a, W: Wire<'a>>(items: &[&'a RawValue]) -> Result<Read<'a>> {
    if items.len() > ITEMS_MAX {
        return Err(body::malformed("batch.too_large", "The batch has more than 1,000 items."));
    }
    let mut read = Read::default();
    for text in items.iter().map(|item| item.get()) {
        match serde_json::from_str::<Object<W>>(text) {
            Ok(Object(item)) => read.add(item),
            Err(fault) => {
                let faults = body::faults_of(text, &fault);
                read.lines.push(Line { id: W::id_of(text), outcome: Outcome::Faulty(faults) });
            }
        }
    }
    Ok(read)
}

/// One member of an object, whatever else is in it.
pub fn member<'a>(text: &'a str, name: &'static str) -> Option<Cow<'a, str>> {
    let mut reader = serde_json::Deserializer::from_str(text);
    reader.deserialize_map(Member(name)).ok().flatten()
}

struct Member(&'static str);

impl<'de> Visitor<'de> for Member {
    type Value = Option<Cow<'de, str>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some((name, value)) = members.next_entry::<Cow<'de, str>, &'de RawValue>()? {
            if name == self.0 {
                // Named twice, it names nothing.
                found = if found.is_none() { serde_json::from_str(value.get()).ok() } else { None };
            }
        }
        Ok(found)
    }
}

/// Texts that name things: an id, a user, a type.
pub fn named(text: &str, pointer: &str, faults: &mut Vec<Fault>) {
    if !usage::may_name(text) {
        faults.push(super::exact::fault(pointer, usage::NAME));
    }
}
