//! The v1 API: wire types and thin handlers, one file a resource.

mod audit_logs;
mod auth;
mod commands;
mod devices;
mod enrollment_tokens;
mod groups;
mod health;
mod organizations;
mod paging;
mod roles;
mod setup;
mod stats;
mod user_import;
mod users;

use crate::http::route::Route;

/// Every route of the appliance.
pub fn routes() -> Vec<Route> {
    [
        health::routes(),
        setup::routes(),
        auth::routes(),
        devices::routes(),
        commands::routes(),
        enrollment_tokens::routes(),
        audit_logs::routes(),
        stats::routes(),
        groups::routes(),
        roles::routes(),
        organizations::routes(),
        users::routes(),
        user_import::routes(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
