//! The Stripe client against a server that answers byte for byte what a script says, and the readers against both ages.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test stops where it fails")]

mod certificate;
mod readers;
mod script;

use std::sync::Arc;
use std::time::{Duration, Instant};

use billhook::gateways::stripe::{BodyFault, BreakerState, ListFault, Place, Settings, Stripe, StripeError, segment};
use script::{Server, Step, html, ok, raw, status};

const CANARY: &str = "sk_test_canary_4711";
const CUSTOMER: &str = r#"{"id":"cus_1","object":"customer"}"#;

fn settings(base: &str) -> Settings {
    Settings {
        attempt_deadline: Duration::from_secs(5),
        total_deadline: Duration::from_secs(10),
        ..Settings::new(base, CANARY.into(), "2026-09-30.endive")
    }
}

/// A client without jitter.
fn client(settings: Settings) -> Stripe {
    Stripe::new(settings, Arc::new(|| 0)).unwrap()
}

async fn customer(stripe: &Stripe) -> Result<String, StripeError> {
    let answer = stripe.get("/v1/customers/cus_1", &[]).await?;
    Ok(answer.body.get().to_owned())
}

#[tokio::test]
async fn a_request_carries_key_version_and_nothing_that_asks_for_gzip() {
    let server = Server::start(vec![ok(r#"{"id":"cus_1"}"#)]);
    let stripe = client(settings(&format!("{}/proxied/", server.base())));
    let answer = stripe.get("/v1/customers", &[("email", "a+b@c.de"), ("expand[]", "data.tiers")]).await.unwrap();
    assert_eq!(answer.request_id.as_deref(), Some("req_1"));
    let request = &server.requests()[0];
    assert_eq!(request.line, "GET /proxied/v1/customers?email=a%2Bb%40c.de&expand%5B%5D=data.tiers HTTP/1.1");
    assert_eq!(request.header("authorization"), Some("Bearer sk_test_canary_4711"));
    assert_eq!(request.header("stripe-version"), Some("2026-09-30.endive"));
    assert_eq!(request.header("user-agent"), Some(concat!("billhook/", env!("CARGO_PKG_VERSION"))));
    assert_eq!(request.header("accept-encoding"), None);
}

#[tokio::test]
async fn one_connection_serves_many_calls() {
    let server = Server::start(vec![ok(CUSTOMER), ok(CUSTOMER), ok(CUSTOMER)]);
    let stripe = client(settings(&server.base()));
    for _ in 0..3 {
        customer(&stripe).await.unwrap();
    }
    assert_eq!((server.requests().len(), server.connections()), (3, 1));
}

#[tokio::test]
async fn f27_a_429_is_waited_for_as_long_as_stripe_asks_and_halves_the_rate() {
    let server = Server::start(vec![status(429, "Retry-After: 1\r\n", "{}"), ok(CUSTOMER)]);
    let stripe = client(settings(&server.base()));
    let start = Instant::now();
    assert_eq!(customer(&stripe).await.unwrap(), CUSTOMER);
    assert!(start.elapsed() >= Duration::from_secs(1));
    assert!((40..80).contains(&stripe.state().rate_per_second), "{:?}", stripe.state());
}

#[tokio::test]
async fn f27_a_429_without_retry_after_is_tried_again_soon() {
    let server = Server::start(vec![status(429, "", "{}"), status(429, "Retry-After: soon\r\n", "{}"), ok(CUSTOMER)]);
    assert_eq!(customer(&client(settings(&server.base()))).await.unwrap(), CUSTOMER);
}

#[tokio::test]
async fn f27_who_asks_for_more_patience_than_there_is_gets_none() {
    let server = Server::start(vec![status(429, "Retry-After: 60\r\n", "{}")]);
    let start = Instant::now();
    let error = customer(&client(settings(&server.base()))).await.unwrap_err();
    assert!(start.elapsed() < Duration::from_secs(5), "gives up at once");
    assert_eq!((error.code(), error.retry_after()), ("stripe.rate_limited", Some(Duration::from_mins(1))));
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn f28_broken_servers_and_broken_connections_are_tried_again() {
    for trouble in [status(500, "", "{}"), status(502, "", "<h1>Bad Gateway</h1>"), status(503, "", ""), Step::HangUp] {
        let server = Server::start(vec![trouble, ok(CUSTOMER)]);
        assert_eq!(customer(&client(settings(&server.base()))).await.unwrap(), CUSTOMER);
        assert_eq!(server.requests().len(), 2);
    }
}

#[tokio::test]
async fn f28_four_attempts_then_the_last_answer_is_the_error() {
    let body = r#"{"error":{"type":"api_error","message":"Sorry"}}"#;
    let server = Server::start((0..9).map(|_| status(503, "Request-Id: req_9\r\n", body)).collect());
    let error = customer(&client(settings(&server.base()))).await.unwrap_err();
    assert_eq!((error.code(), error.retryable(), error.request_id()), ("stripe.unavailable", true, Some("req_9")));
    assert_eq!(error.to_string(), "Stripe answered 503, api_error: Sorry [req_9]");
    assert_eq!(server.requests().len(), 4);
}

#[tokio::test]
async fn f29_a_write_whose_answer_is_lost_goes_out_again_under_the_same_key() {
    let server = Server::start(vec![Step::HangUp, status(500, "", "{}"), ok(CUSTOMER)]);
    let stripe = client(settings(&server.base()));
    stripe.post("/v1/customers", &[("name", "A & B"), ("metadata[x]", "ü")], "op_01").await.unwrap();
    let requests = server.requests();
    assert_eq!(requests.len(), 3);
    for request in requests {
        assert_eq!(request.header("idempotency-key"), Some("op_01"));
        assert_eq!(request.header("content-type"), Some("application/x-www-form-urlencoded"));
        assert_eq!(request.body, "name=A+%26+B&metadata%5Bx%5D=%C3%BC");
    }
}

#[tokio::test]
async fn f28_a_write_is_tried_three_times_at_most() {
    let server = Server::start((0..9).map(|_| status(500, "", "{}")).collect());
    client(settings(&server.base())).post("/v1/customers", &[], "op_01").await.unwrap_err();
    assert_eq!(server.requests().len(), 3);
}

#[tokio::test]
async fn f30_what_stripe_says_about_trying_again_is_obeyed() {
    let conflict = r#"{"error":{"type":"idempotency_error","code":"idempotency_key_in_use"}}"#;
    for (status_code, header, body, attempts) in [
        (409, "", conflict, 2),
        (409, "Stripe-Should-Retry: false\r\n", conflict, 1),
        (500, "Stripe-Should-Retry: false\r\n", "{}", 1),
        (400, "Stripe-Should-Retry: true\r\n", "{}", 2),
        (400, "", r#"{"error":{"type":"idempotency_error"}}"#, 1),
        (402, "", r#"{"error":{"type":"card_error","code":"card_declined"}}"#, 1),
    ] {
        let server = Server::start(vec![status(status_code, header, body), ok(CUSTOMER)]);
        let answer = client(settings(&server.base())).post("/v1/customers", &[], "op_01").await;
        assert_eq!((server.requests().len(), answer.is_ok()), (attempts, attempts == 2), "{status_code} {header}");
    }
}

#[tokio::test]
async fn f34_a_revoked_key_is_not_tried_again_and_the_state_names_it() {
    for status_code in [401, 403] {
        let server = Server::start(vec![status(status_code, "Stripe-Should-Retry: true\r\n", "{}"), ok(CUSTOMER)]);
        let stripe = client(settings(&server.base()));
        assert_eq!(customer(&stripe).await.unwrap_err().code(), "stripe.auth");
        assert_eq!(server.requests().len(), 1);
        assert_eq!(stripe.state().last_error.unwrap().code, "stripe.auth");
        customer(&stripe).await.unwrap();
        assert_eq!(stripe.state().last_error, None);
    }
}

#[tokio::test]
async fn a_refusal_is_named_and_is_no_trouble_with_stripe() {
    let body =
        r#"{"error":{"type":"invalid_request_error","code":"resource_missing","param":"id","message":"No such"}}"#;
    let server = Server::start(vec![status(404, "", body), status(404, "", "<html>?</html>"), status(400, "", body)]);
    let stripe = client(settings(&server.base()));
    let gone = customer(&stripe).await.unwrap_err();
    assert!(gone.is_not_found() && gone.is_missing_object() && !gone.retryable());
    assert!(!customer(&stripe).await.unwrap_err().is_missing_object(), "a page of a proxy proves nothing");
    assert_eq!(customer(&stripe).await.unwrap_err().code(), "stripe.refused");
    assert_eq!(server.requests().len(), 3);
    assert_eq!(stripe.state().last_error, None);
    assert_eq!(stripe.state().breaker, BreakerState::Closed { failures: 0 });
}

#[tokio::test]
async fn f32_a_success_that_is_no_json_counts_as_a_broken_server() {
    let lie = |body: &str| raw(&format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{body}"));
    for (answer, fault) in [
        (html("<!DOCTYPE html><title>Sign in</title>"), BodyFault::NotJson),
        (ok(r#"{"id":"cus_1",}"#), BodyFault::NotJson),
        (ok(""), BodyFault::Truncated),
        (lie(r#"{"id":"cus_1","name":"A"#), BodyFault::Truncated),
        (ok("[]"), BodyFault::NotAnObject),
        (raw("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}"), BodyFault::Encoded),
    ] {
        let server = Server::start(vec![answer.clone(), ok(CUSTOMER)]);
        assert_eq!(customer(&client(settings(&server.base()))).await.unwrap(), CUSTOMER, "tried again");

        let server = Server::start(vec![answer]);
        let once = client(Settings { attempts: 1, ..settings(&server.base()) });
        let error = customer(&once).await.unwrap_err();
        assert!(matches!(error, StripeError::BadBody { fault: found, .. } if found == fault), "{error:?} {fault:?}");
        assert_eq!(once.state().breaker, BreakerState::Closed { failures: 1 });
    }
}

#[tokio::test]
async fn f32_a_body_that_stops_before_its_length_is_a_broken_connection() {
    let short = "HTTP/1.1 200 OK\r\nContent-Length: 500\r\nConnection: close\r\n\r\n{\"id\":\"cus_1\"}";
    let server = Server::start(vec![raw(short)]);
    let error = customer(&client(Settings { attempts: 1, ..settings(&server.base()) })).await.unwrap_err();
    assert!(matches!(error, StripeError::Unreachable { place: Place::Exchange, .. }), "{error:?}");
}

#[tokio::test]
async fn f32_a_body_beyond_the_cap_is_dropped_whether_it_says_so_or_not() {
    let long = format!("{{\"id\":\"{}\"}}", "x".repeat(2000));
    let chunked =
        format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{long}\r\n0\r\n\r\n", long.len());
    for answer in [raw("HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n{"), raw(&chunked), ok(&long)] {
        let server = Server::start(vec![answer, ok(CUSTOMER)]);
        let error = customer(&client(Settings { body_max: 1000, ..settings(&server.base()) })).await.unwrap_err();
        assert!(matches!(error, StripeError::TooLarge { cap: 1000, .. }), "{error:?}");
        assert_eq!(server.requests().len(), 1, "the same page would be as long again");
    }
}

#[tokio::test]
async fn f33_a_body_that_trickles_ends_with_the_total_deadline() {
    let server = Server::start((0..4).map(|_| Step::Trickle).collect());
    let stripe = client(Settings {
        attempt_deadline: Duration::from_millis(400),
        total_deadline: Duration::from_secs(1),
        ..settings(&server.base())
    });
    let start = Instant::now();
    let error = customer(&stripe).await.unwrap_err();
    assert!(matches!(error, StripeError::Timeout { .. }), "{error:?}");
    assert!((900..4000).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
    assert!(server.requests().len() >= 2);
}

#[tokio::test]
async fn f33_a_slow_stripe_holds_no_more_calls_than_the_bulkhead_has_places() {
    let server = Server::start((0..4).map(|_| Step::Trickle).collect());
    let short = Duration::from_millis(500);
    let stripe = client(Settings { in_flight: 2, total_deadline: short, ..settings(&server.base()) });
    let start = Instant::now();
    let (one, two, three) = tokio::join!(customer(&stripe), customer(&stripe), customer(&stripe));
    assert!(start.elapsed() < Duration::from_secs(3), "the total deadline cuts a longer attempt");
    assert!(matches!(one.unwrap_err(), StripeError::Timeout { .. }));
    assert!(matches!(two.unwrap_err(), StripeError::Timeout { .. }));
    assert!(matches!(three.unwrap_err(), StripeError::Busy { .. }));
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn f40_nobody_there_fails_closed() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let error = customer(&client(settings(&base))).await.unwrap_err();
    assert!(matches!(error, StripeError::Unreachable { place: Place::Connect, .. }), "{error:?}");
    assert_eq!((error.code(), error.retryable()), ("stripe.unavailable", true));

    let nowhere = client(Settings { attempts: 1, ..settings("http://stripe.invalid") });
    assert_eq!(customer(&nowhere).await.unwrap_err().code(), "stripe.unavailable");
}

#[tokio::test]
async fn s64_f40_a_certificate_that_nobody_vouches_for_is_refused() {
    let base = certificate::serve_self_signed();
    let stripe = client(settings(&base));
    let error = customer(&stripe).await.unwrap_err();
    assert!(matches!(error, StripeError::Tls { .. }), "{error:?}");
    assert_eq!((error.code(), error.retryable()), ("stripe.tls", false));
    assert_eq!(stripe.state().breaker, BreakerState::Closed { failures: 1 }, "tried once");
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let other = Server::start(vec![ok(CUSTOMER)]);
    let location = format!("Location: {}/v1/customers/cus_1\r\n", other.base());
    let server = Server::start(vec![status(302, &location, "")]);
    let error = customer(&client(settings(&server.base()))).await.unwrap_err();
    assert!(matches!(error, StripeError::Status { status: 302, .. }), "{error:?}");
    assert_eq!(other.requests().len(), 0, "the key stays with whom it was meant for");
}

#[tokio::test]
async fn f28_the_breaker_opens_after_five_failures_and_one_answer_closes_it() {
    // Two more for what is asked to be sure.
    let troubles = (0..7).map(|_| status(500, "", "{}"));
    let server = Server::start(troubles.chain([ok(CUSTOMER), ok(CUSTOMER)]).collect());
    let pause = Duration::from_millis(1500);
    let stripe = client(Settings { breaker_pause: pause, ..settings(&server.base()) });
    customer(&stripe).await.unwrap_err();
    let fifth = customer(&stripe).await.unwrap_err();
    assert!(matches!(fifth, StripeError::Status { status: 500, .. }), "the reason, not its consequence: {fifth:?}");
    let refused = customer(&stripe).await.unwrap_err();
    assert!(matches!(refused, StripeError::BreakerOpen { retry_after } if retry_after <= pause), "{refused:?}");
    assert_eq!(server.requests().len(), 7, "nobody asks any more");
    tokio::time::sleep(pause).await;
    customer(&stripe).await.unwrap();
    assert_eq!(stripe.state().breaker, BreakerState::Closed { failures: 0 });
}

#[tokio::test]
async fn f28_the_breaker_stays_closed_while_stripe_answers_other_questions() {
    let list = r#"{"object":"list","data":[],"has_more":false}"#;
    let steps = (0..4).flat_map(|_| [(); 5].map(|()| status(500, "", "{}")).into_iter().chain([ok(list)]));
    let server = Server::start(steps.collect());
    let pause = Duration::from_hours(1);
    let stripe = client(Settings { breaker_pause: pause, attempts: 1, ..settings(&server.base()) });
    for _ in 0..20 {
        let error = customer(&stripe).await.unwrap_err();
        assert!(matches!(error, StripeError::Status { status: 500, .. }), "{error:?}");
    }
    assert!(server.requests()[5].line.starts_with("GET /v1/events?limit=1 "), "{:?}", server.requests()[5]);
    assert_eq!(stripe.state().breaker, BreakerState::Closed { failures: 0 });
}

#[tokio::test]
async fn s30_an_object_that_was_not_asked_for_is_inconsistent() {
    let server = Server::start(vec![ok(CUSTOMER), ok(r#"{"id":"cus_2"}"#)]);
    let stripe = client(settings(&server.base()));
    stripe.object("/v1/customers", "cus_1", &[]).await.unwrap();
    assert_eq!(stripe.object("/v1/customers", "cus_1", &[]).await.unwrap_err().code(), "stripe.inconsistent");
}

#[tokio::test]
async fn an_id_cannot_climb_out_of_its_list() {
    let server = Server::start(vec![ok(CUSTOMER)]);
    let stripe = client(settings(&server.base()));
    for path in
        ["v1/customers", "/v1/customers/../charges", "/v1/customers/", "/v1//x", "/v1/x?y", "/v1/%2E%2e", "/v3/x"]
    {
        let error = stripe.get(path, &[]).await.unwrap_err();
        assert!(matches!(error, StripeError::Request(_)), "{path}");
    }
    assert!(stripe.object("/v1/coupons", "..", &[]).await.is_err());
    assert_eq!(server.requests().len(), 0);
    assert_eq!(segment("10% off/Ä"), "10%25%20off%2F%C3%84");
}

#[tokio::test]
async fn the_servers_clock_is_known_from_its_answers() {
    let dated =
        raw("HTTP/1.1 200 OK\r\nDate: Sun, 22 Nov 2026 10:00:30 GMT\r\nContent-Length: 14\r\n\r\n{\"id\":\"cus_1\"}");
    let server = Server::start(vec![dated]);
    let stripe = client(settings(&server.base()));
    assert!(stripe.state().clock.is_none());
    customer(&stripe).await.unwrap();
    let skew = stripe.state().clock.unwrap().skew("2026-11-22T10:00:00Z".parse().unwrap());
    assert!((30..35).contains(&skew.as_secs()), "{skew}");
}

#[tokio::test]
async fn s56_the_key_is_in_no_text_of_ours() {
    let echo =
        format!(r#"{{"error":{{"type":"x {CANARY}","code":"{CANARY}","message":"Invalid API Key: {CANARY}"}}}}"#);
    let mut texts = vec![format!("{:?}", settings("https://api.stripe.com"))];
    for answer in [status(401, "", &echo), status(400, "", &echo), status(404, "", &echo), html(CANARY), Step::HangUp] {
        let server = Server::start(vec![answer]);
        let stripe = client(Settings { attempts: 1, ..settings(&server.base()) });
        let error = customer(&stripe).await.unwrap_err();
        let pages = stripe.pages("/v1/customers", &[], None);
        texts.push(format!("{stripe:?} {:?} {pages:?} {error:?} {error}", stripe.state()));
    }
    for text in texts {
        assert!(!text.contains("canary"), "{text}");
    }
}

#[test]
fn s56_a_setting_that_cannot_work_is_named_without_its_value() {
    let good = || settings("https://api.stripe.com");
    for (bad, name) in [
        (settings("api.stripe.com"), "URL"),
        (settings("ftp://canary"), "http"),
        (settings("https://canary:canary@host"), "password"),
        (settings("https://host/?canary"), "query"),
        (Settings { key: "sk canary\n".into(), ..good() }, "key"),
        (Settings { key: "".into(), ..good() }, "key"),
        (Settings { version: "canary\r\n".into(), ..good() }, "version"),
        (Settings { attempts: 0, ..good() }, "attempts"),
        (Settings { total_deadline: Duration::ZERO, ..good() }, "total_deadline"),
    ] {
        let error = Stripe::new(bad, Arc::new(|| 0)).unwrap_err();
        let text = format!("{error} {error:?}");
        assert!(error.to_string().contains(name) && !text.contains("canary"), "{text}");
    }
}

mod lists {
    //! Pagination.
    use super::{Duration, ListFault, Server, Settings, StripeError, client, ok, settings, status};

    fn page(ids: &[&str], more: &str) -> super::Step {
        let objects = ids.iter().map(|id| format!(r#"{{"id":"{id}"}}"#)).collect::<Vec<_>>().join(",");
        ok(&format!(r#"{{"data":[{objects}]{more}}}"#))
    }

    const MORE: &str = r#","has_more":true"#;
    const LAST: &str = r#","has_more":false"#;

    /// The ids of the whole list, or how it failed.
    async fn walk(server: &Server, after: Option<&str>) -> Result<Vec<String>, StripeError> {
        let stripe = client(settings(&server.base()));
        let mut pages = stripe.pages("/v1/customers", &[("email", "x")], after.map(str::to_owned));
        let mut ids = Vec::new();
        while let Some(page) = pages.next().await? {
            for object in page.objects {
                ids.push(billhook::gateways::stripe::read::id(object.get()).unwrap());
            }
        }
        Ok(ids)
    }

    #[tokio::test]
    async fn pages_follow_each_other_to_the_end_also_where_has_more_is_missing() {
        let server = Server::start(vec![page(&["a", "b"], MORE), page(&["c"], MORE), page(&["d"], "")]);
        assert_eq!(walk(&server, None).await.unwrap(), ["a", "b", "c", "d"]);
        let asked: Vec<String> = server.requests().into_iter().map(|request| request.line).collect();
        let line = |after: &str| format!("GET /v1/customers?email=x&limit=100{after} HTTP/1.1");
        assert_eq!(asked, [line(""), line("&starting_after=b"), line("&starting_after=c")]);
    }

    #[tokio::test]
    async fn a_walk_resumes_after_its_checkpoint() {
        let server = Server::start(vec![page(&["z"], LAST)]);
        assert_eq!(walk(&server, Some("y")).await.unwrap(), ["z"]);
        assert!(server.requests()[0].line.contains("starting_after=y"));
    }

    #[tokio::test]
    async fn an_empty_list_is_a_list() {
        assert_eq!(walk(&Server::start(vec![page(&[], LAST)]), None).await.unwrap(), Vec::<String>::new());
    }

    #[tokio::test]
    async fn f31_a_list_that_contradicts_itself_is_never_complete() {
        let again = || ListFault::NoProgress { id: "b".into() };
        for (script, fault) in [
            (vec![page(&["a", "b"], MORE), page(&[], MORE)], ListFault::EmptyButMore),
            (vec![page(&["a", "b"], MORE), page(&["a", "b"], MORE)], again()),
            (
                vec![
                    page(&["a", "b"], MORE),
                    page(&["c"], MORE),
                    page(&["b"], MORE),
                    page(&["c"], MORE),
                    page(&["b"], MORE),
                ],
                again(),
            ),
            (vec![ok(r#"{"data":[{"id":"a"},{"id":7}],"has_more":false}"#)], ListFault::NoId { index: 1 }),
            (vec![ok(r#"{"data":[{"id":"a"},"b"],"has_more":false}"#)], ListFault::NoId { index: 1 }),
        ] {
            let error = walk(&Server::start(script), None).await.unwrap_err();
            assert_eq!(error.code(), "stripe.inconsistent");
            assert!(
                matches!(&error, StripeError::ListInconsistent { fault: found, .. } if *found == fault),
                "{error:?}"
            );
        }
    }

    #[tokio::test]
    async fn f31_a_walk_in_a_long_circle_ends() {
        let ids: Vec<String> = (0..7).map(|n| format!("id_{n}")).collect();
        let circle = (0..60).map(|n| page(&[&ids[n % 7]], MORE)).collect();
        assert_eq!(walk(&Server::start(circle), None).await.unwrap_err().code(), "stripe.inconsistent");
    }

    #[tokio::test]
    async fn f31_what_is_no_list_is_no_empty_list() {
        for body in [r#"{"id":"cus_1"}"#, r#"{"data":null}"#, r#"{"data":{}}"#, r#"{"data":[],"has_more":"no"}"#] {
            let error = walk(&Server::start(vec![ok(body)]), None).await.unwrap_err();
            assert!(matches!(error, StripeError::BadBody { .. }), "{body}: {error:?}");
        }
    }

    #[tokio::test]
    async fn f31_a_deleted_cursor_is_told_apart() {
        let gone = r#"{"error":{"code":"resource_missing","param":"starting_after","type":"invalid_request_error"}}"#;
        let server = Server::start(vec![page(&["a"], MORE), status(400, "", gone)]);
        assert!(walk(&server, None).await.unwrap_err().is_missing_cursor());
    }

    #[tokio::test]
    async fn a_page_that_failed_is_asked_for_again() {
        let server = Server::start(vec![page(&["a"], MORE), status(503, "", "{}"), page(&["b"], LAST)]);
        let stripe = client(Settings { attempts: 1, ..settings(&server.base()) });
        let mut pages = stripe.pages("/v1/customers", &[], None);
        assert!(pages.next().await.unwrap().is_some());
        pages.next().await.unwrap_err();
        let page = pages.next().await.unwrap().unwrap();
        assert_eq!((page.last_id.as_deref(), page.last), (Some("b"), true));
        assert!(pages.next().await.unwrap().is_none());
        assert_eq!(server.requests()[1].line, server.requests()[2].line);
    }

    #[tokio::test]
    async fn f32_a_page_that_is_too_long_is_asked_for_in_smaller_ones() {
        let long = "x".repeat(3000);
        let server = Server::start(vec![page(&[&long], MORE), page(&["a"], MORE), page(&["b"], LAST)]);
        let stripe = client(Settings { body_max: 2000, ..settings(&server.base()) });
        let mut pages = stripe.pages("/v1/invoices", &[], None);
        while pages.next().await.unwrap().is_some() {}
        let limits = server.requests().into_iter().map(|request| request.line.contains("limit=25"));
        assert_eq!(limits.collect::<Vec<_>>(), [false, true, true]);
    }

    #[tokio::test]
    async fn s30_another_customers_object_is_no_answer() {
        for holder in [r#""cus_2""#, r#"{"id":"cus_2"}"#] {
            let body = format!(r#"{{"data":[{{"id":"in_1","customer":{holder}}}]}}"#);
            let server = Server::start(vec![ok(&body)]);
            let stripe = client(Settings { total_deadline: Duration::from_secs(5), ..settings(&server.base()) });
            let mut pages = stripe.pages("/v1/invoices", &[("customer", "cus_1")], None);
            assert_eq!(pages.next().await.unwrap_err().code(), "stripe.inconsistent");
        }
    }
}
