use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::paging::{PageQuery, page_of, window};
use crate::clock::Time;
use crate::domain::Services;
use crate::domain::api_keys::{NewApiKey, ShownKey};
use crate::domain::authz::Permission::{self, ApiKeysEdit};
use crate::domain::op::Op;
use crate::error::Error;
use crate::http::extract::{self, Path, Query};
use crate::http::respond::{Created, Json, NoContent, Page};
use crate::http::route::{Access, RateClass, Route};
use crate::ids::{ApiKeyId, UserId};
use crate::model::api_key::{ApiKey, KeyGrant};

pub fn routes() -> Vec<Route> {
    use RateClass::Standard;
    vec![
        Route::get("/api-keys", Access::needs(ApiKeysEdit), Standard, list),
        Route::post("/api-keys", Access::needs(ApiKeysEdit), Standard, create),
        Route::delete("/api-keys/{id}", Access::needs(ApiKeysEdit), Standard, delete),
    ]
}

#[derive(Serialize, JsonSchema)]
pub(super) struct KeyView {
    id: ApiKeyId,
    name: String,
    /// The role that says what the key may do; null for a key with permissions of its own, or whose role is gone.
    role: Option<String>,
    /// Null for a key with a role.
    permissions: Option<Vec<Permission>>,
    /// The first characters of the key, to recognize it by.
    prefix: String,
    /// For whom the key acts. It may never do more than they may.
    created_by: UserId,
    created_at: Time,
    expires_at: Time,
    last_used_at: Option<Time>,
}

impl From<ShownKey> for KeyView {
    fn from(shown: ShownKey) -> Self {
        let ShownKey { record, role, last_used_at } = shown;
        let permissions = match record.grant {
            KeyGrant::Permissions(permissions) => Some(permissions.iter().collect()),
            KeyGrant::Role(_) => None,
        };
        let ApiKey { id, name, prefix, created_by, created_at, expires_at, .. } = record;
        Self { id, name, role, permissions, prefix, created_by, created_at, expires_at, last_used_at }
    }
}

async fn list(
    services: &Services,
    op: Op,
    Query(PageQuery { page, page_size }): Query<PageQuery>,
) -> Result<Json<Page<KeyView>>, Error> {
    let (offset, limit) = window(page, page_size);
    let (total, found) = services.api_keys(&op, offset, limit)?;
    Ok(Json(page_of(page, page_size, total, found.into_iter().map(Into::into).collect())))
}

/// Says what the key may do by a role or by permissions: one of the two.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NewKey {
    #[schemars(length(min = 1, max = 200))]
    name: String,
    /// The name of a role.
    #[schemars(length(min = 1, max = 200))]
    role: Option<String>,
    #[schemars(length(min = 1, max = 100))]
    permissions: Option<Vec<Permission>>,
    #[schemars(range(min = 1, max = 3650))]
    expires_in_days: Option<u32>,
}

#[derive(Serialize, JsonSchema)]
struct IssuedKey {
    #[serde(flatten)]
    record: KeyView,
    /// Shown only here.
    key: String,
}

async fn create(
    services: &Services,
    op: Op,
    extract::Json(new): extract::Json<NewKey>,
) -> Result<Created<IssuedKey>, Error> {
    let NewKey { name, role, permissions, expires_in_days } = new;
    let permissions = permissions.map(|list| list.into_iter().collect());
    let issued = services.create_api_key(&op, NewApiKey { name, role, permissions, expires_in_days }).await?;
    let location = format!("/api/v1/api-keys/{}", issued.record.id);
    let record = services.shown_key(issued.record).into();
    Ok(Created { location, resource: IssuedKey { record, key: issued.key } })
}

async fn delete(services: &Services, op: Op, Path(id): Path<ApiKeyId>) -> Result<NoContent, Error> {
    services.delete_api_key(&op, id).await.map(|()| NoContent)
}
