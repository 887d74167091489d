use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::paging::{PageQuery, page_of, window};
use crate::clock::Time;
use crate::domain::Services;
use crate::domain::accounts::Person;
use crate::domain::auth::{self, SignedIn};
use crate::domain::authz::Permission;
use crate::domain::op::Op;
use crate::error::Error;
use crate::http::cookie::{CookieChange, TokenPlace, WithCookie};
use crate::http::extract::{self, IfMatch, Path, Query, UserAgent};
use crate::http::respond::{Json, NoContent, Page, Tag, Tagged};
use crate::http::route::{Access, RateClass, Route};
use crate::ids::{GroupId, OrganizationId, SessionId, UserId};
use crate::model::mfa::MfaMethod;
use crate::model::session::Session;
use crate::model::user::{User, UserStatus};

pub fn routes() -> Vec<Route> {
    use Access::{OwnAccount, Public, SignedIn};
    use RateClass::Standard;
    vec![
        Route::post("/auth/login", Public, Standard, log_in),
        Route::post("/auth/refresh", Public, Standard, refresh),
        Route::post("/auth/logout", OwnAccount, Standard, log_out),
        Route::get("/auth/me", OwnAccount, Standard, me),
        Route::put("/auth/me", OwnAccount, Standard, change_me),
        Route::post("/auth/password", OwnAccount, Standard, change_password),
        Route::post("/auth/password/reset", Public, Standard, request_reset),
        Route::get("/auth/sessions", SignedIn, Standard, sessions),
        Route::delete("/auth/sessions/{id}", SignedIn, Standard, end_session),
    ]
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct LogIn {
    #[schemars(length(max = 254))]
    email: String,
    #[schemars(length(max = 1024))]
    password: String,
}

#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
enum LogInAnswer {
    LoggedIn(LoggedIn),
    MfaRequired(MfaRequired),
}

/// The password was right; now a code is asked for.
#[derive(Serialize, JsonSchema)]
struct MfaRequired {
    /// Always true.
    mfa_required: bool,
    /// For `/auth/mfa/verify`: good for 5 minutes and 5 codes.
    mfa_token: String,
    mfa_methods: Vec<MfaMethod>,
}

#[derive(Serialize, JsonSchema)]
pub struct LoggedIn {
    token: String,
    /// Left out when it is in the cookie.
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<String>,
    /// Seconds that `token` is good for.
    expires_in: u64,
    token_type: &'static str,
    user: LoggedInUser,
    /// Until when the user must have set up a second factor; from then on that is all that the session may do.
    #[serde(skip_serializing_if = "Option::is_none")]
    mfa_setup_required_by: Option<Time>,
}

impl LoggedIn {
    pub fn new(services: &Services, signed_in: SignedIn) -> Self {
        let mfa_setup_required_by = services.mfa_setup_required_by(&signed_in.user);
        let Person { user, role, .. } = services.person(signed_in.user);
        let User { id, email, name, organization_id, .. } = user;
        Self {
            token: signed_in.token,
            refresh_token: Some(signed_in.refresh_token),
            expires_in: signed_in.expires_in,
            token_type: "Bearer",
            user: LoggedInUser { id, email, name, role, organization_id },
            mfa_setup_required_by,
        }
    }

    /// Moves the refresh token to where the client wants it.
    pub fn place(&mut self, services: &Services, place: &TokenPlace) -> Option<CookieChange> {
        into_cookie(services, place, &mut self.refresh_token)
    }
}

fn into_cookie(services: &Services, place: &TokenPlace, token: &mut Option<String>) -> Option<CookieChange> {
    let TokenPlace::Cookie(_) = place else { return None };
    token.take().map(|token| CookieChange::Keep { token, seconds: services.refresh_token_life().as_secs() })
}

#[derive(Serialize, JsonSchema)]
struct LoggedInUser {
    id: UserId,
    email: String,
    name: String,
    role: String,
    organization_id: OrganizationId,
}

async fn log_in(
    services: &Services,
    op: Op,
    extract::Json(new): extract::Json<LogIn>,
    UserAgent(agent): UserAgent,
    place: TokenPlace,
) -> Result<WithCookie<Json<LogInAnswer>>, Error> {
    let mut change = None;
    let answer = Json(match services.log_in(&op, &new.email, &new.password, agent).await? {
        auth::LogIn::SignedIn(signed_in) => {
            let mut logged_in = LoggedIn::new(services, *signed_in);
            change = logged_in.place(services, &place);
            LogInAnswer::LoggedIn(logged_in)
        }
        auth::LogIn::MfaRequired { mfa_token, methods } => {
            LogInAnswer::MfaRequired(MfaRequired { mfa_required: true, mfa_token, mfa_methods: methods })
        }
    });
    Ok(WithCookie { answer, change })
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Refresh {
    /// Required, unless it is in the cookie.
    #[schemars(length(max = 256))]
    refresh_token: Option<String>,
}

#[derive(Serialize, JsonSchema)]
struct Refreshed {
    token: String,
    /// Left out when it is in the cookie.
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<String>,
    expires_in: u64,
}

async fn refresh(
    services: &Services,
    op: Op,
    extract::Json(Refresh { refresh_token }): extract::Json<Refresh>,
    place: TokenPlace,
) -> Result<WithCookie<Json<Refreshed>>, Error> {
    let spent = match &place {
        TokenPlace::Body => refresh_token.ok_or_else(|| Error::field("refresh_token", "is required"))?,
        TokenPlace::Cookie(_) if refresh_token.is_some() => {
            return Err(Error::field("refresh_token", "is in the cookie: leave it out of the body"));
        }
        TokenPlace::Cookie(held) => {
            held.clone().ok_or_else(|| Error::Unauthenticated("there is no session in the cookie".into()))?
        }
    };
    let renewed = services.refresh(&op, &spent).await?;
    let mut refresh_token = Some(renewed.refresh_token);
    let change = into_cookie(services, &place, &mut refresh_token);
    let answer = Json(Refreshed { token: renewed.token, refresh_token, expires_in: renewed.expires_in });
    Ok(WithCookie { answer, change })
}

async fn log_out(services: &Services, op: Op, place: TokenPlace) -> Result<WithCookie<NoContent>, Error> {
    services.log_out(&op).await?;
    let change = (place != TokenPlace::Body).then_some(CookieChange::Clear);
    Ok(WithCookie { answer: NoContent, change })
}

#[derive(Serialize, JsonSchema)]
pub struct UserView {
    id: UserId,
    organization_id: OrganizationId,
    email: String,
    name: String,
    role: String,
    status: UserStatus,
    /// The groups that the user is in directly.
    groups: Vec<GroupId>,
    device_count: u64,
    mfa_enabled: bool,
    /// The processing of the person's data is restricted.
    restricted: bool,
    last_login: Option<Time>,
    created_at: Time,
    updated_at: Time,
}

impl UserView {
    pub fn new(person: Person) -> Self {
        let Person { user, role, groups, device_count } = person;
        let (mfa_enabled, restricted) = (user.mfa_enabled(), user.privacy.is_restricted());
        let User { id, organization_id, email, name, status, last_login, created_at, updated_at, .. } = user;
        Self {
            id,
            organization_id,
            email,
            name,
            role,
            status,
            groups,
            device_count,
            mfa_enabled,
            restricted,
            last_login,
            created_at,
            updated_at,
        }
    }
}

pub fn tagged(person: Person) -> Tagged<Json<UserView>> {
    let tag =
        Tag::of(person.user.revision, &(person.user.last_login, person.device_count, &person.groups, &person.role));
    Tagged { tag, answer: Json(UserView::new(person)) }
}

/// The signed-in user, with what the session may do.
#[derive(Serialize, JsonSchema)]
struct Me {
    #[serde(flatten)]
    user: UserView,
    permissions: Vec<Permission>,
    /// Until when a second factor must be set up; from then on that is all that the session may do.
    #[serde(skip_serializing_if = "Option::is_none")]
    mfa_setup_required_by: Option<Time>,
}

async fn me(services: &Services, op: Op) -> Result<Tagged<Json<Me>>, Error> {
    let person = services.me(&op)?;
    let mfa_setup_required_by = services.mfa_setup_required_by(&person.user);
    let permissions: Vec<Permission> = op.principal.permissions().iter().collect();
    let Person { user, role, groups, device_count } = &person;
    let tag = Tag::of(user.revision, &(user.last_login, device_count, groups, role, &permissions));
    Ok(Tagged { tag, answer: Json(Me { user: UserView::new(person), permissions, mfa_setup_required_by }) })
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ChangeMe {
    #[schemars(length(min = 1, max = 200))]
    name: String,
}

async fn change_me(
    services: &Services,
    op: Op,
    IfMatch(revision): IfMatch,
    extract::Json(change): extract::Json<ChangeMe>,
) -> Result<Tagged<Json<UserView>>, Error> {
    services.rename_me(&op, change.name, revision).await.map(tagged)
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ChangePassword {
    #[schemars(length(max = 1024))]
    current_password: String,
    new_password: String,
}

async fn change_password(
    services: &Services,
    op: Op,
    extract::Json(change): extract::Json<ChangePassword>,
) -> Result<NoContent, Error> {
    services.change_password(&op, &change.current_password, &change.new_password).await.map(|()| NoContent)
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RequestReset {
    #[schemars(length(max = 254))]
    email: String,
}

/// The same answer whether or not there is such a user, and whether or not anything can be mailed.
async fn request_reset(
    services: &Services,
    op: Op,
    extract::Json(RequestReset { email }): extract::Json<RequestReset>,
) -> Result<NoContent, Error> {
    services.request_reset(&op, &email).await.map(|()| NoContent)
}

#[derive(Serialize, JsonSchema)]
pub(super) struct SessionView {
    id: SessionId,
    /// The session that asks.
    current: bool,
    source_ip: IpAddr,
    user_agent: Option<String>,
    created_at: Time,
    last_used_at: Time,
    expires_at: Time,
}

impl SessionView {
    pub fn new(session: Session, current: Option<SessionId>) -> Self {
        let Session { id, source_ip, user_agent, created_at, last_used_at, expires_at, .. } = session;
        Self { id, current: current == Some(id), source_ip, user_agent, created_at, last_used_at, expires_at }
    }
}

async fn sessions(
    services: &Services,
    op: Op,
    Query(PageQuery { page, page_size }): Query<PageQuery>,
) -> Result<Json<Page<SessionView>>, Error> {
    let current = op.user()?.session_id;
    let (offset, limit) = window(page, page_size);
    let (total, found) = services.my_sessions(&op, offset, limit)?;
    let view = |session| SessionView::new(session, Some(current));
    Ok(Json(page_of(page, page_size, total, found.into_iter().map(view).collect())))
}

async fn end_session(services: &Services, op: Op, Path(id): Path<SessionId>) -> Result<NoContent, Error> {
    services.end_my_session(&op, id).await.map(|()| NoContent)
}
