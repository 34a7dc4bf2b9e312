//! A running sandbox, told something from outside its own code: what a command and `serve --sandbox` need of it.

use std::io;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A year of a business passes in seconds; what takes longer than this hangs.
const PATIENCE: Duration = Duration::from_mins(10);
const ENDPOINTS: &str = "/v1/webhook_endpoints";

/// Posts JSON to a path of the sandbox at `base_url` (`http://HOST:PORT`), such as `/_sandbox/clock`; the body of its answer.
///
/// # Errors
/// Where nobody listens there, or the answer is not a 2xx: then its body is the error's text.
pub async fn post(base_url: &str, path: &str, json: &str) -> io::Result<String> {
    ask(base_url, "POST", path, "Content-Type: application/json\r\n", json).await
}

/// Makes a webhook endpoint that gets every event in the shape of this version, in place of the one that an earlier run left for
/// another port; its secret.
///
/// # Errors
/// As [`post`].
pub async fn webhook_endpoint(base_url: &str, key: &str, url: &str, version: &str) -> io::Result<String> {
    let as_us = format!("Authorization: Bearer {key}\r\nContent-Type: application/x-www-form-urlencoded\r\n");
    let path_of =
        |url: &str| url.split("://").nth(1).and_then(|rest| rest.split_once('/')).map(|(_, path)| path.to_owned());
    let all = read(&ask(base_url, "GET", &format!("{ENDPOINTS}?limit=100"), &as_us, "").await?)?;
    for endpoint in all["data"].as_array().into_iter().flatten() {
        if let (Some(id), Some(there)) = (endpoint["id"].as_str(), endpoint["url"].as_str())
            && path_of(there) == path_of(url)
        {
            ask(base_url, "DELETE", &format!("{ENDPOINTS}/{id}"), &as_us, "").await?;
        }
    }
    let form = format!("url={url}&enabled_events[]=*&api_version={version}");
    let made = read(&ask(base_url, "POST", ENDPOINTS, &as_us, &form).await?)?;
    made["secret"].as_str().map(str::to_owned).ok_or_else(|| io::Error::other("an endpoint without a secret"))
}

fn read(body: &str) -> io::Result<Value> {
    serde_json::from_str(body).map_err(io::Error::other)
}

async fn ask(base_url: &str, method: &str, path: &str, headers: &str, body: &str) -> io::Result<String> {
    let host = base_url.strip_prefix("http://").map(|rest| rest.trim_end_matches('/'));
    let host = host.ok_or_else(|| io::Error::other("expected http://HOST:PORT"))?;
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
    );
    tokio::time::timeout(PATIENCE, exchange(host, &request)).await.map_err(|_| io::Error::other("no answer"))?
}

async fn exchange(host: &str, request: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(host).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| io::Error::other("not an HTTP answer"))?;
    let is_done = head.split(' ').nth(1).is_some_and(|status| status.starts_with('2'));
    if is_done { Ok(body.to_owned()) } else { Err(io::Error::other(body.to_owned())) }
}
