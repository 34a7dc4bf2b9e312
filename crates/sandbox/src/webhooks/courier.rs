//! The courier: carries due messages to their endpoints over real HTTP, one after the other for each endpoint.

use crate::serve::Shared;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::{Connection, SendRequest, handshake};
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// How long an endpoint may take to answer, and a connection to be made.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often the clock is looked at, because time passes without a sound.
const GLANCE: Duration = Duration::from_millis(100);

/// Answers are thrown away; this much of one is read so that the connection can be used again.
const ANSWER_MAX: usize = 64 * 1024;

/// A message ready to be sent.
pub(crate) struct Parcel {
    pub(crate) url: String,
    pub(crate) signature: String,
    pub(crate) body: Vec<u8>,
}

/// Delivers until told to stop.
pub(crate) async fn run(shared: Arc<Shared>, mut stop: watch::Receiver<()>) {
    let mut rounds = JoinSet::new();
    loop {
        shared.desk.catch_up();
        for endpoint in shared.desk.claim_endpoints() {
            rounds.spawn(round(Arc::clone(&shared), endpoint));
        }
        tokio::select! {
            _ = stop.changed() => break,
            () = shared.desk.rung() => {}
            () = tokio::time::sleep(GLANCE) => {}
            Some(_) = rounds.join_next() => {}
        }
    }
    rounds.shutdown().await;
}

/// Everything that is due for one endpoint, in order, over one connection while it lasts.
async fn round(shared: Arc<Shared>, endpoint: Arc<str>) {
    let mut line = None;
    while let Some((letter, parcel)) = shared.desk.next_letter(&endpoint) {
        let answer = send(&mut line, parcel).await;
        shared.desk.letter_tried(letter, &answer);
    }
}

/// An open connection and where it leads.
struct Line {
    to: String,
    sender: SendRequest<Full<Bytes>>,
    driver: Pin<Box<Connection<TokioIo<TcpStream>, Full<Bytes>>>>,
}

async fn send(line: &mut Option<Line>, parcel: Parcel) -> Result<u16, String> {
    let uri: Uri = parcel.url.parse().map_err(|error| format!("not an address: {error}"))?;
    let answer = tokio::time::timeout(PATIENCE, try_send(line, &uri, parcel)).await;
    answer.unwrap_or_else(|_| {
        *line = None;
        Err("no answer in time".to_owned())
    })
}

async fn try_send(line: &mut Option<Line>, uri: &Uri, parcel: Parcel) -> Result<u16, String> {
    let to = authority(uri)?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let request = |body: Bytes| {
        Request::post(path)
            .header("host", &to)
            .header("user-agent", "Stripe/1.0 (+https://stripe.com/docs/webhooks)")
            .header("content-type", "application/json; charset=utf-8")
            .header("accept", "*/*; q=0.5, application/xml")
            .header("cache-control", "no-cache")
            .header("stripe-signature", &parcel.signature)
            .body(Full::new(body))
            .map_err(|error| error.to_string())
    };
    let body = Bytes::from(parcel.body);
    if let Some(mut kept) = line.take().filter(|line| line.to == to)
        && kept.ready().await.is_ok()
        && let Ok(status) = kept.ask(request(body.clone())?).await
    {
        *line = Some(kept);
        return Ok(status);
    }
    // An old connection may have been closed at the other end; only a new one can tell what is really wrong.
    let mut open = connect(to.clone()).await?;
    let status = open.ask(request(body)?).await?;
    *line = Some(open);
    Ok(status)
}

/// `host:port`; there is no TLS here, and Stripe's test mode takes plain addresses.
fn authority(uri: &Uri) -> Result<String, String> {
    if uri.scheme_str() != Some("http") {
        return Err("the sandbox delivers to http:// only".to_owned());
    }
    let host = uri.host().ok_or_else(|| "an address without a host".to_owned())?;
    Ok(format!("{host}:{}", uri.port_u16().unwrap_or(80)))
}

async fn connect(to: String) -> Result<Line, String> {
    let stream = TcpStream::connect(&to).await.map_err(|error| error.to_string())?;
    let _ = stream.set_nodelay(true);
    let (sender, driver) = handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    let mut line = Line { to, sender, driver: Box::pin(driver) };
    line.ready().await?;
    Ok(line)
}

impl Line {
    /// A connection has to be driven before it says that it can take a request.
    async fn ready(&mut self) -> Result<(), String> {
        tokio::select! {
            ready = self.sender.ready() => ready.map_err(|error| error.to_string()),
            _ = &mut self.driver => Err("the connection was closed".to_owned()),
        }
    }

    /// Sends, and drives the connection until the answer has been read.
    async fn ask(&mut self, request: Request<Full<Bytes>>) -> Result<u16, String> {
        let answer = self.sender.send_request(request);
        let answer = async {
            let response = answer.await.map_err(|error| error.to_string())?;
            let status = response.status().as_u16();
            let _ = Limited::new(response.into_body(), ANSWER_MAX).collect().await;
            Ok(status)
        };
        let mut answer = Box::pin(answer);
        let mut driving = true;
        loop {
            tokio::select! {
                biased;
                done = &mut answer => return done,
                _ = &mut self.driver, if driving => driving = false,
            }
        }
    }
}
