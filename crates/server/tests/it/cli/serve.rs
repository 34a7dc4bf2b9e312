//! `billhook serve --sandbox` and `billhook sandbox`: a little business that stays.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::harness::program::{Done, Program, Running, get};
use crate::harness::{KEY, client, send};

/// A running business, and what it printed.
fn opened(program: &Program, fresh: bool) -> (Running, Vec<(String, String)>) {
    let args = ["serve", "--sandbox", "--listen", "127.0.0.1:0", "--fresh"];
    let running = program.start(if fresh { &args } else { &args[..4] });
    running.stdout.line("recent-charges");
    let curls = pasted(&running.stdout.text());
    (running, curls)
}

/// The `curl` lines: (token, URL).
fn pasted(text: &str) -> Vec<(String, String)> {
    let lines = text.lines().filter(|line| line.starts_with("curl -b "));
    lines
        .map(|line| {
            let quoted: Vec<&str> = line.split('"').collect();
            let token = quoted[1].strip_prefix("session_token=").expect("a cookie");
            assert_eq!((quoted[0], quoted[2]), ("curl -b ", " "), "{line}");
            (token.to_owned(), quoted[3].to_owned())
        })
        .collect()
}

/// The answers of all lines, by path, without what the moment of asking puts in.
async fn answers(curls: &[(String, String)]) -> BTreeMap<String, Value> {
    let mut all = BTreeMap::new();
    for (token, url) in curls {
        let answer = get(url, Some(token)).await;
        assert_eq!(answer.status, 200, "{url}: {}", answer.body);
        let path = url.split("/api/v1/").nth(1).expect("a path").to_owned();
        let mut body = answer.json();
        for moment in ["/as_of", "/next_cursor", "/usage/today"] {
            if let Some(member) = body.pointer_mut(moment) {
                *member = Value::Null;
            }
        }
        all.insert(path, body);
    }
    assert_eq!(all.len(), 8, "one line for each endpoint");
    all
}

#[tokio::test]
async fn the_sandbox_prints_eight_lines_that_work() {
    let program = Program::new();
    let (running, curls) = opened(&program, true);
    let all = answers(&curls).await;
    assert_eq!(all["billing/usage"]["credits"]["used"], 585);
    assert_eq!(all["billing/subscription"]["tier"], "professional");
    let done = running.stop();
    assert_eq!(done.code, Some(0), "{done:?}");
    let lines = done.stdout.lines().count();
    assert!(lines <= 15, "{lines} lines:\n{}", done.stdout);
    assert!(!done.stderr.contains("WARN") && !done.stderr.contains("ERROR"), "{}", done.stderr);
}

#[tokio::test]
async fn the_business_survives_a_restart_and_a_power_cut() {
    let program = Program::new();
    let (mut running, first_curls) = opened(&program, true);
    let first = answers(&first_curls).await;
    for end in [Running::stop as fn(Running) -> Done, Running::kill, Running::kill] {
        end(running);
        let curls;
        (running, curls) = opened(&program, false);
        assert_eq!(answers(&curls).await, first);
        // The session that the first start printed, at the address of this one.
        assert_eq!(get(&curls[0].1, Some(&first_curls[0].0)).await.status, 200);
    }
    running.stop();
    let (fresh, curls) = opened(&program, true);
    assert_eq!(get(&curls[0].1, Some(&first_curls[0].0)).await.status, 401, "--fresh forgets sessions, too");
    fresh.stop();
}

#[tokio::test]
async fn the_sandbox_alone_prints_its_base_url_and_nothing_else() {
    let program = Program::new();
    let running = program.start(&["sandbox", "--listen", "127.0.0.1:0", "--state", "stripe.jsonl"]);
    let base = running.stdout.base();
    let key = format!("Bearer {KEY}");
    let customers = async |base: &str| {
        let answer =
            send(&client(), "GET", &format!("{base}/v1/customers?limit=100"), &[("authorization", &key)], "").await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.json()["data"].clone()
    };
    let first = customers(&base).await;
    assert_eq!(first.as_array().map(Vec::len), Some(100));
    let done = running.stop();
    assert_eq!((done.code, done.stdout), (Some(0), format!("{base}\n")));
    let again = program.start(&["sandbox", "--listen", "127.0.0.1:0", "--state", "stripe.jsonl"]);
    assert_eq!(customers(&again.stdout.base()).await, first, "the state file is the state");
    let empty = program.start(&["sandbox", "--listen", "127.0.0.1:0", "--empty"]);
    assert_eq!(customers(&empty.stdout.base()).await, Value::Array(Vec::new()));
}

#[test]
fn serve_without_stripe_says_so() {
    let program = Program::new();
    let running = program.start(&["serve", "--listen", "127.0.0.1:0"]);
    running.stderr.line("listening on http://127.0.0.1:");
    running.stderr.line("running without Stripe");
    let done = running.stop();
    assert_eq!((done.code, done.stdout.as_str()), (Some(0), ""), "{done:?}");
}

/// Holds and rates are in the server's memory: two on one file would each give away the same credits (I-03).
#[test]
fn i03_a_file_has_one_server() {
    let program = Program::new();
    let args = ["serve", "--listen", "127.0.0.1:0"];
    let first = program.start(&args);
    first.stderr.line("listening on");
    let by_link = Program::new();
    std::os::unix::fs::symlink(program.path("billhook.db"), by_link.path("billhook.db")).expect("a link");
    for beside in [&program, &by_link] {
        let second = beside.start(&args);
        assert_eq!(second.stderr.base_or_end(), None, "it serves as well");
        let done = second.wait();
        assert_eq!((done.code, done.stdout.as_str(), done.stderr.lines().count()), (Some(78), "", 1), "{done:?}");
        assert!(done.stderr.contains("/billhook.db: another billhook serve works on this file"), "{done:?}");
    }
    assert_eq!(program.run(&["user", "list"]).code, Some(0), "commands beside it may");
    first.kill();
    let second = program.start(&args);
    second.stderr.line("listening on");
    assert_eq!(second.stop().code, Some(0));
}
