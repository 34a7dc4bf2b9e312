//! F-13: nothing can be written. Whoever records is told to come back and why, who reads is answered, `/readyz` says it, and it
//! heals by itself.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{EVENTS, Meter};
use crate::harness::database::on_server;
use crate::harness::{Database, Plan};

const PATIENCE: Duration = Duration::from_secs(30);

/// Something that keeps a database from writing, as the server itself sees it.
#[derive(Debug, Clone, Copy)]
enum Trouble {
    /// No page more.
    Full,
    /// New sessions of a PostgreSQL take nothing, like those of a standby.
    Standby,
}

impl Trouble {
    async fn begins(self, meter: &Meter) {
        match self {
            Self::Full => on_the_writer(meter, "PRAGMA max_page_count = 1").await,
            Self::Standby => read_only(&meter.world.database, "on"),
        }
    }

    async fn ends(self, meter: &Meter) {
        match self {
            Self::Full => on_the_writer(meter, "PRAGMA max_page_count = 1000000000").await,
            Self::Standby => read_only(&meter.world.database, "off"),
        }
    }

    fn told(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Full => ("storage.full", "30", "the disk is full"),
            Self::Standby => ("storage.read_only", "5", "the database is read-only"),
        }
    }
}

/// On the one connection that writes.
async fn on_the_writer(meter: &Meter, sql: &'static str) {
    meter.world.app.db.write(move |tx| tx.rows(sql, &[]).map(drop)).await.expect(sql);
}

fn read_only(database: &Database, setting: &'static str) {
    on_server(&database.address(), move |client| {
        let name: String = client.query_one("SELECT current_database()", &[]).expect("a name").get(0);
        client.batch_execute("SET default_transaction_read_only = off").expect("for us");
        let sql = format!("ALTER DATABASE {name} SET default_transaction_read_only = {setting}");
        client.batch_execute(&sql).expect("set");
        let others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
             WHERE datname = current_database() AND pid <> pg_backend_pid()";
        client.execute(others, &[]).expect("begun anew");
    });
}

/// Whether it says that it is ready, what is missing, and whether it writes.
async fn ready(meter: &Meter) -> (u16, Value, Value, Value) {
    let answer = meter.world.get_anonymous("/readyz").await;
    let told = answer.json();
    let missing = told["missing"].as_array().expect("a list").iter().map(|missing| missing["part"].clone());
    (answer.status, missing.collect(), told["facts"]["write"].clone(), told["facts"]["why_no_write"].clone())
}

fn fine() -> (u16, Value, Value, Value) {
    (200, json!([]), json!(true), Value::Null)
}

async fn until(meter: &Meter, wanted: (u16, Value, Value, Value)) {
    let end = Instant::now() + PATIENCE;
    loop {
        let told = ready(meter).await;
        if told == wanted {
            return;
        }
        assert!(Instant::now() < end, "{told:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn is_told_and_heals(database: Database, trouble: Trouble) {
    let meter = Meter::planned(Plan { stripe: None, database, ..Plan::default() }).await;
    assert_eq!(ready(&meter).await, fine());
    assert_eq!(meter.post(EVENTS, &meter.event("before").to_string()).await.status, 201);
    trouble.begins(&meter).await;
    let (code, retry_after, why) = trouble.told();
    // Whatever is free in the file is used up; then nothing goes in any more, and nothing goes in by half.
    let mut recorded = 1;
    let refused = loop {
        let batch = (0..500).map(|number| meter.event(&format!("{trouble:?}-{recorded}-{number}")));
        let answer = meter.post(EVENTS, &Value::Array(batch.collect()).to_string()).await;
        if answer.status >= 500 {
            break answer;
        }
        recorded += 500;
        assert!(recorded < 100_000, "nothing was in its way");
    };
    assert_eq!((refused.status, refused.json()["code"].as_str()), (503, Some(code)), "{}", refused.body);
    assert_eq!(refused.header("retry-after"), Some(retry_after));
    assert_eq!(ready(&meter).await, (503, json!(["write"]), json!(false), json!(why)));
    assert_eq!(meter.used("inference").await, json!(recorded * 3), "reads go on");
    trouble.ends(&meter).await;
    // Nobody records anything: it finds out by itself.
    until(&meter, fine()).await;
    assert_eq!(meter.post(EVENTS, &meter.event("after").to_string()).await.status, 201);
    assert_eq!(meter.used("inference").await, json!((recorded + 1) * 3));
}

#[tokio::test]
async fn f13_a_full_disk_is_told_and_heals() {
    is_told_and_heals(Database::sqlite(), Trouble::Full).await;
}

/// What is recorded is itself the word that there is room again: nobody waits for the next try.
#[tokio::test]
async fn f13_the_first_event_that_is_recorded_says_that_it_is_over() {
    for (database, trouble) in [(Database::sqlite(), Trouble::Full), (Database::postgres(), Trouble::Standby)] {
        let meter = Meter::planned(Plan { stripe: None, database, ..Plan::default() }).await;
        assert_eq!(meter.post(EVENTS, &meter.event("before").to_string()).await.status, 201);
        trouble.begins(&meter).await;
        let refused = meter.world.app.db.write(|tx| {
            // More than is free in a file.
            tx.run("INSERT INTO facts (name, value) VALUES ('large', ?1)", &["-".repeat(4 << 20).into()])
        });
        refused.await.expect_err("nothing is written");
        assert_eq!(ready(&meter).await.0, 503, "{trouble:?}");
        trouble.ends(&meter).await;
        assert_eq!(meter.post(EVENTS, &meter.event("after").to_string()).await.status, 201);
        assert_eq!(ready(&meter).await, fine(), "{trouble:?}");
    }
}

/// Nobody has written for a while: the next who asks finds out.
#[tokio::test]
async fn f20_a_postgres_that_takes_nothing_is_noticed_while_nobody_writes() {
    let meter = Meter::planned(Plan { stripe: None, database: Database::postgres(), ..Plan::default() }).await;
    Trouble::Standby.begins(&meter).await;
    until(&meter, (503, json!(["write"]), json!(false), json!("the database is read-only"))).await;
    Trouble::Standby.ends(&meter).await;
    until(&meter, fine()).await;
}

#[tokio::test]
async fn f20_a_postgres_that_takes_nothing_is_told_and_heals() {
    is_told_and_heals(Database::postgres(), Trouble::Standby).await;
}

/// F-20: a database that neither answers nor breaks the connection. Who probes hears it while it lasts.
#[tokio::test]
async fn f20_a_postgres_that_gives_no_answer_is_told_in_time() {
    let meter = Meter::planned(Plan { stripe: None, database: Database::postgres(), ..Plan::default() }).await;
    until(&meter, fine()).await;
    let (release, released) = std::sync::mpsc::channel::<()>();
    let (hold, held) = tokio::sync::oneshot::channel();
    let address = meter.world.database.address();
    let holder = std::thread::spawn(move || {
        let mut client = postgres::Client::connect(&address, postgres::NoTls).expect("PostgreSQL");
        client.batch_execute("BEGIN; LOCK TABLE syncs IN ACCESS EXCLUSIVE MODE").expect("held");
        hold.send(()).expect("somebody waits");
        let _ = released.recv();
    });
    held.await.expect("it holds");
    let told = meter.world.get_anonymous("/readyz").await;
    assert_eq!((told.status, &told.json()["missing"][0]["part"]), (503, &json!("database")));
    release.send(()).expect("it holds");
    holder.join().expect("the end");
    until(&meter, fine()).await;
}
