//! I-04: an id of the caller's own stands for one thing, whoever asks for it at the same moment, in whichever process.

use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use billhook::error::Error;
use billhook::ops::publishing;
use billhook::ops::reservations::{self, Ask, Reservation, ReservationStatus};
use futures_util::future::join_all;

use super::server::{Server, wait_for};
use super::several::{sharing, two};
use super::{Adapter, Rig, code, quantity};

const TAKEN: &str = "usage.conflict /user_id";
/// So long a claim keeps others out under which nothing is held.
const ABANDONED: Duration = Duration::from_secs(15);

async fn ask(rig: &Rig, id: &str, user: &str, amount: &str) -> Result<Reservation, Error> {
    let (id, ttl) = (Some(id.to_owned()), Duration::from_mins(5));
    let ask = Ask { id, user: user.to_owned(), kind: "inference".to_owned(), quantity: quantity(amount), ttl };
    reservations::reserve(rig.app(), ask).await
}

async fn user(rig: &Rig, name: &str) -> String {
    rig.world.user(&format!("{name}@example.com"), None, false).await.0
}

async fn left(rig: &Rig, user: &str) -> String {
    let standing = reservations::check(rig.app(), user, "inference", quantity("0")).await.expect("a standing");
    standing.remaining.expect("a limit").wire()
}

