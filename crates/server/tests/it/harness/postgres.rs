//! A PostgreSQL of a test's own, from the programs of the test run's: to be ended without a word and started again.

use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::database::{on_server, unique_name, variable};

const PATIENCE: Duration = Duration::from_mins(1);

pub struct Server {
    programs: PathBuf,
    /// Whose the test run's server is; PostgreSQL refuses to run as root.
    owner: (u32, u32),
    folder: PathBuf,
    port: u16,
    process: Child,
}

impl Server {
    pub fn start() -> Self {
        let (programs, owner) = installed();
        let folder = std::env::temp_dir().join(format!("{}_postgres", unique_name()));
        std::fs::create_dir(&folder).expect("a folder");
        chown(&folder, Some(owner.0), Some(owner.1)).expect("a folder of the server's");
        let mut initdb = tied(&programs.join("initdb"), owner);
        initdb.args([
            "--no-sync",
            "--no-locale",
            "--encoding=UTF8",
            "--username=postgres",
            "--auth=trust",
            "-D",
            "data",
        ]);
        let made = initdb.current_dir(&folder).output().expect("initdb");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = listener.local_addr().expect("an address").port();
        drop(listener);
        let process = run(&programs, owner, &folder, port);
        let server = Self { programs, owner, folder, port, process };
        server.wait();
        server
    }

    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    /// Ends it as `pg_ctl stop -m immediate` does: every connection is cut, and the next start recovers from its log.
    pub fn end_at_once(&mut self) {
        self.signal("QUIT");
        self.process.wait().expect("an end");
    }

    /// Ends its first process as a power cut would; the others notice and go.
    pub fn kill(&mut self) {
        self.signal("KILL");
        self.process.wait().expect("an end");
    }

    /// Starts it on the same port. What is left of the one before may have to go first.
    pub fn start_again(&mut self) {
        let end = Instant::now() + PATIENCE;
        loop {
            self.process = run(&self.programs, self.owner, &self.folder, self.port);
            while self.process.try_wait().expect("a process").is_none() {
                if self.answers() {
                    return;
                }
                assert!(Instant::now() < end, "PostgreSQL did not start again");
                std::thread::sleep(Duration::from_millis(20));
            }
            assert!(Instant::now() < end, "PostgreSQL did not start again");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn wait(&self) {
        let end = Instant::now() + PATIENCE;
        while !self.answers() {
            assert!(Instant::now() < end, "PostgreSQL did not start");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn answers(&self) -> bool {
        let mut ask = Command::new(self.programs.join("pg_isready"));
        ask.args(["--quiet", "--timeout=1", "-h", "127.0.0.1", "-p", &self.port.to_string()]);
        ask.status().expect("pg_isready").success()
    }

    fn signal(&self, signal: &str) {
        let id = self.process.id().to_string();
        assert!(Command::new("kill").args([&format!("-{signal}"), &id]).status().expect("kill").success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.process.try_wait().is_ok_and(|ended| ended.is_none()) {
            self.signal("QUIT");
        }
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Where the programs of the test run's server are, and whose its data is.
fn installed() -> (PathBuf, (u32, u32)) {
    let (tell, told) = std::sync::mpsc::channel();
    on_server(&variable("BILLHOOK_TEST_POSTGRES"), move |client| {
        let sql = "SELECT setting, current_setting('data_directory') FROM pg_config() WHERE name = 'BINDIR'";
        let row = client.query_one(sql, &[]).expect("the server's places");
        tell.send((row.get::<_, String>(0), row.get::<_, String>(1))).expect("told");
    });
    let (programs, data) = told.recv().expect("told");
    let data = std::fs::metadata(data).expect("the server is on this machine");
    (PathBuf::from(programs), (data.uid(), data.gid()))
}

fn run(programs: &Path, owner: (u32, u32), folder: &Path, port: u16) -> Child {
    let mut postgres = tied(&programs.join("postgres"), owner);
    postgres.args(["-D", "data", "-h", "127.0.0.1", "-k", "", "-p", &port.to_string()]);
    postgres.current_dir(folder).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("PostgreSQL")
}

/// Ends with us, whatever happens, and runs as its owner.
fn tied(program: &Path, owner: (u32, u32)) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "QUIT"]);
    if std::fs::metadata("/proc/self").expect("this process").uid() != owner.0 {
        let (user, group) = (owner.0.to_string(), owner.1.to_string());
        command.args(["--reuid", &user, "--regid", &group, "--clear-groups"]);
    }
    command.arg("--").arg(program);
    command
}
