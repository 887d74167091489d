//! Connections that are used again: to a receiver that is told of much, a connection for each request would cost both
//! sides more than all else.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

/// Bytes of an answer's head.
const HEAD: usize = 64 * 1024;
/// How old a connection may be when a request is sent on it, and how old it gets.
const USED: Duration = Duration::from_secs(20);
const LIFE: Duration = Duration::from_secs(35);
/// Connections to one place.
const TO_ONE: usize = 4;
/// Connections to all places.
const TO_ALL: usize = 256;

/// HTTP on a stream; dropping it ends the connection.
pub(super) struct Connection {
    pub sender: SendRequest<Full<Bytes>>,
    _driver: JoinSet<()>,
    address: SocketAddr,
    opened: Instant,
}

impl Connection {
    pub async fn open<S>(stream: S, address: SocketAddr) -> hyper::Result<Self>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (sender, connection) = http1::Builder::new().max_buf_size(HEAD).handshake(TokioIo::new(stream)).await?;
        let mut driver = JoinSet::new();
        driver.spawn(async move { _ = timeout(LIFE, connection).await });
        Ok(Self { sender, _driver: driver, address, opened: Instant::now() })
    }

    fn is_usable(&self) -> bool {
        !self.sender.is_closed() && self.opened.elapsed() < USED
    }
}

/// Scheme, host and port: what a connection stands for beside its address.
pub(super) type Place = (bool, String, u16);

/// Connections without a request under way.
#[derive(Default)]
pub(super) struct Kept(Mutex<HashMap<Place, Vec<Connection>>>);

impl Kept {
    /// A connection to one of these addresses of the place.
    pub fn take(&self, place: &Place, addresses: &[SocketAddr]) -> Option<Connection> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let there = kept.get_mut(place)?;
        there.retain(Connection::is_usable);
        let at = there.iter().rposition(|connection| addresses.contains(&connection.address))?;
        Some(there.swap_remove(at))
    }

    /// Keeps a connection whose last answer has been taken whole; past the most, the oldest one goes.
    pub fn put(&self, place: Place, connection: Connection) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|_, there| {
            there.retain(Connection::is_usable);
            !there.is_empty()
        });
        if kept.values().map(Vec::len).sum::<usize>() >= TO_ALL {
            let oldest = kept.values().flatten().map(|connection| connection.opened).min();
            kept.values_mut().for_each(|there| there.retain(|connection| Some(connection.opened) != oldest));
        }
        let there = kept.entry(place).or_default();
        if there.len() < TO_ONE {
            there.push(connection);
        }
    }
}
