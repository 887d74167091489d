use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::named_values;
use crate::clock::Time;
use crate::ids::{AuditId, OrganizationId, RequestId};

named_values! {
    /// Who acts.
    pub enum ActorType {
        User = "user",
        ApiKey = "api_key",
        Device = "device",
        EnrollmentToken = "enrollment_token",
        /// The appliance itself: its tasks and its commands on the machine.
        System = "system",
        /// Nobody has proven who they are.
        Anonymous = "anonymous",
    }
}

named_values! {
    pub enum AuditResult {
        Success = "success",
        Failure = "failure",
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    #[serde(rename = "type")]
    pub kind: ActorType,
    pub id: Option<String>,
    pub name: Option<String>,
}

impl Actor {
    pub fn system() -> Self {
        Self { kind: ActorType::System, id: None, name: None }
    }

    /// For rows that may outlive the person behind it.
    pub fn unnamed(self) -> Self {
        Self { name: None, ..self }
    }
}

/// What was acted on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resource {
    #[serde(rename = "type")]
    pub kind: String,
    pub id: String,
    pub name: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AuditEntry {
    pub id: AuditId,
    /// Counts from 1 within the organization, without gaps.
    pub seq: u64,
    pub timestamp: Time,
    pub organization_id: OrganizationId,
    pub actor: Actor,
    pub action: String,
    pub resource: Option<Resource>,
    pub details: serde_json::Map<String, serde_json::Value>,
    pub source_ip: Option<IpAddr>,
    pub request_id: Option<RequestId>,
    pub result: AuditResult,
    /// SHA-256 over the hash before it and this entry, in hexadecimal.
    pub hash: String,
}
