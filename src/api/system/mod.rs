mod backups;
mod doctor;
pub(super) mod settings;
mod status;
mod trust;
mod updates;

use schemars::JsonSchema;
use serde::Serialize;

use crate::clock::Time;
use crate::domain::Services;
use crate::domain::authz::Permission::SystemAdmin;
use crate::domain::op::Op;
use crate::domain::system::{CertificateFacts, ServerCertificate};
use crate::error::Error;
use crate::http::respond::Json;
use crate::http::route::{Access, RateClass, Route};

pub fn routes() -> Vec<Route> {
    use RateClass::Standard;
    vec![
        // Whoever does not trust the appliance yet cannot sign in safely either: what is needed for that is for anyone,
        // and is no secret.
        Route::get("/system/ca", Access::Open, Standard, trust::overview),
        Route::get("/system/ca.pem", Access::Open, Standard, trust::pem),
        Route::get("/system/ca.der", Access::Open, Standard, trust::der),
        Route::get("/system/ca.mobileconfig", Access::Open, Standard, trust::profile),
        Route::get("/system", Access::needs(SystemAdmin), Standard, status::system),
        Route::get("/system/doctor", Access::needs(SystemAdmin), Standard, doctor::doctor),
        Route::get("/system/settings", Access::needs(SystemAdmin), Standard, settings::read),
        Route::put("/system/settings", Access::needs(SystemAdmin), Standard, settings::change),
        Route::post("/system/settings/confirm", Access::needs(SystemAdmin), Standard, settings::confirm),
        Route::get("/system/tls", Access::needs(SystemAdmin), Standard, tls),
        Route::post("/system/backup", Access::needs(SystemAdmin), Standard, backups::back_up),
        Route::get("/system/update", Access::needs(SystemAdmin), Standard, updates::progress),
        Route::post("/system/update", Access::needs(SystemAdmin), Standard, updates::update),
        Route::get("/system/backups", Access::needs(SystemAdmin), Standard, backups::backups),
    ]
}

/// The server's certificate, and what is wrong with it.
#[derive(Serialize, JsonSchema)]
struct TlsView {
    /// `local`, `files` or `acme`: where it is meant to come from.
    mode: &'static str,
    /// What is shown to whoever asks for the appliance's names.
    certificate: Option<CertificateView>,
    /// Why there is no newer one; null when all is well.
    problem: Option<String>,
}

#[derive(Serialize, JsonSchema)]
struct CertificateView {
    names: Vec<String>,
    issuer: String,
    fingerprint_sha256: String,
    not_before: Time,
    not_after: Time,
    /// Browsers trust it without being told to.
    publicly_trusted: bool,
}

async fn tls(services: &Services, op: Op) -> Result<Json<TlsView>, Error> {
    let ServerCertificate { mode, shown, problem } = services.server_certificate(&op)?;
    let certificate = shown.map(|shown| {
        let CertificateFacts { names, issuer, fingerprint, not_before, not_after, is_publicly_trusted } = shown;
        let (fingerprint_sha256, publicly_trusted) = (fingerprint, is_publicly_trusted);
        CertificateView { names, issuer, fingerprint_sha256, not_before, not_after, publicly_trusted }
    });
    Ok(Json(TlsView { mode, certificate, problem }))
}
