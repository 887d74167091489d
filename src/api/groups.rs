use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::auth::UserView;
use super::paging::{PageQuery, first, page_of, size, window};
use crate::clock::Time;
use crate::domain::Services;
use crate::domain::authz::Permission::{UsersEdit, UsersView};
use crate::domain::groups::{GroupDraft, GroupFilter, GroupOrder, Membership};
use crate::domain::op::Op;
use crate::error::Error;
use crate::http::extract::{self, IfMatch, Path, Query, given};
use crate::http::respond::{Created, Json, NoContent, Page, Tag, Tagged};
use crate::http::route::{Access, RateClass, Route};
use crate::ids::{GroupId, OrganizationId, PolicyId, UserId};
use crate::model::group::Group;

pub fn routes() -> Vec<Route> {
    use RateClass::Standard;
    vec![
        Route::get("/groups", Access::needs(UsersView), Standard, list),
        Route::post("/groups", Access::needs(UsersEdit), Standard, create),
        Route::get("/groups/{id}", Access::needs(UsersView), Standard, get),
        Route::put("/groups/{id}", Access::needs(UsersEdit), Standard, change),
        Route::delete("/groups/{id}", Access::needs(UsersEdit), Standard, delete),
        Route::get("/groups/{id}/members", Access::needs(UsersView), Standard, members),
        Route::put("/groups/{id}/members", Access::needs(UsersEdit), Standard, set_members),
    ]
}

#[derive(Serialize, JsonSchema)]
struct GroupView {
    id: GroupId,
    organization_id: OrganizationId,
    name: String,
    /// The group around this one.
    parent_id: Option<GroupId>,
    policy_id: Option<PolicyId>,
    /// How many users are in it directly.
    member_count: u64,
    /// How many devices are its members', those of the groups within it included.
    device_count: u64,
    created_at: Time,
    updated_at: Time,
}

impl GroupView {
    fn new(services: &Services, group: Group, member_count: u64) -> Self {
        let device_count = services.group_device_count(group.organization_id, group.id);
        let Group { id, organization_id, name, parent_id, policy_id, created_at, updated_at, .. } = group;
        Self { id, organization_id, name, parent_id, policy_id, member_count, device_count, created_at, updated_at }
    }
}

#[derive(Serialize, JsonSchema)]
struct GroupDetails {
    #[serde(flatten)]
    group: GroupView,
    /// Who is in it directly, oldest first.
    members: Vec<UserId>,
}

impl GroupDetails {
    fn new(services: &Services, Membership { group, members }: Membership) -> Self {
        Self { group: GroupView::new(services, group, members.len() as u64), members }
    }
}

fn tagged(services: &Services, found: Membership) -> Tagged<Json<GroupDetails>> {
    let revision = found.group.revision;
    let details = GroupDetails::new(services, found);
    let tag = Tag::of(revision, &(&details.members, details.group.device_count));
    Tagged { tag, answer: Json(details) }
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
    #[serde(default)]
    sort: SortBy,
    /// Part of the name, in whatever case.
    #[schemars(length(max = 200))]
    q: Option<String>,
    /// Only the groups directly within this one.
    parent_id: Option<GroupId>,
}

#[derive(Clone, Copy, Default, Deserialize, JsonSchema)]
#[schemars(inline)]
enum SortBy {
    #[default]
    #[serde(rename = "name")]
    Name,
    #[serde(rename = "-name")]
    NameDescending,
    #[serde(rename = "created_at")]
    CreatedAt,
    #[serde(rename = "-created_at")]
    NewestFirst,
}

impl From<SortBy> for GroupOrder {
    fn from(by: SortBy) -> Self {
        Self {
            by_age: matches!(by, SortBy::CreatedAt | SortBy::NewestFirst),
            descending: matches!(by, SortBy::NameDescending | SortBy::NewestFirst),
        }
    }
}

async fn list(services: &Services, op: Op, Query(query): Query<ListQuery>) -> Result<Json<Page<GroupView>>, Error> {
    let ListQuery { page, page_size, sort, q, parent_id } = query;
    let (offset, limit) = window(page, page_size);
    let filter = GroupFilter { text: q.unwrap_or_default(), parent: parent_id };
    let (total, found) = services.groups(&op, &filter, sort.into(), offset, limit)?;
    let found = found.into_iter().map(|(group, members)| GroupView::new(services, group, members));
    Ok(Json(page_of(page, page_size, total, found.collect())))
}

async fn get(services: &Services, op: Op, Path(id): Path<GroupId>) -> Result<Tagged<Json<GroupDetails>>, Error> {
    services.group(&op, id).map(|found| tagged(services, found))
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct GroupBody {
    #[schemars(length(min = 1, max = 200))]
    name: String,
    /// The group around it; none when left out.
    parent_id: Option<GroupId>,
    /// The policy of its members' devices; `null` takes it away. Left out, it stays as it is.
    #[serde(default, deserialize_with = "given")]
    #[schemars(with = "Option<PolicyId>")]
    policy_id: Option<Option<PolicyId>>,
    /// Who is in it directly. Left out, a new group has nobody and another keeps whom it has.
    #[schemars(length(max = 20_000))]
    members: Option<Vec<UserId>>,
}

impl From<GroupBody> for GroupDraft {
    fn from(GroupBody { name, parent_id, policy_id, members }: GroupBody) -> Self {
        Self { name, parent_id, policy_id, members }
    }
}

async fn create(
    services: &Services,
    op: Op,
    extract::Json(new): extract::Json<GroupBody>,
) -> Result<Created<GroupDetails>, Error> {
    let made = services.create_group(&op, new.into()).await?;
    let location = format!("/api/v1/groups/{}", made.group.id);
    Ok(Created { location, resource: GroupDetails::new(services, made) })
}

async fn change(
    services: &Services,
    op: Op,
    Path(id): Path<GroupId>,
    IfMatch(revision): IfMatch,
    extract::Json(change): extract::Json<GroupBody>,
) -> Result<Tagged<Json<GroupDetails>>, Error> {
    services.change_group(&op, id, change.into(), revision).await.map(|found| tagged(services, found))
}

async fn delete(
    services: &Services,
    op: Op,
    Path(id): Path<GroupId>,
    IfMatch(revision): IfMatch,
) -> Result<NoContent, Error> {
    services.delete_group(&op, id, revision).await.map(|()| NoContent)
}

async fn members(
    services: &Services,
    op: Op,
    Path(id): Path<GroupId>,
    Query(PageQuery { page, page_size }): Query<PageQuery>,
) -> Result<Json<Page<UserView>>, Error> {
    let (offset, limit) = window(page, page_size);
    let (total, found) = services.group_members(&op, id, offset, limit)?;
    Ok(Json(page_of(page, page_size, total, found.into_iter().map(UserView::new).collect())))
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct GroupMembers {
    #[schemars(length(max = 20_000))]
    members: Vec<UserId>,
}

async fn set_members(
    services: &Services,
    op: Op,
    Path(id): Path<GroupId>,
    IfMatch(revision): IfMatch,
    extract::Json(GroupMembers { members }): extract::Json<GroupMembers>,
) -> Result<Tagged<Json<GroupDetails>>, Error> {
    services.set_group_members(&op, id, members, revision).await.map(|found| tagged(services, found))
}
