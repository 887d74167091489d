use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::clock::Time;
use crate::ids::{OrganizationId, SessionId, UserId};

/// A signed-in user on one client.
///
/// A refresh token is two random parts. The first, `family`, stays for the session's life; the second is new at every
/// refresh. A known family with any other second part is a spent token used again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Session {
    pub id: SessionId,
    pub user_id: UserId,
    pub organization_id: OrganizationId,
    /// SHA-256 of the family part.
    pub family_hash: [u8; 32],
    /// SHA-256 of the part that is good now.
    pub refresh_hash: [u8; 32],
    pub source_ip: IpAddr,
    pub user_agent: Option<String>,
    pub created_at: Time,
    pub last_used_at: Time,
    /// When its refresh token lapses.
    pub expires_at: Time,
}

/// A key that signs access tokens (HS256).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SigningKey {
    /// Named by `kid` in the token's header.
    pub id: String,
    pub secret: [u8; 32],
    pub created_at: Time,
}
