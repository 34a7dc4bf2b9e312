//! Every error code the program answers with: its status, what it means and what to do. The one table behind problem
//! answers, `/docs/errors/{code}` and the OpenAPI document. A code that is not here does not leave the program.

/// One error code, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CodeDoc {
    /// The stable name: programs match on this, never on the text.
    pub code: &'static str,
    /// The HTTP status it travels with.
    pub status: u16,
    /// What happened, in a few words; the same for every occurrence (RFC 9457, `title`).
    pub title: &'static str,
    /// Why it happens.
    pub cause: &'static str,
    /// What the caller or the operator does about it.
    pub fix: &'static str,
}

const fn row(code: &'static str, status: u16, title: &'static str, cause: &'static str, fix: &'static str) -> CodeDoc {
    CodeDoc { code, status, title, cause, fix }
}

/// The code of input that breaks a rule: the one whose answer lists the faults.
pub const INVALID: &str = "invalid";

/// All codes, by status and name.
pub const CODES: &[CodeDoc] = &[
    row(
        "body.malformed",
        400,
        "The body cannot be read",
        "The body is not one complete JSON document: broken syntax, invalid UTF-8, a member named twice, more than 64 levels deep, or bytes after its end.",
        "Send one JSON document in UTF-8, each member once.",
    ),
    row(
        "request.malformed",
        400,
        "The request cannot be read",
        "The request breaks the rules of HTTP/1.1: two lengths, a bare line feed, a folded header, a missing or repeated Host.",
        "Use an ordinary HTTP client. If you do, look at what a proxy in between does to the request.",
    ),
    row(
        "webhook.signature",
        400,
        "The webhook is not signed as agreed",
        "The signature does not fit the body, is too old, or is made in another way than the operator has configured.",
        "Operators: compare the webhook secret here with the one at the sender, and the clocks. A proxy must not change the body.",
    ),
    row(
        "webhook.thin",
        400,
        "The event does not carry its object",
        "It is a thin event of an event destination. Events are taken whole here.",
        "Send snapshot events: billhook stripe setup makes an endpoint that does.",
    ),
    row(
        "auth.ambiguous_cookie",
        401,
        "More than one session was sent",
        "The request carries the session cookie more than once, with or without different values. Somebody else may have set one of them.",
        "Delete the cookies of this site and sign in again.",
    ),
    row(
        "auth.expired",
        401,
        "The session has ended",
        "The session is older than it may get.",
        "Sign in again, or ask for a new session: billhook session issue --user ID.",
    ),
    row(
        "auth.key",
        401,
        "No service key",
        "The request carries no service key that is known here, or one that was revoked.",
        "Send Authorization: Bearer with a key from billhook key issue --name NAME --scope usage:write.",
    ),
    row(
        "auth.required",
        401,
        "Nobody is signed in",
        "The request carries no session that is known here.",
        "Send the cookie session_token of a live session.",
    ),
    row(
        "lago.signature",
        401,
        "The webhook is not signed as agreed",
        "The signature does not fit the body, or is made in another way than the operator has configured.",
        "Operators: compare LAGO_WEBHOOK_SECRET with the HMAC key at Lago. A proxy must not change the body.",
    ),
    row(
        "credits.exhausted",
        402,
        "No credits are left",
        "What the user asks for is more than is left of their credits, with what is reserved taken off.",
        "Upgrade at upgrade_url, or wait for the next credit period: RateLimit tells when it begins.",
    ),
    row(
        "trial.over",
        402,
        "The trial is over",
        "The user's trial has ended, and nothing follows it.",
        "Subscribe to a tier at upgrade_url.",
    ),
    row(
        "auth.forbidden",
        403,
        "This needs an administrator",
        "Somebody is signed in who may not do this. The role is read from the database at each request.",
        "Use an administrator's session: billhook user set-admin.",
    ),
    row(
        "auth.scope",
        403,
        "The key may not do this",
        "The service key is valid, but was not issued for this.",
        "Issue a key with the scope that this path asks for: billhook key issue --scope usage:write.",
    ),
    row(
        "user.disabled",
        403,
        "The user is disabled",
        "An operator has disabled the user: nothing is let through or held for them. What they have used is recorded all the same.",
        "Do not do the work. Operators: billhook user enable lets the user in again.",
    ),
    row(
        "not_found",
        404,
        "There is nothing here",
        "No such path, or no such object among those that the caller may see.",
        "Check the path and the id. /docs lists every path.",
    ),
    row(
        "method_not_allowed",
        405,
        "This method is not offered here",
        "The path exists, but not with this method.",
        "Use one of the methods in the Allow header.",
    ),
    row(
        "catalogue.other",
        409,
        "Another catalogue is in use",
        "The program and the database, or two programs on one database, have different tier catalogues.",
        "Start every process with the same BILLHOOK_CATALOG. To change it, stop all of them first.",
    ),
    row(
        "conflict",
        409,
        "The state of things does not allow this",
        "The request is well formed, but something else happened before it.",
        "Read the object again and decide anew.",
    ),
    row(
        "counters.other",
        409,
        "Other counters are in use",
        "Two programs on one database do not have the same Redis, or none: each would give out every cap.",
        "Start every process with the same REDIS_URL, or one process alone.",
    ),
    row(
        "customer.already_linked",
        409,
        "This customer belongs to another user",
        "A Stripe customer is linked to at most one user, and this one is linked already.",
        "Find the other user with billhook user list, and decide whose customer it is.",
    ),
    row(
        "lago.not_configured",
        409,
        "Lago is not configured",
        "What was asked for needs Lago, and the program was started without it.",
        "Set LAGO_API_URL and LAGO_API_KEY.",
    ),
    row(
        "stripe.not_configured",
        409,
        "Stripe is not configured",
        "This needs a Stripe account, and the program runs without one.",
        "Set STRIPE_SECRET_KEY and start again.",
    ),
    row(
        "sync.elsewhere",
        409,
        "Another process is syncing",
        "Two full syncs wrote to one database; the slower one stopped.",
        "Nothing is lost. Leave the sync to one process.",
    ),
    row(
        "usage.begun_anew",
        409,
        "The accounts were begun anew meanwhile",
        "Said by billhook doctor: another process has the whole log counted anew, so what was compared so far is not there any more.",
        "Run billhook doctor again when that is over.",
    ),
    row(
        "usage.conflict",
        409,
        "This id was used for something else",
        "There is an entry with this id already, and a member of it differs. errors[] names the member. What was recorded first stays as it is.",
        "Give each event an id of its own. To correct one that was recorded, use billhook usage adjust or void.",
    ),
    row(
        "usage.moved_on",
        409,
        "Something else was recorded meanwhile",
        "Said by billhook user merge: what was to move is not what is there any more, or a credit period has just ended.",
        "Nothing was moved. Run it again, in an hour where a period has just ended.",
    ),
    row(
        "user.busy",
        409,
        "Something is reserved for this user",
        "Said by billhook user merge: a reservation is open, and what it holds cannot go over.",
        "Disable the user, wait until the instant that is named, and run it again.",
    ),
    row(
        "user.exists",
        409,
        "There is such a user already",
        "Another user has this e-mail address or id.",
        "Use the existing user: billhook user list.",
    ),
    row(
        "user.owes",
        409,
        "It would change what is to be paid",
        "Said by billhook user merge: there is usage beyond the credits, and the two users pay different prices for it.",
        "Merge the other way round, or when the credit period is over.",
    ),
    row(
        "user.subscribed",
        409,
        "This user pays for a subscription of their own",
        "Said by billhook user merge: both users have a customer at Stripe, and the one that is to go has a subscription that has not ended and would go on being paid.",
        "End that subscription at Stripe first, or merge the other way round.",
    ),
    row(
        "webhook.quarantined",
        409,
        "This event is not applied",
        "The event is of another account, another mode, or of a kind that concerns nothing here, so it was put aside.",
        "Look at its reason with billhook webhooks show. Nothing is to be done unless the configuration is wrong.",
    ),
    row(
        "batch.too_large",
        413,
        "Too many items at once",
        "The batch has more items than this path takes (1,000; 100,000 calls of LiteLLM's).",
        "Send the items in several requests.",
    ),
    row(
        "body.too_large",
        413,
        "The body is too large",
        "The body has more bytes than this path takes: 1 MiB, 4 MiB where events are sent in batches, 32 MiB of LiteLLM's calls.",
        "Send less at once, in several requests.",
    ),
    row(
        "uri.too_long",
        414,
        "The address is too long",
        "Path and query have more than 8 KiB.",
        "Shorten the query. Cursors are opaque: send them back unchanged.",
    ),
    row(
        "body.encoding",
        415,
        "Compressed bodies are not taken",
        "The request has a Content-Encoding.",
        "Send the body as it is.",
    ),
    row(
        "body.media_type",
        415,
        "This media type is not taken",
        "The body is not declared as JSON.",
        "Send Content-Type: application/json.",
    ),
    row(
        "host.unknown",
        421,
        "This server is not called that",
        "The Host of the request is none of the names that the server was told.",
        "Use the address in BILLHOOK_PUBLIC_URL, or set it to the name you use.",
    ),
    row(
        "invalid",
        422,
        "The input breaks a rule",
        "The request can be read, but a value in it is not allowed. errors[] names each one with a pointer.",
        "Correct the values that errors[] names.",
    ),
    row(
        "too_early",
        422,
        "The event lies in the future",
        "The timestamp is more than 5 minutes ahead of this server's clock.",
        "Check the clock of the sender, and the unit of the timestamp.",
    ),
    row(
        "too_late",
        422,
        "The credit period is closed",
        "The event belongs to a credit period that is over, and this server is configured to refuse such events.",
        "Record it as a correction: billhook usage adjust.",
    ),
    row(
        "too_old",
        422,
        "The event is too old",
        "The timestamp is older than events are accepted, 35 days by default. So no retry, however late, counts twice.",
        "Older history enters by billhook usage backfill.",
    ),
    row(
        "type.unknown",
        422,
        "There is no such event type",
        "The catalogue does not name this event type.",
        "Use a type of the catalogue, or add an [events.TYPE] table to it.",
    ),
    row(
        "user.unknown",
        422,
        "There is no such user",
        "No user has this id. Usage that nobody can be billed for is not recorded in silence.",
        "Add the user first: billhook user add. Or correct the id.",
    ),
    row(
        "limit.day",
        429,
        "The day's limit is reached",
        "The user's tier limits how much of this event type may be used in a day.",
        "Try again after Retry-After, or upgrade at upgrade_url.",
    ),
    row(
        "limit.minute",
        429,
        "Too much in a minute",
        "The user's tier limits how much of this event type may be used in a minute.",
        "Try again after Retry-After.",
    ),
    row(
        "limit.month",
        429,
        "The period's limit is reached",
        "The user's tier limits how much of this event type may be used in a credit period.",
        "Try again after Retry-After, or upgrade at upgrade_url.",
    ),
    row(
        "headers.too_large",
        431,
        "The headers are too large",
        "The head of the request has more than 16 KiB or more than 100 headers.",
        "Send fewer or smaller headers; cookies are the usual reason.",
    ),
    row(
        "internal",
        500,
        "Something failed on our side",
        "A fault of the program or its surroundings. The log has the cause, under the request id of this answer.",
        "Try again. If it stays, look for the request id in the log, then run billhook doctor.",
    ),
    row(
        "stripe.auth",
        500,
        "Stripe does not accept our key",
        "The key in STRIPE_SECRET_KEY was revoked, is of another account, or may not read this.",
        "Operators: make a new key in Stripe's dashboard and set STRIPE_SECRET_KEY.",
    ),
    row(
        "stripe.inconsistent",
        500,
        "Stripe's answer contradicts itself",
        "A list ended early or repeated itself, or another object came back than was asked for. What cannot be trusted is not shown.",
        "Try again after Retry-After. If it stays, look at what a proxy in between does.",
    ),
    row(
        "stripe.rate_limited",
        500,
        "Stripe asks us to slow down",
        "Somebody uses the same Stripe account so much that Stripe refuses requests.",
        "Try again after Retry-After. Operators: lower the rate, or find the other user of the account.",
    ),
    row(
        "stripe.refused",
        500,
        "Stripe refuses what we ask for",
        "Stripe answered that the request is wrong. That is a fault of the program or of its configuration, not of the caller.",
        "Look for the request id in the log; it names Stripe's own request id.",
    ),
    row(
        "stripe.tls",
        500,
        "The connection to Stripe is not trusted",
        "The certificate of the server at STRIPE_API_BASE cannot be verified.",
        "Operators: check STRIPE_API_BASE, the machine's clock, and any proxy that opens TLS.",
    ),
    row(
        "stripe.unavailable",
        500,
        "Stripe cannot be reached",
        "Stripe did not answer, and what was asked for was never mirrored. An outage is not an empty list, so none is invented.",
        "Try again after Retry-After. Operators: run billhook doctor.",
    ),
    row(
        "deadline",
        503,
        "The answer took too long",
        "The request was not answered within its time and was given up.",
        "Try again after Retry-After. A write that was given up is done completely or not at all: read before repeating it.",
    ),
    row(
        "lago.address",
        503,
        "Lago is not where we look for it",
        "What answers at LAGO_API_URL has no such path, or sends us somewhere else.",
        "Operators: check LAGO_API_URL and any proxy in between. Usage waits and is not lost.",
    ),
    row(
        "lago.auth",
        503,
        "Lago does not accept our key",
        "The key in LAGO_API_KEY was revoked, or may not do this.",
        "Operators: make a new key at Lago and set LAGO_API_KEY. Usage waits and is not lost.",
    ),
    row(
        "lago.batch_refused",
        503,
        "Lago refuses a whole batch",
        "Lago has refused a batch of events without naming the ones that are to blame. That is a fault of the program.",
        "Operators: run billhook lago status. Usage waits and is not lost.",
    ),
    row(
        "lago.rate_limited",
        503,
        "Lago asks us to slow down",
        "Lago's limit for the organisation is used up.",
        "Nothing has to be done; it goes on by itself. Operators: lower BILLHOOK_LAGO_RATE if it stays.",
    ),
    row(
        "lago.refused",
        503,
        "Lago refuses what we ask for",
        "Lago answered that the request breaks a rule.",
        "Operators: run billhook lago status and billhook lago dead, which show the reason.",
    ),
    row(
        "lago.tls",
        503,
        "The connection to Lago is not trusted",
        "The certificate of the server at LAGO_API_URL cannot be verified.",
        "Operators: check LAGO_API_URL, the machine's clock, and any proxy that opens TLS.",
    ),
    row(
        "lago.unavailable",
        503,
        "Lago cannot be reached",
        "Lago did not answer, or answered that it has failed.",
        "Nothing has to be done; it goes on by itself. Usage waits and is not lost.",
    ),
    row(
        "limit.unknown",
        503,
        "A limit cannot be decided",
        "What decides about this limit cannot be reached, and the limit is configured to refuse then.",
        "Try again after Retry-After. Operators: run billhook doctor.",
    ),
    row(
        "overloaded",
        503,
        "Too much at once",
        "More requests are being answered than the server takes at the same time.",
        "Try again after Retry-After, with growing pauses.",
    ),
    row(
        "redis.unavailable",
        503,
        "Redis cannot be reached",
        "Sessions or counters live in Redis, and it did not answer in time.",
        "Try again after Retry-After. Operators: run billhook doctor.",
    ),
    row(
        "schema.foreign",
        503,
        "The database belongs to another program",
        "The database holds tables that this program did not make and cannot adopt.",
        "Point DATABASE_URL at an empty database, or run billhook migrate on a copy of an Ops Center file.",
    ),
    row(
        "schema.newer",
        503,
        "The database is newer than the program",
        "A newer release has changed the schema.",
        "Run the newer release, or go back to a copy of the database from before it.",
    ),
    row(
        "storage.busy",
        503,
        "The database is busy",
        "Too many writes are waiting for the database.",
        "Try again after Retry-After, with growing pauses.",
    ),
    row(
        "storage.contention",
        503,
        "Another transaction was in the way",
        "Others changed the same rows at the same moment, several times in a row.",
        "Try again after Retry-After.",
    ),
    row(
        "storage.full",
        503,
        "There is no room to write",
        "The disk of the database is full. Nothing of this request was recorded; reading goes on.",
        "Send the same request again after Retry-After. Operators: make room on the disk; the program goes on by itself.",
    ),
    row(
        "storage.read_only",
        503,
        "The database is read-only",
        "The database takes nothing that is written: a standby, or a file system that became read-only. Reading goes on.",
        "Send the same request again after Retry-After. Operators: see /readyz and the database.",
    ),
    row(
        "storage.unavailable",
        503,
        "The database cannot be reached",
        "The database did not answer, or not in time.",
        "Try again after Retry-After. Operators: run billhook doctor.",
    ),
    row(
        "usage.queue_full",
        503,
        "Too many events are waiting",
        "More events arrive than the log takes. Nothing of this request was recorded.",
        "Send the same request again after Retry-After, with growing pauses.",
    ),
];

