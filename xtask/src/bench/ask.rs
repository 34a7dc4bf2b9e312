//! One HTTP question at a time, over a connection of its own: enough to look at answers and to wait for a server.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::shell::{Fault, Outcome};

/// A URL with the one header that lets us in.
#[derive(Debug, Clone)]
pub struct Question {
    /// `http://HOST:PORT/path?query`
    pub url: String,
    /// "Cookie: session_token=..." or "Authorization: Bearer ..."
    pub header: String,
}

impl Question {
    /// The body of a 200; everything else is a fault.
    pub fn body(&self) -> Outcome<String> {
        let (status, body) = self.answer().map_err(Fault::system(self.url.clone()))?;
        if status == 200 {
            return Ok(body);
        }
        let shown: String = body.chars().take(200).collect();
        Err(Fault::Wrong(format!("{} answered {status}: {shown}", self.url)))
    }

    /// The same as JSON.
    pub fn json(&self) -> Outcome<serde_json::Value> {
        serde_json::from_str(&self.body()?).map_err(|cause| Fault::Wrong(format!("{}: {cause}", self.url)))
    }

    /// Whether the server is there and says 200.
    pub fn is_answered(&self) -> bool {
        self.answer().is_ok_and(|(status, _)| status == 200)
    }

    /// A 200 as it came over the wire: status line, headers, body.
    pub fn whole(&self) -> Outcome<String> {
        self.body()?;
        self.wire().map_err(Fault::system(self.url.clone()))
    }

    fn wire(&self) -> std::io::Result<String> {
        let bad = |what: &str| std::io::Error::new(std::io::ErrorKind::InvalidData, what);
        let rest = self.url.strip_prefix("http://").ok_or_else(|| bad("not an http URL"))?;
        let (host, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
        let mut stream = TcpStream::connect(host)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_mins(1)))?;
        let header = if self.header.is_empty() { String::new() } else { format!("{}\r\n", self.header) };
        let head = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{header}\r\n");
        stream.write_all(head.as_bytes())?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn answer(&self) -> std::io::Result<(u16, String)> {
        let bad = |what: &str| std::io::Error::new(std::io::ErrorKind::InvalidData, what);
        let text = self.wire()?;
        let (head, body) = text.split_once("\r\n\r\n").ok_or_else(|| bad("no answer"))?;
        let status = head.split(' ').nth(1).and_then(|word| word.parse().ok()).ok_or_else(|| bad("no status"))?;
        if head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
            return Ok((status, unchunked(body).ok_or_else(|| bad("broken chunks"))?));
        }
        Ok((status, body.to_owned()))
    }
}

fn unchunked(mut text: &str) -> Option<String> {
    let mut body = String::new();
    loop {
        let (size, rest) = text.split_once("\r\n")?;
        let size = usize::from_str_radix(size.trim(), 16).ok()?;
        if size == 0 {
            return Some(body);
        }
        body += rest.get(..size)?;
        text = rest.get(size + 2..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_put_together() {
        assert_eq!(unchunked("3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n").as_deref(), Some("abcde"));
        assert_eq!(unchunked("3\r\nab"), None);
    }

    #[test]
    fn what_is_not_200_is_a_fault_that_shows_the_answer() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/x", listener.local_addr().unwrap());
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = Vec::new();
            while !asked.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                asked.extend(byte);
            }
            stream.write_all(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 5\r\n\r\nnever").unwrap();
        });
        let fault = Question { url: url.clone(), header: String::new() }.body().unwrap_err();
        server.join().unwrap();
        assert_eq!(fault.to_string(), format!("{url} answered 503: never"));
    }
}
