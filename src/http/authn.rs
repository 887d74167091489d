//! Who is it: from the `Authorization` header to a principal.

use http::HeaderMap;
use http::header::AUTHORIZATION;

use crate::clock::Time;
use crate::domain::Services;
use crate::domain::op::Principal;
use crate::error::Error;

/// Anonymous without credentials; an error for credentials that are no good.
pub fn identify(services: &Services, headers: &HeaderMap, now: Time) -> Result<Principal, Error> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(Principal::Anonymous) };
    if values.next().is_some() {
        return Err(Error::Unauthenticated("more than one Authorization header".into()));
    }
    let token = value.to_str().ok().and_then(bearer);
    services.identify(token.ok_or_else(|| Error::Unauthenticated("a bearer token is required".into()))?, now)
}

/// The token of `Bearer <token>` (RFC 6750, section 2.1; the scheme's case does not matter).
fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}
