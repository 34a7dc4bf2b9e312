//! Changes as the text of a notification: a line for each, a letter and a name. An empty text says that everything may have
//! changed; so anybody at `psql` can say it with `NOTIFY billhook`.

use crate::store::Change;

/// PostgreSQL takes texts that are shorter than 8,000 bytes.
const LENGTH_MAX: usize = 7_999;

/// What cannot be said in one text, by its length or by what a name is made of, is everything.
pub(in crate::store::db) fn written(changes: &[Change]) -> String {
    let mut text = String::new();
    for change in changes {
        let (letter, name) = match change {
            Change::User(user) => ('u', user.as_str()),
            Change::Customer(customer) => ('c', customer.as_str()),
            Change::Totals => ('t', ""),
            Change::Everything => return String::new(),
        };
        if text.len() + name.len() + 2 > LENGTH_MAX || name.contains(['\n', '\0']) {
            return String::new();
        }
        text.push(letter);
        text.push_str(name);
        text.push('\n');
    }
    text
}

/// What a text says. What we do not understand, a newer version has said: then everything may have changed.
pub(in crate::store::db) fn read(text: &str) -> Vec<Change> {
    let changes: Option<Vec<Change>> = text.split_terminator('\n').map(change).collect();
    changes.filter(|changes| !changes.is_empty()).unwrap_or_else(|| vec![Change::Everything])
}

fn change(line: &str) -> Option<Change> {
    match line.split_at_checked(1)? {
        ("u", user) => Some(Change::User(user.to_owned())),
        ("c", customer) => Some(Change::Customer(customer.to_owned())),
        ("t", "") => Some(Change::Totals),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_as_it_was_or_as_everything() {
        let user = |name: &str| Change::User(name.to_owned());
        let customer = |name: &str| Change::Customer(name.to_owned());
        for (changes, expected) in [
            (vec![user("u"), customer("cus_1"), Change::Totals], "uu\nccus_1\nt\n"),
            (vec![user("")], "u\n"),
            (vec![user("naïve ü")], "unaïve ü\n"),
            (vec![user("u"), Change::Everything], ""),
            (vec![user("two\nlines")], ""),
            (vec![user("nul\0")], ""),
            (vec![user("carriage\r")], "ucarriage\r\n"),
        ] {
            let text = written(&changes);
            assert_eq!(text, expected);
            assert_eq!(read(&text), if text.is_empty() { vec![Change::Everything] } else { changes });
        }
        for text in ["", "x", "uu\nwhat is this", "t1", "\n", "é"] {
            assert_eq!(read(text), [Change::Everything], "{text:?}");
        }
    }

    #[test]
    fn a_text_is_as_long_as_a_notification_may_be_and_no_longer() {
        let named = |length: usize| written(&[Change::User("u".repeat(length))]);
        assert_eq!(named(LENGTH_MAX - 2).len(), LENGTH_MAX);
        assert_eq!(named(LENGTH_MAX - 1), "");
    }
}
