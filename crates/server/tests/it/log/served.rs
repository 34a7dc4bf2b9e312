//! The program as it is run, with clients over HTTP, killed again and again: whatever was answered is there once, and what was
//! not is there once after it is told again (F-01, F-20, I-02).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use billhook::store::db::Db;
use billhook::store::log::{self, Kind, Logged};
use futures_util::StreamExt;
use serde_json::{Value, json};

use super::Dice;
use crate::harness::database::on_server;
use crate::harness::postgres::Server;
use crate::harness::program::{Program, Running, get};
use crate::harness::{Database, client, send};

const SERVE: [&str; 3] = ["serve", "--listen", "127.0.0.1:0"];
const SINGLES: usize = 24;
const BATCHES: usize = 4;
const BATCH: usize = 25;
const AT_ONCE: usize = 8;
/// F-01: how soon it answers again, on the same file.
const READY: Duration = Duration::from_secs(2);

/// Something that a client has to tell, and what it was answered.
struct Request {
    ids: Vec<String>,
    body: String,
    heard: Heard,
}

#[derive(Clone, PartialEq)]
enum Heard {
    Nothing,
    /// A 2xx, and as many positions as came before the connection broke: all of them or none.
    Success(Vec<i64>),
}

/// When a life of the program ends.
#[derive(Debug, Clone, Copy)]
enum End {
    /// After so many answers and a moment.
    Answers(usize, Duration),
    /// Where one of its threads makes this system call for this time.
    Call(&'static str, usize),
}

/// The program on its file, with people in it, and the client's journal.
struct Service {
    program: Program,
    address: String,
    key: String,
    users: Vec<String>,
    sessions: Vec<String>,
    journal: Vec<Request>,
    /// How often it said that its database is away.
    refused: Arc<AtomicUsize>,
}

#[allow(clippy::disallowed_methods, reason = "the binary under test has the clock of the machine")]
fn machine_now() -> String {
    jiff::Timestamp::now().to_string()
}

impl Service {
    fn on(database: &Database) -> Self {
        let program = Program::new().with("DATABASE_URL", &database.address());
        let said = |args: &[&str]| program.run(args).line().to_owned();
        let add = |email: &str| said(&["user", "add", "--email", email, "--name", "Somebody"]);
        let users: Vec<String> = ["a@b.test", "c@d.test", "e@f.test"].map(add).into();
        let sessions = users.iter().map(|user| said(&["session", "issue", "--user", user])).collect();
        let key = format!("Bearer {}", said(&["key", "issue", "--name", "client", "--scope", "usage:write"]));
        Self {
            program,
            address: database.address(),
            key,
            users,
            sessions,
            journal: Vec::new(),
            refused: Arc::default(),
        }
    }

    /// New things to tell, singles and batches mixed.
    fn think_of_more(&mut self) {
        let life = self.journal.len();
        let event = |id: &str, number: usize| {
            json!({ "transaction_id": id, "user_id": self.users[number % 3], "type": "inference",
                "quantity": 1 + number % 3, "timestamp": machine_now() })
        };
        let mut more = Vec::new();
        for number in 0..SINGLES {
            let id = format!("single-{life}-{number}");
            more.push(Request { body: event(&id, number).to_string(), ids: vec![id], heard: Heard::Nothing });
            if number % (SINGLES / BATCHES) == 0 {
                let ids: Vec<String> = (0..BATCH).map(|at| format!("batch-{life}-{number}-{at}")).collect();
                let body: Vec<Value> = ids.iter().enumerate().map(|(at, id)| event(id, at)).collect();
                more.push(Request { ids, body: Value::from(body).to_string(), heard: Heard::Nothing });
            }
        }
        self.journal.append(&mut more);
    }

    fn start(&self, end: End) -> Running {
        match end {
            End::Answers(..) => self.program.start(&SERVE),
            End::Call(call, time) => self.program.start_killed_at(call, time, &SERVE),
        }
    }

