//! Devices that sign in with a certificate: what it is good for, until when, and for nobody else.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::organizations::text;
use crate::pki::{Connection, trusting, write_key};
use crate::server::{Reply, Server, init, zero};

/// A device with a key of its own.
struct Device {
    id: String,
    token: String,
    organization: String,
    key: KeyPair,
    certificate: String,
}

fn csr(key: &KeyPair) -> String {
    CertificateParams::default().serialize_request(key).unwrap().pem().unwrap()
}

impl Device {
    async fn enroll(server: &Server, admin: &str, name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let new = json!({"device_name": name, "platform": "linux", "agent_version": "1", "serial_number": name,
            "csr": csr(&key)});
        let made = server.post("/devices/enroll", admin, new).await.expect(201);
        let [id, token, organization, certificate] =
            ["id", "device_token", "organization_id", "certificate"].map(|member| text(&made[member]));
        Self { id, token, organization, key, certificate }
    }

    fn path(&self, rest: &str) -> String {
        format!("/devices/{}{rest}", self.id)
    }

    fn tls(&self, server: &Server) -> Arc<rustls::ClientConfig> {
        tls(server, &self.certificate, &self.key)
    }

    fn client(&self, server: &Server) -> reqwest::Client {
        client(self.tls(server))
    }

    fn connect(&self, server: &Server) -> Connection {
        Connection::with(&self.tls(server), server.port(), "localhost").unwrap()
    }
}

fn tls(server: &Server, certificate: &str, key: &KeyPair) -> Arc<rustls::ClientConfig> {
    Arc::new(trusting(&file(server, "ca.pem"), Some((certificate, &key.serialize_pem()))))
}

fn client(tls: Arc<rustls::ClientConfig>) -> reqwest::Client {
    reqwest::Client::builder().tls_backend_preconfigured((*tls).clone()).build().unwrap()
}

fn file(server: &Server, name: &str) -> String {
    fs::read_to_string(server.folder.path().join("data/tls").join(name)).unwrap()
}

async fn ask(server: &Server, by: &reqwest::Client, method: Method, path: &str, body: Value) -> Reply {
    let request = by.request(method, format!("{}/api/v1{path}", server.base)).json(&body);
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status(), response.headers().clone());
    Reply { status, headers, text: response.text().await.unwrap() }
}

async fn get(server: &Server, by: &reqwest::Client, path: &str) -> Reply {
    ask(server, by, Method::GET, path, json!({})).await
}

/// A server whose devices' authority has a key that the test knows: as an earlier version left it, in the clear.
async fn server_with_known_key() -> (Server, KeyPair) {
    let (folder, key) = (TempDir::new().unwrap(), KeyPair::generate().unwrap());
    let data = folder.path().join("data");
    assert!(init(&data).status.success());
    fs::create_dir_all(data.join("tls")).unwrap();
    write_key(&data.join("tls/device-ca.key"), &key.serialize_pem());
    (Server::on(folder, Vec::new()).await, key)
}

/// A certificate that says it is this device's, from `authority` in the server's folder, signed with that key.
fn forged(server: &Server, authority: &str, ca_key: &KeyPair, device: &Device, key: &KeyPair, days: i32) -> String {
    let ca_key = KeyPair::from_pem(&ca_key.serialize_pem()).unwrap();
    let issuer = Issuer::from_ca_cert_pem(&file(server, &format!("{authority}.pem")), ca_key).unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::OrganizationName, &device.organization);
    params.distinguished_name.push(DnType::CommonName, &device.id);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let day = Duration::from_secs(24 * 60 * 60);
    params.not_before = (SystemTime::now() - 10 * day).into();
    params.not_after = match days {
        0.. => SystemTime::now() + day * days.unsigned_abs(),
        _ => SystemTime::now() - day * days.unsigned_abs(),
    }
    .into();
    params.signed_by(key, &issuer).unwrap().pem()
}

#[tokio::test]
async fn a_device_needs_no_token_and_is_nobody_but_itself() {
    let server = Server::start().await;
    let admin = server.token().await;
    let (mine, other) = (Device::enroll(&server, &admin, "mine").await, Device::enroll(&server, &admin, "other").await);
    let me = mine.client(&server);
    let checked_in = ask(&server, &me, Method::POST, &mine.path("/checkin"), json!({})).await;
    assert_eq!(checked_in.header("x-ratelimit-limit"), "1000", "counted as the device, not as its address");
    checked_in.expect(200);
    assert_eq!(get(&server, &me, &mine.path("")).await.expect(200)["status"], "online");
    // What is another's does not exist for it, and what is an administrator's is forbidden, as with its token.
    for (method, path, status) in [
        (Method::GET, other.path(""), 404),
        (Method::POST, other.path("/checkin"), 404),
        (Method::POST, other.path("/certificate"), 404),
        (Method::PUT, other.path("/status"), 404),
        (Method::GET, "/devices".into(), 403),
        (Method::GET, "/users".into(), 403),
    ] {
        let body = if path.ends_with("/certificate") { json!({"csr": "x"}) } else { json!({"status": "online"}) };
        let body = if path.ends_with("/checkin") { json!({}) } else { body };
        let with_certificate = ask(&server, &me, method.clone(), &path, body.clone()).await;
        let with_token = server.request(method.clone(), &path).bearer_auth(&mine.token).json(&body);
        let with_token = server.send(with_token).await;
        assert_eq!((with_certificate.status.as_u16(), with_token.status.as_u16()), (status, status), "{method} {path}");
    }
    let entry = &server.get("/audit-logs?action=device.status.change", &admin).await.expect(200)["data"][0];
    assert_eq!((&entry["actor"]["type"], &entry["actor"]["id"]), (&json!("device"), &json!(mine.id)));
    // Those who have none are as before.
    server.post(&other.path("/checkin"), &other.token, json!({})).await.expect(200);
}

