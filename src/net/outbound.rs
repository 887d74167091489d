//! Requests that the appliance makes itself: one on each connection, to an address that was judged, and bounded in time
//! and size, whatever answers.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, USER_AGENT};
use http::{HeaderValue, Method, Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;
use url::{Host, Position, Url};

use super::tls::provider;

mod egress;
mod names;
#[cfg(test)]
mod tests;

pub use egress::{Egress, MOST_ADDRESSES, Purpose, Unreachable};

/// From looking up the name to the end of the answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of an answer's head.
const HEAD: usize = 64 * 1024;
/// Bytes of an answer's body that are read; the connection is closed then.
const BODY: usize = 64 * 1024;

/// Whether a connection to the address may be made, with TLS or without; the error says what is there.
pub type Permit = dyn Fn(SocketAddr, bool) -> Result<(), String> + Send + Sync;

pub struct Client {
    egress: Arc<Egress>,
    purpose: Purpose,
    permit: Box<Permit>,
    tls: TlsConnector,
}

#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    /// The first 64 KiB at most.
    pub body: Vec<u8>,
}

#[derive(Debug, thiserror::Error)]
#[error("{}: {reason}", file.display())]
pub struct RootsError {
    file: PathBuf,
    reason: String,
}

impl Client {
    /// Trusts the public authorities, and those in `ca_file`.
    ///
    /// # Errors
    /// When the file cannot be read, or holds no certificate of an authority.
    pub fn new(
        egress: Arc<Egress>,
        purpose: Purpose,
        permit: Box<Permit>,
        ca_file: Option<&Path>,
    ) -> Result<Self, RootsError> {
        let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        if let Some(file) = ca_file {
            let wrong = |reason: String| RootsError { file: file.to_owned(), reason };
            let found = CertificateDer::pem_file_iter(file).map_err(|error| wrong(error.to_string()))?;
            let found = found.collect::<Result<Vec<_>, _>>().map_err(|error| wrong(error.to_string()))?;
            if found.is_empty() {
                return Err(wrong("holds no certificate in PEM".into()));
            }
            for certificate in found {
                roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
            }
        }
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(|error| RootsError { file: PathBuf::new(), reason: error.to_string() })?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { egress, purpose, permit, tls: TlsConnector::from(Arc::new(config)) })
    }

    /// Sends JSON. What was answered counts as soon as its head has arrived; of its body, what comes in time.
    ///
    /// # Errors
    /// Why there is no answer, in words for whoever runs the receiver.
    pub async fn post(&self, url: &str, headers: &[(&'static str, String)], body: String) -> Result<Answer, String> {
        let deadline = Instant::now() + PATIENCE;
        let mut request = Request::builder().method(Method::POST).header(CONTENT_TYPE, "application/json");
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let request = request.body(Bytes::from(body)).map_err(|cause| cause.to_string())?;
        // Ends the connection with this attempt.
        let mut driver = JoinSet::new();
        let response = timeout_at(deadline, self.exchange(url, request, &mut driver)).await;
        let response = response.map_err(|_| silent(PATIENCE))??;
        let status = response.status().as_u16();
        let mut answer = Answer { status, body: Vec::new() };
        _ = timeout_at(deadline, read(response.into_body(), &mut answer.body)).await;
        Ok(answer)
    }

    /// Sends any request to its absolute URI, and takes the whole answer, whose body may have 64 KiB.
    ///
    /// # Errors
    /// Why there is no answer, or not all of it within `patience`.
    pub async fn request(&self, request: Request<Bytes>, patience: Duration) -> Result<Response<Bytes>, String> {
        let url = request.uri().to_string();
        let whole = async {
            let mut driver = JoinSet::new();
            let response = self.exchange(&url, request, &mut driver).await?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, BODY).collect().await;
            let body = body.map_err(|cause| format!("the answer broke off: {cause}"))?;
            Ok(Response::from_parts(head, body.to_bytes()))
        };
        let answered: Result<_, String> = timeout(patience, whole).await.unwrap_or_else(|_| Err(silent(patience)));
        answered.map_err(|cause| format!("{url}: {cause}"))
    }

    /// `request`, with its method, headers and body, to `url`.
    async fn exchange(
        &self,
        url: &str,
        request: Request<Bytes>,
        driver: &mut JoinSet<()>,
    ) -> Result<Response<Incoming>, String> {
        let url = Url::parse(url).map_err(|cause| format!("{url} is no URL: {cause}"))?;
        let is_tls = url.scheme() == "https";
        let host = url.host().ok_or("the URL names no host")?;
        let port = url.port_or_known_default().ok_or("the URL has no port")?;
        let authority = url.port().map_or_else(|| host.to_string(), |port| format!("{host}:{port}"));
        let mut request = request.map(Full::new);
        let path = &url[Position::BeforePath..Position::AfterQuery];
        *request.uri_mut() = path.parse().map_err(|cause| format!("{url} is no URL: {cause}"))?;
        let authority = HeaderValue::try_from(authority).map_err(|cause| cause.to_string())?;
        request.headers_mut().insert(HOST, authority);
        let agent = HeaderValue::from_static(concat!("Zero/", env!("CARGO_PKG_VERSION")));
        request.headers_mut().insert(USER_AGENT, agent);
        let permit = |address| (self.permit)(address, is_tls);
        let stream = self.egress.connect(self.purpose, &host.to_string(), port, permit).await?;
        // The request is small, and nothing follows it.
        _ = stream.set_nodelay(true);
        if !is_tls {
            return send(stream, request, driver).await;
        }
        let name = match host {
            Host::Domain(name) => ServerName::try_from(name.to_owned()).map_err(|cause| cause.to_string())?,
            Host::Ipv4(ip) => ServerName::from(IpAddr::V4(ip)),
            Host::Ipv6(ip) => ServerName::from(IpAddr::V6(ip)),
        };
        let stream = self.tls.connect(name, stream).await.map_err(|cause| format!("TLS: {cause}"))?;
        send(stream, request, driver).await
    }
}

fn silent(patience: Duration) -> String {
    format!("no answer within {} seconds", patience.as_secs())
}

async fn send<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
    stream: S,
    request: Request<Full<Bytes>>,
    driver: &mut JoinSet<()>,
) -> Result<Response<Incoming>, String> {
    let handshake = http1::Builder::new().max_buf_size(HEAD).handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|cause| cause.to_string())?;
    driver.spawn(async move { _ = connection.await });
    sender.send_request(request).await.map_err(|cause| match std::error::Error::source(&cause) {
        Some(source) => format!("no answer: {cause}: {source}"),
        None => format!("no answer: {cause}"),
    })
}

/// An answer that ends early has been given all the same.
async fn read(mut body: Incoming, into: &mut Vec<u8>) {
    while into.len() < BODY
        && let Some(Ok(frame)) = body.frame().await
    {
        if let Ok(data) = frame.into_data() {
            into.extend_from_slice(&data[..data.len().min(BODY - into.len())]);
        }
    }
}
