use std::net::Ipv4Addr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::gdpr::Leaving;
use super::named_values;
use crate::clock::Time;
use crate::ids::{DeviceId, EnrollmentTokenId, GroupId, OrganizationId, PolicyId, UserId};

named_values! {
    /// Where a device stands in its life.
    pub enum Status {
        /// Enrolled, and not heard of since.
        Pending = "pending",
        Online = "online",
        /// Has not checked in recently, or said that it goes.
        Offline = "offline",
        Suspended = "suspended",
        /// The work profile has been wiped: confirmed by the device, or forced by an administrator.
        Wiped = "wiped",
    }
}

named_values! {
    pub enum Platform {
        Linux = "linux",
        Windows = "windows",
        Macos = "macos",
        Android = "android",
        Ios = "ios",
    }
}

named_values! {
    pub enum Compliance {
        Compliant = "compliant",
        NonCompliant = "non_compliant",
        Unknown = "unknown",
    }
}

/// A device under management. When it was last seen is not here: heartbeats have a table of their own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Device {
    pub id: DeviceId,
    pub organization_id: OrganizationId,
    pub user_id: Option<UserId>,
    pub device_name: String,
    pub platform: Platform,
    pub agent_version: String,
    pub os_version: Option<String>,
    pub serial_number: Option<String>,
    pub hostname: Option<String>,
    pub status: Status,
    pub enrolled_at: Time,
    /// The policy assigned to the device itself, whatever else reaches it.
    pub policy_id: Option<PolicyId>,
    /// A group that the device itself is in, beside those of its user.
    #[serde(default)]
    pub group_id: Option<GroupId>,
    /// The version of its policy that the device says it has applied.
    pub policy_version: Option<u64>,
    pub vpn_ip: Ipv4Addr,
    pub wireguard_public_key: Option<String>,
    pub compliance: Compliance,
    pub compliance_reasons: Vec<String>,
    pub posture: Option<Posture>,
    pub tags: Vec<String>,
    pub created_at: Time,
    pub updated_at: Time,
    /// Grows by one with each stored change; what `If-Match` is held against.
    pub revision: u64,
    /// SHA-256 of the device token; `None` once its credentials are revoked.
    pub token_hash: Option<[u8; 32]>,
    pub token_expires_at: Time,
    pub enrollment_token_id: Option<EnrollmentTokenId>,
    /// What it may sign in with instead of its token.
    #[serde(default)]
    pub certificate: Option<Certificate>,
    /// Takes that one's place when the device first uses it.
    #[serde(default)]
    pub next_certificate: Option<Certificate>,
    /// Its owner was erased.
    #[serde(default)]
    pub leaving: Option<Leaving>,
}

/// A client certificate that the appliance has issued.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Certificate {
    /// SHA-256 of the whole certificate.
    pub fingerprint: [u8; 32],
    /// Lower-case hexadecimal.
    pub serial: String,
    pub expires_at: Time,
}

impl Device {
    /// Whether it can still sign in, with anything.
    pub fn has_credentials(&self, now: Time) -> bool {
        let is_good = |certificate: &Option<Certificate>| certificate.as_ref().is_some_and(|c| now < c.expires_at);
        let token = self.token_hash.is_some() && now < self.token_expires_at;
        token || is_good(&self.certificate) || is_good(&self.next_certificate)
    }
}

/// What a device reports of its own state. Members it does not report are unknown, not false.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Posture {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_encrypted: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passcode_set: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1024))]
    pub passcode_length: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jailbroken: Option<bool>,
    /// When the operating system was last updated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_update_at: Option<Time>,
}
