use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::auth::UserView;
use super::paging::{PageQuery, page_of, window};
use super::system::settings::ProvisionalView;
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
        Route::post("/organization/confirm", Access::needs(OrganizationEdit), Standard, confirm),
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
    /// `require_mfa` was switched on, and waits to be confirmed.
    provisional: Option<ProvisionalView>,
    created_at: Time,
    updated_at: Time,
}

impl OrganizationDetails {
    fn new(organization: Organization, now: Time) -> Self {
        let Organization { id, name, tier, settings, default_policy_id, created_at, updated_at, .. } = organization;
        let provisional = organization
            .require_mfa_until
            .map(|until| ProvisionalView { until, seconds_left: until.since(now).as_secs() });
        Self { id, name, tier, settings, default_policy_id, provisional, created_at, updated_at }
    }
}

#[derive(Serialize, JsonSchema)]
struct OrganizationWithSize {
    #[serde(flatten)]
    organization: OrganizationDetails,
    user_count: u64,
    device_count: u64,
}

impl OrganizationWithSize {
    fn new(SizedOrganization { organization, user_count, device_count }: SizedOrganization, now: Time) -> Self {
        Self { organization: OrganizationDetails::new(organization, now), user_count, device_count }
    }
}

fn tagged(organization: Organization, now: Time) -> Tagged<Json<OrganizationDetails>> {
    let tag = Tag::revision(organization.revision);
    Tagged { tag, answer: Json(OrganizationDetails::new(organization, now)) }
}

fn tagged_with_size(found: SizedOrganization, now: Time) -> Tagged<Json<OrganizationWithSize>> {
    let tag = Tag::of(found.organization.revision, &(found.user_count, found.device_count));
    Tagged { tag, answer: Json(OrganizationWithSize::new(found, now)) }
}

async fn own(services: &Services, op: Op) -> Result<Tagged<Json<OrganizationDetails>>, Error> {
    services.organization(op.organization_id()?).map(|found| tagged(found, op.now))
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
    let changed = services.change_organization(&op, op.organization_id()?, change, revision).await?;
    Ok(tagged(changed, op.now))
}

async fn confirm(services: &Services, op: Op) -> Result<Tagged<Json<OrganizationDetails>>, Error> {
    let confirmed = services.confirm_organization(&op, op.organization_id()?).await?;
    Ok(tagged(confirmed, op.now))
}

async fn list(
    services: &Services,
    op: Op,
    Query(PageQuery { page, page_size }): Query<PageQuery>,
) -> Result<Json<Page<OrganizationWithSize>>, Error> {
    let (offset, limit) = window(page, page_size);
    let (total, found) = services.organizations(offset, limit)?;
    let found = found.into_iter().map(|found| OrganizationWithSize::new(found, op.now));
    Ok(Json(page_of(page, page_size, total, found.collect())))
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
    let organization = OrganizationDetails::new(made.organization, op.now);
    Ok(Created { location, resource: FoundedOrganization { organization, admin } })
}

async fn get(
    services: &Services,
    op: Op,
    Path(id): Path<OrganizationId>,
) -> Result<Tagged<Json<OrganizationWithSize>>, Error> {
    services.organization(id).map(|found| tagged_with_size(services.sized(found), op.now))
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
    Ok(tagged_with_size(services.sized(changed), op.now))
}

async fn delete(
    services: &Services,
    op: Op,
    Path(id): Path<OrganizationId>,
    IfMatch(revision): IfMatch,
) -> Result<NoContent, Error> {
    services.delete_organization(&op, id, revision).await.map(|()| NoContent)
}
