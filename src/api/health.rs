use std::time::Duration;

use http::StatusCode;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Serialize;

use crate::clock::Time;
use crate::domain::Services;
use crate::domain::op::Op;
use crate::error::Error;
use crate::http::openapi::{self, Operation};
use crate::http::respond::{Answer, Json, Reply};
use crate::http::route::{Access, RateClass, Route};

/// When it is worth asking a degraded appliance again.
const ASK_AGAIN: Duration = Duration::from_secs(5);

pub fn routes() -> Vec<Route> {
    vec![
        Route::get("/health", Access::Open, RateClass::Standard, health),
        Route::get("/openapi.json", Access::Open, RateClass::Standard, document),
    ]
}

#[derive(Serialize, JsonSchema)]
struct Health {
    #[schemars(extend("const" = "ok"))]
    status: &'static str,
    version: &'static str,
    time: Time,
}

/// The appliance answers, but a write could not be committed.
#[derive(Serialize, JsonSchema)]
struct Degraded {
    #[schemars(extend("const" = "degraded"))]
    status: &'static str,
    version: &'static str,
    time: Time,
    checks: Checks,
}

/// What is wrong, by part.
#[derive(Serialize, JsonSchema)]
struct Checks {
    database: &'static str,
}

impl Answer for Result<Health, Degraded> {
    const STATUS: StatusCode = StatusCode::OK;
    const DESCRIPTION: &'static str = "Request succeeded";

    fn schema(generator: &mut SchemaGenerator) -> Option<(&'static str, Schema)> {
        Json::<Health>::schema(generator)
    }

    fn into_reply(self) -> Reply {
        match self {
            Ok(health) => Reply::json(Self::STATUS, &health),
            Err(degraded) => Reply::json(StatusCode::SERVICE_UNAVAILABLE, &degraded).retry_after(ASK_AGAIN),
        }
    }

    fn describe(operation: &mut Operation, generator: &mut SchemaGenerator) {
        operation.answer(Self::STATUS, Self::DESCRIPTION, Self::TAGGED, Self::schema(generator));
        let schema = Json::<Degraded>::schema(generator);
        operation.answer(StatusCode::SERVICE_UNAVAILABLE, "A write could not be committed", false, schema);
    }
}

async fn health(services: &Services, op: Op) -> Result<Result<Health, Degraded>, Error> {
    let (version, time) = (env!("CARGO_PKG_VERSION"), op.now);
    Ok(match services.ailment() {
        None => Ok(Health { status: "ok", version, time }),
        Some(database) => Err(Degraded { status: "degraded", version, time, checks: Checks { database } }),
    })
}

async fn document(_: &Services, _: Op) -> Result<Json<serde_json::Value>, Error> {
    Ok(Json(openapi::document(&super::routes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_degraded_appliance_says_what_is_wrong_and_when_to_ask_again() {
        let checks = Checks { database: "the disk has failed" };
        let degraded = Degraded { status: "degraded", version: "1", time: Time::from_unix(0), checks };
        let reply = Err::<Health, _>(degraded).into_reply();
        assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(reply.headers["retry-after"], "5");
        let body: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
        assert_eq!(body["status"], "degraded");
        assert_eq!(body["checks"]["database"], "the disk has failed");
    }
}