#[tokio::test]
async fn a_header_says_who_asks_and_two_devices_are_never_one() {
    let server = Server::start().await;
    let admin = server.token().await;
    let (mine, other) = (Device::enroll(&server, &admin, "mine").await, Device::enroll(&server, &admin, "other").await);
    let me = mine.client(&server);
    let with = async |token: &str, path: &str| {
        let request = me.get(format!("{}/api/v1{path}", server.base)).bearer_auth(token);
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!(with(&admin, "/users").await, 200, "the agent acts for its user");
    assert_eq!(with(&mine.token, &mine.path("")).await, 200);
    assert_eq!(with(&other.token, &other.path("")).await, 401, "one device's token, another's key");
    assert_eq!(with("zdt_nonsense", &mine.path("")).await, 401, "a bad token is not made up for");
    let request = me.get(format!("{}/api/v1{}", server.base, mine.path(""))).header("authorization", "Basic eDp5");
    assert_eq!(request.send().await.unwrap().status(), 401);
}

#[tokio::test]
async fn a_certificate_ends_with_the_next_request_on_connections_that_are_open_and_on_those_that_are_resumed() {
    let server = Server::start().await;
    let admin = server.token().await;
    let ends = ["deleted", "wiped", "revoked"];
    for end in ends {
        let device = Device::enroll(&server, &admin, end).await;
        let (path, tls) = (format!("/api/v1{}", device.path("")), device.tls(&server));
        let open = || Connection::with(&tls, server.port(), "localhost").unwrap();
        let mut before = open();
        assert!(before.get("localhost", &path).starts_with("http/1.1 200"), "{end}");
        match end {
            "deleted" => _ = server.delete(&device.path(""), &admin).await.expect(204),
            "wiped" => _ = server.post(&device.path("/wipe"), &admin, json!({"force": true})).await.expect(200),
            _ => {
                server.delete(&device.path("/certificate"), &admin).await.expect(204);
                server.delete(&device.path("/certificate"), &admin).await.expect(204);
                server.get(&device.path(""), &device.token).await.expect(200);
            }
        }
        assert!(before.get("localhost", &path).starts_with("http/1.1 401"), "{end}");
        let mut resumed = open();
        assert!(resumed.get("localhost", &path).starts_with("http/1.1 401"), "{end}");
        assert!(resumed.is_resumed(), "{end}: the server remembers the certificate, not that it was good");
        // Whoever needs no credentials is not kept out by bad ones.
        assert!(resumed.get("localhost", "/api/v1/health").starts_with("http/1.1 200"), "{end}");
    }
    let suspended = Device::enroll(&server, &admin, "suspended").await;
    let mut connection = suspended.connect(&server);
    server.put(&suspended.path("/status"), &admin, json!({"status": "suspended"})).await.expect(200);
    let policy = format!("/api/v1{}", suspended.path("/policy"));
    assert!(connection.get("localhost", &policy).starts_with("http/1.1 403"));
    let body = json!({"csr": csr(&suspended.key)});
    ask(&server, &suspended.client(&server), Method::POST, &suspended.path("/certificate"), body).await.expect(403);
}

#[tokio::test]
async fn a_device_renews_its_certificate_and_the_old_one_is_good_until_the_new_one_is_used() {
    let server = Server::start().await;
    let admin = server.token().await;
    let old = Device::enroll(&server, &admin, "laptop").await;
    let me = old.client(&server);
    let path = old.path("");
    let renew = async |key: &KeyPair| {
        let body = json!({"csr": csr(key)});
        ask(&server, &me, Method::POST, &old.path("/certificate"), body).await
    };
    // The answer to the first one is lost: the device asks again.
    renew(&KeyPair::generate().unwrap()).await.expect(200);
    let key = KeyPair::generate().unwrap();
    let renewed = renew(&key).await.expect(200);
    assert_eq!(renewed["ca_certificate"], file(&server, "device-ca.pem"));
    assert!(renewed["expires_at"].as_str() > Some("2027"));
    get(&server, &me, &path).await.expect(200);
    let new = client(tls(&server, renewed["certificate"].as_str().unwrap(), &key));
    get(&server, &new, &path).await.expect(200);
    get(&server, &me, &path).await.expect(401);
    let actions = ["device.certificate.renew", "device.certificate.replace"];
    for (action, times) in actions.into_iter().zip([2, 1]) {
        let found = server.get(&format!("/audit-logs?action={action}"), &admin).await.expect(200);
        assert_eq!(found["total"], times, "{action}");
    }
    let server = server.crash_and_restart().await;
    get(&server, &new, &path).await.expect(200);
    get(&server, &me, &path).await.expect(401);
}

#[tokio::test]
async fn a_device_with_a_token_alone_gets_a_certificate_but_none_that_is_more_than_its_own() {
    let server = Server::start().await;
    let admin = server.token().await;
    let (id, token) = server.enroll(&admin, "kiosk").await;
    let path = format!("/devices/{id}");
    let key = KeyPair::generate().unwrap();
    let renew = async |csr: &str| server.post(&format!("{path}/certificate"), &token, json!({"csr": csr})).await;
    let mut asks = CertificateParams::default();
    asks.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    asks.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let asks = asks.serialize_request(&key).unwrap().pem().unwrap();
    let refused = renew(&asks).await.expect(400);
    assert_eq!(refused["details"], "csr asks for the certificate of an authority");
    renew("hello").await.expect(400);
    let issued = renew(&csr(&key)).await.expect(200);
    let me = client(tls(&server, issued["certificate"].as_str().unwrap(), &key));
    get(&server, &me, &path).await.expect(200);
}

#[tokio::test]
async fn certificates_that_the_appliance_has_not_issued_or_that_have_ended_are_refused_and_it_is_said_why() {
    let (server, device_ca) = server_with_known_key().await;
    let admin = server.token().await;
    let device = Device::enroll(&server, &admin, "laptop").await;
    let path = format!("/api/v1{}", device.path(""));
    let key = KeyPair::generate().unwrap();
    let outcome = |certificate: &str| {
        let tls = tls(&server, certificate, &key);
        let connected = Connection::with(&tls, server.port(), "localhost");
        connected.and_then(|mut connection| connection.try_get("localhost", &path)).unwrap_or_else(|error| error)
    };
    // Of the authority that vouches for the server; of another appliance; of the right one, but past its end.
    let server_ca = KeyPair::from_pem(&file(&server, "ca.key")).unwrap();
    let of_server = forged(&server, "ca", &server_ca, &device, &key, 10);
    assert!(outcome(&of_server).contains("UnknownCA"), "{}", outcome(&of_server));
    let (elsewhere, foreign_ca) = server_with_known_key().await;
    let foreign = forged(&elsewhere, "device-ca", &foreign_ca, &device, &key, 10);
    assert!(outcome(&foreign).contains("UnknownCA"), "{}", outcome(&foreign));
    let expired = forged(&server, "device-ca", &device_ca, &device, &key, -1);
    assert!(outcome(&expired).contains("CertificateExpired"), "{}", outcome(&expired));
    assert!(server.log().contains("refused a client's certificate"));
    // Even with the authority's own key, a certificate that is not in the device's row is worth nothing.
    let unknown = forged(&server, "device-ca", &device_ca, &device, &key, 10);
    assert!(outcome(&unknown).starts_with("http/1.1 401"), "{}", outcome(&unknown));
    get(&server, &device.client(&server), &device.path("")).await.expect(200);
}

#[tokio::test]
async fn an_appliance_that_is_told_not_to_asks_nobody_for_a_certificate() {
    let server = Server::start_with(&[("ZERO_TLS_DEVICE_CERTIFICATES", "false")]).await;
    let admin = server.token().await;
    let device = Device::enroll(&server, &admin, "laptop").await;
    get(&server, &device.client(&server), &device.path("")).await.expect(401);
    server.get(&device.path(""), &device.token).await.expect(200);
}

#[tokio::test]
async fn a_key_that_was_stolen_without_the_data_issues_nothing() {
    let (server, key) = server_with_known_key().await;
    let admin = server.token().await;
    let device = Device::enroll(&server, &admin, "laptop").await;
    // The one of an earlier version is sealed at the first start, and goes on to be the same.
    let sealed = file(&server, "device-ca.key");
    assert!(sealed.starts_with("zero sealed key"), "{sealed}");
    let secret = key.serialize_pem();
    assert!(secret.lines().filter(|line| !line.starts_with('-')).all(|line| !sealed.contains(line)));
    let server = server.crash_and_restart().await;
    assert_eq!(file(&server, "device-ca.key"), sealed);
    get(&server, &device.client(&server), &device.path("")).await.expect(200);

    // Another appliance cannot use it, says so, and leaves it as it is.
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    assert!(init(&data).status.success());
    fs::create_dir_all(data.join("tls")).unwrap();
    write_key(&data.join("tls/device-ca.key"), &sealed);
    let serve = zero(&["serve", "--data-dir", data.to_str().unwrap(), "--listen", "127.0.0.1:0"]).output().unwrap();
    let said = String::from_utf8_lossy(&serve.stderr);
    assert!(serve.status.code() == Some(1) && said.contains("sealed with the secret of another data file"), "{said}");
    assert_eq!(fs::read_to_string(data.join("tls/device-ca.key")).unwrap(), sealed);
}
