//! Webhooks of Stripe's, distinct and signed, for each second of the server's processor time, beside a bare route that checks the
//! signature and inserts the same row. Once only taken, and once applied as well, each by its event alone.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::ask::Question;
use super::ingest::processor_seconds;
use super::load::server;
use super::{Bench, median};
use crate::judges::sandbox;
use crate::running::{Running, pinned};
use crate::services::free_port;
use crate::shell::{Fault, Outcome, emptied, output, root};

const SECRET: &str = "whsec_bench_bench_bench_bench";
const CLIENT_CORE: usize = 1;
const CONNECTIONS: &str = "64";
/// More than can be taken in a second.
const EVENTS_A_SECOND: u64 = 20_000;
const PATIENCE: Duration = Duration::from_mins(3);
const AIM: f64 = 0.6;

pub fn run(bench: &Bench) -> Outcome {
    let place = emptied(bench.place.join("webhooks"))?;
    let (_stripe, base_url) = sandbox(&bench.program, &["--empty"], &place.join("sandbox.log"))?;
    let mut rounds = Vec::new();
    for round in 0..bench.rounds {
        let place = emptied(place.join(round.to_string()))?;
        let taken = Taker::ours(bench, &emptied(place.join("taken"))?, None)?.shoot(bench, &place, "taken")?;
        let bare = Taker::bare(bench, &place)?.shoot(bench, &place, "bare")?;
        let applied =
            Taker::ours(bench, &emptied(place.join("applied"))?, Some(&base_url))?.shoot(bench, &place, "applied")?;
        rounds.push([taken, bare, applied]);
        std::fs::remove_dir_all(&place).map_err(Fault::system("removing a round"))?;
    }
    let over = |value: fn(&[Shot; 3]) -> f64| median(rounds.iter().map(value));
    println!("{:<28} {:>14} {:>10} {:>7} {:>6}", "", "webhooks/CPU-s", "wall/s", "ratio", "aim");
    let row = |name: &str, cpu: f64, wall: f64, ratio: f64, aim: &str| {
        println!("{name:<28} {cpu:>14.0} {wall:>10.0} {ratio:>7.2} {aim:>6}");
    };
    let aim = AIM.to_string();
    row("bare check and insert", over(|r| r[1].cpu), over(|r| r[1].wall), 1.0, "");
    row("taken", over(|r| r[0].cpu), over(|r| r[0].wall), over(|r| r[0].cpu / r[1].cpu), &aim);
    row("taken and applied", over(|r| r[2].cpu), over(|r| r[2].wall), over(|r| r[2].cpu / r[1].cpu), "");
    Ok(())
}

/// Webhooks for each second.
struct Shot {
    cpu: f64,
    wall: f64,
}

/// A running server that takes webhooks.
struct Taker {
    running: Running,
    url: String,
    /// Where is asked how many still wait.
    ready: Option<String>,
}

impl Taker {
    fn ours(bench: &Bench, place: &Path, stripe: Option<&str>) -> Outcome<Taker> {
        let address = format!("127.0.0.1:{}", free_port()?);
        let mut command = server(&bench.program)?;
        command.args(["serve", "--listen", &address]).env("DATABASE_URL", "sqlite://webhooks.db").current_dir(place);
        command.env("STRIPE_WEBHOOK_SECRET", SECRET);
        if let Some(base_url) = stripe {
            command.env("STRIPE_SECRET_KEY", "sk_test_bench").env("STRIPE_API_BASE", base_url);
        }
        let running = Running::start(command.stdout(Stdio::null()).stderr(Stdio::null()), "TERM")?;
        super::start::wait_until_ready(&address, PATIENCE)?;
        let ready = stripe.map(|_| format!("http://{address}/readyz"));
        Ok(Taker { running, url: format!("http://{address}/api/v1/webhooks/stripe"), ready })
    }

    fn bare(bench: &Bench, place: &Path) -> Outcome<Taker> {
        let mut command = server(&yardstick(bench))?;
        command.args(["serve", "127.0.0.1:0"]).arg(place.join("bare.db")).stdout(Stdio::piped());
        let mut running = Running::start(&mut command, "TERM")?;
        let url = running.lines().next_within(Duration::from_secs(10));
        let url = url.ok_or_else(|| Fault::Wrong("the bare route did not start".into()))?;
        Ok(Taker { running, url: format!("{url}/"), ready: None })
    }

    fn shoot(self, bench: &Bench, place: &Path, run: &str) -> Outcome<Shot> {
        let events = place.join("events");
        let count = (EVENTS_A_SECOND * bench.seconds).to_string();
        let signed = output(Command::new(yardstick(bench)).args(["events", run, &count]))?;
        std::fs::write(&events, signed).map_err(Fault::system("writing the events"))?;
        let (before, begin) = (processor_seconds(self.running.pid())?, Instant::now());
        let mut wrk = pinned(CLIENT_CORE, &Command::new("wrk"));
        wrk.env("EVENTS", &events).args(["-t1", "-c", CONNECTIONS, "-d", &format!("{}s", bench.seconds), "-s"]);
        let text = output(wrk.arg(root().join("xtask/src/bench/webhooks.lua")).arg(&self.url))?;
        if text.contains("Non-2xx") || text.contains("Socket errors") {
            return Err(Fault::Wrong(format!("wrk met trouble at {}:\n{text}", self.url)));
        }
        let line = text.lines().map(str::trim).find(|line| line.contains(" requests in "));
        let taken = line.and_then(|line| line.split(' ').next()).and_then(|word| word.parse::<f64>().ok());
        let taken = taken.ok_or_else(|| Fault::Wrong(format!("wrk said\n{text}")))?;
        self.wait_until_applied()?;
        let used = processor_seconds(self.running.pid())? - before;
        Ok(Shot { cpu: taken / used, wall: taken / begin.elapsed().as_secs_f64() })
    }

    fn wait_until_applied(&self) -> Outcome {
        let Some(url) = &self.ready else { return Ok(()) };
        let ready = Question { url: url.clone(), header: String::new() };
        let begin = Instant::now();
        while ready.json()?["facts"]["webhooks"]["waiting"].as_u64() != Some(0) {
            if begin.elapsed() > PATIENCE {
                return Err(Fault::Wrong("the webhooks were not applied".into()));
            }
            sleep(Duration::from_millis(50));
        }
        Ok(())
    }
}

fn yardstick(bench: &Bench) -> PathBuf {
    bench.program.with_file_name("examples").join("bare_webhooks")
}
