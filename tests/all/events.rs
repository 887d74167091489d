//! Following what changes, as a dashboard does.

use std::time::Duration;

use futures_util::future::join_all;
use reqwest::{Method, StatusCode, Version};
use serde_json::{Value, json};
use tokio::time::timeout;
use zero::clock::{Clock, SystemClock};
use zero::ids::OrganizationId;
use zero::store::audit::AuditEvent;
use zero::store::write::Audited;

use crate::organizations::{found, log_in, text};
use crate::server::{EMAIL, PASSWORD, Server, trusting};

const SOON: Duration = Duration::from_secs(20);

/// A stream of events, read as the standard says (WHATWG HTML, section 9.2).
struct Events {
    response: reqwest::Response,
    text: String,
}

#[derive(Debug)]
struct Event {
    id: u64,
    name: String,
    data: Value,
}

impl Events {
    async fn open(server: &Server, token: &str, last: Option<&str>) -> Self {
        let mut request = server.request(Method::GET, "/events").bearer_auth(token);
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        Self::of(request.send().await.unwrap())
    }

    fn of(response: reqwest::Response) -> Self {
        assert_eq!(response.status(), StatusCode::OK);
        let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
        assert_eq!((header("content-type"), header("cache-control")), ("text/event-stream".into(), "no-store".into()));
        Self { response, text: String::new() }
    }

    /// From now on: what was before is not told.
    async fn from_now(server: &Server, token: &str) -> Self {
        let mut events = Self::open(server, token, None).await;
        assert_eq!(events.next().await.unwrap().name, "ready");
        events
    }

    /// The next block, comments included; `None` at the end, and when the connection broke off.
    async fn block(&mut self) -> Option<String> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.text = rest;
                return Some(block);
            }
            let piece = timeout(SOON, self.response.chunk()).await.expect("nothing came");
            self.text.push_str(std::str::from_utf8(&piece.ok()??).unwrap());
        }
    }

    async fn next(&mut self) -> Option<Event> {
        loop {
            let block = self.block().await?;
            let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            let Some(data) = field("data") else { continue };
            let data: Value = serde_json::from_str(data).unwrap();
            let id = field("id").unwrap().parse().unwrap();
            assert_eq!(data["id"], id);
            return Some(Event { id, name: field("event").unwrap().into(), data });
        }
    }

    async fn take(&mut self, count: usize) -> Vec<Event> {
        let mut taken = Vec::new();
        while taken.len() < count {
            taken.push(self.next().await.expect("one more event"));
        }
        taken
    }

    /// The names of all that comes before one with this name.
    async fn until(&mut self, name: &str) -> Vec<String> {
        let mut names = Vec::new();
        loop {
            let event = self.next().await.unwrap_or_else(|| panic!("it ended before {name}: {names:?}"));
            if event.name == name {
                return names;
            }
            names.push(event.name);
        }
    }
}

async fn user(server: &Server, admin: &str, name: &str, role: &str) -> (String, String) {
    let email = format!("{name}@acme.example");
    let new = json!({"name": name, "email": email, "role": role, "password": PASSWORD});
    let id = text(&server.post("/users", admin, new).await.expect(201)["id"]);
    (id, log_in(server, &email).await)
}

async fn policy(server: &Server, admin: &str, name: &str) -> String {
    text(&server.post("/policies", admin, json!({"name": name, "policy_data": {}})).await.expect(201)["id"])
}

