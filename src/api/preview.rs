use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::assignments::TargetsBody;
use super::paging::{first, page_of, size, window};
use super::policies::PolicyBody;
use crate::domain::Services;
use crate::domain::authz::Permission::PoliciesView;
use crate::domain::op::Op;
use crate::domain::preview::{ChangedDevice, Preview, Proposal, SettingChange, Window};
use crate::error::Error;
use crate::http::extract::{OptionalJson, Path, Query};
use crate::http::respond::{Json, Page};
use crate::http::route::{Access, RateClass, Route};
use crate::ids::{DeviceId, PolicyId};
use crate::model::device::Compliance;

pub fn routes() -> Vec<Route> {
    vec![Route::post("/policies/{id}/preview", Access::needs(PoliciesView), RateClass::Standard, preview)]
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct PreviewQuery {
    #[serde(default = "first")]
    #[schemars(range(min = 1))]
    page: u64,
    #[serde(default = "size")]
    #[schemars(range(min = 1, max = 100))]
    page_size: u64,
    /// Shows only devices that would fall out of compliance.
    #[serde(default)]
    falling_out: bool,
}

/// A change that is not made yet.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ProposalBody {
    /// The policy as a PUT would make it; without it, as it is.
    policy: Option<PolicyBody>,
    #[serde(default)]
    assign: TargetsBody,
    #[serde(default)]
    unassign: TargetsBody,
}

#[derive(Serialize, JsonSchema)]
struct PreviewView {
    /// All devices of the organization.
    total_devices: u64,
    /// Those for which a setting would change.
    changed_devices: u64,
    /// Those of them that would fall out of compliance.
    falling_out_of_compliance: u64,
    /// How many devices are judged as what, before and after.
    compliance: BTreeMap<String, BeforeAfter>,
    /// Each way in which a setting would change, the most frequent first; at most 500.
    settings: Vec<SettingCount>,
    /// Empty for whoever may not see devices.
    devices: Page<ChangedDeviceView>,
}

#[derive(Serialize, JsonSchema)]
struct BeforeAfter {
    before: u64,
    after: u64,
}

#[derive(Serialize, JsonSchema)]
struct SettingCount {
    #[serde(flatten)]
    change: SettingChangeView,
    devices: u64,
}

#[derive(Serialize, JsonSchema)]
struct SettingChangeView {
    /// Such as `usb.allowed`.
    path: String,
    /// `null` where it is not set.
    before: Option<Value>,
    after: Option<Value>,
}

#[derive(Serialize, JsonSchema)]
struct ChangedDeviceView {
    device_id: DeviceId,
    device_name: String,
    settings: Vec<SettingChangeView>,
    compliance_before: Compliance,
    compliance_after: Compliance,
    /// What would be wrong, or has not been reported.
    compliance_reasons: Vec<String>,
}

impl From<SettingChange> for SettingChangeView {
    fn from(SettingChange { path, before, after }: SettingChange) -> Self {
        Self { path: path.to_string(), before, after }
    }
}

impl From<ChangedDevice> for ChangedDeviceView {
    fn from(device: ChangedDevice) -> Self {
        Self {
            device_id: device.id,
            device_name: device.name,
            settings: device.settings.into_iter().map(Into::into).collect(),
            compliance_before: device.compliance_before,
            compliance_after: device.compliance_after,
            compliance_reasons: device.reasons,
        }
    }
}

async fn preview(
    services: &Services,
    op: Op,
    Path(id): Path<PolicyId>,
    Query(PreviewQuery { page, page_size, falling_out }): Query<PreviewQuery>,
    OptionalJson(ProposalBody { policy, assign, unassign }): OptionalJson<ProposalBody>,
) -> Result<Json<PreviewView>, Error> {
    let (offset, limit) = window(page, page_size);
    let proposal = Proposal { content: policy.map(Into::into), assign: assign.into(), unassign: unassign.into() };
    let Preview { devices, changed, falling_out, compliance, settings, matching, examples } =
        services.preview_policy(&op, id, proposal, Window { falling_out, offset, limit }).await?;
    let settings = settings.into_iter().map(|(change, devices)| SettingCount { change: change.into(), devices });
    let named = |(one, (before, after)): (Compliance, _)| (one.to_string(), BeforeAfter { before, after });
    Ok(Json(PreviewView {
        total_devices: devices,
        changed_devices: changed,
        falling_out_of_compliance: falling_out,
        compliance: compliance.into_iter().map(named).collect(),
        settings: settings.collect(),
        devices: page_of(page, page_size, matching, examples.into_iter().map(Into::into).collect()),
    }))
}
