use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::paging::{PageQuery, page_of, window};
use crate::clock::Time;
use crate::domain::Services;
use crate::domain::authz::Permission::{DevicesActions, DevicesDelete, DevicesView};
use crate::domain::checkin::Report;
use crate::domain::op::Op;
use crate::error::Error;
use crate::http::extract::{self, OptionalJson, Path, Query};
use crate::http::respond::{Json, Page, Tag};
use crate::http::route::{Access, RateClass, Route};
use crate::ids::{CommandId, DeviceId};
use crate::model::command::{Command, CommandStatus, CommandType};
use crate::model::device::Posture;

pub fn routes() -> Vec<Route> {
    use RateClass::Standard;
    vec![
        Route::post("/devices/{id}/wipe", Access::needs_or_own(DevicesDelete), Standard, wipe),
        Route::post("/devices/{id}/lock", Access::needs_or_own(DevicesActions), Standard, lock),
        Route::post("/devices/{id}/unlock", Access::needs(DevicesActions), Standard, unlock),
        Route::get("/devices/{id}/commands", Access::needs_or_own(DevicesView), Standard, list),
        Route::post("/devices/{id}/checkin", Access::Device, Standard, check_in),
        Route::post("/devices/{id}/commands/{cid}/result", Access::Device, Standard, report),
    ]
}

#[derive(Serialize, JsonSchema)]
pub(super) struct CommandView {
    id: CommandId,
    device_id: DeviceId,
    #[serde(rename = "type")]
    kind: CommandType,
    status: CommandStatus,
    reason: Option<String>,
    created_at: Time,
    delivered_at: Option<Time>,
    completed_at: Option<Time>,
    expires_at: Option<Time>,
}

impl From<Command> for CommandView {
    fn from(command: Command) -> Self {
        let Command { id, device_id, kind, status, reason, created_at, delivered_at, completed_at, expires_at, .. } =
            command;
        Self { id, device_id, kind, status, reason, created_at, delivered_at, completed_at, expires_at }
    }
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Wipe {
    /// Marks a lost device as wiped now, without its word, and revokes its credentials.
    #[serde(default)]
    force: bool,
}

async fn wipe(
    services: &Services,
    op: Op,
    Path(id): Path<DeviceId>,
    OptionalJson(Wipe { force }): OptionalJson<Wipe>,
) -> Result<Json<CommandView>, Error> {
    Ok(Json(services.command(&op, id, CommandType::Wipe, force).await?.into()))
}

async fn lock(services: &Services, op: Op, Path(id): Path<DeviceId>) -> Result<Json<CommandView>, Error> {
    Ok(Json(services.command(&op, id, CommandType::Lock, false).await?.into()))
}

async fn unlock(services: &Services, op: Op, Path(id): Path<DeviceId>) -> Result<Json<CommandView>, Error> {
    Ok(Json(services.command(&op, id, CommandType::Unlock, false).await?.into()))
}

async fn list(
    services: &Services,
    op: Op,
    Path(id): Path<DeviceId>,
    Query(PageQuery { page, page_size }): Query<PageQuery>,
) -> Result<Json<Page<CommandView>>, Error> {
    let (offset, limit) = window(page, page_size);
    let (total, found) = services.commands(&op, id, offset, limit)?;
    Ok(Json(page_of(page, page_size, total, found.into_iter().map(Into::into).collect())))
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct CheckIn {
    #[schemars(length(min = 1, max = 64))]
    agent_version: Option<String>,
    #[schemars(length(max = 64))]
    os_version: Option<String>,
    #[schemars(length(max = 253))]
    hostname: Option<String>,
    #[schemars(length(min = 1, max = 128))]
    serial_number: Option<String>,
    posture: Option<Posture>,
    /// The version of its policy that the device has applied.
    policy_version: Option<u64>,
    /// ETag of the settings that the device has: with others waiting for it, the answer comes at once.
    #[schemars(length(max = 64))]
    policy_etag: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Wait {
    /// Seconds to hold the answer back for something new.
    #[serde(default)]
    #[schemars(range(min = 0, max = 30))]
    wait: u64,
}

#[derive(Serialize, JsonSchema)]
struct CheckedIn {
    /// What to do, oldest first; repeated until a result is reported.
    commands: Vec<CommandView>,
    /// ETag of the effective policy: another one exactly when a setting is.
    policy_etag: String,
    next_checkin_seconds: u64,
}

async fn check_in(
    services: &Services,
    op: Op,
    Path(id): Path<DeviceId>,
    Query(Wait { wait }): Query<Wait>,
    OptionalJson(report): OptionalJson<CheckIn>,
) -> Result<Json<CheckedIn>, Error> {
    let CheckIn { agent_version, os_version, hostname, serial_number, posture, policy_version, policy_etag } = report;
    let not_a_tag = || Error::field("policy_etag", "is not the ETag of a policy");
    let holds = policy_etag.map(|tag| Tag::content_in(&tag).ok_or_else(not_a_tag)).transpose()?;
    let report = Report { agent_version, os_version, hostname, serial_number, posture, policy_version };
    let done = services.check_in(&op, id, report, holds, Duration::from_secs(wait)).await?;
    let commands = done.commands.into_iter().map(Into::into).collect();
    Ok(Json(CheckedIn {
        commands,
        policy_etag: Tag::Content(done.fingerprint).to_string(),
        next_checkin_seconds: done.next_checkin.as_secs(),
    }))
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct CommandResult {
    status: Outcome,
    #[schemars(length(max = 1000))]
    reason: Option<String>,
}

#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
enum Outcome {
    Succeeded,
    Failed,
}

async fn report(
    services: &Services,
    op: Op,
    Path((id, command)): Path<(DeviceId, CommandId)>,
    extract::Json(CommandResult { status, reason }): extract::Json<CommandResult>,
) -> Result<Json<CommandView>, Error> {
    let status = match status {
        Outcome::Succeeded => CommandStatus::Succeeded,
        Outcome::Failed => CommandStatus::Failed,
    };
    Ok(Json(services.report(&op, id, command, status, reason).await?.into()))
}
