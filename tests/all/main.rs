//! All integration tests in one binary. Each starts the server it needs, on its own port, with its own folder.

mod contract;
mod devices;
mod failures;
mod policies;
mod process;
mod requests;
mod server;
mod structure;
