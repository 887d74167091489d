//! All integration tests in one binary. Each starts the server it needs, on its own port, with its own folder.

mod contract;
mod devices;
mod groups;
mod organizations;
mod process;
mod requests;
mod roles;
mod server;
mod structure;
mod users;
