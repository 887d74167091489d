use serde::{Deserialize, Serialize};

use super::gdpr::Privacy;
use super::mfa::Mfa;
use super::named_values;
use super::role::RoleRef;
use crate::clock::Time;
use crate::ids::{OrganizationId, PolicyId, UserId};

named_values! {
    pub enum UserStatus {
        Active = "active",
        Suspended = "suspended",
        /// Invited, without a password yet.
        Pending = "pending",
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct User {
    pub id: UserId,
    pub organization_id: OrganizationId,
    pub email: String,
    pub name: String,
    pub role: RoleRef,
    pub status: UserStatus,
    /// Argon2id in PHC string format.
    pub password_hash: Option<String>,
    #[serde(default)]
    pub mfa: Mfa,
    /// The policy assigned to the user's devices.
    #[serde(default)]
    pub policy_id: Option<PolicyId>,
    #[serde(default)]
    pub privacy: Privacy,
    pub last_login: Option<Time>,
    pub created_at: Time,
    pub updated_at: Time,
    pub revision: u64,
}

impl User {
    /// Whether signing in takes more than the password.
    pub fn mfa_enabled(&self) -> bool {
        self.mfa.totp.is_some()
    }
}
