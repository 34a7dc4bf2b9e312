//! Holds: placed once, resolved once, and always what they sum to.

use billing::hold::{Held, Hold};
use billing::usage::{Credits, Quantity};
use proptest::prelude::*;

use crate::check;

fn hold(kind: &str, quantity: i64, expires_ms: i64) -> Hold {
    let kind = kind.into();
    Hold { kind, quantity: Quantity::from_micro(quantity), credits: Credits::from_micro(2 * quantity), expires_ms }
}

fn step(held: &mut Held, step: &str) -> String {
    let words: Vec<&str> = step.split_whitespace().collect();
    let number = |at: usize| words[at].parse::<i64>().expect("a number");
    match words[0] {
        "place" => {
            held.place(words[1], hold(words[2], number(3), number(4)));
            String::from("held")
        }
        "take" => held.take(words[1]).map_or("nothing".to_owned(), |hold| hold.quantity.micro().to_string()),
        "expire" => held.expire(number(1)).to_string(),
        "end" => {
            held.end_at(words[1], number(2));
            String::from("moved")
        }
        other => panic!("{other} is no step"),
    }
}

#[test]
fn i03_a_hold_counts_once_and_is_resolved_once() {
    // What each step answers; then the credits held, and the quantity of `i`.
    check(
        "
        place a i 5 100                                         -> held; 10 5
        place a i 5 100; place a i 5 900; expire 100            -> held, held, 0; 10 5           # a new life has its own end
        place a i 5 100; place a i 6 100; take a                -> held, held, 6; 0 0
        place a i 5 100; place a tts 5 100                      -> held, held; 10 0
        place a i 5 100; take a; take a                         -> held, 5, nothing; 0 0
        place a i 5 100; take a; expire 100                     -> held, 5, 0; 0 0
        place a i 5 100; take a; place a i 9 100                -> held, 5, held; 18 9
        place a i 5 100; expire 99; expire 100; expire 100      -> held, 0, 1, 0; 0 0
        place a i 5 100; expire 100; take a                     -> held, 1, nothing; 0 0
        place a i 5 100; expire 100; place a i 5 200            -> held, 1, held; 10 5
        place a i 5 100; place b i 1 50; place c tts 7 300; expire 200 -> held, held, held, 2; 14 0
        place a i 5 100; end a 900; expire 100; expire 900      -> held, moved, 0, 1; 0 0        # kept for its commit
        place a i 5 100; end a 900; end a 100; expire 100       -> held, moved, moved, 1; 0 0    # which has failed
        place a i 5 100; take a; end a 900; expire 900          -> held, 5, moved, 0; 0 0
        end a 900; expire 900                                   -> moved, 0; 0 0
        ",
        |steps| {
            let mut held = Held::default();
            let said: Vec<String> = steps.split(';').map(|text| step(&mut held, text.trim())).collect();
            format!("{}; {} {}", said.join(", "), held.credits().micro(), held.quantity("i").micro())
        },
    );
}

#[derive(Debug, Clone)]
enum Step {
    Place(u8, bool, i64, i64),
    Take(u8),
    Expire(i64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (0..9_u8, any::<bool>(), 0..50_i64, 1..60_i64)
            .prop_map(|(id, kind, quantity, ttl)| Step::Place(id, kind, quantity, ttl)),
        (0..9_u8).prop_map(Step::Take),
        (1..30_i64).prop_map(Step::Expire),
    ];
    prop::collection::vec(step, 0..80)
}

/// What is held is the sum of the holds, by type and in all.
fn adds_up(held: &Held) -> bool {
    let sum = |of: fn(&Hold) -> i64, kind: Option<&str>| -> i64 {
        held.iter().map(|(_, hold)| hold).filter(|hold| kind.is_none_or(|kind| *hold.kind == *kind)).map(of).sum()
    };
    let kinds =
        ["i", "tts"].iter().all(|kind| held.quantity(kind).micro() == sum(|hold| hold.quantity.micro(), Some(kind)));
    kinds && held.credits().micro() == sum(|hold| hold.credits.micro(), None)
}

proptest! {
    #[test]
    fn i03_what_is_held_is_the_sum_of_the_holds(steps in steps()) {
        let (mut held, mut now_ms) = (Held::default(), 0);
        for step in steps {
            match step {
                Step::Place(id, kind, quantity, ttl) => {
                    let kind = if kind { "i" } else { "tts" };
                    held.place(id.to_string(), hold(kind, quantity, now_ms + ttl));
                }
                Step::Take(id) => {
                    let there = held.iter().find(|(held, _)| *held == id.to_string()).map(|(_, hold)| hold.clone());
                    prop_assert_eq!(held.take(&id.to_string()), there);
                }
                Step::Expire(more) => {
                    now_ms += more;
                    let due = held.iter().filter(|(_, hold)| hold.expires_ms <= now_ms).count();
                    prop_assert_eq!(held.expire(now_ms), due);
                }
            }
            prop_assert!(adds_up(&held), "{:?}", held);
        }
        held.expire(i64::MAX);
        prop_assert_eq!(held.credits(), Credits::ZERO);
        prop_assert!(held.is_empty());
    }
}
