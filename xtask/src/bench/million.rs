//! A database of a million subscriptions: the statistics against a bare route and against a small database, and the lists' first
//! page against their thousandth.

use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::Bench;
use super::ask::Question;
use super::load::{compare, compare_with_bare, print, server};
use crate::running::Running;
use crate::services::free_port;
use crate::shell::{Fault, Outcome, emptied, output, unconfigured};

const MANY: u64 = 1_000_000;
const FEW: u64 = 1_000;
const STATS: &str = "/api/v1/admin/billing/stats";
const LISTS: &[&str] = &["customers", "subscriptions", "recent-charges"];
const FAR_PAGE: usize = 1_000;
const READY_PATIENCE: Duration = Duration::from_mins(1);

pub fn run(bench: &Bench) -> Outcome {
    let many = Seeded::start(bench, MANY)?;
    let few = Seeded::start(bench, FEW)?;
    let stats = compare_with_bare(bench, "stats, 1,000,000 subscriptions", &many.question(STATS))?;
    let sizes = compare(bench, "stats", &many.question(STATS), &few.question(STATS))?;
    drop(few);
    let mut pages = Vec::new();
    for list in LISTS {
        let first = many.question(&format!("/api/v1/admin/billing/{list}?limit=100"));
        let (far, number) = far_page(&first)?;
        if number == 1 {
            println!("{list}: one page only, nothing to compare");
            continue;
        }
        pages.push(compare(bench, &format!("{list}, page {number} against page 1"), &far, &first)?);
    }
    print("requests/s", "bare route", &[stats]);
    print("1,000,000", "1,000", &[sizes]);
    print("far page", "first page", &pages);
    Ok(())
}

/// A server on a database of that many subscriptions, and an administrator's session.
struct Seeded {
    address: String,
    session: String,
    _running: Running,
}

impl Seeded {
    fn start(bench: &Bench, subscriptions: u64) -> Outcome<Seeded> {
        let place = emptied(bench.place.join(format!("seeded-{subscriptions}")))?;
        let begin = Instant::now();
        output(billhook(bench, &place).args(["bench-seed", "--subscriptions", &subscriptions.to_string()]))?;
        println!("seeded {subscriptions} subscriptions in {:.1} s", begin.elapsed().as_secs_f64());
        let mut add = billhook(bench, &place);
        let id = output(add.args(["user", "add", "--email", "bench@example.com", "--name", "Bench", "--admin"]))?;
        let session = output(billhook(bench, &place).args(["session", "issue", "--user", id.trim()]))?;
        let address = format!("127.0.0.1:{}", free_port()?);
        let mut serve = server(&bench.program)?;
        serve.args(["serve", "--listen", &address]).env("DATABASE_URL", DATABASE).current_dir(&place);
        serve.stdout(Stdio::null()).stderr(Stdio::null());
        let running = Running::start(&mut serve, "TERM")?;
        let seeded = Seeded { address, session: session.trim().to_owned(), _running: running };
        seeded.wait()?;
        Ok(seeded)
    }

    fn question(&self, path: &str) -> Question {
        Question {
            url: format!("http://{}{path}", self.address),
            header: format!("Cookie: session_token={}", self.session),
        }
    }

    fn wait(&self) -> Outcome {
        let end = Instant::now() + READY_PATIENCE;
        while !self.question("/readyz").is_answered() {
            if Instant::now() > end {
                return Err(Fault::Wrong("the seeded server did not become ready".into()));
            }
            sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

const DATABASE: &str = "sqlite://seeded.db";

fn billhook(bench: &Bench, place: &Path) -> Command {
    let mut command = unconfigured(Command::new(&bench.program));
    command.env("DATABASE_URL", DATABASE).current_dir(place);
    command
}

/// Goes from page to page as a client must, to the thousandth or to the last.
fn far_page(first: &Question) -> Outcome<(Question, usize)> {
    let (mut page, mut number) = (first.clone(), 1);
    while number < FAR_PAGE {
        let answer = page.json()?;
        let Some(cursor) = answer["next_cursor"].as_str() else { break };
        page.url = format!("{}&cursor={cursor}", first.url);
        number += 1;
    }
    Ok((page, number))
}
