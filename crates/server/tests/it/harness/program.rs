//! The real binary in a folder of its own, with nothing in its environment but what the test puts there.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use super::{Answer, database};

/// How long a program may take to say what a test waits for; generous, the machine may be busy.
const PATIENCE: Duration = Duration::from_mins(1);

const BINARY: &str = env!("CARGO_BIN_EXE_billhook");

/// The user and the group that own nothing, where root runs the tests; else we are somebody in particular.
pub const NOBODY: &str = "65534";

/// Root may write everywhere.
pub fn is_root() -> bool {
    std::fs::metadata("/proc/self").expect("this process").uid() == 0
}

/// A folder and an environment to run the binary in.
pub struct Program {
    folder: PathBuf,
    environment: BTreeMap<String, String>,
}

/// What a run that has ended left behind.
#[derive(Debug)]
pub struct Done {
    /// The exit status; nothing when a signal ended it.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Done {
    /// The one line on stdout of a run that did its work.
    pub fn line(&self) -> &str {
        assert_eq!((self.code, self.stdout.lines().count()), (Some(0), 1), "{self:?}");
        self.stdout.trim_end()
    }

    /// Stdout as one JSON object a line.
    pub fn objects(&self) -> Vec<serde_json::Value> {
        self.stdout.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
    }
}

impl Program {
    pub const BINARY: &str = BINARY;

    pub fn new() -> Self {
        let folder = std::env::temp_dir().join(format!("{}_dir", database::unique_name()));
        std::fs::create_dir(&folder).expect("a folder");
        Self { folder, environment: BTreeMap::new() }
    }

    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.set(name, value);
        self
    }

    pub fn set(&mut self, name: &str, value: &str) {
        self.environment.insert(name.to_owned(), value.to_owned());
    }

    /// A program whose Stripe is this server.
    pub fn at_stripe(base: &str) -> Self {
        Self::new().with("STRIPE_SECRET_KEY", super::KEY).with("STRIPE_API_BASE", base).with("STRIPE_RATE", "5000")
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The default database, opened past the program.
    pub fn database(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.path("billhook.db")).expect("the database")
    }

    pub fn run(&self, args: &[&str]) -> Done {
        self.run_with(args, "")
    }

    /// Runs to the end, with something on standard input.
    pub fn run_with(&self, args: &[&str], input: &str) -> Done {
        let mut running = self.start(args);
        let mut stdin = running.child.stdin.take().expect("piped");
        // A program that does not read its input may be gone already.
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        running.wait()
    }

    pub fn start(&self, args: &[&str]) -> Running {
        let mut command = Command::new(BINARY);
        self.spawn(command.args(args))
    }

    /// A line of shell in its folder.
    pub fn shell(&self, line: &str) -> Done {
        self.spawn(Command::new("sh").args(["-c", line])).wait()
    }

    /// The same, killed by `strace` where one of its threads makes a system call for this time. It ends with us as well:
    /// whatever `strace` runs would go on when `strace` is killed.
    pub fn start_killed_at(&self, call: &str, time: usize, args: &[&str]) -> Running {
        self.start_traced(call, &format!("signal=KILL:when={time}"), args)
    }

    /// The same with an error instead, from one time to another.
    pub fn start_failing_at(&self, call: &str, error: &str, [from, to]: [usize; 2], args: &[&str]) -> Running {
        self.start_traced(call, &format!("error={error}:when={from}..{to}"), args)
    }

    /// The same at every time, for one file of the folder.
    pub fn start_failing_on(&self, file: &str, call: &str, error: &str, args: &[&str]) -> Running {
        let (path, inject) = (self.path(file), format!("inject={call}:error={error}"));
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-o", "/dev/null", "-P"]).arg(path).args(["-e", &inject]);
        self.spawn(command.args(["setpriv", "--pdeathsig", "KILL", "--", BINARY]).args(args))
    }

    fn start_traced(&self, call: &str, what: &str, args: &[&str]) -> Running {
        let (trace, inject) = (format!("trace={call}"), format!("inject={call}:{what}"));
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject]);
        self.spawn(command.args(["setpriv", "--pdeathsig", "KILL", "--", BINARY]).args(args))
    }

    /// The same as nobody in particular, who owns nothing. The binary is copied where everybody may go.
    pub fn run_as_nobody(&self, args: &[&str]) -> Done {
        let binary = self.path("billhook");
        if !binary.exists() {
            // By another process: a child that is forked while we write it would hold it open, and nobody may run what is written.
            let copied = Command::new("cp").arg(BINARY).arg(&binary).status().expect("cp");
            assert!(copied.success(), "{copied}");
        }
        let mut command = Command::new("setpriv");
        if is_root() {
            command.args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"]);
        }
        self.spawn(command.arg("--").arg(binary).args(args)).wait()
    }

    fn spawn(&self, command: &mut Command) -> Running {
        let mut child = command
            .current_dir(&self.folder)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .envs(&self.environment)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary, or strace (apt-get install strace)");
        let (stdout, stderr) = (Heard::default(), Heard::default());
        let readers = vec![
            stdout.listen(child.stdout.take().expect("piped")),
            stderr.listen(child.stderr.take().expect("piped")),
        ];
        Running { child, stdout, stderr, readers }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// What a program has said so far on one channel.
#[derive(Clone, Default)]
pub struct Heard(Arc<(Mutex<State>, Condvar)>);

#[derive(Default)]
struct State {
    text: String,
    ended: bool,
}

impl Heard {
    fn listen(&self, pipe: impl Read + Send + 'static) -> JoinHandle<()> {
        let heard = self.clone();
        std::thread::spawn(move || {
            let mut pipe = BufReader::new(pipe);
            let mut line = Vec::new();
            while pipe.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
                heard.0.0.lock().expect("lock").text += &String::from_utf8_lossy(&std::mem::take(&mut line));
                heard.0.1.notify_all();
            }
            heard.0.0.lock().expect("lock").ended = true;
            heard.0.1.notify_all();
        })
    }

    pub fn text(&self) -> String {
        self.0.0.lock().expect("lock").text.clone()
    }

    /// Waits for a whole line with these words in it; nothing when the program ends without it.
    fn line_or_end(&self, words: &str) -> Option<String> {
        let found = |state: &State| state.text.lines().find(|line| line.contains(words)).map(str::to_owned);
        let state = self.0.0.lock().expect("lock");
        let going_on = |state: &mut State| found(state).is_none() && !state.ended;
        let (state, waited) = self.0.1.wait_timeout_while(state, PATIENCE, going_on).expect("lock");
        assert!(!waited.timed_out(), "never said {words:?}, but: {}", state.text);
        found(&state)
    }

    /// Waits for a whole line with these words in it.
    pub fn line(&self, words: &str) -> String {
        self.line_or_end(words).unwrap_or_else(|| panic!("never said {words:?}, but: {}", self.text()))
    }

    /// The base URL that `serve` names on stderr, `serve --sandbox` and `sandbox` on stdout.
    pub fn base(&self) -> String {
        self.base_or_end().unwrap_or_else(|| panic!("never named an address, but: {}", self.text()))
    }

    /// The same of a program that may be killed before it names one.
    pub fn base_or_end(&self) -> Option<String> {
        let line = self.line_or_end("http://127.0.0.1:")?;
        let from = line.find("http://").expect("an address");
        Some(line[from..].split([' ', '/']).take(3).collect::<Vec<_>>().join("/"))
    }
}

