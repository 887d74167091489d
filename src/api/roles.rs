use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::paging::{PageQuery, page_of, window};
use crate::domain::Services;
use crate::domain::authz::Permission::{self, RolesEdit, UsersView};
use crate::domain::op::Op;
use crate::domain::roles::{AnyRole, HeldRole, RoleDraft};
use crate::error::Error;
use crate::http::extract::{self, IfMatch, Path, Query};
use crate::http::respond::{Created, Json, NoContent, Page, Tag, Tagged};
use crate::http::route::{Access, RateClass, Route};
use crate::ids::RoleId;
use crate::model::role::CustomRole;

pub fn routes() -> Vec<Route> {
    use RateClass::Standard;
    vec![
        Route::get("/roles", Access::needs(UsersView), Standard, list),
        Route::post("/roles", Access::needs(RolesEdit), Standard, create),
        Route::get("/roles/{id}", Access::needs(UsersView), Standard, get),
        Route::put("/roles/{id}", Access::needs(RolesEdit), Standard, change),
        Route::delete("/roles/{id}", Access::needs(RolesEdit), Standard, delete),
    ]
}

#[derive(Serialize, JsonSchema)]
struct RoleView {
    /// `null` for a built-in role, which cannot be changed.
    id: Option<RoleId>,
    name: String,
    built_in: bool,
    description: String,
    permissions: Vec<Permission>,
    /// How many users have it.
    user_count: u64,
}

impl From<HeldRole> for RoleView {
    fn from(HeldRole { role, user_count }: HeldRole) -> Self {
        match role {
            AnyRole::BuiltIn(role) => Self {
                id: None,
                name: role.as_str().into(),
                built_in: true,
                description: role.description().into(),
                permissions: role.permissions().iter().collect(),
                user_count,
            },
            AnyRole::Custom(CustomRole { id, name, description, permissions, .. }) => {
                let permissions = permissions.iter().collect();
                Self { id: Some(id), name, built_in: false, description, permissions, user_count }
            }
        }
    }
}

fn tagged(services: &Services, role: CustomRole) -> Tagged<Json<RoleView>> {
    let revision = role.revision;
    let view = RoleView::from(services.held(role.organization_id, AnyRole::Custom(role)));
    Tagged { tag: Tag::of(revision, &view.user_count), answer: Json(view) }
}

async fn list(
    services: &Services,
    op: Op,
    Query(PageQuery { page, page_size }): Query<PageQuery>,
) -> Result<Json<Page<RoleView>>, Error> {
    let (offset, limit) = window(page, page_size);
    let (total, found) = services.roles(&op, offset, limit)?;
    Ok(Json(page_of(page, page_size, total, found.into_iter().map(Into::into).collect())))
}

async fn get(services: &Services, op: Op, Path(id): Path<RoleId>) -> Result<Tagged<Json<RoleView>>, Error> {
    services.role(&op, id).map(|role| tagged(services, role))
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RoleBody {
    #[schemars(length(min = 1, max = 200))]
    name: String,
    #[serde(default)]
    #[schemars(length(max = 1000))]
    description: String,
    #[schemars(length(max = 100))]
    permissions: Vec<Permission>,
}

impl From<RoleBody> for RoleDraft {
    fn from(RoleBody { name, description, permissions }: RoleBody) -> Self {
        Self { name, description, permissions: permissions.into_iter().collect() }
    }
}

async fn create(
    services: &Services,
    op: Op,
    extract::Json(new): extract::Json<RoleBody>,
) -> Result<Created<RoleView>, Error> {
    let made = services.create_role(&op, new.into()).await?;
    let location = format!("/api/v1/roles/{}", made.id);
    // Nobody has it yet, which is what the answer says also when it is given again later.
    Ok(Created { location, resource: HeldRole { role: AnyRole::Custom(made), user_count: 0 }.into() })
}

async fn change(
    services: &Services,
    op: Op,
    Path(id): Path<RoleId>,
    IfMatch(revision): IfMatch,
    extract::Json(change): extract::Json<RoleBody>,
) -> Result<Tagged<Json<RoleView>>, Error> {
    services.change_role(&op, id, change.into(), revision).await.map(|role| tagged(services, role))
}

async fn delete(
    services: &Services,
    op: Op,
    Path(id): Path<RoleId>,
    IfMatch(revision): IfMatch,
) -> Result<NoContent, Error> {
    services.delete_role(&op, id, revision).await.map(|()| NoContent)
}
