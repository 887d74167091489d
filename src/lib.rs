//! Zero: device management in one static binary.

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
