//! All integration tests in one binary. Each starts the server it needs, on its own port, with its own folder.

mod api_keys;
mod audit;
mod contract;
mod devices;
mod failures;
mod groups;
mod mfa;
mod organizations;
mod policies;
mod process;
mod recover;
mod requests;
mod roles;
mod server;
mod structure;
mod users;
