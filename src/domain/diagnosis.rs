//! What is found when the appliance is looked over, and what to do about it.

use std::sync::Arc;

use serde::Serialize;

use super::Services;
use super::authz::Permission;
use super::op::Op;
use super::status::Status;
use crate::error::Error;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    Ok,
    Info,
    Warning,
    Error,
}

#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub check: &'static str,
    pub severity: Severity,
    pub message: String,
    /// What to do; none where there is nothing to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

/// Looks at what a running appliance stands on; may wait for disks.
pub type Diagnose = dyn Fn(&Status) -> Vec<Finding> + Send + Sync;

/// The worst of them.
pub fn worst(findings: &[Finding]) -> Severity {
    findings.iter().map(|finding| finding.severity).max().unwrap_or(Severity::Ok)
}

impl Services {
    /// What `zero doctor` would say.
    pub async fn diagnose(&self, op: &Op) -> Result<Vec<Finding>, Error> {
        op.require(Permission::SystemAdmin)?;
        let edge = self.edge.as_ref().ok_or(Error::NotFound("diagnosis"))?;
        let (status, diagnose): (_, Arc<Diagnose>) = (self.status()?, edge.diagnose.clone());
        tokio::task::spawn_blocking(move || diagnose(&status)).await.map_err(Error::internal)
    }
}
