//! What servers have in common that a test makes up, of threads and plain sockets.

use std::io::{BufRead, BufReader, Read};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Request {
    pub line: String,
    /// Their names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Request {
    /// The next one of a connection; nothing at its end.
    pub fn read(reader: &mut BufReader<TcpStream>) -> std::io::Result<Option<Self>> {
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
        let mut request = Self { line: line.trim_end().to_owned(), headers, body: String::new() };
        let mut body = vec![0; request.header("content-length").map_or(0, |length| length.parse().expect("a length"))];
        reader.read_exact(&mut body)?;
        request.body = String::from_utf8(body).expect("text");
        Ok(Some(request))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// The method, the path and the query.
    pub fn target(&self) -> (&str, &str, &str) {
        let mut words = self.line.split(' ');
        let (method, target) = (words.next().expect("a method"), words.next().expect("a target"));
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        (method, path, query)
    }
}

/// Listens on a port of its own and has each connection in a thread of its own.
pub fn listen(converse: impl Fn(TcpStream) -> std::io::Result<()> + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let converse = Arc::new(converse);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let converse = Arc::clone(&converse);
            // An error here is a client that went away, which is what many tests are about.
            thread::spawn(move || drop(converse(stream)));
        }
    });
    port
}

/// An answer, to be written in one piece: two small ones would wait for each other's acknowledgement.
pub fn answer(status: u16, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status} Said\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len())
}