    /// One life: tells what was not answered before and more, until the end comes. Whether anything was left without an answer.
    async fn live(&mut self, end: End, ready: &mut Vec<Duration>) -> bool {
        self.think_of_more();
        let born = Instant::now();
        let running = self.start(end);
        let Some(base) = running.stderr.base_or_end() else {
            running.kill();
            return true;
        };
        if let End::Answers(..) = end {
            assert_eq!(get(&format!("{base}/readyz"), None).await.status, 200);
            ready.push(born.elapsed());
            assert_eq!(self.complaints(Some(&base)).await, Vec::<String>::new(), "after a kill, before {end:?}");
        }
        let (most, moment) = match end {
            End::Answers(most, moment) => (most, moment),
            End::Call(..) => (usize::MAX, Duration::ZERO),
        };
        let (answers, told) = (AtomicUsize::new(0), AtomicBool::new(false));
        let telling = async {
            self.tell(&base, &answers).await;
            told.store(true, Ordering::SeqCst);
        };
        let killing = async {
            while answers.load(Ordering::SeqCst) < most && !told.load(Ordering::SeqCst) {
                tokio::time::sleep(Duration::from_micros(200)).await;
            }
            tokio::time::sleep(moment).await;
            running.kill();
        };
        tokio::join!(telling, killing);
        self.journal.iter().any(|request| request.heard == Heard::Nothing)
    }

    /// Tells everything that was not answered, several at once.
    async fn tell(&mut self, base: &str, answers: &AtomicUsize) {
        let (http, url, key) = (client(), format!("{base}/api/v1/usage/events"), self.key.as_str());
        let refused: &AtomicUsize = &self.refused;
        let open = self.journal.iter_mut().filter(|request| request.heard == Heard::Nothing);
        futures_util::stream::iter(open)
            .for_each_concurrent(AT_ONCE, |request| {
                let (http, url) = (&http, &url);
                async move {
                    request.heard = tell_one(http, url, key, request, refused).await;
                    answers.fetch_add(usize::from(request.heard != Heard::Nothing), Ordering::SeqCst);
                }
            })
            .await;
    }

