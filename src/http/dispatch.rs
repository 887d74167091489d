//! The way of a request, in one function: [`Dispatch::answer`] is the wrapper around it, [`Dispatch::walk`] the way.

use std::net::{IpAddr, SocketAddr};
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::FutureExt;
use http::header::{CONNECTION, CONTENT_LENGTH, ETAG, IF_NONE_MATCH, STRICT_TRANSPORT_SECURITY, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body_util::{BodyExt, Either, Full, Limited};
use ring::digest;
use uuid::Uuid;

use super::extract::{Input, require_type};
use super::limits::{Limits, Verdict};
use super::metrics::Requests;
use super::peer::{UnknownProxy, client_address};
use super::respond::{Body, Failure, Reply};
use super::route::{Access, RateClass, Route};
use super::router::{BASE, Router};
use super::upload::Upload;
use super::{assets, authn, reference};
use crate::clock::{Clock, Time};
use crate::domain::Services;
use crate::domain::authz::Permission;
use crate::domain::op::{Op, Presented, Principal};
use crate::error::Error;
use crate::ids::{Ids, RequestId};
use crate::store::idempotency::{self, Idempotency};

/// A request's body, at most.
const MAX_BODY: usize = 1024 * 1024;
/// How long a client over HTTP/2 may go on sending what nobody waits for, once there is an answer.
const HEARING: Duration = Duration::from_secs(1);
/// From the end of the headers to the end of the body, at most.
const BODY_TIME: Duration = Duration::from_secs(30);
/// From the end of the body to the answer, at most: longer than the longest wait that a client may ask for.
const WORK_TIME: Duration = Duration::from_secs(50);
/// Outside the API: for the machine's own monitoring, and for whoever may administer the system.
const METRICS: &str = "/metrics";

/// Half a year, for the one host: short enough that a change of mind is not for ever.
const HSTS: &str = "max-age=15552000";

pub struct Dispatch {
    pub services: Arc<Services>,
    pub router: Router,
    pub limits: Limits,
    pub requests: Requests,
    pub clock: Arc<dyn Clock>,
    pub ids: Arc<Ids>,
    pub is_trusted_proxy: Box<dyn Fn(IpAddr) -> bool + Send + Sync>,
    pub unknown_proxy: Arc<UnknownProxy>,
    /// Where files that are sent are put until they have been looked at.
    pub uploads: PathBuf,
    /// Whether a `Host` is one of the appliance's names or addresses.
    pub is_own_name: Box<dyn Fn(&str) -> bool + Send + Sync>,
    /// Whether browsers trust the certificate that they are shown for a `Host`.
    pub is_publicly_trusted: Box<dyn Fn(&str) -> bool + Send + Sync>,
}

/// What the wrapper learns on the way, for the log line and the headers.
#[derive(Default)]
struct Trail {
    route: Option<&'static str>,
    /// Its place among the routes.
    place: Option<usize>,
    principal: Option<Principal>,
    verdict: Option<Verdict>,
}

impl Dispatch {
    /// Answers any request: request id, panics caught, errors in their one shape, headers, one log line.
    ///
    /// `entrance`: see [`Op::entrance`]. `shown`: the certificate of the connection's other end.
    pub async fn answer<B>(
        &self,
        request: Request<B>,
        socket: SocketAddr,
        entrance: u64,
        shown: Option<Presented>,
    ) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send + Unpin,
        B::Error: std::error::Error + Send + Sync + 'static,
    {
        let started = Instant::now();
        let request_id: RequestId = self.ids.next();
        let now = self.clock.now();
        let peer = client_address(socket.ip(), request.headers(), &self.is_trusted_proxy);
        self.unknown_proxy.note(socket.ip(), request.headers(), (self.is_trusted_proxy)(socket.ip().to_canonical()));
        let (parts, mut body) = request.into_parts();
        let mut trail = Trail::default();

        let op = Op { principal: Principal::Anonymous, request_id, peer, entrance, now, idempotency: None };
        let walk = self.walk(&parts, &mut body, op, shown, &mut trail);
        let outcome = match AssertUnwindSafe(walk).catch_unwind().await {
            Ok(outcome) => outcome,
            Err(_) => Err(Error::Internal("a handler panicked".into()).into()),
        };
        let mut reply = match outcome {
            Ok(reply) => not_modified(&parts.method, &parts.headers, reply),
            Err(failure) => failure.into_reply(Some(request_id)),
        };
        let verdict = match trail.verdict {
            None if is_api(parts.uri.path()) => Some(self.limits.by_address(peer)),
            verdict => verdict,
        };

        let over_limit = reply.status == StatusCode::TOO_MANY_REQUESTS
            && verdict.is_some_and(|verdict| verdict.retry_after.is_some());
        self.requests.count(trail.place, reply.status, started.elapsed(), over_limit);
        let request_id = request_id.to_string();
        log(&parts, &reply, &trail, peer, &request_id, started.elapsed());
        let stream = reply.stream.take();
        let mut response = finish(reply, &parts.method, request_id, verdict, now);
        // A browser lets nobody past a certificate that it does not trust once it has seen this: only where it does.
        if (self.is_publicly_trusted)(host(&parts)) {
            response.headers_mut().insert(STRICT_TRANSPORT_SECURITY, HeaderValue::from_static(HSTS));
        }
        // What is left of the body stands before the next request, so that there can be none on this connection; a
        // client that is not told would send it into the void (RFC 9112, section 9.3).
        if parts.version < Version::HTTP_2 && !is_spent(&mut body) {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        if parts.version == Version::HTTP_2 {
            hear_out(&mut body).await;
        }
        match stream {
            None => response.map(|body| Either::Left(Full::new(body))),
            Some(stream) => {
                // Nobody knows how long it will be.
                response.headers_mut().remove(CONTENT_LENGTH);
                let is_head = parts.method == Method::HEAD;
                response.map(|_| if is_head { Either::Left(Full::default()) } else { Either::Right(stream) })
            }
        }
    }

    /// Answers what the network's edge could not read as a request, with what every other error carries.
    pub fn refuse(&self, status: StatusCode, message: &str, details: String, socket: SocketAddr) -> Response<Bytes> {
        let request_id: RequestId = self.ids.next();
        let peer = socket.ip();
        let verdict = self.limits.by_address(peer);
        tracing::info!(status = status.as_u16(), %peer, %request_id, "refused: {message}");
        let reply = Failure::new(status, message, details).into_reply(Some(request_id));
        finish(reply, &Method::GET, request_id.to_string(), Some(verdict), self.clock.now())
    }

    async fn walk<B>(
        &self,
        parts: &http::request::Parts,
        body: &mut B,
        op: Op,
        shown: Option<Presented>,
        trail: &mut Trail,
    ) -> Result<Reply, Failure>
    where
        B: http_body::Body<Data = Bytes> + Send + Unpin,
        B::Error: std::error::Error + Send + Sync + 'static,
    {
        self.check_host(parts)?;
        if parts.uri.path() == METRICS {
            return self.metrics(parts, &op, trail).await;
        }
        let Op { request_id, peer, entrance, now, .. } = op;
        // Find the route: 404, 405. Whoever finds none is counted as elsewhere: a mistyped path of one who is signed in
        // takes nothing from the others at the same address.
        let found = match self.router.find(&parts.method, parts.uri.path()) {
            Ok(found) => found,
            Err(failure) => {
                if parts.uri.path() == reference::PATH && matches!(parts.method, Method::GET | Method::HEAD) {
                    return Ok(assets::made(reference::page(self.router.routes())));
                }
                if !is_api(parts.uri.path())
                    && let Some(file) = assets::find(&parts.method, parts.uri.path(), &parts.headers)
                {
                    return Ok(file);
                }
                let principal = authn::identify(&self.services, &op, &parts.headers, shown).await;
                self.limit(RateClass::Standard, &principal.unwrap_or(Principal::Anonymous), peer, trail)?;
                return Err(failure);
            }
        };
        let Route { access, rate, endpoint, .. } = found.route;
        trail.route = Some(found.route.path);
        trail.place = Some(found.place);
        if *access != Access::Open && !self.services.is_set_up() {
            return Err(not_set_up());
        }
        // Who is it, and within which limit: by principal for good credentials, by address for none or bad ones.
        let principal = match authn::identify(&self.services, &op, &parts.headers, shown).await {
            Ok(principal) => principal,
            Err(_) if access.is_public() => Principal::Anonymous,
            Err(error) => {
                self.limit(*rate, &Principal::Anonymous, peer, trail)?;
                return Err(error.into());
            }
        };
        self.limit(*rate, &principal, peer, trail)?;
        trail.principal = Some(principal.clone());
        // May they: 401, 403.
        access.check(&principal)?;
        // Decode within bounds: 400, 413, 415.
        let upload = match endpoint.takes_upload() {
            0 => None,
            most => {
                require_type(&parts.headers, "application/octet-stream")?;
                Some(Upload::receive(&mut *body, most, &self.uploads).await?)
            }
        };
        let body = if endpoint.reads_body() { read_body(body).await? } else { Bytes::new() };
        let idempotency = self.idempotency(parts, &principal, &body, now)?;
        let op = Op { principal, request_id, peer, entrance, now, idempotency };
        let query = parts.uri.query().unwrap_or("");
        let (path, headers) = (&found.parameters[..], &parts.headers);
        let input = Input { path, query, headers, host: host(parts), body, upload };
        // Handler, domain rule, one transaction, typed answer.
        match tokio::time::timeout(WORK_TIME, endpoint.call(&self.services, op, input)).await {
            Ok(answer) => answer,
            Err(_) => Err(Error::Unavailable {
                message: "the request took too long".into(),
                retry_after: Duration::from_secs(5),
            }
            .into()),
        }
    }

    /// Loopback needs no token, unless it is a proxy that speaks for somebody else.
    async fn metrics(&self, parts: &http::request::Parts, op: &Op, trail: &mut Trail) -> Result<Reply, Failure> {
        const SPEAKS_FOR_ANOTHER: [&str; 4] = ["forwarded", "via", "x-forwarded-for", "x-real-ip"];
        trail.route = Some(METRICS);
        let peer = op.peer;
        let found = authn::identify(&self.services, op, &parts.headers, None).await;
        let principal = found.as_ref().map_or(&Principal::Anonymous, |principal| principal);
        self.limit(RateClass::Standard, principal, peer, trail)?;
        if parts.method != Method::GET && parts.method != Method::HEAD {
            return Err(Failure::method_not_allowed(vec![Method::GET, Method::HEAD]));
        }
        let is_direct = !SPEAKS_FOR_ANOTHER.iter().any(|name| parts.headers.contains_key(*name));
        let is_near = peer.is_loopback() && is_direct && !parts.headers.contains_key(http::header::AUTHORIZATION);
        if !is_near {
            let principal = found?;
            Access::needs(Permission::SystemAdmin).check(&principal)?;
            trail.principal = Some(principal);
        }
        Ok(self.requests.page(&self.services.status()?))
    }

    fn limit(&self, rate: RateClass, principal: &Principal, peer: IpAddr, trail: &mut Trail) -> Result<(), Failure> {
        let RateClass::Standard = rate;
        let tier = principal.organization_id().map(|organization| self.services.tier(organization));
        let by_principal = tier.and_then(|tier| self.limits.by_principal(principal, tier));
        let verdict = by_principal.unwrap_or_else(|| self.limits.by_address(peer));
        trail.verdict = Some(verdict);
        let Some(wait) = verdict.retry_after else { return Ok(()) };
        let details = format!("more than {} requests a minute", verdict.limit);
        Err(Failure::new(StatusCode::TOO_MANY_REQUESTS, "rate limit exceeded", details).retry_after(wait))
    }

    /// A foreign `Host` is a page elsewhere that was talked into sending its visitors here (DNS rebinding).
    fn check_host(&self, parts: &http::request::Parts) -> Result<(), Failure> {
        let host = host(parts);
        if (self.is_own_name)(host) {
            return Ok(());
        }
        let details =
            format!("{host:?} is none of this appliance's names: add it to server.names in the configuration");
        Err(Failure::new(StatusCode::MISDIRECTED_REQUEST, "misdirected request", details))
    }

    fn idempotency(
        &self,
        parts: &http::request::Parts,
        principal: &Principal,
        body: &Bytes,
        now: Time,
    ) -> Result<Option<Idempotency>, Failure> {
        let Some(key) = parts.headers.get("idempotency-key").filter(|_| parts.method == Method::POST) else {
            return Ok(None);
        };
        if key.is_empty() || key.len() > 255 {
            let details = "Idempotency-Key must have 1 to 255 characters";
            return Err(Failure::new(StatusCode::BAD_REQUEST, "invalid header", details));
        }
        let target = parts.uri.path_and_query().map_or("", http::uri::PathAndQuery::as_str);
        let fingerprint = hash(&[b"request", target.as_bytes(), body]);
        // Strangers share no keys: without a principal, the same key on another request is another key.
        let owner = principal.key().map_or_else(|| fingerprint.to_vec(), |id| id.to_vec());
        let idempotency = Idempotency {
            id: hash(&[b"id", &owner, key.as_bytes()]),
            fingerprint,
            secret: hash(&[b"secret", key.as_bytes()]),
        };
        if idempotency::conflicts(&self.services.store.snapshot()?, &idempotency, now)? {
            return Err(Error::Conflict("this Idempotency-Key was used for another request".into()).into());
        }
        Ok(Some(idempotency))
    }
}

fn host(parts: &http::request::Parts) -> &str {
    let header = || parts.headers.get(http::header::HOST).and_then(|value| value.to_str().ok());
    parts.uri.authority().map(http::uri::Authority::as_str).or_else(header).unwrap_or("")
}

fn hash(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

async fn read_body<B>(body: B) -> Result<Bytes, Failure>
where
    B: http_body::Body<Data = Bytes> + Send + Unpin,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    let too_large = || {
        let details = format!("a request body may have at most {MAX_BODY} bytes");
        Failure::new(StatusCode::PAYLOAD_TOO_LARGE, "request body too large", details)
    };
    // What announces itself as too large is not read at all.
    if body.size_hint().lower() > MAX_BODY as u64 {
        return Err(too_large());
    }
    match tokio::time::timeout(BODY_TIME, Limited::new(body, MAX_BODY).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => Err(Failure::new(StatusCode::BAD_REQUEST, "invalid request body", "the body broke off")),
        Err(_) => {
            let details = format!("the body did not arrive within {} seconds", BODY_TIME.as_secs());
            Err(Failure::new(StatusCode::BAD_REQUEST, "invalid request body", details))
        }
    }
}

/// Lets a client over HTTP/2 send what it has begun to, within bounds. An answer before that closes the stream, which a
/// client may take for a failure though it is none (RFC 9113, section 8.1); curl 7.88 then shows no answer at all.
async fn hear_out<B: http_body::Body<Data = Bytes> + Unpin>(body: &mut B) {
    let rest = async {
        let mut room = MAX_BODY;
        while let Some(Ok(frame)) = body.frame().await {
            match room.checked_sub(frame.data_ref().map_or(0, Bytes::len)) {
                Some(left) => room = left,
                None => return,
            }
        }
    };
    // Too late is no harm: the answer is there.
    _ = tokio::time::timeout(HEARING, rest).await;
}

/// Whether nothing of the body is still to come. What has arrived of it is thrown away, within bounds.
fn is_spent<B: http_body::Body<Data = Bytes> + Unpin>(body: &mut B) -> bool {
    let mut room = MAX_BODY;
    loop {
        match body.frame().now_or_never() {
            Some(None) => return true,
            Some(Some(Ok(frame))) => match room.checked_sub(frame.data_ref().map_or(0, Bytes::len)) {
                Some(left) => room = left,
                None => return false,
            },
            Some(Some(Err(_))) | None => return false,
        }
    }
}

fn not_set_up() -> Failure {
    Error::Unavailable {
        message: "the appliance is not set up yet: POST /api/v1/setup with the setup code it printed at its start"
            .into(),
        retry_after: Duration::from_secs(10),
    }
    .into()
}

/// 304 when a GET's answer still has a tag that the client holds (RFC 9110, section 13.1.2).
fn not_modified(method: &Method, headers: &HeaderMap, reply: Reply) -> Reply {
    if (*method != Method::GET && *method != Method::HEAD) || reply.status != StatusCode::OK {
        return reply;
    }
    let Some(tag) = reply.headers.get(ETAG).cloned() else { return reply };
    let held = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let holds = |one: &str| one == "*" || one.strip_prefix("W/").unwrap_or(one).as_bytes() == tag.as_bytes();
    if !held.flat_map(|value| value.split(',')).any(|one| holds(one.trim())) {
        return reply;
    }
    let mut unchanged = Reply::empty(StatusCode::NOT_MODIFIED);
    unchanged.headers.insert(ETAG, tag);
    unchanged
}

fn is_api(path: &str) -> bool {
    path.strip_prefix(BASE).is_some_and(|below| below.is_empty() || below.starts_with('/'))
}

/// The headers that every answer carries.
fn finish(reply: Reply, method: &Method, request_id: String, verdict: Option<Verdict>, now: Time) -> Response<Bytes> {
    const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
    const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
    const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

    let length = reply.body.len();
    let body = if *method == Method::HEAD { Bytes::new() } else { reply.body };
    let mut response = Response::new(body);
    *response.status_mut() = reply.status;
    let headers = response.headers_mut();
    *headers = reply.headers;
    if *method == Method::HEAD {
        headers.insert(CONTENT_LENGTH, length.into());
    }
    if let Ok(value) = HeaderValue::try_from(request_id) {
        headers.insert(HeaderName::from_static("x-request-id"), value);
    }
    if let Some(verdict) = verdict {
        let full_at = now.unix().unsigned_abs() + verdict.full_after.as_millis().div_ceil(1000) as u64;
        headers.insert(LIMIT, verdict.limit.into());
        headers.insert(REMAINING, verdict.remaining.into());
        headers.insert(RESET, full_at.into());
    }
    if reply.status == StatusCode::UNAUTHORIZED {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    headers.insert(http::header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // What the API answers is somebody's data: no cache on the way keeps it.
    headers.entry(http::header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// One line a request. The path's query may hold what people typed, so the line has the route and the bare path.
fn log(parts: &http::request::Parts, reply: &Reply, trail: &Trail, peer: IpAddr, request_id: &str, took: Duration) {
    let actor = trail.principal.as_ref().and_then(Principal::key).map(|key| Uuid::from_bytes(key).to_string());
    tracing::info!(
        method = parts.method.as_str(),
        path = parts.uri.path(),
        route = trail.route,
        status = reply.status.as_u16(),
        bytes = reply.body.len(),
        micros = took.as_micros() as u64,
        %peer,
        actor,
        request_id,
        "request"
    );
}