#[tokio::test]
async fn what_changes_is_told_in_order_and_over_both_protocols() {
    let server = Server::start().await;
    let admin = server.token().await;
    let ca = server.folder.path().join("data/tls/ca.pem");
    for (protocol, version) in [("http/1.1", Version::HTTP_11), ("h2", Version::HTTP_2)] {
        let mut tls = trusting(&ca);
        tls.alpn_protocols = vec![protocol.into()];
        let client = reqwest::Client::builder().tls_backend_preconfigured(tls);
        let client = if protocol == "h2" { client } else { client.http1_only() }.build().unwrap();
        let request = client.get(format!("{}/api/v1/events", server.base)).bearer_auth(&admin);
        let response = request.send().await.unwrap();
        assert_eq!(response.version(), version);
        let mut events = Events::of(response);
        assert!(events.block().await.unwrap().starts_with("retry: "), "clients must not come back all at once");

        let (device, _) = server.enroll(&admin, &format!("laptop\n\ndata: {protocol} ü")).await;
        let id = policy(&server, &admin, &format!("Base {protocol}")).await;
        server.delete(&format!("/policies/{id}"), &admin).await;
        let told = events.take(3).await;
        let names: Vec<&str> = told.iter().map(|event| event.name.as_str()).collect();
        assert_eq!(names, ["device.enrolled", "policy.created", "policy.deleted"]);
        assert!(told.windows(2).all(|pair| pair[1].id == pair[0].id + 1), "{told:?}");
        let first = &told[0].data;
        assert_eq!(
            first["resource"],
            json!({"type": "device", "id": device, "name": format!("laptop\n\ndata: {protocol} ü")})
        );
        assert_eq!((&first["action"], &first["event"]), (&json!("device.enroll"), &json!("device.enrolled")));
        assert_eq!((&first["actor"]["type"], &first["result"]), (&json!("user"), &json!("success")));
    }
}

#[tokio::test]
async fn whoever_was_cut_off_goes_on_without_a_gap_also_after_a_crash() {
    let server = Server::start().await;
    let admin = server.token().await;
    let mut events = Events::from_now(&server, &admin).await;
    let first = policy(&server, &admin, "One").await;
    let seen = events.take(1).await.remove(0);
    assert_eq!(seen.data["resource"]["id"], first);
    drop(events);
    let mut made = vec![policy(&server, &admin, "Two").await];
    let server = server.crash_and_restart().await;
    made.push(policy(&server, &admin, "Three").await);
    let mut events = Events::open(&server, &admin, Some(&seen.id.to_string())).await;
    made.push(policy(&server, &admin, "Four").await);
    let ready = events.next().await.unwrap();
    assert_eq!((ready.name.as_str(), ready.id), ("ready", seen.id));
    let told = events.take(3).await;
    assert_eq!(told.iter().map(|event| text(&event.data["resource"]["id"])).collect::<Vec<_>>(), made);
    assert_eq!(told.iter().map(|event| event.id).collect::<Vec<_>>(), [1, 2, 3].map(|more| seen.id + more));

    // From the beginning, and from where nobody can have been.
    let mut all = Events::open(&server, &admin, Some("0")).await;
    let every = all.take(1 + usize::try_from(told[2].id).unwrap()).await;
    assert_eq!(every.last().unwrap().id, told[2].id);
    for (nowhere, why) in [("1000000", "no event"), ("x", "not the id"), ("-1", "not the id")] {
        let mut events = Events::open(&server, &admin, Some(nowhere)).await;
        let reset = events.next().await.unwrap();
        assert_eq!((reset.name.as_str(), reset.id), ("reset", told[2].id), "{nowhere}");
        assert!(text(&reset.data["reason"]).contains(why), "{reset:?}");
    }
}

/// Reading on as if nothing were missing would leave what is shown wrong for good.
#[tokio::test]
async fn whoever_was_away_for_longer_than_the_log_is_kept_is_told_to_read_anew() {
    let server = Server::start().await;
    let acme = organization(&server).await;
    let server = server
        .restart_with(SystemClock::new().now(), move |tx| {
            let end = tx.now().plus(Duration::from_secs(10));
            let event = zero::store::audit::retention::step(tx, acme, end, 2)?;
            Ok(Audited::new((), event.unwrap()))
        })
        .await;
    let admin = server.token().await;
    let reset = Events::open(&server, &admin, Some("1")).await.next().await.unwrap();
    assert_eq!(reset.name, "reset");
    assert!(text(&reset.data["reason"]).contains("kept"), "{reset:?}");
    let mut events = Events::open(&server, &admin, Some("2")).await;
    let (ready, first) = (events.next().await.unwrap(), events.next().await.unwrap());
    assert_eq!((ready.name.as_str(), ready.id, first.id), ("ready", 2, 3));
}

