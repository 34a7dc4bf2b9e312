//! Pages by number, and what Lago says about them in `meta`.

use super::asked::Call;
use super::desk::Reply;
use serde_json::{Value, json};

const PER_PAGE: usize = 100;

/// `page` and `per_page` of a request. What is no number is what was not given, as in Lago.
#[derive(Debug, Clone, Copy)]
pub(super) struct Page {
    number: usize,
    size: usize,
}

impl Page {
    pub(super) fn of(call: &Call) -> Page {
        let number = |name: &str| call.query(name).and_then(|text| text.parse().ok()).filter(|number| *number > 0);
        Page { number: number("page").unwrap_or(1), size: number("per_page").unwrap_or(PER_PAGE) }
    }

    /// The rows of this page as `{name: […], "meta": {…}}`. Only they are turned into JSON.
    pub(super) fn show<T>(self, name: &str, all: &[T], view: impl Fn(&T) -> Value) -> Reply {
        let from = (self.number - 1).saturating_mul(self.size).min(all.len());
        let rows: Vec<Value> = all[from..].iter().take(self.size).map(view).collect();
        Reply::Json(json!({name: rows, "meta": self.meta(all.len())}))
    }

    fn meta(self, total: usize) -> Value {
        let pages = total.div_ceil(self.size);
        let next = (self.number < pages).then_some(self.number + 1);
        let previous = (self.number > 1).then_some(self.number - 1);
        let current = if total == 0 { 0 } else { self.number };
        let previous = previous.filter(|_| total > 0);
        json!({"current_page": current, "next_page": next, "prev_page": previous, "total_pages": pages, "total_count": total})
    }
}
