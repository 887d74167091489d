use serde::{Deserialize, Serialize};

use super::named_values;
use crate::clock::Time;
use crate::ids::{OrganizationId, UserId};

named_values! {
    /// What a link was given for.
    pub enum Purpose {
        Invitation = "invitation",
        Reset = "reset",
    }
}

/// Lets whoever holds its secret choose the user's password, once. A user has one that was given at most, and one that
/// was requested.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Link {
    pub organization_id: OrganizationId,
    pub user_id: UserId,
    pub purpose: Purpose,
    /// SHA-256 of the secret.
    pub token_hash: [u8; 32],
    /// The person asked for it, and nobody knows yet whether it was that person.
    #[serde(default)]
    pub is_requested: bool,
    pub created_at: Time,
    pub expires_at: Time,
}
