//! What every client meets on the wire, whoever is at the other end: broken connections, endless bodies, and texts that
//! must not get into a log as they are.

use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::{Client, Response, Url};
use secrecy::{ExposeSecret, SecretString};

/// Longest part of a server's own message that is kept, in characters.
const MESSAGE_MAX: usize = 300;

/// Where the way to the server ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The name does not resolve.
    Dns,
    /// Nobody accepts the connection.
    Connect,
    /// The connection broke, or what came back was not HTTP.
    Exchange,
}

/// Why there is no complete answer.
pub(super) enum Broken {
    Tls(reqwest::Error),
    Unreachable(Place, reqwest::Error),
}

/// Why a body was not read to its end.
pub(super) enum BodyEnd {
    TooLarge,
    Broken(reqwest::Error),
}

/// A base URL, or what is wrong with it. It may carry a path prefix.
pub(super) fn base_url(text: &str) -> Result<Url, &'static str> {
    let url = Url::parse(text).map_err(|_| "is not a URL")?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("must begin with http:// or https://");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not carry a user or a password");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("must not carry a query or a fragment");
    }
    Ok(url)
}

/// `Authorization`, marked sensitive so that no layer below prints it; nothing for a key that no header may hold.
pub(super) fn authorization(key: &SecretString) -> Option<HeaderValue> {
    let key = key.expose_secret();
    if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return None;
    }
    let mut value = HeaderValue::from_str(&format!("Bearer {key}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Which end of the way is to blame. The URL is taken out: its query may hold an e-mail address.
pub(super) fn broken(error: reqwest::Error) -> Broken {
    let error = error.without_url();
    if is_tls(&error) {
        return Broken::Tls(error);
    }
    let place = match (error.is_dns(), error.is_connect()) {
        (true, _) => Place::Dns,
        (false, true) => Place::Connect,
        (false, false) => Place::Exchange,
    };
    Broken::Unreachable(place, error)
}

/// TLS errors hide inside I/O errors, which do not show what they wrap in their chain of sources.
fn is_tls(error: &reqwest::Error) -> bool {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = next {
        let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        if error.is::<rustls::Error>() || wrapped.is_some_and(|inner| inner.is::<rustls::Error>()) {
            return true;
        }
        next = match wrapped {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    false
}

/// Counts while it reads: what a header promises is not believed, what arrives beyond the cap is not kept (F-32).
pub(super) async fn read_body(mut response: Response, cap: usize) -> Result<Vec<u8>, BodyEnd> {
    let promised = response.content_length().unwrap_or(0);
    if promised > u64::try_from(cap).unwrap_or(u64::MAX) {
        return Err(BodyEnd::TooLarge);
    }
    let mut body = Vec::with_capacity(usize::try_from(promised).unwrap_or(0));
    while let Some(chunk) = response.chunk().await.map_err(BodyEnd::Broken)? {
        if body.len().saturating_add(chunk.len()) > cap {
            return Err(BodyEnd::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// A client for one base. A redirect is an answer, and repeating is for whoever knows whether it may be done.
pub(super) fn client(base: &Url, headers: HeaderMap) -> reqwest::Result<Client> {
    // Somebody else may have installed it already, and it is the same one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = Client::builder()
        .default_headers(headers)
        .user_agent(concat!("billhook/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        // The base is how a proxy is named; one from the environment would also catch the sandbox next door.
        .no_proxy();
    let builder = if base.scheme() == "http" { builder.tls_backend_preconfigured(no_tls()) } else { builder };
    builder.build()
}

/// For a plain `http` base: trusts nobody, so that a machine without root certificates can talk to its sandbox and an
/// `https` URL that should sneak in fails.
fn no_tls() -> rustls::ClientConfig {
    rustls::ClientConfig::builder().with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth()
}

/// An id as a part of a path: whatever a user or a server put into it, it stays one part.
pub fn segment(id: &str) -> String {
    use std::fmt::Write as _;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    let mut text = String::with_capacity(id.len());
    for byte in id.bytes() {
        if plain(byte) {
            text.push(char::from(byte));
        } else {
            // Writing into a String does not fail.
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}

/// Shortens foreign text and takes out what a log must not hold: keys (ours, and whatever looks like one), e-mail addresses,
/// and characters that some reader takes for the end of a line.
pub(super) fn clean(text: &str, key: &str) -> String {
    let text = if key.is_empty() { text.to_owned() } else { text.replace(key, "[key]") };
    let secret = |word: &str| ["sk_", "rk_", "whsec_"].iter().any(|prefix| word.contains(prefix));
    let words = text.split(' ').map(|word| match word {
        _ if secret(word) => "[key]",
        _ if word.contains('@') => "[e-mail]",
        _ => word,
    });
    let text = words.collect::<Vec<_>>().join(" ");
    let breaks = |letter: char| letter.is_control() || matches!(letter, '\u{2028}' | '\u{2029}');
    text.chars().filter(|letter| !breaks(*letter)).take(MESSAGE_MAX).collect()
}
