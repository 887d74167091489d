//! Requests that the appliance makes itself: to an address that was judged for each of them, and bounded in time and size,
//! whatever answers.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, USER_AGENT};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;
use url::{Position, Url};

use super::tls::provider;

mod egress;
mod kept;
mod names;
#[cfg(test)]
mod tests;

pub use egress::{Egress, MOST_ADDRESSES, Purpose, Unreachable, connect};
use kept::{Connection, Kept, Place};

/// From looking up the name to the end of the answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of an answer's body that are read; the connection is closed then.
const BODY: usize = 64 * 1024;

/// Whether a connection to the address may be made, with TLS or without; the error says what is there.
pub type Permit = dyn Fn(SocketAddr, bool) -> Result<(), String> + Send + Sync;

pub struct Client {
    egress: Arc<Egress>,
    purpose: Purpose,
    permit: Box<Permit>,
    tls: TlsConnector,
    kept: Kept,
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
        Ok(Self { egress, purpose, permit, tls: TlsConnector::from(Arc::new(config)), kept: Kept::default() })
    }

    /// Sends JSON, on a connection that is still there if the name leads to its address. What was answered counts as soon
    /// as its head has arrived; of its body, what comes in time. The receiver may get it twice, when it ends a connection
    /// just then.
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
        let sent = async {
            let (request, place) = aim(url, request)?;
            let addresses = self.addresses(&place).await?;
            // What fails on it may fail because it was old; some say so with 408 (RFC 9110, section 15.5.9).
            if let Some(mut connection) = self.kept.take(&place, &addresses)
                && let Ok(response) = send(&mut connection, request.clone()).await
                && response.status() != StatusCode::REQUEST_TIMEOUT
            {
                return Ok((response, connection, place));
            }
            let mut connection = self.open(&place, &addresses).await?;
            Ok::<_, String>((send(&mut connection, request).await?, connection, place))
        };
        let (response, connection, place) = timeout_at(deadline, sent).await.map_err(|_| silent(PATIENCE))??;
        let status = response.status().as_u16();
        let mut answer = Answer { status, body: Vec::new() };
        if let Ok(true) = timeout_at(deadline, read(response.into_body(), &mut answer.body)).await {
            self.kept.put(place, connection);
        }
        Ok(answer)
    }

    /// Sends any request to its absolute URI, on a connection of its own, and takes the whole answer, whose body may have
    /// 64 KiB.
    ///
    /// # Errors
    /// Why there is no answer, or not all of it within `patience`.
    pub async fn request(&self, request: Request<Bytes>, patience: Duration) -> Result<Response<Bytes>, String> {
        let url = request.uri().to_string();
        let whole = async {
            let (request, place) = aim(&url, request)?;
            let mut connection = self.open(&place, &self.addresses(&place).await?).await?;
            let (head, body) = send(&mut connection, request).await?.into_parts();
            let body = Limited::new(body, BODY).collect().await;
            let body = body.map_err(|cause| format!("the answer broke off: {cause}"))?;
            Ok(Response::from_parts(head, body.to_bytes()))
        };
        let answered: Result<_, String> = timeout(patience, whole).await.unwrap_or_else(|_| Err(silent(patience)));
        answered.map_err(|cause| format!("{url}: {cause}"))
    }

    /// Where the place may be reached now.
    async fn addresses(&self, (is_tls, host, port): &Place) -> Result<Vec<SocketAddr>, String> {
        let permit = |address| (self.permit)(address, *is_tls);
        self.egress.permitted(self.purpose, host, *port, permit).await
    }

    async fn open(&self, (is_tls, host, _): &Place, addresses: &[SocketAddr]) -> Result<Connection, String> {
        let (stream, address) = connect(addresses).await?;
        // The request is small, and nothing follows it.
        _ = stream.set_nodelay(true);
        let opened = if *is_tls {
            let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
            let name = ServerName::try_from(bare.to_owned()).map_err(|cause| cause.to_string())?;
            let stream = self.tls.connect(name, stream).await.map_err(|cause| format!("TLS: {cause}"))?;
            Connection::open(stream, address).await
        } else {
            Connection::open(stream, address).await
        };
        opened.map_err(|cause| cause.to_string())
    }
}

/// The request as it is sent to the place that the URL names.
fn aim(url: &str, request: Request<Bytes>) -> Result<(Request<Full<Bytes>>, Place), String> {
    let url = Url::parse(url).map_err(|cause| format!("{url} is no URL: {cause}"))?;
    let host = url.host().ok_or("the URL names no host")?.to_string();
    let port = url.port_or_known_default().ok_or("the URL has no port")?;
    let authority = url.port().map_or_else(|| host.clone(), |port| format!("{host}:{port}"));
    let mut request = request.map(Full::new);
    let path = &url[Position::BeforePath..Position::AfterQuery];
    *request.uri_mut() = path.parse().map_err(|cause| format!("{url} is no URL: {cause}"))?;
    let authority = HeaderValue::try_from(authority).map_err(|cause| cause.to_string())?;
    request.headers_mut().insert(HOST, authority);
    let agent = HeaderValue::from_static(concat!("Zero/", env!("CARGO_PKG_VERSION")));
    request.headers_mut().insert(USER_AGENT, agent);
    Ok((request, (url.scheme() == "https", host, port)))
}

fn silent(patience: Duration) -> String {
    format!("no answer within {} seconds", patience.as_secs())
}

async fn send(connection: &mut Connection, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, String> {
    let told = |cause: hyper::Error| match std::error::Error::source(&cause) {
        Some(source) => format!("no answer: {cause}: {source}"),
        None => format!("no answer: {cause}"),
    };
    connection.sender.ready().await.map_err(told)?;
    connection.sender.send_request(request).await.map_err(told)
}

/// An answer that ends early has been given all the same. Tells whether it was whole.
async fn read(mut body: Incoming, into: &mut Vec<u8>) -> bool {
    while into.len() < BODY {
        match body.frame().await {
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    into.extend_from_slice(&data[..data.len().min(BODY - into.len())]);
                }
            }
            Some(Err(_)) => return false,
            None => return true,
        }
    }
    false
}
