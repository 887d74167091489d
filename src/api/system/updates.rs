use schemars::JsonSchema;
use serde::Serialize;

use crate::clock::Time;
use crate::domain::Services;
use crate::domain::op::Op;
use crate::domain::updates::{LARGEST, Progress, UnderWay};
use crate::error::Error;
use crate::http::extract::OctetStream;
use crate::http::respond::Json;
use crate::model::update::{UpdateOutcome, UpdateResult, UpdateStep};

/// Which version serves, and what became of updates.
#[derive(Serialize, JsonSchema)]
pub(super) struct UpdateView {
    /// The version that serves.
    version: String,
    /// Whether there is a key that updates can be checked with, built in or in the settings.
    key: bool,
    under_way: Option<UnderWayView>,
    /// How the last one ended.
    last: Option<OutcomeView>,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct UnderWayView {
    id: String,
    to: String,
    step: UpdateStep,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct OutcomeView {
    id: String,
    from: String,
    to: String,
    result: UpdateResult,
    /// Why it was undone, and what to do.
    reason: Option<String>,
    at: Time,
}

impl From<UnderWay> for UnderWayView {
    fn from(UnderWay { id, to, step }: UnderWay) -> Self {
        Self { id, to, step }
    }
}

impl From<UpdateOutcome> for OutcomeView {
    fn from(UpdateOutcome { id, from, to, result, reason, at }: UpdateOutcome) -> Self {
        Self { id, from, to, result, reason, at }
    }
}

impl From<Progress> for UpdateView {
    fn from(Progress { version, has_key, under_way, last }: Progress) -> Self {
        Self { version, key: has_key, under_way: under_way.map(Into::into), last: last.map(Into::into) }
    }
}

/// The update goes on after the answer: `GET /system/update` shows how.
pub(super) async fn update(
    services: &Services,
    op: Op,
    OctetStream(bundle): OctetStream<LARGEST>,
) -> Result<Json<UnderWayView>, Error> {
    Ok(Json(services.request_update(&op, bundle.path().to_owned()).await?.into()))
}

pub(super) async fn progress(services: &Services, op: Op) -> Result<Json<UpdateView>, Error> {
    Ok(Json(services.update_progress(&op)?.into()))
}
