use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::auth::{UserView, tagged};
use super::paging::{first, page_of, size, window};
use crate::clock::Time;
use crate::domain::Services;
use crate::domain::authz::Permission::{UsersEdit, UsersSupport, UsersView};
use crate::domain::links::IssuedLink;
use crate::domain::op::Op;
use crate::domain::users::{UserFilter, UserInput, UserSort, UserSortKey};
use crate::error::Error;
use crate::http::extract::{self, IfMatch, Path, Query};
use crate::http::respond::{Created, Json, NoContent, Page, Tagged};
use crate::http::route::{Access, RateClass, Route};
use crate::ids::{GroupId, UserId};
use crate::model::user::UserStatus;

pub fn routes() -> Vec<Route> {
    use RateClass::Standard;
    vec![
        Route::get("/users", Access::needs(UsersView), Standard, list),
        Route::post("/users", Access::needs(UsersEdit), Standard, create),
        Route::get("/users/{id}", Access::needs_or_own(UsersView), Standard, get),
        Route::put("/users/{id}", Access::needs(UsersEdit), Standard, change),
        Route::delete("/users/{id}", Access::needs(UsersEdit), Standard, delete),
        Route::post("/users/{id}/suspend", Access::needs(UsersEdit), Standard, suspend),
        Route::post("/users/{id}/resume", Access::needs(UsersEdit), Standard, resume),
        Route::post("/users/{id}/reset-password", Access::needs(UsersSupport), Standard, reset_password),
        Route::post("/users/{id}/revoke-sessions", Access::needs(UsersSupport), Standard, revoke_sessions),
        Route::post("/auth/links/accept", Access::Public, Standard, accept_link),
    ]
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
    status: Option<UserStatus>,
    /// A role's name.
    #[schemars(length(max = 200))]
    role: Option<String>,
    /// Those who are in it directly.
    group_id: Option<GroupId>,
    /// Part of the name or the e-mail, in whatever case.
    #[schemars(length(max = 200))]
    q: Option<String>,
}

#[derive(Clone, Copy, Default, Deserialize, JsonSchema)]
#[schemars(inline)]
enum SortBy {
    #[serde(rename = "name")]
    Name,
    #[serde(rename = "-name")]
    NameDescending,
    #[serde(rename = "email")]
    Email,
    #[serde(rename = "-email")]
    EmailDescending,
    #[serde(rename = "created_at")]
    CreatedAt,
    #[default]
    #[serde(rename = "-created_at")]
    NewestFirst,
}

impl From<SortBy> for UserSort {
    fn from(by: SortBy) -> Self {
        let (key, descending) = match by {
            SortBy::Name => (UserSortKey::Name, false),
            SortBy::NameDescending => (UserSortKey::Name, true),
            SortBy::Email => (UserSortKey::Email, false),
            SortBy::EmailDescending => (UserSortKey::Email, true),
            SortBy::CreatedAt => (UserSortKey::CreatedAt, false),
            SortBy::NewestFirst => (UserSortKey::CreatedAt, true),
        };
        Self { key, descending }
    }
}

async fn list(services: &Services, op: Op, Query(query): Query<ListQuery>) -> Result<Json<Page<UserView>>, Error> {
    let ListQuery { page, page_size, sort, status, role, group_id, q } = query;
    let filter = UserFilter { status, role, group: group_id, text: q.unwrap_or_default() };
    let (offset, limit) = window(page, page_size);
    let (total, found) = services.users(&op, &filter, sort.into(), offset, limit)?;
    Ok(Json(page_of(page, page_size, total, found.into_iter().map(UserView::new).collect())))
}

async fn get(services: &Services, op: Op, Path(id): Path<UserId>) -> Result<Tagged<Json<UserView>>, Error> {
    services.user(&op, id).map(tagged)
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct UserBody {
    #[schemars(length(min = 1, max = 200))]
    name: String,
    /// Unique in the whole appliance, whatever its case.
    #[schemars(length(max = 254))]
    email: String,
    /// The name of a built-in role or of one of the organization's own.
    #[schemars(length(max = 200))]
    role: String,
    /// Ids or names of groups; left out, they stay as they are.
    #[schemars(length(max = 100), inner(length(min = 1, max = 200)))]
    groups: Option<Vec<String>>,
    /// Without one, a new user is invited to choose it.
    password: Option<String>,
}

impl From<UserBody> for UserInput {
    fn from(UserBody { name, email, role, groups, password }: UserBody) -> Self {
        Self { name, email, role, groups, password }
    }
}

/// Lets its holder choose a password, once.
#[derive(Serialize, JsonSchema)]
pub struct LinkView {
    url: String,
    /// Shown only here.
    token: String,
    expires_at: Time,
    /// It is on its way to the user by mail as well.
    mailed: bool,
}

impl LinkView {
    pub fn new(services: &Services, link: IssuedLink) -> Self {
        Self { url: services.link_url(&link), token: link.token, expires_at: link.expires_at, mailed: link.mailed }
    }
}

#[derive(Serialize, JsonSchema)]
pub(super) struct NewUserView {
    #[serde(flatten)]
    pub user: UserView,
    /// For a user who has no password yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub invitation: Option<LinkView>,
}

async fn create(
    services: &Services,
    op: Op,
    extract::Json(new): extract::Json<UserBody>,
) -> Result<Created<NewUserView>, Error> {
    let (person, invitation) = services.create_user(&op, new.into()).await?;
    let location = format!("/api/v1/users/{}", person.user.id);
    let invitation = invitation.map(|link| LinkView::new(services, link));
    Ok(Created { location, resource: NewUserView { user: UserView::new(person), invitation } })
}

async fn change(
    services: &Services,
    op: Op,
    Path(id): Path<UserId>,
    IfMatch(revision): IfMatch,
    extract::Json(to): extract::Json<UserBody>,
) -> Result<Tagged<Json<UserView>>, Error> {
    services.change_user(&op, id, to.into(), revision).await.map(tagged)
}

async fn delete(
    services: &Services,
    op: Op,
    Path(id): Path<UserId>,
    IfMatch(revision): IfMatch,
) -> Result<NoContent, Error> {
    services.delete_user(&op, id, revision).await.map(|()| NoContent)
}

async fn suspend(services: &Services, op: Op, Path(id): Path<UserId>) -> Result<Tagged<Json<UserView>>, Error> {
    services.suspend_user(&op, id).await.map(tagged)
}

async fn resume(services: &Services, op: Op, Path(id): Path<UserId>) -> Result<Tagged<Json<UserView>>, Error> {
    services.resume_user(&op, id).await.map(tagged)
}

async fn reset_password(services: &Services, op: Op, Path(id): Path<UserId>) -> Result<Json<LinkView>, Error> {
    let link = services.reset_password(&op, id).await?;
    Ok(Json(LinkView::new(services, link)))
}

#[derive(Serialize, JsonSchema)]
struct Revoked {
    /// How many sessions were ended.
    revoked: u64,
}

async fn revoke_sessions(services: &Services, op: Op, Path(id): Path<UserId>) -> Result<Json<Revoked>, Error> {
    let revoked = services.revoke_sessions(&op, id).await?;
    Ok(Json(Revoked { revoked }))
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct AcceptLink {
    /// From an invitation or a password reset.
    #[schemars(length(max = 256))]
    token: String,
    password: String,
}

async fn accept_link(
    services: &Services,
    op: Op,
    extract::Json(AcceptLink { token, password }): extract::Json<AcceptLink>,
) -> Result<NoContent, Error> {
    services.accept_link(&op, &token, &password).await.map(|()| NoContent)
}
