//! A database that is not ours to write: the start says so, with exit status 78 and the name of the file (F-18).

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

use super::refused;
use crate::harness::program::{NOBODY, Program, is_root};

fn mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("a mode");
}

/// Gives it to nobody in particular, or to root; whoever else runs the tests keeps it.
fn give(path: &Path, to_nobody: bool) {
    if is_root() {
        let owner = if to_nobody { NOBODY.parse().expect("a number") } else { 0 };
        chown(path, Some(owner), Some(owner)).expect("an owner");
    }
}

/// A folder with a database of nobody's in it, or an empty one.
fn data(program: &Program, name: &str, is_new: bool) -> String {
    let folder = program.path(name);
    std::fs::create_dir(&folder).expect("a folder");
    give(&folder, true);
    let file = folder.join("data.db");
    let address = format!("sqlite://{}", file.display());
    if !is_new {
        let made = Program::new().with("DATABASE_URL", &address).run_as_nobody(&["migrate"]);
        assert_eq!(made.code, Some(0), "{made:?}");
    }
    address
}

/// What is in the way, whether there is no database yet, and what is made of the folder.
type Way = (&'static str, bool, fn(&Path));

const WAYS: [Way; 5] = [
    ("a folder that is not ours, without a file", true, |folder| mode(folder, 0o555)),
    ("a folder that is not ours", false, |folder| mode(folder, 0o555)),
    ("a file that is not ours", false, |folder| {
        let file = folder.join("data.db");
        give(&file, false);
        mode(&file, if is_root() { 0o600 } else { 0o400 });
    }),
    ("a file that we may only read", false, |folder| mode(&folder.join("data.db"), 0o400)),
    ("a write-ahead log that another user left behind", false, |folder| {
        for name in ["data.db-wal", "data.db-shm"] {
            std::fs::write(folder.join(name), "").expect("a file");
            mode(&folder.join(name), 0o000);
        }
    }),
];

#[test]
fn f18_a_database_that_is_not_ours_to_write_is_78_and_names_the_file() {
    let program = Program::new();
    mode(&program.path(""), 0o755);
    for (number, (way, is_new, spoil)) in WAYS.into_iter().enumerate() {
        let address = data(&program, &number.to_string(), is_new);
        let folder = program.path(&number.to_string());
        spoil(&folder);
        if way.starts_with("a folder") {
            give(&folder, false);
        }
        for args in [&["serve", "--listen", "127.0.0.1:0"][..], &["migrate"]] {
            let done = Program::new().with("DATABASE_URL", &address).run_as_nobody(args);
            let said = refused(&done, 78);
            assert!(said.contains("DATABASE_URL: ") && said.contains("/data.db: "), "{way}: {said}");
            assert!(said.contains("Permission denied") || said.contains("must be ours to write"), "{way}: {said}");
        }
        mode(&folder, 0o755);
    }
}

/// A file system that is mounted for reading only: so its files cannot be opened for writing.
#[test]
fn f18_a_file_system_that_is_read_only_is_78_and_names_the_file() {
    let program = Program::new();
    assert_eq!(program.run(&["migrate"]).code, Some(0));
    let running = program.start_failing_on("billhook.db", "openat", "EROFS", &["serve", "--listen", "127.0.0.1:0"]);
    let done = running.wait();
    assert!(refused(&done, 78).contains("billhook.db: "), "{done:?}");
}
