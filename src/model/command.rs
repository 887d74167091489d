use serde::{Deserialize, Serialize};

use super::audit::Actor;
use super::named_values;
use crate::clock::Time;
use crate::ids::{CommandId, DeviceId, OrganizationId, UserId};

named_values! {
    pub enum CommandType {
        Wipe = "wipe",
        Lock = "lock",
        Unlock = "unlock",
    }
}

named_values! {
    /// How far a command has got. `succeeded` and `failed` are only ever the device's own word.
    pub enum CommandStatus {
        /// Not yet handed to the device.
        Pending = "pending",
        /// Handed out in an answer to a check-in; handed out again until the device reports a result.
        Delivered = "delivered",
        Succeeded = "succeeded",
        Failed = "failed",
        /// The device did not report a result in time.
        Expired = "expired",
        /// Taken back before the device reported a result.
        Cancelled = "cancelled",
    }
}

impl CommandStatus {
    /// Still waiting for the device's word.
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Pending | Self::Delivered)
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Command {
    pub id: CommandId,
    pub organization_id: OrganizationId,
    pub device_id: DeviceId,
    #[serde(rename = "type")]
    pub kind: CommandType,
    pub status: CommandStatus,
    /// Why the device says that it failed, or why it was cancelled.
    pub reason: Option<String>,
    pub requested_by: Actor,
    pub created_at: Time,
    pub delivered_at: Option<Time>,
    pub completed_at: Option<Time>,
    /// `None` for a wipe: the intent to wipe never lapses.
    pub expires_at: Option<Time>,
}

/// A wipe that a device never confirmed before it was deleted or written off. Whoever enrols again under the same
/// serial number gets it as the first command.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WipeIntent {
    pub device_id: DeviceId,
    /// Whose device it was.
    #[serde(default)]
    pub user_id: Option<UserId>,
    pub device_name: String,
    pub requested_by: Actor,
    pub requested_at: Time,
}
