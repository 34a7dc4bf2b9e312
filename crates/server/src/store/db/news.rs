//! What others commit on PostgreSQL, heard over a connection that listens and does nothing else.
//!
//! A connection that is dead looks like one on which nothing happens. So every quarter of a second we say a word to
//! ourselves. Notifications come in the order of the commits: when our word is back, everything that was committed before we
//! said it has been heard. What is kept may be shown for one second from then on, and not a moment longer, whatever has
//! become of the connection, of this thread, or of the server.

pub(super) mod notation;

use std::cell::Cell;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, mpsc};
use tokio::time::{timeout, timeout_at};
use tokio_postgres::{AsyncMessage, Client, Config, Connection, NoTls, Notification, SimpleQueryMessage};

use super::postgres::{CONNECT_TIMEOUT, Queue, tls};
use super::{Call, Change, Isolation, Listener, args, reply, tell};
use crate::error::Cause;

/// Where changes are told.
pub(super) const CHANNEL: &str = "billhook";
/// How long what is kept may be shown after the last word to ourselves that came back was said.
pub(super) const HEARD_FOR: Duration = Duration::from_secs(1);
/// How long after a word the next one is said.
const WORD: Duration = Duration::from_millis(250);
/// How long a word may take before its connection is given up. What is kept is dropped long before.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long the next try to listen waits, at first and at last.
const PAUSE: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));

/// Not listening, and everything kept is dropped.
const DEAF: u64 = 0;
/// No longer to be relied upon; what is kept is still to be dropped.
const OVERDUE: u64 = 1;

const NOT_YET: &str = "no request has come yet, or only just";
const LOST: &str = "the connection that listens for changes was lost";
const LATE: &str = "changes are heard too late: PostgreSQL, or the way there, or this machine is too busy";
const SILENT: &str = "changes are not heard: is there a pooler in transaction mode before PostgreSQL?";

/// Whether others are heard: requests ask here, and the thread that listens answers.
pub(super) struct News {
    ear: Arc<Ear>,
    thread: OnceLock<Option<std::thread::JoinHandle<()>>>,
}

impl News {
    pub(super) fn new(config: Config, queue: Arc<Queue>, listener: Arc<OnceLock<Listener>>) -> Self {
        let heard = Heard { listener, start: Instant::now(), until: AtomicU64::new(DEAF) };
        let ear = Ear { config, queue, heard, doubt: Notify::new(), stop: Notify::new(), why: Mutex::new(NOT_YET) };
        Self { ear: Arc::new(ear), thread: OnceLock::new() }
    }

    /// Begins to listen when somebody asks for the first time: a command that answers no requests has no use for it.
    pub(super) fn look(&self) {
        self.thread.get_or_init(|| {
            let ear = Arc::clone(&self.ear);
            std::thread::Builder::new().name("store-news".into()).spawn(move || ear.run()).ok()
        });
        self.ear.heard.look();
    }

    /// Nothing while others are heard, else why not.
    pub(super) fn silence(&self) -> Option<&'static str> {
        let why = *self.ear.why.lock().unwrap_or_else(PoisonError::into_inner);
        (!self.ear.heard.is_current()).then_some(why)
    }

    pub(super) fn ear(&self) -> &Arc<Ear> {
        &self.ear
    }
}

