//! Typed answers, and the one shape of every error.

use std::cell::RefCell;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_DISPOSITION, CONTENT_TYPE, ETAG, HeaderName, LOCATION, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use http_body_util::{Either, Full};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Serialize;

use super::openapi::Operation;
use super::stream::Stream;
use crate::error::{Error, FieldError};
use crate::ids::RequestId;

pub type Body = Either<Full<Bytes>, Stream>;

/// Room for the headers of nearly every answer, which would otherwise grow there step by step.
const HEADERS: usize = 12;

/// Bytes that a thread keeps allocated for the next answer.
const KEPT: usize = 64 * 1024;

thread_local! {
    /// Where JSON is written before its length is known.
    static DRAFT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

fn to_json(value: &impl Serialize) -> serde_json::Result<Bytes> {
    DRAFT.with_borrow_mut(|draft| {
        draft.clear();
        draft.shrink_to(KEPT);
        serde_json::to_writer(&mut *draft, value)?;
        Ok(Bytes::copy_from_slice(draft))
    })
}

/// An answer before the headers that every answer gets.
#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// What comes instead of `body`, piece by piece.
    pub stream: Option<Stream>,
}

impl Reply {
    pub fn empty(status: StatusCode) -> Self {
        Self { status, headers: HeaderMap::with_capacity(HEADERS), body: Bytes::new(), stream: None }
    }

    pub fn json(status: StatusCode, value: &impl Serialize) -> Self {
        match to_json(value) {
            Ok(body) => Self::content(status, "application/json", body),
            Err(cause) => Failure::from(Error::internal(cause)).into_reply(None),
        }
    }

    pub fn content(status: StatusCode, media_type: &'static str, body: Bytes) -> Self {
        let mut reply = Self { body, ..Self::empty(status) };
        reply.headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
        reply
    }

    /// Tells the client in how many seconds to come back: whole ones, rounded up, so that who waits that long is let in.
    pub fn retry_after(self, wait: Duration) -> Self {
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        self.with(RETRY_AFTER, &seconds.max(1).to_string())
    }

    pub(super) fn with(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(name, value);
        }
        self
    }
}

/// What a handler answers with; its type tells the OpenAPI document status and schema.
pub trait Answer: Send {
    /// That of success; an answer with another one says so in [`Answer::describe`].
    const STATUS: StatusCode;
    const DESCRIPTION: &'static str;
    /// The answer carries an `ETag`.
    const TAGGED: bool = false;

    /// Media type and schema of the body, `None` for an answer without one. One that has several says so in
    /// [`Answer::describe`].
    fn schema(generator: &mut SchemaGenerator) -> Option<(&'static str, Schema)>;
    fn into_reply(self) -> Reply;

    fn describe(operation: &mut Operation, generator: &mut SchemaGenerator) {
        operation.answer(Self::STATUS, Self::DESCRIPTION, Self::TAGGED, Self::schema(generator));
    }
}

/// 200 with a JSON body.
pub struct Json<T>(pub T);

/// 201 with a JSON body and the new resource's place.
pub struct Created<T> {
    pub location: String,
    pub resource: T,
}

/// 204.
pub struct NoContent;

/// An answer that a browser saves as a file of this name, which is a token (RFC 9110, section 5.6.2).
pub struct Attachment<A> {
    pub name: String,
    pub answer: A,
}

/// An answer with a strong entity tag.
pub struct Tagged<A> {
    pub tag: Tag,
    pub answer: A,
}

impl<T: Serialize + JsonSchema + Send> Answer for Json<T> {
    const STATUS: StatusCode = StatusCode::OK;
    const DESCRIPTION: &'static str = "Request succeeded";

    fn schema(generator: &mut SchemaGenerator) -> Option<(&'static str, Schema)> {
        Some(("application/json", generator.subschema_for::<T>()))
    }

    fn into_reply(self) -> Reply {
        Reply::json(Self::STATUS, &self.0)
    }
}

impl<T: Serialize + JsonSchema + Send> Answer for Created<T> {
    const STATUS: StatusCode = StatusCode::CREATED;
    const DESCRIPTION: &'static str = "Resource created successfully";

    fn schema(generator: &mut SchemaGenerator) -> Option<(&'static str, Schema)> {
        Some(("application/json", generator.subschema_for::<T>()))
    }

    fn into_reply(self) -> Reply {
        Reply::json(Self::STATUS, &self.resource).with(LOCATION, &self.location)
    }
}

impl Answer for NoContent {
    const STATUS: StatusCode = StatusCode::NO_CONTENT;
    const DESCRIPTION: &'static str = "Request succeeded, no content returned";

    fn schema(_: &mut SchemaGenerator) -> Option<(&'static str, Schema)> {
        None
    }

    fn into_reply(self) -> Reply {
        Reply::empty(Self::STATUS)
    }
}

impl<A: Answer> Answer for Attachment<A> {
    const STATUS: StatusCode = A::STATUS;
    const DESCRIPTION: &'static str = A::DESCRIPTION;

    fn schema(generator: &mut SchemaGenerator) -> Option<(&'static str, Schema)> {
        A::schema(generator)
    }

    fn into_reply(self) -> Reply {
        self.answer.into_reply().with(CONTENT_DISPOSITION, &format!("attachment; filename={}", self.name))
    }
}

impl<A: Answer> Answer for Tagged<A> {
    const STATUS: StatusCode = A::STATUS;
    const DESCRIPTION: &'static str = A::DESCRIPTION;
    const TAGGED: bool = true;

