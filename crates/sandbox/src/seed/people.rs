//! Invented people. Their addresses lead nowhere: example.com, example.org and example.net are nobody's.

use crate::world::mix;
use serde_json::{Value, json};

const FIRST: [&str; 50] = [
    "Ada", "Bruno", "Chiara", "Dmitri", "Esther", "Farid", "Grace", "Hiroshi", "Inês", "Jonas", "Keiko", "Liam",
    "Maëlle", "Nnamdi", "Olga", "Pedro", "Quentin", "Ruth", "Søren", "Tala", "Umar", "Vera", "Wanjiru", "Ximena",
    "Yusuf", "Zoë", "Amara", "Björn", "Carmen", "Derek", "Elif", "Finn", "Giulia", "Hana", "Ivan", "Joyce", "Kwame",
    "Lucía", "Mei", "Noah", "Oona", "Priya", "Rafael", "Siobhán", "Tomasz", "Ulrike", "Viktor", "Willa", "Yara",
    "Zainab",
];

const LAST: [&str; 47] = [
    "Moreno",
    "Abara",
    "Becker",
    "Castillo",
    "Duarte",
    "Eriksen",
    "Fontaine",
    "Gallagher",
    "Haddad",
    "Ito",
    "Jansen",
    "Kowalski",
    "Lindqvist",
    "Marchetti",
    "Nakamura",
    "O'Brien",
    "Petrov",
    "Quispe",
    "Rosen",
    "Šimić",
    "Tanaka",
    "Underhill",
    "Varga",
    "Whitfield",
    "Xu",
    "Yilmaz",
    "Zimmermann",
    "Adeyemi",
    "Bose",
    "Chen",
    "Dubois",
    "Eze",
    "Ferrari",
    "Gupta",
    "Hughes",
    "Ivanova",
    "Jørgensen",
    "Kim",
    "Lefèvre",
    "Müller",
    "Novák",
    "Okafor",
    "Patel",
    "Ramírez",
    "Schmidt",
    "Torres",
    "Vance",
];

const CITIES: [(&str, &str, &str, Option<&str>, &str); 8] = [
    ("12 Harbour Street", "Portland", "US", Some("OR"), "97201"),
    ("Lindenstraße 4", "Köln", "DE", None, "50674"),
    ("27 rue des Lilas", "Lyon", "FR", None, "69003"),
    ("3-5-1 Jingumae", "Tokyo", "JP", None, "150-0001"),
    ("880 Alder Avenue", "Austin", "US", Some("TX"), "78701"),
    ("Rua da Rosa 61", "Lisboa", "PT", None, "1200-382"),
    ("14 Canal Walk", "Leeds", "GB", None, "LS1 4AP"),
    ("501 Maple Court", "Toronto", "CA", Some("ON"), "M5V 2T6"),
];

/// Somebody.
pub(super) struct Person {
    pub(super) name: String,
    pub(super) email: String,
}

/// The person of this number. The first 2,350 have different names, and all have different addresses.
pub(super) fn person(number: usize) -> Person {
    let (first, last) = (FIRST[number % FIRST.len()], LAST[(number + number / FIRST.len() * 7) % LAST.len()]);
    let domain = ["example.com", "example.org", "example.net"][number % 3];
    let (local, host) = (plain(first), plain(last));
    let email = match number {
        0 => format!("{local}@example.com"),
        1..150 if number % 4 == 1 => format!("{local}@{host}.{domain}"),
        1..150 => format!("{local}.{host}@{domain}"),
        _ => format!("{local}.{host}.{number}@{domain}"),
    };
    Person { name: format!("{first} {last}"), email }
}

/// Letters that any mail server takes.
fn plain(name: &str) -> String {
    let fold = |letter: char| match letter {
        'á' | 'à' => "a",
        'é' | 'è' | 'ê' | 'ë' => "e",
        'í' => "i",
        'ö' | 'ø' | 'ó' => "o",
        'ü' | 'ú' => "u",
        'š' => "s",
        'ć' => "c",
        '\'' => "",
        _ => "?",
    };
    let lower = name.to_lowercase();
    let mut out = String::with_capacity(lower.len());
    for letter in lower.chars() {
        if letter.is_ascii_alphabetic() { out.push(letter) } else { out.push_str(fold(letter)) }
    }
    out
}

/// Where the person of this number lives; not everybody says.
pub(super) fn home(number: usize) -> Value {
    if number % 5 == 3 {
        return Value::Null;
    }
    let (line1, city, country, state, postal_code) = CITIES[number % CITIES.len()];
    json!({"city": city, "country": country, "line1": line1, "line2": null, "postal_code": postal_code, "state": state})
}

/// Brand, funding, last four digits: cards as varied as a real list has them.
pub(super) fn card(number: usize) -> (&'static str, &'static str, String) {
    let (brand, funding) = match number % 12 {
        0..5 => ("visa", "credit"),
        5 => ("visa", "debit"),
        6..9 => ("mastercard", "credit"),
        9 => ("amex", "credit"),
        10 => ("discover", "credit"),
        _ => ("jcb", "credit"),
    };
    let mut state = u64::try_from(number).unwrap_or_default();
    let digits = mix(&mut state) % 9_000 + 1_000;
    // These three mean a decline among Stripe's test cards.
    let digits = if [341, 2, 9_995].contains(&digits) { 4_242 } else { digits };
    (brand, funding, if number == 0 { "4242".to_owned() } else { format!("{digits:04}") })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn the_first_150_are_different_people_with_plain_addresses() {
        let people: Vec<Person> = (0..150).map(person).collect();
        let names: HashSet<&str> = people.iter().map(|person| person.name.as_str()).collect();
        let emails: HashSet<&str> = people.iter().map(|person| person.email.as_str()).collect();
        assert_eq!((names.len(), emails.len()), (150, 150));
        assert_eq!((people[0].name.as_str(), people[0].email.as_str()), ("Ada Moreno", "ada@example.com"));
        for email in emails {
            let good = |byte: u8| byte.is_ascii_lowercase() || b".@".contains(&byte);
            assert!(email.bytes().all(good), "{email}");
            assert!([".com", ".org", ".net"].iter().any(|end| email.ends_with(&format!("example{end}"))), "{email}");
        }
    }
}
