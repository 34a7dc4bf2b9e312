//! From a request to an answer: key, version, parameters, idempotency, the work itself, and the headers that Stripe sends.

use crate::calendar::http_date;
use crate::clock::Time;
use crate::error::StripeError;
use crate::events::Cause;
use crate::expand::Expansions;
use crate::idempotency::{Saved, Verdict, fingerprint};
use crate::params::{Field, METADATA_MAX, Params, Sent, Spec, canonical, check, opt, read, too_much_metadata};
use crate::resources::{Call, Reply};
use crate::router::{Route, Run, route};
use crate::shape::{is_current, reshape};
use crate::store::Row;
use crate::version::{DEFAULT, Version};
use crate::world::{World, opaque};
use base64::Engine as _;
use hyper::HeaderMap;
use serde_json::Value;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;
use tokio::sync::Notify;

const EXPAND: &[Field] = &[opt("expand", Spec::ClearableList(&Spec::Text))];

/// A request as it came, its body read.
pub(crate) struct Arrived {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Arrived {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Keys count for writes only.
    fn idempotency_key(&self) -> Option<&str> {
        self.header("idempotency-key").filter(|key| self.method == "POST" && !key.is_empty())
    }
}

/// An answer before it becomes bytes on a wire.
#[derive(Debug, Clone)]
pub(crate) struct Reaction {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: String,
}

/// What the fault script demands of a request that is otherwise handled as usual.
#[derive(Default)]
pub(crate) struct Demand {
    /// Answer this instead of doing the work.
    pub(crate) fail: Option<StripeError>,
    /// Wait this long before doing the work, the idempotency key being in use.
    pub(crate) wait: Option<Duration>,
}

/// The part of the sandbox that answers.
pub(crate) struct Desk {
    world: RwLock<World>,
    key: Option<String>,
    pub(crate) clock: crate::Clock,
    pub(crate) time: Mutex<Time>,
    /// Held by whoever puts the clock forward.
    pub(crate) advancing: tokio::sync::Mutex<()>,
    /// Rung when there may be something to deliver.
    pub(crate) bell: Notify,
    /// Rung when a courier has nothing left to deliver.
    pub(crate) calm: Notify,
    requests: AtomicU64,
}

/// Gives an idempotency key free again, also where the caller went away while waiting.
struct Held<'a> {
    desk: &'a Desk,
    key: Option<String>,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            self.desk.write().idempotency.finish(&key, None);
        }
    }
}

/// A request that is understood.
struct Understood<'a> {
    route: &'static Route,
    call: Call<'a>,
    expansions: Expansions,
}

