use schemars::JsonSchema;
use serde::Serialize;

use crate::domain::Services;
use crate::domain::diagnosis::{Finding, Severity, worst};
use crate::domain::op::Op;
use crate::error::Error;
use crate::http::respond::Json;

/// What goes wrong over years: what was found, and what to do about it.
#[derive(Serialize, JsonSchema)]
pub(super) struct Report {
    /// The worst of the findings.
    severity: Severity,
    findings: Vec<FindingView>,
}

#[derive(Serialize, JsonSchema)]
struct FindingView {
    /// What was looked at.
    check: &'static str,
    severity: Severity,
    message: String,
    /// Null where there is nothing to do.
    remedy: Option<String>,
}

pub(super) async fn doctor(services: &Services, op: Op) -> Result<Json<Report>, Error> {
    let findings = services.diagnose(&op).await?;
    let severity = worst(&findings);
    let findings = findings.into_iter().map(|Finding { check, severity, message, remedy }| FindingView {
        check,
        severity,
        message,
        remedy,
    });
    Ok(Json(Report { severity, findings: findings.collect() }))
}
