//! A PostgreSQL and a Redis of our own for one run: empty at the start, gone at the end, on free ports of this machine.

use std::fs::{File, TryLockError};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::running::{Running, end_stale, tied};
use crate::shell::{self, Fault, Outcome, emptied, made, output, succeeds, target_dir};
use crate::tools;

/// How long a service may take until it answers. Generous: a slow disk is no fault.
const PATIENCE: Duration = Duration::from_mins(1);
/// Somebody may take the free port between our look and the service's start.
const TRIES: u32 = 3;

/// Both services and their addresses. Dropping it stops them.
#[derive(Debug)]
pub struct Services {
    pub postgres_url: String,
    pub redis_url: String,
    _running: [Running; 2],
    _lock: File,
}

/// `cargo xtask services`: keeps both running for somebody who wants to run single tests, until Enter or Ctrl-C.
pub fn run() -> Outcome {
    let services = start(&target_dir()?)?;
    println!("\nexport BILLHOOK_TEST_POSTGRES={}", services.postgres_url);
    println!("export BILLHOOK_TEST_REDIS={}\n\nrunning until Enter", services.redis_url);
    let _ = std::io::stdin().read(&mut [0]).map_err(Fault::system("waiting for Enter"))?;
    Ok(())
}

/// Starts both. `target` is cargo's target directory: everything lies below its `services`.
pub fn start(target: &Path) -> Outcome<Services> {
    let (postgres, redis) = (tools::postgres()?, tools::redis()?);
    let home = made(target.join("services"))?;
    let lock = locked(&home)?;
    let (postgres_url, postgres) = start_postgres(&postgres, &home)?;
    let (redis_url, redis) = start_redis(&redis, &home)?;
    Ok(Services { postgres_url, redis_url, _running: [postgres, redis], _lock: lock })
}

/// One run at a time in one target directory: the second would stop the services of the first.
fn locked(home: &Path) -> Outcome<File> {
    let path = home.join("lock");
    let file = File::create(&path).map_err(Fault::system(format!("creating {}", path.display())))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Fault::Wrong("another `cargo xtask test` is running here".into())),
        Err(TryLockError::Error(cause)) => Err(Fault::System { what: format!("locking {}", path.display()), cause }),
    }
}

/// Calls `start` with a free port until the service stays up.
fn on_a_free_port(start: impl Fn(u16) -> Outcome<Running>) -> Outcome<(u16, Running)> {
    let mut tries = 1;
    loop {
        let port = free_port()?;
        match start(port) {
            Ok(running) => return Ok((port, running)),
            Err(fault) if tries == TRIES => return Err(fault),
            Err(fault) => println!("again, on another port: {fault}"),
        }
        tries += 1;
    }
}

/// A port of this machine that nobody listens on.
pub fn free_port() -> Outcome<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(Fault::system("looking for a free port"))?;
    Ok(listener.local_addr().map_err(Fault::system("looking for a free port"))?.port())
}

/// Waits until `ready` says yes. A service that ends instead is a fault that shows the end of its log.
fn wait_for(mut running: Running, log: &Path, ready: impl Fn() -> bool) -> Outcome<Running> {
    let end = Instant::now() + PATIENCE;
    while !ready() {
        let ended = running.ended();
        if ended.is_some() || Instant::now() > end {
            let how = ended.map_or(format!("no answer within {} s", PATIENCE.as_secs()), |status| status.to_string());
            let text = std::fs::read_to_string(log).unwrap_or_default();
            let last: Vec<&str> = text.lines().rev().take(3).collect();
            let last: Vec<&str> = last.into_iter().rev().collect();
            return Err(Fault::Wrong(format!("{} did not start ({how}): {}", log.display(), last.join(" | "))));
        }
        sleep(Duration::from_millis(20));
    }
    Ok(running)
}

fn log_to(command: &mut Command, log: &Path) -> Outcome {
    let file = File::create(log).map_err(Fault::system(format!("creating {}", log.display())))?;
    let again = file.try_clone().map_err(Fault::system(format!("creating {}", log.display())))?;
    command.stdout(Stdio::from(file)).stderr(Stdio::from(again));
    Ok(())
}

// ---- PostgreSQL ----

/// A new cluster with a password that nobody knows. `fsync` stays on: the program refuses a database that forgets, and what is
/// tested should be what is promised.
fn start_postgres(programs: &Path, home: &Path) -> Outcome<(String, Running)> {
    let user = postgres_user()?;
    let place = postgres_place(home, user)?;
    let (data, pid_file, log) = (place.join("data"), home.join("postgres.pid"), home.join("postgres.log"));
    end_stale(&pid_file, &data.to_string_lossy());
    emptied(place.clone())?;
    let password = password()?;
    let password_file = place.join("password");
    std::fs::write(&password_file, &password).map_err(Fault::system("writing the password of the test database"))?;
    if let Some(user) = user {
        give(&[&place, &password_file], user)?;
    }
    let mut initdb = tied(&programs.join("initdb"), user)?;
    initdb.args(["--no-sync", "--no-locale", "--encoding=UTF8", "--username=postgres", "--auth=scram-sha-256"]);
    initdb.arg(format!("--pwfile={}", password_file.display())).arg("-D").arg(&data).stdout(Stdio::null());
    shell::run(initdb.current_dir(&place))?;
    std::fs::remove_file(&password_file).map_err(Fault::system("removing the password file"))?;

    let (port, running) = on_a_free_port(|port| {
        let mut postgres = tied(&programs.join("postgres"), user)?;
        postgres.arg("-D").arg(&data).args(["-h", "127.0.0.1", "-p", &port.to_string(), "-k", "", "-N", "300"]);
        log_to(postgres.current_dir(&place), &log)?;
        // INT is PostgreSQL's fast shutdown: it does not wait for clients that forgot to leave.
        let running = Running::start(&mut postgres, "INT")?.noted(pid_file.clone())?;
        wait_for(running, &log, || postgres_answers(programs, port))
    })?;
    Ok((format!("postgres://postgres:{password}@127.0.0.1:{port}/postgres"), running))
}

