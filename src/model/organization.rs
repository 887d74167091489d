use serde::{Deserialize, Serialize};

use super::named_values;
use crate::clock::Time;
use crate::ids::{OrganizationId, PolicyId};

named_values! {
    pub enum Tier {
        Standard = "standard",
        Enterprise = "enterprise",
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Organization {
    pub id: OrganizationId,
    pub name: String,
    pub tier: Tier,
    /// The policy of every device for which nothing nearer is assigned.
    #[serde(default)]
    pub default_policy_id: Option<PolicyId>,
    pub created_at: Time,
    pub updated_at: Time,
    pub revision: u64,
}
