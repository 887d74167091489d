//! Which entry of the audit log is which event. Events are made from entries and from nothing else: whatever is logged
//! is told, and cannot be forgotten where it happens.

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::clock::Time;
use crate::error::Error;
use crate::ids::{DeviceId, OrganizationId, PolicyId, WebhookId};
use crate::model::audit::AuditResult;
use crate::model::webhook::EventName;
use crate::store::audit::AuditEvent;
use crate::store::engine::Read;
use crate::store::{devices, policies};

/// The event that an entry with this action, these details and this result is, if it is one.
pub fn named(action: &str, details: &Map<String, Value>, result: AuditResult) -> Option<EventName> {
    use EventName::*;
    let detail = |name: &str| details.get(name).and_then(Value::as_str);
    let event = match action {
        "device.enroll" => DeviceEnrolled,
        "device.unenroll" => DeviceUnenrolled,
        "device.status.change" => match detail("to")? {
            "online" => DeviceOnline,
            "offline" => DeviceOffline,
            "suspended" => DeviceSuspended,
            "wiped" => DeviceWiped,
            _ => return None,
        },
        "device.lock" if detail("state") == Some("confirmed") => DeviceLocked,
        "device.compliance.change" => DeviceComplianceChanged,
        "policy.create" => PolicyCreated,
        "policy.update" => PolicyUpdated,
        "policy.delete" => PolicyDeleted,
        "policy.assign" if detail("action") != Some("unassign") => PolicyAssigned,
        // To that device alone.
        "device.update" if detail("policy_id").is_some() => PolicyAssigned,
        "user.create" => UserCreated,
        "user.update" | "user.role.change" | "user.resume" => UserUpdated,
        "user.suspend" => UserSuspended,
        "user.delete" => UserDeleted,
        // Somebody guesses passwords, uses a stolen token, or has taken the machine itself to get in; or this very
        // channel does not work.
        "auth.lockout" | "system.recover_admin" | "webhook.disable" | "webhook.overflow" => return Some(AuditAlert),
        "auth.session.revoked" if result == AuditResult::Failure => return Some(AuditAlert),
        _ => return None,
    };
    (result == AuditResult::Success).then_some(event)
}

/// Whom or what the event is about.
pub(super) fn data(
    from: &impl Read,
    organization: OrganizationId,
    event: EventName,
    entry: &AuditEvent,
) -> Result<Value, Error> {
    let (kind, id, name) = match &entry.resource {
        Some(resource) => (resource.kind.as_str(), json!(resource.id), json!(resource.name)),
        None => ("", Value::Null, Value::Null),
    };
    let detail = |name: &str| entry.details.get(name).cloned().unwrap_or_default();
    if event == EventName::AuditAlert {
        return Ok(json!({"action": entry.action, "resource_type": kind, "resource_id": id, "resource_name": name}));
    }
    Ok(match kind {
        "device" if event == EventName::PolicyAssigned => {
            let policy = detail("policy_id");
            let found = policy.as_str().and_then(PolicyId::parse);
            let found = found.map(|id| policies::get(from, organization, id)).transpose()?.flatten();
            let policy_name = found.map(|policy| policy.content.name);
            json!({"policy_id": policy, "policy_name": policy_name, "device_id": id, "device_name": name})
        }
        "device" => {
            // A device that is gone has left its platform in its last entry.
            let device = id.as_str().and_then(DeviceId::parse);
            let device = device.map(|id| devices::get(from, organization, id)).transpose()?.flatten();
            let platform = device.map_or_else(|| detail("platform"), |device| json!(device.platform));
            let mut data = json!({"device_id": id, "device_name": name, "platform": platform});
            if event == EventName::DeviceComplianceChanged {
                data["compliance"] = detail("to");
                data["reasons"] = detail("reasons");
            }
            data
        }
        "policy" => json!({"policy_id": id, "policy_name": name}),
        _ => json!({"user_id": id, "user_name": name}),
    })
}

pub(super) fn of_webhook(id: WebhookId) -> Value {
    json!({"webhook_id": id})
}

#[derive(Serialize)]
struct Body {
    event: EventName,
    timestamp: Time,
    data: Value,
}

pub(super) fn body(event: EventName, timestamp: Time, data: Value) -> Result<String, Error> {
    serde_json::to_string(&Body { event, timestamp, data }).map_err(Error::internal)
}

/// The body of an event about a person or a device of theirs, without their names.
pub(super) fn without_names(body: &str) -> Result<String, Error> {
    let mut body: Map<String, Value> = serde_json::from_str(body).map_err(Error::internal)?;
    if let Some(Value::Object(data)) = body.get_mut("data") {
        for name in ["user_name", "device_name", "resource_name"] {
            if let Some(name) = data.get_mut(name) {
                *name = Value::Null;
            }
        }
    }
    serde_json::to_string(&body).map_err(Error::internal)
}
