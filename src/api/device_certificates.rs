use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::clock::Time;
use crate::domain::Services;
use crate::domain::authz::Permission::DevicesActions;
use crate::domain::device_certificates::Renewed;
use crate::domain::op::Op;
use crate::error::Error;
use crate::http::extract::{self, Path};
use crate::http::respond::{Json, NoContent};
use crate::http::route::{Access, RateClass, Route};
use crate::ids::DeviceId;

pub fn routes() -> Vec<Route> {
    use RateClass::Standard;
    vec![
        Route::post("/devices/{id}/certificate", Access::Device, Standard, renew),
        Route::delete("/devices/{id}/certificate", Access::needs(DevicesActions), Standard, revoke),
    ]
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RenewCertificate {
    /// A PKCS #10 signing request in PEM. Only its key counts.
    #[schemars(length(max = 16384))]
    csr: String,
}

/// A new certificate. The one before it is good until this one is used, or until its own end.
#[derive(Serialize, JsonSchema)]
struct CertificateView {
    /// PEM.
    certificate: String,
    ca_certificate: String,
    /// Hexadecimal.
    serial: String,
    expires_at: Time,
}

async fn renew(
    services: &Services,
    op: Op,
    Path(id): Path<DeviceId>,
    extract::Json(RenewCertificate { csr }): extract::Json<RenewCertificate>,
) -> Result<Json<CertificateView>, Error> {
    let Renewed { certificate, ca_certificate, serial, expires_at } =
        services.renew_device_certificate(&op, id, &csr).await?;
    Ok(Json(CertificateView { certificate, ca_certificate, serial, expires_at }))
}

async fn revoke(services: &Services, op: Op, Path(id): Path<DeviceId>) -> Result<NoContent, Error> {
    services.revoke_device_certificate(&op, id).await.map(|()| NoContent)
}
