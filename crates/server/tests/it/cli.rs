//! The command line, through the real binary in a folder of its own.

mod catalogue;
mod counters;
mod doctor;
mod folder;
mod migrate;
mod postgres;
mod serve;
mod usage;

use std::os::unix::fs::PermissionsExt;

use billhook::config::VARIABLES;

use crate::harness::KEY;
use crate::harness::program::{Done, Program, Running, get};

/// A sandbox of its own process, with the little business.
fn stripe(program: &Program) -> (Running, String) {
    let running = program.start(&["sandbox", "--listen", "127.0.0.1:0"]);
    let base = running.stdout.base();
    (running, base)
}

/// A program whose mirror holds the little business, and its Stripe.
fn synced() -> (Program, Running) {
    let mut program = Program::new().with("STRIPE_SECRET_KEY", KEY).with("STRIPE_RATE", "5000");
    let (running, base) = stripe(&program);
    program.set("STRIPE_API_BASE", &base);
    let done = program.run(&["sync"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    (program, running)
}

fn add_user(program: &Program, email: &str, more: &[&str]) -> String {
    program.run(&[&["user", "add", "--email", email, "--name", "Somebody"], more].concat()).line().to_owned()
}

/// What a run that was refused said, which is something, on stderr alone.
#[track_caller]
fn refused(done: &Done, code: i32) -> &str {
    assert_eq!((done.code, done.stdout.as_str()), (Some(code), ""), "{done:?}");
    assert!(done.stderr.starts_with("billhook: "), "{done:?}");
    &done.stderr
}

#[test]
fn help_fits_on_a_screen_and_needs_no_configuration() {
    let program = Program::new().with("DATABASE_URL", "nonsense");
    for command in [
        "",
        "serve",
        "sandbox",
        "sync",
        "migrate",
        "doctor",
        "user",
        "user add",
        "user list",
        "user set-admin",
        "user link-customer",
        "user disable",
        "user enable",
        "session",
        "session issue",
        "session revoke",
        "openapi",
        "config",
        "completions",
        "key",
        "usage",
        "usage void",
        "usage replay",
        "lago",
        "verify",
        "webhooks",
        "stripe",
        "sandbox advance",
    ] {
        let mut args: Vec<&str> = command.split_whitespace().collect();
        // The longer form of the first one has every variable.
        args.push(if command.is_empty() { "-h" } else { "--help" });
        let help = program.run(&args);
        assert_eq!((help.code, help.stderr.as_str()), (Some(0), ""), "{command}");
        let lines = help.stdout.lines().count();
        // The list of all commands is longer than any of them.
        let most = if command.is_empty() { 34 } else { 24 };
        assert!((5..=most).contains(&lines), "{command}: {lines} lines");
        assert!(help.stdout.lines().all(|line| line.chars().count() <= 100), "{command}");
    }
    let help = program.run(&["--help"]).stdout;
    for variable in VARIABLES {
        assert!(help.contains(variable.name) && help.contains(variable.default), "{}", variable.name);
    }
    assert!(help.lines().all(|line| line.chars().count() <= 100), "{help}");
    assert_eq!(program.run(&["--version"]).line(), format!("billhook {}", env!("CARGO_PKG_VERSION")));
}

#[test]
fn bad_usage_is_2_and_leaves_nothing_behind() {
    let program = Program::new();
    for args in [
        &[][..],
        &["nonsense"],
        &["serve", "--nonsense"],
        &["serve", "--fresh"],
        &["serve", "--listen", "8084"],
        &["sandbox", "--empty", "--customers", "5"],
        &["sandbox", "--duplicate", "1.5"],
        &["sandbox", "--drop", "0.0001"],
        &["sandbox", "--shuffle", "30"],
        &["sandbox", "advance", "abc"],
        &["sandbox", "advance", "-5d"],
        &["user", "add", "--email", "a@b.test"],
        &["user", "set-admin"],
        &["session", "issue"],
        &["session", "issue", "--user", "u", "--ttl", "5"],
        &["session", "issue", "--user", "u", "--ttl", "0s"],
        &["session", "revoke"],
        &["session", "revoke", "token", "--user", "u"],
        &["completions", "nonsense"],
    ] {
        let done = program.run(args);
        assert_eq!((done.code, done.stdout.as_str()), (Some(2), ""), "{args:?}");
        assert!(done.stderr.contains("Usage: billhook") || done.stderr.contains("--help"), "{args:?}: {}", done.stderr);
    }
    assert!(!program.path("billhook.db").exists());
}

#[test]
fn users_are_added_listed_and_changed() {
    let program = Program::new();
    let ada = add_user(&program, "ada@here.test", &["--customer", "cus_1", "--tier", "starter"]);
    let boss = add_user(&program, "boss@here.test", &["--admin"]);
    assert!(ada.starts_with("usr_") && boss > ada, "{ada} {boss}");
    for args in [
        &["user", "set-admin", &ada][..],
        &["user", "set-admin", &boss, "--off"],
        &["user", "link-customer", &boss, "cus_2"],
        &["user", "disable", &ada],
        &["user", "disable", &boss],
        &["user", "enable", &boss],
    ] {
        let done = program.run(args);
        assert_eq!((done.code, done.stdout.as_str(), done.stderr.as_str()), (Some(0), "", ""), "{args:?}");
    }
    let expected = [
        serde_json::json!({ "id": ada, "email": "ada@here.test", "name": "Somebody", "tier": "starter",
            "stripe_customer_id": "cus_1", "is_admin": true, "disabled": true }),
        serde_json::json!({ "id": boss, "email": "boss@here.test", "name": "Somebody", "tier": "trial",
            "stripe_customer_id": "cus_2", "is_admin": false, "disabled": false }),
    ];
    assert_eq!(program.run(&["user", "list", "--json"]).objects(), expected);
    let list = program.run(&["user", "list"]).stdout;
    assert_eq!(
        list,
        format!("{ada}  admin  disabled  cus_1  ada@here.test\n{boss}  user  enabled  cus_2  boss@here.test\n")
    );
}

#[test]
fn a_refusal_is_1_and_says_why() {
    let program = Program::new();
    let ada = add_user(&program, "ada@here.test", &["--customer", "cus_1"]);
    let boss = add_user(&program, "boss@here.test", &[]);
    for (args, words) in [
        (&["user", "add", "--email", "ada@here.test", "--name", "A"][..], "this e-mail already"),
        (&["user", "add", "--email", "nobody", "--name", "A"], "expected an e-mail address"),
        (&["user", "add", "--email", "n@here.test", "--name", "A", "--tier", "gold"], "expected a tier"),
        (&["user", "add", "--email", "n@here.test", "--name", "A", "--customer", "sub_1"], "cus_"),
        (&["user", "add", "--email", "n@here.test", "--name", "A", "--customer", "cus_1"], "customer.already_linked"),
        (&["user", "link-customer", &boss, "cus_1"], "customer.already_linked"),
        (&["user", "link-customer", &boss, "sub_1"], "cus_"),
        (&["user", "link-customer", "nobody", "cus_9"], "no such user"),
        (&["user", "set-admin", "nobody"], "no such user"),
        (&["user", "disable", "nobody"], "no such user"),
        (&["session", "issue", "--user", "nobody"], "no such user"),
        (&["session", "revoke", "bhs_nothing"], "no such session"),
    ] {
        let done = program.run(args);
        assert!(refused(&done, 1).contains(words), "{args:?}: {}", done.stderr);
    }
    let ids: Vec<_> =
        program.run(&["user", "list", "--json"]).objects().iter().map(|user| user["id"].clone()).collect();
    assert_eq!(ids, [ada, boss], "nothing happened by half");
}

#[tokio::test]
async fn s09_sessions_and_users_changed_by_another_process_hold_at_once_for_a_running_server() {
    let program = Program::new();
    let boss = add_user(&program, "boss@here.test", &["--admin"]);
    let issue = || program.run(&["session", "issue", "--user", &boss, "--ttl", "1h"]).line().to_owned();
    let running = program.start(&["serve", "--listen", "127.0.0.1:0"]);
    let base = running.stderr.base();
    let status = async |token: &str| get(&format!("{base}/api/v1/admin/billing/stats"), Some(token)).await.status;
    let (first, second, third) = (issue(), issue(), issue());
    for token in [&first, &second, &third] {
        assert_eq!(status(token).await, 200);
    }
    assert_eq!(program.run(&["session", "revoke", &first]).code, Some(0));
    assert_eq!((status(&first).await, status(&second).await), (401, 200));
    assert_eq!(program.run_with(&["session", "revoke", "-"], &format!("{second}\n")).code, Some(0));
    assert_eq!((status(&second).await, status(&third).await), (401, 200));
    for (args, expected) in [
        (&["user", "set-admin", &boss, "--off"][..], 403),
        (&["user", "set-admin", &boss], 200),
        (&["user", "disable", &boss], 401),
        (&["user", "enable", &boss], 200),
        (&["session", "revoke", "--user", &boss], 401),
    ] {
        assert_eq!(program.run(args).code, Some(0));
        assert_eq!(status(&third).await, expected, "{args:?}");
    }
}

#[test]
fn sync_reads_everything_and_says_how_much() {
    let (program, stripe) = synced();
    let done = program.run(&["sync", "--json"]);
    let outcome: serde_json::Value = serde_json::from_str(done.line()).expect("JSON");
    assert!(outcome["objects"].as_u64().is_some_and(|objects| objects > 500), "{outcome}");
    assert_eq!((&outcome["deleted"], &outcome["faults"]), (&0.into(), &serde_json::json!([])));
    assert_eq!(program.run(&["sync"]).line(), format!("{} objects read, 0 no longer there", outcome["objects"]));
    stripe.stop();
    assert!(refused(&program.run(&["sync"]), 1).contains("stripe.unavailable"));
    assert!(refused(&Program::new().run(&["sync"]), 78).contains("STRIPE_SECRET_KEY"));
}

#[test]
fn openapi_and_completions_are_printed_whole() {
    let program = Program::new().with("DATABASE_URL", "nonsense");
    let printed: serde_json::Value = serde_json::from_str(&program.run(&["openapi"]).stdout).expect("JSON");
    assert_eq!(printed, billhook::http::openapi::document());
    for shell in ["bash", "zsh", "fish"] {
        let done = program.run(&["completions", shell]);
        assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""), "{shell}");
        assert!(["link-customer", "doctor", "sandbox"].iter().all(|word| done.stdout.contains(word)), "{shell}");
    }
}

