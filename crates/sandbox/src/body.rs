//! Bodies of answers: whole, dripping, broken off, or endless.

use hyper::body::{Body, Bytes, Frame, SizeHint};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Sleep;

const CHUNK: u64 = 64 * 1024;

/// A body that hyper can send.
pub(crate) enum Flow {
    Whole(Option<Bytes>),
    /// A few bytes, then a pause.
    Slow {
        rest: Bytes,
        at_once: usize,
        pause: Option<Pin<Box<Sleep>>>,
    },
    /// Some bytes, then the connection breaks.
    Cut(Option<Bytes>),
    /// A JSON list that does not end before so many bytes; `true` until its beginning was sent.
    Huge {
        left: u64,
        fresh: bool,
    },
}

impl Flow {
    pub(crate) fn whole(bytes: impl Into<Bytes>) -> Flow {
        Flow::Whole(Some(bytes.into()))
    }

    pub(crate) fn slow(bytes: Bytes, per_second: u32) -> Flow {
        let at_once = usize::try_from(per_second.max(10) / 10).unwrap_or(1);
        Flow::Slow { rest: bytes, at_once, pause: None }
    }
}

impl Body for Flow {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match self.get_mut() {
            Flow::Whole(bytes) => {
                Poll::Ready(bytes.take().filter(|bytes| !bytes.is_empty()).map(|bytes| Ok(Frame::data(bytes))))
            }
            Flow::Slow { rest, at_once, pause } => {
                if rest.is_empty() {
                    return Poll::Ready(None);
                }
                let sleep = pause.get_or_insert_with(|| Box::pin(tokio::time::sleep(Duration::from_millis(100))));
                std::task::ready!(sleep.as_mut().poll(context));
                *pause = None;
                let next = rest.split_to((*at_once).min(rest.len()));
                Poll::Ready(Some(Ok(Frame::data(next))))
            }
            Flow::Cut(first) => Poll::Ready(Some(match first.take() {
                Some(bytes) => Ok(Frame::data(bytes)),
                None => Err(io::Error::other("cut off by the fault script")),
            })),
            Flow::Huge { left, fresh } => {
                if *left == 0 {
                    return Poll::Ready(None);
                }
                let size = (*left).min(CHUNK);
                *left -= size;
                let mut bytes = vec![b' '; usize::try_from(size).unwrap_or_default()];
                let opening = br#"{"object":"list","data":["#;
                if *fresh && bytes.len() >= opening.len() {
                    bytes[..opening.len()].copy_from_slice(opening);
                }
                *fresh = false;
                Poll::Ready(Some(Ok(Frame::data(Bytes::from(bytes)))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Flow::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Flow::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            _ => SizeHint::default(),
        }
    }
}
