//! Running other programs to their end, each echoed first, and the places of this workspace.

use std::ffi::OsString;
use std::fmt;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Why a command of xtask did not do what it was asked for; one line each.
#[derive(Debug)]
pub enum Fault {
    /// Something that must be installed is not, and could not be brought in.
    Missing { what: String, remedy: String },
    /// A program ended with something else than success.
    Failed { command: String, status: String },
    /// A file or a process could not be handled by the operating system.
    System { what: String, cause: io::Error },
    /// Everything ran, and the answer is not the one that is required.
    Wrong(String),
}

pub type Outcome<T = ()> = Result<T, Fault>;

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Missing { what, remedy } => write!(f, "missing: {what}; {remedy}"),
            Fault::Failed { command, status } => write!(f, "failed ({status}): {command}"),
            Fault::System { what, cause } => write!(f, "{what}: {cause}"),
            Fault::Wrong(what) => f.write_str(what),
        }
    }
}

impl Fault {
    /// For `map_err`: keeps the operating system's cause beside what was tried.
    pub fn system(what: impl Into<String>) -> impl FnOnce(io::Error) -> Fault {
        let what = what.into();
        move |cause| Fault::System { what, cause }
    }
}

/// Runs a program with our terminal as its own; anything but success is a fault.
pub fn run(command: &mut Command) -> Outcome {
    let text = said(command);
    println!("$ {text}");
    let status = command.status().map_err(Fault::system(text.clone()))?;
    if status.success() { Ok(()) } else { Err(Fault::Failed { command: text, status: status.to_string() }) }
}

/// Like `run`, and shows each line of stdout to `look` as well.
pub fn run_shown(command: &mut Command, mut look: impl FnMut(&str)) -> Outcome {
    let text = said(command);
    println!("$ {text}");
    let mut child = command.stdout(Stdio::piped()).spawn().map_err(Fault::system(text.clone()))?;
    for line in child.stdout.take().into_iter().flat_map(|pipe| BufReader::new(pipe).lines()) {
        let line = line.map_err(Fault::system(format!("reading from {text}")))?;
        println!("{line}");
        look(&line);
    }
    let status = child.wait().map_err(Fault::system(text.clone()))?;
    if status.success() { Ok(()) } else { Err(Fault::Failed { command: text, status: status.to_string() }) }
}

/// Runs a program and takes what it prints on stdout; its complaints stay visible.
pub fn output(command: &mut Command) -> Outcome<String> {
    let text = said(command);
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output().map_err(Fault::system(text.clone()))?;
    if !output.status.success() {
        return Err(Fault::Failed { command: text, status: output.status.to_string() });
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether a program says yes. Its words are not wanted.
pub fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// The command line as one would type it, the environment that we add in front.
pub fn said(command: &Command) -> String {
    let added = command.get_envs().filter_map(|(name, value)| {
        value.map(|value| format!("{}={}", name.to_string_lossy(), quoted(&value.to_string_lossy())))
    });
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    added.chain(words.map(|word| quoted(&word.to_string_lossy()))).collect::<Vec<_>>().join(" ")
}

fn quoted(word: &str) -> String {
    let plain = !word.is_empty() && word.chars().all(|c| c.is_alphanumeric() || "-_./:=,@+%".contains(c));
    if plain { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

/// `cargo` in the workspace's root, without what `cargo run` told us about ourselves: build scripts that watch
/// `CARGO_PKG_NAME` and its like would otherwise run again each time one goes from `cargo test` to `cargo xtask test`.
pub fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new("cargo");
    command.args(arguments).current_dir(root());
    for name in own_package_variables() {
        command.env_remove(name);
    }
    command
}

fn own_package_variables() -> Vec<OsString> {
    variables(&["CARGO_MANIFEST_", "CARGO_PKG_", "CARGO_BIN_NAME", "CARGO_CRATE_NAME", "CARGO_PRIMARY_PACKAGE"])
}

/// A command that knows nothing of how the program is configured on this machine: what we start must not meet somebody's
/// real database or real keys.
pub fn unconfigured(mut command: Command) -> Command {
    for name in variables(&["BILLHOOK_", "DATABASE_URL", "LAGO_", "REDIS_URL", "STRIPE_"]) {
        command.env_remove(name);
    }
    command
}

fn variables(starts: &[&str]) -> Vec<OsString> {
    let ours = |name: &OsString| starts.iter().any(|start| name.to_string_lossy().starts_with(start));
    std::env::vars_os().map(|(name, _)| name).filter(ours).collect()
}

/// The workspace's root: the directory above this package.
pub fn root() -> &'static Path {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package)
}

/// Where cargo builds, whoever decided it (environment, configuration or the default).
pub fn target_dir() -> Outcome<PathBuf> {
    let text = output(&mut cargo(&["metadata", "--no-deps", "--format-version", "1", "--offline"]))?;
    let metadata: serde_json::Value =
        serde_json::from_str(&text).map_err(|e| Fault::Wrong(format!("cargo metadata is not JSON: {e}")))?;
    let directory = metadata["target_directory"].as_str();
    directory.map(PathBuf::from).ok_or_else(|| Fault::Wrong("cargo metadata names no target_directory".into()))
}

/// A fresh, empty directory.
pub fn emptied(directory: PathBuf) -> Outcome<PathBuf> {
    match std::fs::remove_dir_all(&directory) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => {
            Err(Fault::System { what: format!("emptying {}", directory.display()), cause })
        }
        _ => made(directory),
    }
}

/// A directory that exists.
pub fn made(directory: PathBuf) -> Outcome<PathBuf> {
    std::fs::create_dir_all(&directory).map_err(Fault::system(format!("creating {}", directory.display())))?;
    Ok(directory)
}

/// The first executable of that name in PATH.
pub fn find(program: &str) -> Option<PathBuf> {
    path_directories().into_iter().map(|directory| directory.join(program)).find(|path| path.is_file())
}

#[allow(clippy::disallowed_methods, reason = "PATH is where programs are; xtask has no configuration of its own")]
fn path_directories() -> Vec<PathBuf> {
    std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_said_as_one_would_type_it() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo 'a b'", ""]).env("X", "1 2");
        assert_eq!(said(&command), r"X='1 2' sh -c 'echo '\''a b'\''' ''");
    }

    #[test]
    fn failure_names_the_command_and_its_status() {
        let fault = run(Command::new("sh").args(["-c", "exit 3"])).unwrap_err();
        assert_eq!(fault.to_string(), "failed (exit status: 3): sh -c 'exit 3'");
    }
}
