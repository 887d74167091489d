mod lines;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::users::LinkView;
use crate::domain::Services;
use crate::domain::authz::Permission::UsersEdit;
use crate::domain::op::Op;
use crate::domain::users::import::{ImportOptions, LineResult, Outcome};
use crate::error::Error;
use crate::http::extract::{Csv, Query};
use crate::http::respond::Json;
use crate::http::route::{Access, RateClass, Route};
use crate::ids::UserId;

pub fn routes() -> Vec<Route> {
    vec![Route::post("/users/import", Access::needs(UsersEdit), RateClass::Standard, import)]
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ImportQuery {
    /// Says what would happen, and changes nothing.
    #[serde(default)]
    dry_run: bool,
    /// Imports all lines or, when one of them is wrong, none.
    #[serde(default)]
    atomic: bool,
}

#[derive(Serialize, JsonSchema)]
struct ImportView {
    /// One for each line, in their order.
    results: Vec<LineView>,
    created: usize,
    failed: usize,
    dry_run: bool,
}

#[derive(Serialize, JsonSchema)]
struct LineView {
    /// Where it starts in the file; the first is 1.
    line: u64,
    status: LineStatus,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<UserId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    invitation: Option<LinkView>,
}

#[derive(Clone, Copy, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
enum LineStatus {
    Created,
    Failed,
    /// Nothing is wrong with it, but nothing was changed.
    Valid,
}

async fn import(
    services: &Services,
    op: Op,
    Query(ImportQuery { dry_run, atomic }): Query<ImportQuery>,
    Csv(text): Csv,
) -> Result<Json<ImportView>, Error> {
    let results = services.import_users(&op, lines::read(&text)?, ImportOptions { dry_run, atomic }).await?;
    let results: Vec<LineView> = results.into_iter().map(|result| view(services, result)).collect();
    let count = |status| results.iter().filter(|line| line.status == status).count();
    let (created, failed) = (count(LineStatus::Created), count(LineStatus::Failed));
    Ok(Json(ImportView { results, created, failed, dry_run }))
}

fn view(services: &Services, LineResult { number, email, outcome }: LineResult) -> LineView {
    let (status, id, error, invitation) = match outcome {
        Outcome::Created { id, invitation } => (LineStatus::Created, Some(id), None, invitation),
        Outcome::Valid => (LineStatus::Valid, None, None, None),
        Outcome::Failed(error) => (LineStatus::Failed, None, Some(error), None),
    };
    let invitation = invitation.map(|link| LinkView::new(services, link));
    LineView { line: number, status, id, email, error, invitation }
}
