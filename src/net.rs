//! The network's edge: sockets, TLS and HTTP framing, with a limit on everything that arrives.
//!
//! Nothing here knows what is served: [`serve::run`] is given a function from request to response.

mod activity;
mod admission;
pub mod listener;
mod plain;
mod refusal;
pub mod serve;
pub mod tls;

use bytes::Bytes;
use http::StatusCode;

/// The body of an error that this layer answers itself, in the shape that all errors of the API have.
fn error_body(status: StatusCode, message: &str, details: &str) -> Bytes {
    serde_json::json!({ "code": status.as_u16(), "message": message, "details": details }).to_string().into()
}

/// A whole HTTP/1.1 response that carries [`error_body`] and ends its connection.
fn error_response_bytes(status: StatusCode, message: &str, details: &str) -> Vec<u8> {
    let body = error_body(status, message, details);
    let mut response = format!(
        "HTTP/1.1 {} {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nx-content-type-options: nosniff\r\n\
         connection: close\r\n\r\n",
        status.as_str(),
        status.canonical_reason().unwrap_or_default(),
        body.len(),
    )
    .into_bytes();
    response.extend_from_slice(&body);
    response
}
