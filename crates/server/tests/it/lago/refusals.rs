//! What Lago does not take: single events, whole users, whole batches. Others flow, nothing is lost, and it can be sent again.

use billhook::ops::lago::setup::{self, Mode};
use billhook::ops::lago::{details, replay, status};
use billhook::ops::readiness;
use billhook::ops::usage::corrections;
use sandbox::lago::{Fault, FaultKind, Store};

use super::bench::{Bench, named, units};
use crate::harness::Database;

#[tokio::test]
async fn f43_f57_a_refused_event_is_a_dead_letter_with_its_reason_and_the_others_arrive_once() {
    for database in [Database::sqlite(), Database::postgres()] {
        let bench = Bench::bare(database, Store::Postgres).await;
        bench.make_refusing_metric("tts_call").await;
        setup::run(&bench.app, Mode::Make).await.unwrap();
        let user = bench.user("ada").await;
        for _ in 0..40 {
            bench.use_some(&user, "inference", &["1"]).await;
            bench.use_some(&user, "tts", &["5"]).await;
            bench.use_some(&user, "stt", &["0.5"]).await;
        }
        let shipped = bench.ship().await;
        assert_eq!((shipped.delivered, shipped.dead, shipped.trouble), (80, 40, None));
        assert_eq!(bench.lago.usage(&user, "inference_call"), Some(("40.0".to_owned(), 40)));
        assert_eq!(bench.lago.usage(&user, "stt_call"), Some(("20.0".to_owned(), 40)));
        let (reason, count) = details(&bench.app).await.unwrap().dead_reasons.remove(0);
        assert_eq!((count, reason.contains("expression_evaluation_failed")), (40, true), "{reason}");
        assert_eq!(status(&bench.app).await.unwrap().dead, 40);
        let letters = replay::list(&bench.app, "", 100).await.unwrap();
        assert!(letters.iter().all(|letter| letter.user == user && letter.event.contains("tts_call")));
    }
}

#[tokio::test]
async fn a_user_without_a_plan_at_lago_waits_as_dead_letters_until_somebody_sets_it_up() {
    for database in [Database::sqlite(), Database::postgres()] {
        let bench = Bench::bare(database, Store::Postgres).await;
        let user = bench.user("ada").await;
        bench.use_some(&user, "inference", &["1", "2.5"]).await;
        let shipped = bench.ship().await;
        assert_eq!((shipped.delivered, shipped.dead, shipped.trouble), (0, 2, None));
        let reason = &details(&bench.app).await.unwrap().dead_reasons[0].0;
        assert!(reason.starts_with("subscription: plan_not_found"), "{reason}");
        bench.set_up().await;
        assert_eq!(replay::ask(&bench.app, None).await.unwrap().count, 2);
        assert_eq!(bench.ship().await.delivered, 2);
        assert_eq!(status(&bench.app).await.unwrap().dead, 0);
        bench.assert_equal().await;
        assert!(replay::ask(&bench.app, Some("bh1-u-0-0")).await.is_err(), "there is no such letter");
    }
}

#[tokio::test]
async fn a_letter_that_is_sent_again_too_early_is_dead_again_and_is_one_letter() {
    let bench = Bench::bare(Database::sqlite(), Store::Postgres).await;
    let user = bench.user("ada").await;
    bench.use_some(&user, "inference", &["1"]).await;
    bench.ship().await;
    let letter = replay::list(&bench.app, "", 10).await.unwrap().remove(0);
    assert_eq!(replay::ask(&bench.app, Some(&letter.transaction_id)).await.unwrap().count, 1);
    bench.ship().await;
    let again = replay::list(&bench.app, "", 10).await.unwrap();
    assert_eq!((again.len(), again[0].replay, &again[0].transaction_id), (1, false, &letter.transaction_id));
}

