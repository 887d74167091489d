use serde::{Deserialize, Serialize};

use crate::clock::Time;
use crate::ids::{GroupId, OrganizationId, PolicyId};

/// People who belong together. Whoever is in a group is also in those around it. Who is in it directly, a table of its
/// own says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Group {
    pub id: GroupId,
    pub organization_id: OrganizationId,
    /// Unique within the organization, whatever its case.
    pub name: String,
    /// The group around this one.
    pub parent_id: Option<GroupId>,
    pub policy_id: Option<PolicyId>,
    pub created_at: Time,
    pub updated_at: Time,
    /// Grows with each change, also of the members.
    pub revision: u64,
}
