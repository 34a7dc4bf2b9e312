//! The wire between a program and PostgreSQL: it passes everything on, until it is told to do something else with the
//! connection that listens, or to hold an answer back.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};

use super::Database;

/// What becomes of the connection that listens. The others are left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listening {
    /// All goes through.
    Open,
    /// Nothing goes through any more, and nobody is told.
    Stalled,
    /// All but notifications, as through a pooler that lends its connections out for a transaction.
    Deaf,
    /// It is closed as soon as it is known.
    Cut,
}

/// An answer that is held back: what is in it, who is told that it is there, and when it may go on.
struct Hold {
    needle: &'static str,
    there: oneshot::Sender<()>,
    go_on: oneshot::Receiver<()>,
}

pub struct Wire {
    address: String,
    listening: watch::Sender<Listening>,
    hold: Arc<Mutex<Option<Hold>>>,
}

impl Wire {
    #[allow(clippy::disallowed_methods, reason = "the wire runs beside the test")]
    pub async fn to(database: &Database) -> Self {
        let address = database.address();
        let (before, rest) = address.rsplit_once('@').expect("a user");
        let (server, name) = rest.split_once('/').expect("a database");
        let here = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let port = here.local_addr().expect("an address").port();
        let wire = Self {
            address: format!("{before}@127.0.0.1:{port}/{name}"),
            listening: watch::Sender::new(Listening::Open),
            hold: Arc::default(),
        };
        let (server, listening, hold) = (server.to_owned(), wire.listening.subscribe(), Arc::clone(&wire.hold));
        tokio::spawn(async move {
            while let Ok((client, _)) = here.accept().await {
                if let Ok(there) = TcpStream::connect(&server).await {
                    tokio::spawn(carry(client, there, listening.clone(), Arc::clone(&hold)));
                }
            }
        });
        wire
    }

    /// The same database, seen through this wire.
    pub fn database(&self) -> Database {
        Database::Elsewhere(self.address.clone())
    }

    pub fn set(&self, listening: Listening) {
        self.listening.send_replace(listening);
    }

    /// Holds back the next answer with this text in it: what says that it is there, and what lets it go. Where that is dropped, the
    /// answer is lost and its connection with it.
    pub fn hold(&self, needle: &'static str) -> (oneshot::Receiver<()>, oneshot::Sender<()>) {
        let ((there, is_there), (let_go, go_on)) = (oneshot::channel(), oneshot::channel());
        *self.hold.lock().expect("whole") = Some(Hold { needle, there, go_on });
        (is_there, let_go)
    }
}

/// One connection. Which it is shows in what its client says.
async fn carry(
    client: TcpStream,
    server: TcpStream,
    mut listening: watch::Receiver<Listening>,
    hold: Arc<Mutex<Option<Hold>>>,
) {
    // Small messages go one by one, as they came.
    for end in [&client, &server] {
        end.set_nodelay(true).expect("a connection");
    }
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    let is_ear = watch::Sender::new(false);
    tokio::select! {
        () = there(from_client, to_server, &is_ear, listening.clone()) => {}
        () = back(from_server, to_client, is_ear.subscribe(), listening.clone(), &hold) => {}
        () = cut(is_ear.subscribe(), &mut listening) => {}
    }
}

async fn cut(mut is_ear: watch::Receiver<bool>, listening: &mut watch::Receiver<Listening>) {
    let _ = is_ear.wait_for(|is_ear| *is_ear).await;
    let _ = listening.wait_for(|listening| *listening == Listening::Cut).await;
}

async fn there(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    is_ear: &watch::Sender<bool>,
    mut listening: watch::Receiver<Listening>,
) {
    let mut bytes = vec![0; 65_536];
    while let Ok(length @ 1..) = from.read(&mut bytes).await {
        let said = &bytes[..length];
        if said.windows(7).any(|window| window == b"LISTEN ") {
            is_ear.send_replace(true);
        }
        let is_ear = *is_ear.borrow();
        let _ = listening.wait_for(|listening| !is_ear || *listening != Listening::Stalled).await;
        if to.write_all(said).await.is_err() {
            return;
        }
    }
}

/// Message by message: a letter, a length that counts itself, and the rest.
async fn back(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    is_ear: watch::Receiver<bool>,
    mut listening: watch::Receiver<Listening>,
    hold: &Mutex<Option<Hold>>,
) {
    let mut head = [0; 5];
    while from.read_exact(&mut head).await.is_ok() {
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        let mut message = vec![0; length + 1];
        message[..5].copy_from_slice(&head);
        if from.read_exact(&mut message[5..]).await.is_err() {
            return;
        }
        let ear = *is_ear.borrow();
        if ear && head[0] == b'A' && *listening.borrow() == Listening::Deaf {
            continue;
        }
        let _ = listening.wait_for(|listening| !ear || *listening != Listening::Stalled).await;
        let held = hold.lock().expect("whole").take_if(|hold| !ear && contains(&message, hold.needle));
        if let Some(held) = held {
            let _ = held.there.send(());
            if held.go_on.await.is_err() {
                return;
            }
        }
        if to.write_all(&message).await.is_err() {
            return;
        }
    }
}

fn contains(message: &[u8], needle: &str) -> bool {
    message.windows(needle.len()).any(|window| window == needle.as_bytes())
}
