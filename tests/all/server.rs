//! The real binary, started on an empty folder, with a client that trusts it.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;
use zero::clock::{Clock, ManualClock, Time};
use zero::config::StoreConfig;
use zero::error::Error;
use zero::ids::Ids;
use zero::store::Store;
use zero::store::write::{Audited, Stamp, Tx};

pub const EMAIL: &str = "admin@acme.example";
pub const PASSWORD: &str = "correct horse battery";

/// The binary under test: the release where the environment says so.
pub fn binary() -> PathBuf {
    std::env::var_os("ZERO_BIN").map_or_else(|| env!("CARGO_BIN_EXE_zero").into(), PathBuf::from)
}

pub fn zero(arguments: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.args(arguments).env_clear().stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Sets a folder up with `zero init`.
pub fn init(data: &Path) -> std::process::Output {
    let data = data.to_str().unwrap();
    let mut child = zero(&["init", "--data-dir", data, "--organization", "Acme", "--email", EMAIL, "--password-stdin"])
        .spawn()
        .unwrap();
    // A refused init may end before it reads.
    let _ = writeln!(child.stdin.take().unwrap(), "{PASSWORD}");
    child.wait_with_output().unwrap()
}

pub struct Server {
    pub folder: TempDir,
    pub process: Child,
    pub base: String,
    client: reqwest::Client,
    settings: Vec<(&'static str, &'static str)>,
}

pub struct Reply {
    pub status: StatusCode,
    pub headers: reqwest::header::HeaderMap,
    pub text: String,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {:?}", self.text))
    }

    /// The body of an answer that must have this status.
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        if self.text.is_empty() { Value::Null } else { self.json() }
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("{name} is missing")).to_str().unwrap()
    }
}

impl Server {
    /// A server that is set up.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    pub async fn start_with(settings: &[(&'static str, &'static str)]) -> Self {
        let folder = TempDir::new().unwrap();
        let made = init(&folder.path().join("data"));
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        Self::on(folder, settings.to_vec()).await
    }

    pub async fn on(folder: TempDir, settings: Vec<(&'static str, &'static str)>) -> Self {
        let data = folder.path().join("data");
        // A limit on the size of files, where a test sets one, shall fail a write as a full disk does, and not kill.
        let mut process = Command::new("/bin/sh")
            .args(["-c", "trap '' XFSZ; exec \"$@\"", "sh"])
            .arg(binary())
            .args(["serve", "--data-dir", data.to_str().unwrap(), "--listen", "127.0.0.1:0"])
            .env_clear()
            .envs(settings.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::options().create(true).append(true).open(folder.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready = line.trim().strip_prefix("ready ").expect("the server says that it is ready");
        // Under any other name it has, nobody here would find it.
        let base = format!("https://localhost:{}", ready.rsplit(':').next().unwrap());
        let client = client(&data.join("tls/ca.pem"));
        Self { folder, process, base, client, settings }
    }

    /// Kills the process without warning and starts it again on what is on disk.
    pub async fn crash_and_restart(mut self) -> Self {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        let folder = std::mem::replace(&mut self.folder, TempDir::new().unwrap());
        let settings = std::mem::take(&mut self.settings);
        drop(self);
        Self::on(folder, settings).await
    }

    /// Stops the process, makes a change to what is on disk as if it were `now`, and starts again.
    pub async fn restart_with<F>(mut self, now: Time, change: F) -> Self
    where
        F: Fn(&mut Tx) -> Result<Audited<()>, Error> + Send + 'static,
    {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        let file = self.folder.path().join("data/zero.redb");
        let ids = Arc::new(Ids::new(Arc::new(ManualClock::at(now)) as Arc<dyn Clock>));
        let store = Store::open(&file, &StoreConfig::default(), ids, now).unwrap();
        store.write(Stamp::system(now), change).await.unwrap();
        store.close();
        self.crash_and_restart().await
    }

    /// What all processes on this folder have logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.client.request(method, format!("{}/api/v1{path}", self.base))
    }

    /// Sends a request, and holds the answer against the OpenAPI document.
    pub async fn send(&self, request: reqwest::RequestBuilder) -> Reply {
        let request = request.build().unwrap();
        let (method, path) = (request.method().clone(), request.url().path().to_owned());
        let response = self.client.execute(request).await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        // A stream of events has no end.
        let is_endless = headers.get("content-type").is_some_and(|media_type| media_type == "text/event-stream");
        let text = if is_endless { String::new() } else { response.text().await.unwrap() };
        let reply = Reply { status, headers, text };
        crate::contract::check(&method, &path, &reply);
        reply
    }

    pub async fn get(&self, path: &str, token: &str) -> Reply {
        self.send(self.request(Method::GET, path).bearer_auth(token)).await
    }

    pub async fn post(&self, path: &str, token: &str, body: Value) -> Reply {
        self.send(self.request(Method::POST, path).bearer_auth(token).json(&body)).await
    }

    pub async fn put(&self, path: &str, token: &str, body: Value) -> Reply {
        self.send(self.request(Method::PUT, path).bearer_auth(token).json(&body)).await
    }

    pub async fn delete(&self, path: &str, token: &str) -> Reply {
        self.send(self.request(Method::DELETE, path).bearer_auth(token)).await
    }

    /// A connection on which the test writes what it likes.
    pub fn connect(&self) -> rustls::StreamOwned<rustls::ClientConnection, TcpStream> {
        let config = trusting(&self.folder.path().join("data/tls/ca.pem"));
        let client = rustls::ClientConnection::new(config.into(), "localhost".try_into().unwrap()).unwrap();
        rustls::StreamOwned::new(client, self.socket())
    }

    pub fn port(&self) -> u16 {
        self.base.rsplit(':').next().unwrap().parse().unwrap()
    }

    /// Sends the process a signal, as `kill` names it.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.process.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    fn socket(&self) -> TcpStream {
        let socket = TcpStream::connect(("127.0.0.1", self.port())).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        socket
    }

    /// All that is answered to `request` on a connection of its own.
    pub fn raw(&self, request: &str) -> String {
        exchange(self.connect(), request)
    }

    /// The same without TLS.
    pub fn in_clear(&self, request: &str) -> String {
        exchange(self.socket(), request)
    }

    pub async fn log_in(&self) -> Value {
        let body = json!({"email": EMAIL, "password": PASSWORD});
        self.send(self.request(Method::POST, "/auth/login").json(&body)).await.expect(200)
    }

    pub async fn token(&self) -> String {
        self.log_in().await["token"].as_str().unwrap().into()
    }

    /// Enrols a device: its id and its token.
    pub async fn enroll(&self, token: &str, name: &str) -> (String, String) {
        let body = json!({"device_name": name, "platform": "linux", "agent_version": "1.0.0", "serial_number": name});
        let device = self.post("/devices/enroll", token, body).await.expect(201);
        (device["id"].as_str().unwrap().into(), device["device_token"].as_str().unwrap().into())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn exchange(mut stream: impl Read + Write, request: &str) -> String {
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

pub fn client(ca: &Path) -> reqwest::Client {
    reqwest::Client::builder().tls_backend_preconfigured(trusting(ca)).build().unwrap()
}

/// TLS that trusts the appliance's own authority and nothing else.
pub fn trusting(ca: &Path) -> rustls::ClientConfig {
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    use rustls::pki_types::pem::PemObject;
    roots.add(rustls::pki_types::CertificateDer::from_pem_file(ca).unwrap()).unwrap();
    rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth()
}
