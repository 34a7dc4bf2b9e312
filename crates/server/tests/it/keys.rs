//! Keys of services: issued on the command line, good until they are revoked, and never more than they were issued for.

use billhook::error::Error;
use billhook::ops::keys::{self, Scope};

use crate::access::key;
use crate::harness::program::Program;
use crate::harness::{Answer, Plan, World};

const CHECKED: &str = "/api/v1/usage/events";

async fn asked(world: &World, authorization: &str) -> Answer {
    world.request("POST", CHECKED, &[("authorization", authorization)]).await
}

fn code(answer: &Answer) -> (u16, String) {
    (answer.status, answer.json()["code"].as_str().unwrap_or_default().to_owned())
}

async fn world() -> World {
    World::planned(Plan { stripe: None, ..Plan::default() }).await
}

#[tokio::test]
async fn only_the_one_bearer_header_with_a_known_key_is_a_service() {
    let world = world().await;
    let good = key(&world, Scope::UsageWrite).await;
    assert_eq!(asked(&world, &good).await.status, 415, "let in, and without a body");
    assert_eq!(asked(&world, &good.replace("Bearer", "bearer")).await.status, 415, "the scheme has no case");
    let bare = good.trim_start_matches("Bearer ").to_owned();
    for bad in [
        bare.clone(),
        format!("Basic {bare}"),
        format!("Bearer {bare}x"),
        format!("Bearer {}", &bare[..bare.len() - 1]),
        format!("Bearer {}", bare.replace("bhk_", "BHK_")),
        format!("Bearer {bare} {bare}"),
        "Bearer".to_owned(),
        "Bearer ".to_owned(),
    ] {
        let answer = asked(&world, &bad).await;
        assert_eq!(code(&answer), (401, "auth.key".to_owned()), "{bad}");
        assert_eq!(answer.header("www-authenticate"), Some("Bearer realm=\"billhook\""), "{bad}");
    }
    let twice = [("authorization", good.as_str()), ("authorization", good.as_str())];
    assert_eq!(code(&world.request("POST", CHECKED, &twice).await).0, 401);
    let session = format!("session_token={}", world.admin().await);
    assert_eq!(code(&world.request("POST", CHECKED, &[("cookie", &session)]).await), (401, "auth.key".to_owned()));
}

#[tokio::test]
async fn a_key_does_what_it_was_issued_for_and_no_more() {
    let world = world().await;
    let reader = key(&world, Scope::UsageRead).await;
    let answer = asked(&world, &reader).await;
    assert_eq!(code(&answer), (403, "auth.scope".to_owned()));
    let both = keys::issue(&world.app, "both", &[Scope::UsageRead, Scope::UsageWrite, Scope::UsageRead]).await;
    assert_eq!(asked(&world, &format!("Bearer {}", both.expect("a key"))).await.status, 415);
    let listed = keys::list(&world.app).await.expect("keys");
    assert_eq!(
        listed.iter().map(|key| key.scopes.as_str()).collect::<Vec<_>>(),
        ["usage:read", "usage:write usage:read"]
    );
    for name in ["", " ", "a\nb", &"x".repeat(101)] {
        let refused = keys::issue(&world.app, name, &[Scope::UsageRead]).await;
        assert!(matches!(refused, Err(Error::Invalid(_))), "{name:?}");
    }
    assert!(matches!(keys::issue(&world.app, "none", &[]).await, Err(Error::Invalid(_))));
}

#[tokio::test]
async fn a_revoked_key_is_good_for_nothing_from_the_next_request_on() {
    let world = world().await;
    let (first, second) = (key(&world, Scope::UsageWrite).await, key(&world, Scope::UsageWrite).await);
    let statuses = async || [asked(&world, &first).await.status, asked(&world, &second).await.status];
    assert_eq!(statuses().await, [415, 415]);
    let id = keys::list(&world.app).await.expect("keys")[0].id.clone();
    keys::revoke(&world.app, &id).await.expect("revoked");
    assert_eq!(statuses().await, [401, 415]);
    assert!(matches!(keys::revoke(&world.app, &id).await, Err(Error::NotFound)), "at most once");
}

