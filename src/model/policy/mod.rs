//! What an organization asks of its devices.

mod data;
pub mod units;

use serde::{Deserialize, Serialize};

use super::audit::Actor;
use crate::clock::Time;
use crate::ids::{OrganizationId, PolicyId};

pub use data::{
    ApplicationSettings, ClipboardDirection, ComplianceSettings, ContainerSettings, DlpSettings, InstallMode,
    NetworkSettings, Over, PolicyData, StorageSettings, UsbSettings,
};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Policy {
    pub id: PolicyId,
    pub organization_id: OrganizationId,
    pub content: PolicyContent,
    /// Grows by one with each change; also what `If-Match` is held against.
    pub version: u64,
    pub created_at: Time,
    pub updated_at: Time,
}

/// What people change of a policy, and what a version of it keeps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PolicyContent {
    /// Unique within the organization, whatever its case.
    pub name: String,
    pub description: String,
    pub policy_data: PolicyData,
    /// The policy that this one lies over: what is not set here, is as it is there.
    pub extends: Option<PolicyId>,
    pub active: bool,
}

/// A policy as one change has left it. Never changed afterwards.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PolicyVersion {
    pub version: u64,
    pub content: PolicyContent,
    pub author: Actor,
    pub created_at: Time,
    /// How it came about, when that was not a plain change: `rollback to 3`.
    pub note: Option<String>,
}
