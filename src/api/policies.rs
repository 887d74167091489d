use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::audit_logs::ActorView;
use super::paging::{PageQuery, first, page_of, size, window};
use crate::clock::Time;
use crate::domain::Services;
use crate::domain::authz::Permission::{PoliciesEdit, PoliciesView};
use crate::domain::op::Op;
use crate::domain::policies::{Change, Compared, PolicyFilter, PolicySort};
use crate::error::Error;
use crate::http::extract::{self, IfMatch, Path, Query};
use crate::http::respond::{Created, Json, NoContent, Page, Tag, Tagged};
use crate::http::route::{Access, RateClass, Route};
use crate::ids::{OrganizationId, PolicyId};
use crate::model::policy::{Policy, PolicyContent, PolicyData};

pub fn routes() -> Vec<Route> {
    use RateClass::Standard;
    let (view, edit) = (Access::needs(PoliciesView), Access::needs(PoliciesEdit));
    vec![
        Route::get("/policies", view, Standard, list),
        Route::post("/policies", edit, Standard, create),
        Route::get("/policies/{id}", view, Standard, get),
        Route::put("/policies/{id}", edit, Standard, change),
        Route::delete("/policies/{id}", edit, Standard, delete),
        Route::get("/policies/{id}/versions", view, Standard, versions),
        Route::get("/policies/{id}/versions/{version}", view, Standard, version),
        Route::post("/policies/{id}/rollback", edit, Standard, roll_back),
    ]
}

#[derive(Serialize, JsonSchema)]
pub struct PolicyView {
    id: PolicyId,
    organization_id: OrganizationId,
    #[serde(flatten)]
    content: ContentView,
    /// Grows by one with each change.
    version: u64,
    /// How many devices it is in force on.
    device_count: u64,
    created_at: Time,
    updated_at: Time,
}

#[derive(Serialize, JsonSchema)]
struct ContentView {
    name: String,
    description: String,
    policy_data: PolicyData,
    /// The policy that this one lies over, setting by setting.
    extends: Option<PolicyId>,
    active: bool,
}

impl From<PolicyContent> for ContentView {
    fn from(PolicyContent { name, description, policy_data, extends, active }: PolicyContent) -> Self {
        Self { name, description, policy_data, extends, active }
    }
}

fn view(services: &Services, policy: Policy) -> PolicyView {
    let Policy { id, organization_id, content, version, created_at, updated_at } = policy;
    let device_count = services.policy_device_count(organization_id, id);
    PolicyView { id, organization_id, content: content.into(), version, device_count, created_at, updated_at }
}

pub fn tagged(services: &Services, policy: Policy) -> Tagged<Json<PolicyView>> {
    let resource = view(services, policy);
    Tagged { tag: tag(&resource), answer: Json(resource) }
}

fn tag(resource: &PolicyView) -> Tag {
    Tag::of(resource.version, &resource.device_count)
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    #[serde(default = "first")]
    #[schemars(range(min = 1))]
    page: u64,
    #[serde(default = "size")]
    #[schemars(range(min = 1, max = 100))]
    page_size: u64,
    sort: Option<SortBy>,
    active: Option<bool>,
    /// Part of the name, in whatever case.
    #[schemars(length(max = 200))]
    q: Option<String>,
}

#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[schemars(inline)]
enum SortBy {
    #[serde(rename = "name")]
    Name,
    #[serde(rename = "-name")]
    NameDescending,
    #[serde(rename = "created_at")]
    CreatedAt,
    #[serde(rename = "-created_at")]
    NewestFirst,
    #[serde(rename = "updated_at")]
    UpdatedAt,
    #[serde(rename = "-updated_at")]
    LastChangedFirst,
}

impl From<SortBy> for (PolicySort, bool) {
    fn from(by: SortBy) -> Self {
        match by {
            SortBy::Name => (PolicySort::Name, false),
            SortBy::NameDescending => (PolicySort::Name, true),
            SortBy::CreatedAt => (PolicySort::CreatedAt, false),
            SortBy::NewestFirst => (PolicySort::CreatedAt, true),
            SortBy::UpdatedAt => (PolicySort::UpdatedAt, false),
            SortBy::LastChangedFirst => (PolicySort::UpdatedAt, true),
        }
    }
}

async fn list(services: &Services, op: Op, Query(query): Query<ListQuery>) -> Result<Json<Page<PolicyView>>, Error> {
    let ListQuery { page, page_size, sort, active, q } = query;
    let filter = PolicyFilter { active, text: q.unwrap_or_default() };
    let (offset, limit) = window(page, page_size);
    let sort = sort.unwrap_or(SortBy::NewestFirst).into();
    let (total, found) = services.policies(&op, &filter, sort, offset, limit)?;
    let found = found.into_iter().map(|policy| view(services, policy)).collect();
    Ok(Json(page_of(page, page_size, total, found)))
}

