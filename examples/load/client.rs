//! Just enough of a client to keep a server busy: HTTP/1.1 over TLS on connections that stay open.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use crate::Fallible;

#[derive(Clone)]
pub struct Call {
    method: Method,
    uri: Uri,
    authorization: HeaderValue,
    body: Bytes,
}

impl Call {
    pub fn new(method: Method, path: &str, token: &str) -> Fallible<Self> {
        let authorization = HeaderValue::from_str(&format!("Bearer {token}"))?;
        Ok(Self { method, uri: path.parse()?, authorization, body: Bytes::new() })
    }

    pub fn body(self, body: &serde_json::Value) -> Self {
        Self { body: body.to_string().into(), ..self }
    }
}

/// A certificate and its key, in PEM.
pub struct Identity {
    pub certificate: String,
    pub key: String,
}

#[derive(Clone)]
pub struct Client {
    connector: TlsConnector,
    address: SocketAddr,
    host: HeaderValue,
}

impl Client {
    pub fn new(url: &str, ca: &Path) -> Fallible<Self> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(ca)?)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let tls = tls.with_root_certificates(roots).with_no_client_auth();
        let authority = url.strip_prefix("https://").ok_or("the URL is https")?;
        let port = authority.rsplit(':').next().unwrap_or_default().parse()?;
        let host = HeaderValue::from_str(authority)?;
        Ok(Self { connector: Arc::new(tls).into(), address: ([127, 0, 0, 1], port).into(), host })
    }

    /// Full handshakes a second, on so many connections at a time that each end with theirs. A server that asks is shown
    /// `identity`.
    pub async fn handshakes(
        &self,
        ca: &Path,
        identity: Option<&Identity>,
        at_a_time: usize,
        time: Duration,
    ) -> Fallible<f64> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(ca)?)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots);
        let mut tls = match identity {
            None => tls.with_no_client_auth(),
            Some(Identity { certificate, key }) => tls.with_client_auth_cert(
                vec![CertificateDer::from_pem_slice(certificate.as_bytes())?],
                PrivateKeyDer::from_pem_slice(key.as_bytes())?,
            )?,
        };
        tls.resumption = rustls::client::Resumption::disabled();
        let connector = TlsConnector::from(Arc::new(tls));
        let (address, before) = (self.address, Instant::now());
        let mut tasks = JoinSet::new();
        for _ in 0..at_a_time {
            let connector = connector.clone();
            tasks.spawn(async move {
                let mut count = 0.0;
                while before.elapsed() < time {
                    let socket = TcpStream::connect(address).await?;
                    socket.set_nodelay(true)?;
                    let mut stream = connector.connect(ServerName::try_from("localhost")?, socket).await?;
                    stream.shutdown().await?;
                    // The server has read it all, a certificate too, when it closes in order.
                    match stream.read_to_end(&mut Vec::new()).await {
                        Err(error) if error.kind() != std::io::ErrorKind::UnexpectedEof => return Err(error.into()),
                        _ => count += 1.0,
                    }
                }
                Fallible::Ok(count)
            });
        }
        let mut all = 0.0;
        while let Some(done) = tasks.join_next().await {
            all += done??;
        }
        Ok(all / before.elapsed().as_secs_f64())
    }

    pub async fn connect(&self) -> Fallible<Connection> {
        let socket = TcpStream::connect(self.address).await?;
        socket.set_nodelay(true)?;
        let tls = self.connector.connect(ServerName::try_from("localhost")?, socket).await?;
        let (sender, connection) = handshake(TokioIo::new(tls)).await?;
        // It ends with the sender; what goes wrong on it, the sender reports.
        tokio::spawn(connection);
        Ok(Connection { sender, host: self.host.clone() })
    }

    pub async fn crowd(&self, connections: usize) -> Fallible<Crowd> {
        let mut open = Vec::with_capacity(connections);
        for _ in 0..connections {
            open.push(self.connect().await?);
        }
        Ok(Crowd(open))
    }
}

pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
    host: HeaderValue,
}

impl Connection {
    /// The body of the answer, which must be a success.
    pub async fn send(&mut self, call: Call) -> Fallible<Bytes> {
        Ok(self.exchange(call).await?.1)
    }

    /// Reads an answer of any length and keeps none of it; tells its bytes.
    pub async fn drain(&mut self, call: Call) -> Fallible<usize> {
        let what = format!("{} {}", call.method, call.uri);
        let response = self.request(call).await?;
        let status = response.status();
        let (mut body, mut bytes) = (response.into_body(), 0);
        while let Some(frame) = body.frame().await {
            bytes += frame?.data_ref().map_or(0, Bytes::len);
        }
        if status.is_success() { Ok(bytes) } else { Err(format!("{what}: {status}").into()) }
    }

    pub async fn exchange(&mut self, call: Call) -> Fallible<(HeaderMap, Bytes)> {
        let what = format!("{} {}", call.method, call.uri);
        let (head, body) = self.request(call).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        if !head.status.is_success() {
            return Err(format!("{what}: {} {}", head.status, String::from_utf8_lossy(&body)).into());
        }
        Ok((head.headers, body))
    }

    async fn request(&mut self, call: Call) -> Fallible<Response<Incoming>> {
        let mut request = Request::new(Full::new(call.body.clone()));
        *request.method_mut() = call.method;
        *request.uri_mut() = call.uri;
        request.headers_mut().insert(HOST, self.host.clone());
        request.headers_mut().insert(AUTHORIZATION, call.authorization);
        if !call.body.is_empty() {
            request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        self.sender.ready().await?;
        Ok(self.sender.send_request(request).await?)
    }
}

/// Connections that are used at the same time, each for one request after another.
pub struct Crowd(Vec<Connection>);

impl Crowd {
    /// Sends what `next` makes until it makes no more, hands the answers to `take`, and tells how long it took.
    pub async fn run(
        &mut self,
        next: impl Fn() -> Option<Call> + Clone + Send + Sync + 'static,
        take: impl Fn(Bytes) + Clone + Send + Sync + 'static,
    ) -> Fallible<Duration> {
        let before = Instant::now();
        let mut tasks = JoinSet::new();
        for mut connection in self.0.drain(..) {
            let (next, take) = (next.clone(), take.clone());
            tasks.spawn(async move {
                while let Some(call) = next() {
                    take(connection.send(call).await?);
                }
                Fallible::Ok(connection)
            });
        }
        while let Some(ended) = tasks.join_next().await {
            self.0.push(ended??);
        }
        Ok(before.elapsed())
    }
}
