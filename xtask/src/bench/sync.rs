//! A first full sync of about 100,000 objects from the sandbox: how fast, beside a reader that only reads, and how much memory.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::Bench;
use super::ask::Question;
use crate::judges::sandbox;
use crate::running::Running;
use crate::shell::{Fault, Outcome, emptied, unconfigured};

const CUSTOMERS: &str = "25000";
const KEY: &str = "sk_test_bench";
/// What a reader has to read: the lists that grow with the business.
const LISTS: &[&str] = &["customers", "subscriptions", "invoices", "charges"];
const PATIENCE: Duration = Duration::from_mins(15);

pub fn run(bench: &Bench) -> Outcome {
    let place = emptied(bench.place.join("sync"))?;
    let (_sandbox, base_url) = sandbox(&bench.program, &["--customers", CUSTOMERS], &place.join("sandbox.log"))?;
    let (read, read_per_second) = bare_reader(&base_url)?;
    println!("a bare reader: {read} objects of {} lists, {read_per_second:.0} objects/s", LISTS.len());

    let sync = watched(&mut billhook(bench, &place, &base_url, "sync"))?;
    let objects = sync.said.iter().filter_map(|line| objects_in(line)).max().unwrap_or(0);
    println!("billhook sync: {objects} objects in {:.1} s, peak {} MiB resident", sync.seconds, sync.peak_kib / 1024);
    let per_second = f64::from(objects) / sync.seconds;
    println!("{per_second:.0} objects/s, {:.2} of the bare reader", per_second / read_per_second);
    Ok(())
}

/// A command of ours in front of this sandbox.
pub fn billhook(bench: &Bench, place: &Path, base_url: &str, word: &str) -> Command {
    let mut command = unconfigured(Command::new(&bench.program));
    command.arg(word).current_dir(place).env("DATABASE_URL", "sqlite://sync.db");
    command.env("STRIPE_SECRET_KEY", KEY).env("STRIPE_API_BASE", base_url);
    // Our own politeness towards Stripe is not what is measured.
    command.env("STRIPE_RATE", "10000");
    command
}

/// A program that came to its end by itself.
pub struct Watched {
    pub seconds: f64,
    pub peak_kib: u64,
    pub said: Vec<String>,
}

/// Runs a program to its end and looks at its memory meanwhile.
pub fn watched(command: &mut Command) -> Outcome<Watched> {
    let begin = Instant::now();
    let mut running = Running::start(command.stdout(Stdio::piped()).stderr(Stdio::piped()), "TERM")?;
    let lines = running.lines();
    let (mut peak_kib, mut said) = (0, Vec::new());
    let status = loop {
        peak_kib = peak_kib.max(status_kib(running.pid(), "VmHWM").unwrap_or(0));
        while let Some(line) = lines.next_within(Duration::from_millis(20)) {
            said.push(line);
        }
        match running.ended() {
            Some(status) => break status,
            None if begin.elapsed() > PATIENCE => return Err(Fault::Wrong("the program did not end".into())),
            None => {}
        }
    };
    if !status.success() {
        return Err(Fault::Wrong(format!("the program failed ({status}): {}", said.join("\n"))));
    }
    Ok(Watched { seconds: begin.elapsed().as_secs_f64(), peak_kib, said })
}

/// Reads the lists page by page and does nothing with them.
fn bare_reader(base_url: &str) -> Outcome<(u32, f64)> {
    let (begin, mut objects) = (Instant::now(), 0_u32);
    for list in LISTS {
        let mut after = String::new();
        loop {
            let url = format!("{base_url}/v1/{list}?limit=100{after}");
            let page = Question { url, header: format!("Authorization: Bearer {KEY}") }.json()?;
            let data = page["data"].as_array().map(Vec::as_slice).unwrap_or_default();
            objects += u32::try_from(data.len()).unwrap_or(u32::MAX);
            match data.last().and_then(|last| last["id"].as_str()).filter(|_| page["has_more"] == true) {
                Some(id) => after = format!("&starting_after={id}"),
                None => break,
            }
        }
    }
    Ok((objects, f64::from(objects) / begin.elapsed().as_secs_f64()))
}

/// The number before "objects" in a line of progress: "101,250 objects, 8,100/s".
fn objects_in(line: &str) -> Option<u32> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let at = words.iter().position(|word| word.starts_with("objects"))?;
    words.get(at.checked_sub(1)?)?.replace([',', '_'], "").parse().ok()
}

/// A line of `/proc/PID/status` that counts in kB.
pub fn status_kib(pid: u32, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim_start_matches(':').split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_read() {
        assert_eq!(objects_in("sync: 101,250 objects, 8,100/s"), Some(101_250));
        assert_eq!(objects_in("objects so far"), None);
        assert_eq!(objects_in("done"), None);
    }

    #[test]
    fn our_own_memory_is_known() {
        assert!(status_kib(std::process::id(), "VmHWM").unwrap() > 100);
    }
}
