//! From an HTTP request to an operation and back. Knows no resource: those are declared in `api`.

pub mod assets;
pub mod authn;
pub mod cookie;
pub mod dispatch;
pub mod extract;
pub mod limits;
pub mod metrics;
pub mod openapi;
pub mod peer;
mod reference;
pub mod respond;
pub mod route;
pub mod router;
pub mod schema;
pub mod sse;
pub mod stream;
pub mod upload;