impl Drop for News {
    fn drop(&mut self) {
        self.ear.stop.notify_one();
        if let Some(Some(thread)) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Until when what is kept may be shown.
struct Heard {
    listener: Arc<OnceLock<Listener>>,
    start: Instant,
    /// In nanoseconds since the start.
    until: AtomicU64,
}

impl Heard {
    fn since_start(&self, instant: Instant) -> u64 {
        let passed = instant.saturating_duration_since(self.start).as_nanos();
        u64::try_from(passed).unwrap_or(u64::MAX).max(OVERDUE)
    }

    fn is_current(&self) -> bool {
        self.since_start(Instant::now()) < self.until.load(Ordering::SeqCst)
    }

    /// Drops everything that is kept once it is overdue.
    fn look(&self) {
        let until = self.until.load(Ordering::SeqCst);
        if until == DEAF || self.since_start(Instant::now()) < until {
            return;
        }
        // Told before it is marked: whoever sees the mark finds nothing old. Nothing is kept meanwhile, because it is overdue.
        tell(&self.listener, &[Change::Everything]);
        let _ = self.until.compare_exchange(until, DEAF, Ordering::SeqCst, Ordering::SeqCst);
    }

    fn lost(&self) {
        let overdue = |until| (until != DEAF).then_some(OVERDUE);
        let _ = self.until.fetch_update(Ordering::SeqCst, Ordering::SeqCst, overdue);
        self.look();
    }

    fn up_to(&self, said: Instant) {
        self.until.store(self.since_start(said + HEARD_FOR), Ordering::SeqCst);
    }
}

/// The thread that listens.
pub(super) struct Ear {
    config: Config,
    queue: Arc<Queue>,
    heard: Heard,
    doubt: Notify,
    stop: Notify,
    /// Why others are not heard, where they are not.
    why: Mutex<&'static str>,
}

/// Why listening has ended.
struct Lost {
    why: &'static str,
    cause: Cause,
}

impl Lost {
    fn because(cause: impl Into<Cause>) -> Self {
        Self { why: LOST, cause: cause.into() }
    }
}

type Words = mpsc::UnboundedReceiver<Notification>;

impl Ear {
    /// A connection beside this one has ended: the server may be another one now, and this one may be left alone with the old.
    pub(super) fn doubt(&self) {
        self.heard.lost();
        self.doubt.notify_one();
    }

    fn is_silent_because(&self, why: &'static str) {
        *self.why.lock().unwrap_or_else(PoisonError::into_inner) = why;
    }

    fn run(&self) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        match runtime {
            Ok(runtime) => {
                runtime.block_on(async {
                    tokio::select! {
                        () = self.stop.notified() => {}
                        never = self.listen() => match never {},
                    }
                });
                // A name that is being looked up is not waited for.
                runtime.shutdown_background();
            }
            Err(error) => tracing::error!(%error, "changes of others are not heard: nothing is kept between requests"),
        }
    }

    async fn listen(&self) -> Infallible {
        let (mut pause, mut said) = (PAUSE.0, "");
        loop {
            let was_heard = Cell::new(false);
            let lost = match tls() {
                Some(tls) => self.over(self.config.connect(tls), &was_heard).await,
                None => self.over(self.config.connect(NoTls), &was_heard).await,
            };
            self.is_silent_because(lost.why);
            self.heard.lost();
            if was_heard.get() {
                (pause, said) = (PAUSE.0, "");
            }
            // Said once, not at every try.
            if said != lost.why {
                said = lost.why;
                tracing::warn!(cause = %lost.cause, "{}; nothing is kept between requests until others are heard", lost.why);
            }
            if !was_heard.get() {
                tokio::time::sleep(pause).await;
                pause = PAUSE.1.min(pause * 2);
            }
        }
    }

    /// One connection from its beginning to its end.
    async fn over<S, T, F>(&self, connecting: F, was_heard: &Cell<bool>) -> Lost
    where
        S: AsyncRead + AsyncWrite + Unpin,
        T: AsyncRead + AsyncWrite + Unpin,
        F: Future<Output = Result<(Client, Connection<S, T>), tokio_postgres::Error>>,
    {
        let (client, mut connection) = match timeout(CONNECT_TIMEOUT, connecting).await {
            Ok(Ok(connected)) => connected,
            Ok(Err(error)) => return Lost::because(error),
            Err(late) => return Lost::because(late),
        };
        let (pass_on, mut words) = mpsc::unbounded_channel();
        let carrying = async {
            loop {
                match poll_fn(|context| connection.poll_message(context)).await {
                    Some(Ok(AsyncMessage::Notification(word))) => drop(pass_on.send(word)),
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return Lost::because(error),
                    None => return Lost::because("closed"),
                }
            }
        };
        tokio::select! {
            lost = carrying => lost,
            ended = self.attend(&client, &mut words, was_heard) => match ended { Err(lost) => lost, Ok(never) => match never {} },
            () = self.doubt.notified() => Lost::because("a connection beside it has ended"),
        }
    }

    async fn attend(&self, client: &Client, words: &mut Words, was_heard: &Cell<bool>) -> Result<Infallible, Lost> {
        let own = timeout(PATIENCE, subscribe(client)).await.map_err(Lost::because)??;
        self.hear_from_beside(&own, words).await?;
        // What was kept before we listened may have changed in between.
        tell(&self.heard.listener, &[Change::Everything]);
        for number in 1_u64.. {
            let said = Instant::now();
            let heard = async {
                let word = number.to_string();
                let sql = format!("SELECT pg_notify('{own}', '{word}')");
                client.batch_execute(&sql).await.map_err(Lost::because)?;
                self.until_heard(&own, &word, words).await
            };
            timeout(PATIENCE, heard).await.map_err(Lost::because)??;
            self.heard.up_to(said);
            if !was_heard.replace(true) {
                self.is_silent_because(LATE);
                tracing::info!("changes of others are heard: answers are kept between requests");
            }
            while let Ok(word) = timeout_at((said + WORD).into(), words.recv()).await {
                self.hear(word.ok_or_else(closed)?);
            }
        }
        Err(closed())
    }

    /// A word said on another connection must arrive here. Through a pooler that lends out its connections for one
    /// transaction at a time it does not, although all that we say here ourselves would.
    async fn hear_from_beside(&self, own: &str, words: &mut Words) -> Result<(), Lost> {
        let (done, said) = reply();
        let channel = own.to_owned();
        let work = move |tx: &mut super::Tx<'_>| tx.run("SELECT pg_notify(?1, 'beside')", args![&channel]);
        self.queue.push(Box::new(Call {
            work,
            outcome: None,
            done,
            isolation: Isolation::Statement,
            writing: None,
            wrote: false,
        }));
        said.await.map_err(Lost::because)?.map_err(Lost::because)?;
        let heard = timeout(PATIENCE, self.until_heard(own, "beside", words)).await;
        heard.map_err(|late| Lost { why: SILENT, cause: late.into() })?
    }

    async fn until_heard(&self, own: &str, expected: &str, words: &mut Words) -> Result<(), Lost> {
        loop {
            let word = words.recv().await.ok_or_else(closed)?;
            if word.channel() == own && word.payload() == expected {
                return Ok(());
            }
            self.hear(word);
        }
    }

    fn hear(&self, word: Notification) {
        if word.channel() == CHANNEL {
            tell(&self.heard.listener, &notation::read(word.payload()));
        }
    }
}

fn closed() -> Lost {
    Lost::because("closed")
}

/// Listens to what is told to all, and on a channel of our own to ourselves; the name of that.
async fn subscribe(client: &Client) -> Result<String, Lost> {
    // What we say to ourselves need not survive anything, and waits for no disk.
    let sql = format!("SET synchronous_commit = off; LISTEN {CHANNEL}; SELECT pg_backend_pid()");
    let answers = client.simple_query(&sql).await.map_err(Lost::because)?;
    let pid = answers.iter().find_map(|answer| match answer {
        SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    let own = format!("{CHANNEL}_{}", pid.ok_or_else(|| Lost::because("no answer to pg_backend_pid"))?);
    client.batch_execute(&format!("LISTEN {own}")).await.map_err(Lost::because)?;
    Ok(own)
}
