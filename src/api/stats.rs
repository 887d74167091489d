use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use crate::domain::Services;
use crate::domain::authz::Permission::DevicesView;
use crate::domain::op::Op;
use crate::error::Error;
use crate::http::respond::Json;
use crate::http::route::{Access, RateClass, Route};

pub fn routes() -> Vec<Route> {
    vec![Route::get("/stats", Access::needs(DevicesView), RateClass::Standard, stats)]
}

#[derive(Serialize, JsonSchema)]
struct StatsView {
    total: u64,
    by_status: BTreeMap<String, u64>,
    by_platform: BTreeMap<String, u64>,
    by_compliance: BTreeMap<String, u64>,
    /// The last 30 days, UTC, oldest first.
    enrollments: Vec<Day>,
}

#[derive(Serialize, JsonSchema)]
struct Day {
    /// `2026-02-12`.
    date: String,
    count: u64,
}

async fn stats(services: &Services, op: Op) -> Result<Json<StatsView>, Error> {
    let stats = services.stats(&op)?;
    Ok(Json(StatsView {
        total: stats.total,
        by_status: named(stats.by_status),
        by_platform: named(stats.by_platform),
        by_compliance: named(stats.by_compliance),
        enrollments: stats
            .enrolled
            .into_iter()
            .map(|(day, count)| Day { date: day.to_string().chars().take(10).collect(), count })
            .collect(),
    }))
}

fn named<T: std::fmt::Display>(counts: Vec<(T, u64)>) -> BTreeMap<String, u64> {
    counts.into_iter().map(|(one, count)| (one.to_string(), count)).collect()
}