/// What is known about a code.
pub fn find(code: &str) -> Option<&'static CodeDoc> {
    CODES.iter().find(|doc| doc.code == code)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// How a code is written where an error is made.
    const MAKERS: [&str; 4] = ["code: \"", "malformed(\"", "Refusal::code(\"", "Problem::coded(\""];

    /// All codes that are made in a folder, outside test modules.
    fn said_in(folder: &Path, said: &mut Vec<(String, String)>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                said_in(&path, said);
            } else if path.extension().is_some_and(|end| end == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                let program = text.split("#[cfg(test)]").next().unwrap_or_default();
                // Where errors are named by a match, its arms are codes.
                let arms = if path.ends_with("error.rs") { Some("=> \"") } else { None };
                let made = MAKERS.iter().copied().chain(arms).flat_map(|maker| program.split(maker).skip(1));
                let codes = made.filter_map(|rest| rest.split('"').next()).filter(|code| !code.contains([' ', '[']));
                said.extend(codes.map(|code| (code.to_owned(), path.display().to_string())));
            }
        }
    }

    #[test]
    fn every_code_in_the_sources_is_documented() {
        let mut said = Vec::new();
        said_in(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut said);
        let unknown: Vec<_> = said.iter().filter(|(code, _)| find(code).is_none()).collect();
        assert!(unknown.is_empty(), "add to CODES: {unknown:?}");
        assert!(said.iter().any(|(code, _)| code == "body.malformed"), "the search finds nothing: it is broken");
    }

    #[test]
    fn codes_are_unique_in_order_and_say_something() {
        let order: Vec<_> = CODES.iter().map(|doc| (doc.status, doc.code)).collect();
        assert!(order.is_sorted() && order.windows(2).all(|pair| pair[0].1 != pair[1].1), "{order:?}");
        for doc in CODES {
            assert!((400..600).contains(&doc.status), "{}", doc.code);
            assert!([doc.title, doc.cause, doc.fix].iter().all(|text| text.len() > 10), "{}", doc.code);
            assert!(doc.code.bytes().all(|b| b.is_ascii_lowercase() || b == b'.' || b == b'_'), "{}", doc.code);
        }
    }
}
