//! The endpoints at the sandbox's size, each against a bare route that returns the same bytes.

use super::Bench;
use super::ask::Question;
use super::load::{compare_with_bare, print, server};
use crate::first_command::{curl_lines, serve_sandbox};
use crate::shell::{Fault, Outcome, emptied};

const PATHS: &[&str] = &["/subscription", "/usage", "/payment-methods", "/invoices", "/admin/billing/stats"];

pub fn run(bench: &Bench) -> Outcome {
    let place = emptied(bench.place.join("sandbox"))?;
    let (_running, lines) = serve_sandbox(server(&bench.program)?, &place)?;
    let curls = curl_lines(&lines);
    let mut rows = Vec::new();
    for path in PATHS {
        let question = curls.iter().filter_map(|line| question(line)).find(|question| asks(question, path));
        let question =
            question.ok_or_else(|| Fault::Wrong(format!("`serve --sandbox` printed no curl line for {path}")))?;
        rows.push(compare_with_bare(bench, path, &question)?);
    }
    print("requests/s", "bare route", &rows);
    Ok(())
}

/// What a printed `curl` line asks: its URL and its session.
fn question(line: &str) -> Option<Question> {
    let unquoted = line.replace(['\'', '"'], " ");
    let url = unquoted.split_whitespace().find(|word| word.starts_with("http://"))?.to_owned();
    let at = line.find("session_token=")?;
    let cookie: String = line[at..].chars().take_while(|c| !c.is_whitespace() && !"'\";".contains(*c)).collect();
    Some(Question { url, header: format!("Cookie: {cookie}") })
}

fn asks(question: &Question, path: &str) -> bool {
    question.url.split('?').next().is_some_and(|url| url.ends_with(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curl_line_is_a_question() {
        for line in [
            "curl -s -b session_token=abc.D-1 'http://h:1/api/v1/billing/usage?x=1'",
            "curl --cookie 'session_token=abc.D-1' http://h:1/api/v1/billing/usage?x=1",
            "curl -H \"Cookie: session_token=abc.D-1\" \"http://h:1/api/v1/billing/usage?x=1\" | jq",
        ] {
            let question = question(line).unwrap();
            assert_eq!(question.url, "http://h:1/api/v1/billing/usage?x=1", "{line}");
            assert_eq!(question.header, "Cookie: session_token=abc.D-1", "{line}");
            assert!(asks(&question, "/usage") && !asks(&question, "/invoices"));
        }
    }
}
