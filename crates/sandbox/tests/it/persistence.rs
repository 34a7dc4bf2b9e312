//! The state file.

use crate::lab::{Lab, NOW};
use crate::receiver::Receiver;
use sandbox::Seed;
use serde_json::json;
use std::fs;
use std::path::PathBuf;

const DAY: i64 = 24 * 60 * 60;

/// A file that is gone when the test is over.
struct State(PathBuf);

impl State {
    fn new(name: &str) -> State {
        let state =
            State(PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}.jsonl", std::process::id())));
        state.remove();
        state
    }

    fn open(&self, seed: Seed) -> Lab {
        Lab::with(seed, Some(self.0.clone()))
    }

    fn beside(&self, extension: &str) -> PathBuf {
        self.0.with_added_extension(extension)
    }

    fn remove(&self) {
        for path in [&self.0, &self.beside("lock")] {
            let _ = fs::remove_file(path);
        }
    }
}

impl Drop for State {
    fn drop(&mut self) {
        self.remove();
    }
}

#[test]
fn everything_is_there_after_a_restart() {
    for (name, seed) in [("empty", Seed::Empty), ("business", Seed::Business), ("scale", Seed::Scale { customers: 30 })]
    {
        let state = State::new(name);
        let lab = state.open(seed);
        let eve = lab.post_once("key", "/v1/customers", "name=Eve").unwrap();
        let gone = lab.made("/v1/customers", "name=Gone")["id"].as_str().unwrap().to_owned();
        lab.delete(&format!("/v1/customers/{gone}"));
        let before = ["/v1/customers?limit=100", "/v1/subscriptions?limit=100", "/v1/invoices?limit=100"]
            .map(|path| lab.get(path).text);
        lab.stop();
        let lab = state.open(Seed::Empty);
        let after = ["/v1/customers?limit=100", "/v1/subscriptions?limit=100", "/v1/invoices?limit=100"]
            .map(|path| lab.get(path).text);
        assert_eq!(before, after, "{name}");
        assert_eq!(lab.get(&format!("/v1/customers/{gone}")).body["deleted"], true);
        let again = lab.post_once("key", "/v1/customers", "name=Eve").unwrap();
        assert_eq!((again.header("idempotent-replayed"), &again.text), ("true", &eve.text), "{name}");
        let fresh = lab.made("/v1/customers", "name=Fresh");
        assert_eq!(lab.get("/v1/customers?limit=1").body["data"][0], fresh, "ids go on, {name}");
    }
}

#[test]
fn lazy_objects_can_be_changed_for_good() {
    let state = State::new("lazy");
    let lab = state.open(Seed::Scale { customers: 30 });
    lab.made("/v1/customers/cus_scale_0000007", "email=new%40example.com");
    lab.delete("/v1/customers/cus_scale_0000008");
    lab.stop();
    let lab = state.open(Seed::Empty);
    assert_eq!(lab.get("/v1/customers?email=new%40example.com").ids(), ["cus_scale_0000007"]);
    assert_eq!(lab.get("/v1/customers?limit=100").rows().len(), 29);
    assert_eq!(lab.get("/v1/subscriptions/sub_scale_0000008").body["status"], "canceled");
}

#[test]
#[cfg(unix)]
fn nobody_else_may_read_it() {
    use std::os::unix::fs::PermissionsExt as _;
    let state = State::new("private");
    let leftover = state.0.with_extension("planting");
    fs::write(&leftover, "a crash left this, open to all").unwrap();
    fs::set_permissions(&leftover, fs::Permissions::from_mode(0o644)).unwrap();
    let _lab = state.open(Seed::Empty);
    for path in [state.0.clone(), state.beside("lock")] {
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600, "{}", path.display());
    }
}

#[test]
fn one_sandbox_at_a_time() {
    let state = State::new("shared");
    let first = state.open(Seed::Empty);
    let second = Lab::new(Seed::Empty);
    let error = second.start(Seed::Business, Some(state.0.clone())).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ResourceBusy);
    let named = format!("the state file {} is in use by another sandbox", state.0.display());
    assert!(error.to_string().starts_with(&named), "{error}");
    fs::remove_file(&state.0).unwrap();
    let error = second.start(Seed::Business, Some(state.0.clone())).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ResourceBusy, "nor a new file in the place of one that is in use");
    first.stop();
    state.open(Seed::Empty).made("/v1/customers", "name=Next");
}

#[test]
fn invoice_numbers_count_on() {
    let state = State::new("numbers");
    let lab = state.open(Seed::Business);
    let number = |lab: &Lab| {
        let form = "customer=cus_sandbox_user&items[0][price]=price_starter_monthly&expand[]=latest_invoice";
        let number = lab.made("/v1/subscriptions", form)["latest_invoice"]["number"].as_str().unwrap().to_owned();
        number.strip_prefix("INV-2026-").unwrap().parse::<u32>().unwrap()
    };
    let first = number(&lab);
    lab.stop();
    assert_eq!(number(&state.open(Seed::Empty)), first + 1);
}