    /// The same again and again, as whoever is told to come back does.
    async fn tell_until_all_is_told(&mut self, base: &str, answers: &AtomicUsize) {
        let born = Instant::now();
        while self.journal.iter().any(|request| request.heard == Heard::Nothing) {
            assert!(born.elapsed() < Duration::from_mins(1), "it did not recover");
            self.tell(base, answers).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Every usage entry, read past the program.
    async fn log(&self) -> Vec<Logged> {
        let address = self.address.clone();
        let db = tokio::task::spawn_blocking(move || Db::open(&address)).await.expect("a thread").expect("a database");
        let log = db.read(|tx| log::read(tx, 0, i64::MAX)).await.expect("the log");
        log.into_iter().filter(|entry| entry.kind == Kind::Usage).collect()
    }

    /// What the log and what is shown have to do with what was answered; empty when all of it fits.
    async fn complaints(&self, base: Option<&str>) -> Vec<String> {
        let entries = self.log().await;
        let mut log = BTreeMap::<&str, Vec<i64>>::new();
        for entry in &entries {
            log.entry(&entry.transaction_id).or_default().push(entry.position);
        }
        let mut wrong: Vec<String> =
            log.iter().filter(|(_, at)| at.len() > 1).map(|(id, at)| format!("{id} is there at {at:?}")).collect();
        for request in &self.journal {
            let Heard::Success(positions) = &request.heard else { continue };
            for (number, id) in request.ids.iter().enumerate() {
                match (log.get(id.as_str()).map(Vec::as_slice), positions.get(number)) {
                    (Some([_]), None) => {}
                    (Some([there]), Some(answered)) if there == answered => {}
                    (there, answered) => wrong.push(format!("{id} was answered with {answered:?} and is at {there:?}")),
                }
            }
        }
        let Some(base) = base else { return wrong };
        for (user, session) in self.users.iter().zip(&self.sessions) {
            let shown = get(&format!("{base}/api/v1/billing/usage"), Some(session)).await.json();
            let own = entries.iter().filter(|entry| entry.user == *user);
            // Every unit costs a credit here.
            let counted = own.map(|entry| entry.quantity).sum::<i64>() / 1_000_000;
            if shown["credits"]["used"].as_i64() != Some(counted) {
                wrong.push(format!("{user}: {} is shown, the log says {counted}", shown["credits"]["used"]));
            }
        }
        wrong
    }

    /// Tells everything, again and again while it is refused; meanwhile reads go on.
    async fn tell_until_it_heals(&mut self, base: &str, heal: impl Fn()) {
        let (http, url) = (client(), format!("{base}/api/v1/usage/events"));
        let refused = Arc::clone(&self.refused);
        for number in 0..self.journal.len() {
            let born = Instant::now();
            while self.journal[number].heard == Heard::Nothing {
                assert!(born.elapsed() < Duration::from_secs(30), "it did not heal");
                let before = refused.load(Ordering::SeqCst);
                let heard = tell_one(&http, &url, &self.key, &self.journal[number], &refused).await;
                self.journal[number].heard = heard;
                if refused.load(Ordering::SeqCst) > before {
                    let ready = get(&format!("{base}/readyz"), None).await;
                    assert!(ready.status == 503 && ready.body.contains(r#""part":"write""#), "F-13: {}", ready.body);
                    assert_eq!(self.complaints(Some(base)).await, Vec::<String>::new(), "reads go on");
                    if refused.load(Ordering::SeqCst) > 3 {
                        heal();
                    }
                }
            }
        }
    }
}

/// A transport's error is no answer, and a 503 with a time to come back is none either. Anything else but a success is a fault.
async fn tell_one(http: &reqwest::Client, url: &str, key: &str, request: &Request, refused: &AtomicUsize) -> Heard {
    let asked = Instant::now();
    let post = http.post(url).header("authorization", key).header("content-type", "application/json");
    let Ok(answer) = post.body(request.body.clone()).send().await else { return Heard::Nothing };
    let status = answer.status();
    if status.as_u16() == 503 {
        let after = answer.headers().get("retry-after").expect("when to come back").to_str().expect("ascii");
        assert!((1..=5).contains(&after.parse::<u64>().expect("seconds")), "{after}");
        // F-20 says two seconds; a busy machine may need as long again.
        assert!(asked.elapsed() < Duration::from_secs(4), "{:?}", asked.elapsed());
        refused.fetch_add(1, Ordering::SeqCst);
        return Heard::Nothing;
    }
    let Ok(body) = answer.text().await else {
        assert!(status.is_success(), "{status}");
        return Heard::Success(Vec::new());
    };
    assert!(status.is_success(), "{status}: {body}");
    Heard::Success(positions(&body))
}

fn positions(body: &str) -> Vec<i64> {
    let body: Value = serde_json::from_str(body).expect("JSON");
    let verdicts = body["results"].as_array().cloned().unwrap_or_else(|| vec![body]);
    let position = |verdict: &Value| verdict["position"].as_i64().unwrap_or_else(|| panic!("{verdict}"));
    verdicts.iter().map(position).collect()
}

/// As many lives as there are ends, then one in peace in which the rest is told, and everything once more. How many lives were
/// cut off in the middle.
async fn sweep(ends: &[End]) -> usize {
    let database = Database::sqlite();
    let mut service = Service::on(&database);
    let (mut cut, mut ready) = (0, Vec::new());
    for end in ends {
        cut += usize::from(service.live(*end, &mut ready).await);
    }
    let running = service.program.start(&SERVE);
    let base = running.stderr.base();
    service.tell(&base, &AtomicUsize::new(0)).await;
    all_is_there_once(&service, running, &base).await;
    assert_eq!(service.refused.load(Ordering::SeqCst), 0, "only a kill is no answer here");
    // Half of them: a busy machine may hold one up.
    ready.sort();
    assert!(ready[ready.len() / 2] < READY, "{ready:?}");
    cut
}

/// Whatever was told, and nothing else; told again, it is answered as before; and a recount agrees.
async fn all_is_there_once(service: &Service, running: Running, base: &str) {
    assert_eq!(service.complaints(Some(base)).await, Vec::<String>::new());
    told_again(service, base).await;
    let ids: usize = service.journal.iter().map(|request| request.ids.len()).sum();
    assert_eq!(service.log().await.len(), ids, "everything that was told, and nothing else");
    assert_eq!(running.stop().code, Some(0));
    let doctor = service.program.run(&["doctor"]);
    assert_eq!(doctor.code, Some(0), "{doctor:?}");
    would_have_told(service).await;
}

/// Every answer is the first one.
async fn told_again(service: &Service, base: &str) {
    let url = format!("{base}/api/v1/usage/events");
    let http = client();
    for request in service.journal.iter().step_by(5) {
        let headers = [("authorization", service.key.as_str()), ("content-type", "application/json")];
        let again = send(&http, "POST", &url, &headers, &request.body).await;
        assert_eq!(again.status, 200, "{}", again.body);
        let Heard::Success(first) = &request.heard else { panic!("told") };
        assert!(first.is_empty() || *first == positions(&again.body), "{}", again.body);
        assert!(!again.body.contains("\"status\":\"recorded\""), "{}", again.body);
    }
}

/// The seeded bugs: an event that was answered is there twice, and then it is gone.
async fn would_have_told(service: &Service) {
    let known = |heard: &Heard| matches!(heard, Heard::Success(positions) if !positions.is_empty());
    let one = service.journal.iter().find(|request| known(&request.heard)).expect("an answer");
    let (address, id) = (service.address.clone(), one.ids[0].clone());
    let db = tokio::task::spawn_blocking(move || Db::open(&address)).await.expect("a thread").expect("a database");
    for sql in [
        "UPDATE usage_log SET transaction_id = ?1 WHERE position = (SELECT MAX(position) FROM usage_log)",
        "DELETE FROM usage_log WHERE transaction_id = ?1",
    ] {
        let spoilt = id.clone();
        assert!(db.write(move |tx| tx.run(sql, &[spoilt.as_str().into()])).await.expect(sql) > 0);
        assert!(service.complaints(None).await.iter().any(|line| line.contains(&id)), "{sql}");
    }
}

/// The calls that matter: a row on its way into the file, its flush (how depends on how SQLite was built), the answer on its way
/// out. And how often a thread makes them in a life, at least.
const CALLS: [(&str, usize); 3] = [("pwrite64", 60), ("fsync,fdatasync", 12), ("sendto", 12)];

/// Kills by the clock and kills at a call in turn.
fn ends(lives: usize, seed: u64) -> Vec<End> {
    let mut dice = Dice(seed);
    let end = |life: usize| {
        if life.is_multiple_of(2) {
            return End::Answers(1 + dice.below(SINGLES), Duration::from_micros(dice.below(3_000) as u64));
        }
        let (call, times) = CALLS[life / 2 % 3];
        End::Call(call, 1 + dice.below(times))
    };
    (0..lives).map(end).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f01_a_server_that_is_killed_under_load_loses_and_doubles_nothing() {
    let cut = sweep(&ends(18, 1)).await;
    assert!(cut >= 12, "only {cut} lives were cut off");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "nightly: three hundred lives"]
async fn f01_a_server_that_is_killed_very_often_loses_and_doubles_nothing() {
    let cut = sweep(&ends(300, 2)).await;
    assert!(cut >= 200, "only {cut} lives were cut off");
}

/// How the database's server ends.
#[derive(Debug, Clone, Copy)]
enum Outage {
    AtOnce,
    Killed,
    ConnectionsOnly,
}

impl Outage {
    /// Until the server is there again. Meanwhile somebody was told to come back, and a probe that we are not ready.
    async fn happen(self, mut server: Server, database: &Database, base: &str, refused: &AtomicUsize) -> Server {
        if let Outage::ConnectionsOnly = self {
            let address = database.address();
            let cut = "SELECT COUNT(pg_terminate_backend(pid)) FROM pg_stat_activity
                 WHERE datname = current_database() AND pid <> pg_backend_pid()";
            let cutting = move || on_server(&address, move |client| drop(client.execute(cut, &[])));
            tokio::task::spawn_blocking(cutting).await.expect("cut");
            return server;
        }
        let before = refused.load(Ordering::SeqCst);
        if let Outage::Killed = self {
            server.kill();
        } else {
            server.end_at_once();
        }
        let born = Instant::now();
        while refused.load(Ordering::SeqCst) < before + AT_ONCE {
            assert!(born.elapsed() < Duration::from_secs(30), "{self:?}: nobody was told to come back");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(get(&format!("{base}/readyz"), None).await.status, 503, "{self:?}");
        let starting = move || {
            server.start_again();
            server
        };
        tokio::task::spawn_blocking(starting).await.expect("started again")
    }
}

/// F-20: the server of the database ends while events come in, and comes back. What was answered is there; what was not was told
/// to come back; and this program is the same one all the time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f20_a_postgres_that_ends_under_load_loses_and_doubles_nothing() {
    let mut server = Server::start();
    let database = Database::on(&server.url());
    let mut service = Service::on(&database);
    let running = service.program.start(&SERVE);
    let base = running.stderr.base();
    let outages = [Outage::AtOnce, Outage::ConnectionsOnly, Outage::Killed];
    for (round, outage) in outages.into_iter().enumerate() {
        service.think_of_more();
        let (answers, refused) = (AtomicUsize::new(0), Arc::clone(&service.refused));
        let comes = async {
            while answers.load(Ordering::SeqCst) < 1 + 4 * round {
                tokio::time::sleep(Duration::from_micros(200)).await;
            }
            outage.happen(server, &database, &base, &refused).await
        };
        let (back, ()) = tokio::join!(comes, service.tell_until_all_is_told(&base, &answers));
        server = back;
    }
    all_is_there_once(&service, running, &base).await;
}

/// F-18: the file system becomes read-only under a running server, and writable again. Who writes is told to come back, who reads
/// is answered, and it heals by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f18_a_file_system_that_becomes_read_only_refuses_writes_answers_reads_and_heals() {
    let database = Database::sqlite();
    let mut service = Service::on(&database);
    service.think_of_more();
    let running = service.program.start_failing_at("pwrite64", "EROFS", [60, 90], &SERVE);
    let base = running.stderr.base();
    service.tell_until_it_heals(&base, || ()).await;
    assert!(service.refused.load(Ordering::SeqCst) > 3, "nobody was refused");
    assert_eq!(service.complaints(Some(&base)).await, Vec::<String>::new(), "it has healed");
    running.kill();
    let running = service.program.start(&SERVE);
    let base = running.stderr.base();
    all_is_there_once(&service, running, &base).await;
}

/// Whoever runs it may limit the size of its files: that is a full disk, and not its end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f13_a_file_that_may_not_grow_refuses_writes_answers_reads_and_heals() {
    let database = Database::sqlite();
    let mut service = Service::on(&database);
    service.think_of_more();
    let running = service.program.start(&SERVE);
    let base = running.stderr.base();
    let log = format!("{}-wal", database.address().trim_start_matches("sqlite://"));
    let length = std::fs::metadata(log).expect("the write-ahead log").len();
    running.limit_files(&length.to_string());
    service.tell_until_it_heals(&base, || running.limit_files("unlimited")).await;
    assert!(service.refused.load(Ordering::SeqCst) > 3, "nobody was refused");
    all_is_there_once(&service, running, &base).await;
}

/// Somebody puts a copy in the place of the file, or takes it away: nothing is answered that would be nowhere after the next start.
#[tokio::test]
async fn a_file_that_is_replaced_takes_nothing_more() {
    let database = Database::sqlite();
    let mut service = Service::on(&database);
    service.think_of_more();
    let running = service.program.start(&SERVE);
    let base = running.stderr.base();
    let (http, url) = (client(), format!("{base}/api/v1/usage/events"));
    let tell =
        async |number: usize| tell_one(&http, &url, &service.key, &service.journal[number], &service.refused).await;
    assert!(matches!(tell(0).await, Heard::Success(_)));
    let (file, aside) = (database.path().clone(), database.path().with_extension("aside"));
    std::fs::rename(&file, &aside).expect("aside");
    for replaced in [false, true] {
        if replaced {
            std::fs::copy(&aside, &file).expect("a copy");
        }
        assert!(tell(1).await == Heard::Nothing && service.refused.load(Ordering::SeqCst) > 0, "replaced: {replaced}");
        let ready = get(&format!("{base}/readyz"), None).await;
        assert!(ready.status == 503 && ready.body.contains(r#""part":"write""#), "{}", ready.body);
    }
    std::fs::rename(&aside, &file).expect("back");
    assert!(matches!(tell(1).await, Heard::Success(_)), "the file that was opened is there again");
    running.stop();
}
