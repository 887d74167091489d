use schemars::JsonSchema;
use serde::Deserialize;

use super::policies::{PolicyView, tagged};
use crate::domain::Services;
use crate::domain::assignments::{MOST, Targets};
use crate::domain::authz::Permission::PoliciesAssign;
use crate::domain::op::Op;
use crate::error::Error;
use crate::http::extract::{self, Path};
use crate::http::respond::{Json, Tagged};
use crate::http::route::{Access, RateClass, Route};
use crate::ids::{DeviceId, GroupId, PolicyId, UserId};

pub fn routes() -> Vec<Route> {
    use RateClass::Standard;
    vec![
        Route::post("/policies/{id}/assign", Access::needs(PoliciesAssign), Standard, assign),
        Route::post("/policies/{id}/unassign", Access::needs(PoliciesAssign), Standard, unassign),
    ]
}

/// What a policy is assigned to, or taken from.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TargetsBody {
    #[serde(default)]
    #[schemars(length(max = MOST))]
    device_ids: Vec<DeviceId>,
    /// Their devices, now and later.
    #[serde(default)]
    #[schemars(length(max = MOST))]
    user_ids: Vec<UserId>,
    /// The devices of their members, and of those of the groups within them.
    #[serde(default)]
    #[schemars(length(max = MOST))]
    group_ids: Vec<GroupId>,
    /// Every device for which nothing nearer is assigned.
    #[serde(default)]
    default: bool,
}

impl From<TargetsBody> for Targets {
    fn from(TargetsBody { device_ids, user_ids, group_ids, default }: TargetsBody) -> Self {
        Self { devices: device_ids, users: user_ids, groups: group_ids, default }
    }
}

async fn assign(
    services: &Services,
    op: Op,
    Path(id): Path<PolicyId>,
    extract::Json(targets): extract::Json<TargetsBody>,
) -> Result<Tagged<Json<PolicyView>>, Error> {
    services.assign_policy(&op, id, targets.into()).await.map(|policy| tagged(services, policy))
}

async fn unassign(
    services: &Services,
    op: Op,
    Path(id): Path<PolicyId>,
    extract::Json(targets): extract::Json<TargetsBody>,
) -> Result<Tagged<Json<PolicyView>>, Error> {
    services.unassign_policy(&op, id, targets.into()).await.map(|policy| tagged(services, policy))
}
