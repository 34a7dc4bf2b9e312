//! `/docs`: the API reference, the configuration and every error code, from the binary itself.
//!
//! Everything is rendered once, at start, from the OpenAPI document and the tables of the program. There is no script and
//! nothing from another origin, so the pages work without a network and under the strictest policy.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::Path;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;
use axum::routing::get;
use bytes::Bytes;
use serde_json::Value;

use super::codes::{self, CODES, CodeDoc};
use super::error::{Problem, TYPE_BASE};
use super::reference::{self, escaped, prose};
use crate::config::{VARIABLES, Variable};
use crate::error::Error;

const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);
/// Anybody may keep them; each use asks whether they are still the same.
const REVALIDATE: HeaderValue = HeaderValue::from_static("public, no-cache");
const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
const CSS: HeaderValue = HeaderValue::from_static("text/css; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// The documentation of the API that `openapi` describes. All paths begin with `/docs` and are public.
pub fn routes<S: Clone + Send + Sync + 'static>(openapi: Value) -> Router<S> {
    let reference = Page::new(HTML, frame("API reference", &reference::contents(&openapi), &front(&openapi)));
    let document = Page::new(JSON, openapi.to_string());
    let style = Page::new(CSS, include_str!("docs.css").to_owned());
    let errors = Page::new(HTML, frame("Errors", &codes_list(), &errors()));
    let of_code: BTreeMap<&str, Page> =
        CODES.iter().map(|doc| (doc.code, Page::new(HTML, frame(doc.title, &codes_list(), &error(doc))))).collect();
    let of_code = Arc::new(of_code);
    let fixed = |page: Page| get(move |headers: HeaderMap| async move { page.answer(&headers) });
    Router::new()
        .route("/docs", fixed(reference))
        .route("/docs/openapi.json", fixed(document))
        .route("/docs/docs.css", fixed(style))
        .route("/docs/errors", fixed(errors))
        .route(
            "/docs/errors/{code}",
            get(move |Path(code): Path<String>, headers: HeaderMap| async move {
                of_code.get(code.as_str()).map(|page| page.answer(&headers)).ok_or(Error::NotFound)
            }),
        )
}

/// A rendered page with its validator.
#[derive(Debug, Clone)]
struct Page {
    kind: HeaderValue,
    text: Bytes,
    etag: HeaderValue,
}

impl Page {
    fn new(kind: HeaderValue, text: String) -> Self {
        let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
        let tag = digest.as_ref().iter().take(12).fold(String::new(), |tag, byte| format!("{tag}{byte:02x}"));
        // Hexadecimal digits in quotes are always a header value.
        let etag = HeaderValue::from_str(&format!("\"{tag}\"")).unwrap_or(HeaderValue::from_static("\"docs\""));
        Self { kind, text: text.into(), etag }
    }

    fn answer(&self, asked: &HeaderMap) -> Response {
        let held = asked.get(IF_NONE_MATCH).and_then(|held| held.to_str().ok()).unwrap_or_default();
        let ours = self.etag.to_str().unwrap_or_default();
        let same = held.split(',').any(|tag| matches!(tag.trim(), "*") || tag.trim().trim_start_matches("W/") == ours);
        let mut response = Response::new(if same { Body::empty() } else { Body::from(self.text.clone()) });
        if same {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
        }
        let headers = response.headers_mut();
        headers.insert(ETAG, self.etag.clone());
        headers.insert(CACHE_CONTROL, REVALIDATE);
        headers.insert(CONTENT_SECURITY_POLICY, POLICY);
        if !same {
            headers.insert(CONTENT_TYPE, self.kind.clone());
        }
        response
    }
}

/// A page: names on the left, text on the right.
fn frame(title: &str, contents: &str, main: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{title} · Billhook</title>\n\
         <link rel=\"stylesheet\" href=\"/docs/docs.css\">\n<link rel=\"icon\" href=\"data:,\">\n</head>\n<body>\n\
         <div class=\"frame\">\n<nav aria-label=\"Contents\">\n<a class=\"brand\" href=\"/docs\">Billhook</a>\n{contents}\n\
         <h2>More</h2>\n<ul><li><a href=\"/docs#configuration\">Configuration</a></li><li><a href=\"/docs/errors\">Errors</a></li>\
         <li><a href=\"/docs/openapi.json\">OpenAPI document</a></li></ul>\n</nav>\n<main>\n{main}\n</main>\n</div>\n</body>\n</html>\n",
        title = escaped(title),
    )
}

