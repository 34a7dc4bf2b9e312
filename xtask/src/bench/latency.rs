//! How long requests take while something is wrong around them: one user sends all there is, or Redis dies. Times on the wall, so
//! only of worth on a machine where nothing else runs; the load is far below what the program can do, as nobody's service runs full.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::ingest::{Load, PATIENCE, requests};
use super::{Bench, median};
use crate::running::Running;
use crate::services::{free_port, start_redis};
use crate::shell::{Fault, Outcome, emptied, output, unconfigured};
use crate::tools;

/// What others may wait at most while one user sends everything, as a multiple of before.
const HOT_AIM: f64 = 2.0;
/// What a request may take longer while Redis dies, in milliseconds.
const DEAD_AIM: f64 = 20.0;

pub fn run(bench: &Bench) -> Outcome {
    tools::program("redis-server", "redis-server")?;
    let place = emptied(bench.place.join("latency"))?;
    let billhook = || {
        let mut command = unconfigured(Command::new(&bench.program));
        command.env("DATABASE_URL", "sqlite://latency.db").current_dir(&place);
        command
    };
    output(billhook().args(["bench-seed", "--subscriptions", "1", "--users", "1000"]))?;
    let key = output(billhook().args(["key", "issue", "--name", "bench", "--scope", "usage:write"]))?;
    let header = format!("Authorization: Bearer {}", key.trim());
    one_hot_user(bench, billhook(), &header)?;
    redis_dies(bench, &place, billhook, &header)
}

/// F-52: singles of a thousand users beside batches of the same thousand, and beside the same batches of one.
fn one_hot_user(bench: &Bench, mut serve: Command, header: &str) -> Outcome {
    let (server, address) = started(&mut serve)?;
    let url = format!("http://{address}/api/v1/usage/events");
    let others = Load { connections: "2", ..Load::new(&url, header) };
    let batches = Load { batch: 100, connections: "1", ..Load::new(&url, header) };
    let mut rounds = Vec::new();
    for round in 0..bench.rounds {
        let beside = |load: &Load<'_>, run: usize| -> Outcome<(f64, f64)> {
            let background = load.start(bench, run)?;
            let times = Times::of(bench, &others, run + 1)?;
            let events = requests(&finished(background)?)? * f64::from(load.batch);
            Ok((times.p99, events / f64::from(u32::try_from(bench.seconds).unwrap_or(1))))
        };
        let spread = beside(&batches, 10_000 + round * 10)?;
        let hot = beside(&Load { users: "1", ..batches }, 10_005 + round * 10)?;
        rounds.push([spread.0, spread.1, hot.0, hot.1]);
    }
    drop(server);
    let over = |value: fn(&[f64; 4]) -> f64| median(rounds.iter().map(value));
    println!("{:<36} {:>12} {:>14}", "batches beside it are of", "p99 of singles", "events/s");
    println!("{:<36} {:>11.2}ms {:>14.0}", "a thousand users", over(|r| r[0]), over(|r| r[1]));
    println!("{:<36} {:>11.2}ms {:>14.0}", "one user", over(|r| r[2]), over(|r| r[3]));
    println!("{:<36} {:>12.2}x (aim: at most {HOT_AIM:.1}x)", "", over(|r| r[2] / r[0]));
    Ok(())
}

/// F-22: reservations while Redis is there, while it is killed, and while it stays away.
fn redis_dies(bench: &Bench, place: &Path, billhook: impl Fn() -> Command, header: &str) -> Outcome {
    println!("\n{:<36} {:>12} {:>12} {:>14}", "reserve, 16 connections", "p50", "p99", "not 2xx");
    let mut longer = Vec::new();
    for round in 0..bench.rounds {
        let (redis_url, redis) = start_redis(&tools::redis()?, place)?;
        let mut serve = billhook();
        let (server, address) = started(serve.env("REDIS_URL", &redis_url))?;
        let url = format!("http://{address}/api/v1/usage/reservations");
        let load = Load { ask: Some("reserve"), connections: "16", ..Load::new(&url, header) };
        load.shoot(bench, server.pid(), 1)?; // every account is published once
        let there = Times::of(bench, &load, 2)?;
        let under_load = load.start(bench, 3)?;
        std::thread::sleep(Duration::from_secs(bench.seconds) / 3);
        drop(redis);
        let dying = Times::read(&finished(under_load)?)?;
        let away = Times::of(bench, &load, 4)?;
        drop(server);
        if round == 0 {
            for (name, times) in [("Redis is there", &there), ("is killed meanwhile", &dying), ("stays away", &away)] {
                println!("{name:<36} {:>10.2}ms {:>10.2}ms {:>14}", times.p50, times.p99, times.refused);
            }
        }
        longer.push(dying.p99.max(away.p99) - there.p99);
    }
    println!("{:<36} {:>22.2}ms (aim: at most {DEAD_AIM:.0}ms)", "p99 longer, in the middle", median(longer));
    Ok(())
}

fn started(serve: &mut Command) -> Outcome<(Running, String)> {
    let address = format!("127.0.0.1:{}", free_port()?);
    serve.args(["serve", "--listen", &address]).stdout(Stdio::null()).stderr(Stdio::null());
    let server = Running::start(serve, "TERM")?;
    super::start::wait_until_ready(&address, PATIENCE)?;
    Ok((server, address))
}

fn finished(load: Child) -> Outcome<String> {
    let done = load.wait_with_output().map_err(Fault::system("waiting for wrk"))?;
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

/// What wrk says of its requests; times in milliseconds.
#[derive(Debug, PartialEq)]
struct Times {
    p50: f64,
    p99: f64,
    /// Answers that were not 2xx, and requests that had none.
    refused: u64,
}

impl Times {
    fn of(bench: &Bench, load: &Load<'_>, run: usize) -> Outcome<Self> {
        Self::read(&finished(load.start(bench, run)?)?)
    }

    fn read(text: &str) -> Outcome<Self> {
        let percentile = |name: &str| {
            let line = text.lines().map(str::trim).find(|line| line.starts_with(name));
            let time = line.and_then(|line| milliseconds(line.trim_start_matches(name).trim()));
            time.ok_or_else(|| Fault::Wrong(format!("wrk said\n{text}")))
        };
        let refused = text.lines().filter_map(|line| {
            let line = line.trim();
            line.strip_prefix("Non-2xx or 3xx responses: ").or_else(|| line.strip_prefix("Socket errors: "))
        });
        let numbers = refused.flat_map(|rest| rest.split([' ', ',']).filter_map(|word| word.parse::<u64>().ok()));
        Ok(Self { p50: percentile("50%")?, p99: percentile("99%")?, refused: numbers.sum() })
    }
}

fn milliseconds(text: &str) -> Option<f64> {
    let number = |unit: &str| text.strip_suffix(unit).and_then(|number| number.parse::<f64>().ok());
    let micro = number("us").map(|micro| micro / 1_000.0);
    micro.or_else(|| number("ms")).or_else(|| number("s").map(|seconds| seconds * 1_000.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_every_unit() {
        let text = "  Latency Distribution\n     50%  812.00us\n     75%    1.10ms\n     99%    1.02s \n  10 requests in 1.00s\n\
                    Socket errors: connect 0, read 2, write 0, timeout 1\n  Non-2xx or 3xx responses: 4\n";
        assert_eq!(Times::read(text).unwrap(), Times { p50: 0.812, p99: 1_020.0, refused: 7 });
        assert!(Times::read("nothing").is_err());
    }
}