    fn schema(generator: &mut SchemaGenerator) -> Option<(&'static str, Schema)> {
        A::schema(generator)
    }

    fn into_reply(self) -> Reply {
        self.answer.into_reply().with(ETAG, &self.tag.to_string())
    }
}

/// A strong entity tag (RFC 9110, section 8.8.3).
///
/// `If-None-Match` compares the whole tag. `If-Match` guards against lost updates, so it compares the revision alone:
/// a heartbeat between read and write is no conflict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tag {
    /// Of a stored resource: its revision, and a hash of what else the representation shows that changes without one
    /// (when a device was last seen).
    Resource { revision: u64, shown: u64 },
    /// Of something that is computed: a hash of it.
    Content(u128),
}

impl Tag {
    pub const fn revision(revision: u64) -> Self {
        Self::Resource { revision, shown: 0 }
    }

    /// `shown` is what the representation shows beside the stored resource.
    pub fn of(revision: u64, shown: &impl std::hash::Hash) -> Self {
        use std::hash::{DefaultHasher, Hasher};
        let mut hasher = DefaultHasher::new();
        shown.hash(&mut hasher);
        Self::Resource { revision, shown: hasher.finish() }
    }

    /// The hash in the text of a tag of something computed.
    pub fn content_in(text: &str) -> Option<u128> {
        let hash = text.strip_prefix('"')?.strip_suffix('"')?;
        (hash.len() == 32).then(|| u128::from_str_radix(hash, 16).ok())?
    }

    /// The revision in the text of a resource's tag.
    pub fn revision_in(text: &str) -> Option<u64> {
        let (revision, shown) = text.strip_prefix('"')?.strip_suffix('"')?.split_once('.')?;
        shown.parse::<u64>().ok()?;
        revision.parse().ok()
    }
}

impl std::fmt::Display for Tag {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Resource { revision, shown } => write!(f, "\"{revision}.{shown}\""),
            Self::Content(hash) => write!(f, "\"{hash:032x}\""),
        }
    }
}

/// One page of a list.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Page<T> {
    pub data: Vec<T>,
    /// How many there are on all pages together.
    pub total: u64,
    pub page: u64,
    pub page_size: u64,
    pub total_pages: u64,
}

/// A refusal with its status; what [`Error`] becomes on the wire, and what only HTTP knows to refuse.
#[derive(Debug)]
pub struct Failure {
    pub status: StatusCode,
    pub message: String,
    pub details: String,
    errors: Vec<FieldError>,
    retry_after: Option<Duration>,
    allow: Vec<Method>,
}

impl Failure {
    pub fn new(status: StatusCode, message: impl Into<String>, details: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
            details: details.into(),
            errors: Vec::new(),
            retry_after: None,
            allow: Vec::new(),
        }
    }

    pub fn fields(message: &str, errors: Vec<FieldError>) -> Self {
        let details = errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        Self { errors, ..Self::new(StatusCode::BAD_REQUEST, message, details) }
    }

    pub fn method_not_allowed(allow: Vec<Method>) -> Self {
        let names = allow.iter().map(Method::as_str).collect::<Vec<_>>().join(", ");
        let details = format!("this path answers {names}");
        Self { allow, ..Self::new(StatusCode::METHOD_NOT_ALLOWED, "method not allowed", details) }
    }

    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    pub fn into_reply(self, request_id: Option<RequestId>) -> Reply {
        #[derive(Serialize)]
        struct Wire<'a> {
            code: u16,
            message: &'a str,
            details: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            request_id: Option<RequestId>,
            #[serde(skip_serializing_if = "Vec::is_empty")]
            errors: Vec<WireField<'a>>,
        }
        #[derive(Serialize)]
        struct WireField<'a> {
            field: &'a str,
            message: &'a str,
        }
        let errors = self.errors.iter().map(|e| WireField { field: &e.field, message: &e.message }).collect();
        let (code, message, details) = (self.status.as_u16(), &*self.message, &*self.details);
        let mut reply = Reply::json(self.status, &Wire { code, message, details, request_id, errors });
        if let Some(wait) = self.retry_after {
            reply = reply.retry_after(wait);
        }
        if !self.allow.is_empty() {
            let names = self.allow.iter().map(Method::as_str).collect::<Vec<_>>().join(", ");
            reply = reply.with(ALLOW, &names);
        }
        reply
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let details = error.to_string();
        match error {
            Error::Invalid(errors) => Self::fields("invalid request body", errors),
            // The contract words this one as the message.
            Error::Unauthenticated(message) => Self::new(StatusCode::UNAUTHORIZED, message, "sign in and try again"),
            Error::Forbidden(_) => Self::new(StatusCode::FORBIDDEN, "insufficient permissions", details),
            Error::NotFound(_) => Self::new(StatusCode::NOT_FOUND, "not found", details),
            Error::Conflict(_) => Self::new(StatusCode::CONFLICT, "conflict", details),
            Error::Stale => Self::new(StatusCode::PRECONDITION_FAILED, "precondition failed", details),
            Error::TooMany { message, retry_after } => {
                let details = "too many attempts in a short time";
                Self::new(StatusCode::TOO_MANY_REQUESTS, message, details).retry_after(retry_after)
            }
            Error::Unavailable { retry_after, .. } => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "service unavailable", details).retry_after(retry_after)
            }
            Error::Internal(cause) => {
                tracing::error!(%cause, "internal error");
                let details = "the appliance's log says more under this request id";
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal server error", details)
            }
        }
    }
}