#[tokio::test]
async fn a_batch_that_is_refused_as_a_whole_is_kept_and_said_aloud() {
    let bench = Bench::new(Database::sqlite(), Store::Postgres).await;
    let user = bench.user("ada").await;
    bench.use_some(&user, "inference", &["1", "2"]).await;
    for code in [422, 400] {
        bench.trouble_with_events(1, FaultKind::status(code));
        assert_eq!(bench.ship().await.trouble.expect("refused").code, "lago.batch_refused", "{code}");
        assert_eq!(status(&bench.app).await.unwrap().depth, 2, "nothing is thrown away");
    }
    bench.ship_through().await;
    bench.assert_equal().await;
}

#[tokio::test]
async fn a_proxy_that_refuses_everything_kills_nobodys_usage() {
    let bench = Bench::new(Database::sqlite(), Store::Postgres).await;
    let user = bench.user("ada").await;
    bench.use_some(&user, "inference", &["1"]).await;
    for (path, code) in [("/api/v1/customers", 400), ("/api/v1/subscriptions", 405)] {
        bench.trouble(Fault::new(path, 1, FaultKind::status(code)));
        assert!(bench.ship().await.trouble.is_some(), "{path}");
    }
    bench.ship_through().await;
    bench.assert_equal().await;
}

#[tokio::test]
async fn an_address_that_lago_finds_fault_with_costs_no_usage() {
    let bench = Bench::new(Database::sqlite(), Store::Postgres).await;
    let add = billhook::ops::users::Add {
        email: "ada@localhost".to_owned(),
        name: "Ada".to_owned(),
        tier: Some("professional".to_owned()),
        customer: None,
        admin: false,
    };
    let user = billhook::ops::users::add(&bench.app, add).await.unwrap();
    bench.use_some(&user, "inference", &["1"]).await;
    assert_eq!(bench.ship().await.dead, 0);
    bench.assert_equal().await;
}

/// What Lago never had is not taken off there.
#[tokio::test]
async fn what_takes_back_a_dead_letter_waits_with_it() {
    for database in [Database::sqlite(), Database::postgres()] {
        let bench = Bench::bare(database, Store::Postgres).await;
        let user = bench.user("ada").await;
        bench.record(vec![named("dead", &user, "7", "2026-11-20T09:00:00Z")]).await;
        assert_eq!(bench.ship().await.dead, 1);
        bench.set_up().await;
        bench.use_some(&user, "inference", &["5"]).await;
        bench.ship().await;
        corrections::void(&bench.app, "dead", None, false).await.expect("a void");
        let shipped = bench.ship().await;
        assert_eq!((shipped.delivered, shipped.dead), (0, 1));
        assert_eq!(bench.at_lago_of(&user), units("5.0", 1));
        // Sent alone it would do the same.
        let letters = replay::list(&bench.app, "", 10).await.expect("letters");
        let of_void = letters.iter().find(|letter| letter.transaction_id.starts_with("bh1-v")).expect("a letter");
        replay::ask(&bench.app, Some(&of_void.transaction_id)).await.expect("asked");
        bench.ship().await;
        assert_eq!(bench.at_lago_of(&user), units("5.0", 1));
        bench.go_to("2026-12-02T09:00:00Z");
        bench.use_some(&user, "inference", &["1"]).await;
        let of_event = letters.iter().find(|letter| letter.transaction_id.starts_with("bh1-u")).expect("a letter");
        replay::ask(&bench.app, Some(&of_event.transaction_id)).await.expect("asked");
        bench.ship().await;
        assert_eq!((bench.at_lago_of(&user), status(&bench.app).await.unwrap().dead), (units("1.0", 3), 0));
        bench.later(std::time::Duration::from_hours(1));
        bench.assert_sound().await;
    }
}

