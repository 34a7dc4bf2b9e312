//! F-46, F-49: a month ends while many ask, and then the clock goes an hour back. The credits of each month are given out once, and what
//! was held before its end counts in the month in which it happened.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use billhook::ops::reservations::{self, Ask, Commit, Committed};
use billhook::ops::usage::{self, Verdict};
use billing::usage::Quantity;
use futures_util::future::join_all;
use jiff::Timestamp;

use super::lines::settled;
use super::several::two;
use super::{Adapter, Rig, code, quantity};
use crate::harness::{event, instant};

/// The last millisecond of November, and the first of December.
const LAST: &str = "2026-11-30T23:59:59.999Z";
const FIRST: &str = "2026-12-01T00:00:00Z";

/// Who decides about one user.
#[derive(Debug, Clone, Copy)]
enum Who {
    One(Adapter),
    /// Two programs that share PostgreSQL and Redis.
    Two,
}

const EVERYBODY: [Who; 4] =
    [Who::One(Adapter::Embedded), Who::One(Adapter::Redis), Who::One(Adapter::Cluster), Who::Two];

/// The programs at the last millisecond, with so much used in it.
async fn programs(who: Who, used: &str) -> Vec<Rig> {
    let rigs = match who {
        Who::One(adapter) => vec![Rig::new(adapter).await],
        Who::Two => {
            let (one, other) = two().await;
            // The one that has the Redis goes last.
            vec![other, one]
        }
    };
    set(&rigs, LAST);
    rigs[0].reserve("used", "inference", used).await.expect("held");
    assert!(!rigs[0].commit("used", used).await.expect("committed").late);
    rigs
}

/// All clocks show this instant.
fn set(rigs: &[Rig], at: &str) {
    for rig in rigs {
        rig.world.clock.set(instant(at));
    }
}

/// Credits that are left, by whichever program is asked.
async fn left(rigs: &[Rig]) -> String {
    let all = join_all(rigs.iter().map(Rig::left)).await;
    assert!(all.iter().all(|left| *left == all[0]), "{all:?}");
    all[0].clone()
}

/// Credits used in the month of each of the two instants, by whichever program is asked.
async fn used(rigs: &[Rig]) -> [String; 2] {
    let mut all = Vec::new();
    for rig in rigs {
        usage::following::follow_log(rig.app()).await.expect("followed");
        let slot = rig.app().book.get(&rig.user).expect("an account");
        let account = slot.lock().account.clone();
        all.push([LAST, FIRST].map(|at| account.at(instant(at).as_millisecond()).used.wire()));
    }
    assert!(all.iter().all(|used| *used == all[0]), "{all:?}");
    all[0].clone()
}

/// The log says what the accounts say, and no month has more than its five credits.
async fn adds_up(who: Who, rigs: &[Rig]) {
    for month in used(rigs).await {
        assert!(quantity(&month) <= quantity("5"), "{who:?}: {month} in a month");
    }
    for rig in rigs {
        usage::totals::write_down_now(rig.app()).await.expect("written down");
    }
    let recount = usage::recount::recount(rigs[0].app()).await.expect("a recount");
    assert!(recount.agrees(), "{who:?}: {recount:?}");
}

/// What one asked for got, and whether the first of the clocks stood still before the end of the month when the answer was there.
struct Said {
    id: String,
    code: String,
    is_before: bool,
}

/// Two hundred reservations of a tenth by forty clients. After so many answers the clock of the first program shows the new month,
/// and a few answers later that of each other one.
async fn crowd(rigs: &[Rig], round: &str, midnight_after: usize) -> Vec<Said> {
    let (answered, midnight) = (AtomicUsize::new(0), instant(FIRST));
    let clients = (0..40).map(|client| {
        let (rig, answered) = (&rigs[client % rigs.len()], &answered);
        async move {
            let mut heard = Vec::new();
            for number in 0..5 {
                let id = format!("{round}{client}-{number}");
                let code = settled(rig, &id, "0.1").await;
                heard.push(Said { id, code, is_before: rigs[0].world.now() < midnight });
                let answers = 1 + answered.fetch_add(1, Ordering::SeqCst);
                let due = rigs.iter().enumerate().find(|(place, _)| answers == midnight_after + 15 * place);
                if let Some((_, rig)) = due {
                    rig.world.clock.set(midnight);
                }
                tokio::task::yield_now().await;
            }
            heard
        }
    });
    let said: Vec<Said> = join_all(clients).await.into_iter().flatten().collect();
    assert_eq!(said.len(), 200);
    assert!(said.iter().all(|one| ["ok", "credits.exhausted"].contains(&&*one.code)));
    said
}

fn granted(said: &[Said]) -> Vec<&str> {
    said.iter().filter(|one| one.code == "ok").map(|one| &*one.id).collect()
}

