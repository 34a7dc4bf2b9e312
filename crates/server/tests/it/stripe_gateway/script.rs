//! A server of threads and plain sockets that answers one scripted step to each request.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

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

#[derive(Clone, Debug)]
pub struct Request {
    pub line: String,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }
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
    raw(&format!("HTTP/1.1 {status} Said\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len()))
}

impl Server {
    pub fn start(script: Vec<Step>) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared { script: Mutex::new(script.into()), ..Shared::default() });
        let server = Server { port, shared: Arc::clone(&shared) };
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                *shared.connections.lock().unwrap() += 1;
                let shared = Arc::clone(&shared);
                // An error here is a client that went away, which is what many of these tests are about.
                thread::spawn(move || drop(converse(&shared, stream)));
            }
        });
        server
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
    let mut reader = BufReader::new(stream.try_clone()?);
    while let Some(request) = read(&mut reader)? {
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

fn read(reader: &mut BufReader<TcpStream>) -> std::io::Result<Option<Request>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut headers = Vec::new();
    loop {
        let mut header = String::new();
        reader.read_line(&mut header)?;
        let Some((name, value)) = header.trim_end().split_once(": ") else { break };
        headers.push((name.to_ascii_lowercase(), value.to_owned()));
    }
    let mut request = Request { line: line.trim_end().to_owned(), headers, body: String::new() };
    let length: usize = request.header("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    request.body = String::from_utf8(body).unwrap();
    Ok(Some(request))
}
