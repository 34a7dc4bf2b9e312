//! The yardstick of `cargo xtask bench`: the least that axum can do, which is to answer `GET /` with bytes it was given, and
//! `POST /` with the same once it has read the body.
//!
//!     bare_route --listen 127.0.0.1:0 --answer FILE
//!
//! FILE is an answer as HTTP/1.1 writes it: a status line, headers, an empty line, the body. The address stands alone on the
//! first line of its output. Same library, same runtime flavour and same bytes as the program beside it: what differs is the
//! work.
#![allow(clippy::print_stdout, reason = "its address is its answer")]

use axum::Router;
use axum::http::header::{CONNECTION, CONTENT_LENGTH, DATE};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::routing::get;
use bytes::Bytes;
use tokio::net::TcpListener;

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main(flavor = "multi_thread")]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let ["--listen", address, "--answer", file] = words.as_slice() else {
        return Err("usage: bare_route --listen ADDR --answer FILE".into());
    };
    let (headers, body) = parsed(&std::fs::read_to_string(file)?)?;
    let answer = (headers, body);
    let posted = answer.clone();
    let route = get(async move || answer.clone()).post(async move |read: Bytes| {
        std::hint::black_box(read.len());
        posted.clone()
    });
    let listener = TcpListener::bind(address).await?;
    println!("http://{}", listener.local_addr()?);
    axum::serve(listener, Router::new().route("/", route)).await?;
    Ok(())
}

/// The headers, without those that the server writes itself, and the body.
fn parsed(answer: &str) -> Result<(HeaderMap, Bytes), Failure> {
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("no empty line after the head")?;
    let mut headers = HeaderMap::new();
    for line in head.lines().skip(1) {
        let (name, value) = line.split_once(": ").ok_or("a header without a value")?;
        headers.insert(HeaderName::try_from(name)?, HeaderValue::try_from(value)?);
    }
    for own in [CONNECTION, CONTENT_LENGTH, DATE] {
        headers.remove(own);
    }
    Ok((headers, Bytes::from(body.to_owned())))
}
