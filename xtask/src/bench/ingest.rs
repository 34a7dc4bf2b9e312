//! Recording events over HTTP, durable and counted once, for each second of the server's processor time, beside what its parts
//! cost at the least: taking the requests and reading the JSON, and writing the same rows with nothing around it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::{Bench, median};
use crate::running::{Running, pinned};
use crate::services::free_port;
use crate::shell::{Fault, Outcome, emptied, output, root, unconfigured};

const USERS: &str = "1000";
pub const PATIENCE: Duration = Duration::from_secs(20);
pub const CLIENT_CORE: usize = 1;
/// Events of a request, connections that send them, and the share of the composed limit that is aimed at.
const SHAPES: &[(u32, &str, f64)] = &[(1, "64", 0.60), (100, "16", 0.89), (1_000, "8", 0.89)];

pub fn run(bench: &Bench) -> Outcome {
    let place = emptied(bench.place.join("ingest"))?;
    let billhook = || {
        let mut command = unconfigured(Command::new(&bench.program));
        command.env("DATABASE_URL", "sqlite://ingest.db").current_dir(&place);
        command
    };
    output(billhook().args(["bench-seed", "--subscriptions", "1", "--users", USERS]))?;
    let key = output(billhook().args(["key", "issue", "--name", "bench", "--scope", "usage:write"]))?;
    let address = format!("127.0.0.1:{}", free_port()?);
    let mut serve = billhook();
    serve.args(["serve", "--listen", &address]).stdout(Stdio::null()).stderr(Stdio::null());
    let server = Running::start(&mut serve, "TERM")?;
    super::start::wait_until_ready(&address, PATIENCE)?;
    let header = format!("Authorization: Bearer {}", key.trim());
    println!(
        "{:<24} {:>14} {:>14} {:>14} {:>7} {:>6}",
        "events a request", "events/CPU-s", "parts, at best", "wall/s", "ratio", "aim"
    );
    for (number, (batch, connections, aim)) in SHAPES.iter().enumerate() {
        let url = format!("http://{address}/api/v1/usage/events");
        let load = Load { batch: *batch, connections, ..Load::new(&url, &header) };
        let mut rounds = Vec::new();
        for round in 0..bench.rounds {
            let parts = parts(bench, &load, &place.join(format!("raw-{number}-{round}.db")))?;
            let ours = load.shoot(bench, server.pid(), number * 100 + round)?;
            rounds.push((ours, parts));
        }
        say(&batch.to_string(), &rounds, *aim);
    }
    println!("\n{:<24} {:>14} {:>14} {:>14} {:>7} {:>6}", "", "requests/CPU-s", "bare route", "wall/s", "ratio", "aim");
    for (number, (name, path)) in [("check", "check"), ("reserve", "reservations")].into_iter().enumerate() {
        let url = format!("http://{address}/api/v1/usage/{path}");
        let load = Load { ask: Some(name), ..Load::new(&url, &header) };
        let bare = Bare::of(bench, &load)?;
        let mut rounds = Vec::new();
        for round in 0..bench.rounds {
            let bare = bare.rate(bench, &load)?;
            rounds.push((load.shoot(bench, server.pid(), 1_000 + number * 100 + round)?, bare));
        }
        say(name, &rounds, 0.88);
    }
    drop(server);
    super::held::run(bench, &place, billhook, &header)
}

/// One line of a table: the medians of what a processor answered in a second, beside what it could, and of a second on the wall.
fn say(name: &str, rounds: &[(Shot, f64)], aim: f64) {
    let over = |value: fn(&(Shot, f64)) -> f64| median(rounds.iter().map(value));
    println!(
        "{name:<24} {:>14.0} {:>14.0} {:>14.0} {:>7.2} {aim:>6.2}",
        over(|r| r.0.per_processor_second),
        over(|r| r.1),
        over(|r| r.0.per_second),
        over(|r| r.0.per_processor_second / r.1),
    );
}

/// What the parts can do together: the harmonic sum of them. The first is a route that takes the same requests and only reads
/// the events; a single event shares its commit with those that wait beside it.
fn parts(bench: &Bench, load: &Load<'_>, file: &Path) -> Outcome<f64> {
    let program = bench.program.with_file_name("examples").join("bare_log");
    let mut parse = Command::new(&program);
    let mut server = Running::start(parse.args(["parse", "127.0.0.1:0"]).stdout(Stdio::piped()), "TERM")?;
    let url = address(&mut server)?;
    let parse = Load { url: &url, ..*load }.shoot(bench, server.pid(), 1)?.per_processor_second;
    drop(server);
    let (rows, seconds) = (load.batch.max(64).to_string(), bench.seconds.to_string());
    let mut append = Command::new(&program);
    append.args(["append", &rows, &seconds, &file.display().to_string()]);
    let text = output(pinned(CLIENT_CORE, &append).stderr(Stdio::null()))?;
    let append: f64 = text.trim().parse().map_err(|_| Fault::Wrong(format!("bare_log said {text}")))?;
    for suffix in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{suffix}", file.display()));
    }
    Ok(1.0 / (1.0 / parse + 1.0 / append))
}

