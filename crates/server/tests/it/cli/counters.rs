//! Who decides what may be held: all that serve one database have the same counters, or each would give out every cap (I-03).

use std::time::{Duration, Instant};

use super::refused;
use crate::harness::Database;
use crate::harness::database::variable;
use crate::harness::program::{Done, Program, Running};

const SERVE: [&str; 3] = ["serve", "--listen", "127.0.0.1:0"];

fn program(database: &Database, redis: Option<&str>) -> Program {
    let program = Program::new().with("DATABASE_URL", &database.address());
    match redis {
        Some(redis) => program.with("REDIS_URL", redis),
        None => program,
    }
}

fn serving(database: &Database, redis: Option<&str>) -> Running {
    let running = program(database, redis).start(&SERVE);
    running.stderr.line("listening on");
    running
}

/// One that is not to serve beside the others.
fn ended(database: &Database, redis: Option<&str>) -> Done {
    let running = program(database, redis).start(&SERVE);
    assert_eq!(running.stderr.base_or_end(), None, "it serves with {redis:?}");
    running.wait()
}

#[test]
fn i03_two_servers_of_one_database_have_the_same_counters() {
    let (database, redis) = (Database::postgres(), variable("BILLHOOK_TEST_REDIS"));
    let address = redis.trim_end_matches('/');
    let other = format!("{address}/1");
    for (first, others) in [(None, [None, Some(&*redis)]), (Some(&*redis), [None, Some(&*other)])] {
        let running = serving(&database, first);
        for mistaken in others {
            let done = ended(&database, mistaken);
            let expected = "REDIS_URL: another billhook serve works on this database with other counters";
            assert!(refused(&done, 78).contains(expected), "{done:?}");
            assert_eq!(done.stderr.lines().count(), 1, "{done:?}");
        }
        running.stop();
    }
    let first = serving(&database, Some(&redis));
    let same = serving(&database, Some(&format!("{address}/0")));
    same.stop();
    first.stop();
    // Nobody serves any more: the counters may be others.
    serving(&database, None).stop();
}

/// Whoever was killed does not serve any more, and says so to nobody.
#[test]
fn a_killed_server_is_waited_for_and_not_for_long() {
    let database = Database::postgres();
    for _ in 0..2 {
        serving(&database, None).kill();
    }
    let start = Instant::now();
    serving(&database, None).stop();
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
}
