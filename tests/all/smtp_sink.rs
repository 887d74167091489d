//! A mail server on this machine that keeps what it is sent.

use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use mailin::response::{AUTH_OK, INVALID_CREDENTIALS, NO_MAILBOX, OK};
use mailin::{Action, AuthMechanism, Handler, Response, Session, SessionBuilder};
use mailparse::ParsedMail;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

pub const USERNAME: &str = "zero";
pub const PASSWORD: &str = "the-mail-servers-own-secret";

#[derive(Clone, Copy, PartialEq)]
pub enum Security {
    None,
    Implicit,
    StartTls,
}

/// What one message said, decoded.
#[derive(Clone, Debug)]
pub struct Received {
    pub recipients: Vec<String>,
    pub headers: Vec<(String, String)>,
    pub text: String,
}

impl Received {
    pub fn header(&self, name: &str) -> &str {
        let mut found = self.headers.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
        let header = found.next().unwrap_or_else(|| panic!("no {name} in {self:?}"));
        assert!(found.next().is_none(), "{name} stands there twice: {self:?}");
        &header.1
    }

    /// The secret of the link in it.
    pub fn token(&self) -> String {
        let line = self.text.lines().find(|line| line.starts_with("https://")).expect("a line is a link");
        line.split_once('#').expect("the secret is in the fragment").1.into()
    }
}

pub struct Sink {
    port: u16,
    received: Arc<Mutex<Vec<Received>>>,
    ended: Arc<AtomicBool>,
}

/// A certificate for `localhost` that vouches for itself, and the file that a client trusts it by.
pub struct Identity {
    pub file: PathBuf,
    tls: Arc<rustls::ServerConfig>,
}

impl Identity {
    pub fn make(folder: &Path) -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(vec!["localhost".into()]).unwrap().self_signed(&key).unwrap();
        let file = folder.join("mail-ca.pem");
        std::fs::write(&file, certificate.pem()).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let tls = rustls::ServerConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        Self { file, tls: tls.into() }
    }
}

/// A port that nobody listens on, for a server that comes later.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Sink {
    /// Listens on `port` (0 for any) until it is dropped.
    pub fn start(port: u16, security: Security, identity: Option<&Identity>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (received, ended) = (Arc::<Mutex<Vec<Received>>>::default(), Arc::<AtomicBool>::default());
        let (inbox, is_over) = (received.clone(), ended.clone());
        let tls = identity.map(|identity| identity.tls.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if is_over.load(Ordering::Relaxed) {
                    return;
                }
                let (stream, inbox, tls) = (stream.unwrap(), inbox.clone(), tls.clone());
                // A client that goes away in the middle ends its own conversation only.
                std::thread::spawn(move || drop(serve(stream, inbox, security, tls)));
            }
        });
        Self { port, received, ended }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }

    /// All mail, once there is this much of it.
    pub async fn wait_for(&self, count: usize) -> Vec<Received> {
        let started = Instant::now();
        while self.received().len() < count {
            assert!(started.elapsed() < Duration::from_secs(30), "only {:?} came", self.received());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        self.received()
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        // Wakes the listener, which then ends and gives the port back.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn serve(
    mut stream: TcpStream,
    inbox: Arc<Mutex<Vec<Received>>>,
    security: Security,
    tls: Option<Arc<rustls::ServerConfig>>,
) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    let peer: IpAddr = stream.peer_addr()?.ip();
    let mut builder = SessionBuilder::new("localhost");
    // A server that knows of sign-ins wants one, and takes none in the clear.
    if security != Security::None {
        builder.enable_auth(AuthMechanism::Plain);
    }
    if security == Security::StartTls {
        builder.enable_start_tls();
    }
    let mut session = builder.build(peer, Mailbox { inbox, recipients: Vec::new(), data: Vec::new() });
    if security != Security::Implicit {
        session.greeting().write_to(&mut stream)?;
        if !converse(&mut session, &mut stream)? {
            return Ok(());
        }
    }
    let connection = rustls::ServerConnection::new(tls.expect("TLS needs a certificate")).unwrap();
    let mut stream = rustls::StreamOwned::new(connection, stream);
    if security == Security::Implicit {
        session.greeting().write_to(&mut stream)?;
        stream.flush()?;
    }
    session.tls_active();
    converse(&mut session, &mut stream).map(drop)
}

/// Answers line by line; true when TLS is to begin.
fn converse(session: &mut Session<Mailbox>, stream: &mut (impl Read + Write)) -> std::io::Result<bool> {
    let mut line = Vec::new();
    loop {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        line.push(byte[0]);
        if byte[0] != b'\n' {
            continue;
        }
        let response = session.process(&line);
        line.clear();
        if response.action != Action::NoReply {
            response.write_to(stream)?;
            stream.flush()?;
        }
        match response.action {
            Action::Close => return Ok(false),
            Action::UpgradeTls => return Ok(true),
            Action::Reply | Action::NoReply => {}
        }
    }
}

struct Mailbox {
    inbox: Arc<Mutex<Vec<Received>>>,
    recipients: Vec<String>,
    data: Vec<u8>,
}

impl Handler for Mailbox {
    /// Nobody called `gone` lives here, and what `strict` gets, the appliance's sender may not write.
    fn rcpt(&mut self, to: &str) -> Response {
        if to.starts_with("gone@") {
            return NO_MAILBOX;
        }
        if to.starts_with("strict@") {
            return Response::custom(553, "5.7.1 <zero@acme.example>: Sender address rejected".into());
        }
        self.recipients.push(to.into());
        OK
    }

    fn data(&mut self, buffer: &[u8]) -> std::io::Result<()> {
        self.data.extend_from_slice(buffer);
        Ok(())
    }

    fn data_end(&mut self) -> Response {
        let data = std::mem::take(&mut self.data);
        let mail: ParsedMail = mailparse::parse_mail(&data).unwrap();
        let headers = mail.get_headers().into_iter().map(|header| (header.get_key(), header.get_value())).collect();
        let recipients = std::mem::take(&mut self.recipients);
        self.inbox.lock().unwrap().push(Received { recipients, headers, text: mail.get_body().unwrap() });
        OK
    }

    fn auth_plain(&mut self, _: &str, username: &str, password: &str) -> Response {
        if (username, password) == (USERNAME, PASSWORD) { AUTH_OK } else { INVALID_CREDENTIALS }
    }
}
