//! Stripe's request parameters: form encoding with brackets, read into a tree, then checked against what an endpoint knows.
//!
//! `items[0][price]=p&items[0][quantity]=2&expand[]=customer` is a tree of hashes; an array is a hash whose keys are
//! numbers or empty. Checking turns text into JSON values of the right type, so that handlers see no strings of digits.

use crate::error::StripeError;
use serde_json::{Map, Number, Value};

/// Deepest nesting that is read; Stripe's own parameters need five.
const DEPTH_MAX: usize = 8;

/// The longest text that is taken.
const LENGTH_MAX: usize = 5000;

/// A parameter as it was sent.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Sent {
    Text(String),
    Hash(Vec<(String, Sent)>),
}

/// What an endpoint accepts for one parameter.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Spec {
    /// Text; an empty string is refused.
    Text,
    /// Text that an empty string unsets.
    Clearable,
    /// An address with a scheme.
    Url,
    /// An e-mail address, unset by an empty string.
    Email,
    Int(i64, i64),
    Bool,
    /// Seconds since 1970.
    Time,
    /// Seconds since 1970, or the word `now`.
    TimeOrNow,
    /// `now` or `unchanged`: a plain word for callers of old, `{type}` since endive.
    Anchor,
    /// A decimal number, kept as text.
    Decimal,
    OneOf(&'static [&'static str]),
    Metadata,
    Hash(&'static [Field]),
    /// A hash, or an empty string that unsets it.
    ClearableHash(&'static [Field]),
    List(&'static Spec),
    /// The id of a thing, or a description of a new one.
    Either(&'static [Field]),
    /// A list, or an empty string that empties it.
    ClearableList(&'static Spec),
    /// A time, or a hash of `gt`, `gte`, `lt`, `lte`.
    Range,
    /// Known to Stripe and without effect on anything that this sandbox shows.
    Ignored,
    /// Known to Stripe, but what it asks for is not modelled here.
    Unsupported,
}

/// One named parameter of an endpoint.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) spec: Spec,
    pub(crate) required: bool,
}

pub(crate) const fn opt(name: &'static str, spec: Spec) -> Field {
    Field { name, spec, required: false }
}

pub(crate) const fn req(name: &'static str, spec: Spec) -> Field {
    Field { name, spec, required: true }
}

/// The parameters that every list has, beside `expand`.
pub(crate) const PAGE: &[Field] = &[
    opt("limit", Spec::Int(1, 100)),
    opt("starting_after", Spec::Text),
    opt("ending_before", Spec::Text),
    opt("created", Spec::Range),
];

const ANCHOR: &[Field] = &[req("type", Spec::OneOf(&["now", "unchanged"]))];

const RANGE: &[Field] = &[opt("gt", Spec::Time), opt("gte", Spec::Time), opt("lt", Spec::Time), opt("lte", Spec::Time)];

/// Reads `a=1&b[c]=2` (query string and body alike) into `into`.
pub(crate) fn read(form: &str, into: &mut Vec<(String, Sent)>) -> Result<(), StripeError> {
    for pair in form.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (key, value) = (decode(key)?, decode(value)?);
        let path = segments(&key)?;
        let Some((first, rest)) = path.split_first() else { continue };
        insert(into, first, rest, value, &key)?;
    }
    Ok(())
}

fn decode(text: &str) -> Result<String, StripeError> {
    let bad = || StripeError::invalid("Invalid request: the parameters are not valid UTF-8 in form encoding.");
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let high = rest.next().and_then(hex).ok_or_else(bad)?;
                let low = rest.next().and_then(hex).ok_or_else(bad)?;
                bytes.push(high * 16 + low);
            }
            other => bytes.push(other),
        }
    }
    String::from_utf8(bytes).map_err(|_| bad())
}

fn hex(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

/// `items[0][price]` is `items`, `0`, `price`.
fn segments(key: &str) -> Result<Vec<String>, StripeError> {
    let bad = || StripeError::invalid(format!("Invalid parameter name: {key}")).param(key);
    let Some(open) = key.find('[') else { return Ok(vec![key.to_owned()]) };
    let (name, brackets) = key.split_at(open);
    let inner = brackets.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).ok_or_else(bad)?;
    let mut path = vec![name.to_owned()];
    path.extend(inner.split("][").map(str::to_owned));
    if name.is_empty() || path.len() > DEPTH_MAX || path.iter().any(|part| part.contains(['[', ']'])) {
        return Err(bad());
    }
    Ok(path)
}

