//! A million accounts in Redis, and all of it forgotten at once: how long until every account is there again, what events meet
//! meanwhile, and what whoever asks for credits is told.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::ingest::Load;
use super::{Bench, median};
use crate::running::{Running, tied};
use crate::services::free_port;
use crate::shell::{Fault, Outcome, emptied, output, unconfigured};
use crate::tools;

const USERS: &str = "1000000";
/// The accounts lie in so many parts, each with a mark of the position at which it stands, set when all of the part is there.
const SHARDS: usize = 1_024;
const PATIENCE: Duration = Duration::from_mins(10);
const AIM: Duration = Duration::from_secs(40);

pub fn run(bench: &Bench) -> Outcome {
    let place = emptied(bench.place.join("flush"))?;
    let billhook = || {
        let mut command = unconfigured(Command::new(&bench.program));
        command.env("DATABASE_URL", "sqlite://flush.db").current_dir(&place);
        command
    };
    output(billhook().args(["bench-seed", "--subscriptions", "1", "--users", USERS, "--events", USERS]))?;
    let key = output(billhook().args(["key", "issue", "--name", "bench", "--scope", "usage:write"]))?;
    let redis = Redis::start(&place)?;
    let address = format!("127.0.0.1:{}", free_port()?);
    let mut serve = billhook();
    serve.env("REDIS_URL", format!("redis://{}", redis.address)).args(["serve", "--listen", &address]);
    let begin = Instant::now();
    let server = Running::start(serve.stdout(Stdio::null()).stderr(Stdio::null()), "TERM")?;
    super::start::wait_until_ready(&address, PATIENCE)?;
    println!("ready after {:.1} s", begin.elapsed().as_secs_f64());
    redis.wait_until_whole()?;
    println!("{USERS} accounts were published {:.1} s after the start", begin.elapsed().as_secs_f64());

    let header = format!("Authorization: Bearer {}", key.trim());
    let events = format!("http://{address}/api/v1/usage/events");
    let ingest = Load { batch: 100, connections: "4", ..Load::new(&events, &header) };
    let calm: Outcome<Vec<f64>> =
        (0..bench.rounds).map(|round| Ok(ingest.shoot(bench, server.pid(), round)?.per_second)).collect();
    let is_over = AtomicBool::new(false);
    let (whole, meanwhile, answers) = std::thread::scope(|scope| {
        let recording = scope.spawn(|| -> Outcome<Vec<f64>> {
            let mut rates = Vec::new();
            while !is_over.load(Ordering::SeqCst) {
                rates.push(ingest.shoot(bench, server.pid(), 10_000 + rates.len())?.per_second);
            }
            Ok(rates)
        });
        let asking = scope.spawn(|| reserve_until(&is_over, &address, &header));
        let begin = Instant::now();
        let whole = redis.ask("FLUSHALL").and_then(|_| redis.wait_until_whole()).map(|()| begin.elapsed());
        is_over.store(true, Ordering::SeqCst);
        (whole, recording.join(), asking.join())
    });
    let panicked = |_| Fault::Wrong("a client of the bench panicked".into());
    println!("after FLUSHALL all accounts were there again in {:.1} s (aim {} s)", whole?.as_secs_f64(), AIM.as_secs());
    let (calm, meanwhile) = (median(calm?), median(meanwhile.map_err(panicked)??));
    println!("events a second: {calm:.0} before, {meanwhile:.0} meanwhile");
    let (answers, slowest) = answers.map_err(panicked)?.map_err(Fault::system("reserving"))?;
    println!("reservations meanwhile, by status: {answers:?}; the slowest took {} ms", slowest.as_millis());
    Ok(())
}

/// Reserves for one user after the other, all over the shards; how often which status came, and how long the slowest took.
fn reserve_until(
    is_over: &AtomicBool,
    address: &str,
    header: &str,
) -> std::io::Result<(BTreeMap<String, usize>, Duration)> {
    let (mut answers, mut slowest) = (BTreeMap::new(), Duration::ZERO);
    let mut user = 0_u64;
    while !is_over.load(Ordering::SeqCst) {
        user = (user + 7_919) % 1_000_000;
        let body = format!(r#"{{"user_id":"usr_bench_{user}","type":"inference","quantity":1,"ttl_seconds":1}}"#);
        let head =
            format!("POST /api/v1/usage/reservations HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{header}\r\n");
        let begin = Instant::now();
        let mut stream = TcpStream::connect(address)?;
        stream.write_all(
            format!("{head}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len()).as_bytes(),
        )?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line)?;
        slowest = slowest.max(begin.elapsed());
        *answers.entry(line.split(' ').nth(1).unwrap_or_default().to_owned()).or_default() += 1;
        sleep(Duration::from_millis(5));
    }
    Ok((answers, slowest))
}

struct Redis {
    address: String,
    _running: Running,
}

impl Redis {
    fn start(place: &std::path::Path) -> Outcome<Redis> {
        let port = free_port()?;
        let mut command = tied(&tools::redis()?, None)?;
        command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", "", "--appendonly", "no"]);
        let running = Running::start(command.current_dir(place).stdout(Stdio::null()).stderr(Stdio::null()), "TERM")?;
        let redis = Redis { address: format!("127.0.0.1:{port}"), _running: running };
        wait_for("Redis", || redis.ask("PING").is_ok_and(|said| said == "+PONG"))?;
        Ok(redis)
    }

    /// One command; the first line of the answer.
    fn ask(&self, command: &str) -> Outcome<String> {
        let ask = || {
            let mut stream = TcpStream::connect(&self.address)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.write_all(format!("{command}\r\n").as_bytes())?;
            let mut line = String::new();
            BufReader::new(stream).read_line(&mut line)?;
            Ok(line.trim_end().to_owned())
        };
        ask().map_err(Fault::system("asking Redis"))
    }

    /// Until every shard has its mark.
    fn wait_until_whole(&self) -> Outcome {
        let marks: Vec<String> = (0..SHARDS).map(|shard| format!("bh:{{{shard}}}:wm")).collect();
        let (question, all) = (format!("EXISTS {}", marks.join(" ")), format!(":{SHARDS}"));
        wait_for("publishing all accounts", || self.ask(&question).is_ok_and(|said| said == all))
    }
}

fn wait_for(what: &str, is_done: impl Fn() -> bool) -> Outcome {
    let end = Instant::now() + PATIENCE;
    while !is_done() {
        if Instant::now() > end {
            return Err(Fault::Wrong(format!("{what} took too long")));
        }
        sleep(Duration::from_millis(20));
    }
    Ok(())
}
