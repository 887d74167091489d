//! hyper answers an HTTP/1 request that it cannot parse by itself, with a status (400, 414 or 431) and nothing else.
//! [`Refusal`] stands between hyper and the connection and gives that answer the body that every error has.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::StatusCode;
use hyper::rt::{Read, ReadBufCursor, Write};

use super::activity::Activity;
use super::serve::Peer;
use super::{Refuse, Refused, last_on_its_connection};

/// Passes everything through, except an answer that no exchange has caused.
///
/// hyper flushes the stream below only after it has written all that it had. So once it has flushed while every
/// exchange had ended, and until another begins, what it writes is its own refusal, from the first byte. Should it
/// refuse before such a flush, its answer goes out as it is.
pub(super) struct Refusal<T> {
    io: T,
    peer: Peer,
    activity: Arc<Activity>,
    refuse: Arc<Refuse>,
    /// The number of exchanges begun, all ended, and everything of them written.
    settled: Option<u64>,
    own: Vec<u8>,
    written: usize,
}

impl<T: Read + Write + Unpin> Refusal<T> {
    pub(super) fn new(io: T, peer: Peer, activity: Arc<Activity>, refuse: Arc<Refuse>) -> Self {
        Self { io, peer, activity, refuse, settled: Some(0), own: Vec::new(), written: 0 }
    }

    pub(super) fn into_inner(self) -> T {
        self.io
    }

    /// The answer to write instead of `head`, if `head` is hyper's own.
    fn replacement(&self, head: &[u8]) -> Option<Vec<u8>> {
        let all = self.activity.all_ended()?;
        if self.settled != Some(all) {
            return None;
        }
        let status = StatusCode::from_bytes(head.strip_prefix(b"HTTP/1.1 ")?.get(..3)?).ok()?;
        let (message, details) = match status {
            StatusCode::BAD_REQUEST => ("malformed request", "the request line or a header is not valid HTTP/1.1"),
            StatusCode::URI_TOO_LONG => ("request target too long", "shorten the path or the query"),
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => {
                ("request header too large", "send fewer or shorter headers")
            }
            _ => return None,
        };
        let response = (self.refuse)(Refused::new(status, message, details), self.peer);
        Some(last_on_its_connection(&response))
    }

    fn poll_own(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.own.len() {
            match ready!(Pin::new(&mut self.io).poll_write(cx, &self.own[self.written..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.written += written,
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: Read + Write + Unpin> Write for Refusal<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_own(cx))?;
        let first = bufs.iter().find(|buf| !buf.is_empty());
        if let Some(own) = first.and_then(|buf| self.replacement(buf)) {
            self.own = own;
            self.written = 0;
            return Poll::Ready(Ok(bufs.iter().map(|buf| buf.len()).sum()));
        }
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_own(cx))?;
        if let Some(all) = self.activity.all_ended() {
            self.settled = Some(all);
        }
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_own(cx))?;
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

impl<T: Read + Unpin> Read for Refusal<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}