fn address(server: &mut Running) -> Outcome<String> {
    let url = server.lines().next_within(Duration::from_secs(10));
    url.map(|url| format!("{url}/")).ok_or_else(|| Fault::Wrong("the bare route did not start".into()))
}

/// A route that takes the same requests, reads them, and answers the same bytes as ours.
pub struct Bare {
    answer: PathBuf,
}

impl Bare {
    pub fn of(bench: &Bench, load: &Load<'_>) -> Outcome<Self> {
        let answer = bench.place.join("answer");
        let ask = r#"{"user_id":"usr_bench_1","type":"inference","quantity":1}"#;
        let mut curl = Command::new("curl");
        curl.args(["-si", "-H", load.header, "-H", "Content-Type: application/json", "-d", ask, load.url]);
        let text = output(&mut curl)?;
        if !text.starts_with("HTTP/1.1 20") {
            return Err(Fault::Wrong(format!("{} said {text}", load.url)));
        }
        std::fs::write(&answer, text).map_err(Fault::system("writing the bare route's answer"))?;
        Ok(Self { answer })
    }

    /// Requests for each processor second.
    pub fn rate(&self, bench: &Bench, load: &Load<'_>) -> Outcome<f64> {
        let mut command = Command::new(&bench.bare_route);
        command.args(["--listen", "127.0.0.1:0", "--answer"]).arg(&self.answer).stdout(Stdio::piped());
        let mut server = Running::start(&mut command, "TERM")?;
        let url = address(&mut server)?;
        Ok(Load { url: &url, ..*load }.shoot(bench, server.pid(), 1)?.per_processor_second)
    }
}

#[derive(Clone, Copy)]
pub struct Load<'a> {
    pub url: &'a str,
    pub header: &'a str,
    pub batch: u32,
    pub connections: &'a str,
    pub users: &'a str,
    /// `check`, `reserve` or `held`, which is for longer than a run: a question instead of events.
    pub ask: Option<&'a str>,
}

pub struct Shot {
    pub requests: f64,
    pub per_second: f64,
    pub per_processor_second: f64,
}

impl<'a> Load<'a> {
    pub fn new(url: &'a str, header: &'a str) -> Self {
        Self { url, header, batch: 1, connections: "64", users: USERS, ask: None }
    }

    pub fn shoot(&self, bench: &Bench, pid: u32, run: usize) -> Outcome<Shot> {
        let before = processor_seconds(pid)?;
        let text = output(self.wrk(bench, run).stdout(Stdio::piped()))?;
        if text.contains("Non-2xx") || text.contains("Socket errors") {
            return Err(Fault::Wrong(format!("wrk met trouble at {}:\n{text}", self.url)));
        }
        let requests = requests(&text)?;
        let events = requests * f64::from(self.batch);
        let seconds = f64::from(u32::try_from(bench.seconds).unwrap_or(1));
        let used = processor_seconds(pid)? - before;
        Ok(Shot { requests, per_second: events / seconds, per_processor_second: events / used })
    }

    /// The same beside something else.
    pub fn start(&self, bench: &Bench, run: usize) -> Outcome<Child> {
        self.wrk(bench, run).stdout(Stdio::piped()).spawn().map_err(Fault::system("starting wrk"))
    }

    fn wrk(&self, bench: &Bench, run: usize) -> Command {
        let mut wrk = pinned(CLIENT_CORE, &Command::new("wrk"));
        wrk.env("BATCH", self.batch.to_string()).env("RUN", run.to_string()).env("USERS", self.users);
        wrk.envs(self.ask.map(|ask| ("ASK", ask)));
        wrk.args(["-t1", "--latency", "-c", self.connections, "-d", &format!("{}s", bench.seconds)]);
        wrk.args(["-H", self.header, "-s"]).arg(root().join("xtask/src/bench/ingest.lua")).arg(self.url);
        wrk
    }
}

/// How many requests wrk says it has made.
pub fn requests(text: &str) -> Outcome<f64> {
    let line = text.lines().map(str::trim).find(|line| line.contains(" requests in "));
    let requests = line.and_then(|line| line.split(' ').next()).and_then(|word| word.parse::<f64>().ok());
    requests.ok_or_else(|| Fault::Wrong(format!("wrk said\n{text}")))
}

/// Processor time of a process so far, all threads, user and system.
pub fn processor_seconds(pid: u32) -> Outcome<f64> {
    let path = format!("/proc/{pid}/stat");
    let stat = std::fs::read_to_string(&path).map_err(Fault::system(path))?;
    let ticks: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let of = |at: usize| ticks.get(at).and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
    Ok((of(11) + of(12)) / 100.0)
}
