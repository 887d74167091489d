//! The parts of a request that a handler asks for by its parameters' types.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, IF_MATCH, USER_AGENT};
use http::{HeaderMap, StatusCode};
use schemars::{JsonSchema, SchemaGenerator};
use serde::de::{Deserialize, DeserializeOwned, Deserializer};

use super::openapi::Operation;
use super::respond::{Failure, Tag};
use super::schema::{self, Checker};
use super::upload::Upload;
use crate::error::Error;
use crate::ids;

const INVALID_BODY: &str = "invalid request body";

/// A request whose route is found and whose body has arrived.
pub struct Input<'a> {
    /// The values of the path's parameters, in order.
    pub path: &'a [String],
    pub query: &'a str,
    pub headers: &'a HeaderMap,
    /// As the client named the appliance, with the port; one of its names.
    pub host: &'a str,
    pub body: Bytes,
    /// The body of a route that takes a file.
    pub upload: Option<Upload>,
}

/// Something a handler takes from the request.
pub trait Extract: Sized + Send {
    /// What is made once for the route, such as a compiled schema.
    type Prepared: Send + Sync + 'static;
    /// The route reads the request's body.
    const BODY: bool = false;
    /// The route takes a file of up to this many bytes as its body; 0 for none.
    const UPLOAD: u64 = 0;

    fn prepare() -> Self::Prepared;
    fn extract(prepared: &Self::Prepared, input: &Input) -> Result<Self, Failure>;
    fn describe(operation: &mut Operation, generator: &mut SchemaGenerator);
}

/// The path's parameters, typed. One that cannot be read names no resource: 404.
pub struct Path<T>(pub T);

pub trait PathParameters: Sized + Send {
    fn parse(values: &[String]) -> Option<Self>;
}

macro_rules! path_ids {
    ($($id:ident),+) => {$(
        impl PathParameters for ids::$id {
            fn parse(values: &[String]) -> Option<Self> {
                values.first().and_then(|text| ids::$id::parse(text))
            }
        }
    )+};
}

path_ids!(UserId, GroupId, RoleId, OrganizationId, ApiKeyId, SessionId, DeviceId, EnrollmentTokenId, PolicyId);
path_ids!(WebhookId);

impl PathParameters for (ids::WebhookId, ids::DeliveryId) {
    fn parse(values: &[String]) -> Option<Self> {
        match values {
            [webhook, delivery] => Some((ids::WebhookId::parse(webhook)?, ids::DeliveryId::parse(delivery)?)),
            _ => None,
        }
    }
}

impl PathParameters for (ids::PolicyId, u64) {
    fn parse(values: &[String]) -> Option<Self> {
        match values {
            [policy, version] => Some((ids::PolicyId::parse(policy)?, version.parse().ok()?)),
            _ => None,
        }
    }
}

impl PathParameters for (ids::DeviceId, ids::CommandId) {
    fn parse(values: &[String]) -> Option<Self> {
        match values {
            [device, command] => Some((ids::DeviceId::parse(device)?, ids::CommandId::parse(command)?)),
            _ => None,
        }
    }
}

impl<T: PathParameters> Extract for Path<T> {
    type Prepared = ();

    fn prepare() {}

    fn extract((): &(), input: &Input) -> Result<Self, Failure> {
        T::parse(input.path).map(Self).ok_or_else(|| Error::NotFound("resource").into())
    }

    // The path's template already names its parameters.
    fn describe(_: &mut Operation, _: &mut SchemaGenerator) {}
}

/// The query's parameters.
pub struct Query<T>(pub T);

impl<T: JsonSchema + DeserializeOwned + Send + 'static> Extract for Query<T> {
    type Prepared = Checker<T>;

    fn prepare() -> Checker<T> {
        Checker::for_type()
    }

    fn extract(checker: &Checker<T>, input: &Input) -> Result<Self, Failure> {
        checker.check_query(input.query).map(Self).map_err(|errors| Failure::fields("invalid query", errors))
    }

    fn describe(operation: &mut Operation, generator: &mut SchemaGenerator) {
        operation.query(&T::json_schema(generator));
    }
}

/// A JSON body.
pub struct Json<T>(pub T);

impl<T: JsonSchema + DeserializeOwned + Send + 'static> Extract for Json<T> {
    type Prepared = Checker<T>;
    const BODY: bool = true;

    fn prepare() -> Checker<T> {
        Checker::for_type()
    }

    fn extract(checker: &Checker<T>, input: &Input) -> Result<Self, Failure> {
        // Of no body it is better said what is missing in it than of which type it is not.
        if input.body.is_empty() && !input.headers.contains_key(CONTENT_TYPE) {
            return check_body(checker, b"{}").map(Self);
        }
        require_type(input.headers, "application/json")?;
        check_body(checker, &input.body).map(Self)
    }

    fn describe(operation: &mut Operation, generator: &mut SchemaGenerator) {
        operation.json_body(&generator.subschema_for::<T>(), true);
    }
}

/// A JSON body that may be left out; the default then.
pub struct OptionalJson<T>(pub T);

