//! The network's edge: sockets, TLS and HTTP framing, with a limit on everything that arrives.
//!
//! Nothing here knows what is served: [`serve::run`] is given a function from request to response, and another one
//! that words the answers to what never becomes a request.

mod activity;
mod admission;
pub mod entrance;
pub mod listener;
pub mod outbound;
mod plain;
mod refusal;
pub mod serve;
pub mod smtp;
pub mod syslog;
pub mod tls;

use bytes::Bytes;
use http::{Response, StatusCode};

use serve::Peer;

/// What is wrong with a request that the service never sees, because it cannot be read or is not let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    pub status: StatusCode,
    pub message: &'static str,
    pub details: String,
}

impl Refused {
    fn new(status: StatusCode, message: &'static str, details: impl Into<String>) -> Self {
        Self { status, message, details: details.into() }
    }
}

/// Makes the answer to it, so that every error looks like the service's own.
pub type Refuse = dyn Fn(Refused, Peer) -> Response<Bytes> + Send + Sync;

/// The response as HTTP/1.1 sends it on a connection that ends with it.
fn last_on_its_connection(response: &Response<Bytes>) -> Vec<u8> {
    let (status, body) = (response.status(), response.body());
    let reason = status.canonical_reason().unwrap_or_default();
    let mut bytes = format!("HTTP/1.1 {} {reason}\r\n", status.as_str()).into_bytes();
    for (name, value) in response.headers() {
        bytes.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    bytes.extend(format!("content-length: {}\r\nconnection: close\r\n\r\n", body.len()).into_bytes());
    bytes.extend_from_slice(body);
    bytes
}
