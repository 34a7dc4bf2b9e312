//! What a handle on PostgreSQL hears of what is committed beside it.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use billhook::error::Error;
use billhook::store::{Change, Db, sessions};
use tokio_postgres::AsyncMessage;

use super::{at, increment, open};
use crate::harness::Database;
use crate::harness::database::on_server;
use crate::harness::wire::{Listening, Wire};

/// A handle with everything that it has heard.
struct Listener {
    db: Db,
    heard: Arc<Mutex<Vec<Change>>>,
}

impl Listener {
    /// Listens, and has heard that others are heard.
    async fn on(database: &Database) -> Self {
        let db = open(database).await;
        let heard: Arc<Mutex<Vec<Change>>> = Arc::default();
        let ear = Arc::clone(&heard);
        db.listen(move |changes| ear.lock().expect("whole").extend_from_slice(changes));
        let listener = Self { db, heard };
        listener.until(|listener| listener.db.notices_other_writers()).await;
        listener.forget();
        listener
    }

    fn heard(&self) -> Vec<Change> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The same without what a machine that was too busy for a second makes of it.
    fn by_name(&self) -> Vec<Change> {
        self.heard().into_iter().filter(|change| *change != Change::Everything).collect()
    }

    fn everything(&self) -> bool {
        self.heard().contains(&Change::Everything)
    }