async fn organization(server: &Server) -> OrganizationId {
    OrganizationId::parse(&text(&server.log_in().await["user"]["organization_id"])).unwrap()
}

#[tokio::test]
async fn everybody_is_told_what_they_may_see_and_users_of_their_own_devices() {
    let server = Server::start().await;
    let root = server.token().await;
    let (_, ann) = user(&server, &root, "ann", "user").await;
    let (_, desk) = user(&server, &root, "desk", "help_desk").await;
    let (_, auditor) = user(&server, &root, "audi", "auditor").await;
    found(&server, &root, "Umbrella").await;
    let foreign = log_in(&server, "admin@umbrella.example").await;
    let mut streams = Vec::new();
    for token in [&ann, &desk, &auditor, &foreign] {
        streams.push(Events::from_now(&server, token).await);
    }
    server.enroll(&root, "not ann's").await;
    policy(&server, &root, "Base").await;
    server.post("/groups", &root, json!({"name": "Sales"})).await.expect(201);
    let hook = json!({"url": "https://10.255.255.1/", "events": ["webhook.test"]});
    server.post("/webhooks", &root, hook).await.expect(201);
    log_in(&server, EMAIL).await;
    let (device, _) = server.enroll(&ann, "ann's").await;
    server.post(&format!("/devices/{device}/lock"), &root, json!({})).await.expect(200);
    server.enroll(&foreign, "foreign").await;

    let [anns, desks, auditors, foreigns] = &mut streams[..] else { unreachable!() };
    let told = anns.take(2).await;
    assert!(told.iter().all(|event| event.data["resource"]["id"] == device.as_str()), "{told:?}");
    assert_eq!(told[0].name, "device.enrolled");
    assert!(told.iter().all(|event| event.data.get("actor").is_none()), "who looks after devices is not hers to see");
    assert_eq!(desks.until("device.lock").await, ["device.enrolled", "group.create", "device.enrolled"]);
    let all = auditors.until("device.lock").await;
    let expected = ["device.enrolled", "policy.created", "group.create", "webhook.create", "auth.login.success"];
    assert_eq!(all, [&expected[..], &["device.enrolled"]].concat());
    let foreign = foreigns.take(1).await;
    assert_eq!(foreign[0].data["resource"]["name"], "foreign");
}

#[tokio::test]
async fn whoever_may_no_longer_see_it_is_not_told_the_next_event() {
    let server = Server::start().await;
    let root = server.token().await;
    let revoke = |id: String| (Method::POST, format!("/users/{id}/revoke-sessions"), json!({}));
    let suspend = |id: String| (Method::POST, format!("/users/{id}/suspend"), json!({}));
    let remove = |id: String| (Method::DELETE, format!("/users/{id}"), json!({}));
    let ways: [&dyn Fn(String) -> (Method, String, Value); 3] = [&revoke, &suspend, &remove];
    for (number, end) in ways.into_iter().enumerate() {
        let (id, token) = user(&server, &root, &format!("gone{number}"), "auditor").await;
        let mut events = Events::from_now(&server, &token).await;
        let (method, path, body) = end(id);
        let ended = server.send(server.request(method, &path).bearer_auth(&root).json(&body)).await;
        assert!(ended.status.is_success(), "{} {}", ended.status, ended.text);
        policy(&server, &root, &format!("Secret {number}")).await;
        assert!(events.next().await.is_none(), "it is told of what it must not see");
    }
    let key = server.post("/api-keys", &root, json!({"name": "script", "role": "auditor"})).await.expect(201);
    let mut events = Events::from_now(&server, &text(&key["key"])).await;
    server.delete(&format!("/api-keys/{}", text(&key["id"])), &root).await.expect(204);
    policy(&server, &root, "Secret too").await;
    assert!(events.next().await.is_none());

    let role = json!({"name": "planner", "permissions": ["policies.view", "users.view"]});
    let role = text(&server.post("/roles", &root, role).await.expect(201)["id"]);
    let (_, planner) = user(&server, &root, "planner", "planner").await;
    let mut events = Events::from_now(&server, &planner).await;
    policy(&server, &root, "Seen").await;
    let narrowed = json!({"name": "planner", "permissions": ["users.view"]});
    server.put(&format!("/roles/{role}"), &root, narrowed).await.expect(200);
    policy(&server, &root, "Not seen").await;
    server.post("/groups", &root, json!({"name": "Seen"})).await.expect(201);
    assert_eq!(events.until("group.create").await, ["policy.created", "role.update"]);
}

