use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::paging::{PageQuery, page_of, window};
use super::qr;
use crate::clock::Time;
use crate::domain::Services;
use crate::domain::authz::Permission::{DevicesEdit, DevicesView};
use crate::domain::enrollment_tokens::NewEnrollmentToken;
use crate::domain::op::Op;
use crate::error::Error;
use crate::http::extract::{self, Path, Query};
use crate::http::respond::{Created, Json, NoContent, Page};
use crate::http::route::{Access, RateClass, Route};
use crate::ids::{EnrollmentTokenId, GroupId, PolicyId, UserId};
use crate::model::enrollment::EnrollmentToken;

pub fn routes() -> Vec<Route> {
    use RateClass::Standard;
    vec![
        Route::get("/enrollment-tokens", Access::needs(DevicesView), Standard, list),
        Route::post("/enrollment-tokens", Access::needs(DevicesEdit), Standard, create),
        Route::delete("/enrollment-tokens/{id}", Access::needs(DevicesEdit), Standard, delete),
    ]
}

#[derive(Serialize, JsonSchema)]
pub(super) struct TokenView {
    id: EnrollmentTokenId,
    name: String,
    max_uses: Option<u32>,
    uses: u32,
    expires_at: Option<Time>,
    user_id: Option<UserId>,
    policy_id: Option<PolicyId>,
    group_id: Option<GroupId>,
    tags: Vec<String>,
    created_by: UserId,
    created_at: Time,
}

impl From<EnrollmentToken> for TokenView {
    fn from(token: EnrollmentToken) -> Self {
        let EnrollmentToken { id, name, max_uses, uses, expires_at, user_id, policy_id, group_id, .. } = token;
        let (tags, created_by, created_at) = (token.tags, token.created_by, token.created_at);
        Self { id, name, max_uses, uses, expires_at, user_id, policy_id, group_id, tags, created_by, created_at }
    }
}

async fn list(
    services: &Services,
    op: Op,
    Query(PageQuery { page, page_size }): Query<PageQuery>,
) -> Result<Json<Page<TokenView>>, Error> {
    let (offset, limit) = window(page, page_size);
    let (total, found) = services.enrollment_tokens(&op, offset, limit)?;
    Ok(Json(page_of(page, page_size, total, found.into_iter().map(Into::into).collect())))
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NewToken {
    #[schemars(length(min = 1, max = 200))]
    name: String,
    #[schemars(range(min = 1, max = 1_000_000))]
    max_uses: Option<u32>,
    #[schemars(range(min = 1, max = 3650))]
    expires_in_days: Option<u32>,
    /// The owner of the devices that enrol with it.
    user_id: Option<UserId>,
    /// The policy that is assigned to the devices themselves.
    policy_id: Option<PolicyId>,
    /// A group that the devices are in, beside those of their owner.
    group_id: Option<GroupId>,
    #[serde(default)]
    #[schemars(length(max = 50), inner(length(min = 1, max = 64)))]
    tags: Vec<String>,
}

#[derive(Serialize, JsonSchema)]
struct IssuedToken {
    #[serde(flatten)]
    record: TokenView,
    /// Shown only here.
    token: String,
    /// The token as a QR code for the mobile agent, an SVG image.
    qr_svg: String,
}

async fn create(
    services: &Services,
    op: Op,
    extract::Json(new): extract::Json<NewToken>,
) -> Result<Created<IssuedToken>, Error> {
    let NewToken { name, max_uses, expires_in_days, user_id, policy_id, group_id, tags } = new;
    let new = NewEnrollmentToken { name, max_uses, expires_in_days, user_id, policy_id, group_id, tags };
    let issued = services.create_enrollment_token(&op, new).await?;
    let qr_svg = qr::svg(&issued.token)?;
    let location = format!("/api/v1/enrollment-tokens/{}", issued.record.id);
    Ok(Created { location, resource: IssuedToken { record: issued.record.into(), token: issued.token, qr_svg } })
}

async fn delete(services: &Services, op: Op, Path(id): Path<EnrollmentTokenId>) -> Result<NoContent, Error> {
    services.delete_enrollment_token(&op, id).await.map(|()| NoContent)
}
