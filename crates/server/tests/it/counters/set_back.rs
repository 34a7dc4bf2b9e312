//! F-26: Redis comes back with an older day's file: positions, holds and what was resolved go backwards. Each who placed or resolved
//! something notices by their own count, whatever others have done since.

use std::time::Duration;

use billhook::ops::{publishing, reservations};

use super::lines::settled;
use super::server::Server;
use super::several::two;
use super::trace::{published, to_publish};
use super::{Adapter, Rig};

/// Ends Redis without a word and starts it with the file that was saved last.
fn set_back(server: &mut Server) {
    server.kill(0);
    server.start_again(0);
}

/// As the job does, until Redis is there.
async fn verified(rig: &Rig) {
    let mut tries = 0;
    while let Err(error) = publishing::verify(rig.app()).await {
        tries += 1;
        assert!(tries < 100, "{error}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn agrees(rig: &Rig) {
    verified(rig).await;
    billhook::ops::usage::totals::write_down(rig.app()).await.expect("written down");
    assert_eq!(billhook::ops::publishing::proof::compare(rig.app(), Duration::ZERO).await.expect("compared"), [""; 0]);
    assert_eq!(published(rig), to_publish(rig));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f26_an_old_file_of_redis_takes_back_no_hold_no_usage_and_no_release() {
    let mut rig = Rig::new(Adapter::Redis).await;
    let mut server = rig.server.take().expect("a Redis");
    rig.record("e1", "inference", "0.5").await;
    for id in ["kept", "committed", "released"] {
        rig.reserve(id, "inference", "0.5").await.expect("held");
    }
    verified(&rig).await;
    assert_eq!(server.ask(&["SAVE"]), "OK");
    rig.commit("committed", "0.5").await.expect("committed");
    rig.release("released").await.expect("released");
    rig.record("e2", "inference", "1").await;
    rig.reserve("later", "inference", "1").await.expect("held");
    verified(&rig).await;
    // 0.5 + 0.5 + 1 are used, 0.5 + 1 held: there is room for 1.5, before and after.
    assert_eq!(rig.left().await, "1.5");
    set_back(&mut server);
    assert_eq!(settled(&rig, "too much", "1.6").await, "credits.exhausted");
    assert_eq!(settled(&rig, "fits", "1.5").await, "ok");
    assert_eq!(rig.left().await, "0");
    rig.commit("later", "0.5").await.expect("committed");
    rig.release("kept").await.expect("released");
    assert_eq!(rig.left().await, "1");
    rig.server = Some(server);
    agrees(&rig).await;
}

/// Only a release came after the file was saved: it is not held again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f26_what_was_released_after_an_old_file_is_free() {
    let mut rig = Rig::new(Adapter::Redis).await;
    let mut server = rig.server.take().expect("a Redis");
    rig.reserve("released", "inference", "5").await.expect("held");
    assert_eq!(server.ask(&["SAVE"]), "OK");
    rig.release("released").await.expect("released");
    set_back(&mut server);
    assert_eq!(settled(&rig, "next", "5").await, "ok");
    rig.server = Some(server);
}

/// Two programs: what one of them has placed since does not hide what the other has lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f26_each_of_two_programs_notices_what_it_has_lost() {
    let (mut one, other) = two().await;
    let mut server = one.server.take().expect("a Redis");
    one.reserve("first", "inference", "0.5").await.expect("held");
    assert_eq!(server.ask(&["SAVE"]), "OK");
    other.reserve("of the other", "inference", "2").await.expect("held");
    one.reserve("second", "inference", "0.5").await.expect("held");
    set_back(&mut server);
    // This one puts its own back and goes further than the other had seen.
    assert_eq!(settled(&one, "third", "0.5").await, "ok");
    assert_eq!(settled(&one, "fourth", "0.5").await, "ok");
    // 2 are held here and 2 there.
    assert_eq!(settled(&other, "too much", "1.1").await, "credits.exhausted");
    assert_eq!(settled(&other, "fits", "1").await, "ok");
    assert_eq!((one.left().await, other.left().await), ("0".to_owned(), "0".to_owned()));
    one.server = Some(server);
    reservations::write_down(other.app()).await.expect("written down");
    agrees(&one).await;
}

/// The program and Redis end together, as with their machine: what was written down of reservations is held again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f26_a_restart_beside_an_old_file_holds_what_the_database_knows() {
    for is_saved in [true, false] {
        let rig = Rig::new(Adapter::Redis).await;
        if is_saved {
            rig.reserve("saved", "inference", "1").await.expect("held");
            assert_eq!(rig.server.as_ref().expect("a Redis").ask(&["SAVE"]), "OK");
        }
        for (id, amount) in [("open", "2"), ("committed", "0.5"), ("released", "1")] {
            rig.reserve(id, "inference", amount).await.expect("held");
        }
        reservations::write_down(rig.app()).await.expect("written down");
        rig.commit("committed", "0.5").await.expect("committed");
        rig.release("released").await.expect("released");
        reservations::write_down(rig.app()).await.expect("written down");
        let mut rig = rig.after_a_crash().await;
        let mut server = rig.server.take().expect("a Redis");
        set_back(&mut server);
        let (room, too_much) = if is_saved { ("1.5", "1.6") } else { ("2.5", "2.6") };
        assert_eq!(settled(&rig, "too much", too_much).await, "credits.exhausted", "{is_saved}");
        assert_eq!(settled(&rig, "fits", room).await, "ok", "{is_saved}");
        rig.commit("open", "2").await.expect("committed");
        rig.server = Some(server);
        agrees(&rig).await;
    }
}

/// F-23 with two programs: whoever publishes puts back what the database knows to be open, of all of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f23_what_another_program_had_written_down_is_held_again_after_a_flush() {
    let (one, other) = two().await;
    other.reserve("of the other", "inference", "3").await.expect("held");
    other.reserve("released", "inference", "1").await.expect("held");
    reservations::write_down(other.app()).await.expect("written down");
    other.release("released").await.expect("released");
    reservations::write_down(other.app()).await.expect("written down");
    verified(&one).await;
    one.server.as_ref().expect("a Redis").ask(&["FLUSHALL"]);
    // The other says nothing any more. This one publishes, as it does every second, before it is asked.
    verified(&one).await;
    assert_eq!(settled(&one, "too much", "2.1").await, "credits.exhausted");
    assert_eq!(settled(&one, "fits", "2").await, "ok");
    assert_eq!((one.left().await, other.left().await), ("0".to_owned(), "0".to_owned()));
}

/// What nobody but the other knows, and it says nothing: so much is given out beyond the cap, and no more, until it is asked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f23_after_a_flush_no_more_is_given_out_twice_than_others_hold_and_have_not_written_down() {
    let (one, other) = two().await;
    other.reserve("of the other", "inference", "2").await.expect("held");
    verified(&one).await;
    one.server.as_ref().expect("a Redis").ask(&["FLUSHALL"]);
    verified(&one).await;
    let mut granted = 0;
    for number in 0..60 {
        granted += usize::from(settled(&one, &format!("r{number}"), "0.1").await == "ok");
    }
    assert_eq!(granted, 50, "the cap, beside the two of the other");
    assert_eq!(settled(&other, "more", "0.1").await, "credits.exhausted");
    one.release("r0").await.expect("released");
    assert_eq!(settled(&one, "more", "0.1").await, "credits.exhausted", "what the other holds is known now");
    other.release("of the other").await.expect("released");
    assert_eq!(settled(&one, "more", "0.1").await, "ok");
}
