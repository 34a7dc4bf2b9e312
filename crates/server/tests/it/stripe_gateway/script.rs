//! A server of threads and plain sockets that answers one scripted step to each request.

use std::collections::VecDeque;
use std::io::{BufReader, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::harness::made_up::{Request, answer, listen};

/// What happens to one request.
#[derive(Clone, Debug)]
pub enum Step {
    /// These bytes.
    Raw(String),
    /// The connection ends without a word, after the request was read: executed, and the answer lost.
    HangUp,
    /// A body that comes at ten bytes a second and has no end.
    Trickle,
}

#[derive(Default)]
struct Shared {
    script: Mutex<VecDeque<Step>>,
    requests: Mutex<Vec<Request>>,
    connections: Mutex<usize>,
}

pub struct Server {
    port: u16,
    shared: Arc<Shared>,
}

pub fn raw(text: &str) -> Step {
    Step::Raw(text.to_owned())
}

pub fn ok(body: &str) -> Step {
    status(200, "Content-Type: application/json\r\nRequest-Id: req_1\r\n", body)
}

pub fn html(body: &str) -> Step {
    status(200, "Content-Type: text/html\r\n", body)
}

pub fn status(status: u16, headers: &str, body: &str) -> Step {
    Step::Raw(answer(status, headers, body))
}

impl Server {
    pub fn start(script: Vec<Step>) -> Server {
        let shared = Arc::new(Shared { script: Mutex::new(script.into()), ..Shared::default() });
        let inside = Arc::clone(&shared);
        Server { port: listen(move |stream| converse(&inside, stream)), shared }
    }

    pub fn base(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().unwrap().clone()
    }

    pub fn connections(&self) -> usize {
        *self.shared.connections.lock().unwrap()
    }
}

fn converse(shared: &Shared, mut stream: TcpStream) -> std::io::Result<()> {
    *shared.connections.lock().unwrap() += 1;
    let mut reader = BufReader::new(stream.try_clone()?);
    while let Some(request) = Request::read(&mut reader)? {
        shared.requests.lock().unwrap().push(request);
        let step = shared.script.lock().unwrap().pop_front();
        match step.expect("a request beyond the script") {
            Step::Raw(bytes) => {
                stream.write_all(bytes.as_bytes())?;
                if bytes.contains("Connection: close") {
                    return Ok(());
                }
            }
            Step::HangUp => return Ok(()),
            Step::Trickle => {
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n")?;
                for _ in 0..100 {
                    stream.write_all(b" ")?;
                    thread::sleep(Duration::from_millis(100));
                }
            }
        }
    }
    Ok(())
}
