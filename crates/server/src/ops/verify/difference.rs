//! How a mirrored object differs from Stripe's, field by field.

use serde_json::Value;

use crate::store::mirror::Resource;
use crate::store::verification::Cell;

/// More fields than this of one object are not named.
const FIELDS_MAX: usize = 20;
/// Longer values are cut.
const SHOWN_MAX: usize = 160;

/// One field that is not the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    pub resource: Resource,
    pub id: String,
    /// A path into Stripe's object (`items.data.0.quantity`), or `row.` and a column of ours, or nothing for the object
    /// itself.
    pub field: String,
    pub ours: String,
    pub theirs: String,
}

/// The fields in which two texts of one object differ.
pub fn of_texts(resource: Resource, id: &str, ours: Option<&str>, theirs: Option<&str>) -> Vec<Difference> {
    let difference = |field: &str, ours: &str, theirs: &str| Difference {
        resource,
        id: id.to_owned(),
        field: field.to_owned(),
        ours: ours.to_owned(),
        theirs: theirs.to_owned(),
    };
    let (ours, theirs) = match (ours, theirs) {
        (Some(ours), Some(theirs)) if ours == theirs => return Vec::new(),
        (Some(ours), Some(theirs)) => (ours, theirs),
        (None, None) => return Vec::new(),
        (None, Some(_)) => return vec![difference("", "not there", "there")],
        (Some(_), None) => return vec![difference("", "there", "not there")],
    };
    let parsed = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_default();
    let mut found = Vec::new();
    walk(&mut String::new(), &parsed(ours), &parsed(theirs), &mut found);
    found.iter().map(|(field, ours, theirs)| difference(field, ours, theirs)).collect()
}

/// The columns in which two rows differ.
pub fn of_rows(resource: Resource, id: &str, ours: &[Cell], theirs: &[Cell]) -> Vec<Difference> {
    let shown = |cell: &Option<String>| cell.as_deref().map_or_else(|| "null".to_owned(), cut);
    let pairs = ours.iter().zip(theirs).filter(|(ours, theirs)| ours != theirs);
    pairs
        .map(|((column, ours), (_, theirs))| Difference {
            resource,
            id: id.to_owned(),
            field: format!("row.{column}"),
            ours: shown(ours),
            theirs: shown(theirs),
        })
        .collect()
}

fn walk(path: &mut String, ours: &Value, theirs: &Value, found: &mut Vec<(String, String, String)>) {
    if ours == theirs || found.len() >= FIELDS_MAX {
        return;
    }
    match (ours, theirs) {
        (Value::Object(a), Value::Object(b)) => {
            let names = a.keys().chain(b.keys().filter(|name| !a.contains_key(*name)));
            for name in names {
                below(path, name, a.get(name), b.get(name), found);
            }
        }
        (Value::Array(a), Value::Array(b)) => {
            for index in 0..a.len().max(b.len()) {
                below(path, &index.to_string(), a.get(index), b.get(index), found);
            }
        }
        _ => found.push((path.clone(), cut(&ours.to_string()), cut(&theirs.to_string()))),
    }
}

fn below(
    path: &mut String,
    name: &str,
    ours: Option<&Value>,
    theirs: Option<&Value>,
    found: &mut Vec<(String, String, String)>,
) {
    let length = path.len();
    if length > 0 {
        path.push('.');
    }
    path.push_str(name);
    match (ours, theirs) {
        (Some(ours), Some(theirs)) => walk(path, ours, theirs, found),
        (ours, theirs) => {
            let shown =
                |value: Option<&Value>| value.map_or_else(|| "absent".to_owned(), |value| cut(&value.to_string()));
            found.push((path.clone(), shown(ours), shown(theirs)));
        }
    }
    path.truncate(length);
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
