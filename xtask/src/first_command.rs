//! The README's first command, as a newcomer meets it: start `billhook serve --sandbox` where nothing is, paste each `curl`
//! line that it prints, and every answer must be 200 and JSON.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::running::{Lines, Running, tied};
use crate::services::free_port;
use crate::shell::{Fault, Outcome, emptied, output, unconfigured};
use crate::tools;

/// One for each endpoint of the API's first eight.
const CURLS_MIN: usize = 8;
/// The first line may wait for the first sync, the others follow at once.
const FIRST_PATIENCE: Duration = Duration::from_secs(30);
const NEXT_PATIENCE: Duration = Duration::from_secs(2);

/// Returns how many lines were pasted.
pub fn run(program: &Path) -> Outcome<String> {
    tools::program("curl", "curl")?;
    let place = emptied(std::env::temp_dir().join(format!("billhook-first-{}", std::process::id())))?;
    let outcome = walked(program, &place);
    let removed = std::fs::remove_dir_all(&place).map_err(Fault::system("removing the temporary directory"));
    let count = outcome?;
    removed.map(|()| format!("{count} pasted lines answer 200"))
}

fn walked(program: &Path, place: &Path) -> Outcome<usize> {
    let program = program.canonicalize().map_err(Fault::system(format!("{}", program.display())))?;
    let (_server, lines) = serve_sandbox(tied(&program, None)?, place)?;
    let curls = curl_lines(&lines);
    if curls.len() < CURLS_MIN {
        return Err(Fault::Wrong(format!("`serve --sandbox` printed {} curl lines, not {CURLS_MIN}", curls.len())));
    }
    for line in &curls {
        pasted(line, &place.join("answer"))?;
    }
    Ok(curls.len())
}

/// Starts `serve --sandbox` of this program on a free port, in a directory of its own.
pub fn serve_sandbox(program: Command, place: &Path) -> Outcome<(Running, Lines)> {
    let mut program = unconfigured(program);
    let address = format!("127.0.0.1:{}", free_port()?);
    program.args(["serve", "--sandbox", "--listen", &address]).current_dir(place);
    let mut server = Running::start(program.stdout(Stdio::piped()).stderr(Stdio::piped()), "TERM")?;
    let lines = server.lines();
    Ok((server, lines))
}

/// The `curl` lines, in the order in which they come; a line may go on after a backslash.
pub fn curl_lines(lines: &Lines) -> Vec<String> {
    let mut curls: Vec<String> = Vec::new();
    let mut goes_on = false;
    while let Some(line) = lines.next_within(if curls.is_empty() { FIRST_PATIENCE } else { NEXT_PATIENCE }) {
        println!("  | {line}");
        let text = line.trim();
        match curls.last_mut() {
            Some(last) if goes_on => *last = format!("{}{text}", last.trim_end_matches('\\')),
            _ if text.starts_with("curl ") => curls.push(text.to_owned()),
            _ => continue,
        }
        goes_on = text.ends_with('\\');
    }
    curls
}

/// Runs the line as it is, in a shell in which `curl` also tells the status and keeps the body in a file.
fn pasted(line: &str, body: &Path) -> Outcome {
    let script =
        format!("curl() {{ command curl -sS -m 30 -o '{}' -w '%{{http_code}}' \"$@\"; }}\n{line}", body.display());
    let status = output(Command::new("bash").arg("-c").arg(script))?;
    let text = std::fs::read_to_string(body).map_err(Fault::system("reading the answer"))?;
    let is_json = serde_json::from_str::<serde_json::Value>(&text).is_ok();
    println!("  {status} {} bytes  {line}", text.len());
    if status.trim() == "200" && is_json {
        return Ok(());
    }
    let shown: String = text.chars().take(200).collect();
    Err(Fault::Wrong(format!("answered {status}, not 200 with JSON: {line}: {shown}")))
}