impl Desk {
    pub(crate) fn new(world: World, key: Option<String>, clock: crate::Clock) -> Desk {
        let ahead = world.setting("clock_ahead").as_i64().unwrap_or_default();
        Desk {
            world: RwLock::new(world),
            key,
            clock,
            time: Mutex::new(Time { ahead, ..Time::default() }),
            advancing: tokio::sync::Mutex::new(()),
            bell: Notify::new(),
            calm: Notify::new(),
            requests: AtomicU64::new(0),
        }
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, World> {
        self.world.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, World> {
        self.world.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn request_id(&self) -> String {
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        format!("req_{}", opaque(self.read().born().unsigned_abs() ^ 0x5EED, number, 14))
    }

    /// Answers a request; never fails, because errors are answers too.
    pub(crate) async fn answer(&self, arrived: &Arrived, demand: Demand) -> Reaction {
        self.catch_up();
        let request_id = self.request_id();
        let version = arrived.header("stripe-version").unwrap_or(DEFAULT).to_owned();
        let mut reaction = match self.handle(arrived, demand, &request_id).await {
            Ok(reaction) => reaction,
            Err(error) => refusal(&error, &request_id),
        };
        reaction.headers.push(("request-id", request_id));
        reaction.headers.push(("stripe-version", version));
        reaction.headers.push(("date", http_date(self.now())));
        reaction.headers.push(("cache-control", "no-cache, no-store".to_owned()));
        reaction.headers.push(("access-control-max-age", "300".to_owned()));
        if let Some(key) = arrived.idempotency_key() {
            reaction.headers.push(("idempotency-key", key.to_owned()));
        }
        reaction
    }

    /// Does a piece of work that no request asked for: on a page, or on one of the sandbox's own paths.
    pub(crate) fn work<T>(&self, job: impl FnOnce(&mut World) -> Result<T, StripeError>) -> Result<T, StripeError> {
        self.catch_up();
        let mut world = self.write();
        world.begin(self.now(), Cause::default());
        let result = job(&mut world);
        if result.as_ref().is_err_and(|error| !error.keeps) {
            world.undo();
        }
        world.commit(None).map_err(|error| unwritten(&error))?;
        drop(world);
        self.bell.notify_one();
        result
    }

    /// An error of the fault script that nothing is done for.
    pub(crate) fn refuse(&self, error: &StripeError) -> Reaction {
        let request_id = self.request_id();
        let mut reaction = refusal(error, &request_id);
        reaction.headers.push(("request-id", request_id));
        reaction.headers.push(("date", http_date(self.now())));
        reaction
    }

    async fn handle(&self, arrived: &Arrived, demand: Demand, request_id: &str) -> Result<Reaction, StripeError> {
        authenticate(self.key.as_deref(), arrived.header("authorization"))?;
        let version = match arrived.header("stripe-version") {
            Some(version) => Version::parse(version)?,
            None => Version::parse(DEFAULT)?.unstated(),
        };
        let (route, ids) = route(&arrived.method, &arrived.path).ok_or_else(|| unrecognized(arrived))?;
        let mut sent = Vec::new();
        read(&arrived.query, &mut sent)?;
        read(&arrived.body, &mut sent)?;
        let key = arrived.idempotency_key();
        let asked = fingerprint(&arrived.method, &arrived.path, &canonical(&sent));
        let mut held = Held { desk: self, key: None };
        if let Some(key) = key {
            match self.write().idempotency.begin(key, &arrived.path, &asked, self.now())? {
                Verdict::Again(saved) => return Ok(again(saved)),
                Verdict::Fresh => held.key = Some(key.to_owned()),
            }
        }
        if let Some(wait) = demand.wait {
            tokio::time::sleep(wait).await;
        }
        let ids = ids.iter().map(|id| percent_decoded(id)).collect::<Vec<_>>();
        let understood = understand(route, arrived, ids.iter().map(|id| &**id).collect(), &sent, &version)?;
        match understood.route.run {
            Run::Read(run) if demand.fail.is_none() => {
                let world = self.read();
                let reply = run(&world, &understood.call)?;
                Ok(plain(200, written(&world, &reply, &version, &understood.expansions)))
            }
            run => {
                let mut world = self.write();
                let key = key.map(str::to_owned);
                world.begin(self.now(), Cause { id: Some(request_id.to_owned()), idempotency_key: key });
                let result = match (demand.fail, run) {
                    (Some(error), _) => Err(error),
                    (None, Run::Read(run)) => run(&world, &understood.call),
                    (None, Run::Write(run)) => run(&mut world, &understood.call),
                };
                let result =
                    result.and_then(judged).map(|reply| written(&world, &reply, &version, &understood.expansions));
                let reaction = conclude(&mut world, result, held.key.take(), (arrived.path.clone(), asked), request_id);
                drop(world);
                self.bell.notify_one();
                reaction
            }
        }
    }
}

/// Keeps the answer under its key where the work was begun, and writes it down together with what it changed.
fn conclude(
    world: &mut World,
    result: Result<String, StripeError>,
    key: Option<String>,
    (path, asked): (String, String),
    request_id: &str,
) -> Result<Reaction, StripeError> {
    let mut reaction = match result {
        Ok(body) => plain(200, body),
        Err(error) => {
            if !error.keeps {
                world.undo();
            }
            refusal(&error, request_id)
        }
    };
    let Some(key) = key else {
        world.commit(None).map_err(|error| unwritten(&error))?;
        return Ok(reaction);
    };
    let begun = matches!(reaction.status, 200 | 402 | 500);
    let saved = begun.then(|| Saved {
        key: key.clone(),
        asked,
        path,
        at: world.wall,
        request_id: request_id.to_owned(),
        status: reaction.status,
        body: reaction.body.clone(),
    });
    let committed = world.commit(saved.as_ref());
    world.idempotency.finish(&key, saved.as_ref());
    committed.map_err(|error| unwritten(&error))?;
    reaction.headers.push(("original-request", request_id.to_owned()));
    Ok(reaction)
}

/// What can only be seen when all is done: metadata that is added to what was there can be too much.
fn judged(reply: Reply) -> Result<Reply, StripeError> {
    match &reply {
        Reply::One(object) if object["metadata"].as_object().is_some_and(|pairs| pairs.len() > METADATA_MAX) => {
            Err(too_much_metadata("metadata"))
        }
        _ => Ok(reply),
    }
}

fn plain(status: u16, body: String) -> Reaction {
    Reaction { status, headers: vec![("content-type", "application/json".to_owned())], body }
}

fn understand<'a>(
    route: &'static Route,
    arrived: &'a Arrived,
    ids: Vec<&'a str>,
    sent: &[(String, Sent)],
    version: &Version,
) -> Result<Understood<'a>, StripeError> {
    let mut fields: Vec<&[Field]> = route.fields.to_vec();
    fields.push(EXPAND);
    let params: Params = check(&fields, sent)?;
    let expansions = Expansions::check(params.list("expand"), route.kind, route.list, version)?;
    Ok(Understood {
        route,
        call: Call { path: &arrived.path, ids, params, object: route.kind, version: version.clone() },
        expansions,
    })
}

/// The answer in the caller's shape, with what was expanded.
fn written(world: &World, reply: &Reply, version: &Version, expansions: &Expansions) -> String {
    match reply {
        Reply::One(object) => view(world, Arc::clone(object), version, expansions),
        Reply::Page { url, rows, has_more } => {
            let mut out = String::from(r#"{"object":"list","data":["#);
            for (place, row) in rows.iter().enumerate() {
                if place > 0 {
                    out.push(',');
                }
                match row {
                    Row::Lazy(kind, number) if as_kept(kind.name(), version, expansions) => {
                        out.push_str(&world.store.text(*kind, *number));
                    }
                    row => out.push_str(&view(world, world.store.made(row), version, expansions)),
                }
            }
            out + &format!(r#"],"has_more":{has_more},"url":{}}}"#, Value::from(url.as_str()))
        }
    }
}

fn as_kept(kind: &str, version: &Version, expansions: &Expansions) -> bool {
    expansions.is_empty() && is_current(kind, version)
}

fn view(world: &World, object: Arc<Value>, version: &Version, expansions: &Expansions) -> String {
    if as_kept(object["object"].as_str().unwrap_or_default(), version, expansions) {
        return json(&object);
    }
    // A lazy row was made for this answer alone and need not be copied.
    let mut object = Arc::unwrap_or_clone(object);
    reshape(&world.store, &mut object, version);
    expansions.follow(&world.store, &mut object, version);
    json(&object)
}

/// Faster than `Display`, which a page of a hundred objects notices.
fn json(object: &Value) -> String {
    serde_json::to_string(object).unwrap_or_default()
}

fn refusal(error: &StripeError, request_id: &str) -> Reaction {
    let mut headers = vec![("content-type", "application/json".to_owned())];
    if error.status == 401 {
        headers.push(("www-authenticate", "Bearer realm=\"Stripe\"".to_owned()));
    }
    if error.status == 409 {
        headers.push(("stripe-should-retry", "true".to_owned()));
    }
    Reaction { status: error.status, headers, body: error.body(request_id).to_string() }
}

fn again(saved: Saved) -> Reaction {
    let headers = vec![
        ("content-type", "application/json".to_owned()),
        ("idempotent-replayed", "true".to_owned()),
        ("original-request", saved.request_id),
    ];
    Reaction { status: saved.status, headers, body: saved.body }
}

fn unwritten(error: &std::io::Error) -> StripeError {
    tracing::error!(%error, "the sandbox cannot write its state");
    StripeError::new(500, "api_error", "The sandbox cannot write its state file.")
}

fn unrecognized(arrived: &Arrived) -> StripeError {
    let message = format!(
        "Unrecognized request URL ({}: {}). Please see https://stripe.com/docs or we can help at https://support.stripe.com/.",
        arrived.method, arrived.path
    );
    StripeError { status: 404, ..StripeError::invalid(message) }
}

/// Ids in a path may be percent-encoded; what is not valid stays as it is and is not found.
fn percent_decoded(text: &str) -> String {
    let mut sent = Vec::new();
    match read(&format!("id={}", text.replace('+', "%2B").replace('&', "%26")), &mut sent) {
        Ok(()) => match sent.pop() {
            Some((_, Sent::Text(id))) => id,
            _ => text.to_owned(),
        },
        Err(_) => text.to_owned(),
    }
}

fn authenticate(own: Option<&str>, header: Option<&str>) -> Result<(), StripeError> {
    let refuse = |message: String| Err(StripeError { status: 401, ..StripeError::invalid(message) });
    let given = header.and_then(key_of).filter(|key| !key.is_empty());
    let Some(given) = given else {
        return refuse(
            "You did not provide an API key. You need to provide your API key in the Authorization header, using Bearer \
             auth (e.g. 'Authorization: Bearer YOUR_SECRET_KEY'). See https://stripe.com/docs/api#authentication for \
             details, or we can help at https://support.stripe.com/."
                .to_owned(),
        );
    };
    let good = match own {
        Some(own) => own == given,
        None => ["sk_test_", "rk_test_"].iter().any(|prefix| {
            given.strip_prefix(prefix).is_some_and(|rest| {
                !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            })
        }),
    };
    if good { Ok(()) } else { refuse(format!("Invalid API Key provided: {}", masked(&given))) }
}

/// `Bearer key`, or the user name of Basic.
fn key_of(header: &str) -> Option<String> {
    let (scheme, rest) = header.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.trim().to_owned());
    }
    if scheme.eq_ignore_ascii_case("basic") {
        let bytes = base64::engine::general_purpose::STANDARD.decode(rest.trim()).ok()?;
        let text = String::from_utf8(bytes).ok()?;
        return Some(text.split(':').next().unwrap_or_default().to_owned());
    }
    None
}

/// `sk_test_********1234`: enough to recognise, not enough to use.
fn masked(key: &str) -> String {
    let letters: Vec<char> = key.chars().collect();
    let length = letters.len();
    let shown = if length > 16 { (8, length - 4) } else { (0, length) };
    let mask = |(place, letter): (usize, &char)| if place < shown.0 || place >= shown.1 { *letter } else { '*' };
    letters.iter().enumerate().map(mask).collect()
}