fn insert(
    hash: &mut Vec<(String, Sent)>,
    name: &str,
    rest: &[String],
    value: String,
    key: &str,
) -> Result<(), StripeError> {
    let Some((next, deeper)) = rest.split_first() else {
        return put_text(hash, name, value, key);
    };
    let known = hash.iter().rposition(|(known, _)| known == name && !(name.is_empty() && taken(hash, rest)));
    let place = known.unwrap_or(hash.len());
    if known.is_none() {
        hash.push((name.to_owned(), Sent::Hash(Vec::new())));
    }
    match &mut hash[place].1 {
        Sent::Hash(inner) => insert(inner, next, deeper, value, key),
        Sent::Text(_) => Err(StripeError::invalid(format!("Invalid object: {key}")).param(key)),
    }
}

/// `items[][price]=a&items[][price]=b` are two elements: the second `price` opens a new one.
fn taken(hash: &[(String, Sent)], rest: &[String]) -> bool {
    let Some((_, Sent::Hash(last))) = hash.iter().rfind(|(name, _)| name.is_empty()) else { return true };
    matches!(rest, [only] if last.iter().any(|(name, _)| name == only))
}

fn put_text(hash: &mut Vec<(String, Sent)>, name: &str, value: String, key: &str) -> Result<(), StripeError> {
    match hash.iter_mut().find(|(known, _)| known == name && !name.is_empty()) {
        Some((_, Sent::Hash(_))) => Err(StripeError::invalid(format!("Invalid object: {key}")).param(key)),
        Some((_, old)) => {
            *old = Sent::Text(value);
            Ok(())
        }
        None => {
            hash.push((name.to_owned(), Sent::Text(value)));
            Ok(())
        }
    }
}

/// Checked parameters.
#[derive(Debug, Clone, Default)]
pub(crate) struct Params(Map<String, Value>);

impl Params {
    pub(crate) fn over(value: &Value) -> Params {
        Params(value.as_object().cloned().unwrap_or_default())
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// The same with one more, or another one in the place of one.
    pub(crate) fn with(&self, name: &str, value: Value) -> Params {
        let mut more = self.clone();
        more.0.insert(name.to_owned(), value);
        more
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).and_then(Value::as_str)
    }

    pub(crate) fn int(&self, name: &str) -> Option<i64> {
        self.0.get(name).and_then(Value::as_i64)
    }

    pub(crate) fn flag(&self, name: &str) -> Option<bool> {
        self.0.get(name).and_then(Value::as_bool)
    }

    pub(crate) fn list(&self, name: &str) -> &[Value] {
        self.0.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    /// Puts another value in the place of a member of a hash, where that is this text.
    pub(crate) fn swap(&mut self, hash: &str, name: &str, text: Option<&str>, value: &Value) {
        let member = self.0.get_mut(hash).and_then(|hash| hash.get_mut(name));
        if let Some(member) = member.filter(|member| text.is_some() && member.as_str() == text) {
            *member = value.clone();
        }
    }

    /// Text that the endpoint cannot do without.
    pub(crate) fn need(&self, name: &str) -> Result<&str, StripeError> {
        self.text(name).ok_or_else(|| StripeError::missing(name))
    }

    /// A whole number that the endpoint cannot do without.
    pub(crate) fn need_int(&self, name: &str) -> Result<i64, StripeError> {
        self.int(name).ok_or_else(|| StripeError::missing(name))
    }

    /// Copies the named parameters, where sent, over the members of the same name.
    pub(crate) fn assign(&self, object: &mut Value, names: &[&str]) {
        for name in names {
            if let Some(value) = self.0.get(*name) {
                object[*name] = value.clone();
            }
        }
    }

    /// Stripe merges metadata: an empty value removes its key, an empty string in place of the hash removes all.
    pub(crate) fn merge_metadata(&self, object: &mut Value) {
        match self.0.get("metadata") {
            None => {}
            Some(Value::Object(sent)) => {
                let mut merged = object["metadata"].as_object().cloned().unwrap_or_default();
                for (key, value) in sent {
                    match value.as_str() {
                        Some("") => merged.remove(key),
                        _ => merged.insert(key.clone(), value.clone()),
                    };
                }
                object["metadata"] = Value::Object(merged);
            }
            Some(_) => object["metadata"] = Value::Object(Map::new()),
        }
    }
}

/// Checks what was sent against what the endpoint knows; unknown names first, as Stripe does.
pub(crate) fn check(fields: &[&[Field]], sent: &[(String, Sent)]) -> Result<Params, StripeError> {
    let known = || fields.iter().flat_map(|part| part.iter());
    check_hash(&known().copied().collect::<Vec<_>>(), sent, "").map(Params)
}

fn check_hash(fields: &[Field], sent: &[(String, Sent)], path: &str) -> Result<Map<String, Value>, StripeError> {
    let known = |name: &str| fields.iter().any(|field| field.name == name);
    let unknown: Vec<String> =
        sent.iter().filter(|(name, _)| !known(name)).map(|(name, _)| under(path, name)).collect();
    if !unknown.is_empty() {
        return Err(StripeError::unknowns(&unknown));
    }
    let mut out = Map::new();
    for field in fields {
        let place = under(path, field.name);
        match sent.iter().find(|(name, _)| name == field.name) {
            Some((_, value)) => {
                if let Some(value) = check_one(field.spec, value, &place)? {
                    out.insert(field.name.to_owned(), value);
                }
            }
            None if field.required => return Err(StripeError::missing(&place)),
            None => {}
        }
    }
    Ok(out)
}

fn under(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}[{name}]") }
}