/// Each id is asked for two users at once, who are new to Redis or known there.
async fn race(name: &str, one: &Rig, other: &Rig) {
    for number in 0..40 {
        let [first, second] = [user(one, &format!("a{number}")).await, user(one, &format!("b{number}")).await];
        if number % 4 == 0 {
            left(one, &first).await;
        }
        let id = format!("race{number}");
        let (a, b) = tokio::join!(ask(one, &id, &first, "1"), ask(other, &id, &second, "1"));
        let is_first = a.is_ok();
        let mut codes = [code(a), code(b)];
        codes.sort_unstable();
        assert_eq!(codes, ["ok", TAKEN], "{name} {id}");
        let expected = if is_first { ("4".to_owned(), "5".to_owned()) } else { ("5".to_owned(), "4".to_owned()) };
        assert_eq!((left(one, &first).await, left(one, &second).await), expected, "{name} {id}");
        // Whoever was told so may commit it, wherever they come.
        let rig = if number % 2 == 0 { one } else { other };
        assert_eq!(code(rig.commit(&id, "1").await), "ok", "{name} {id}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i04_an_id_that_two_users_ask_for_at_once_is_of_one_of_them() {
    let alone = Rig::new(Adapter::Redis).await;
    race("one", &alone, &alone).await;
    for (name, server) in [("two", Server::single()), ("two in a cluster", Server::cluster())] {
        let (one, other) = sharing(server).await;
        race(name, &one, &other).await;
    }
}

/// The same where demands are refused and granted in turn, each asked for twice: whoever gives an id up that others rely on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i04_an_id_that_is_given_up_is_of_one_user_after_all() {
    let (one, other) = two().await;
    let [first, second] = [user(&one, "a").await, user(&one, "b").await];
    for (user, rest) in [(&first, "4"), (&second, "4")] {
        ask(&one, &format!("rest of {user}"), user, rest).await.expect("held");
    }
    let mut granted = [0_u32, 0];
    for number in 0..100 {
        let (id, in_the_way) = (format!("given{number}"), format!("way{number}"));
        let way = async {
            let is_held = ask(&one, &in_the_way, &first, "1").await.is_ok();
            if is_held {
                one.release(&in_the_way).await.expect("released");
            }
        };
        let (one, other, id) = (&one, &other, &id);
        let mut asked = [(one, &first), (other, &first), (one, &second), (other, &second)];
        asked.rotate_left(number % 4);
        let asking = join_all(asked.map(|(rig, user)| async move { (user, code(ask(rig, id, user, "1").await)) }));
        let ((), codes) = tokio::join!(way, asking);
        let granted_to = |user: &String| codes.iter().any(|(of, code)| *of == user && code == "ok");
        let of = [granted_to(&first), granted_to(&second)];
        assert_ne!(of, [true, true], "{id}: {codes:?}");
        let expected = ["ok", TAKEN, "credits.exhausted"];
        assert!(codes.iter().all(|(_, code)| expected.contains(&&**code)), "{id}: {codes:?}");
        granted = [granted[0] + u32::from(of[0]), granted[1] + u32::from(of[1])];
        if of != [false, false] {
            one.release(id).await.expect("released");
        }
        assert_eq!([left(one, &first).await, left(other, &second).await], ["1", "1"], "{id}: {codes:?}");
    }
    assert!(granted[0] > 0 && granted[1] > 0, "{granted:?}");
}

/// A process that sleeps or dies between its claim and its hold keeps the id from others for a while, and holds nothing after it.
#[tokio::test]
async fn i04_a_claim_of_a_process_that_stands_still_is_over_after_a_while() {
    let cases = [
        (Adapter::Redis, true, "1"),
        (Adapter::Redis, false, "1"),
        (Adapter::Redis, false, "6"),
        (Adapter::Cluster, true, "1"),
    ];
    for (adapter, is_published, amount) in cases {
        let rig = Rig::new(adapter).await;
        let server = rig.server.as_ref().expect("a Redis");
        let [sleeps, wakes] = [user(&rig, "a").await, user(&rig, "b").await];
        if is_published {
            left(&rig, &sleeps).await;
        }
        let mut asleep = pin!(ask(&rig, "mine", &sleeps, amount));
        let keys = || {
            let nodes = if adapter == Adapter::Redis { 1 } else { 3 };
            (0..nodes).any(|node| server.at(node, &["KEYS", "bh:r:mine"]).contains("mine"))
        };
        let mut steps = 0;
        while !keys() {
            let step = std::future::poll_fn(|cx| Poll::Ready(asleep.as_mut().poll(cx))).await;
            assert!(step.is_pending() && steps < 2_000, "{adapter:?}: it did not get so far");
            steps += 1;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(code(ask(&rig, "mine", &wakes, "2").await), TAKEN, "{adapter:?}");
        rig.world.clock.advance(ABANDONED);
        assert_eq!(code(ask(&rig, "mine", &wakes, "2").await), "ok", "{adapter:?}");
        let told = asleep.await;
        if is_published {
            assert_eq!(told.expect("an answer").status, ReservationStatus::Released, "{adapter:?}");
        } else {
            // An account that is new knows nothing of it. Where it has no room it gives up what is not its own any more.
            let expected = if amount == "1" { TAKEN } else { "credits.exhausted" };
            assert_eq!(code(told), expected, "{adapter:?}");
        }
        assert!(keys(), "{adapter:?}: the claim is that of whoever has the id");
        assert_eq!(code(ask(&rig, "mine", &sleeps, "1").await), TAKEN, "{adapter:?}");
        assert_eq!([left(&rig, &sleeps).await, left(&rig, &wakes).await], ["5", "3"], "{adapter:?}");
        assert_eq!(code(rig.commit("mine", "2").await), "ok", "{adapter:?}");
    }
}

/// F-23: where Redis has lost who has an id, the process that knows says so at once, and all of them once it is published again.
#[tokio::test]
async fn f23_an_id_is_taken_also_after_a_flush() {
    let (one, other) = two().await;
    let [first, second] = [user(&one, "a").await, user(&one, "b").await];
    let flush = || one.server.as_ref().expect("a Redis").ask(&["FLUSHALL"]);
    ask(&one, "mine", &first, "1").await.expect("held");
    flush();
    assert_eq!(code(ask(&one, "mine", &second, "1").await), TAKEN);
    // Whoever has the account decided puts it back.
    assert_eq!(left(&one, &first).await, "4");
    assert_eq!(code(ask(&other, "mine", &second, "1").await), TAKEN);
    // And whoever publishes puts back what the database knows, also of a process that has ended.
    reservations::write_down(one.app()).await.expect("written down");
    flush();
    publishing::verify(other.app()).await.expect("published");
    wait_for("the claim", || one.server.as_ref().expect("a Redis").ask(&["EXISTS", "bh:r:mine"]) == "1");
    assert_eq!(code(ask(&other, "mine", &second, "1").await), TAKEN);
    assert_eq!([left(&other, &first).await, left(&other, &second).await], ["4", "5"]);
}