async fn get(services: &Services, op: Op, Path(id): Path<PolicyId>) -> Result<Tagged<Json<PolicyView>>, Error> {
    services.policy(&op, id).map(|policy| tagged(services, policy))
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyBody {
    /// Unique within the organization, whatever its case.
    #[schemars(length(min = 1, max = 200))]
    name: String,
    #[serde(default)]
    #[schemars(length(max = 2000))]
    description: String,
    policy_data: PolicyData,
    /// The policy that this one lies over: what is not set here, is as it is there.
    extends: Option<PolicyId>,
    /// Whether it is in force where it is assigned.
    #[serde(default = "active")]
    active: bool,
}

const fn active() -> bool {
    true
}

impl From<PolicyBody> for PolicyContent {
    fn from(PolicyBody { name, description, policy_data, extends, active }: PolicyBody) -> Self {
        Self { name, description, policy_data, extends, active }
    }
}

async fn create(
    services: &Services,
    op: Op,
    extract::Json(body): extract::Json<PolicyBody>,
) -> Result<Tagged<Created<PolicyView>>, Error> {
    let policy = services.create_policy(&op, body.into()).await?;
    let location = format!("/api/v1/policies/{}", policy.id);
    let resource = view(services, policy);
    Ok(Tagged { tag: tag(&resource), answer: Created { location, resource } })
}

async fn change(
    services: &Services,
    op: Op,
    Path(id): Path<PolicyId>,
    IfMatch(version): IfMatch,
    extract::Json(body): extract::Json<PolicyBody>,
) -> Result<Tagged<Json<PolicyView>>, Error> {
    services.change_policy(&op, id, body.into(), version).await.map(|policy| tagged(services, policy))
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct DeleteQuery {
    /// The policy that takes its place wherever it is used. Needs the permission `policies.assign` as well.
    reassign_to: Option<PolicyId>,
}

async fn delete(
    services: &Services,
    op: Op,
    Path(id): Path<PolicyId>,
    IfMatch(version): IfMatch,
    Query(DeleteQuery { reassign_to }): Query<DeleteQuery>,
) -> Result<NoContent, Error> {
    services.delete_policy(&op, id, reassign_to, version).await.map(|()| NoContent)
}

#[derive(Serialize, JsonSchema)]
struct VersionItem {
    version: u64,
    author: ActorView,
    created_at: Time,
    /// How it came about, when that was not a plain change.
    note: Option<String>,
    /// Against the version before; none for the first. Of long lists only the length, unless a version is asked for
    /// by its number.
    changes: Vec<ChangeView>,
}

#[derive(Serialize, JsonSchema)]
struct VersionView {
    #[serde(flatten)]
    item: VersionItem,
    #[serde(flatten)]
    content: ContentView,
}

#[derive(Serialize, JsonSchema)]
struct ChangeView {
    /// Such as `policy_data.usb.allowed`.
    path: String,
    /// Null for what was not set.
    before: Value,
    /// Null for what is not set any more.
    after: Value,
}

impl From<Compared> for VersionView {
    fn from(Compared { version, changes }: Compared) -> Self {
        let view = |Change { path, before, after }: Change| ChangeView { path, before, after };
        let item = VersionItem {
            version: version.version,
            author: version.author.into(),
            created_at: version.created_at,
            note: version.note,
            changes: changes.into_iter().map(view).collect(),
        };
        Self { item, content: version.content.into() }
    }
}

async fn versions(
    services: &Services,
    op: Op,
    Path(id): Path<PolicyId>,
    Query(PageQuery { page, page_size }): Query<PageQuery>,
) -> Result<Json<Page<VersionItem>>, Error> {
    let (offset, limit) = window(page, page_size);
    let (total, found) = services.policy_versions(&op, id, offset, limit)?;
    let found = found.into_iter().map(|compared| VersionView::from(compared).item).collect();
    Ok(Json(page_of(page, page_size, total, found)))
}

async fn version(
    services: &Services,
    op: Op,
    Path((id, version)): Path<(PolicyId, u64)>,
) -> Result<Json<VersionView>, Error> {
    services.policy_version(&op, id, version).map(|compared| Json(compared.into()))
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Rollback {
    /// What the policy said as this version, it says again.
    #[schemars(range(min = 1))]
    version: u64,
}

async fn roll_back(
    services: &Services,
    op: Op,
    Path(id): Path<PolicyId>,
    IfMatch(version): IfMatch,
    extract::Json(Rollback { version: to }): extract::Json<Rollback>,
) -> Result<Tagged<Json<PolicyView>>, Error> {
    services.roll_back_policy(&op, id, to, version).await.map(|policy| tagged(services, policy))
}
