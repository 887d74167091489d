use serde::{Deserialize, Serialize};

use crate::clock::Time;
use crate::ids::{EnrollmentTokenId, GroupId, OrganizationId, PolicyId, UserId};

/// Lets devices enrol without a person signing in on them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EnrollmentToken {
    pub id: EnrollmentTokenId,
    pub organization_id: OrganizationId,
    pub name: String,
    /// SHA-256 of the token.
    pub token_hash: [u8; 32],
    /// `None`: as often as wanted.
    pub max_uses: Option<u32>,
    pub uses: u32,
    pub expires_at: Option<Time>,
    /// The owner of the devices that enrol with it.
    pub user_id: Option<UserId>,
    /// What the devices are assigned, and the group they are in, beside their owner's.
    #[serde(default)]
    pub policy_id: Option<PolicyId>,
    #[serde(default)]
    pub group_id: Option<GroupId>,
    pub tags: Vec<String>,
    pub created_by: UserId,
    pub created_at: Time,
}

impl EnrollmentToken {
    pub fn is_usable(&self, now: Time) -> bool {
        self.expires_at.is_none_or(|end| now < end) && self.max_uses.is_none_or(|max| self.uses < max)
    }
}
