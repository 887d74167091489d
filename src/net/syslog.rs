//! The way to a collector of logs: one connection, on which nothing counts as sent before the other end's system has
//! acknowledged it.

use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::outbound::{Egress, Purpose, connect};
use super::tls::provider;
use crate::config::{Host, SyslogConfig};

mod format;

pub use format::{Message, Severity};

/// For the handshake.
const CONNECT: Duration = Duration::from_secs(5);
/// For what was sent to be acknowledged. A collector that takes nothing for so long is left.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often it is looked whether it was acknowledged.
const LOOK: Duration = Duration::from_millis(5);

/// Where the collector is.
pub struct Syslog {
    egress: Arc<Egress>,
    host: Host,
    port: u16,
    tls: Option<TlsConnector>,
    /// What this machine calls itself.
    own_name: String,
}

impl Syslog {
    /// `None` where no server is set. Connects to nothing yet.
    ///
    /// # Errors
    /// When the file of authorities cannot be read, or has none.
    pub fn new(settings: &SyslogConfig, egress: Arc<Egress>, own_name: Option<&str>) -> Result<Option<Self>, String> {
        let Some(server) = &settings.server else { return Ok(None) };
        let tls = settings.tls.then(|| connector(settings.ca_file.as_deref())).transpose()?;
        let own_name = own_name.map_or_else(|| rustix::system::uname().nodename().to_string_lossy().into(), Into::into);
        Ok(Some(Self { egress, host: server.host.clone(), port: server.port, tls, own_name }))
    }

    /// # Errors
    /// Why there is no connection, in words for whoever runs the collector.
    pub async fn connect(&self) -> Result<Connection, String> {
        let host = self.host.to_string();
        let addresses = self.egress.permitted(Purpose::Syslog, &host, self.port, |_| Ok(())).await?;
        let (socket, _) = connect(&addresses).await?;
        let patience = u32::try_from(PATIENCE.as_millis()).unwrap_or(u32::MAX);
        let kept = rustix::net::sockopt::set_tcp_user_timeout(&socket, patience)
            .and_then(|()| rustix::net::sockopt::set_socket_keepalive(&socket, true));
        kept.map_err(|cause| cause.to_string())?;
        let stream: Box<dyn Stream> = match &self.tls {
            None => Box::new(socket),
            Some(tls) => {
                let name = match &self.host {
                    Host::Name(name) => ServerName::try_from(name.clone()).map_err(|cause| cause.to_string())?,
                    Host::Address(address) => ServerName::from(*address),
                };
                let handshake = timeout(CONNECT, tls.connect(name, socket)).await;
                let stream = handshake.map_err(|_| "TLS: the handshake takes too long".to_owned())?;
                Box::new(stream.map_err(|cause| format!("TLS: {cause}"))?)
            }
        };
        Ok(Connection { stream, own_name: self.own_name.clone() })
    }
}

fn connector(ca_file: Option<&Path>) -> Result<TlsConnector, String> {
    let mut roots = RootCertStore::empty();
    match ca_file {
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Some(file) => {
            let wrong = |cause: &dyn std::fmt::Display| format!("syslog.ca_file: {}: {cause}", file.display());
            for certificate in CertificateDer::pem_file_iter(file).map_err(|cause| wrong(&cause))? {
                let certificate = certificate.map_err(|cause| wrong(&cause))?;
                roots.add(certificate).map_err(|cause| wrong(&cause))?;
            }
            if roots.is_empty() {
                return Err(wrong(&"holds no certificate in PEM"));
            }
        }
    }
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|cause| cause.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {
    fn socket(&self) -> &TcpStream;
}

impl Stream for TcpStream {
    fn socket(&self) -> &TcpStream {
        self
    }
}

impl Stream for TlsStream<TcpStream> {
    fn socket(&self) -> &TcpStream {
        self.get_ref().0
    }
}

pub struct Connection {
    stream: Box<dyn Stream>,
    own_name: String,
}

impl Connection {
    /// Returns once all of it is acknowledged and the connection still stands. TCP tells no more than that: a collector
    /// that dies with what it has not read yet is found out a moment later, by [`Connection::gone`].
    pub async fn send(&mut self, messages: &[Message]) -> Result<(), String> {
        let mut frames = Vec::new();
        messages.iter().for_each(|message| message.write(&self.own_name, &mut frames));
        let write = async {
            self.stream.write_all(&frames).await?;
            self.stream.flush().await
        };
        let late = || format!("it has taken nothing for {} seconds", PATIENCE.as_secs());
        timeout(PATIENCE, write).await.map_err(|_| late())?.map_err(|cause| cause.to_string())?;
        let end = Instant::now() + PATIENCE;
        while unacknowledged(self.stream.socket()).map_err(|cause| cause.to_string())? > 0 {
            if Instant::now() >= end {
                return Err(late());
            }
            sleep(LOOK).await;
        }
        self.gone().now_or_never().map_or(Ok(()), Err)
    }

    /// Resolves when the connection has ended: why.
    pub async fn gone(&mut self) -> String {
        let mut ignored = [0; 1024];
        loop {
            match self.stream.read(&mut ignored).await {
                Ok(0) => return "the collector has closed the connection".into(),
                // It has nothing to say in this protocol.
                Ok(_) => {}
                Err(cause) => return cause.to_string(),
            }
        }
    }
}

/// Bytes that were sent, or are to be, and that the other end has not acknowledged (`SIOCOUTQ`, see tcp(7)).
fn unacknowledged(socket: &TcpStream) -> io::Result<libc::c_int> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the descriptor is open as long as the socket is borrowed, and this request writes one int.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    if result == 0 { Ok(bytes) } else { Err(io::Error::last_os_error()) }
}
