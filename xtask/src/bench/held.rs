//! Reservations over HTTP whose holds lie in Redis, of one user and of a thousand: for each second of Redis's processor time,
//! beside the least that a script can do to hold something there, and for each of ours, beside a bare route.

use std::path::Path;
use std::process::{Command, Stdio};

use super::ingest::{Bare, CLIENT_CORE, Load, PATIENCE, processor_seconds};
use super::{Bench, median};
use crate::running::{Running, pinned};
use crate::services::{free_port, start_redis};
use crate::shell::{Fault, Outcome, output};
use crate::tools;

/// Calls of the yardstick in one round.
const RAW_CALLS: u32 = 100_000;
/// The database of the yardstick, and how much it holds.
const RAW: &str = "1";
const SUM_OF_HOLDS: &str =
    "local n = 0 for _, key in ipairs(redis.call('KEYS', 'holds:*')) do n = n + redis.call('HLEN', key) end return n";
/// The share of the raw script rate, and of the bare route, that is aimed at.
const AIMS: [f64; 2] = [0.80, 0.53];

/// `serve` is told nothing but its database yet.
pub fn run(bench: &Bench, place: &Path, billhook: impl Fn() -> Command, header: &str) -> Outcome {
    tools::program("redis-benchmark", "redis-tools")?;
    let (url, redis) = start_redis(&tools::redis()?, place)?;
    let address = format!("127.0.0.1:{}", free_port()?);
    let mut serve = billhook();
    serve.env("REDIS_URL", &url).args(["serve", "--listen", &address]).stdout(Stdio::null()).stderr(Stdio::null());
    let server = Running::start(&mut serve, "TERM")?;
    super::start::wait_until_ready(&address, PATIENCE)?;
    let (redis, route) = (Redis { url: &url, pid: redis.pid() }, format!("http://{address}/api/v1/usage/reservations"));
    println!(
        "\n{:<24} {:>11} {:>11} {:>7} {:>6} {:>11} {:>11} {:>7} {:>6} {:>9} {:>9}",
        "reserve on Redis, users",
        "/CPU-s there",
        "raw script",
        "ratio",
        "aim",
        "/CPU-s here",
        "bare",
        "ratio",
        "aim",
        "wall/s",
        "calls each"
    );
    for (number, users) in ["1", "1000"].into_iter().enumerate() {
        let load = Load { users, ask: Some("held"), ..Load::new(&route, header) };
        load.shoot(bench, server.pid(), 2_000 + number)?; // every account is published once
        let (bare, mut rounds) = (Bare::of(bench, &load)?, Vec::new());
        for round in 0..bench.rounds {
            let raw = redis.raw_rate(users)?;
            let bare = bare.rate(bench, &load)?;
            let (before, calls) = (processor_seconds(redis.pid)?, redis.calls()?);
            let shot = load.shoot(bench, server.pid(), 3_000 + number * 100 + round)?;
            let there = shot.requests / (processor_seconds(redis.pid)? - before);
            rounds.push([
                there,
                raw,
                shot.per_processor_second,
                bare,
                shot.per_second,
                (redis.calls()? - calls) / shot.requests,
            ]);
        }
        let over = |value: fn(&[f64; 6]) -> f64| median(rounds.iter().map(value));
        println!(
            "{users:<24} {:>11.0} {:>11.0} {:>7.2} {:>6.2} {:>11.0} {:>11.0} {:>7.2} {:>6.2} {:>9.0} {:>9.3}",
            over(|r| r[0]),
            over(|r| r[1]),
            over(|r| r[0] / r[1]),
            AIMS[0],
            over(|r| r[2]),
            over(|r| r[3]),
            over(|r| r[2] / r[3]),
            AIMS[1],
            over(|r| r[4]),
            over(|r| r[5]),
        );
    }
    Ok(())
}

struct Redis<'a> {
    url: &'a str,
    pid: u32,
}

impl Redis<'_> {
    fn ask(&self, words: &[&str]) -> Outcome<String> {
        output(Command::new("redis-cli").args(["-u", self.url]).args(words))
    }

    /// Calls of scripts so far.
    fn calls(&self) -> Outcome<f64> {
        let stats = self.ask(&["INFO", "commandstats"])?;
        let calls = stats.lines().filter_map(|line| {
            line.strip_prefix("cmdstat_eval")?.split_once("calls=")?.1.split(',').next()?.parse::<f64>().ok()
        });
        Ok(calls.sum())
    }

    /// Calls of the yardstick for each processor second of Redis: a reservation a call of the least script that holds something, for as
    /// many users as are asked for, sent sixteen at a time on sixteen connections, so that a read of Redis's brings many of them. It
    /// works in a database of its own.
    fn raw_rate(&self, users: &str) -> Outcome<f64> {
        let name = self.ask(&["SCRIPT", "LOAD", include_str!("reserve.lua")])?;
        let port = self.url.rsplit(':').next().unwrap_or_default();
        // Random numbers have one range, so the id is made of three of them where there are several users.
        let (range, user, id) = match users {
            "1" => ("1000000000", "0", "__rand_int__"),
            _ => (users, "__rand_int__", "__rand_int____rand_int____rand_int__"),
        };
        let keys = ["account", "holds", "due"].map(|key| format!("{key}:{user}"));
        let before = processor_seconds(self.pid)?;
        let mut load = pinned(CLIENT_CORE, &Command::new("redis-benchmark"));
        load.args([
            "-p",
            port,
            "--dbnum",
            RAW,
            "-n",
            &RAW_CALLS.to_string(),
            "-P",
            "16",
            "-c",
            "16",
            "-r",
            range,
            "-q",
        ]);
        load.args(["EVALSHA", name.trim(), "3"]).args(&keys).args([id, "1000000", "1790000000000"]);
        let said = output(&mut load)?;
        let used = processor_seconds(self.pid)? - before;
        let held = self.ask(&["-n", RAW, "EVAL", SUM_OF_HOLDS, "0"])?;
        self.ask(&["-n", RAW, "FLUSHDB"])?;
        // Ids are random: two of them may be the same, no more.
        if held.trim().parse::<u32>().is_ok_and(|held| held + RAW_CALLS / 100 >= RAW_CALLS) {
            return Ok(f64::from(RAW_CALLS) / used);
        }
        Err(Fault::Wrong(format!("the yardstick held {held} of {RAW_CALLS}:\n{said}")))
    }
}