/// A program that runs beside the test, until it is stopped or the test ends.
pub struct Running {
    child: Child,
    pub stdout: Heard,
    pub stderr: Heard,
    readers: Vec<JoinHandle<()>>,
}

impl Running {
    /// Asks it to end (SIGTERM) and waits until it has.
    pub fn stop(self) -> Done {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("kill").success());
        self.wait()
    }

    /// The most bytes that a file of its may have from now on.
    pub fn limit_files(&self, bytes: &str) {
        let (pid, limit) = (self.child.id().to_string(), format!("--fsize={bytes}:"));
        let limited = Command::new("prlimit").args(["--pid", &pid, &limit]).status();
        assert!(limited.expect("prlimit (apt-get install util-linux)").success());
    }

    /// Ends it as a power cut would (SIGKILL).
    pub fn kill(mut self) -> Done {
        self.child.kill().expect("kill");
        self.wait()
    }

    /// Waits for its own end.
    pub fn wait(mut self) -> Done {
        let code = self.child.wait().expect("an end").code();
        self.readers.drain(..).for_each(|reader| reader.join().expect("a reader"));
        Done { code, stdout: self.stdout.text(), stderr: self.stderr.text() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `GET` with a session, if there is one, from a program that is not in this process.
pub async fn get(url: &str, token: Option<&str>) -> Answer {
    let cookie = token.map(|token| format!("session_token={token}"));
    let headers: Vec<(&str, &str)> = cookie.iter().map(|cookie| ("cookie", cookie.as_str())).collect();
    super::send(&super::client(), "GET", url, &headers, "").await
}

/// Whether only its owner can read the file.
pub fn is_private(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).expect("the file").permissions().mode() & 0o777 == 0o600
}