    fn forget(&self) {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    async fn until(&self, holds: impl Fn(&Self) -> bool) {
        let waiting = async {
            while !holds(self) {
                self.db.notice_other_writers();
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let in_time = tokio::time::timeout(Duration::from_secs(20), waiting).await;
        in_time.unwrap_or_else(|_| panic!("heard {:?}, silent because {:?}", self.heard(), self.db.unnoticed()));
    }
}

fn user(name: &str) -> Change {
    Change::User(name.to_owned())
}

async fn change(db: &Db, changes: Vec<Change>) {
    db.write(move |tx| {
        for change in &changes {
            tx.changed(change.clone());
        }
        increment(tx)
    })
    .await
    .expect("written");
}

#[tokio::test]
async fn changes_are_heard_by_name_in_the_order_of_their_commits_and_what_is_undone_is_not() {
    let database = Database::postgres();
    let (here, there) = (Listener::on(&database).await, open(&database).await);
    let customer = Change::Customer("cus_1".to_owned());
    change(&there, vec![user("ada"), customer.clone(), Change::Totals]).await;
    let undone: Result<(), Error> = there
        .write(|tx| {
            tx.changed(user("undone"));
            increment(tx)?;
            Err(Error::NotFound)
        })
        .await;
    undone.expect_err("undone");
    change(&there, Vec::new()).await;
    change(&there, vec![user("last")]).await;
    here.until(|here| here.heard().contains(&user("last"))).await;
    assert_eq!(here.by_name(), [user("ada"), customer, Change::Totals, user("last")]);
}

#[tokio::test]
async fn more_changes_than_one_notification_holds_are_everything() {
    let database = Database::postgres();
    let (here, there) = (Listener::on(&database).await, open(&database).await);
    // The longest text that PostgreSQL takes, and one more letter.
    for (length, fits) in [(3_996, true), (3_997, false)] {
        let mut changes = vec![user(&"a".repeat(3_999)), user(&"b".repeat(length))];
        change(&there, changes.clone()).await;
        change(&there, vec![user("last")]).await;
        here.until(|here| here.heard().contains(&user("last"))).await;
        changes.push(user("last"));
        assert_eq!(here.by_name(), if fits { changes } else { vec![user("last")] }, "{length}");
        assert!(fits || here.everything());
        here.forget();
    }
    let many = (0..5_000).map(|number| user(&format!("usr_{number}"))).collect();
    change(&there, many).await;
    here.until(Listener::everything).await;
    assert_eq!(here.by_name(), []);
}

/// What PostgreSQL passes on to somebody who listens, up to a text.
async fn told_up_to(database: &Database, last: &'static str) -> impl Future<Output = Vec<String>> {
    let address = database.address();
    let (client, mut connection) = tokio_postgres::connect(&address, tokio_postgres::NoTls).await.expect("PostgreSQL");
    let mut told: Vec<String> = Vec::new();
    let mut passed_on = async move |client: &tokio_postgres::Client| {
        let next = tokio::time::timeout(Duration::from_secs(20), poll_fn(|context| connection.poll_message(context)));
        assert!(!client.is_closed());
        match next.await.expect("a message in time").expect("a connection").expect("a message") {
            AsyncMessage::Notification(word) => Some(word.payload().to_owned()),
            _ => None,
        }
    };
    tokio::select! {
        biased;
        said = client.batch_execute("LISTEN billhook") => said.expect("listening"),
        _ = passed_on(&client) => unreachable!("nothing was said yet"),
    }
    async move {
        while told.last().is_none_or(|text| text != last) {
            told.extend(passed_on(&client).await);
        }
        told
    }
}

#[tokio::test]
async fn what_others_write_about_people_is_told_as_everything_and_ours_by_name() {
    let database = Database::postgres();
    let db = open(&database).await;
    let told = told_up_to(&database, "uada\n").await;
    for sql in [
        "INSERT INTO sessions VALUES ('hash', 'ada', 1, 2)",
        "UPDATE users SET is_admin = 0",
        "DELETE FROM service_keys",
        "TRUNCATE sessions",
        "NOTIFY billhook",
    ] {
        on_server(&database.address(), move |client| client.batch_execute(sql).expect("somebody at psql"));
    }
    db.write(|tx| sessions::add(tx, "hash", "ada", at(1), at(2))).await.expect("nothing old is shown for it");
    db.write(|tx| sessions::remove(tx, "hash")).await.expect("ended");
    assert_eq!(told.await, ["", "", "", "", "", "uada\n"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_answer_is_lost_is_heard_all_the_same() {
    let database = Database::postgres();
    let wire = Wire::to(&database).await;
    let here = Listener::on(&wire.database()).await;
    let (is_there, let_go) = wire.hold("COMMIT\0");
    let lost = here.db.write(|tx| {
        tx.changed(user("ada"));
        increment(tx)
    });
    let losing = async {
        is_there.await.expect("the answer to COMMIT");
        here.until(|here| here.by_name() == [user("ada")]).await;
        drop(let_go);
    };
    let (outcome, ()) = tokio::join!(lost, losing);
    assert!(matches!(outcome, Err(Error::Upstream { .. })), "the writer cannot know: {outcome:?}");
}

/// Nobody listens while there is nothing to be kept: a command of one second needs no connection for it.
#[tokio::test]
async fn who_answers_no_requests_does_not_listen() {
    let database = Database::postgres();
    let db = open(&database).await;
    change(&db, vec![user("ada")]).await;
    assert!(db.unnoticed().is_some_and(|why| why.contains("no request")), "{:?}", db.unnoticed());
    assert_eq!(listeners(&database), 0);
    db.notice_other_writers();
    let start = std::time::Instant::now();
    while listeners(&database) == 0 {
        assert!(start.elapsed() < Duration::from_secs(20));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// How many connections listen, as PostgreSQL sees it.
fn listeners(database: &Database) -> i64 {
    let (told, count) = std::sync::mpsc::channel();
    on_server(&database.address(), move |client| {
        let sql = "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
             AND (query LIKE '%LISTEN %' OR query LIKE '%pg_notify(''billhook%')";
        told.send(client.query_one(sql, &[]).expect("a count").get(0)).expect("somebody waits");
    });
    count.recv().expect("a count")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_heard_in_time_is_everything() {
    let database = Database::postgres();
    let wire = Wire::to(&database).await;
    let here = Listener::on(&wire.database()).await;
    for trouble in [Listening::Stalled, Listening::Deaf, Listening::Cut] {
        wire.set(trouble);
        here.until(Listener::everything).await;
        assert!(!here.db.notices_other_writers(), "{trouble:?}");
        wire.set(Listening::Open);
        here.until(|here| here.db.notices_other_writers()).await;
        here.forget();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_that_lends_connections_for_a_transaction_is_named() {
    let database = Database::postgres();
    let wire = Wire::to(&database).await;
    wire.set(Listening::Deaf);
    let db = open(&wire.database()).await;
    let start = std::time::Instant::now();
    while db.unnoticed().is_none_or(|why| !why.contains("pooler")) {
        db.notice_other_writers();
        assert!(start.elapsed() < Duration::from_secs(20), "{:?}", db.unnoticed());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
