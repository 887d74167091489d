//! The v1 API: wire types and thin handlers, one file a resource.

mod api_keys;
mod assignments;
mod audit_logs;
mod auth;
mod commands;
mod device_certificates;
mod devices;
mod effective_policy;
mod enrollment_tokens;
mod events;
mod gdpr;
mod groups;
mod health;
mod mfa;
mod organizations;
mod paging;
mod policies;
mod preview;
mod qr;
mod roles;
mod setup;
mod stats;
mod system;
mod user_import;
mod users;
mod webhooks;

use crate::http::route::Route;

/// Every route of the appliance.
pub fn routes() -> Vec<Route> {
    [
        health::routes(),
        setup::routes(),
        auth::routes(),
        mfa::routes(),
        api_keys::routes(),
        devices::routes(),
        device_certificates::routes(),
        commands::routes(),
        enrollment_tokens::routes(),
        effective_policy::routes(),
        policies::routes(),
        assignments::routes(),
        preview::routes(),
        audit_logs::routes(),
        stats::routes(),
        events::routes(),
        system::routes(),
        gdpr::routes(),
        groups::routes(),
        roles::routes(),
        organizations::routes(),
        users::routes(),
        user_import::routes(),
        webhooks::routes(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