fn check_one(spec: Spec, sent: &Sent, path: &str) -> Result<Option<Value>, StripeError> {
    match (spec, sent) {
        (Spec::Ignored, _) => Ok(None),
        (Spec::Unsupported, _) => Err(StripeError::unsupported(path)),
        (Spec::Metadata, Sent::Hash(pairs)) => metadata(pairs, path).map(Some),
        (Spec::Hash(fields) | Spec::ClearableHash(fields) | Spec::Either(fields), Sent::Hash(pairs)) => {
            check_hash(fields, pairs, path).map(|hash| Some(Value::Object(hash)))
        }
        (Spec::List(inner) | Spec::ClearableList(inner), Sent::Hash(pairs)) => list(*inner, pairs, path).map(Some),
        (Spec::Anchor, Sent::Hash(pairs)) => check_hash(ANCHOR, pairs, path).map(|hash| Some(Value::Object(hash))),
        (Spec::Anchor, Sent::Text(text)) => scalar(Spec::OneOf(&["now", "unchanged"]), text, path).map(Some),
        (Spec::Range, Sent::Hash(pairs)) => check_hash(RANGE, pairs, path).map(|hash| Some(Value::Object(hash))),
        (Spec::ClearableHash(_), Sent::Text(text)) if text.is_empty() => Ok(Some(Value::Null)),
        (Spec::ClearableList(_), Sent::Text(text)) if text.is_empty() => Ok(Some(Value::Array(Vec::new()))),
        (Spec::Metadata, Sent::Text(text)) if text.is_empty() => Ok(Some(Value::Null)),
        (Spec::Hash(_) | Spec::ClearableHash(_) | Spec::Metadata, Sent::Text(_)) => {
            Err(StripeError::invalid("Invalid object").param(path))
        }
        (Spec::List(_) | Spec::ClearableList(_), Sent::Text(_)) => {
            Err(StripeError::invalid("Invalid array").param(path))
        }
        (_, Sent::Hash(_)) => Err(StripeError::invalid("Invalid string: {...}").param(path)),
        (_, Sent::Text(text)) => scalar(spec, text, path).map(Some),
    }
}

