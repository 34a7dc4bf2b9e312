//! The door of both sandboxes: accepts connections, hands each request to whoever answers it, and ends connections as it is
//! told to, which is what a fault script needs.

use crate::body::Flow;
use http_body_util::{BodyExt as _, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::HeaderValue;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

/// How long open requests may take when a sandbox stops.
const GRACE: Duration = Duration::from_millis(500);

/// How a connection ends without an answer.
#[derive(Debug, Clone, Copy)]
pub(crate) enum End {
    Reset,
    Close,
    EndlessHeaders,
}

/// By which a connection is told to end.
#[derive(Debug, Clone)]
pub(crate) struct Ends(mpsc::UnboundedSender<End>);

impl Ends {
    /// Ends the connection instead of answering.
    pub(crate) async fn end(&self, how: End) -> Response<Flow> {
        let _ = self.0.send(how);
        std::future::pending().await
    }
}

/// Accepts until told to stop, then lets open requests finish for a moment.
pub(crate) async fn keep<A, F>(listener: TcpListener, mut stop: watch::Receiver<()>, answer: A)
where
    A: Fn(Request<Incoming>, Ends) -> F + Clone + Send + 'static,
    F: Future<Output = Response<Flow>> + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            _ = stop.changed() => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(stream, stop.clone(), answer.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "the sandbox cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        }
    }
    drop(listener);
    let all = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(GRACE, all).await.is_err() {
        connections.shutdown().await;
    }
}

async fn connection<A, F>(stream: TcpStream, mut stop: watch::Receiver<()>, answer: A)
where
    A: Fn(Request<Incoming>, Ends) -> F,
    F: Future<Output = Response<Flow>>,
{
    let _ = stream.set_nodelay(true);
    let (ends, mut ended) = mpsc::unbounded_channel();
    let service = service_fn(move |request| {
        let answered = answer(request, Ends(ends.clone()));
        async move { Ok::<_, Infallible>(answered.await) }
    });
    let mut served = http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service);
    let mut stopping = false;
    loop {
        tokio::select! {
            _ = &mut served => return,
            _ = stop.changed(), if !stopping => {
                stopping = true;
                Pin::new(&mut served).graceful_shutdown();
            }
            Some(end) = ended.recv() => return finish(served.into_parts().io.into_inner(), end).await,
        }
    }
}

async fn finish(stream: TcpStream, end: End) {
    match end {
        End::Close => {}
        End::Reset => {
            let _ = stream.set_zero_linger();
        }
        End::EndlessHeaders => {
            let mut line: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";
            while stream.writable().await.is_ok() && stream.try_write(line).is_ok() {
                tokio::time::sleep(Duration::from_millis(200)).await;
                line = b"X-More: and more\r\n";
            }
        }
    }
}

/// What is wrong with a body before anybody has looked at what it says.
pub(crate) enum Unreadable {
    TooLarge,
    NotText,
}

/// A body of at most so many bytes.
pub(crate) async fn text(body: Incoming, most: usize) -> Result<String, Unreadable> {
    let bytes = Limited::new(body, most).collect().await.map_err(|_| Unreadable::TooLarge)?.to_bytes();
    String::from_utf8(bytes.into()).map_err(|_| Unreadable::NotText)
}

/// An answer of these parts; a header that cannot be sent is left out.
pub(crate) fn response<N: AsRef<str>>(status: u16, headers: &[(N, String)], body: Flow) -> Response<Flow> {
    let mut builder = Response::builder().status(status);
    for (name, value) in headers {
        if let Ok(value) = HeaderValue::from_str(value) {
            builder = builder.header(name.as_ref(), value);
        }
    }
    builder.body(body).unwrap_or_else(|_| Response::new(Flow::whole(Bytes::new())))
}
