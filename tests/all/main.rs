//! All integration tests in one binary. Each starts the server it needs, on its own port, with its own folder.

mod api_keys;
mod audit;
mod backups;
mod contract;
mod devices;
mod effective_policies;
mod failures;
mod gdpr;
mod groups;
mod mail;
mod mfa;
mod names;
mod organizations;
mod permissions;
mod policies;
mod preview;
mod process;
mod receiver;
mod recover;
mod requests;
mod roles;
mod server;
mod smtp_sink;
mod structure;
mod users;
mod webhooks;
