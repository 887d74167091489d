//! Zero: device management in one static binary.
//!
//! # The way of a request
//!
//! accept → TLS → hyper ([`net`]) → find the route (404, 405) → who is it (401) → limit, by principal or by address
//! (429) → may they (403) → decode within bounds (400, 413, 415) ([`http`]) → handler ([`api`]) → domain rule
//! ([`domain`]) → one transaction ([`store`]) → typed answer.
//!
//! [`http::dispatch`] has it as one function. The layers, and who may use whom: `model ← store ← domain ← api`; `http`
//! uses `domain` and knows no resource; `net` stands alone; `tasks` uses `domain`; [`app`] alone wires; `cli` uses
//! `app`. The foundations (`clock`, `ids`, `error`, `config`) are everybody's.

pub mod api;
pub mod app;
pub mod cli;
pub mod clock;
pub mod config;
pub mod domain;
pub mod error;
pub mod http;
pub mod ids;
pub mod logging;
pub mod model;
pub mod net;
pub mod store;
pub mod tasks;
pub mod turns;
