//! A program that runs beside us and ends with its guard, whatever happens.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::shell::{Fault, Outcome, find, said, succeeds};

/// How long a program may take to end by itself before it is killed.
const GOODBYE: Duration = Duration::from_secs(10);

/// A running program. Dropping it asks it to end, waits, and kills it when it does not listen.
#[derive(Debug)]
pub struct Running {
    child: Child,
    signal: &'static str,
    pid_file: Option<PathBuf>,
}

impl Running {
    /// Starts the program. It should be asked to end with `signal` ("TERM", or what the program calls a quick and clean end).
    pub fn start(command: &mut Command, signal: &'static str) -> Outcome<Running> {
        let text = said(command);
        println!("$ {text} &");
        let child = command.stdin(Stdio::null()).spawn().map_err(Fault::system(text))?;
        Ok(Running { child, signal, pid_file: None })
    }

    /// Leaves the process id in a file, so that the next run can end what a killed run left behind.
    pub fn noted(mut self, pid_file: PathBuf) -> Outcome<Running> {
        let what = format!("writing {}", pid_file.display());
        std::fs::write(&pid_file, self.pid().to_string()).map_err(Fault::system(what))?;
        self.pid_file = Some(pid_file);
        Ok(self)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The status, when it has ended already.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Lines of stdout and stderr as they come, from threads that keep the pipes empty. For programs started with both piped.
    pub fn lines(&mut self) -> Lines {
        let (tell, lines) = channel();
        let pipes: [Option<Box<dyn Read + Send>>; 2] =
            [self.child.stdout.take().map(|p| Box::new(p) as _), self.child.stderr.take().map(|p| Box::new(p) as _)];
        for pipe in pipes.into_iter().flatten() {
            let tell = tell.clone();
            thread::spawn(move || {
                for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                    // Nobody listens any more: keep reading all the same, so that the program never blocks on a full pipe.
                    let _ = tell.send(line);
                }
            });
        }
        Lines { lines }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        ask(self.pid(), self.signal);
        let end = Instant::now() + GOODBYE;
        while Instant::now() < end && self.ended().is_none() {
            thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(file) = &self.pid_file {
            let _ = std::fs::remove_file(file);
        }
    }
}

/// What a running program prints.
#[derive(Debug)]
pub struct Lines {
    lines: Receiver<String>,
}

impl Lines {
    /// The next line, or `None` when nothing comes for that long or the program has closed its output.
    pub fn next_within(&self, patience: Duration) -> Option<String> {
        self.lines.recv_timeout(patience).ok()
    }
}

/// A command under which the program ends when we end, even by SIGKILL, and which can run as another user. Where there is no
/// `setpriv` (not Linux), it is the program alone: the process id files take care of what stays behind.
pub fn tied(program: &Path, user: Option<&str>) -> Outcome<Command> {
    let Some(setpriv) = find("setpriv") else {
        return match user {
            None => Ok(Command::new(program)),
            Some(_) => Err(Fault::Missing { what: "setpriv".into(), remedy: "apt-get install util-linux".into() }),
        };
    };
    let mut command = Command::new(setpriv);
    command.args(["--pdeathsig", "INT"]);
    if let Some(user) = user {
        command.args(["--reuid", user, "--regid", &group_of(user)?, "--init-groups"]);
    }
    command.arg("--").arg(program);
    Ok(command)
}

/// The same command on one core, where the system can do that.
pub fn pinned(core: usize, command: &Command) -> Command {
    let Some(taskset) =
        find("taskset").filter(|_| thread::available_parallelism().is_ok_and(|cores| cores.get() > core))
    else {
        let mut same = Command::new(command.get_program());
        same.args(command.get_args());
        return same;
    };
    let mut pinned = Command::new(taskset);
    pinned.args(["-c", &core.to_string()]).arg(command.get_program()).args(command.get_args());
    pinned
}

fn group_of(user: &str) -> Outcome<String> {
    Ok(crate::shell::output(Command::new("id").args(["-g", user]))?.trim().to_owned())
}

/// Ends what a killed run left behind: only when the process of that id still is the program that we started.
pub fn end_stale(pid_file: &Path, command_line_has: &str) {
    let Some(pid) = std::fs::read_to_string(pid_file).ok().and_then(|text| text.trim().parse::<u32>().ok()) else {
        return;
    };
    if command_line(pid).contains(command_line_has) {
        println!("ending process {pid}, left behind by an earlier run");
        ask(pid, "INT");
        let end = Instant::now() + GOODBYE;
        while Instant::now() < end && command_line(pid).contains(command_line_has) {
            thread::sleep(Duration::from_millis(50));
        }
        if command_line(pid).contains(command_line_has) {
            ask(pid, "KILL");
        }
    }
    let _ = std::fs::remove_file(pid_file);
}

fn command_line(pid: u32) -> String {
    let from_proc = std::fs::read(format!("/proc/{pid}/cmdline")).map(|raw| String::from_utf8_lossy(&raw).into_owned());
    from_proc.unwrap_or_else(|_| {
        let shown = Command::new("ps").args(["-o", "args=", "-p", &pid.to_string()]).output();
        shown.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
    })
}

fn ask(pid: u32, signal: &str) {
    // `kill` of the shell: a minimal system has no program of that name.
    succeeds(Command::new("sh").args(["-c", &format!("kill -{signal} {pid}")]));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A program that would run for long, once the system shows its command line (a moment after it was started).
    fn sleeping(argument: &str) -> Running {
        let running = Running::start(Command::new("sleep").arg(argument), "TERM").unwrap();
        let end = Instant::now() + GOODBYE;
        while command_line(running.pid()).is_empty() && Instant::now() < end {
            thread::sleep(Duration::from_millis(1));
        }
        running
    }

    #[test]
    fn a_program_ends_with_its_guard() {
        let running = sleeping("30.01");
        let pid = running.pid();
        assert!(command_line(pid).contains("30.01"));
        drop(running);
        assert_eq!(command_line(pid), "");
    }

    #[test]
    fn what_is_left_behind_is_ended_and_a_stranger_is_not() {
        let mut left = sleeping("30.02");
        let file = std::env::temp_dir().join(format!("xtask-stale-{}", std::process::id()));
        for (ours, ends) in [("redis-server", false), ("30.02", true)] {
            std::fs::write(&file, left.pid().to_string()).unwrap();
            end_stale(&file, ours);
            // A process loses its command line a moment before it can be waited for.
            let patience = Instant::now() + Duration::from_secs(5);
            while ends && left.ended().is_none() && Instant::now() < patience {
                std::thread::sleep(Duration::from_millis(5));
            }
            assert_eq!(left.ended().is_some(), ends, "{ours}");
            assert!(!file.exists());
        }
    }

    #[test]
    fn lines_of_both_pipes_arrive() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo out; echo err >&2"]).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut running = Running::start(&mut command, "TERM").unwrap();
        let lines = running.lines();
        let mut got: Vec<String> = (0..2).filter_map(|_| lines.next_within(Duration::from_secs(5))).collect();
        got.sort();
        assert_eq!(got, ["err", "out"]);
    }
}