impl<T: JsonSchema + DeserializeOwned + Default + Send + 'static> Extract for OptionalJson<T> {
    type Prepared = Checker<T>;
    const BODY: bool = true;

    fn prepare() -> Checker<T> {
        Checker::for_type()
    }

    fn extract(checker: &Checker<T>, input: &Input) -> Result<Self, Failure> {
        if input.body.is_empty() {
            return Ok(Self(T::default()));
        }
        require_type(input.headers, "application/json")?;
        check_body(checker, &input.body).map(Self)
    }

    fn describe(operation: &mut Operation, generator: &mut SchemaGenerator) {
        operation.json_body(&generator.subschema_for::<T>(), false);
    }
}

/// A table as CSV (RFC 4180) in UTF-8, here without the byte order mark that it may start with.
pub struct Csv(pub String);

impl Extract for Csv {
    type Prepared = ();
    const BODY: bool = true;

    fn prepare() {}

    fn extract((): &(), input: &Input) -> Result<Self, Failure> {
        require_type(input.headers, "text/csv")?;
        let text = std::str::from_utf8(&input.body);
        let text = text.map_err(|_| Failure::new(StatusCode::BAD_REQUEST, INVALID_BODY, "the body is not UTF-8"))?;
        Ok(Self(text.strip_prefix('\u{feff}').unwrap_or(text).to_owned()))
    }

    fn describe(operation: &mut Operation, _: &mut SchemaGenerator) {
        operation.text_body("text/csv", "RFC 4180, in UTF-8; the first line names the columns");
    }
}

/// A file of up to `MOST` bytes, which lies on disk when the handler gets it.
pub struct OctetStream<const MOST: u64>(pub Upload);

impl<const MOST: u64> Extract for OctetStream<MOST> {
    type Prepared = ();
    const UPLOAD: u64 = MOST;

    fn prepare() {}

    fn extract((): &(), input: &Input) -> Result<Self, Failure> {
        let missing = || Failure::new(StatusCode::BAD_REQUEST, INVALID_BODY, "there is no file in it");
        input.upload.clone().map(Self).ok_or_else(missing)
    }

    fn describe(operation: &mut Operation, _: &mut SchemaGenerator) {
        operation.file_body("application/octet-stream");
    }
}

pub(super) fn require_type(headers: &HeaderMap, wanted: &str) -> Result<(), Failure> {
    let media_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    let essence = media_type.split(';').next().unwrap_or("").trim();
    if essence.eq_ignore_ascii_case(wanted) {
        return Ok(());
    }
    let details = format!("send Content-Type: {wanted}");
    Err(Failure::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported media type", details))
}

fn check_body<T: JsonSchema + DeserializeOwned>(checker: &Checker<T>, body: &[u8]) -> Result<T, Failure> {
    let value = schema::parse(body).map_err(|details| Failure::new(StatusCode::BAD_REQUEST, INVALID_BODY, details))?;
    checker.check(value).map_err(|errors| Failure::fields(INVALID_BODY, errors))
}

/// The revision that `If-Match` asks for; `None` when any will do.
#[derive(Clone, Copy, Debug)]
pub struct IfMatch(pub Option<u64>);

impl Extract for IfMatch {
    type Prepared = ();

    fn prepare() {}

    fn extract((): &(), input: &Input) -> Result<Self, Failure> {
        let Some(value) = input.headers.get(IF_MATCH) else { return Ok(Self(None)) };
        match value.to_str().unwrap_or("").trim() {
            "*" => Ok(Self(None)),
            // A tag that is not ours matches no version of anything.
            text => Tag::revision_in(text).map(|revision| Self(Some(revision))).ok_or_else(|| Error::Stale.into()),
        }
    }

    fn describe(operation: &mut Operation, _: &mut SchemaGenerator) {
        operation.header("If-Match", "The ETag that the resource must still have; otherwise 412");
    }
}

/// Where a client of an event stream has come to.
pub struct LastEventId(pub Option<String>);

impl Extract for LastEventId {
    type Prepared = ();

    fn prepare() {}

    fn extract((): &(), input: &Input) -> Result<Self, Failure> {
        let value = input.headers.get("last-event-id");
        Ok(Self(value.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())))
    }

    fn describe(operation: &mut Operation, _: &mut SchemaGenerator) {
        operation.header("Last-Event-ID", "The id of the last event that was received: the stream goes on after it");
    }
}

/// The name or address, with the port, by which the client has come; one of the appliance's own.
pub struct Host(pub String);

impl Extract for Host {
    type Prepared = ();

    fn prepare() {}

    fn extract((): &(), input: &Input) -> Result<Self, Failure> {
        Ok(Self(input.host.into()))
    }

    fn describe(_: &mut Operation, _: &mut SchemaGenerator) {}
}

/// What the client calls itself, at most 200 characters of it.
pub struct UserAgent(pub Option<String>);

impl Extract for UserAgent {
    type Prepared = ();

    fn prepare() {}

    fn extract((): &(), input: &Input) -> Result<Self, Failure> {
        let text = input.headers.get(USER_AGENT).and_then(|value| value.to_str().ok());
        Ok(Self(text.map(|text| text.chars().take(200).collect())))
    }

    fn describe(_: &mut Operation, _: &mut SchemaGenerator) {}
}

/// Tells a member that is `null` from one that is not there.
pub fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}
