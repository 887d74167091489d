use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::auth::UserView;
use crate::domain::Services;
use crate::domain::op::Op;
use crate::domain::setup::NewAppliance;
use crate::error::Error;
use crate::http::extract;
use crate::http::respond::{Created, Json};
use crate::http::route::{Access, RateClass, Route};
use crate::ids::OrganizationId;

pub fn routes() -> Vec<Route> {
    vec![
        Route::get("/setup", Access::Open, RateClass::Standard, state),
        Route::post("/setup", Access::Open, RateClass::Standard, set_up),
    ]
}

#[derive(Serialize, JsonSchema)]
struct SetupState {
    required: bool,
}

async fn state(services: &Services, _: Op) -> Result<Json<SetupState>, Error> {
    Ok(Json(SetupState { required: !services.is_set_up() }))
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SetUp {
    /// The code that the appliance printed at its start.
    #[schemars(length(max = 100))]
    setup_code: String,
    /// Name of the first organization.
    #[schemars(length(min = 1, max = 200))]
    organization: String,
    /// Name of the first administrator.
    #[serde(default = "administrator")]
    #[schemars(length(min = 1, max = 200))]
    name: String,
    email: String,
    password: String,
    /// Names and addresses of the appliance, beside those in its configuration and those of its machine: it answers to
    /// them, and its own authority makes a certificate for them at once.
    #[serde(default)]
    #[schemars(length(max = 64), inner(length(min = 1, max = 255)))]
    names: Vec<String>,
}

fn administrator() -> String {
    "Administrator".into()
}

#[derive(Serialize, JsonSchema)]
struct SetUpView {
    organization: OrganizationView,
    user: UserView,
}

#[derive(Serialize, JsonSchema)]
struct OrganizationView {
    id: OrganizationId,
    name: String,
}

async fn set_up(
    services: &Services,
    op: Op,
    extract::Json(new): extract::Json<SetUp>,
) -> Result<Created<SetUpView>, Error> {
    let SetUp { setup_code, organization, name, email, password, names } = new;
    let new = NewAppliance { organization, name, email, password };
    let made = services.set_up(&op, &setup_code, new, &names).await?;
    let organization = OrganizationView { id: made.organization.id, name: made.organization.name };
    let resource = SetUpView { organization, user: UserView::new(services.person(made.user)) };
    Ok(Created { location: "/api/v1/auth/me".into(), resource })
}
