//! Two questions under load, turn by turn, so that what changes on the machine changes for both.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::ask::Question;
use super::{Bench, median};
use crate::running::{Running, pinned, tied};
use crate::shell::{Fault, Outcome, output, unconfigured};

/// Connections of wrk. Enough to keep one core busy, few enough that a p99 says something about the server.
const CONNECTIONS: &str = "16";
const SERVER_CORE: usize = 0;
const CLIENT_CORE: usize = 1;

/// A program for the core of the servers.
pub fn server(program: &Path) -> Outcome<Command> {
    Ok(unconfigured(pinned(SERVER_CORE, &tied(program, None)?)))
}

/// One run of wrk.
#[derive(Debug, PartialEq)]
struct Shot {
    per_second: f64,
    p99_us: f64,
}

/// Two answers in comparison; medians over the rounds. The ratios are medians of the rounds' own ratios.
#[derive(Debug)]
pub struct Row {
    name: String,
    per_second: [f64; 2],
    p99_us: [f64; 2],
    ratio: f64,
    p99_ratio: f64,
}

/// Sends load at `ours` and at `theirs` in turn. An answer that is not a success is a fault: it would be measured as very fast.
pub fn compare(bench: &Bench, name: &str, ours: &Question, theirs: &Question) -> Outcome<Row> {
    let mut rounds = Vec::new();
    shoot(ours, 1)?;
    shoot(theirs, 1)?;
    for _ in 0..bench.rounds {
        rounds.push((shoot(ours, bench.seconds)?, shoot(theirs, bench.seconds)?));
    }
    let over = |value: fn(&(Shot, Shot)) -> f64| median(rounds.iter().map(value));
    Ok(Row {
        name: name.to_owned(),
        per_second: [over(|r| r.0.per_second), over(|r| r.1.per_second)],
        p99_us: [over(|r| r.0.p99_us), over(|r| r.1.p99_us)],
        ratio: over(|r| r.0.per_second / r.1.per_second),
        p99_ratio: over(|r| r.0.p99_us / r.1.p99_us),
    })
}

/// Compares an endpoint with a bare route that returns the same bytes, headers and body, to the same request.
pub fn compare_with_bare(bench: &Bench, name: &str, ours: &Question) -> Outcome<Row> {
    let file = bench.place.join("answer");
    std::fs::write(&file, ours.whole()?).map_err(Fault::system("writing the bare route's answer"))?;
    let mut command = server(&bench.bare_route)?;
    command.args(["--listen", "127.0.0.1:0", "--answer"]).arg(&file).stdout(Stdio::piped());
    let mut bare = Running::start(&mut command, "TERM")?;
    let address = bare.lines().next_within(Duration::from_secs(10));
    let url = address.ok_or_else(|| Fault::Wrong("the bare route did not start".into()))?;
    compare(bench, name, ours, &Question { url: format!("{url}/"), header: ours.header.clone() })
}

fn shoot(question: &Question, seconds: u64) -> Outcome<Shot> {
    let mut wrk = pinned(CLIENT_CORE, &Command::new("wrk"));
    wrk.args(["-t1", "-c", CONNECTIONS, "--latency", "-d", &format!("{seconds}s"), "-H", &question.header]);
    let text = output(wrk.arg(&question.url))?;
    read(&text).ok_or_else(|| Fault::Wrong(format!("wrk met trouble at {}:\n{text}", question.url)))
}

/// Nothing when wrk saw errors.
fn read(text: &str) -> Option<Shot> {
    let after = |start: &str| {
        let line = text.lines().map(str::trim).find(|line| line.starts_with(start));
        line.and_then(|line| line.strip_prefix(start)).map(str::trim)
    };
    if after("Non-2xx or 3xx responses:").is_some() || after("Socket errors:").is_some() {
        return None;
    }
    Some(Shot { per_second: after("Requests/sec:")?.parse().ok()?, p99_us: microseconds(after("99%")?)? })
}

fn microseconds(text: &str) -> Option<f64> {
    let digits = text.trim_end_matches(char::is_alphabetic);
    let factor = match &text[digits.len()..] {
        "us" => 1.0,
        "ms" => 1e3,
        "s" => 1e6,
        _ => return None,
    };
    digits.parse::<f64>().ok().map(|number| number * factor)
}

/// Prints rows under a heading that names both sides.
pub fn print(ours: &str, theirs: &str, rows: &[Row]) {
    println!("\n{:<44} {ours:>12} {theirs:>12} {:>7} {:>9} {:>9} {:>7}", "", "ratio", "p99 ms", "p99 ms", "ratio");
    for row in rows {
        let ([a, b], [p, q]) = (row.per_second, row.p99_us.map(|us| us / 1e3));
        println!("{:<44} {a:>12.0} {b:>12.0} {:>7.2} {p:>9.2} {q:>9.2} {:>7.2}", row.name, row.ratio, row.p99_ratio);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRK: &str = "Running 3s test @ http://127.0.0.1:1/\n  1 threads and 16 connections\n  Latency Distribution\n     50%  1.07ms\n     \
                       99%    2.05ms\n  123 requests in 3.00s, 12.00MB read\nRequests/sec:  40123.45\nTransfer/sec:      1.00MB\n";

    #[test]
    fn what_wrk_says_is_read() {
        assert_eq!(read(WRK), Some(Shot { per_second: 40123.45, p99_us: 2050.0 }));
        assert_eq!(read(&format!("{WRK}  Non-2xx or 3xx responses: 3\n")), None);
        assert_eq!(read(&format!("{WRK}  Socket errors: connect 0, read 1, write 0, timeout 0\n")), None);
        assert_eq!(read("nothing"), None);
    }

    #[test]
    fn units_of_wrk() {
        for (text, us) in [("870.00us", Some(870.0)), ("1.50ms", Some(1500.0)), ("2.00s", Some(2e6)), ("3.00m", None)] {
            assert_eq!(microseconds(text), us, "{text}");
        }
    }
}
