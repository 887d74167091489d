//! Certificates from a real ACME server.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;
use tempfile::TempDir;

use crate::certificates::{leaked, until};
use crate::pebble::{Pebble, Ports, prepare};
use crate::pki::{Connection, NAME};
use crate::server::Server;

struct World {
    folder: TempDir,
    ports: Ports,
    server: Server,
    admin: String,
}

impl World {
    /// A server whose ACME server does not run yet.
    async fn new(challenge: &'static str) -> Self {
        let (folder, ports) = (TempDir::new().unwrap(), Ports::pick());
        let ca = prepare(folder.path());
        let server = Server::start_with(&[
            ("ZERO_SERVER_NAMES", "zero.example.test,second.example.test,192.0.2.7"),
            ("ZERO_TLS_MODE", "acme"),
            ("ZERO_TLS_ACME_DIRECTORY", leaked(&format!("https://127.0.0.1:{}/dir", ports.directory))),
            ("ZERO_TLS_ACME_CA_FILE", leaked(&ca)),
            ("ZERO_TLS_ACME_CHALLENGE", challenge),
            ("ZERO_TLS_ACME_HTTP_LISTEN", leaked(&format!("127.0.0.1:{}", ports.http))),
        ])
        .await;
        let admin = server.token().await;
        Self { folder, ports, server, admin }
    }

    async fn pebble(&self, life: u32) -> Pebble {
        Pebble::start(&self.folder, &self.ports, self.server.port(), life).await
    }

    async fn problem(&self, what: &str) {
        until(&self.server, &self.admin, |tls| tls["problem"].as_str().is_some_and(|said| said.contains(what))).await;
    }

    async fn issued(&self) -> Value {
        let issued = |tls: &Value| tls["certificate"]["issuer"].as_str().unwrap().contains("Pebble");
        until(&self.server, &self.admin, issued).await
    }

    fn shown(&self, root: &str) -> Result<Vec<u8>, String> {
        Connection::open(self.server.port(), NAME, root).map(|connection| connection.certificate())
    }
}

#[tokio::test]
async fn a_certificate_comes_by_the_appliances_own_port_once_the_acme_server_is_there_and_is_renewed() {
    let world = World::new("tls-alpn-01").await;
    // Until then the local authority serves, and it is said what is wrong.
    world.problem("cannot connect to 127.0.0.1").await;
    let local = fs::read_to_string(world.server.folder.path().join("data/tls/ca.pem")).unwrap();
    world.shown(&local).unwrap();

    let pebble = world.pebble(20).await;
    let root = pebble.root().await;
    world.server.signal("HUP");
    let state = world.issued().await;
    assert_eq!(state["problem"], Value::Null);
    assert_eq!(state["certificate"]["publicly_trusted"], false, "pebble is not in browsers");
    let first = world.shown(&root).unwrap();
    Connection::open(world.server.port(), "second.example.test", &root).unwrap();
    Connection::open(world.server.port(), "192.0.2.7", &local).unwrap();
    let kept = |name: &str| world.server.folder.path().join("data/tls/acme").join(name);
    for name in ["account.key", "certificate.pem"] {
        assert_eq!(fs::metadata(kept(name)).unwrap().permissions().mode() & 0o777, 0o600, "{name}");
    }
    let account = fs::read(kept("account.key")).unwrap();

    // At two thirds of its 20 seconds.
    let fingerprint = &state["certificate"]["fingerprint_sha256"];
    until(&world.server, &world.admin, |tls| tls["certificate"]["fingerprint_sha256"] != *fingerprint).await;
    assert_ne!(world.shown(&root).unwrap(), first);
    assert_eq!(fs::read(kept("account.key")).unwrap(), account, "the server knows the appliance by it");
}

#[tokio::test]
async fn a_certificate_comes_by_plain_http_and_survives_the_acme_server_and_a_restart() {
    let mut world = World::new("http-01").await;
    let pebble = world.pebble(3600).await;
    let root = pebble.root().await;
    world.server.signal("HUP");
    world.issued().await;
    let shown = world.shown(&root).unwrap();
    let closed = std::net::TcpStream::connect(("127.0.0.1", world.ports.http));
    assert!(closed.is_err(), "the port is open only while the server asks for proof");
    drop(pebble);
    world.server = world.server.crash_and_restart().await;
    assert_eq!(world.shown(&root).unwrap(), shown);
    let state = world.server.get("/system/tls", &world.admin).await.expect(200);
    assert_eq!(state["problem"], Value::Null, "there is nothing to ask the server for");
}

#[tokio::test]
async fn a_server_that_refuses_is_quoted_and_not_asked_again_at_once() {
    let world = World::new("http-01").await;
    // What answers on the port for proofs is somebody else.
    let _squatter = std::net::TcpListener::bind(("127.0.0.1", world.ports.http)).unwrap();
    let _pebble = world.pebble(3600).await;
    world.server.signal("HUP");
    world.problem("tls.acme_http_listen").await;
    assert!(world.server.log().contains("a certificate of the appliance's own authority serves instead"));
}
