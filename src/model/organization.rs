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
    /// When the people were last told to have a second factor; `None` while they need none.
    #[serde(default)]
    pub require_mfa_since: Option<Time>,
    /// When they need none again, unless somebody confirms by then that they do; `None` once confirmed.
    #[serde(default)]
    pub require_mfa_until: Option<Time>,
    pub created_at: Time,
    pub updated_at: Time,
    pub revision: u64,
}

/// What an organization decides for its people. A setting that is left out has its default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(inline)]
pub struct OrganizationSettings {
    /// Everyone signs in with a second factor, some days after this is switched on. It has to be confirmed, by somebody who
    /// has one: see `POST /organization/confirm`.
    pub require_mfa: bool,
}