#[tokio::test]
async fn what_another_process_revokes_is_over_here_as_well() {
    let world = world().await;
    let key = key(&world, Scope::UsageWrite).await;
    let other = rusqlite::Connection::open(world.database.path()).expect("the file");
    for (sql, status) in [
        ("UPDATE service_keys SET revoked_at = 1", 401),
        ("UPDATE service_keys SET revoked_at = NULL", 415),
        ("UPDATE service_keys SET scopes = 'usage:read'", 403),
        ("DELETE FROM service_keys", 401),
    ] {
        asked(&world, &key).await;
        other.execute(sql, []).expect(sql);
        assert_eq!(asked(&world, &key).await.status, status, "{sql}");
    }
}

#[tokio::test]
async fn the_database_holds_the_hash_and_what_cannot_be_a_key_is_not_looked_up() {
    let world = world().await;
    let good = key(&world, Scope::UsageWrite).await;
    let text = good.trim_start_matches("Bearer bhk_");
    let mut bytes = Vec::new();
    for suffix in ["", "-wal", "-shm"] {
        bytes.extend(std::fs::read(format!("{}{suffix}", world.database.path().display())).unwrap_or_default());
    }
    let held = String::from_utf8_lossy(&bytes);
    assert!(held.contains("usage:write") && !held.contains(text));
    let file = rusqlite::Connection::open(world.database.path()).expect("the file");
    file.execute_batch("ALTER TABLE service_keys RENAME TO elsewhere").expect("renamed");
    assert_eq!(asked(&world, &good).await.status, 500, "a key of the right form is looked up");
    for bad in [&good[..good.len() - 1], "Bearer x", "Bearer ' OR 1=1 --"] {
        assert_eq!(asked(&world, bad).await.status, 401, "{bad}");
    }
}

#[test]
fn the_command_line_issues_lists_and_revokes() {
    let program = Program::new();
    let done = program.run(&["key", "issue", "--name", "gateway", "--scope", "usage:write", "--scope", "usage:read"]);
    let text = done.line().to_owned();
    assert!(text.starts_with("bhk_") && text.len() == 47, "{text}");
    let listed = program.run(&["key", "list", "--json"]).objects();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0]["scopes"], serde_json::json!(["usage:write", "usage:read"]));
    assert_eq!((&listed[0]["name"], &listed[0]["revoked"]), (&"gateway".into(), &serde_json::Value::Null));
    assert!(!listed[0].to_string().contains(&text[4..]));
    let id = listed[0]["id"].as_str().expect("id");
    assert!(program.run(&["key", "list"]).line().contains("valid"));
    assert_eq!(program.run(&["key", "revoke", id]).code, Some(0));
    assert!(program.run(&["key", "list"]).line().contains("revoked"));
    for args in [&["key", "revoke", id][..], &["key", "revoke", "key_nothing"]] {
        let refused = program.run(args);
        assert_eq!(refused.code, Some(1), "{refused:?}");
        assert!(refused.stderr.contains("there is no such key"), "{refused:?}");
    }
    for args in [&["key", "issue", "--name", "x"][..], &["key", "issue", "--name", "x", "--scope", "usage:all"]] {
        assert_eq!(program.run(args).code, Some(2), "{args:?}");
    }
    for command in
        [&["key", "--help"][..], &["key", "issue", "--help"], &["key", "list", "--help"], &["key", "revoke", "--help"]]
    {
        let help = program.run(command);
        assert!((5..=24).contains(&help.stdout.lines().count()), "{help:?}");
        assert!(help.stdout.lines().all(|line| line.chars().count() <= 100), "{help:?}");
    }
}
