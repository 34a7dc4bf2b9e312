//! How fast it is. Measured in release: `cargo test --release -p sandbox --test it speed -- --ignored --nocapture`.

use crate::lab::Lab;
use sandbox::Seed;
use std::time::{Duration, Instant};

const DAY: i64 = 24 * 60 * 60;

/// The number of the issue: 1,000 customers and 12 months in under 10 seconds.
#[test]
#[ignore = "a measurement: worth something in a release build only"]
fn a_thousand_customers_live_for_a_year() {
    let lab = Lab::new(Seed::Scale { customers: 1_000 });
    let begun = Instant::now();
    lab.advance(366 * DAY);
    let taken = begun.elapsed();
    let paid = lab.get("/v1/invoices?subscription=sub_scale_0000007&limit=100");
    assert_eq!(paid.rows().len(), 13);
    assert!(paid.rows().iter().all(|row| row["status"] == "paid"));
    println!("12,000 renewals in {taken:?}");
    assert!(taken < Duration::from_secs(10), "{taken:?}");
}

/// About a millisecond an answer, with a new connection for each.
#[test]
#[ignore = "a measurement: worth something in a release build only"]
fn an_answer_takes_about_a_millisecond() {
    let lab = Lab::new(Seed::Business);
    let mut taken: Vec<Duration> = (0..500)
        .map(|_| {
            let begun = Instant::now();
            assert_eq!(lab.get("/v1/subscriptions/sub_sandbox_user?expand[]=latest_invoice").status, 200);
            begun.elapsed()
        })
        .collect();
    taken.sort();
    println!("median {:?}, 99th of a hundred {:?}", taken[250], taken[495]);
    assert!(taken[250] < Duration::from_millis(2));
}
