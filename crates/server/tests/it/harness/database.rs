//! A database for one test: a SQLite file, or a database of its own on the PostgreSQL server that the test run started.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

/// The same test on each database: `on_each_database!(it_holds);` beside an `async fn it_holds(database: Database)`.
macro_rules! on_each_database {
    ($test:ident $(, $($flavor:tt)*)?) => {
        mod $test {
            use crate::harness::Database;

            #[tokio::test($($($flavor)*)?)]
            async fn on_sqlite() {
                super::$test(Database::sqlite()).await;
            }

            #[tokio::test($($($flavor)*)?)]
            async fn on_postgres() {
                super::$test(Database::postgres()).await;
            }
        }
    };
}

static NEXT: AtomicU32 = AtomicU32::new(0);

/// Thrown away with the test.
pub enum Database {
    Sqlite(PathBuf),
    Postgres {
        server: String,
        name: String,
    },
    /// The database of somebody else, by its address: they throw it away.
    Elsewhere(String),
}

impl Database {
    pub fn sqlite() -> Self {
        let path = std::env::temp_dir().join(format!("{}.db", unique_name()));
        Self::Sqlite(path)
    }

    /// A new database on the server of `BILLHOOK_TEST_POSTGRES`.
    pub fn postgres() -> Self {
        Self::on(&variable("BILLHOOK_TEST_POSTGRES"))
    }

    /// The same on another server.
    pub fn on(server: &str) -> Self {
        let (server, name) = (server.to_owned(), unique_name());
        let sql = format!("CREATE DATABASE {name}");
        on_server(&server, move |client| client.batch_execute(&sql).expect("create database"));
        Self::Postgres { server, name }
    }

    pub fn address(&self) -> String {
        match self {
            Self::Sqlite(path) => format!("sqlite://{}", path.display()),
            Self::Postgres { server, name } => format!("{}/{name}", server.rsplit_once('/').expect("a database").0),
            Self::Elsewhere(address) => address.clone(),
        }
    }

    /// What another program does to it.
    pub fn by_others(&self, sql: &'static str) {
        match self {
            Self::Sqlite(path) => {
                let connection = rusqlite::Connection::open(path).expect("the database");
                connection.execute_batch(sql).expect(sql);
            }
            Self::Postgres { .. } | Self::Elsewhere(_) => {
                on_server(&self.address(), move |client| client.batch_execute(sql).expect(sql));
            }
        }
    }

    /// The SQLite file.
    pub fn path(&self) -> &PathBuf {
        match self {
            Self::Sqlite(path) => path,
            Self::Postgres { .. } | Self::Elsewhere(_) => panic!("not a file"),
        }
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        match self {
            Self::Sqlite(path) => {
                for suffix in ["", "-wal", "-shm"] {
                    let _ = std::fs::remove_file(format!("{}{suffix}", path.display()));
                }
            }
            Self::Postgres { server, name } => {
                let sql = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
                on_server(server, move |client| {
                    let _ = client.batch_execute(&sql);
                });
            }
            Self::Elsewhere(_) => {}
        }
    }
}

pub fn unique_name() -> String {
    format!("billhook_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A variable that `cargo xtask test` sets. Without it the test fails: nothing is skipped in silence.
#[allow(clippy::disallowed_methods, reason = "the test run says where its servers are")]
pub fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run the tests with `cargo xtask test`"))
}

/// The driver waits in its own way, so it gets a thread of its own.
pub fn on_server(server: &str, work: impl FnOnce(&mut postgres::Client) + Send + 'static) {
    let server = server.to_owned();
    std::thread::spawn(move || work(&mut postgres::Client::connect(&server, postgres::NoTls).expect("PostgreSQL")))
        .join()
        .expect("the work on the server");
}
