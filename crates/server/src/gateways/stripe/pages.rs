//! Walks a list to its end, page by page, and refuses to call a list complete that contradicts itself (F-31).

use std::fmt;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::Stripe;
use super::error::{BodyFault, StripeError};

/// Objects on a page: Stripe's most.
const LIMIT: usize = 100;
/// How much smaller the next try is when a page was longer than we read.
const SHRINK: usize = 4;

/// A list being read. After an error `next` asks for the same page again, so a caller may wait and go on.
#[derive(Debug)]
pub struct Pages {
    stripe: Stripe,
    path: String,
    query: Vec<(String, String)>,
    after: Option<String>,
    way: Way,
    limit: usize,
    ended: bool,
    /// The page before was full and said that it was the last.
    doubted: bool,
    trail: Trail,
}

/// In which direction a list is read. Lists begin with the newest object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// From the newest to the oldest.
    Older,
    /// From an object to the newest.
    Newer,
}

/// One page of a list.
pub struct Page {
    /// The objects, each as Stripe wrote it.
    pub objects: Vec<Box<RawValue>>,
    /// No page follows.
    pub last: bool,
    /// The id to go on after; none when the page is empty.
    pub last_id: Option<String>,
}

/// How a list contradicts itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListFault {
    /// There is more, it says, and sends nothing.
    EmptyButMore,
    /// It comes back to where it was.
    NoProgress { id: String },
    /// The object at this place of the page has no id.
    NoId { index: usize },
    /// It was asked for one customer's objects and sends another's (S-30).
    OtherCustomer { id: String },
}

/// Finds out whether a walk runs in a circle, with two words of memory (Brent): remembers one place, and a later one each
/// time the distance has doubled.
#[derive(Debug, Default)]
struct Trail {
    mark: Option<String>,
    steps: u64,
    reach: u64,
}

#[derive(Deserialize)]
struct List<'a> {
    #[serde(borrow)]
    data: Option<Vec<&'a RawValue>>,
    has_more: Option<bool>,
}

impl Pages {
    pub(super) fn new(stripe: Stripe, path: &str, query: &[(&str, &str)], after: Option<String>, way: Way) -> Pages {
        let limit = query.iter().find(|(name, _)| *name == "limit").and_then(|(_, value)| value.parse().ok());
        let query = query.iter().filter(|(name, _)| *name != "limit");
        let query = query.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let trail = Trail { mark: after.clone(), steps: 0, reach: 1 };
        let (path, limit) = (path.to_owned(), limit.unwrap_or(LIMIT));
        Pages { stripe, path, query, after, way, limit, ended: false, doubted: false, trail }
    }

    /// The next page; `None` after the last. A list is complete when, and only when, this has said `None`.
    ///
    /// Only a page with room left is believed to be the last (F-31): after a full one the next is asked for.
    pub async fn next(&mut self) -> Result<Option<Page>, StripeError> {
        if self.ended {
            return Ok(None);
        }
        let body = self.fetch().await?;
        let mut page = self.read(&body)?;
        // Nothing, or what we have: the full page was the last indeed.
        if self.doubted && (page.last_id.is_none() || page.last_id == self.after) {
            self.ended = true;
            return Ok(None);
        }
        self.doubted = page.last && page.objects.len() >= self.limit;
        page.last &= !self.doubted;
        if let Some(id) = &page.last_id {
            self.trail.step(id);
            self.after = Some(id.clone());
        }
        self.ended = page.last;
        Ok(Some(page))
    }

    /// Asks for the page; where it is longer than we read, for a smaller one.
    async fn fetch(&mut self) -> Result<Box<RawValue>, StripeError> {
        loop {
            let limit = self.limit.to_string();
            let mut query: Vec<(&str, &str)> = self.query.iter().map(|(name, value)| (&**name, &**value)).collect();
            query.push(("limit", &limit));
            if let Some(after) = &self.after {
                query.push((if self.way == Way::Older { "starting_after" } else { "ending_before" }, after));
            }
            match self.stripe.get(&self.path, &query).await {
                Ok(answer) => return Ok(answer.body),
                Err(StripeError::TooLarge { .. }) if self.limit > 1 => self.limit = (self.limit / SHRINK).max(1),
                Err(error) => return Err(error),
            }
        }
    }

    fn read(&self, body: &RawValue) -> Result<Page, StripeError> {
        let bad = || StripeError::BadBody { fault: BodyFault::NotAList, request_id: None };
        let body: List<'_> = serde_json::from_str(body.get()).map_err(|_| bad())?;
        let data = body.data.ok_or_else(bad)?;
        let last = !body.has_more.unwrap_or(false);
        let mut last_id = None;
        for (index, object) in data.iter().enumerate() {
            let id = self.check(index, object)?;
            if self.way == Way::Older || last_id.is_none() {
                last_id = Some(id);
            }
        }
        if !last {
            let id = last_id.as_ref().ok_or_else(|| self.fault(ListFault::EmptyButMore))?;
            if self.after.as_ref() == Some(id) || self.trail.mark.as_ref() == Some(id) {
                return Err(self.fault(ListFault::NoProgress { id: id.clone() }));
            }
        }
        Ok(Page { objects: data.into_iter().map(ToOwned::to_owned).collect(), last, last_id })
    }

    /// The id of an object of the page, when it may stand there.
    fn check(&self, index: usize, object: &RawValue) -> Result<String, StripeError> {
        let object: serde_json::Value = serde_json::from_str(object.get()).unwrap_or_default();
        let id = object["id"].as_str().filter(|id| !id.is_empty());
        let id = id.ok_or_else(|| self.fault(ListFault::NoId { index }))?;
        let asked = self.query.iter().find(|(name, _)| name == "customer").map(|(_, value)| value.as_str());
        let holder = object["customer"].as_str().or_else(|| object["customer"]["id"].as_str());
        match (asked, holder) {
            (Some(asked), Some(holder)) if asked != holder => {
                Err(self.fault(ListFault::OtherCustomer { id: id.to_owned() }))
            }
            _ => Ok(id.to_owned()),
        }
    }

    fn fault(&self, fault: ListFault) -> StripeError {
        StripeError::ListInconsistent { path: self.path.clone(), fault }
    }
}

impl fmt::Debug for Page {
    /// Without the objects: they hold what is nobody's business in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let objects = self.objects.len();
        f.debug_struct("Page")
            .field("objects", &objects)
            .field("last", &self.last)
            .field("last_id", &self.last_id)
            .finish()
    }
}

impl Trail {
    fn step(&mut self, id: &str) {
        self.steps += 1;
        if self.steps >= self.reach {
            self.mark = Some(id.to_owned());
            self.reach = self.reach.saturating_mul(2);
            self.steps = 0;
        }
    }
}

impl fmt::Display for ListFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListFault::EmptyButMore => f.write_str("it says that there is more and sends nothing"),
            ListFault::NoProgress { id } => write!(f, "it comes back to {id}"),
            ListFault::NoId { index } => write!(f, "object {index} of a page has no id"),
            ListFault::OtherCustomer { id } => write!(f, "{id} belongs to another customer than asked for"),
        }
    }
}
