//! The judges: programs that did not come from us and so can tell us that we are wrong. A new judge is a row in `JUDGES`.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::running::{Running, tied};
use crate::shell::{Fault, Outcome, emptied, made, output, root, unconfigured};
use crate::tools;

/// A script and what runs it. It is called with what it needs to speak to a fresh program of ours, whose base URL comes
/// first, and says no by its exit status.
struct Judge {
    name: &'static str,
    script: &'static str,
    runs_on: Runtime,
    judges: Judged,
}

/// What stands before a judge.
enum Judged {
    /// `billhook sandbox`, and what it is started with.
    Sandbox(&'static [&'static str]),
    /// `billhook serve`: what it takes in from clients of Lago.
    LagoWire,
}

enum Runtime {
    /// Python with the official SDKs.
    Python,
    /// node with the official SDKs.
    Node,
}

const STRIPE: Judged = Judged::Sandbox(&[]);
const LAGO: Judged = Judged::Sandbox(&["--lago"]);

const JUDGES: &[Judge] = &[
    judge("stripe-python", "crates/sandbox/judges/stripe_judge.py", Runtime::Python, STRIPE),
    judge("stripe-python-types", "crates/sandbox/judges/stripe_objects.py", Runtime::Python, STRIPE),
    judge("stripe-triggers", "crates/sandbox/judges/stripe_triggers.py", Runtime::Python, STRIPE),
    judge("stripe-node", "crates/sandbox/judges/stripe_judge.mjs", Runtime::Node, STRIPE),
    judge("lago-python", "crates/sandbox/judges/lago_judge.py", Runtime::Python, LAGO),
    judge("lago-node", "crates/sandbox/judges/lago_judge.mjs", Runtime::Node, LAGO),
    judge("lago-python-events", "crates/sandbox/judges/lago_judge.py", Runtime::Python, Judged::LagoWire),
    judge("lago-node-events", "crates/sandbox/judges/lago_judge.mjs", Runtime::Node, Judged::LagoWire),
];

const fn judge(name: &'static str, script: &'static str, runs_on: Runtime, judges: Judged) -> Judge {
    Judge { name, script, runs_on, judges }
}

/// A judge that says nothing for so long says no.
const PATIENCE: Duration = Duration::from_mins(5);
/// What is judged listens at once.
const START_PATIENCE: Duration = Duration::from_secs(30);

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
    /// Lets every judge judge, each a program of its own. Returns how many there were; the first no is a fault.
    pub fn judge(&self, program: &Path) -> Outcome<usize> {
        for judge in JUDGES {
            let script = root().join(judge.script);
            if !script.is_file() {
                return Err(Fault::Wrong(format!("the judge {} does not exist: {}", judge.name, judge.script)));
            }
            let (_judged, words) = self.judged(judge, program)?;
            let mut command = self.command(judge, &script);
            heard(judge.name, Running::start(command.args(words), "TERM")?)?;
        }
        Ok(JUDGES.len())
    }

    /// Starts what is judged, and says how the judge is told of it.
    fn judged(&self, judge: &Judge, program: &Path) -> Outcome<(Running, Vec<String>)> {
        match judge.judges {
            Judged::Sandbox(more) => {
                let log = self.logs.join(format!("{}.log", judge.name));
                sandbox(program, more, &log).map(|(running, base_url)| (running, vec![base_url]))
            }
            Judged::LagoWire => lago_wire(program, &emptied(self.logs.join(judge.name))?),
        }
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
    match running.lines().next_within(START_PATIENCE) {
        Some(line) if line.starts_with("http://") => Ok((running, line.trim().to_owned())),
        other => {
            let text = std::fs::read_to_string(log).unwrap_or_default();
            let said = other.as_deref().or(text.lines().next()).unwrap_or("nothing").to_owned();
            Err(Fault::Wrong(format!("`billhook sandbox` should print its base URL first, and said: {said}")))
        }
    }
}

/// Starts `billhook serve` on a new SQLite file in `place`, with one user and one key, for the part of a Lago judge that sends
/// events: to whom the user's id is a subscription, and an event type of the built-in catalogue a billable metric.
fn lago_wire(program: &Path, place: &Path) -> Outcome<(Running, Vec<String>)> {
    let database = format!("sqlite://{}", place.join("billhook.db").display());
    let billhook = |words: &[&str]| {
        let mut command = unconfigured(Command::new(program));
        command.args(words).env("DATABASE_URL", &database).current_dir(place);
        command
    };
    let printed = |words: &[&str]| output(&mut billhook(words)).map(|text| text.trim().to_owned());
    output(&mut billhook(&["migrate"]))?;
    let user = printed(&["user", "add", "--email", "judge@example.com", "--name", "Judge"])?;
    let key = printed(&["key", "issue", "--name", "judge", "--scope", "usage:write"])?;
    let mut command = unconfigured(tied(program, None)?);
    command.args(["serve", "--listen", "127.0.0.1:0"]).env("DATABASE_URL", &database).current_dir(place);
    let mut running = Running::start(command.stdout(Stdio::piped()).stderr(Stdio::piped()), "TERM")?;
    let lines = running.lines();
    let mut last = String::from("nothing");
    while let Some(line) = lines.next_within(START_PATIENCE) {
        if let Some(base_url) = line.strip_prefix("billhook: listening on ") {
            let words = ["--events-only", base_url, &key, &user, "inference_call"];
            return Ok((running, words.map(str::to_owned).to_vec()));
        }
        last = line;
    }
    Err(Fault::Wrong(format!("`billhook serve` should say where it listens, and said: {last}")))
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
