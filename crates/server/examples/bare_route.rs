//! The yardstick of `cargo xtask bench`: the least that axum can do, which is to answer `GET /` with bytes it was given.
//!
//!     bare_route --listen 127.0.0.1:0 --body FILE
//!
//! It prints its address alone on the first line. Same library, same runtime flavour and same bytes as the program beside it:
//! what differs is the work.
#![allow(clippy::print_stdout, reason = "its address is its answer")]

use axum::Router;
use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use bytes::Bytes;
use tokio::net::TcpListener;

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main(flavor = "multi_thread")]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let ["--listen", address, "--body", file] = words.as_slice() else {
        return Err("usage: bare_route --listen ADDR --body FILE".into());
    };
    let body = Bytes::from(std::fs::read(file)?);
    let answer = get(move || {
        let body = body.clone();
        async move { ([(CONTENT_TYPE, HeaderValue::from_static("application/json"))], body) }
    });
    let listener = TcpListener::bind(address).await?;
    println!("http://{}", listener.local_addr()?);
    axum::serve(listener, Router::new().route("/", answer)).await?;
    Ok(())
}
