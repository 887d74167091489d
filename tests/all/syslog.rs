//! The copy of the audit log that goes to a collector: a small one that fails as it is told, and Debian's rsyslog.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use zero::clock::{Clock, SystemClock};
use zero::ids::OrganizationId;
use zero::store::audit::{forwarded, retention};
use zero::store::write::Audited;

use crate::organizations::text;
use crate::server::{EMAIL, PASSWORD, Server};

const SOON: Duration = Duration::from_secs(30);

fn leaked(text: String) -> &'static str {
    Box::leak(text.into_boxed_str())
}

fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

async fn sending_to(port: u16, more: &[(&'static str, &'static str)]) -> Server {
    let server = leaked(format!("127.0.0.1:{port}"));
    Server::start_with(&[&[("ZERO_SYSLOG_SERVER", server), ("ZERO_SYSLOG_TLS", "false")], more].concat()).await
}

/// The end of one connection at which frames arrive.
struct Collected(BufReader<TcpStream>);

impl Collected {
    fn accept(listener: &TcpListener) -> Self {
        let socket = listener.accept().unwrap().0;
        socket.set_read_timeout(Some(SOON)).unwrap();
        Self(BufReader::new(socket))
    }

    fn next(&mut self) -> Option<String> {
        let mut length = Vec::new();
        self.0.read_until(b' ', &mut length).ok().filter(|read| *read > 0)?;
        let length = std::str::from_utf8(&length).unwrap().trim_end().parse().expect("a frame begins with its length");
        let mut message = vec![0; length];
        self.0.read_exact(&mut message).ok()?;
        Some(String::from_utf8(message).unwrap())
    }

    /// All up to an entry with this action.
    fn until(&mut self, action: &str) -> Vec<String> {
        let mut found = Vec::new();
        loop {
            let message = self.next().unwrap_or_else(|| panic!("{action} does not come: {found:?}"));
            let is_last = parameter(&message, "action") == action;
            found.push(message);
            if is_last {
                return found;
            }
        }
    }
}

fn parameter<'a>(message: &'a str, name: &str) -> &'a str {
    let value = message.split_once(&format!(" {name}=\"")).unwrap_or_else(|| panic!("no {name} in {message}")).1;
    value.split_once('"').unwrap().0
}

fn seq(message: &str) -> u64 {
    parameter(message, "seq").parse().unwrap()
}

async fn head(server: &Server, token: &str) -> u64 {
    server.get("/audit-logs?page_size=1", token).await.expect(200)["data"][0]["seq"].as_u64().unwrap()
}

/// The collector runs in threads that wait, so that the test's own thread goes on.
async fn waiting<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_entry_arrives_in_order_and_without_names() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let server = sending_to(listener.local_addr().unwrap().port(), &[]).await;
    let admin = server.token().await;
    server.enroll(&admin, "Ann's \"laptop\"]").await;
    let wrong = json!({"email": "nobody@secret.example", "password": "wrong"});
    server.send(server.request(reqwest::Method::POST, "/auth/login").json(&wrong)).await.expect(401);
    server.post("/groups", &admin, json!({"name": "The last"})).await.expect(201);
    let all = waiting(move || Collected::accept(&listener).until("group.create")).await;
    assert_eq!(
        all.iter().map(|message| seq(message)).collect::<Vec<_>>(),
        (1..=head(&server, &admin).await).collect::<Vec<_>>()
    );
    for message in &all {
        for name in ["Ann", "laptop", EMAIL, "secret.example", "The last"] {
            assert!(!message.contains(name), "{name} cannot be erased from {message}");
        }
    }
    let enrolled = all.iter().find(|message| parameter(message, "action") == "device.enroll").unwrap();
    assert!(
        enrolled.starts_with("<110>1 20") && enrolled.contains("Z ") && enrolled.contains(" zero - device.enroll [")
    );
    let failed = all.iter().find(|message| parameter(message, "action") == "auth.login.failure").unwrap();
    assert!(failed.starts_with("<108>1 "), "{failed}");
    let newest = &server.get("/audit-logs?action=device.enroll", &admin).await.expect(200)["data"][0];
    assert_eq!(parameter(enrolled, "hash"), newest["hash"]);
    assert_eq!(parameter(enrolled, "resource_id"), newest["resource"]["id"]);
}