async fn commit_at(rig: &Rig, id: &str, at: &str) -> Committed {
    let commit = Commit { quantity: quantity("0.1"), at: Some(instant(at)), user: None, kind: None };
    reservations::commit(rig.app(), id, commit).await.expect("committed")
}

/// F-46, I-03: all five credits were used in the last millisecond. Before midnight nobody is granted anything, and from midnight on as
/// much as a month has, once, however the answers interleave.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f46_i03_at_midnight_the_credits_are_there_again_once() {
    for who in EVERYBODY {
        let rigs = programs(who, "5").await;
        assert_eq!(left(&rigs).await, "0", "{who:?}");
        let said = crowd(&rigs, "c", 60).await;
        let (before, after): (Vec<Said>, Vec<Said>) = said.into_iter().partition(|one| one.is_before);
        assert_eq!((before.len(), granted(&before).len()), (60, 0), "{who:?}");
        assert_eq!((granted(&after).len(), left(&rigs).await.as_str()), (50, "0"), "{who:?}");

        // What was granted is used, and nothing is free again by that.
        join_all(granted(&after).iter().zip(rigs.iter().cycle()).map(|(id, rig)| rig.commit(id, "0.1"))).await;
        assert_eq!(granted(&crowd(&rigs, "d", 0).await).len(), 0, "{who:?}");
        assert_eq!(used(&rigs).await, ["5", "5"], "{who:?}");
        adds_up(who, &rigs).await;
    }
}

/// F-46, I-03: three credits were used and two are held when the month ends. They are committed while a crowd asks for the new month's,
/// with times on both sides of midnight: each counts in one month, and no month gives more than it has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f46_what_was_held_at_midnight_counts_in_one_month() {
    for who in [Who::One(Adapter::Embedded), Who::One(Adapter::Redis), Who::Two] {
        let rigs = programs(who, "3").await;
        let of = |number: usize| &rigs[number % rigs.len()];
        for number in 0..17 {
            of(number).reserve(&format!("h{number}"), "inference", "0.1").await.expect("held");
        }
        for (id, ttl) in [("short", 1), ("in grace", 7_200), ("after it", 7_200)] {
            of(0).reserve_for(id, "inference", "0.1", Duration::from_secs(ttl)).await.expect("held");
        }
        for rig in &rigs {
            assert_eq!(settled(rig, "full", "0.1").await, "credits.exhausted", "{who:?}");
        }

        // Nine in November, eight in December; each by another program than the one that holds it, where there are two.
        let (said, committed) = tokio::join!(
            crowd(&rigs, "c", 20),
            join_all((0..17).map(|number| {
                let (rig, id) = (of(number + 1), format!("h{number}"));
                async move {
                    while rig.world.now() < instant(FIRST) {
                        tokio::task::yield_now().await;
                    }
                    commit_at(rig, &id, if number % 2 == 0 { LAST } else { FIRST }).await
                }
            }))
        );
        assert!(committed.iter().all(|one| !one.late && !one.replayed), "{who:?}: {committed:?}");
        assert!(said.iter().all(|one| !one.is_before || one.code != "ok"), "{who:?}");
        assert_eq!(used(&rigs).await, ["3.9", "0.8"], "{who:?}");

        // Its time is over, so it is late; it happened in November and counts there.
        for rig in &rigs {
            rig.world.clock.advance(Duration::from_secs(1));
        }
        assert!(commit_at(of(1), "short", LAST).await.late, "{who:?}");
        assert_eq!(used(&rigs).await, ["4", "0.8"], "{who:?}");

        // 0.8 are used in December and 0.2 of November are held still: the rest is given out, to the last tenth.
        let mut all = granted(&said).len();
        assert!((30..=40).contains(&all), "{who:?}: {all}");
        for number in 0..20 {
            all += usize::from(settled(of(number), &format!("rest{number}"), "0.1").await == "ok");
        }
        assert_eq!((all, left(&rigs).await.as_str()), (40, "0"), "{who:?}");
        adds_up(who, &rigs).await;

        // An hour later November is closed. What comes then counts in December, and an event is told so.
        set(&rigs, "2026-12-01T00:59:59.999Z");
        assert!(!commit_at(of(1), "in grace", LAST).await.late, "{who:?}");
        assert_eq!(used(&rigs).await, ["4.1", "0.8"], "{who:?}");
        set(&rigs, "2026-12-01T01:00:00Z");
        assert!(!commit_at(of(1), "after it", LAST).await.late, "{who:?}: it was held still");
        assert_eq!(used(&rigs).await, ["4.1", "0.9"], "{who:?}");
        let told = vec![event("late", &of(0).user, "inference", "0.1", instant(LAST))];
        let verdicts = usage::record(of(0).app(), told).await.expect("recorded");
        assert!(matches!(verdicts[..], [Verdict::Recorded { late: true, .. }]), "{who:?}: {verdicts:?}");
        assert_eq!(used(&rigs).await, ["4.1", "1"], "{who:?}");
        adds_up(who, &rigs).await;
    }
}

