//! What must be installed on the machine: found, or brought in through its ordinary package manager, or named.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::shell::{Fault, Outcome, cargo, find, output, run, succeeds};

/// The official SDKs that judge the sandboxes. A new release is a new judge: change the number, read what it says.
const PYTHON_SDKS: [&str; 2] = ["stripe==16.1.0", "lago-python-client==1.55.0"];
const NODE_SDKS: [(&str, &str); 2] = [("stripe", "23.1.0"), ("lago-javascript-client", "1.53.0")];
const CARGO_DENY: &str = "0.20.2";

/// The oldest PostgreSQL that the store is promised to run on.
const POSTGRES_MAJOR_MIN: u32 = 15;

/// A program in PATH, else out of the Debian package of that name.
pub fn program(name: &str, package: &str) -> Outcome<PathBuf> {
    if let Some(path) = find(name) {
        return Ok(path);
    }
    apt_install(name, &[package])?;
    find(name).ok_or_else(|| missing(name, package))
}

/// The directory with `initdb` and `postgres`, of the newest PostgreSQL here.
pub fn postgres() -> Outcome<PathBuf> {
    if let Some(directory) = newest_postgres() {
        return Ok(directory);
    }
    apt_install("PostgreSQL 15 or newer (initdb, postgres)", &["postgresql"])?;
    newest_postgres().ok_or_else(|| missing("PostgreSQL 15 or newer (initdb, postgres)", "postgresql"))
}

fn newest_postgres() -> Option<PathBuf> {
    let in_path = find("postgres").and_then(|path| path.canonicalize().ok());
    let packaged = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let candidates = in_path.into_iter().chain(packaged.map(|version| version.path().join("bin/postgres")));
    let complete = candidates.filter(|postgres| postgres.with_file_name("initdb").is_file());
    let versions = complete.filter_map(|postgres| Some((postgres_major(&postgres)?, postgres)));
    let newest = versions.filter(|(major, _)| *major >= POSTGRES_MAJOR_MIN).max()?;
    newest.1.parent().map(Path::to_path_buf)
}

fn postgres_major(postgres: &Path) -> Option<u32> {
    major_of(&output(Command::new(postgres).arg("--version")).ok()?)
}

/// "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)" -> 15
fn major_of(version: &str) -> Option<u32> {
    let number = version.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    number.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// `redis-server`, or Valkey's where that is what is installed.
pub fn redis() -> Outcome<PathBuf> {
    find("redis-server").or_else(|| find("valkey-server")).map_or_else(|| program("redis-server", "redis-server"), Ok)
}

/// The Python of an environment of our own that has the SDKs in it.
pub fn python(target: &Path) -> Outcome<PathBuf> {
    let venv = target.join("judges/venv");
    let python = venv.join("bin/python");
    let wanted = PYTHON_SDKS;
    if python_has(&python, &wanted) {
        return Ok(python);
    }
    program("python3", "python3")?;
    if !succeeds(Command::new("python3").args(["-c", "import venv, ensurepip"])) {
        apt_install("python3's venv module", &["python3-venv"])?;
    }
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv))?;
    run(Command::new(&python).args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).args(wanted))?;
    if python_has(&python, &wanted) { Ok(python) } else { Err(missing(&wanted.join(" "), "python3-venv")) }
}

fn python_has(python: &Path, wanted: &[&str]) -> bool {
    let program = "import sys, importlib.metadata as m\n\
                   sys.exit(any(m.version(w.split('==')[0]) != w.split('==')[1] for w in sys.argv[1:]))";
    succeeds(Command::new(python).arg("-c").arg(program).args(wanted))
}

/// A directory with the SDKs for node in its `node_modules`, and node itself.
pub fn node(target: &Path) -> Outcome<PathBuf> {
    program("node", "nodejs")?;
    let home = crate::shell::made(target.join("judges/node"))?;
    if node_has_all(&home) {
        return Ok(home);
    }
    program("npm", "npm")?;
    let wanted = NODE_SDKS.map(|(name, version)| format!("{name}@{version}"));
    let mut npm = Command::new("npm");
    npm.args(["install", "--ignore-scripts", "--no-fund", "--no-audit", "--no-save", "--prefix"]).arg(&home);
    run(npm.args(&wanted))?;
    if node_has_all(&home) { Ok(home) } else { Err(missing(&format!("{} for node", wanted.join(" ")), "npm")) }
}

fn node_has_all(home: &Path) -> bool {
    NODE_SDKS.iter().all(|(name, version)| {
        let manifest = home.join("node_modules").join(name).join("package.json");
        let manifest = std::fs::read_to_string(manifest).unwrap_or_default();
        let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap_or_default();
        // Some say `v1.53.0`.
        manifest["version"].as_str().is_some_and(|own| own.trim_start_matches('v') == *version)
    })
}

/// cargo-deny of exactly the release that `deny.toml` is written for; an own copy where the machine has another or none.
pub fn cargo_deny(target: &Path) -> Outcome<PathBuf> {
    let own = target.join("tools/bin/cargo-deny");
    let known = find("cargo-deny").into_iter().chain([own.clone()]);
    let right = |path: &PathBuf| {
        path.is_file() && output(Command::new(path).arg("--version")).is_ok_and(|v| v.trim().ends_with(CARGO_DENY))
    };
    if let Some(path) = known.into_iter().find(right) {
        return Ok(path);
    }
    let package = format!("cargo-deny@{CARGO_DENY}");
    let home = target.join("tools");
    run(cargo(&["install", "--locked", &package, "--root"]).arg(home))?;
    Ok(own)
}

/// Whether we may change the system; PostgreSQL on the other hand refuses to run as this user.
pub fn is_root() -> bool {
    output(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0")
}

fn apt_install(what: &str, packages: &[&str]) -> Outcome {
    if !is_root() || find("apt-get").is_none() {
        return Err(missing(what, &packages.join(" ")));
    }
    if run(&mut apt_get(&[&["install", "--yes", "--no-install-recommends"], packages].concat())).is_ok() {
        return Ok(());
    }
    // A fresh machine has no package lists, an old one has stale ones.
    run(&mut apt_get(&["update"]))?;
    run(&mut apt_get(&[&["install", "--yes", "--no-install-recommends"], packages].concat()))
}

fn apt_get(arguments: &[&str]) -> Command {
    let mut command = Command::new("apt-get");
    command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
    command
}

fn missing(what: &str, package: &str) -> Fault {
    Fault::Missing { what: what.to_owned(), remedy: format!("on Debian: apt-get install {package}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn major_versions_of_postgres() {
        for (said, major) in [
            ("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)", Some(15)),
            ("postgres (PostgreSQL) 18beta1", Some(18)),
            ("postgres (PostgreSQL) 9.6.24", Some(9)),
            ("no such thing", None),
        ] {
            assert_eq!(major_of(said), major, "{said}");
        }
    }
}
