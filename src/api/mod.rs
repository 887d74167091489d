//! The v1 API: wire types and thin handlers, one file a resource.

mod assignments;
mod audit_logs;
mod auth;
mod commands;
mod devices;
mod effective_policy;
mod enrollment_tokens;
mod health;
mod paging;
mod policies;
mod preview;
mod setup;
mod stats;

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
        effective_policy::routes(),
        policies::routes(),
        assignments::routes(),
        preview::routes(),
        audit_logs::routes(),
        stats::routes(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