#[test]
fn a_torn_last_line_is_cut_off() {
    let state = State::new("torn");
    let lab = state.open(Seed::Empty);
    lab.made("/v1/customers", "name=Whole");
    lab.stop();
    let mut text = fs::read(&state.0).unwrap();
    text.extend_from_slice(br#"{"put":"customer","sequence":9,"obj"#);
    fs::write(&state.0, text).unwrap();
    let lab = state.open(Seed::Empty);
    assert_eq!(lab.get("/v1/customers").rows().len(), 1);
    lab.made("/v1/customers", "name=After");
    lab.stop();
    assert_eq!(state.open(Seed::Empty).get("/v1/customers").rows().len(), 2);
}

#[test]
fn a_file_that_is_not_ours_is_refused_and_left_alone() {
    for (name, text) in [
        ("foreign", "hello\n"),
        ("newer", "{\"billhook_sandbox\":99,\"seed\":\"empty\",\"born\":1}\n"),
        (
            "broken",
            "{\"billhook_sandbox\":1,\"seed\":\"empty\",\"born\":1}\n{\"put\":\"unicorn\",\"sequence\":1,\"object\":{}}\n",
        ),
    ] {
        let state = State::new(name);
        fs::write(&state.0, text).unwrap();
        let lab = Lab::new(Seed::Empty);
        let error = lab.start(Seed::Business, Some(state.0.clone())).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidData, "{name}");
        assert_eq!(fs::read_to_string(&state.0).unwrap(), text, "{name}");
    }
}

#[test]
fn much_history_is_compacted() {
    let state = State::new("history");
    let lab = state.open(Seed::Empty);
    let id = lab.made("/v1/customers", "name=Busy")["id"].as_str().unwrap().to_owned();
    lab.stop();
    let text = fs::read_to_string(&state.0).unwrap();
    let line = text.lines().nth(1).unwrap();
    let longer = format!("{text}{}", format!("{line}\n").repeat(12_000));
    fs::write(&state.0, longer).unwrap();
    let lab = state.open(Seed::Empty);
    assert_eq!(lab.get("/v1/customers").ids(), [id.as_str()]);
    lab.made("/v1/customers", &format!("name=Later&metadata[at]={NOW}"));
    lab.stop();
    let text = fs::read_to_string(&state.0).unwrap();
    assert_eq!(text.lines().filter(|line| line.starts_with(r#"{"put""#)).count(), 2);
    assert!(text.lines().count() < 10, "{text}");
}

/// Time, events, what is due and what is on its way: all of it goes on where it stood.
#[test]
fn a_life_goes_on_after_a_restart() {
    let state = State::new("life");
    let (lab, receiver) = (state.open(Seed::Business), Receiver::start());
    let url = receiver.url().replace(':', "%3A").replace('/', "%2F");
    lab.made("/v1/webhook_endpoints", &format!("url={url}&enabled_events[]=customer.subscription.trial_will_end"));
    let customer = lab.payer("pm_card_visa");
    let made = lab.subscribe(&customer, "items[0][price]=price_starter_monthly&trial_period_days=14");
    lab.advance(10 * DAY);
    let theirs = |receiver: &Receiver| {
        receiver.events().iter().filter(|event| event["data"]["object"]["id"] == made["id"]).count()
    };
    assert_eq!(theirs(&receiver), 0);
    receiver.answer_with(&[500; 200]);
    lab.advance(DAY + 3600);
    let clock = lab.get("/_sandbox/clock").text;
    let waiting = lab.get("/v1/events?delivery_success=false&limit=100").rows().len();
    assert!(theirs(&receiver) > 0 && waiting > 0);
    lab.stop();
    receiver.answer_well();
    let lab = state.open(Seed::Empty);
    assert_eq!(lab.get("/_sandbox/clock").text, clock);
    let told = |lab: &Lab| {
        lab.events_since("")
            .iter()
            .filter(|event| {
                event["type"] == "customer.subscription.trial_will_end" && event["data"]["object"]["id"] == made["id"]
            })
            .count()
    };
    assert_eq!(told(&lab), 1);
    lab.advance(4 * DAY);
    assert_eq!(told(&lab), 1, "announced once");
    assert_eq!(lab.get("/v1/events?delivery_success=false&limit=100").rows().len(), 0, "I-02: what waited arrived");
    let now = lab.get(&format!("/v1/subscriptions/{}?expand[]=latest_invoice", made["id"].as_str().unwrap())).body;
    assert_eq!((&now["status"], &now["latest_invoice"]["status"]), (&json!("active"), &json!("paid")));
    let (told, listed) = (lab.events_since("").len(), lab.get("/v1/events?limit=100").text);
    lab.stop();
    let lab = state.open(Seed::Empty);
    assert_eq!((lab.events_since("").len(), lab.get("/v1/events?limit=100").text), (told, listed), "nothing twice");
}

/// A file of the time when there were no events and nothing happened by itself: it goes on from when it was begun.
#[test]
fn an_old_state_file_is_continued() {
    let state = State::new("old");
    let lab = state.open(Seed::Business);
    let customer = lab.payer("pm_card_visa");
    let made = lab.subscribe(&customer, "items[0][price]=price_starter_monthly");
    lab.stop();
    let text = fs::read_to_string(&state.0).unwrap();
    let old: Vec<&str> =
        text.lines().filter(|line| !line.starts_with(r#"{"event""#) && !line.starts_with(r#"{"at""#)).collect();
    fs::write(&state.0, old.join("\n") + "\n").unwrap();
    let lab = state.open(Seed::Empty);
    assert_eq!(lab.events_since("").len(), 0);
    lab.wait(65 * DAY);
    let invoices = lab.get(&format!("/v1/invoices?subscription={}", made["id"].as_str().unwrap()));
    let created: Vec<i64> = invoices.rows().iter().map(|row| (row["created"].as_i64().unwrap() - NOW) / DAY).collect();
    assert_eq!(created, [61, 30, 0]);
}