#[test]
fn f56_every_fault_of_the_configuration_is_named_at_once_and_without_its_value() {
    let mut program = Program::new().with("BILLHOOK_CATALOG", "canary.toml");
    let given = [
        ("STRIPE_SECRET_KEY", "pk_test_canary"),
        ("STRIPE_API_BASE", "ftp://canary"),
        ("STRIPE_API_VERSION", "canary"),
        ("STRIPE_RATE", "-1"),
        ("REDIS_URL", "http://canary"),
        ("DATABASE_URL", "mysql://canary"),
        ("BILLHOOK_LISTEN", "canary:http"),
        ("BILLHOOK_METRICS_LISTEN", "canary"),
        ("BILLHOOK_PUBLIC_URL", " "),
        ("BILLHOOK_SYNC_INTERVAL", "-5m"),
        ("BILLHOOK_LOG", "canary"),
    ];
    for (name, value) in given {
        program.set(name, value);
    }
    for command in [&["serve"][..], &["doctor"], &["sync"], &["migrate"], &["user", "list"]] {
        let done = program.run(command);
        let said = refused(&done, 78);
        for name in given.iter().map(|(name, _)| *name).chain(["BILLHOOK_CATALOG"]) {
            assert!(said.contains(&format!("billhook: {name}: ")), "{command:?}: {name} is missing in {said}");
        }
        assert!(!said.contains("canary"), "{said}");
    }
    let done = program.run(&["config"]);
    assert_eq!(done.code, Some(78), "what is wrong is wrong here too");
}