fn scalar(spec: Spec, text: &str, path: &str) -> Result<Value, StripeError> {
    match spec {
        Spec::Clearable | Spec::Email if text.is_empty() => Ok(Value::Null),
        _ if text.is_empty() => Err(StripeError::invalid(format!(
            "You passed an empty string for '{path}'. We assume empty values are an attempt to unset a parameter; \
             however '{path}' cannot be unset. You should remove '{path}' from your request or supply a non-empty value."
        ))
        .code("parameter_invalid_empty")
        .param(path)),
        Spec::Url if text.split_once("://").is_none_or(|(scheme, rest)| scheme.is_empty() || rest.is_empty()) => {
            let message = "Invalid URL: An explicit scheme (such as https) must be provided.";
            Err(StripeError::invalid(message).code("url_invalid").param(path))
        }
        Spec::Text | Spec::Clearable if text.chars().count() > LENGTH_MAX => {
            let (first, last) = (text.chars().take(10).collect::<String>(), text.chars().rev().take(5));
            let last: String = last.collect::<Vec<_>>().into_iter().rev().collect();
            let message = format!("Invalid string: {first}...{last}; must be at most {LENGTH_MAX} characters");
            Err(StripeError::invalid(message).param(path))
        }
        Spec::Email if !looks_like_email(text) => {
            Err(StripeError::invalid(format!("Invalid email address: {text}")).code("email_invalid").param(path))
        }
        Spec::Int(min, max) => integer(text, path, min, max).map(Value::from),
        Spec::Time | Spec::Range => integer(text, path, 0, 253_402_300_799).map(Value::from),
        Spec::TimeOrNow if text != "now" => integer(text, path, 0, 253_402_300_799).map(Value::from),
        Spec::Bool => match text {
            "true" => Ok(Value::Bool(true)),
            "false" => Ok(Value::Bool(false)),
            _ => Err(StripeError::invalid(format!("Invalid boolean: {text}")).param(path)),
        },
        Spec::Decimal if text.parse::<Number>().is_err() => {
            Err(StripeError::invalid(format!("Invalid decimal: {text}")).param(path))
        }
        Spec::OneOf(values) if !values.contains(&text) => {
            let list = match values.split_last() {
                Some((last, rest)) if !rest.is_empty() => format!("{}, or {last}", rest.join(", ")),
                _ => values.join(""),
            };
            Err(StripeError::invalid(format!("Invalid {path}: must be one of {list}")).param(path))
        }
        _ => Ok(Value::String(text.to_owned())),
    }
}

fn integer(text: &str, path: &str, min: i64, max: i64) -> Result<i64, StripeError> {
    let refuse = |message: String| Err(StripeError::invalid(message).code("parameter_invalid_integer").param(path));
    let digits = text.strip_prefix('-').unwrap_or(text);
    let Some(value) = digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<i64>().ok()).flatten()
    else {
        return refuse(format!("Invalid integer: {text}"));
    };
    if value < min {
        return refuse(format!("This value must be greater than or equal to {min}."));
    }
    if value > max {
        return refuse(format!("This value must be less than or equal to {max} (it currently is '{value}')."));
    }
    Ok(value)
}

fn looks_like_email(text: &str) -> bool {
    text.len() <= 512
        && text.rsplit_once('@').is_some_and(|(local, domain)| !local.is_empty() && domain.contains('.'))
        && !text.contains(char::is_whitespace)
}

fn list(spec: Spec, pairs: &[(String, Sent)], path: &str) -> Result<Value, StripeError> {
    let mut places: Vec<(usize, &Sent)> = Vec::with_capacity(pairs.len());
    for (order, (name, value)) in pairs.iter().enumerate() {
        let place = if name.is_empty() { Ok(order) } else { name.parse::<usize>() };
        places.push((place.map_err(|_| StripeError::invalid("Invalid array").param(path))?, value));
    }
    places.sort_by_key(|(place, _)| *place);
    let mut out = Vec::with_capacity(places.len());
    for (place, value) in places {
        out.extend(check_one(spec, value, &format!("{path}[{place}]"))?);
    }
    Ok(Value::Array(out))
}

fn metadata(pairs: &[(String, Sent)], path: &str) -> Result<Value, StripeError> {
    let mut out = Map::new();
    for (name, value) in pairs {
        let place = under(path, name);
        let Sent::Text(text) = value else {
            return Err(StripeError::invalid("Invalid string: {...}").param(place));
        };
        if name.chars().count() > 40 {
            return Err(StripeError::invalid(format!(
                "Metadata keys can have up to 40 characters, but you passed in a key that is {} characters. Invalid key: {name}",
                name.chars().count()
            ))
            .param(path));
        }
        if text.chars().count() > 500 {
            return Err(StripeError::invalid(format!(
                "Metadata values can have up to 500 characters, but you passed in a value that is {} characters. Invalid value: {text}",
                text.chars().count()
            ))
            .param(place));
        }
        out.insert(name.clone(), Value::String(text.clone()));
    }
    if out.len() > METADATA_MAX {
        return Err(too_much_metadata(path));
    }
    Ok(Value::Object(out))
}

/// How many keys metadata can have.
pub(crate) const METADATA_MAX: usize = 50;

pub(crate) fn too_much_metadata(path: &str) -> StripeError {
    StripeError::invalid(format!("Metadata can have up to {METADATA_MAX} keys.")).param(path)
}

