//! From exec to the first 200 of `/readyz` on an existing database, and the memory of a server that nobody asks.

use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::ask::Question;
use super::sync::status_kib;
use super::{Bench, median};
use crate::running::Running;
use crate::services::free_port;
use crate::shell::{Fault, Outcome, emptied, unconfigured};

const STARTS: usize = 9;
const PATIENCE: Duration = Duration::from_secs(20);
const IDLE: Duration = Duration::from_secs(2);

pub fn run(bench: &Bench) -> Outcome {
    let place = emptied(bench.place.join("start"))?;
    // The first start makes the file, and is not measured.
    let (mut times, mut resident_kib) = (Vec::new(), 0);
    for round in 0..=STARTS {
        let address = format!("127.0.0.1:{}", free_port()?);
        let mut command = unconfigured(Command::new(&bench.program));
        command.args(["serve", "--listen", &address]).env("DATABASE_URL", "sqlite://start.db").current_dir(&place);
        let begin = Instant::now();
        let running = Running::start(command.stdout(Stdio::null()).stderr(Stdio::null()), "TERM")?;
        wait_until_ready(&address, PATIENCE)?;
        if round > 0 {
            times.push(begin.elapsed().as_secs_f64() * 1e3);
        }
        if round == STARTS {
            sleep(IDLE);
            resident_kib = status_kib(running.pid(), "VmRSS").unwrap_or(0);
        }
    }
    println!("exec to ready: {:.1} ms (median of {STARTS})", median(times));
    println!("idle: {:.1} MiB resident", f64::from(u32::try_from(resident_kib).unwrap_or(u32::MAX)) / 1024.0);
    Ok(())
}

/// Asks until `/readyz` says yes.
pub fn wait_until_ready(address: &str, patience: Duration) -> Outcome {
    let ready = Question { url: format!("http://{address}/readyz"), header: String::new() };
    let begin = Instant::now();
    while !ready.is_answered() {
        if begin.elapsed() > patience {
            return Err(Fault::Wrong("`billhook serve` did not become ready".into()));
        }
        sleep(Duration::from_micros(500));
    }
    Ok(())
}
