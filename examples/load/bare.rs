//! What the appliance is compared with: hyper and rustls with nothing in between, and redb with nothing around it.

use std::collections::HashMap;
use std::convert::Infallible;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use redb::{Database, TableDefinition};
use rustls::pki_types::PrivateKeyDer;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use uuid::Uuid;

use crate::Fallible;
use crate::process::Server;

/// By path and query: headers and body.
pub type Replies = HashMap<String, (Vec<(String, String)>, String)>;

/// Headers as the bare server can send them again; hyper adds its own date and length.
pub fn headers(headers: &HeaderMap) -> Fallible<Vec<(String, String)>> {
    let own = |name: &HeaderName| *name == header::DATE || *name == header::CONTENT_LENGTH;
    let kept = headers.iter().filter(|(name, _)| !own(name));
    kept.map(|(name, value)| Ok((name.to_string(), value.to_str()?.to_owned()))).collect()
}

/// Starts this program again as the bare server.
pub fn start(folder: &Path, replies: &Replies) -> Fallible<Server> {
    std::fs::write(folder.join("replies.json"), serde_json::to_vec(replies)?)?;
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("bare-server").arg(folder);
    Ok(Server::start(&mut command, &folder.join("ca.pem"))?.0)
}

pub async fn serve(folder: &Path) -> Fallible<()> {
    let replies: Replies = serde_json::from_slice(&std::fs::read(folder.join("replies.json"))?)?;
    let mut ready = HashMap::new();
    for (path, (headers, body)) in replies {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(name.parse::<HeaderName>()?, HeaderValue::from_str(&value)?);
        }
        ready.insert(path, (map, Bytes::from(body)));
    }
    let ready = Arc::new(ready);
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    std::fs::write(folder.join("ca.pem"), own.cert.pem())?;
    let key = PrivateKeyDer::try_from(own.signing_key.serialize_der())?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let tls = tls.with_no_client_auth().with_single_cert(vec![own.cert.der().clone()], key)?;
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("ready https://localhost:{}", listener.local_addr()?.port());
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        let (acceptor, ready) = (acceptor.clone(), ready.clone());
        tokio::spawn(async move {
            let socket = acceptor.accept(socket).await?;
            let answer = service_fn(|request: Request<Incoming>| {
                let path = request.uri().path_and_query().map_or("", |path| path.as_str());
                let (headers, body) = ready.get(path).cloned().unwrap_or_default();
                let mut response = Response::new(Full::new(body));
                *response.headers_mut() = headers;
                async move { Ok::<_, Infallible>(response) }
            });
            http1::Builder::new().serve_connection(TokioIo::new(socket), answer).await?;
            Fallible::Ok(())
        });
    }
}

type Rows = TableDefinition<'static, &'static [u8], &'static [u8]>;

const RECORDS: Rows = TableDefinition::new("records");
/// An enrolment is found by its address, its token, its owner and its entry in the audit log.
const INDEXES: [Rows; 4] = [
    TableDefinition::new("addresses"),
    TableDefinition::new("tokens"),
    TableDefinition::new("owners"),
    TableDefinition::new("log"),
];
const RECORD: [u8; 700] = [b'x'; 700];

pub struct Store(Database);

impl Store {
    /// With the appliance's memory for pages.
    pub fn create(folder: &Path) -> Fallible<Self> {
        Ok(Self(Database::builder().set_cache_size(16 << 20).create(folder.join("bare.redb"))?))
    }

    /// Commits one record after another, as durably as the appliance does; tells how many a second.
    pub fn commits_a_second(&self, time: Duration) -> Fallible<f64> {
        let before = Instant::now();
        let mut count = 0.0;
        while before.elapsed() < time {
            let mut transaction = self.0.begin_write()?;
            transaction.set_two_phase_commit(true);
            transaction.set_quick_repair(true);
            let id = Uuid::now_v7();
            transaction.open_table(RECORDS)?.insert(id.as_bytes().as_slice(), RECORD.as_slice())?;
            for index in INDEXES {
                transaction
                    .open_table(index)?
                    .insert(Uuid::now_v7().as_bytes().as_slice(), id.as_bytes().as_slice())?;
            }
            transaction.commit()?;
            count += 1.0;
        }
        Ok(count / before.elapsed().as_secs_f64())
    }
}