#[test]
fn f56_each_fault_alone_is_78() {
    for (name, value) in [
        ("STRIPE_SECRET_KEY", "sk_live_"),
        ("STRIPE_SECRET_KEY", ""),
        ("STRIPE_SECRET_KEY_FILE", "nothing"),
        ("STRIPE_SECRET_KEY_FILE", "empty"),
        ("STRIPE_RATE", "0"),
        ("STRIPE_API_BASE", "https://user:pass@host"),
        ("DATABASE_URL", "sqlite://"),
        ("DATABASE_URL", "sqlite://:memory:"),
        ("DATABASE_URL", "sqlite:///nowhere/at/all.db"),
        ("BILLHOOK_LISTEN", "127.0.0.1"),
        ("BILLHOOK_PUBLIC_URL", "billing.example.com"),
        ("BILLHOOK_CATALOG", "nothing.toml"),
        ("BILLHOOK_CATALOG", "catalog.toml"),
        ("BILLHOOK_SYNC_INTERVAL", "5"),
        ("BILLHOOK_LOG", "loud"),
        ("BILLHOOK_LOG", "billhook=loud"),
    ] {
        let program = Program::new().with(name, value);
        std::fs::write(program.path("catalog.toml"), "currency = \"dollars\"\n[tiers.gold]\nprice = \"ten\"\n")
            .expect("written");
        std::fs::write(program.path("empty"), "\n").expect("written");
        std::fs::set_permissions(program.path("empty"), PermissionsExt::from_mode(0o600)).expect("chmod");
        let done = program.run(&["migrate"]);
        let name = name.trim_end_matches("_FILE");
        assert!(refused(&done, 78).contains(name), "{name}={value}: {done:?}");
    }
    let live =
        Program::new().with("STRIPE_SECRET_KEY", "sk_live_12345678").with("STRIPE_API_BASE", "http://127.0.0.1:1");
    assert!(refused(&live.run(&["migrate"]), 78).contains("only sent over https"));
    let both = Program::new().with("STRIPE_SECRET_KEY", KEY).with("STRIPE_SECRET_KEY_FILE", "x");
    assert!(refused(&both.run(&["migrate"]), 78).contains("STRIPE_SECRET_KEY"));
}

