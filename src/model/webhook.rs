use serde::{Deserialize, Serialize};

use super::named_values;
use super::sealed::Sealed;
use crate::clock::Time;
use crate::ids::{DeliveryId, OrganizationId, UserId, WebhookId};

/// Where an organization's events are sent to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Webhook {
    pub id: WebhookId,
    pub organization_id: OrganizationId,
    pub url: String,
    /// Names of events, `*`, or `device.*` and its like.
    pub events: Vec<String>,
    pub enabled: bool,
    /// Why the appliance disabled it; `None` when a person did, or while it is enabled.
    pub disabled_reason: Option<String>,
    /// What deliveries are signed with.
    pub secret: Sealed,
    /// What they are signed with as well, until then.
    pub previous_secret: Option<(Sealed, Time)>,
    pub created_at: Time,
    pub updated_at: Time,
    /// Grows by one with each change by a person; what `If-Match` is held against.
    pub revision: u64,
}

/// What deliveries make of a webhook; apart from it, so that they are no changes of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WebhookState {
    /// Deliveries that have not ended.
    pub pending: u64,
    /// Deliveries that have ended, as far as they are kept.
    pub finished: u64,
    /// Events that found the queue full, and were not sent.
    pub dropped: u64,
    /// The queue has been full, and not been down to half since.
    pub is_overflowing: bool,
    /// Since when every attempt has failed.
    pub failing_since: Option<Time>,
    pub last_delivered_at: Option<Time>,
}

named_values! {
    /// What a webhook can be told of.
    pub enum EventName {
        DeviceEnrolled = "device.enrolled",
        DeviceUnenrolled = "device.unenrolled",
        DeviceOnline = "device.online",
        DeviceOffline = "device.offline",
        DeviceSuspended = "device.suspended",
        /// The device has confirmed it.
        DeviceLocked = "device.locked",
        /// The device has confirmed it, or an administrator has declared it.
        DeviceWiped = "device.wiped",
        DeviceComplianceChanged = "device.compliance.changed",
        PolicyCreated = "policy.created",
        PolicyUpdated = "policy.updated",
        PolicyDeleted = "policy.deleted",
        PolicyAssigned = "policy.assigned",
        UserCreated = "user.created",
        UserUpdated = "user.updated",
        UserSuspended = "user.suspended",
        UserDeleted = "user.deleted",
        /// Something that whoever looks after the appliance should look at.
        AuditAlert = "audit.alert",
        /// Sent on request only.
        WebhookTest = "webhook.test",
    }
}

impl EventName {
    /// Whether a webhook that asks for `pattern` is told of it: its name, `*`, or the beginning of its name and `.*`.
    pub fn matches(self, pattern: &str) -> bool {
        let name = self.as_str();
        match pattern.strip_suffix('*') {
            Some("") => true,
            Some(start) => start.ends_with('.') && name.starts_with(start),
            None => name == pattern,
        }
    }
}

named_values! {
    pub enum DeliveryState {
        Pending = "pending",
        Delivered = "delivered",
        Failed = "failed",
    }
}

/// An event on its way to one webhook.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Delivery {
    pub id: DeliveryId,
    pub event: EventName,
    /// What is sent, byte for byte the same on every attempt.
    pub body: String,
    /// Whom it is about: erasing them takes it away, or their names out of it.
    #[serde(default)]
    pub person: Option<UserId>,
    pub created_at: Time,
    pub state: DeliveryState,
    /// From when its attempts are counted: when it was made, or last sent again by a person.
    pub queued_at: Time,
    /// When it is tried next, while it is pending.
    pub next_attempt_at: Option<Time>,
    pub finished_at: Option<Time>,
    /// Attempts since `queued_at`.
    pub tries: u32,
    /// The last few of all attempts, oldest first.
    pub attempts: Vec<Attempt>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    pub at: Time,
    pub duration_ms: u64,
    /// HTTP status; `None` when no answer came.
    pub status: Option<u16>,
    /// Why it failed.
    pub error: Option<String>,
    /// The beginning of what was answered.
    pub answer: String,
}