fn postgres_answers(programs: &Path, port: u16) -> bool {
    let mut ask = Command::new(programs.join("pg_isready"));
    succeeds(ask.args(["--quiet", "--timeout=1", "-h", "127.0.0.1", "-p", &port.to_string()]))
}

/// PostgreSQL refuses root; then it runs as the user that its package made, or as nobody.
fn postgres_user() -> Outcome<Option<&'static str>> {
    if !tools::is_root() {
        return Ok(None);
    }
    let known = ["postgres", "nobody"].into_iter().find(|user| succeeds(Command::new("id").arg(user)));
    known.map(Some).ok_or_else(|| Fault::Missing {
        what: "a user for PostgreSQL, which refuses to run as root".into(),
        remedy: "useradd --system postgres".into(),
    })
}

/// Below `home`, unless the other user cannot get there (a clone below /root, say): then among the temporary files.
fn postgres_place(home: &Path, user: Option<&str>) -> Outcome<PathBuf> {
    let reachable = match user {
        None => true,
        Some(_) => succeeds(tied(Path::new("test"), user)?.arg("-x").arg(home)),
    };
    if reachable {
        return Ok(home.join("pg"));
    }
    let name = home.to_string_lossy().replace(|c: char| !c.is_ascii_alphanumeric(), "-");
    Ok(std::env::temp_dir().join(format!("billhook-pg{name}")))
}

fn give(paths: &[&Path], user: &str) -> Outcome {
    let id = output(Command::new("id").args(["-u", user]))?;
    let id = id.trim().parse().map_err(|_| Fault::Wrong(format!("`id -u {user}` says {id:?}")))?;
    for path in paths {
        chown(path, Some(id), None).map_err(Fault::system(format!("giving {} to {user}", path.display())))?;
    }
    Ok(())
}

fn password() -> Outcome<String> {
    let mut bytes = [0_u8; 16];
    let mut source = File::open("/dev/urandom").map_err(Fault::system("opening /dev/urandom"))?;
    source.read_exact(&mut bytes).map_err(Fault::system("reading /dev/urandom"))?;
    Ok(format!("{:032x}", u128::from_ne_bytes(bytes)))
}

// ---- Redis ----

/// An empty Redis that keeps nothing on disk.
pub fn start_redis(program: &Path, home: &Path) -> Outcome<(String, Running)> {
    let place = emptied(home.join("redis"))?;
    let (pid_file, log) = (home.join("redis.pid"), home.join("redis.log"));
    // Redis rewrites its command line; the mark lets the next run recognise it as ours.
    let mark = format!("redis-of-{}", home.display()).replace(' ', "-");
    end_stale(&pid_file, &mark);
    let (port, running) = on_a_free_port(|port| {
        let mut redis = tied(program, None)?;
        redis.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", "", "--appendonly", "no"]);
        redis.args(["--proc-title-template", &mark, "--dir"]).arg(&place);
        log_to(&mut redis, &log)?;
        let running = Running::start(&mut redis, "TERM")?.noted(pid_file.clone())?;
        wait_for(running, &log, || redis_answers(port))
    })?;
    Ok((format!("redis://127.0.0.1:{port}"), running))
}

fn redis_answers(port: u16) -> bool {
    let Ok(mut stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) else { return false };
    let mut answer = [0; 5];
    stream.set_read_timeout(Some(Duration::from_secs(1))).is_ok()
        && stream.write_all(b"PING\r\n").is_ok()
        && stream.read_exact(&mut answer).is_ok()
        && &answer == b"+PONG"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_that_ends_is_named_with_the_end_of_its_log() {
        let log = std::env::temp_dir().join(format!("xtask-log-{}", std::process::id()));
        let mut command = Command::new("sh");
        command.args(["-c", "echo one; echo two; exit 7"]);
        log_to(&mut command, &log).unwrap();
        let fault = wait_for(Running::start(&mut command, "TERM").unwrap(), &log, || false).unwrap_err().to_string();
        std::fs::remove_file(&log).unwrap();
        assert!(fault.ends_with("did not start (exit status: 7): one | two"), "{fault}");
    }

    #[test]
    fn a_second_run_in_the_same_place_is_refused() {
        let home = emptied(std::env::temp_dir().join(format!("xtask-lock-{}", std::process::id()))).unwrap();
        let first = locked(&home).unwrap();
        assert_eq!(locked(&home).unwrap_err().to_string(), "another `cargo xtask test` is running here");
        drop(first);
        assert!(locked(&home).is_ok());
        std::fs::remove_dir_all(&home).unwrap();
    }
}
