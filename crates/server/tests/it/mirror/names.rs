//! Ids of products, coupons and plans are the account owner's own words: one word may name one of each.

use billhook::ops::verify::{self, Mode};
use billhook::store::mirror::{Resource, Seen};
use serde_json::{Value, json};

use crate::harness::database::on_server;
use crate::harness::{Database, World};
use crate::webhooks::account::Account;
use crate::webhooks::{drain, mirrored, now, on};

const GOLDEN: [(&str, Resource); 3] =
    [("coupons", Resource::Coupons), ("products", Resource::Products), ("prices", Resource::Prices)];

/// An account in which everything that may be called "gold" is.
fn golden() -> Account {
    let account = Account::open(now() - 1_000);
    account.put("coupons", "gold", &json!({"percent_off": 50, "duration": "forever", "valid": true}));
    account.put("products", "gold", &json!({"name": "Gold"}));
    let recurring = json!({"interval": "month", "interval_count": 1, "usage_type": "licensed"});
    account.put(
        "prices",
        "gold",
        &json!({"unit_amount": 1_000, "currency": "usd", "product": "gold", "recurring": recurring, "billing_scheme": "per_unit"}),
    );
    account
}

/// What is mirrored under the word, of each list.
async fn gold(world: &World) -> Vec<Option<Value>> {
    let mut found = Vec::new();
    for (_, resource) in GOLDEN {
        found.push(mirrored(world, resource, "gold").await);
    }
    found
}

fn at_stripe(account: &Account) -> Vec<Option<Value>> {
    GOLDEN.iter().map(|(list, _)| account.object(list, "gold")).collect()
}

/// The objects in which the mirror differs.
async fn differing(world: &World) -> Vec<String> {
    let mut found = Vec::new();
    let mut tell = |one: &verify::difference::Difference| found.push(format!("{} {}", one.resource.name(), one.id));
    verify::run(&world.app, Mode::Compare, &mut tell).await.expect("compared");
    found
}

#[tokio::test]
async fn one_word_may_name_a_coupon_a_product_and_a_plan() {
    for database in [Database::sqlite(), Database::postgres()] {
        let account = golden();
        let world = on(&account, database).await;
        assert_eq!(gold(&world).await, at_stripe(&account));
        assert_eq!(differing(&world).await, Vec::<String>::new());
        // The events of one say nothing of the others: not of their state, nor of what was seen of them.
        for list in ["products", "coupons"] {
            account.inside().now += 60;
            let told = account.put(list, "gold", &json!({"name": "Goldener"}));
            assert_eq!(crate::webhooks::deliver(&world, &told.body).await.status, 200);
        }
        assert_eq!(drain(&world).await.applied, 2);
        assert_eq!(gold(&world).await, at_stripe(&account));
        // The page of one does not hide that another is gone.
        account.delete("prices", "gold");
        assert_eq!(differing(&world).await, ["prices gold"]);
    }
}

/// The schema as it was when one text stood for all of a word.
const BEFORE: [(&str, &str); 5] = [
    ("0001_foundation", include_str!("../../../src/store/migrations/0001_foundation.sql")),
    ("0002_metering", include_str!("../../../src/store/migrations/0002_metering.sql")),
    ("0003_lago", include_str!("../../../src/store/migrations/0003_lago.sql")),
    ("0004_webhooks", include_str!("../../../src/store/migrations/0004_webhooks.sql")),
    ("0005_own_tier", include_str!("../../../src/store/migrations/0005_own_tier.sql")),
];

/// What an older program had made of the account: the plan's text came last and took the place of the others.
fn made_before(account: &Account) -> String {
    let mut sql = "CREATE TABLE schema_migrations (name TEXT PRIMARY KEY);".to_owned();
    for (step, text) in BEFORE {
        sql += &format!("{text}\nINSERT INTO schema_migrations (name) VALUES ('{step}');");
    }
    for (list, resource) in GOLDEN {
        let raw = account.object(list, "gold").expect("there").to_string();
        let fingerprint = Seen { resource, id: "gold", raw: &raw, run: 1 }.fingerprint();
        let (more, values) = if list == "products" { (", metadata", ", '{}'") } else { ("", "") };
        sql += &format!(
            "INSERT INTO {list} (id, deleted, run, fingerprint{more}) VALUES ('gold', 0, 1, {fingerprint}{values});"
        );
    }
    let plan = account.object("prices", "gold").expect("there");
    sql += &format!("INSERT INTO raw_objects (id, raw) VALUES ('gold', '{plan}');");
    sql += "INSERT INTO readings (id, ticket, until_s, event_created) VALUES ('gold', 0, 7, 5);";
    sql += "INSERT INTO object_history VALUES ('gold', 1, 'products', 0, 'sync', '{\"name\":\"Silver\"}');";
    sql
}

#[tokio::test]
async fn a_database_in_which_words_have_met_is_right_after_the_next_sync() {
    for database in [Database::sqlite(), Database::postgres()] {
        let account = golden();
        let sql = made_before(&account);
        match &database {
            Database::Sqlite(path) => rusqlite::Connection::open(path).unwrap().execute_batch(&sql).unwrap(),
            Database::Postgres { .. } | Database::Elsewhere(_) => {
                let sql = sql.replace("-- only postgres: ", "").replace("INTEGER PRIMARY KEY", "BIGINT PRIMARY KEY");
                let sql = sql.replace(" BLOB", " BYTEA").replace(") WITHOUT ROWID", ")");
                on_server(&database.address(), move |client| client.batch_execute(&sql).unwrap());
            }
        }
        let world = on(&account, database).await;
        assert_eq!(gold(&world).await, at_stripe(&account));
        assert_eq!(differing(&world).await, Vec::<String>::new());
        let history = world.app.db.read(|tx| billhook::store::readings::history(tx, Resource::Products, "gold")).await;
        assert!(history.unwrap().iter().any(|before| before.raw.contains("Silver")));
    }
}