#[tokio::test]
async fn nobody_takes_the_streams_of_all() {
    let limits = [("ZERO_LIMITS_AUTHENTICATED_PER_MINUTE", "100000"), ("ZERO_AUTH_SESSIONS_PER_USER", "100")];
    let server = Server::start_with(&limits).await;
    let root = server.token().await;
    let mut open = Vec::new();
    for _ in 0..8 {
        open.push(Events::from_now(&server, &root).await);
    }
    let refused = server.get("/events", &root).await;
    assert_eq!(refused.status, 429);
    assert!(refused.headers.contains_key("retry-after"));
    assert!(refused.text.contains("8 streams"));
    drop(open.pop());
    // The place is free as soon as the server has seen that its reader is gone.
    while server.get("/events", &root).await.status != 200 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let key = |number: usize| {
        let (server, root) = (&server, &root);
        async move {
            let new = json!({"name": format!("script {number}"), "role": "auditor"});
            text(&server.post("/api-keys", root, new).await.expect(201)["key"])
        }
    };
    let keys = join_all((0..32).map(key)).await;
    let mut last = StatusCode::OK;
    'all: for key in &keys {
        for _ in 0..8 {
            let response = server.request(Method::GET, "/events").bearer_auth(key).send().await.unwrap();
            last = response.status();
            if !last.is_success() {
                break 'all;
            }
            open.push(Events::of(response));
        }
    }
    assert_eq!(last, StatusCode::TOO_MANY_REQUESTS);
    assert!((185..=192).contains(&open.len()), "{} are open", open.len());
    server.get("/health", &root).await.expect(200);
    policy(&server, &root, "Told to all").await;
    for events in &mut open {
        events.until("policy.created").await;
    }
}

#[tokio::test]
async fn a_quiet_stream_lives_on_and_ends_at_once_when_the_server_stops() {
    let mut server = Server::start().await;
    let admin = server.token().await;
    let mut events = Events::from_now(&server, &admin).await;
    assert_eq!(events.block().await.unwrap(), ": ", "a proxy would cut a stream that says nothing");
    let process = server.process.id().to_string();
    let began = std::time::Instant::now();
    assert!(std::process::Command::new("kill").args(["-TERM", &process]).status().unwrap().success());
    assert!(events.next().await.is_none());
    assert!(server.process.wait().unwrap().success());
    assert!(began.elapsed() < Duration::from_secs(5), "it took {:?}", began.elapsed());
}

/// A reader that takes nothing holds no more than what fits its connection, and keeps its place for a minute at most.
#[tokio::test]
async fn a_reader_that_stalls_is_cut_off_and_holds_nobody_up() {
    use std::io::{Read, Write};
    const ENTRIES: u64 = 30_000;
    let server = Server::start().await;
    let server = server
        .restart_with(SystemClock::new().now(), |_| {
            let event = |n: u64| AuditEvent::new("policy.update").on("policy", n, &"x".repeat(300));
            Ok((1..ENTRIES).fold(Audited::new((), event(0)), |all, n| all.and(event(n))))
        })
        .await;
    let admin = server.token().await;
    let mut stalled = server.connect();
    let request = format!(
        "GET /api/v1/events HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {admin}\r\nlast-event-id: 0\r\n\r\n"
    );
    stalled.write_all(request.as_bytes()).unwrap();
    stalled.read_exact(&mut [0; 1024]).unwrap();
    // Another one reads all of it meanwhile.
    let mut events = Events::open(&server, &admin, Some("0")).await;
    assert!(events.until("auth.login.success").await.len() as u64 > ENTRIES);
    tokio::time::sleep(Duration::from_secs(60)).await;
    let rest = std::io::copy(&mut stalled, &mut std::io::sink()).unwrap_or(0);
    assert!(rest < ENTRIES * 400, "{rest} bytes were kept for it");
}