/// Whoever restricted the processing of their data is in no copy, which nobody could take back.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_sent_of_whoever_has_restricted_it() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let server = sending_to(listener.local_addr().unwrap().port(), &[("ZERO_SYSLOG_NAMES", "true")]).await;
    let admin = server.token().await;
    let user = |name: &str| {
        json!({"name": name, "email": format!("{name}@acme.example"), "role": "user",
        "password": PASSWORD})
    };
    let ann = text(&server.post("/users", &admin, user("Ann")).await.expect(201)["id"]);
    server.post("/groups", &admin, json!({"name": "Sent"})).await.expect(201);
    let mut collected = waiting(move || Collected::accept(&listener)).await;
    let (before, mut collected) = waiting(move || (collected.until("group.create"), collected)).await;
    let made = before.iter().rfind(|message| parameter(message, "action") == "user.create").unwrap();
    assert_eq!(
        (parameter(made, "resource_id"), parameter(made, "resource_name")),
        (&*ann, "Ann"),
        "names were asked for"
    );
    server.post(&format!("/gdpr/restrict?user_id={ann}"), &admin, json!({"restricted": true})).await.expect(200);
    server.post(&format!("/users/{ann}/suspend"), &admin, json!({})).await.expect(200);
    server.post("/users", &admin, user("Bob")).await.expect(201);
    let (after, mut collected) = waiting(move || (collected.until("user.create"), collected)).await;
    assert!(after.iter().all(|message| !message.contains("Ann")), "{after:?}");
    let about: Vec<_> = after.iter().filter(|message| message.contains(&ann)).collect();
    assert!(about.iter().all(|message| parameter(message, "action") == "gdpr.restrict"), "{about:?}");

    // What they do to others is not hidden by it, only who they are.
    server.post("/gdpr/restrict", &admin, json!({"restricted": true})).await.expect(200);
    server.post("/groups", &admin, json!({"name": "Hidden?"})).await.expect(201);
    let after = waiting(move || collected.until("group.create")).await;
    let made = after.last().unwrap();
    assert!(made.contains("Hidden?") && !made.contains("Administrator"), "{made}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_entry_is_lost_to_collectors_that_die_nor_to_a_crash_of_the_server() {
    let port = free_port();
    let mut server = sending_to(port, &[]).await;
    let admin = server.token().await;
    let mut seen: BTreeSet<u64> = BTreeSet::new();
    for round in 0..4 {
        // Nobody is there, then somebody who dies after a few entries with others unread, then the server dies.
        for number in 0..5 {
            server.post("/groups", &admin, json!({"name": format!("{round}-{number}")})).await.expect(201);
        }
        let got = waiting(move || {
            let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
            let mut collected = Collected::accept(&listener);
            (0..3).filter_map(|_| collected.next()).map(|message| seq(&message)).collect::<Vec<_>>()
        });
        let (got, _) = tokio::join!(got, server.post("/groups", &admin, json!({"name": format!("{round}")})));
        assert_eq!(got.len(), 3);
        seen.extend(got);
        if round % 2 == 1 {
            server = server.crash_and_restart().await;
        }
    }
    server.post("/policies", &admin, json!({"name": "The last", "policy_data": {}})).await.expect(201);
    let last = waiting(move || {
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let mut collected = Collected::accept(&listener);
        collected.until("policy.create")
    });
    seen.extend(last.await.iter().map(|message| seq(message)));
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), (1..=head(&server, &admin).await).collect::<Vec<_>>());
    assert!(server.log().contains("syslog: no connection"), "whoever runs it is not told");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_is_remembered_and_what_was_let_go_unsent_is_said() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let server = sending_to(listener.local_addr().unwrap().port(), &[]).await;
    let me = server.log_in().await;
    let acme = OrganizationId::parse(&text(&me["user"]["organization_id"])).unwrap();
    let server = server
        .restart_with(SystemClock::new().now(), move |tx| {
            forwarded::put_places(tx, &forwarded::Places::from([(acme, 1)]))?;
            let end = tx.now().plus(Duration::from_secs(10));
            let event = retention::step(tx, acme, end, 2)?;
            Ok(Audited::new((), event.unwrap()))
        })
        .await;
    // The first connection was the one before the restart.
    let sent = waiting(move || {
        drop(listener.accept().unwrap());
        Collected::accept(&listener).until("system.syslog.skipped")
    });
    let sent = sent.await;
    assert_eq!(seq(&sent[0]), 3, "what was received before is not sent again");
    let admin = server.token().await;
    let said = &server.get("/audit-logs?action=system.syslog.skipped", &admin).await.expect(200)["data"][0];
    assert_eq!((&said["details"]["first"], &said["details"]["last"]), (&json!(2), &json!(2)));
}

/// Debian's rsyslog, with settings of its own, in a folder of its own.
struct Rsyslog {
    process: Child,
    folder: TempDir,
}

