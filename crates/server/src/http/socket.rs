//! The socket under hyper: it notes what arrives and leaves, looks at each head for framing that hyper is lenient about,
//! and dresses the bare answers that hyper gives by itself.
//!
//! hyper reads a bare LF as a line end, keeps one of two equal `Content-Length`s, and lets `Transfer-Encoding` win over
//! `Content-Length`; each is allowed by RFC 9112 and each has been used to smuggle a request past a proxy that reads it
//! the other way (S-33). What this file sees is a head that begins a read. A pipelined head in the middle of a segment is
//! left to hyper's reading, which is the conforming one.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::visit::{Phase, Visit};

/// Heads are not remembered beyond this; hyper refuses longer ones.
const HEAD_MAX: usize = 16 * 1024;
/// hyper's own error answers are a status line and two or three headers.
const BARE_ANSWER_MAX: usize = 256;

#[derive(Debug)]
pub(super) struct Socket {
    inner: TcpStream,
    visit: Arc<Visit>,
    /// The head so far, when it comes in pieces.
    head: Vec<u8>,
    /// What is left of an answer that replaces one of hyper's.
    instead: Bytes,
}

impl Socket {
    pub(super) fn new(stream: TcpStream, visit: Arc<Visit>) -> Self {
        Self { inner: stream, visit, head: Vec::new(), instead: Bytes::new() }
    }

    pub(super) fn into_stream(self) -> TcpStream {
        self.inner
    }

    fn arrived(&mut self, fresh: &[u8]) {
        match self.visit.phase() {
            Phase::Busy | Phase::Expired => return,
            Phase::Head => {}
            Phase::Fresh | Phase::Waiting => {
                self.visit.head_begins();
                self.head.clear();
            }
        }
        let whole = if self.head.is_empty() { breaks_framing(fresh) } else { None };
        let breaks = whole.or_else(|| {
            self.head.extend_from_slice(&fresh[..fresh.len().min(HEAD_MAX.saturating_sub(self.head.len()))]);
            breaks_framing(&self.head)
        });
        if breaks == Some(true) {
            self.visit.head_is_malformed();
        }
    }

    /// hyper answers a head that it cannot read by itself, in one short write. Ours always carry an `x-request-id`.
    fn is_bare(&self, bytes: &[u8]) -> bool {
        bytes.get(..10) == Some(b"HTTP/1.1 4")
            && bytes.len() <= BARE_ANSWER_MAX
            && self.visit.phase() == Phase::Head
            && !bytes.windows(12).any(|name| name == b"x-request-id")
    }

    /// Pushes out what replaces a bare answer.
    fn push(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.instead.is_empty() {
            let written = ready!(Pin::new(&mut self.inner).poll_write(cx, &self.instead))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.instead = self.instead.slice(written..);
        }
        Poll::Ready(Ok(()))
    }

    fn noted(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match &written {
            Poll::Pending => self.visit.writing_stalls(),
            Poll::Ready(_) => self.visit.writing_moves(),
        }
        written
    }

    fn replace(&mut self, bare: &[u8]) -> usize {
        let status =
            bare.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok()).and_then(|digits| digits.parse().ok());
        self.instead = self.visit.refusal(status.unwrap_or(400));
        self.visit.lingers();
        bare.len()
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = into.filled().len();
        ready!(Pin::new(&mut this.inner).poll_read(cx, into))?;
        let fresh = &into.filled()[before..];
        if !fresh.is_empty() {
            this.arrived(fresh);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.is_bare(bytes) {
            return Poll::Ready(Ok(this.replace(bytes)));
        }
        let written = Pin::new(&mut this.inner).poll_write(cx, bytes);
        this.noted(written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if let [only] = parts
            && this.is_bare(only)
        {
            return Poll::Ready(Ok(this.replace(only)));
        }
        let written = Pin::new(&mut this.inner).poll_write_vectored(cx, parts);
        this.noted(written)
    }

    /// hyper then puts head and body together: a copy of an answer of ours costs less than a call that gathers it.
    fn is_write_vectored(&self) -> bool {
        false
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.push(cx))?;
        Pin::new(&mut this.inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.push(cx))?;
        Pin::new(&mut this.inner).poll_shutdown(cx)
    }
}

/// Whether the head that these bytes begin with has a bare LF, or more than one statement about the body's length. Nothing where it has
/// no end yet: that is its first empty line, however its lines end. One pass from line to line: this runs on each request.
fn breaks_framing(bytes: &[u8]) -> Option<bool> {
    let (mut bare, mut lengths) = (false, 0);
    for at in memchr::memchr_iter(b'\n', bytes) {
        bare |= at.checked_sub(1).is_none_or(|before| bytes[before] != b'\r');
        match bytes.get(at + 1..) {
            Some([b'\n', ..]) => return Some(true),
            Some([b'\r', b'\n', ..]) => return Some(bare || lengths > 1),
            // Only what begins like one of the two is looked at.
            Some(line @ [b'c' | b'C' | b't' | b'T', ..]) => lengths += u32::from(states_length(name_in(line))),
            _ => {}
        }
    }
    None
}

/// The name in a line of a head.
fn name_in(line: &[u8]) -> &[u8] {
    let end = line.iter().position(|byte| matches!(byte, b':' | b'\n')).unwrap_or(line.len());
    line[..end].trim_ascii_end()
}

fn states_length(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"content-length") || name.eq_ignore_ascii_case(b"transfer-encoding")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s33_framing_that_hyper_lets_pass_is_seen() {
        for (head, breaks) in [
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", false),
            ("GET / HTTP/1.1\nHost: a\r\n\r\n", true),
            ("GET / HTTP/1.1\r\nHost: a\n\r\n", true),
            ("GET / HTTP/1.1\r\nHost: a\r\n\n", true),
            ("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", true),
            ("POST / HTTP/1.1\r\nContent-Length: 3\r\nHost: a\r\n\r\n", false),
            ("POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n", true),
            ("POST / HTTP/1.1\r\nContent-Length: 3\r\ncontent-length\r\n\r\n", true),
            ("POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length : 3\r\n\r\n", true),
            ("POST / HTTP/1.1\r\ncontent-length: 3\r\nHost: a\r\nTRANSFER-encoding: chunked\r\n\r\n", true),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n", true),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n", true),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Type: a\r\nTraceparent: b\r\n\r\n", false),
            ("x\r\n\r\n", false),
        ] {
            assert_eq!(breaks_framing(head.as_bytes()), Some(breaks), "{head:?}");
        }
    }

    #[test]
    fn the_body_is_not_part_of_the_head() {
        for (bytes, breaks) in [
            ("a\r\nb\r\n\r\n{\n}", Some(false)),
            ("a\nb\n\nbody", Some(true)),
            ("a\r\nContent-Length: 3\r\n\r\nContent-Length: 3\r\n\r\n", Some(false)),
            ("a\r\nb\r\n\r", None),
            ("a\r\n\r\n\r\n", Some(false)),
            ("", None),
        ] {
            assert_eq!(breaks_framing(bytes.as_bytes()), breaks, "{bytes:?}");
        }
    }
}
