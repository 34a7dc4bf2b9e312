//! Carries webhooks to their endpoints, over plain HTTP as a sandbox and its receivers speak it on one machine.

use super::desk::Desk;
use super::webhook_endpoints::Endpoint;
use super::webhooks::Webhook;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::{Mutex, watch};

/// How long an endpoint may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often the clock is looked at for what is due.
const PULSE: Duration = Duration::from_millis(50);

/// Sends what is due, one after the other.
pub(super) struct Sender {
    pub(super) desk: Arc<Desk>,
    /// Where this Lago is: `iss` of its tokens.
    pub(super) issuer: String,
    /// Two that send at once would mix up the order.
    sending: Mutex<()>,
}

impl Sender {
    pub(super) fn new(desk: Arc<Desk>, issuer: String) -> Sender {
        Sender { desk, issuer, sending: Mutex::new(()) }
    }

    /// Sends by itself until told to stop.
    pub(super) async fn run(&self, mut stop: watch::Receiver<()>) {
        loop {
            tokio::select! {
                _ = stop.changed() => return,
                () = tokio::time::sleep(PULSE) => {}
            }
            tokio::select! {
                _ = stop.changed() => return,
                () = self.deliver() => {}
            }
        }
    }

    /// Sends everything that is due now; returns when all of it was answered or has failed.
    pub(super) async fn deliver(&self) {
        let _one_at_a_time = self.sending.lock().await;
        while let Some((number, webhook, endpoint)) = self.next() {
            let attempt = tokio::time::timeout(PATIENCE, send(&endpoint, &webhook, &self.issuer)).await;
            let taken = match attempt {
                Ok(Ok(status)) => matches!(status, 200 | 201 | 202 | 204),
                Ok(Err(error)) => {
                    tracing::debug!(url = endpoint.url, %error, "a webhook of the sandbox did not arrive");
                    false
                }
                Err(_elapsed) => false,
            };
            let mut world = self.desk.world();
            let now = world.now;
            world.outbox.tried(number, taken, now);
        }
    }

    fn next(&self) -> Option<(usize, Webhook, Endpoint)> {
        let mut world = self.desk.world();
        let now = world.now;
        world.outbox.take_due(now)
    }
}

/// One attempt; the status that came back.
async fn send(endpoint: &Endpoint, webhook: &Webhook, issuer: &str) -> io::Result<u16> {
    let bad = |why: &str| io::Error::new(io::ErrorKind::InvalidInput, why.to_owned());
    let rest = endpoint.url.strip_prefix("http://").ok_or_else(|| bad("the sandbox sends to http:// only"))?;
    let (host, path) = rest.find('/').map_or((rest, "/"), |slash| rest.split_at(slash));
    let address = if host.contains(':') { host.to_owned() } else { format!("{host}:80") };
    let signature = endpoint.algorithm.sign(&webhook.body, issuer)?;
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Type: application/json\r\n\
         X-Lago-Signature: {signature}\r\nX-Lago-Signature-Algorithm: {}\r\nX-Lago-Unique-Key: {}\r\n\
         Content-Length: {}\r\n\r\n",
        endpoint.algorithm.name(),
        webhook.unique_key,
        webhook.body.len(),
    );
    let stream = TcpStream::connect(address).await?;
    write(&stream, format!("{head}{}", webhook.body).as_bytes()).await?;
    // `HTTP/1.1 200` is all that is asked of the answer.
    let line = read(&stream, 12).await?;
    let status = line.get(9..12).and_then(|status| std::str::from_utf8(status).ok());
    status.and_then(|status| status.parse().ok()).ok_or_else(|| bad("the answer is no HTTP"))
}

async fn write(stream: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        stream.writable().await?;
        match stream.try_write(bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// At least so many bytes, or all there are.
async fn read(stream: &TcpStream, least: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while bytes.len() < least {
        stream.readable().await?;
        let mut some = [0; 256];
        match stream.try_read(&mut some) {
            Ok(0) => break,
            Ok(read) => bytes.extend_from_slice(&some[..read]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(bytes)
}
