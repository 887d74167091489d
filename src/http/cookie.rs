//! The browser's way to keep a refresh token: in a cookie that no script can read.
//!
//! A page of the appliance itself asks for it with `X-Zero-Session: cookie`, which a page elsewhere cannot send here.

use http::header::{COOKIE, HOST, ORIGIN, SET_COOKIE};
use http::{HeaderValue, StatusCode};
use schemars::{Schema, SchemaGenerator};

use super::extract::{Extract, Input};
use super::openapi::Operation;
use super::respond::{Answer, Failure, Reply};

const NAME: &str = "__Host-zero-session";
const HEADER: &str = "x-zero-session";

/// Where the refresh token comes from and goes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenPlace {
    /// In the bodies of requests and answers.
    Body,
    /// In the cookie; here is what it held.
    Cookie(Option<String>),
}

impl Extract for TokenPlace {
    type Prepared = ();

    fn prepare() {}

    fn extract((): &(), input: &Input) -> Result<Self, Failure> {
        match input.headers.get(HEADER).map(HeaderValue::as_bytes) {
            None => return Ok(Self::Body),
            Some(b"cookie") => {}
            Some(_) => {
                let details = "X-Zero-Session may be left out or be cookie";
                return Err(Failure::new(StatusCode::BAD_REQUEST, "invalid header", details));
            }
        }
        let text = |name| input.headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        // HTTP/2 has no `Host`; then the browser's own word on the site is what there is.
        let site = text("sec-fetch-site").is_none_or(|site| site == "same-origin");
        let origin = match (text(ORIGIN.as_str()), text(HOST.as_str())) {
            (Some(origin), Some(host)) => origin.strip_prefix("https://") == Some(host),
            (Some(_), None) => text("sec-fetch-site").is_some(),
            (None, _) => true,
        };
        if !site || !origin {
            let details = "a session in a cookie is for pages of this appliance";
            return Err(Failure::new(StatusCode::FORBIDDEN, "cross-origin request", details));
        }
        let cookies = input.headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
        let pairs = cookies.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
        let held = pairs.filter(|(name, value)| *name == NAME && !value.is_empty()).map(|(_, value)| value.to_owned());
        Ok(Self::Cookie({ held }.next()))
    }

    fn describe(operation: &mut Operation, _: &mut SchemaGenerator) {
        operation.header(
            "X-Zero-Session",
            "`cookie`, from a page of the appliance: the refresh token is kept in a cookie instead of the body",
        );
    }
}

/// An answer that may change the session's cookie.
pub struct WithCookie<A> {
    pub answer: A,
    pub change: Option<CookieChange>,
}

pub enum CookieChange {
    Keep { token: String, seconds: u64 },
    Clear,
}

impl<A: Answer> Answer for WithCookie<A> {
    const STATUS: StatusCode = A::STATUS;
    const DESCRIPTION: &'static str = A::DESCRIPTION;
    const TAGGED: bool = A::TAGGED;

    fn schema(generator: &mut SchemaGenerator) -> Option<(&'static str, Schema)> {
        A::schema(generator)
    }

    fn into_reply(self) -> Reply {
        let mut reply = self.answer.into_reply();
        let cookie = self.change.map(|change| match change {
            CookieChange::Keep { token, seconds } => format!("{NAME}={token}; Max-Age={seconds}"),
            CookieChange::Clear => format!("{NAME}=; Max-Age=0"),
        });
        let attributes = "Path=/; Secure; HttpOnly; SameSite=Strict";
        if let Some(value) = cookie.and_then(|cookie| HeaderValue::try_from(format!("{cookie}; {attributes}")).ok()) {
            reply.headers.insert(SET_COOKIE, value);
        }
        reply
    }
}
