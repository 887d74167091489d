use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;

use crate::clock::Time;
use crate::domain::Services;
use crate::domain::op::Op;
use crate::error::Error;
use crate::http::openapi;
use crate::http::respond::Json;
use crate::http::route::{Access, RateClass, Route};

pub fn routes() -> Vec<Route> {
    vec![
        Route::get("/health", Access::Open, RateClass::Standard, health),
        Route::get("/openapi.json", Access::Public, RateClass::Standard, document),
    ]
}

#[derive(Serialize, JsonSchema)]
struct Health {
    /// `ok`; an appliance that cannot commit a write answers 503.
    status: &'static str,
    version: &'static str,
    time: Time,
}

async fn health(services: &Services, op: Op) -> Result<Json<Health>, Error> {
    if !services.is_healthy() {
        let message = "degraded: the database cannot be written".into();
        return Err(Error::Unavailable { message, retry_after: Duration::from_secs(5) });
    }
    Ok(Json(Health { status: "ok", version: env!("CARGO_PKG_VERSION"), time: op.now }))
}

async fn document(_: &Services, _: Op) -> Result<Json<serde_json::Value>, Error> {
    Ok(Json(openapi::document(&super::routes())))
}
