//! The headers `RateLimit` and `RateLimit-Policy` as a client reads them: lists of strings with whole numbers as parameters, by the
//! letter of RFC 9651 (4.2.1, 4.2.3), and nothing that it would forgive.

use std::iter::Peekable;
use std::str::Chars;

use crate::harness::Answer;

type Text<'a> = Peekable<Chars<'a>>;

/// A member of a list: its text and its parameters, in order.
type Member = (String, Vec<(String, i64)>);

/// How the limits stand by both headers: `name remaining/quota t=… w=…`.
pub fn told(answer: &Answer) -> String {
    let read = |name| {
        let text = answer.header(name).unwrap_or_else(|| panic!("no {name}: {}", answer.body));
        list(text).unwrap_or_else(|| panic!("{name} is no such list: {text}"))
    };
    let (policy, state) = (read("ratelimit-policy"), read("ratelimit"));
    assert_eq!(policy.len(), state.len(), "{policy:?} {state:?}");
    let both = policy.iter().zip(&state).map(|((name, policy), (of, state))| {
        assert_eq!(name, of, "each policy has its state");
        let ([(q, quota), (w, window)], [(r, remaining), (t, reset)]) = (&policy[..], &state[..]) else {
            panic!("{policy:?} {state:?}");
        };
        assert_eq!([&**q, w, r, t], ["q", "w", "r", "t"]);
        format!("{name} {remaining}/{quota} t={reset} w={window}")
    });
    both.collect::<Vec<_>>().join(", ")
}

/// Nothing where the text is anything else.
fn list(text: &str) -> Option<Vec<Member>> {
    let text = &mut text.trim_matches(' ').chars().peekable();
    let mut members = vec![member(text)?];
    while text.peek().is_some() {
        blanks(text, &[' ', '\t']);
        text.next_if_eq(&',')?;
        blanks(text, &[' ', '\t']);
        members.push(member(text)?);
    }
    Some(members)
}

fn blanks(text: &mut Text<'_>, all: &[char]) {
    while text.next_if(|next| all.contains(next)).is_some() {}
}

fn member(text: &mut Text<'_>) -> Option<Member> {
    let name = string(text)?;
    let mut parameters: Vec<(String, i64)> = Vec::new();
    while text.next_if_eq(&';').is_some() {
        blanks(text, &[' ']);
        let key = key(text)?;
        text.next_if_eq(&'=')?;
        let value = integer(text)?;
        // A reader takes the last one; whoever says it twice has made a mistake.
        if parameters.iter().any(|(known, _)| *known == key) {
            return None;
        }
        parameters.push((key, value));
    }
    Some((name, parameters))
}

fn string(text: &mut Text<'_>) -> Option<String> {
    text.next_if_eq(&'"')?;
    let mut string = String::new();
    loop {
        match text.next()? {
            '"' => return Some(string),
            '\\' => string.push(text.next_if(|next| matches!(next, '"' | '\\'))?),
            plain @ ' '..='~' => string.push(plain),
            _ => return None,
        }
    }
}

fn key(text: &mut Text<'_>) -> Option<String> {
    let mut key = String::from(text.next_if(|next| matches!(next, 'a'..='z' | '*'))?);
    while let Some(next) = text.next_if(|next| matches!(next, 'a'..='z' | '0'..='9' | '_' | '-' | '.' | '*')) {
        key.push(next);
    }
    Some(key)
}

/// At most fifteen digits, and no fraction.
fn integer(text: &mut Text<'_>) -> Option<i64> {
    let mut digits = String::new();
    digits.extend(text.next_if_eq(&'-'));
    let sign = digits.len();
    while let Some(digit) = text.next_if(char::is_ascii_digit) {
        digits.push(digit);
    }
    ((1..=15).contains(&(digits.len() - sign)) && text.peek() != Some(&'.')).then(|| digits.parse().ok())?
}

#[test]
fn only_lists_of_strings_with_whole_numbers_are_read() {
    let one = |name: &str, parameters: &[(&str, i64)]| {
        (name.to_owned(), parameters.iter().map(|(key, value)| ((*key).to_owned(), *value)).collect::<Vec<_>>())
    };
    for (text, expected) in [
        (r#""day";q=10;w=86400"#, Some(vec![one("day", &[("q", 10), ("w", 86_400)])])),
        (
            r#" "a";x=-1 , "b\"\\";  y=999999999999999 "#,
            Some(vec![one("a", &[("x", -1)]), one("b\"\\", &[("y", 999_999_999_999_999)])]),
        ),
        (r#""a""#, Some(vec![one("a", &[])])),
        ("", None),
        ("day;q=1", None),
        (r#""a","#, None),
        (r#""a" "b""#, None),
        (r#""a";q"#, None),
        (r#""a" ;q=1"#, None),
        (r#""a";Q=1"#, None),
        (r#""a";q=1.0"#, None),
        (r#""a";q=1000000000000000"#, None),
        (r#""a";q=-"#, None),
        (r#""a";q="1""#, None),
        (r#""a";q=1;q=1"#, None),
        (r#""a";q=1x"#, None),
        (r#""a"#, None),
        (r#""\a""#, None),
        ("\"\u{e9}\"", None),
    ] {
        assert_eq!(list(text), expected, "{text}");
    }
}
