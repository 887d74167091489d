use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::hex::Hex;
use super::named_values;
use crate::clock::Time;
use crate::ids::{AuditId, OrganizationId, RequestId, UserId};

named_values! {
    /// Who acts.
    pub enum ActorType {
        User = "user",
        ApiKey = "api_key",
        Device = "device",
        EnrollmentToken = "enrollment_token",
        /// The appliance itself: its tasks and its commands on the machine.
        System = "system",
        /// Nobody has proven who they are.
        Anonymous = "anonymous",
    }
}

named_values! {
    pub enum AuditResult {
        Success = "success",
        Failure = "failure",
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    #[serde(rename = "type")]
    pub kind: ActorType,
    pub id: Option<String>,
    pub name: Option<String>,
}

impl Actor {
    pub fn system() -> Self {
        Self { kind: ActorType::System, id: None, name: None }
    }

    /// For rows that may outlive the person behind it.
    pub fn unnamed(self) -> Self {
        Self { name: None, ..self }
    }
}

/// What was acted on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resource {
    #[serde(rename = "type")]
    pub kind: String,
    pub id: String,
    pub name: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AuditEntry {
    pub id: AuditId,
    /// Counts from 1 within the organization, without gaps.
    pub seq: u64,
    pub timestamp: Time,
    pub organization_id: OrganizationId,
    pub actor: Actor,
    pub action: String,
    pub resource: Option<Resource>,
    pub details: serde_json::Map<String, serde_json::Value>,
    pub source_ip: Option<IpAddr>,
    pub request_id: Option<RequestId>,
    pub result: AuditResult,
    /// SHA-256 over the hash before it and this entry, in hexadecimal.
    pub hash: String,
    /// What of it names people: at most one part a person.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sealed: Vec<SealedNames>,
}

/// What an entry says of one person by name, sealed with that person's key.
///
/// The chain has only the digest of it, so that the key may be destroyed and the chain still be verified.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedNames {
    pub person: UserId,
    /// Where in the entry it stands when it is open: `actor.name`, `details.email`.
    pub fields: Vec<String>,
    /// SHA-256 over the salt and the JSON array of the fields' values.
    pub digest: Hex,
    /// Nonce, ciphertext and tag of what the digest is of. Stored, never shown; empty when it came after the erasure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed: Option<Hex>,
    /// 16 random bytes, without which the digest tells nothing of what is short enough to be guessed. Shown together
    /// with the values, never stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub salt: Option<Hex>,
}

/// What is shown in the place of a name whose key was destroyed.
pub const ERASED: &str = "[erased]";

/// That the log had this hash at this entry, at this time, signed by the appliance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    pub organization_id: OrganizationId,
    pub seq: u64,
    /// The entry's hash.
    pub hash: Hex,
    pub time: Time,
    /// Ed25519 over [`Checkpoint::statement`].
    pub signature: Hex,
}

impl Checkpoint {
    /// What is signed: five lines of text.
    pub fn statement(&self) -> String {
        let Self { organization_id, seq, hash, time, .. } = self;
        format!("zero audit checkpoint 1\n{organization_id}\n{seq}\n{hash}\n{time}\n")
    }
}