#[test]
fn f56_a_name_that_looks_like_ours_and_is_not_is_told() {
    let program = Program::new().with("BILLHOOK_LISTNE", "127.0.0.1:1");
    assert_eq!(program.run(&["migrate"]).code, Some(0));
    let done = program.run(&["doctor"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(done.stdout.contains("BILLHOOK_LISTNE") && done.stderr.contains("BILLHOOK_LISTNE"), "{done:?}");
}

#[test]
fn f56_a_port_that_is_taken_is_78_and_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("address").to_string();
    let by_argument = Program::new().run(&["serve", "--listen", &address]);
    let by_variable = Program::new().with("BILLHOOK_LISTEN", &address).run(&["serve"]);
    let of_metrics =
        Program::new().with("BILLHOOK_METRICS_LISTEN", &address).run(&["serve", "--listen", "127.0.0.1:0"]);
    for (done, name) in
        [(by_argument, "BILLHOOK_LISTEN"), (by_variable, "BILLHOOK_LISTEN"), (of_metrics, "BILLHOOK_METRICS_LISTEN")]
    {
        assert_eq!(done.code, Some(78), "{done:?}");
        assert!(done.stderr.contains(&format!("{name}: cannot listen on {address}")), "{done:?}");
    }
}

#[test]
fn s63_files_that_others_could_read_are_closed_or_refused() {
    let program = Program::new();
    add_user(&program, "ada@here.test", &[]);
    for name in ["billhook.db", "billhook.db-wal", "billhook.db-shm"] {
        let path = program.path(name);
        assert!(!path.exists() || crate::harness::program::is_private(&path), "{name}");
    }
    let open =
        |name: &str| std::fs::set_permissions(program.path(name), PermissionsExt::from_mode(0o644)).expect("chmod");
    open("billhook.db");
    let done = program.run(&["user", "list"]);
    assert_eq!(done.code, Some(0));
    assert!(done.stderr.contains("open to others"), "{done:?}");
    assert!(crate::harness::program::is_private(&program.path("billhook.db")));

    std::fs::write(program.path("key"), KEY).expect("written");
    open("key");
    let with_key = Program::new().with("STRIPE_SECRET_KEY_FILE", &program.path("key").display().to_string());
    assert!(refused(&with_key.run(&["migrate"]), 78).contains("STRIPE_SECRET_KEY_FILE: the file is open to others"));
}
