mod export;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::paging::{PageQuery, page_of, window};
use crate::clock::Time;
use crate::domain::Services;
use crate::domain::authz::Permission::GdprAdmin;
use crate::domain::op::Op;
use crate::error::Error;
use crate::http::extract::{self, Path, PathParameters, Query};
use crate::http::respond::{Attachment, Json, NoContent, Page};
use crate::http::route::{Access, RateClass, Route};
use crate::ids::{DeviceId, ErasureId, UserId};
use crate::model::gdpr::{ErasedDevice, ErasedWipe, Erasure, Objection, Purpose};

use export::ExportView;

pub fn routes() -> Vec<Route> {
    use RateClass::Standard;
    let access = Access::needs_or_own(GdprAdmin);
    vec![
        Route::get("/gdpr/export", access, Standard, export),
        Route::delete("/gdpr/delete", access, Standard, delete),
        Route::get("/gdpr/erasures", Access::needs(GdprAdmin), Standard, erasures),
        Route::post("/gdpr/restrict", access, Standard, restrict),
        Route::post("/gdpr/object", access, Standard, object),
        Route::delete("/gdpr/object/{purpose}", access, Standard, withdraw),
    ]
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct About {
    /// Another person than oneself.
    user_id: Option<UserId>,
}

async fn export(
    services: &Services,
    op: Op,
    Query(About { user_id }): Query<About>,
) -> Result<Attachment<Json<ExportView>>, Error> {
    let current = op.user().ok().map(|me| me.session_id);
    let export = services.export_person(&op, user_id).await?;
    let name = format!("personal-data-{}.json", export.person.user.id);
    Ok(Attachment { name, answer: Json(ExportView::new(export, current)) })
}

/// That a person was erased.
#[derive(Serialize, JsonSchema)]
struct Receipt {
    receipt_id: ErasureId,
    erased_at: Time,
    user_id: UserId,
    devices: Vec<ReceiptDevice>,
    sessions_ended: u64,
    api_keys_ended: u64,
}

#[derive(Serialize, JsonSchema)]
struct ReceiptDevice {
    id: DeviceId,
    /// `requested`: it stays enrolled, owned by nobody, until it confirms its wipe, for 30 days at most. `waiting for
    /// serial`: it is unenrolled, and whoever enrols under its serial number is wiped first. `not reachable`: it is
    /// unenrolled, and nothing is known to find it by.
    wipe: ErasedWipe,
}

impl From<Erasure> for Receipt {
    fn from(erasure: Erasure) -> Self {
        let Erasure { id, user_id, erased_at, devices, sessions_ended, api_keys_ended, .. } = erasure;
        let devices = devices.into_iter().map(|ErasedDevice { id, wipe }| ReceiptDevice { id, wipe }).collect();
        Self { receipt_id: id, erased_at, user_id, devices, sessions_ended, api_keys_ended }
    }
}

async fn delete(services: &Services, op: Op, Query(About { user_id }): Query<About>) -> Result<Json<Receipt>, Error> {
    services.erase(&op, user_id).await.map(|erasure| Json(erasure.into()))
}

async fn erasures(
    services: &Services,
    op: Op,
    Query(PageQuery { page, page_size }): Query<PageQuery>,
) -> Result<Json<Page<Receipt>>, Error> {
    let (offset, limit) = window(page, page_size);
    let (total, found) = services.erasures(&op, offset, limit)?;
    Ok(Json(page_of(page, page_size, total, found.into_iter().map(Into::into).collect())))
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Restrict {
    /// `false` lifts the restriction.
    restricted: bool,
    #[schemars(length(max = 1000))]
    reason: Option<String>,
}

#[derive(Serialize, JsonSchema)]
struct RestrictionView {
    user_id: UserId,
    restricted: bool,
    restricted_since: Option<Time>,
    reason: Option<String>,
}

async fn restrict(
    services: &Services,
    op: Op,
    Query(About { user_id }): Query<About>,
    extract::Json(Restrict { restricted, reason }): extract::Json<Restrict>,
) -> Result<Json<RestrictionView>, Error> {
    let user = services.restrict(&op, user_id, restricted, reason).await?;
    let (since, reason) = user.privacy.restriction.map(|now| (now.since, now.reason)).unzip();
    let restricted = since.is_some();
    Ok(Json(RestrictionView { user_id: user.id, restricted, restricted_since: since, reason: reason.flatten() }))
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Object {
    purpose: Purpose,
    #[schemars(length(max = 1000))]
    reason: Option<String>,
}

#[derive(Serialize, JsonSchema)]
struct ObjectionView {
    purpose: Purpose,
    objected_at: Time,
    reason: Option<String>,
}

impl From<Objection> for ObjectionView {
    fn from(Objection { purpose, since, reason }: Objection) -> Self {
        Self { purpose, objected_at: since, reason }
    }
}

async fn object(
    services: &Services,
    op: Op,
    Query(About { user_id }): Query<About>,
    extract::Json(Object { purpose, reason }): extract::Json<Object>,
) -> Result<Json<ObjectionView>, Error> {
    services.object(&op, user_id, purpose, reason).await.map(|objection| Json(objection.into()))
}

impl PathParameters for Purpose {
    fn parse(values: &[String]) -> Option<Self> {
        values.first().and_then(|text| Self::parse(text))
    }
}

async fn withdraw(
    services: &Services,
    op: Op,
    Path(purpose): Path<Purpose>,
    Query(About { user_id }): Query<About>,
) -> Result<NoContent, Error> {
    services.withdraw_objection(&op, user_id, purpose).await.map(|()| NoContent)
}