/// The same where both are in one batch.
#[tokio::test]
async fn what_takes_back_an_event_that_is_refused_beside_it_waits_with_it() {
    let bench = Bench::new(Database::sqlite(), Store::Postgres).await;
    let user = bench.user("ada").await;
    bench.record(vec![named("other", &user, "5", "2026-11-20T09:00:00Z")]).await;
    bench.record(vec![named("dead", &user, "7", "2026-11-20T09:00:00Z")]).await;
    corrections::void(&bench.app, "dead", None, false).await.expect("a void");
    let body = r#"{"code":"validation_errors","error_details":{"1":{"code":["value_is_mandatory"]}}}"#;
    bench.trouble_with_events(1, FaultKind::Answered { status: 422, body: body.to_owned() });
    let shipped = bench.ship().await;
    assert_eq!((shipped.delivered, status(&bench.app).await.unwrap().dead), (1, 2));
    assert_eq!(bench.at_lago_of(&user), units("5.0", 1));
    replay::ask(&bench.app, None).await.expect("asked");
    bench.ship().await;
    bench.assert_equal().await;
}

#[tokio::test]
async fn a_batch_that_is_too_long_for_lago_is_halved_and_the_size_is_remembered() {
    for kind in [FaultKind::BatchMax { events: 30 }, FaultKind::status(413)] {
        let bench = Bench::new(Database::sqlite(), Store::Postgres).await;
        let user = bench.user("ada").await;
        bench.use_some(&user, "inference", &vec!["1"; 250]).await;
        if kind == FaultKind::status(413) {
            bench.trouble_with_events(2, kind.clone());
        } else {
            bench.trouble(Fault::always("", kind.clone()));
        }
        assert_eq!(bench.ship().await.trouble, None, "{kind:?}");
        bench.assert_equal().await;
        let sizes: Vec<usize> = bench.batches().iter().map(|body| body.matches("transaction_id").count()).collect();
        assert_eq!(sizes, [100, 50, 25, 25, 25, 25, 25, 25, 25, 25, 25, 25], "{kind:?}");
    }
}

#[tokio::test]
async fn a_single_event_that_is_too_long_is_said_aloud() {
    let bench = Bench::new(Database::sqlite(), Store::Postgres).await;
    let user = bench.user("ada").await;
    bench.use_some(&user, "inference", &["1", "2"]).await;
    bench.trouble(Fault::always(super::bench::BATCHES, FaultKind::status(413)));
    assert_eq!(bench.ship().await.trouble.expect("refused").code, "lago.batch_refused");
    bench.lago.faults().clear();
    bench.ship_through().await;
    bench.assert_equal().await;
}

/// What broke on its way back says nothing about the batch.
#[tokio::test]
async fn a_refusal_that_cannot_be_read_is_no_refusal() {
    let bench = Bench::new(Database::sqlite(), Store::Postgres).await;
    let user = bench.user("ada").await;
    bench.use_some(&user, "inference", &["1", "2"]).await;
    bench.trouble_with_events(1, FaultKind::CommitThenClose);
    assert!(bench.ship().await.trouble.is_some());
    for kind in [
        FaultKind::CommitThenCut,
        FaultKind::Answered { status: 422, body: r#"{"status":422,"err"#.to_owned() },
        FaultKind::Answered { status: 422, body: String::new() },
    ] {
        bench.trouble_with_events(1, kind.clone());
        assert_eq!(bench.ship().await.trouble.expect("trouble").code, "lago.unavailable", "{kind:?}");
    }
    bench.ship_through().await;
    bench.assert_equal().await;
}

#[tokio::test]
async fn a_probe_is_told_that_shipping_is_refused() {
    let bench = Bench::new(Database::sqlite(), Store::Postgres).await;
    let degraded = async || -> Vec<&str> {
        readiness::look(&bench.app).await.degraded.into_iter().map(|missing| missing.part).collect()
    };
    let user = bench.user("ada").await;
    bench.use_some(&user, "inference", &["1"]).await;
    for (status, parts) in [(503, &[][..]), (422, &["lago"]), (401, &["lago"])] {
        bench.trouble_with_events(1, FaultKind::status(status));
        assert!(bench.ship().await.trouble.is_some());
        assert_eq!(degraded().await, parts, "{status}");
    }
    bench.trouble_with_events(1, FaultKind::status(503));
    bench.ship().await;
    bench.later(std::time::Duration::from_mins(6));
    assert_eq!(degraded().await, ["lago"], "nothing arrives any more");
    bench.ship_through().await;
    assert_eq!(degraded().await, [""; 0]);
}
