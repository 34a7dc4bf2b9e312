//! PostgreSQL lets nobody in: whoever reads the one line knows why.

use super::refused;
use crate::harness::Database;
use crate::harness::database::{on_server, unique_name};
use crate::harness::program::Program;

/// A role of its own on the server, with this password; dropped with it.
struct Role {
    server: String,
    name: String,
}

const PASSWORD: &str = "canaryCANARY";

impl Role {
    fn of(database: &Database) -> Self {
        let role = Self { server: database.address(), name: unique_name() };
        role.administer(format!("CREATE ROLE {} LOGIN PASSWORD '{PASSWORD}'", role.name));
        role
    }

    fn administer(&self, sql: String) {
        on_server(&self.server, move |client| client.batch_execute(&sql).expect("administered"));
    }

    /// Its address of a database, with this password.
    fn address(&self, password: &str, database: Option<&str>) -> String {
        let (_, rest) = self.server.split_once('@').expect("an address with a user");
        let (host, own) = rest.rsplit_once('/').expect("a database");
        format!("postgres://{}:{password}@{host}/{}", self.name, database.unwrap_or(own))
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        let sql = format!("DROP OWNED BY {0}; DROP ROLE {0}", self.name);
        on_server(&self.server, move |client| drop(client.batch_execute(&sql)));
    }
}

fn said(address: &str, code: i32) -> String {
    let done = Program::new().with("DATABASE_URL", address).run(&["migrate"]);
    let said = refused(&done, code).to_owned();
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(!said.contains("canary"), "{said}");
    said
}

#[test]
fn f56_why_postgres_lets_nobody_in_is_said_in_its_own_words() {
    let database = Database::postgres();
    let role = Role::of(&database);
    let (good, name) = (role.address(PASSWORD, None), &role.name);
    for (address, words) in [
        (role.address("canaryWRONG", None), format!("password authentication failed for user \"{name}\" (28P01)")),
        (role.address(PASSWORD, Some("nowhere")), "database \"nowhere\" does not exist (3D000)".to_owned()),
    ] {
        let said = said(&address, 78);
        assert!(said.starts_with("billhook: DATABASE_URL: ") && said.contains(&words), "{said}");
    }
    let denied = said(&good, 78);
    assert!(denied.contains("permission denied for schema public (42501)"), "{denied}");
    role.administer(format!("ALTER ROLE {name} CONNECTION LIMIT 0"));
    let full = said(&good, 78);
    assert!(full.contains(&format!("too many connections for role \"{name}\" (53300)")), "{full}");
    let nobody = said("postgres://u:canaryCANARY@127.0.0.1:1/x", 78);
    assert!(nobody.contains("Connection refused"), "{nobody}");
}
