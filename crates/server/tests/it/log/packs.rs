//! Packs whose time is over: the log says so, also of users whom nobody has asked about since.

use billhook::app::App;
use billhook::ops::usage::ids;
use billhook::ops::usage::packs;
use billhook::ops::usage::totals;
use billhook::ops::usage::upkeep::Upkeep;
use billhook::store::db::Value;
use billhook::store::log::Kind;
use billing::entry::Pack;
use billing::usage::Credits;

use super::{add_users, instant, now, program, settled, whole_log};
use crate::harness::{Database, NOW};

fn pack(name: &str, expires: &str) -> Pack {
    Pack {
        id: name.to_owned(),
        amount: Credits::parse("50").expect("credits"),
        priority: 0,
        expires_ms: Some(instant(expires).as_millisecond()),
        granted_ms: instant(NOW).as_millisecond(),
    }
}

/// Users and packs that the log says have expired.
async fn expired(app: &App) -> Vec<(String, String)> {
    let log = whole_log(app).await.into_iter().filter(|entry| entry.kind == Kind::Expire);
    let mut expired: Vec<_> = log.map(|entry| (entry.user, entry.transaction_id)).collect();
    expired.sort();
    expired
}

async fn a_pack_expires_also_where_the_account_is_not_in_memory(database: Database) {
    let clock = now();
    let app = program(&database, &clock).await;
    let mut users = add_users(&app, 3).await;
    users.sort();
    for user in &users {
        for pack in [pack("short", "2026-11-23T00:00:00Z"), pack("long", "2026-12-24T00:00:00Z")] {
            packs::grant(&app, user, &pack).await.expect("given");
        }
    }
    totals::write_down_now(&app).await.expect("written down");
    drop(app);
    clock.set(instant("2026-11-24T00:00:00Z"));
    let app = program(&database, &clock).await;
    assert!(app.book.is_empty(), "nobody has asked about them");
    let mut upkeep = Upkeep::default();
    for _ in 0..4 {
        upkeep.once(&app).await.expect("seen to");
        let short: Vec<_> = users.iter().map(|user| (user.clone(), "short".to_owned())).collect();
        assert_eq!(expired(&app).await, short);
        settled(&app).await;
    }
}

on_each_database!(a_pack_expires_also_where_the_account_is_not_in_memory);

/// One user's pack whose id stands for an entry that is not there: everybody else's expire.
#[tokio::test]
async fn a_pack_that_cannot_expire_holds_up_nobody_elses() {
    let (database, clock) = (Database::sqlite(), now());
    let app = program(&database, &clock).await;
    let mut users = add_users(&app, 3).await;
    users.sort();
    for user in &users {
        packs::grant(&app, user, &pack("short", "2026-11-23T00:00:00Z")).await.expect("given");
    }
    for user in &users[..2] {
        let id = ids::entry_id("expire", &format!("{user} short")).to_vec();
        let sql = "INSERT INTO usage_ids (day, id, position, fingerprint) VALUES (2000000000, ?1, 999999, 1)";
        app.db.write(move |tx| tx.run(sql, &[Value::Bytes(id.clone())])).await.expect("an id that leads nowhere");
    }
    totals::write_down_now(&app).await.expect("written down");
    clock.set(instant("2026-11-24T00:00:00Z"));
    // In memory, and then of those who are not.
    Upkeep::default().once(&app).await.expect("seen to");
    assert_eq!(expired(&app).await, [(users[2].clone(), "short".to_owned())]);
    drop(app);
    let app = program(&database, &clock).await;
    Upkeep::default().once(&app).await.expect("seen to");
    assert_eq!(expired(&app).await, [(users[2].clone(), "short".to_owned())]);
}
