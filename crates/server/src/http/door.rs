//! The door: the accept loop, and a watchdog for each connection.
//!
//! `axum::serve` never closes a connection whose head is half sent; this loop does, and it does so without a timer per
//! request: each connection has one timer that is set anew only when it fires or when something more urgent begins. The
//! loop also holds the number of connections, survives a full table of file descriptors, and on shutdown finishes what
//! was accepted.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Poll;
use std::time::{Duration, Instant};

use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWrite;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, sleep_until, timeout};

use super::edge::{Desk, Edge};
use super::house::House;
use super::router;
use super::socket::Socket;
use super::visit::{Verdict, Visit};

/// What the door lets in, and how long it waits.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// From the first byte of a head to its last; also how long a new connection may stay silent.
    pub header_timeout: Duration,
    /// How long a connection may stay silent between requests.
    pub idle_timeout: Duration,
    /// How long a client may take nothing of an answer.
    pub write_stall: Duration,
    /// From the end of the head to the answer, reading the body included.
    pub request_deadline: Duration,
    /// How long shutdown waits for what was accepted.
    pub drain_max: Duration,
    /// Connections open at once; more wait in the kernel's queue.
    pub connections_max: usize,
    /// Requests being answered at once; more get 503.
    pub in_flight_max: usize,
    /// Bytes of a body.
    pub body_max: usize,
    /// Bytes of a body where many things are sent at once.
    pub batch_body_max: usize,
    /// Bytes of a body that holds whole prompts and answers, by the hundred, and is lost by its sender if it is refused.
    pub litellm_body_max: usize,
}

impl Limits {
    /// Bytes of a body on this path.
    pub(super) fn body_max_of(&self, path: &str) -> usize {
        match path {
            router::LITELLM => self.litellm_body_max,
            path if router::BATCHES.contains(&path) => self.batch_body_max,
            _ => self.body_max,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            write_stall: Duration::from_secs(30),
            request_deadline: Duration::from_secs(30),
            drain_max: Duration::from_secs(25),
            connections_max: 20_000,
            in_flight_max: 1_024,
            body_max: 1024 * 1024,
            batch_body_max: 4 * 1024 * 1024,
            litellm_body_max: 32 * 1024 * 1024,
        }
    }
}

/// Bytes of a head: above it hyper answers 431. Its default of 100 headers is kept (naming it would cost a heap
/// allocation per request).
const HEAD_MAX: usize = 16 * 1024;
/// Bytes that a connection buffers in each direction.
const BUFFER_MAX: usize = 64 * 1024;
/// What is read off after an early answer, so that the client can read it before the connection is reset.
const LINGER_BYTES_MAX: usize = 4 * 1024 * 1024;
const LINGER_MAX: Duration = Duration::from_secs(2);
const ACCEPT_PAUSE_MIN: Duration = Duration::from_millis(10);
const ACCEPT_PAUSE_MAX: Duration = Duration::from_secs(1);

/// Serves `listener` until `shutdown`; then finishes what was accepted, for at most `limits.drain_max`.
///
/// # Errors
/// None today: a listener that cannot accept is waited for, not given up.
pub async fn serve(
    listener: TcpListener,
    edge: Edge,
    limits: Limits,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let house = edge.open(limits);
    let slots = Slots::new(limits.connections_max);
    let mut number = 0;
    let mut shutdown = pin!(shutdown);
    loop {
        let (stream, slot) = tokio::select! {
            biased;
            () = &mut shutdown => break,
            guest = next_guest(&listener, &slots, &house) => guest,
        };
        number += 1;
        admit(&house, stream, slot, number);
    }
    // Whoever stands in the kernel's queue was accepted from their point of view.
    while let Some((stream, slot)) = waiting_guest(&listener, &slots).await {
        number += 1;
        admit(&house, stream, slot, number);
    }
    drop(listener);
    drain(&house, &slots).await;
    Ok(())
}

/// One slot for each connection. All slots back means that nobody is inside.
struct Slots {
    free: Arc<Semaphore>,
    all: u32,
}

impl Slots {
    fn new(connections_max: usize) -> Self {
        let all = u32::try_from(connections_max.clamp(1, Semaphore::MAX_PERMITS)).unwrap_or(u32::MAX);
        Self { free: Arc::new(Semaphore::new(usize::try_from(all).unwrap_or(connections_max))), all }
    }

    async fn take(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.free).acquire_owned().await.ok()
    }
}

/// Waits for a slot and a connection. A full table of file descriptors is waited out, in growing pauses (F-55).
async fn next_guest(listener: &TcpListener, slots: &Slots, house: &House) -> (TcpStream, OwnedSemaphorePermit) {
    let mut pause = ACCEPT_PAUSE_MIN;
    loop {
        let Some(slot) = slots.take().await else {
            std::future::pending::<()>().await;
            continue;
        };
        match listener.accept().await {
            Ok((stream, _)) => return (stream, slot),
            Err(fault) if is_of_one_guest(&fault) => {}
            Err(fault) => {
                house.metrics.accept_errors.fetch_add(1, Relaxed);
                if pause == ACCEPT_PAUSE_MIN {
                    tracing::warn!(cause = %fault, "cannot accept connections; waiting");
                }
                drop(slot);
                sleep(pause).await;
                pause = (pause * 2).min(ACCEPT_PAUSE_MAX);
            }
        }
    }
}

