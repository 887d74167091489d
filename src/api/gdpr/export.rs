//! The one document with everything that is held on a person.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;

use super::ObjectionView;
use crate::api::api_keys::KeyView;
use crate::api::audit_logs::EntryView;
use crate::api::auth::{SessionView, UserView};
use crate::api::commands::CommandView;
use crate::api::devices::FlatDevice;
use crate::api::effective_policy::EffectivePolicyView;
use crate::api::enrollment_tokens::TokenView;
use crate::clock::Time;
use crate::domain::gdpr::{Export, ExportedDevice};
use crate::ids::{GroupId, PolicyId, SessionId};
use crate::model::link::{Link, Purpose};
use crate::model::mfa::MfaMethod;

#[derive(Serialize, JsonSchema)]
pub struct ExportView {
    exported_at: Time,
    profile: ProfileView,
    groups: Vec<GroupName>,
    devices: Vec<ExportedDeviceView>,
    sessions: Vec<SessionView>,
    /// Without their secrets, which are not kept.
    api_keys: Vec<KeyView>,
    /// Those with which devices enrol as the person's.
    enrollment_tokens: Vec<TokenView>,
    /// With which the person may choose a password; their secrets are not kept.
    links: Vec<ExportedLink>,
    /// Wipes of devices that were the person's, which wait for the device to enrol again.
    waiting_wipes: Vec<WaitingWipe>,
    restriction: Option<ExportedRestriction>,
    objections: Vec<ObjectionView>,
    /// What the person has done and what was done to them and what is theirs, newest first, without what it tells of
    /// others. Up to the newest 10,000.
    audit_entries: Vec<EntryView>,
    /// The members that do not have all there is: `audit_entries`, `devices` (1,000) or `commands` (1,000 a device).
    truncated: Vec<&'static str>,
}

#[derive(Serialize, JsonSchema)]
struct ProfileView {
    #[serde(flatten)]
    user: UserView,
    /// The policy assigned to the person.
    policy_id: Option<PolicyId>,
    has_password: bool,
    mfa_methods: Vec<MfaMethod>,
}

#[derive(Serialize, JsonSchema)]
struct GroupName {
    id: GroupId,
    name: Arc<str>,
}

#[derive(Serialize, JsonSchema)]
struct ExportedDeviceView {
    #[serde(flatten)]
    device: FlatDevice,
    /// Newest first.
    commands: Vec<CommandView>,
    /// What holds for the device.
    policy: EffectivePolicyView,
}

#[derive(Serialize, JsonSchema)]
struct ExportedLink {
    purpose: Purpose,
    created_at: Time,
    expires_at: Time,
}

#[derive(Serialize, JsonSchema)]
struct WaitingWipe {
    serial_number: String,
    device_name: String,
    requested_at: Time,
}

#[derive(Serialize, JsonSchema)]
struct ExportedRestriction {
    restricted_since: Time,
    reason: Option<String>,
}

impl ExportView {
    /// `current` is the session that asks.
    pub fn new(export: Export, current: Option<SessionId>) -> Self {
        let user = &export.person.user;
        let restriction = user.privacy.restriction.clone();
        let restriction =
            restriction.map(|now| ExportedRestriction { restricted_since: now.since, reason: now.reason });
        let objections = user.privacy.objections.iter().cloned().map(Into::into).collect();
        let (policy_id, has_password) = (user.policy_id, user.password_hash.is_some());
        let mfa_methods = user.mfa.methods();
        let user = UserView::new(export.person);
        let device = |ExportedDevice { seen, commands, policy }: ExportedDevice| ExportedDeviceView {
            device: FlatDevice(seen),
            commands: commands.into_iter().map(Into::into).collect(),
            policy: (&policy).into(),
        };
        let link =
            |Link { purpose, created_at, expires_at, .. }: Link| ExportedLink { purpose, created_at, expires_at };
        let waiting = export.waiting_wipes.into_iter().map(|(serial_number, intent)| WaitingWipe {
            serial_number,
            device_name: intent.device_name,
            requested_at: intent.requested_at,
        });
        Self {
            exported_at: export.exported_at,
            profile: ProfileView { user, policy_id, has_password, mfa_methods },
            groups: export.groups.into_iter().map(|(id, name)| GroupName { id, name }).collect(),
            devices: export.devices.into_iter().map(device).collect(),
            sessions: export.sessions.into_iter().map(|session| SessionView::new(session, current)).collect(),
            api_keys: export.api_keys.into_iter().map(Into::into).collect(),
            enrollment_tokens: export.enrollment_tokens.into_iter().map(Into::into).collect(),
            links: export.links.into_iter().map(link).collect(),
            waiting_wipes: waiting.collect(),
            restriction,
            objections,
            audit_entries: export.audit_entries.into_iter().map(Into::into).collect(),
            truncated: export.truncated,
        }
    }
}