impl Rsyslog {
    fn start(port: u16, tls: Option<&(String, String)>) -> Self {
        let folder = TempDir::new().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let mut driver = String::new();
        if let Some((certificate, key)) = tls {
            std::fs::write(path("cert.pem"), certificate).unwrap();
            std::fs::write(path("key.pem"), key).unwrap();
            let (cert, key) = (path("cert.pem"), path("key.pem"));
            driver = format!(
                "global(DefaultNetstreamDriverCAFile=\"{cert}\" DefaultNetstreamDriverCertFile=\"{cert}\" \
                 DefaultNetstreamDriverKeyFile=\"{key}\")\n"
            );
        }
        let mode = if tls.is_some() {
            "StreamDriver.Name=\"ossl\" StreamDriver.Mode=\"1\" StreamDriver.AuthMode=\"anon\""
        } else {
            ""
        };
        let (spool, output) = (folder.path().display(), path("received"));
        let settings = format!(
            "global(workDirectory=\"{spool}\")\n{driver}module(load=\"imtcp\" {mode})\n\
             input(type=\"imtcp\" address=\"127.0.0.1\" port=\"{port}\")\n\
             template(name=\"all\" type=\"string\" string=\"%pri%|%hostname%|%app-name%|%msgid%|%structured-data%|%msg%\\n\")\n\
             action(type=\"omfile\" file=\"{output}\" template=\"all\" asyncWriting=\"off\" flushOnTXEnd=\"on\")\n"
        );
        std::fs::write(path("rsyslog.conf"), settings).unwrap();
        let log = std::fs::File::create(path("log")).unwrap();
        let process = Command::new("/usr/sbin/rsyslogd")
            .args(["-n", "-f", &path("rsyslog.conf"), "-i", &path("pid")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("rsyslogd is there: apt-get install rsyslog rsyslog-openssl");
        Self { process, folder }
    }

    fn received(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("received")).unwrap_or_default()
    }

    fn complaints(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    async fn until(&self, action: &str, server: &Server) -> Vec<String> {
        let began = Instant::now();
        loop {
            let received = self.received();
            if received.contains(action) {
                return received.lines().map(Into::into).collect();
            }
            assert!(began.elapsed() < SOON, "{received}\n{}\n{}", self.complaints(), server.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Rsyslog {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Reads what the appliance says of the copy until it is as `wanted`.
async fn state_when(server: &Server, admin: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let began = Instant::now();
    loop {
        let syslog = server.get("/system", admin).await.expect(200)["syslog"].clone();
        if wanted(&syslog) {
            return syslog;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "it stays {syslog}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn is_received_by_rsyslog(server: &Server, rsyslog: &Rsyslog) {
    let admin = server.token().await;
    server.enroll(&admin, "back\\slash \"and\" ] ü").await;
    server.post("/policies", &admin, json!({"name": "The last", "policy_data": {}})).await.expect(201);
    let lines = rsyslog.until("policy.create", server).await;
    let seqs: BTreeSet<u64> = lines.iter().map(|line| seq(line)).collect();
    assert_eq!(seqs.into_iter().collect::<Vec<_>>(), (1..=head(server, &admin).await).collect::<Vec<_>>());
    let enrolled = lines.iter().find(|line| line.contains("|device.enroll|")).unwrap();
    let fields: Vec<&str> = enrolled.split('|').collect();
    assert_eq!((fields[0], fields[2], fields[3]), ("110", "zero", "device.enroll"), "{enrolled}");
    assert!(fields[4].starts_with("[zero@32473 organization=\"") && fields[4].ends_with(']'), "{enrolled}");
    assert!(fields[4].contains(r#" resource_name="back\\slash \"and\" \] ü" "#), "{enrolled}");
    assert!(fields[5].trim().starts_with('{') && fields[5].ends_with('}'), "{enrolled}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rsyslog_takes_it_over_tcp_and_after_it_was_away() {
    let port = free_port();
    let server = sending_to(port, &[("ZERO_SYSLOG_NAMES", "true")]).await;
    let rsyslog = Rsyslog::start(port, None);
    is_received_by_rsyslog(&server, &rsyslog).await;
    drop(rsyslog);
    let admin = server.token().await;
    server.post("/groups", &admin, json!({"name": "Meanwhile"})).await.expect(201);
    let away = state_when(&server, &admin, |syslog| syslog["problem"].is_string()).await;
    assert!(away["connected"] == false && away["waiting"].as_u64() >= Some(1), "{away}");
    let rsyslog = Rsyslog::start(port, None);
    rsyslog.until("group.create", &server).await;
    state_when(&server, &admin, |syslog| syslog["connected"] == true && syslog["waiting"] == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rsyslog_takes_it_over_tls_and_nobody_else_does() {
    let made = rcgen::generate_simple_self_signed(["localhost".into()]).unwrap();
    let pair = (made.cert.pem(), made.signing_key.serialize_pem());
    let folder = TempDir::new().unwrap();
    let authority = |name: &str, pem: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, pem).unwrap();
        leaked(path_text(&path))
    };
    let stranger = rcgen::generate_simple_self_signed(["localhost".into()]).unwrap().cert.pem();
    let port = free_port();
    let rsyslog = Rsyslog::start(port, Some(&pair));
    let address = leaked(format!("localhost:{port}"));
    let settings = |ca| [("ZERO_SYSLOG_SERVER", address), ("ZERO_SYSLOG_CA_FILE", ca), ("ZERO_SYSLOG_NAMES", "true")];

    let server = Server::start_with(&settings(authority("other.pem", &stranger))).await;
    let began = Instant::now();
    while !server.log().contains("TLS: ") {
        assert!(began.elapsed() < SOON, "{}", server.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(rsyslog.received(), "", "the log went to whoever has an unknown certificate");
    drop(server);

    let server = Server::start_with(&settings(authority("ca.pem", &pair.0))).await;
    is_received_by_rsyslog(&server, &rsyslog).await;
}

fn path_text(path: &Path) -> String {
    path.display().to_string()
}