/// The other side went away before we came to it: nothing is wrong here.
fn is_of_one_guest(fault: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(fault.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

async fn waiting_guest(listener: &TcpListener, slots: &Slots) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let slot = Arc::clone(&slots.free).try_acquire_owned().ok()?;
    let accepted = poll_fn(|cx| match listener.poll_accept(cx) {
        Poll::Ready(Ok((stream, _))) => Poll::Ready(Some(stream)),
        Poll::Ready(Err(_)) | Poll::Pending => Poll::Ready(None),
    });
    accepted.await.map(|stream| (stream, slot))
}

fn admit(house: &Arc<House>, stream: TcpStream, slot: OwnedSemaphorePermit, number: u64) {
    // Without it a small answer may wait 40 ms for the other side's acknowledgement. A socket that refuses is dying.
    let _refused = stream.set_nodelay(true);
    let visit = Arc::new(Visit::begin(Arc::clone(house), number, Instant::now()));
    start(async move {
        attend(stream, visit).await;
        drop(slot);
    });
}

#[allow(clippy::disallowed_methods, reason = "one task per connection; `drain` waits for all of them by their slots")]
fn start(connection: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(connection);
}

/// Drives one connection and watches its clock.
async fn attend(stream: TcpStream, visit: Arc<Visit>) {
    let limits = visit.house.limits;
    let io = TokioIo::new(Socket::new(stream, Arc::clone(&visit)));
    let mut connection = http1::Builder::new()
        .max_header_size(HEAD_MAX)
        .max_buf_size(BUFFER_MAX)
        .serve_connection(io, Desk::new(&visit));
    let mut closing = pin!(visit.house.closing.notified());
    let mut armed = visit.due(&limits);
    let mut alarm = pin!(sleep_until(armed.into()));
    let mut listening = false;
    let mut told = false;
    let finished = poll_fn(|cx| {
        loop {
            if connection.poll_without_shutdown(cx).is_ready() {
                return Poll::Ready(true);
            }
            // Asked once: the notice leaves this task's waker behind, and a task's waker does not change. What decides is
            // the flag, which costs a load and no lock.
            if !listening {
                listening = true;
                let _flag_decides = closing.as_mut().poll(cx);
            }
            if visit.house.is_closing() && !told {
                told = true;
                Pin::new(&mut connection).graceful_shutdown();
                continue;
            }
            let due = visit.due(&limits);
            if due < armed {
                armed = due;
                alarm.as_mut().reset(due.into());
            }
            if alarm.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            match visit.judge(&limits, Instant::now()) {
                Verdict::Fine(next) => armed = next,
                Verdict::Expired => armed = visit.due(&limits),
                Verdict::Close => return Poll::Ready(false),
            }
            alarm.as_mut().reset(armed.into());
        }
    })
    .await;
    if !finished {
        visit.house.metrics.timeouts.fetch_add(1, Relaxed);
    } else if visit.wants_linger() {
        linger(connection.into_parts().io.into_inner()).await;
    }
}

/// Says goodbye to a client that is still sending: closes our side and reads theirs off for a moment. Closing at once
/// would make the kernel reset the connection, and the reset can overtake the answer.
async fn linger(mut socket: Socket) {
    let goodbye = async {
        poll_fn(|cx| Pin::new(&mut socket).poll_shutdown(cx)).await?;
        read_off(&socket.into_stream()).await
    };
    // Late or broken, it is over.
    let _over = timeout(LINGER_MAX, goodbye).await;
}

async fn read_off(stream: &TcpStream) -> io::Result<()> {
    let mut scratch = vec![0_u8; 16 * 1024];
    let mut left = LINGER_BYTES_MAX;
    while left > 0 {
        stream.readable().await?;
        match stream.try_read(&mut scratch) {
            Ok(0) => break,
            Ok(read) => left = left.saturating_sub(read),
            Err(fault) if fault.kind() == io::ErrorKind::WouldBlock => {}
            Err(fault) => return Err(fault),
        }
    }
    Ok(())
}

async fn drain(house: &House, slots: &Slots) {
    house.close();
    let all_left = slots.free.acquire_many(slots.all);
    if timeout(house.limits.drain_max, all_left).await.is_err() {
        let left = house.metrics.connections.load(Relaxed);
        tracing::warn!(connections = left, "shutdown did not wait longer for open connections");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_the_documented_ones() {
        let limits = Limits::default();
        assert_eq!(
            (limits.header_timeout.as_secs(), limits.drain_max.as_secs(), limits.request_deadline.as_secs()),
            (10, 25, 30)
        );
        assert_eq!((limits.connections_max, limits.body_max), (20_000, 1_048_576));
    }
}