fn front(openapi: &Value) -> String {
    let info = &openapi["info"];
    let text = |name: &str| info[name].as_str().unwrap_or_default();
    format!(
        "<h1>{}</h1>\n<p class=\"lead\">{}</p>\n<p class=\"soft\">Version {}</p>\n{}\n{}\n{}",
        escaped(text("title")),
        prose(text("description")),
        escaped(text("version")),
        START,
        reference::operations(openapi),
        configuration(VARIABLES),
    )
}

const START: &str = "<h2 id=\"start\">Before you paste</h2>\n\
<p>The samples read these variables. <code>billhook serve --sandbox</code> prints a session for a user and one for an \
administrator; elsewhere, <code>billhook session issue --user ID</code> prints one. A key for a service is printed by \
<code>billhook key issue --name NAME --scope usage:write</code>.</p>\n\
<pre><code>export BILLHOOK=http://localhost:8084\nexport SESSION=…\nexport BILLHOOK_KEY=…</code></pre>\n\
<p>Money is a JSON number with the decimals of its currency, exact to the last one. Times are RFC 3339 in UTC. Every answer \
carries an <code>X-Request-Id</code>, under which the log knows it. Errors are <code>application/problem+json</code>, with a \
<a href=\"/docs/errors\">code</a> to match on.</p>";

fn configuration(variables: &[Variable]) -> String {
    let row = |variable: &Variable| {
        let default = match variable.default {
            "" => "<span class=\"soft\">unset</span>".to_owned(),
            default => format!("<code>{}</code>", escaped(default)),
        };
        format!(
            "<tr><td><code>{}</code></td><td>{default}</td><td>{}</td></tr>\n",
            escaped(variable.name),
            prose(variable.meaning)
        )
    };
    format!(
        "<h2 id=\"configuration\">Configuration</h2>\n<p>The environment, and nothing else. Each variable may also be given as \
         <code>NAME_FILE</code>, the path of a file that holds the value.</p>\n<div class=\"wide\"><table>\n\
         <tr><th>Variable</th><th>Default</th><th>Meaning</th></tr>\n{}</table></div>",
        variables.iter().map(row).collect::<String>()
    )
}

fn codes_list() -> String {
    let item = |doc: &CodeDoc| format!("<li><a href=\"{TYPE_BASE}{code}\">{code}</a></li>", code = escaped(doc.code));
    format!("<h2>Error codes</h2>\n<ul>{}</ul>", CODES.iter().map(item).collect::<String>())
}

fn errors() -> String {
    let row = |doc: &CodeDoc| {
        format!(
            "<tr><td>{}</td><td><a href=\"{TYPE_BASE}{code}\"><code>{code}</code></a></td><td>{}</td></tr>\n",
            doc.status,
            escaped(doc.title),
            code = escaped(doc.code)
        )
    };
    format!(
        "<h1>Errors</h1>\n<p class=\"lead\">Match on <code>code</code>. It is stable; the text beside it is for people.</p>\n\
         <div class=\"wide\"><table>\n<tr><th>Status</th><th>Code</th><th>What happened</th></tr>\n{}</table></div>",
        CODES.iter().map(row).collect::<String>()
    )
}

fn error(doc: &CodeDoc) -> String {
    let invalid = Error::invalid("?limit", "a number from 1 to 100");
    let problem = if doc.code == codes::INVALID { Problem::of(&invalid) } else { Problem::coded(doc.code, doc.status) };
    format!(
        "<h1>{}</h1>\n<p class=\"lead\"><code>{}</code> · status {}</p>\n<dl><dt>Why</dt><dd>{}</dd><dt>What to do</dt><dd>{}</dd></dl>\n\
         <h4>What it looks like</h4>\n<pre class=\"wrap\"><code>{}</code></pre>",
        escaped(doc.title),
        escaped(doc.code),
        doc.status,
        prose(doc.cause),
        prose(doc.fix),
        escaped(&problem.shown("req_01KAN9SRY0Q8J5R2VN7T4C6W3B")),
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_code_has_a_page_that_says_why_and_what_to_do() {
        for doc in CODES {
            let page = frame(doc.title, &codes_list(), &error(doc));
            for text in [doc.code, &escaped(doc.title), &prose(doc.cause), &prose(doc.fix)] {
                assert!(page.contains(text), "{}: {text}", doc.code);
            }
        }
    }

    #[test]
    fn pages_need_nothing_from_elsewhere() {
        let openapi = json!({"info": {"title": "<b>T</b>", "description": "d", "version": "1"}, "paths": {}});
        let page = frame("x", &reference::contents(&openapi), &front(&openapi));
        assert!(page.contains("&lt;b&gt;T&lt;/b&gt;") && !page.contains("<b>"));
        for foreign in ["<script", "style=", "onclick", "src=\"http", "@import", "url("] {
            assert!(!page.contains(foreign) && !include_str!("docs.css").contains(foreign), "{foreign}");
        }
    }
}
