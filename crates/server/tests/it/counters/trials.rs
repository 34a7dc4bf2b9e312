//! A trial ends at its millisecond, whoever decides.

use std::time::Duration;

use billhook::counters::Counters;
use billhook::ops::publishing::{self, proof};
use billhook::ops::reservations;
use billing::usage::{Credits, Quantity};

use super::{BOTH, CATALOGUE, Rig, code};

#[tokio::test]
async fn a_trial_is_over_from_its_end_on() {
    let five = "included_credits = \"5\"\noverage = \"block\"\n";
    let catalogue = CATALOGUE.replace(five, &format!("{five}trial_days = 14\n"));
    assert_ne!(catalogue, CATALOGUE);
    for adapter in BOTH {
        let rig = Rig::priced(adapter, &catalogue).await;
        rig.record("e1", "inference", "1").await;
        rig.world.clock.set("2026-12-06T09:59:59.999Z".parse().expect("instant"));
        assert_eq!(rig.left().await, "4", "{adapter:?}");
        rig.reserve("a", "inference", "1").await.expect("held");
        rig.reserve("b", "inference", "1").await.expect("held");
        is_published(&rig, "0").await;

        rig.world.clock.set("2026-12-06T10:00:00Z".parse().expect("instant"));
        assert_eq!(code(rig.reserve("c", "inference", "0").await), "trial.over", "{adapter:?}");
        let standing =
            reservations::check(rig.app(), &rig.user, "inference", Quantity::ZERO).await.expect("a standing");
        let refused = standing.refusal.expect("refused");
        assert_eq!((refused.code, refused.retry_after, refused.limits.len()), ("trial.over", None, 0), "{adapter:?}");
        assert_eq!((standing.remaining, standing.limits.len()), (Some(Credits::ZERO), 0), "{adapter:?}");
        is_published(&rig, "1").await;

        // What was held in time may be done.
        rig.commit("a", "1").await.expect("committed");
        rig.release("b").await.expect("released");
        rig.world.clock.set("2027-02-01T00:00:00Z".parse().expect("instant"));
        assert_eq!(code(rig.reserve("d", "inference", "1").await), "trial.over", "{adapter:?}: another month");
        is_published(&rig, "1").await;
    }
}

/// What lies in Redis is what the log says: whether the terms are over, too.
async fn is_published(rig: &Rig, over: &str) {
    let Counters::Redis(_) = &rig.app().counters else { return };
    publishing::verify(rig.app()).await.expect("published");
    assert_eq!(proof::compare(rig.app(), Duration::from_secs(5)).await.expect("compared"), [""; 0]);
    let [account, ..] = super::mended::keys(&rig.user);
    assert_eq!(rig.server.as_ref().expect("a Redis").ask(&["HGET", &account, "over"]).trim(), over);
}
