use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::auth::UserView;
use super::paging::{PageQuery, page_of, window};
use super::users::{LinkView, NewUserView};
use crate::clock::Time;
use crate::domain::Services;
use crate::domain::accounts::Person;
use crate::domain::authz::Permission::{OrganizationEdit, OrganizationsAdmin};
use crate::domain::authz::Role;
use crate::domain::op::Op;
use crate::domain::organizations::{NewAdmin, NewOrganization, OrganizationChange, SizedOrganization};
use crate::error::Error;
use crate::http::extract::{self, IfMatch, Path, Query};
use crate::http::respond::{Created, Json, NoContent, Page, Tag, Tagged};
use crate::http::route::{Access, RateClass, Route};
use crate::ids::{OrganizationId, PolicyId};
use crate::model::organization::{Organization, OrganizationSettings, Tier};

pub fn routes() -> Vec<Route> {
    use RateClass::Standard;
    vec![
        Route::get("/organization", Access::SignedIn, Standard, own),
        Route::put("/organization", Access::needs(OrganizationEdit), Standard, change_own),
        Route::get("/organizations", Access::needs(OrganizationsAdmin), Standard, list),
        Route::post("/organizations", Access::needs(OrganizationsAdmin), Standard, create),
        Route::get("/organizations/{id}", Access::needs(OrganizationsAdmin), Standard, get),
        Route::put("/organizations/{id}", Access::needs(OrganizationsAdmin), Standard, change),
        Route::delete("/organizations/{id}", Access::needs(OrganizationsAdmin), Standard, delete),
    ]
}

#[derive(Serialize, JsonSchema)]
struct OrganizationDetails {
    id: OrganizationId,
    name: String,
    tier: Tier,
    settings: OrganizationSettings,
    /// The policy of every device for which nothing nearer is assigned.
    default_policy_id: Option<PolicyId>,
    created_at: Time,
    updated_at: Time,
}

impl From<Organization> for OrganizationDetails {
    fn from(organization: Organization) -> Self {
        let Organization { id, name, tier, settings, default_policy_id, created_at, updated_at, .. } = organization;
        Self { id, name, tier, settings, default_policy_id, created_at, updated_at }
    }
}

#[derive(Serialize, JsonSchema)]
struct OrganizationWithSize {
    #[serde(flatten)]
    organization: OrganizationDetails,
    user_count: u64,
    device_count: u64,
}

impl From<SizedOrganization> for OrganizationWithSize {
    fn from(SizedOrganization { organization, user_count, device_count }: SizedOrganization) -> Self {
        Self { organization: organization.into(), user_count, device_count }
    }
}

fn tagged(organization: Organization) -> Tagged<Json<OrganizationDetails>> {
    Tagged { tag: Tag::revision(organization.revision), answer: Json(organization.into()) }
}

fn tagged_with_size(found: SizedOrganization) -> Tagged<Json<OrganizationWithSize>> {
    let tag = Tag::of(found.organization.revision, &(found.user_count, found.device_count));
    Tagged { tag, answer: Json(found.into()) }
}

async fn own(services: &Services, op: Op) -> Result<Tagged<Json<OrganizationDetails>>, Error> {
    services.organization(op.organization_id()?).map(tagged)
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ChangeOwnOrganization {
    #[schemars(length(min = 1, max = 200))]
    name: String,
    /// Left out, they stay as they are.
    settings: Option<OrganizationSettings>,
}

async fn change_own(
    services: &Services,
    op: Op,
    IfMatch(revision): IfMatch,
    extract::Json(ChangeOwnOrganization { name, settings }): extract::Json<ChangeOwnOrganization>,
) -> Result<Tagged<Json<OrganizationDetails>>, Error> {
    let change = OrganizationChange { name: Some(name), tier: None, settings };
    services.change_organization(&op, op.organization_id()?, change, revision).await.map(tagged)
}

async fn list(
    services: &Services,
    _: Op,
    Query(PageQuery { page, page_size }): Query<PageQuery>,
) -> Result<Json<Page<OrganizationWithSize>>, Error> {
    let (offset, limit) = window(page, page_size);
    let (total, found) = services.organizations(offset, limit)?;
    Ok(Json(page_of(page, page_size, total, found.into_iter().map(Into::into).collect())))
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct FoundOrganization {
    #[schemars(length(min = 1, max = 200))]
    name: String,
    #[serde(default = "standard")]
    tier: Tier,
    admin: AdminBody,
}

const fn standard() -> Tier {
    Tier::Standard
}

/// Who runs it, with the role `admin`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
struct AdminBody {
    #[schemars(length(min = 1, max = 200))]
    name: String,
    #[schemars(length(max = 254))]
    email: String,
    #[schemars(length(max = 1024))]
    password: Option<String>,
}

#[derive(Serialize, JsonSchema)]
struct FoundedOrganization {
    #[serde(flatten)]
    organization: OrganizationDetails,
    admin: NewUserView,
}

async fn create(
    services: &Services,
    op: Op,
    extract::Json(FoundOrganization { name, tier, admin }): extract::Json<FoundOrganization>,
) -> Result<Created<FoundedOrganization>, Error> {
    let AdminBody { name: admin, email, password } = admin;
    let new = NewOrganization { name, tier, admin: NewAdmin { name: admin, email, password } };
    let made = services.create_organization(&op, new).await?;
    let location = format!("/api/v1/organizations/{}", made.organization.id);
    // As it was made, also when the answer is given again later.
    let role = Role::Admin.as_str().into();
    let user = UserView::new(Person { user: made.admin, role, groups: Vec::new(), device_count: 0 });
    let invitation = made.invitation.map(|link| LinkView::new(services, link));
    let admin = NewUserView { user, invitation };
    Ok(Created { location, resource: FoundedOrganization { organization: made.organization.into(), admin } })
}

async fn get(
    services: &Services,
    _: Op,
    Path(id): Path<OrganizationId>,
) -> Result<Tagged<Json<OrganizationWithSize>>, Error> {
    services.organization(id).map(|found| tagged_with_size(services.sized(found)))
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ChangeOrganization {
    #[schemars(length(min = 1, max = 200))]
    name: Option<String>,
    tier: Option<Tier>,
}

async fn change(
    services: &Services,
    op: Op,
    Path(id): Path<OrganizationId>,
    IfMatch(revision): IfMatch,
    extract::Json(ChangeOrganization { name, tier }): extract::Json<ChangeOrganization>,
) -> Result<Tagged<Json<OrganizationWithSize>>, Error> {
    let change = OrganizationChange { name, tier, settings: None };
    let changed = services.change_organization(&op, id, change, revision).await?;
    Ok(tagged_with_size(services.sized(changed)))
}

async fn delete(
    services: &Services,
    op: Op,
    Path(id): Path<OrganizationId>,
    IfMatch(revision): IfMatch,
) -> Result<NoContent, Error> {
    services.delete_organization(&op, id, revision).await.map(|()| NoContent)
}