/// The same parameters in any order are the same text: what an idempotency key is compared by.
pub(crate) fn canonical(sent: &[(String, Sent)]) -> String {
    let mut lines = Vec::new();
    flatten(sent, "", &mut lines);
    lines.sort();
    lines.join("\n")
}

fn flatten(sent: &[(String, Sent)], path: &str, out: &mut Vec<String>) {
    for (order, (name, value)) in sent.iter().enumerate() {
        let name = if name.is_empty() { order.to_string() } else { name.clone() };
        let place = under(path, &name);
        match value {
            Sent::Text(text) => out.push(format!("{place}={text:?}")),
            Sent::Hash(inner) => flatten(inner, &place, out),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const ITEM: &[Field] = &[req("price", Spec::Text), opt("quantity", Spec::Int(0, 100))];
    const FIELDS: &[Field] = &[
        opt("items", Spec::List(&Spec::Hash(ITEM))),
        opt("metadata", Spec::Metadata),
        opt("name", Spec::Clearable),
        opt("live", Spec::Bool),
        opt("colour", Spec::OneOf(&["red", "blue"])),
        opt("created", Spec::Range),
    ];

    fn run(form: &str) -> String {
        let mut sent = Vec::new();
        match read(form, &mut sent).and_then(|()| check(&[FIELDS], &sent)) {
            Ok(params) => Value::Object(params.0).to_string(),
            Err(error) => {
                format!("{} {}: {}", error.code.unwrap_or("-"), error.param.unwrap_or_default(), error.message)
            }
        }
    }

    #[test]
    fn brackets_become_trees() {
        for (form, expected) in [
            ("items[0][price]=a&items[0][quantity]=2", json!({"items":[{"price":"a","quantity":2}]})),
            ("items[][price]=a&items[][price]=b", json!({"items":[{"price":"a"},{"price":"b"}]})),
            ("items[1][price]=b&items[0][price]=a", json!({"items":[{"price":"a"},{"price":"b"}]})),
            ("metadata[a b]=x%20y&metadata%5Bc%5D=1%2B1", json!({"metadata":{"a b":"x y","c":"1+1"}})),
            ("metadata=", json!({"metadata":null})),
            ("name=&live=true", json!({"name":null,"live":true})),
            ("created[gte]=5&created[lt]=9", json!({"created":{"gte":5,"lt":9}})),
            ("created=7", json!({"created":7})),
            ("name=a&name=b", json!({"name":"b"})),
        ] {
            assert_eq!(run(form), expected.to_string(), "{form}");
        }
    }

    #[test]
    fn bad_parameters_are_named() {
        for (form, expected) in [
            ("nmae=x", "parameter_unknown nmae: Received unknown parameter: nmae"),
            ("items[0][prise]=x", "parameter_unknown items[0][prise]: Received unknown parameter: items[0][prise]"),
            ("items[0][quantity]=1", "parameter_missing items[0][price]: Missing required param: items[0][price]."),
            (
                "items[0][price]=a&items[0][quantity]=x",
                "parameter_invalid_integer items[0][quantity]: Invalid integer: x",
            ),
            (
                "items[0][price]=a&items[0][quantity]=101",
                "parameter_invalid_integer items[0][quantity]: This value must be less than or equal to 100 (it currently is '101').",
            ),
            ("live=yes", "- live: Invalid boolean: yes"),
            ("colour=green", "- colour: Invalid colour: must be one of red, or blue"),
            ("items=x", "- items: Invalid array"),
            ("items[a][price]=x", "- items: Invalid array"),
            ("name[a]=x", "- name: Invalid string: {...}"),
            ("name=%zz", "- : Invalid request: the parameters are not valid UTF-8 in form encoding."),
            ("items[0=x", "- items[0: Invalid parameter name: items[0"),
        ] {
            assert_eq!(run(form), expected, "{form}");
        }
    }

    #[test]
    fn order_does_not_change_the_canonical_text() {
        let text = |form: &str| {
            let mut sent = Vec::new();
            read(form, &mut sent).unwrap();
            canonical(&sent)
        };
        assert_eq!(text("a=1&b[c]=2"), text("b[c]=2&a=1"));
        assert_ne!(text("a=1&b[c]=2"), text("a=1&b[c]=3"));
        assert_ne!(text("a=1%0Ab=2"), text("a=1&b=2"));
    }
}
