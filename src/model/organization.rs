use schemars::JsonSchema;
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
    #[serde(default)]
    pub settings: OrganizationSettings,
    pub created_at: Time,
    pub updated_at: Time,
    pub revision: u64,
}

/// What an organization decides for its people. A setting that is left out has its default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(inline)]
pub struct OrganizationSettings {}
