use std::collections::BTreeMap;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::domain::Services;
use crate::domain::authz::Permission::DevicesView;
use crate::domain::effective_policy::{EffectivePolicy, NamedAssignment, Source};
use crate::domain::op::Op;
use crate::error::Error;
use crate::http::extract::Path;
use crate::http::respond::{Json, Tag, Tagged};
use crate::http::route::{Access, RateClass, Route};
use crate::ids::{DeviceId, PolicyId};

pub fn routes() -> Vec<Route> {
    let access = Access::needs_or_own_or_device(DevicesView);
    vec![Route::get("/devices/{id}/policy", access, RateClass::Standard, get)]
}

#[derive(Serialize, JsonSchema)]
pub(super) struct EffectivePolicyView {
    device_id: DeviceId,
    /// The strongest policy in force; `null` without any.
    policy_id: Option<PolicyId>,
    policy_name: Option<Arc<str>>,
    /// The version of that policy.
    version: Option<u64>,
    /// The settings in force, in their sections.
    policy_data: Value,
    /// Where each setting comes from, by its path, such as `usb.allowed`.
    sources: BTreeMap<Arc<str>, SourceView>,
    /// The policies that reach the device, the strongest first.
    assignments: Vec<AssignmentView>,
}

#[derive(Serialize, JsonSchema)]
struct SourceView {
    /// The policy that says so: the assigned one, or one that it extends.
    policy_id: PolicyId,
    policy_name: String,
    /// The assigned policy, when that is another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    inherited_by: Option<PolicyId>,
    assigned_to: AssigneeView,
}

#[derive(Serialize, JsonSchema)]
struct AssignmentView {
    policy_id: PolicyId,
    policy_name: Arc<str>,
    version: u64,
    assigned_to: AssigneeView,
}

#[derive(Clone, Serialize, JsonSchema)]
struct AssigneeView {
    #[serde(rename = "type")]
    kind: AssigneeType,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<Arc<str>>,
}

#[derive(Clone, Copy, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
enum AssigneeType {
    Device,
    User,
    Group,
    /// The organization's default.
    Default,
}

impl From<&NamedAssignment> for AssigneeView {
    fn from(assignment: &NamedAssignment) -> Self {
        let (kind, id) = match assignment.source {
            Source::Device => (AssigneeType::Device, None),
            Source::User(id) => (AssigneeType::User, Some(id.to_string())),
            Source::Group(id) => (AssigneeType::Group, Some(id.to_string())),
            Source::Default => (AssigneeType::Default, None),
        };
        Self { kind, id, name: assignment.source_name.clone() }
    }
}

impl From<&EffectivePolicy> for EffectivePolicyView {
    fn from(policy: &EffectivePolicy) -> Self {
        let mut policy_data = Map::new();
        let mut sources = BTreeMap::new();
        for (path, resolved) in &policy.effective.settings {
            if let Some((section, name)) = path.split_once('.')
                && let Some(settings) =
                    policy_data.entry(section).or_insert_with(|| Value::Object(Map::new())).as_object_mut()
            {
                settings.insert(name.into(), resolved.value.clone());
            }
            let Some(assignment) = policy.assignments.get(resolved.assignment) else { continue };
            let source = SourceView {
                policy_id: resolved.policy,
                policy_name: policy.name_of(resolved.policy).into(),
                inherited_by: (assignment.policy != resolved.policy).then_some(assignment.policy),
                assigned_to: assignment.into(),
            };
            sources.insert(path.clone(), source);
        }
        let assignments = policy.assignments.iter().map(|assignment| AssignmentView {
            policy_id: assignment.policy,
            policy_name: assignment.name.clone(),
            version: assignment.version,
            assigned_to: assignment.into(),
        });
        let strongest = policy.assignments.first();
        Self {
            device_id: policy.device,
            policy_id: strongest.map(|assignment| assignment.policy),
            policy_name: strongest.map(|assignment| assignment.name.clone()),
            version: strongest.map(|assignment| assignment.version),
            policy_data: Value::Object(policy_data),
            sources,
            assignments: assignments.collect(),
        }
    }
}

async fn get(
    services: &Services,
    op: Op,
    Path(id): Path<DeviceId>,
) -> Result<Tagged<Json<EffectivePolicyView>>, Error> {
    let policy = services.effective_policy(&op, id)?;
    Ok(Tagged { tag: Tag::Content(policy.effective.fingerprint), answer: Json((&policy).into()) })
}
