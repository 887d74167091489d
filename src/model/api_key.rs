use serde::{Deserialize, Serialize};

use super::role::{Permissions, RoleRef};
use crate::clock::Time;
use crate::ids::{ApiKeyId, OrganizationId, UserId};

/// Lets a program act for the user who made it. Never changed once it is made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ApiKey {
    pub id: ApiKeyId,
    pub organization_id: OrganizationId,
    pub name: String,
    /// At use, no more of it than the maker may do then.
    pub grant: KeyGrant,
    /// The key's first characters, by which people recognize it.
    pub prefix: String,
    /// SHA-256 of the key.
    pub key_hash: [u8; 32],
    /// The maker, for whom the key acts and with whom it ends.
    pub created_by: UserId,
    pub created_at: Time,
    pub expires_at: Time,
}

/// What a key may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeyGrant {
    /// Whatever the role's holders may at the time; nothing once the role is gone.
    Role(RoleRef),
    Permissions(Permissions),
}
