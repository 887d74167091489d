use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::auth::LoggedIn;
use super::qr;
use crate::domain::Services;
use crate::domain::op::Op;
use crate::error::Error;
use crate::http::cookie::{TokenPlace, WithCookie};
use crate::http::extract::{self, UserAgent};
use crate::http::respond::{Json, NoContent};
use crate::http::route::{Access, RateClass, Route};
use crate::model::mfa::MfaMethod;

pub fn routes() -> Vec<Route> {
    use Access::{OwnAccount, Public};
    use RateClass::Standard;
    vec![
        Route::post("/auth/mfa/verify", Public, Standard, verify),
        Route::post("/auth/mfa/totp", OwnAccount, Standard, enroll),
        Route::post("/auth/mfa/totp/confirm", OwnAccount, Standard, confirm),
        Route::delete("/auth/mfa/totp", OwnAccount, Standard, remove),
    ]
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Verify {
    /// What the login answered with.
    #[schemars(length(max = 256))]
    mfa_token: String,
    method: MfaMethod,
    #[schemars(length(max = 64))]
    code: String,
}

async fn verify(
    services: &Services,
    op: Op,
    extract::Json(Verify { mfa_token, method, code }): extract::Json<Verify>,
    UserAgent(agent): UserAgent,
    place: TokenPlace,
) -> Result<WithCookie<Json<LoggedIn>>, Error> {
    let signed_in = services.verify_mfa(&op, &mfa_token, method, &code, agent).await?;
    let mut logged_in = LoggedIn::new(services, signed_in);
    let change = logged_in.place(services, &place);
    Ok(WithCookie { answer: Json(logged_in), change })
}

/// Every change of a factor takes the password again.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct WithPassword {
    #[schemars(length(max = 1024))]
    password: String,
}

#[derive(Serialize, JsonSchema)]
struct NewTotp {
    /// For an authenticator app, in base32. Shown only here; in force once a code of it is confirmed, within 10 minutes.
    secret: String,
    otpauth_uri: String,
    /// The URI as a QR code, an SVG image.
    qr_svg: String,
}

async fn enroll(
    services: &Services,
    op: Op,
    extract::Json(WithPassword { password }): extract::Json<WithPassword>,
) -> Result<Json<NewTotp>, Error> {
    let new = services.enroll_totp(&op, &password).await?;
    let qr_svg = qr::svg(&new.otpauth_uri)?;
    Ok(Json(NewTotp { secret: new.secret, otpauth_uri: new.otpauth_uri, qr_svg }))
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Confirm {
    #[schemars(length(max = 64))]
    code: String,
}

#[derive(Serialize, JsonSchema)]
struct RecoveryCodes {
    /// Each signs in once in place of a code of the app. Shown only here.
    recovery_codes: Vec<String>,
}

async fn confirm(
    services: &Services,
    op: Op,
    extract::Json(Confirm { code }): extract::Json<Confirm>,
) -> Result<Json<RecoveryCodes>, Error> {
    let recovery_codes = services.confirm_totp(&op, &code).await?;
    Ok(Json(RecoveryCodes { recovery_codes }))
}

async fn remove(
    services: &Services,
    op: Op,
    extract::Json(WithPassword { password }): extract::Json<WithPassword>,
) -> Result<NoContent, Error> {
    services.remove_totp(&op, &password).await.map(|()| NoContent)
}
