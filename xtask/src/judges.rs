//! The judges: programs that did not come from us and so can tell us that we are wrong. A new judge is a row in `JUDGES`.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::running::{Running, tied};
use crate::shell::{Fault, Outcome, made, root, unconfigured};
use crate::tools;

/// A script and what runs it. It is called with the base URL of a fresh sandbox and says no by its exit status.
struct Judge {
    name: &'static str,
    script: &'static str,
    runs_on: Runtime,
    /// What the sandbox is started with.
    sandbox: &'static [&'static str],
}

enum Runtime {
    /// Python with the official SDKs.
    Python,
    /// node with the official SDKs.
    Node,
}

const STRIPE: &[&str] = &[];
const LAGO: &[&str] = &["--lago"];

const JUDGES: &[Judge] = &[
    judge("stripe-python", "crates/sandbox/judges/stripe_judge.py", Runtime::Python, STRIPE),
    judge("stripe-python-types", "crates/sandbox/judges/stripe_objects.py", Runtime::Python, STRIPE),
    judge("stripe-node", "crates/sandbox/judges/stripe_judge.mjs", Runtime::Node, STRIPE),
    judge("lago-python", "crates/sandbox/judges/lago_judge.py", Runtime::Python, LAGO),
    judge("lago-node", "crates/sandbox/judges/lago_judge.mjs", Runtime::Node, LAGO),
];

const fn judge(name: &'static str, script: &'static str, runs_on: Runtime, sandbox: &'static [&'static str]) -> Judge {
    Judge { name, script, runs_on, sandbox }
}

/// A judge that says nothing for so long says no.
const PATIENCE: Duration = Duration::from_mins(5);
/// A sandbox listens at once.
const SANDBOX_PATIENCE: Duration = Duration::from_secs(30);

/// What the judges run on, made sure of.
#[derive(Debug)]
pub struct Bench {
    python: PathBuf,
    node_home: PathBuf,
    logs: PathBuf,
}

/// Finds or installs what the judges need. Called before anything long is built.
pub fn seated(target: &Path) -> Outcome<Bench> {
    Ok(Bench { python: tools::python(target)?, node_home: tools::node(target)?, logs: made(target.join("judges"))? })
}

impl Bench {
    /// Lets every judge judge, each against a sandbox of its own. Returns how many there were; the first no is a fault.
    pub fn judge(&self, program: &Path) -> Outcome<usize> {
        for judge in JUDGES {
            let script = root().join(judge.script);
            if !script.is_file() {
                return Err(Fault::Wrong(format!("the judge {} does not exist: {}", judge.name, judge.script)));
            }
            let (_sandbox, base_url) = sandbox(program, judge.sandbox, &self.logs.join(format!("{}.log", judge.name)))?;
            let mut command = self.command(judge, &script);
            heard(judge.name, Running::start(command.arg(base_url), "TERM")?)?;
        }
        Ok(JUDGES.len())
    }

    fn command(&self, judge: &Judge, script: &Path) -> Command {
        let mut command = match judge.runs_on {
            Runtime::Python => Command::new(&self.python),
            Runtime::Node => Command::new("node"),
        };
        // A judge for node looks for the SDK where it is run, so that nothing has to be installed beside the script.
        command.arg(script).current_dir(&self.node_home);
        command
    }
}

/// Starts `billhook sandbox` on a free port. It prints its base URL alone on the first line of stdout; the rest goes to `log`.
pub fn sandbox(program: &Path, more: &[&str], log: &Path) -> Outcome<(Running, String)> {
    let what = format!("creating {}", log.display());
    let mut command = unconfigured(tied(program, None)?);
    command.args(["sandbox", "--listen", "127.0.0.1:0"]).args(more).stdout(Stdio::piped());
    command.stderr(Stdio::from(File::create(log).map_err(Fault::system(what))?));
    let mut running = Running::start(&mut command, "TERM")?;
    match running.lines().next_within(SANDBOX_PATIENCE) {
        Some(line) if line.starts_with("http://") => Ok((running, line.trim().to_owned())),
        other => {
            let text = std::fs::read_to_string(log).unwrap_or_default();
            let said = other.as_deref().or(text.lines().next()).unwrap_or("nothing").to_owned();
            Err(Fault::Wrong(format!("`billhook sandbox` should print its base URL first, and said: {said}")))
        }
    }
}

fn heard(name: &str, mut judge: Running) -> Outcome {
    let end = Instant::now() + PATIENCE;
    loop {
        match judge.ended() {
            Some(status) if status.success() => return Ok(()),
            Some(status) => return Err(Fault::Wrong(format!("the judge {name} says no ({status})"))),
            None if Instant::now() > end => {
                return Err(Fault::Wrong(format!("the judge {name} said nothing within {} s", PATIENCE.as_secs())));
            }
            None => sleep(Duration::from_millis(20)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_judge_is_heard() {
        let says = |script: &str| {
            heard("somebody", Running::start(Command::new("sh").args(["-c", script]), "TERM").unwrap())
                .map_err(|fault| fault.to_string())
        };
        assert_eq!(says("exit 0"), Ok(()));
        assert_eq!(says("exit 4"), Err("the judge somebody says no (exit status: 4)".into()));
    }
}