/// F-49: the clock goes an hour back when the new month's credits are given out, half of them used and half of them held, and then over
/// midnight once more. Nothing is given out anew, also by the next process, and no id is made twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f49_no_credits_are_given_out_again_when_the_clock_goes_back_over_midnight() {
    for who in [Who::One(Adapter::Embedded), Who::One(Adapter::Redis), Who::Two] {
        let mut rigs = programs(who, "5").await;
        let (other, mut made) = (rigs[0].world.user("other@example.com", None, false).await.0, Vec::new());
        made.extend(ids(&rigs, &other).await);
        let said = crowd(&rigs, "c", 20).await;
        let more = granted(&crowd(&rigs, "d", 0).await).len();
        assert_eq!((granted(&said).len() + more, left(&rigs).await.as_str()), (50, "0"), "{who:?}");
        let (to_use, to_hold) = {
            let all = granted(&said);
            (all[..25].to_vec(), all[25..].to_vec())
        };
        for (id, rig) in to_use.iter().zip(rigs.iter().cycle()) {
            assert!(!rig.commit(id, "0.1").await.expect("committed").late, "{who:?}");
        }
        made.extend(ids(&rigs, &other).await);

        for (round, at) in ["2026-11-30T23:00:00Z", LAST, FIRST].into_iter().enumerate() {
            set(&rigs, at);
            // The crowd would set the clock itself.
            let asked = (0..40).map(|number| settled(&rigs[number % rigs.len()], "again", "0.1"));
            let codes: BTreeSet<String> = join_all(asked).await.into_iter().collect();
            assert_eq!(codes, BTreeSet::from(["credits.exhausted".to_owned()]), "{who:?} {at}");
            assert_eq!(left(&rigs).await, "0", "{who:?} {at}");
            made.extend(ids(&rigs, &other).await);
            assert_eq!(used(&rigs).await, ["5", "2.5"], "{who:?} {round}");
        }
        let unique: BTreeSet<&String> = made.iter().collect();
        assert_eq!((unique.len(), made.len()), (5 * 100, 5 * 100), "{who:?}");

        for (id, rig) in to_hold.iter().zip(rigs.iter().cycle()) {
            assert!(!rig.commit(id, "0.1").await.expect("committed").late, "{who:?}");
        }
        assert_eq!(used(&rigs).await, ["5", "5"], "{who:?}");
        adds_up(who, &rigs).await;
        if let Who::One(adapter) = who {
            // It begins by a clock that stands eight days before all of this.
            let rig = rigs.pop().expect("one").after_a_crash().await;
            for at in ["2026-11-30T23:00:00Z", FIRST] {
                rig.world.clock.set(instant(at));
                assert_eq!(settled(&rig, "once more", "0.1").await, "credits.exhausted", "{adapter:?} {at}");
            }
        }
    }
}

/// A hundred ids that the programs make at this instant, of nothing at all for somebody who has credits left.
async fn ids(rigs: &[Rig], user: &str) -> Vec<String> {
    let asked = (0..100).map(|number| async move {
        let (rig, ttl) = (&rigs[number % rigs.len()], Duration::from_mins(5));
        let ask = Ask { id: None, user: user.to_owned(), kind: "inference".to_owned(), quantity: Quantity::ZERO, ttl };
        reservations::reserve(rig.app(), ask).await.expect("held").id
    });
    join_all(asked).await
}

/// F-49: the account has turned to December and the clock shows November again. Whoever asks now would use November's credits, and there
/// are none.
#[tokio::test]
async fn f49_an_hour_that_comes_twice_has_no_credits_of_the_next_month() {
    for adapter in [Adapter::Embedded, Adapter::Redis] {
        let rigs = programs(Who::One(adapter), "5").await;
        let rig = &rigs[0];
        rig.world.clock.set(instant(FIRST));
        assert_eq!(rig.left().await, "5", "{adapter:?}");
        rig.reserve("first", "inference", "0.1").await.expect("held");
        rig.commit("first", "0.1").await.expect("committed");
        let back: Timestamp = instant("2026-11-30T23:00:00Z");
        rig.world.clock.set(back);
        assert_eq!(code(rig.reserve("again", "inference", "0.1").await), "credits.exhausted", "{adapter:?}");
        assert_eq!(rig.left().await, "0", "{adapter:?}");
        rig.world.clock.set(instant(FIRST));
        assert_eq!(rig.left().await, "4.9", "{adapter:?}");
    }
}
