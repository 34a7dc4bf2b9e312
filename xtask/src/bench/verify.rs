//! Comparing the whole mirror with the sandbox, at two sizes: how long it takes, and that memory does not grow with the mirror.

use super::Bench;
use super::sync::{billhook, watched};
use crate::judges::sandbox;
use crate::shell::{Fault, Outcome, emptied};

/// Five objects of each customer: a subscription, an invoice, a charge and a card beside themselves.
const CUSTOMERS: &[&str] = &["2000", "20000"];

pub fn run(bench: &Bench) -> Outcome {
    let place = emptied(bench.place.join("verify"))?;
    for customers in CUSTOMERS {
        let place = emptied(place.join(customers))?;
        let (_sandbox, base_url) = sandbox(&bench.program, &["--customers", customers], &place.join("sandbox.log"))?;
        let sync = watched(&mut billhook(bench, &place, &base_url, "sync"))?;
        let verify = watched(&mut billhook(bench, &place, &base_url, "verify"))?;
        let outcome = verify.said.last().ok_or_else(|| Fault::Wrong("`billhook verify` said nothing".into()))?;
        println!("billhook sync: {:.1} s, peak {} MiB resident", sync.seconds, sync.peak_kib / 1024);
        println!("billhook verify: {outcome}: {:.1} s, peak {} MiB resident", verify.seconds, verify.peak_kib / 1024);
    }
    Ok(())
}
