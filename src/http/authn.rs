//! Who is it: from the `Authorization` header or the client's certificate to a principal.

use http::HeaderMap;
use http::header::AUTHORIZATION;

use crate::domain::Services;
use crate::domain::op::{Op, Presented, Principal};
use crate::error::Error;

/// Anonymous without credentials; an error for credentials that are no good.
///
/// An `Authorization` header says who asks, whatever certificate the connection has: an agent may act for its user on
/// it. Only a device's token must then be that same device's.
pub async fn identify(
    services: &Services,
    op: &Op,
    headers: &HeaderMap,
    shown: Option<Presented>,
) -> Result<Principal, Error> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        return match shown {
            Some(shown) => services.identify_certificate(op, shown).await.map(Principal::Device),
            None => Ok(Principal::Anonymous),
        };
    };
    if values.next().is_some() {
        return Err(Error::Unauthenticated("more than one Authorization header".into()));
    }
    let token = value.to_str().ok().and_then(bearer);
    let token = token.ok_or_else(|| Error::Unauthenticated("a bearer token is required".into()))?;
    match (services.identify(token, op.now)?, shown) {
        (Principal::Device(device), Some(shown)) if device.id != shown.device_id => {
            Err(Error::Unauthenticated("the token and the client certificate are those of two devices".into()))
        }
        (principal, _) => Ok(principal),
    }
}

/// The token of `Bearer <token>` (RFC 6750, section 2.1; the scheme's case does not matter).
fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}
