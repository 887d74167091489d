//! What the server shows, to whom, and what it does when that is to change.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::pki::{Connection, NAME, Pair, Pki, der, write_key};
use crate::server::{EMAIL, PASSWORD, Server};

pub fn leaked(text: &str) -> &'static str {
    Box::leak(text.to_owned().into_boxed_str())
}

/// Asks again until it is so; whatever changes by a signal does so in a moment.
pub async fn until(server: &Server, admin: &str, what: impl Fn(&Value) -> bool) -> Value {
    let started = Instant::now();
    loop {
        let tls = server.get("/system/tls", admin).await.expect(200);
        if what(&tls) {
            return tls;
        }
        assert!(started.elapsed() < Duration::from_secs(40), "{tls}\n{}", notable(server));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The log without the requests.
fn notable(server: &Server) -> String {
    let log = server.log();
    log.lines().filter(|line| !line.contains("\"request\"")).collect::<Vec<_>>().join("\n")
}

struct Files {
    folder: TempDir,
}

impl Files {
    fn new() -> Self {
        Self { folder: TempDir::new().unwrap() }
    }

    fn write(&self, chain: &str, key: &str) {
        fs::write(self.folder.path().join("chain.pem"), chain).unwrap();
        write_key(&self.folder.path().join("key.pem"), key);
    }

    async fn server(&self) -> Server {
        let path = |name: &str| leaked(self.folder.path().join(name).to_str().unwrap());
        Server::start_with(&[
            ("ZERO_SERVER_NAMES", NAME),
            ("ZERO_TLS_MODE", "files"),
            ("ZERO_TLS_CERT_FILE", path("chain.pem")),
            ("ZERO_TLS_KEY_FILE", path("key.pem")),
        ])
        .await
    }
}

#[tokio::test]
async fn names_given_at_setup_are_certified_and_answered_to_and_last() {
    let folder = TempDir::new().unwrap();
    let server = Server::on(folder, vec![]).await;
    // It is printed once the server is ready, which is a moment before.
    let code = loop {
        let log = server.log();
        match log.lines().find_map(|line| line.trim().strip_prefix("Setup code")) {
            Some(code) => break code.trim().to_owned(),
            None => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    };
    let setup = |names: Value| {
        let body =
            json!({"setup_code": code, "organization": "Acme", "email": EMAIL, "password": PASSWORD, "names": names});
        server.request(Method::POST, "/setup").json(&body)
    };
    let refused = server.send(setup(json!(["zero.example.com", "*.example.com", "https://x"]))).await.expect(400);
    let fields: Vec<_> = refused["errors"].as_array().unwrap().iter().map(|error| &error["field"]).collect();
    assert_eq!(fields, ["names[1]", "names[2]"]);
    server.send(setup(json!(["Zero.Example.com.", "2001:db8::7"]))).await.expect(201);

    let admin = server.token().await;
    let shown =
        until(&server, &admin, |tls| tls["certificate"]["names"].to_string().contains("zero.example.com")).await;
    assert!(shown["certificate"]["names"].to_string().contains("2001:db8::7"), "{shown}");
    let by_name = |server: &Server, name: &str| {
        let ca = fs::read_to_string(server.folder.path().join("data/tls/ca.pem")).unwrap();
        let port = server.base.rsplit(':').next().unwrap().parse().unwrap();
        Connection::open(port, name, &ca).unwrap().get(name, "/api/v1/health")
    };
    assert!(by_name(&server, "zero.example.com").starts_with("http/1.1 200"));
    let new = json!({"name": "Mia", "email": "mia@acme.example", "role": "user"});
    let invited = server.post("/users", &admin, new).await.expect(201);
    let link = invited["invitation"]["url"].as_str().unwrap();
    assert!(link.starts_with("https://zero.example.com:"), "{link}");

    let server = server.crash_and_restart().await;
    assert!(by_name(&server, "zero.example.com").starts_with("http/1.1 200"));
}

#[tokio::test]
async fn anybody_can_fetch_what_it_takes_to_trust_the_appliance_before_anything_else() {
    let server = Server::start().await;
    let get = async |path: &str| server.send(server.request(Method::GET, path)).await;
    let overview = get("/system/ca").await.expect(200);
    let own = fs::read_to_string(server.folder.path().join("data/tls/ca.pem")).unwrap();
    assert_eq!(overview["certificate"], own);
    assert!(server.log().contains(overview["fingerprint_sha256"].as_str().unwrap()), "the one that was printed");
    let commands = overview["platforms"].to_string();
    for part in ["update-ca-certificates", "certutil -addstore", "add-trusted-cert", "Certificate Trust Settings"] {
        assert!(commands.contains(part), "{part} is missing: {commands}");
    }
    let by_address = server.request(Method::GET, "/system/ca").header("host", "127.0.0.1:8443");
    let by_address = server.send(by_address).await.expect(200);
    assert_eq!(by_address["page"], "https://127.0.0.1:8443/trust", "under the name that reached it");
    assert!(by_address["qr_svg"].as_str().unwrap().contains("<svg"));
    let pem = get("/system/ca.pem").await;
    assert_eq!((pem.header("content-type"), &pem.text), ("application/x-pem-file", &own));
    assert_eq!(pem.header("content-disposition"), "attachment; filename=zero-ca.pem");
    let bytes = server.request(Method::GET, "/system/ca.der").send().await.unwrap().bytes().await.unwrap();
    assert_eq!(bytes, der(&own));
    let profile = get("/system/ca.mobileconfig").await;
    assert_eq!(profile.header("content-type"), "application/x-apple-aspen-config");
    let content = profile.text.split_once("<data>").unwrap().1.split_once("</data>").unwrap().0;
    use base64::Engine;
    assert_eq!(base64::engine::general_purpose::STANDARD.decode(content).unwrap(), der(&own));
}

#[tokio::test]
async fn a_new_certificate_is_shown_while_connections_stay_and_a_bad_one_never_is() {
    let (pki, files) = (Pki::new(), Files::new());
    let pair = pki.issue(&[NAME], 1, 90);
    files.write(&pki.chain(&pair), &pair.key);
    let server = files.server().await;
    let admin = server.token().await;
    let local = fs::read_to_string(server.folder.path().join("data/tls/ca.pem")).unwrap();

    // Each name has its own certificate; the chain is sent without its root.
    let mut first = Connection::open(server.port(), NAME, &pki.root_pem).unwrap();
    assert_eq!(first.certificate(), der(&pair.certificate));
    Connection::open(server.port(), "localhost", &local).unwrap();
    Connection::open(server.port(), "127.0.0.1", &local).unwrap();
    let state = server.get("/system/tls", &admin).await.expect(200);
    assert_eq!((&state["mode"], &state["problem"]), (&"files".into(), &Value::Null));
    assert_eq!(state["certificate"]["publicly_trusted"], false);
    let head = first.get(NAME, "/api/v1/health");
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert!(!head.contains("strict-transport-security"), "nobody could click away what they do not trust: {head}");

    // Half of a new pair is a bad one: the old one serves on, and it is said why.
    let next = pki.issue(&[NAME, "other.example.test"], 1, 90);
    fs::write(files.folder.path().join("chain.pem"), pki.chain(&next)).unwrap();
    server.signal("HUP");
    let state = until(&server, &admin, |tls| !tls["problem"].is_null()).await;
    assert!(state["problem"].as_str().unwrap().contains("the key is not the one"), "{state}");
    let shown = || Connection::open(server.port(), NAME, &pki.root_pem).unwrap().certificate();
    assert_eq!(shown(), der(&pair.certificate));
    assert!(server.log().contains("the certificate before it serves on"));

    // With its key it is shown, and who was connected stays so.
    write_key(&files.folder.path().join("key.pem"), &next.key);
    server.signal("HUP");
    until(&server, &admin, |tls| tls["problem"].is_null()).await;
    assert_eq!(shown(), der(&next.certificate));
    assert!(first.get(NAME, "/api/v1/health").starts_with("http/1.1 200"), "on the connection from before");
}

#[tokio::test]
async fn what_is_wrong_with_the_files_is_said_and_the_local_authority_serves() {
    let (pki, files) = (Pki::new(), Files::new());
    let good = pki.issue(&[NAME], 1, 90);
    let other = pki.issue(&[NAME], 1, 90);
    let with = |pair: &Pair| (pki.chain(pair), pair.key.clone());
    let Pair { certificate, key } = &good;
    let (root, intermediate) = (&pki.root_pem, &pki.intermediate_pem);
    let wrong: [((String, String), &str); 10] = [
        (with(&pki.issue(&[NAME], 90, -1)), "has expired"),
        (with(&pki.issue(&[NAME], -1, 90)), "is not valid before"),
        (with(&pki.issue(&["elsewhere.example.test"], 1, 90)), "but not for zero.example.test"),
        ((pki.chain(&good), other.key.clone()), "the key is not the one"),
        ((certificate.clone(), key.clone()), "the chain is not complete: add the certificate of its issuer"),
        ((format!("{certificate}{intermediate}"), key.clone()), "A company's root"),
        ((format!("{certificate}{root}{intermediate}"), key.clone()), "the chain is not in order"),
        ((format!("{intermediate}{certificate}{root}"), key.clone()), "put the server's own before it"),
        (("hello".into(), key.clone()), "there is no certificate in PEM"),
        ((pki.chain(&good), "hello".into()), "the key cannot be read as PEM"),
    ];
    files.write(&wrong[0].0.0, &wrong[0].0.1);
    let server = files.server().await;
    let admin = server.token().await;
    let local = fs::read_to_string(server.folder.path().join("data/tls/ca.pem")).unwrap();
    for ((chain, key), problem) in wrong {
        files.write(&chain, &key);
        server.signal("HUP");
        until(&server, &admin, |tls| tls["problem"].as_str().is_some_and(|said| said.contains(problem))).await;
        Connection::open(server.port(), NAME, &local).unwrap();
    }
    files.write(&pki.chain(&good), &good.key);
    let key = files.folder.path().join("key.pem");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    server.signal("HUP");
    let remedy = format!("chmod 640 {}", key.display());
    until(&server, &admin, |tls| tls["problem"].as_str().is_some_and(|said| said.contains(&remedy))).await;
    fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
    server.signal("HUP");
    until(&server, &admin, |tls| tls["problem"].is_null()).await;
    Connection::open(server.port(), NAME, &pki.root_pem).unwrap();
}

/// What browsers will refuse tomorrow is not the appliance's own certificate, which is good for long.
#[tokio::test]
async fn the_doctor_looks_at_the_certificate_that_is_shown_running_or_stopped() {
    let (pki, files) = (Pki::new(), Files::new());
    let pair = pki.issue(&[NAME], 10, 3);
    files.write(&pki.chain(&pair), &pair.key);
    let mut server = files.server().await;
    let token = server.token().await;
    let report = server.get("/system/doctor", &token).await.expect(200);
    let about = |report: &Value, severity: &str| -> usize {
        let findings = report["findings"].as_array().unwrap().iter();
        findings
            .filter(|f| f["check"] == "certificate" && f["severity"] == severity)
            .filter(|f| f["message"].as_str().unwrap().contains("server certificate"))
            .count()
    };
    assert_eq!((about(&report, "warning"), about(&report, "ok")), (1, 0), "{report}");
    server.process.kill().unwrap();
    server.process.wait().unwrap();
    let expired = pki.issue(&["elsewhere.example"], 10, -1);
    files.write(&pki.chain(&expired), &expired.key);
    let path = |name: &str| files.folder.path().join(name);
    let data = server.folder.path().join("data");
    let doctor = crate::server::zero(&["doctor", "--json", "--data-dir", data.to_str().unwrap()])
        .envs([("ZERO_SERVER_NAMES", NAME), ("ZERO_TLS_MODE", "files"), ("ZERO_SERVER_LISTEN", "127.0.0.1:0")])
        .env("ZERO_TLS_CERT_FILE", path("chain.pem"))
        .env("ZERO_TLS_KEY_FILE", path("key.pem"))
        .output()
        .unwrap();
    let report: Value = serde_json::from_slice(&doctor.stdout).unwrap();
    assert_eq!((about(&report, "error"), about(&report, "ok")), (1, 0), "{report}");
    assert!(report["findings"].as_array().unwrap().iter().any(|f| f["check"] == "names" && f["severity"] == "warning"));
}
