//! A log of ten million entries: how long a start takes, and what a read costs, against a log of ten thousand.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::ask::Question;
use super::load::{compare, print, server};
use super::{Bench, median};
use crate::running::Running;
use crate::services::free_port;
use crate::shell::{Outcome, emptied, output, unconfigured};

const MANY: u64 = 10_000_000;
const FEW: u64 = 10_000;
const USERS: u64 = 1_000;
const STARTS: usize = 5;
const PATIENCE: Duration = Duration::from_mins(1);
const DATABASE: &str = "sqlite://history.db";
/// What is asked of one user's history.
const READS: &[&str] = &["/api/v1/billing/usage", "/api/v1/usage/events?limit=100"];

pub fn run(bench: &Bench) -> Outcome {
    let many = History::made(bench, MANY)?;
    let few = History::made(bench, FEW)?;
    println!("exec to ready with {MANY} entries: {:.0} ms (median of {STARTS})", many.start_ms(bench)?);
    println!("exec to ready with {FEW} entries: {:.0} ms (median of {STARTS})", few.start_ms(bench)?);
    let (_one, many) = many.serve(bench)?;
    let (_other, few) = few.serve(bench)?;
    let rows: Outcome<Vec<_>> = READS.iter().map(|path| compare(bench, path, &many(path), &few(path))).collect();
    print("10,000,000", "10,000", &rows?);
    Ok(())
}

/// A database with that many entries.
struct History {
    place: std::path::PathBuf,
    session: String,
}

impl History {
    fn made(bench: &Bench, events: u64) -> Outcome<History> {
        let place = emptied(bench.place.join(format!("history-{events}")))?;
        let begin = Instant::now();
        let (users, events) = (USERS.to_string(), events.to_string());
        let seed = ["bench-seed", "--subscriptions", "1", "--users", &users, "--events", &events];
        output(billhook(bench, &place).args(seed))?;
        println!("recorded {events} events in {:.1} s", begin.elapsed().as_secs_f64());
        let session = output(billhook(bench, &place).args(["session", "issue", "--user", "usr_bench_7"]))?;
        Ok(History { place, session: session.trim().to_owned() })
    }

    fn start(&self, bench: &Bench) -> Outcome<(Running, String, f64)> {
        let address = format!("127.0.0.1:{}", free_port()?);
        let mut serve = server(&bench.program)?;
        serve.args(["serve", "--listen", &address]).env("DATABASE_URL", DATABASE).current_dir(&self.place);
        let begin = Instant::now();
        let running = Running::start(serve.stdout(Stdio::null()).stderr(Stdio::null()), "TERM")?;
        super::start::wait_until_ready(&address, PATIENCE)?;
        Ok((running, address, begin.elapsed().as_secs_f64() * 1e3))
    }

    fn start_ms(&self, bench: &Bench) -> Outcome<f64> {
        let times: Outcome<Vec<f64>> = (0..STARTS).map(|_| self.start(bench).map(|(_, _, ms)| ms)).collect();
        Ok(median(times?))
    }

    fn serve(self, bench: &Bench) -> Outcome<(Running, impl Fn(&str) -> Question)> {
        let (running, address, _) = self.start(bench)?;
        let header = format!("Cookie: session_token={}", self.session);
        Ok((running, move |path: &str| Question { url: format!("http://{address}{path}"), header: header.clone() }))
    }
}

fn billhook(bench: &Bench, place: &Path) -> Command {
    let mut command = unconfigured(Command::new(&bench.program));
    command.env("DATABASE_URL", DATABASE).current_dir(place);
    command
}
