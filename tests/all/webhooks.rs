//! Other systems learn of every event, once at least, whatever happens to them, to the appliance or on the way.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use reqwest::Method;
use ring::hmac;
use serde_json::{Value, json};

use crate::organizations::{found, log_in, text};
use crate::receiver::{Received, Receiver};
use crate::server::{PASSWORD, Server};

const SECRET: &str = "a secret of sixteen letters or more";

async fn start() -> Server {
    Server::start_with(&[("ZERO_WEBHOOKS_ALLOW_LOOPBACK", "true"), ("ZERO_LIMITS_AUTHENTICATED_PER_MINUTE", "100000")])
        .await
}

async fn subscribe(server: &Server, token: &str, url: &str, events: &[&str]) -> String {
    let body = json!({"url": url, "events": events, "secret": SECRET});
    text(&server.post("/webhooks", token, body).await.expect(201)["id"])
}

fn is_signed(secret: &str, header: &str, received: &Received) -> bool {
    let Some(signature) = received.headers.get(header).and_then(|text| text.strip_prefix("sha256=")) else {
        return false;
    };
    let bytes: Vec<u8> = (0..signature.len() / 2)
        .map(|at| u8::from_str_radix(&signature[2 * at..2 * at + 2], 16).expect("lower-case hexadecimal"))
        .collect();
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    hmac::verify(&key, received.body.as_bytes(), &bytes).is_ok()
}

/// Reads the newest deliveries until they are as `wanted`.
async fn deliveries_when(server: &Server, token: &str, id: &str, wanted: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    let began = Instant::now();
    loop {
        let page = server.get(&format!("/webhooks/{id}/deliveries?page_size=100"), token).await.expect(200);
        let all = page["data"].as_array().unwrap().clone();
        if wanted(&all) {
            return all;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "the deliveries stay {all:#?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn log(server: &Server, token: &str, action: &str) -> Vec<Value> {
    let page = server.get(&format!("/audit-logs?action={action}"), token).await.expect(200);
    page["data"].as_array().unwrap().clone()
}

#[tokio::test]
async fn a_receiver_can_tell_that_an_event_is_real_and_what_happened() {
    let server = start().await;
    let token = server.token().await;
    let mut all = Receiver::answering(204).await;
    let mut devices = Receiver::answering(200).await;
    let mut enrolments = Receiver::answering(200).await;
    subscribe(&server, &token, &all.url, &["*"]).await;
    subscribe(&server, &token, &devices.url, &["device.*"]).await;
    subscribe(&server, &token, &enrolments.url, &["device.enrolled"]).await;

    let (device, device_token) = server.enroll(&token, "laptop").await;
    let first = all.next().await;
    assert!(is_signed(SECRET, "x-zero-signature", &first));
    assert!(!first.headers.contains_key("x-zero-signature-previous"));
    assert_eq!(first.headers["x-zero-event"], "device.enrolled");
    assert_eq!(first.headers["content-type"], "application/json");
    let body = first.json();
    let data = json!({"device_id": device, "device_name": "laptop", "platform": "linux"});
    assert_eq!(body, json!({"event": "device.enrolled", "timestamp": body["timestamp"], "data": data}));
    assert_eq!(body["timestamp"], first.headers["x-zero-timestamp"]);
    assert_ne!(devices.next().await.headers["x-zero-delivery"], first.headers["x-zero-delivery"]);
    assert_eq!(enrolments.next().await.event(), "device.enrolled");

    // Everything that the contract names, in the order in which it happens.
    server.post(&format!("/devices/{device}/checkin"), &device_token, json!({})).await.expect(200);
    let send = |method: Method, path: &str, body: Value| {
        let request = server.request(method, path).bearer_auth(&token).json(&body);
        async { server.send(request).await.expect(200) }
    };
    let put = |path: &str, body: Value| send(Method::PUT, path, body);
    put(&format!("/devices/{device}/status"), json!({"status": "suspended"})).await;
    put(&format!("/devices/{device}/status"), json!({"status": "online"})).await;
    for command in ["lock", "wipe"] {
        let given = server.post(&format!("/devices/{device}/{command}"), &token, json!({})).await.expect(200);
        server.post(&format!("/devices/{device}/checkin"), &device_token, json!({})).await.expect(200);
        let result = format!("/devices/{device}/commands/{}/result", text(&given["id"]));
        server.post(&result, &device_token, json!({"status": "succeeded"})).await.expect(200);
    }
    server.delete(&format!("/devices/{device}"), &token).await.expect(204);
    let (lost, _) = server.enroll(&token, "lost").await;
    server.post(&format!("/devices/{lost}/wipe"), &token, json!({"force": true})).await.expect(200);
    let (kiosk, _) = server.enroll(&token, "kiosk").await;
    let policy = server.post("/policies", &token, json!({"name": "Base", "policy_data": {}})).await.expect(201);
    let policy = format!("/policies/{}", text(&policy["id"]));
    put(&policy, json!({"name": "Base 2", "policy_data": {}})).await;
    server.post(&format!("{policy}/assign"), &token, json!({"default": true})).await.expect(200);
    server.post(&format!("{policy}/unassign"), &token, json!({"default": true})).await.expect(200);
    let of_its_own = json!({"policy_id": policy.rsplit('/').next()});
    send(Method::PATCH, &format!("/devices/{kiosk}"), of_its_own).await;
    send(Method::PATCH, &format!("/devices/{kiosk}"), json!({"policy_id": null})).await;
    server.delete(&policy, &token).await.expect(204);
    let user = json!({"name": "Bob", "email": "bob@acme.example", "role": "user", "password": PASSWORD});
    let user = server.post("/users", &token, user).await.expect(201);
    let path = format!("/users/{}", text(&user["id"]));
    put(&path, json!({"name": "Rob", "email": "bob@acme.example", "role": "user"})).await;
    server.post(&format!("{path}/suspend"), &token, json!({})).await.expect(200);
    for _ in 0..5 {
        let body = json!({"email": "bob@acme.example", "password": "wrong"});
        server.send(server.request(Method::POST, "/auth/login").json(&body)).await.expect(401);
    }
    server.delete(&path, &token).await.expect(204);

    let expected = [
        "device.online",
        "device.suspended",
        "device.online",
        "device.locked",
        "device.wiped",
        "device.unenrolled",
        "device.enrolled",
        "device.enrolled",
        "device.wiped",
        "policy.created",
        "policy.updated",
        "policy.assigned",
        "policy.assigned",
        "policy.deleted",
        "user.created",
        "user.updated",
        "user.suspended",
        "audit.alert",
        "user.deleted",
    ];
    let mut told = Vec::new();
    while told.len() < expected.len() {
        told.push(all.next().await.json());
    }
    // Four leave at a time, so that they may arrive in another order.
    let mut names: Vec<_> = told.iter().map(|body| text(&body["event"])).collect();
    names.sort();
    let mut wanted = expected.to_vec();
    wanted.sort();
    assert_eq!(names, wanted);
    let data = |event: &str| &told.iter().find(|body| body["event"] == event).unwrap()["data"];
    assert_eq!(data("device.unenrolled")["platform"], "linux", "of a device that is gone as well");
    assert_eq!(data("policy.updated")["policy_name"], "Base 2");
    assert_eq!(*data("user.deleted"), json!({"user_id": user["id"], "user_name": "Rob"}));
    assert_eq!(
        (&data("audit.alert")["action"], &data("audit.alert")["resource_id"]),
        (&json!("auth.lockout"), &user["id"])
    );
    for _ in expected.iter().filter(|event| event.starts_with("device.")) {
        assert!(devices.next().await.event().starts_with("device."));
    }
    for id in [&lost, &kiosk] {
        assert_eq!(enrolments.next().await.json()["data"]["device_id"], json!(id));
    }
    assert!(devices.is_quiet().await && enrolments.is_quiet().await);
}

#[tokio::test]
async fn a_delivery_that_fails_is_tried_again_under_its_id_and_can_be_sent_once_more() {
    let server = start().await;
    let token = server.token().await;
    let mut receiver = Receiver::answering_in_turn(&[500, 302, 200]).await;
    let id = subscribe(&server, &token, &receiver.url, &["device.*"]).await;
    server.enroll(&token, "laptop").await;
    let tries = [receiver.next().await, receiver.next().await, receiver.next().await];
    assert!(tries.iter().all(|one| one.body == tries[0].body && one.headers["x-zero-delivery"] == tries[0].id()));
    let done = deliveries_when(&server, &token, &id, |all| all[0]["state"] == "delivered").await;
    assert_eq!((done.len(), &done[0]["id"]), (1, &json!(tries[0].id())));
    let attempts = done[0]["attempts"].as_array().unwrap();
    let status: Vec<_> = attempts.iter().map(|attempt| attempt["status"].as_u64().unwrap()).collect();
    assert_eq!(status, [500, 302, 200]);
    assert_eq!(attempts[1]["error"], "answered 302: redirects are not followed");
    assert_eq!((&attempts[2]["error"], &attempts[2]["answer"]), (&Value::Null, &json!("answered 200")));
    let shown = server.get(&format!("/webhooks/{id}"), &token).await.expect(200);
    assert_eq!((&shown["pending"], &shown["failing_since"]), (&json!(0), &Value::Null));

    let again = format!("/webhooks/{id}/deliveries/{}/redeliver", tries[0].id());
    assert_eq!(server.post(&again, &token, json!({})).await.expect(200)["state"], "pending");
    let fourth = receiver.next().await;
    assert_eq!((fourth.id(), &fourth.body), (tries[0].id(), &tries[0].body));
    deliveries_when(&server, &token, &id, |all| all[0]["state"] == "delivered").await;

    // A test is for this webhook alone, though it has not asked for such.
    let test = server.post(&format!("/webhooks/{id}/test"), &token, json!({})).await.expect(200);
    let tested = receiver.next().await;
    assert_eq!((tested.id(), tested.event()), (text(&test["id"]).as_str(), "webhook.test"));
    assert_eq!(tested.json()["data"]["webhook_id"], json!(id));
    let newest = deliveries_when(&server, &token, &id, |all| all[0]["state"] == "delivered").await;
    assert_eq!(newest[0]["id"], test["id"], "newest first");
}

#[tokio::test]
async fn no_event_is_lost_to_kills_between_commit_and_delivery_and_none_changes_its_id() {
    let mut server = start().await;
    let token = server.token().await;
    let mut receiver = Receiver::answering(200).await;
    let id = subscribe(&server, &token, &receiver.url, &["device.enrolled"]).await;
    let mut devices = Vec::new();
    for round in 0..20 {
        for number in 0..4 {
            devices.push(server.enroll(&token, &format!("{round}-{number}")).await.0);
        }
        server = server.crash_and_restart().await;
    }
    deliveries_when(&server, &token, &id, |all| all.iter().all(|one| one["state"] == "delivered")).await;
    let mut ids = std::collections::BTreeMap::new();
    while ids.len() < devices.len() {
        let received = receiver.next().await;
        let device = text(&received.json()["data"]["device_id"]);
        let known = ids.entry(device).or_insert_with(|| received.id().to_owned());
        assert_eq!(known, received.id(), "an event that is sent twice has one id");
    }
    devices.sort();
    assert_eq!(ids.into_keys().collect::<Vec<_>>(), devices);
}

/// How long each of thirty changes and as many reads takes, in order.
async fn times(server: &Server, token: &str, name: &str) -> Vec<Duration> {
    let mut times = Vec::new();
    for number in 0..30 {
        let began = Instant::now();
        server.enroll(token, &format!("{name} {number}")).await;
        server.get("/devices", token).await.expect(200);
        times.push(began.elapsed());
    }
    times.sort();
    times
}

#[tokio::test]
async fn a_thousand_endpoints_all_dead_do_not_slow_the_api_down() {
    let server = start().await;
    let root = server.token().await;
    let hanging = Receiver::hanging().await;
    let down = Receiver::answering(200).await;
    let (hanging, refusing) = (hanging.url.clone(), down.url.clone());
    down.stop().await;
    let before = times(&server, &root, "before").await;
    let mut admins = Vec::new();
    for number in 0..10 {
        found(&server, &root, &format!("Tenant{number}")).await;
        let admin = log_in(&server, &format!("admin@tenant{number}.example")).await;
        let url = |hook: u32| format!("{}/{number}/{hook}", if hook.is_multiple_of(2) { &hanging } else { &refusing });
        let all = (0..100_u32).map(|hook| {
            let (server, admin, url) = (&server, &admin, url(hook));
            async move { subscribe(server, admin, &url, &["device.enrolled"]).await }
        });
        futures_util::future::join_all(all).await;
        admins.push(admin);
    }
    for admin in &admins {
        server.enroll(admin, "laptop").await;
    }
    let after = times(&server, &root, "after").await;
    // Debug builds on busy machines: what is looked for is a standstill, not a percentage.
    let (median, worst) = (after[15], after[29]);
    assert!(median < before[15] * 3 + Duration::from_millis(50), "{before:?} became {after:?}");
    assert!(worst < before[29] * 3 + Duration::from_millis(500), "{before:?} became {after:?}");
    let waiting = server.get("/webhooks?page_size=100", &admins[0]).await.expect(200);
    assert!(waiting["data"].as_array().unwrap().iter().all(|webhook| webhook["pending"] == 1), "{waiting}");
}

#[tokio::test]
async fn events_wait_for_a_receiver_that_is_down_and_a_dead_one_delays_nobody() {
    let server = start().await;
    let token = server.token().await;
    let mut alive = Receiver::answering(200).await;
    let down = Receiver::answering(200).await;
    let (port, url) = (down.port, down.url.clone());
    down.stop().await;
    let bad = [Receiver::hanging().await, Receiver::dripping().await, Receiver::endless().await];
    for receiver in &bad {
        subscribe(&server, &token, &receiver.url, &["device.enrolled"]).await;
    }
    let id = subscribe(&server, &token, &url, &["device.enrolled"]).await;
    subscribe(&server, &token, &alive.url, &["device.enrolled"]).await;
    let began = Instant::now();
    for number in 0..20 {
        server.enroll(&token, &format!("laptop {number}")).await;
        alive.next().await;
    }
    assert!(began.elapsed() < Duration::from_secs(8), "twenty events took {:?}", began.elapsed());

    let waiting =
        deliveries_when(&server, &token, &id, |all| !all[19]["attempts"].as_array().unwrap().is_empty()).await;
    assert!(waiting.iter().all(|one| one["state"] == "pending"));
    assert!(text(&waiting[19]["attempts"][0]["error"]).starts_with("cannot connect to 127.0.0.1:"));
    let shown = server.get(&format!("/webhooks/{id}"), &token).await.expect(200);
    assert!(shown["pending"] == 20 && shown["failing_since"].is_string());

    let mut up = Receiver::on_port(port).await;
    let mut got = std::collections::BTreeSet::new();
    while got.len() < 20 {
        got.insert(up.next().await.id().to_owned());
    }
    deliveries_when(&server, &token, &id, |all| all.iter().all(|one| one["state"] == "delivered")).await;

    // What hangs ends after 10 seconds; what answers for ever has answered, and is cut off.
    let all = server.get("/webhooks", &token).await.expect(200);
    for (receiver, state) in bad.iter().zip(["pending", "delivered", "delivered"]) {
        let found = all["data"].as_array().unwrap().iter().find(|hook| hook["url"] == json!(receiver.url)).unwrap();
        let tried = |all: &[Value]| !all.last().unwrap()["attempts"].as_array().unwrap().is_empty();
        let tried = deliveries_when(&server, &token, &text(&found["id"]), tried).await;
        let oldest = tried.last().unwrap();
        assert_eq!(oldest["state"], state, "{oldest:#}");
        let attempt = &oldest["attempts"][0];
        assert!(attempt["duration_ms"].as_u64().unwrap() < 11_000, "{attempt:#}");
        assert!(text(&attempt["answer"]).len() <= 1024);
        if state == "pending" {
            assert_eq!(attempt["error"], "no answer within 10 seconds");
        }
    }
}

/// Article 18: what was written before the restriction is processing too, and a receiver cannot unlearn it.
#[tokio::test]
async fn what_waits_is_not_sent_of_whoever_restricts_it_meanwhile() {
    let server = start().await;
    let root = server.token().await;
    let body = json!({"name": "Ann", "email": "ann@acme.example", "role": "user", "password": PASSWORD});
    let ann = text(&server.post("/users", &root, body).await.expect(201)["id"]);
    let token = log_in(&server, "ann@acme.example").await;
    let down = Receiver::answering(200).await;
    let (port, url) = (down.port, down.url.clone());
    down.stop().await;
    let id = subscribe(&server, &root, &url, &["device.enrolled"]).await;
    server.enroll(&token, "Ann's").await;
    deliveries_when(&server, &root, &id, |all| all.len() == 1).await;
    server.post(&format!("/gdpr/restrict?user_id={ann}"), &root, json!({"restricted": true})).await.expect(200);
    let withheld = deliveries_when(&server, &root, &id, |all| all[0]["state"] == "failed").await;
    let path = format!("/webhooks/{id}/deliveries/{}/redeliver", text(&withheld[0]["id"]));
    server.post(&path, &root, json!({})).await.expect(409);
    server.enroll(&token, "Ann's second").await;

    let mut up = Receiver::on_port(port).await;
    server.enroll(&root, "Another's").await;
    assert_eq!(up.next().await.json()["data"]["device_name"], "Another's", "it is the first to arrive");
    let all = deliveries_when(&server, &root, &id, |all| all[0]["state"] == "delivered").await;
    assert_eq!(all.len(), 2, "{all:#?}");
}

#[tokio::test]
async fn a_receiver_that_is_gone_is_told_nothing_more_until_somebody_enables_it() {
    let server = start().await;
    let token = server.token().await;
    let mut watch = Receiver::answering(200).await;
    subscribe(&server, &token, &watch.url, &["audit.alert"]).await;
    let mut receiver = Receiver::answering_in_turn(&[410, 200]).await;
    let id = subscribe(&server, &token, &receiver.url, &["device.enrolled"]).await;
    let path = format!("/webhooks/{id}");
    server.enroll(&token, "one").await;
    receiver.next().await;
    let alert = watch.next().await.json();
    assert_eq!(alert["data"]["action"], "webhook.disable");
    assert_eq!(alert["data"]["resource_id"], json!(id));
    let shown = server.get(&path, &token).await.expect(200);
    assert_eq!(
        (&shown["enabled"], &shown["disabled_reason"]),
        (&json!(false), &json!("the receiver answered 410 Gone"))
    );
    let entry = &log(&server, &token, "webhook.disable").await[0];
    assert_eq!((&entry["actor"]["type"], &entry["resource"]["id"]), (&json!("system"), &json!(id)));
    server.post(&format!("{path}/test"), &token, json!({})).await.expect(409);
    server.enroll(&token, "two").await;
    server.put(&path, &token, json!({"enabled": true})).await.expect(200);
    let (third, _) = server.enroll(&token, "three").await;
    assert_eq!(receiver.next().await.json()["data"]["device_id"], json!(third));
    let all = deliveries_when(&server, &token, &id, |all| all[0]["state"] == "delivered").await;
    assert_eq!((all.len(), &all[1]["state"]), (2, &json!("failed")));
}

#[tokio::test]
async fn a_secret_is_shown_once_and_both_sign_while_receivers_change_over() {
    let server = start().await;
    let token = server.token().await;
    let mut receiver = Receiver::answering(200).await;
    let made = json!({"url": receiver.url, "events": ["device.enrolled"]});
    let made = server.post("/webhooks", &token, made).await.expect(201);
    let (first, path) = (text(&made["secret"]), format!("/webhooks/{}", text(&made["id"])));
    let rotated = server.send(server.request(Method::POST, &format!("{path}/rotate-secret")).bearer_auth(&token)).await;
    let rotated = rotated.expect(200);
    let second = text(&rotated["secret"]);
    assert!(first != second && rotated["previous_secret_until"].is_string());
    server.enroll(&token, "one").await;
    let both = receiver.next().await;
    assert!(is_signed(&second, "x-zero-signature", &both) && is_signed(&first, "x-zero-signature-previous", &both));
    let third = json!({"secret": SECRET});
    server.post(&format!("{path}/rotate-secret"), &token, third).await.expect(200);
    server.enroll(&token, "two").await;
    let both = receiver.next().await;
    assert!(is_signed(SECRET, "x-zero-signature", &both) && is_signed(&second, "x-zero-signature-previous", &both));
    for shown in [&path, "/webhooks", &format!("{path}/deliveries"), "/audit-logs"] {
        let shown = server.get(shown, &token).await.text;
        assert!(![&first, &second, SECRET].iter().any(|secret| shown.contains(*secret)), "{shown}");
    }
    server.post(&format!("{path}/rotate-secret"), &token, json!({"secret": "short"})).await.expect(400);
}

#[tokio::test]
async fn webhooks_are_made_changed_and_deleted_and_what_is_wrong_is_named() {
    let server = start().await;
    let token = server.token().await;
    let wrong =
        json!({"url": "https://example.com/", "events": ["device.enrolled", "device.exploded", "device.enrolled"]});
    let wrong = server.post("/webhooks", &token, wrong).await.expect(400);
    let fields: Vec<_> = wrong["errors"].as_array().unwrap().iter().map(|error| text(&error["field"])).collect();
    assert_eq!(fields, ["events[1]", "events[2]"]);
    for body in [
        json!({"url": "https://example.com/"}),
        json!({"url": "https://example.com/", "events": []}),
        json!({"url": "https://example.com/", "events": ["*"], "secret": "fifteen letters"}),
        json!({"url": "https://example.com/", "events": ["*"], "color": "red"}),
        json!({"url": "ftp://example.com/", "events": ["*"]}),
        json!({"url": format!("{}/api/v1/webhooks", server.base), "events": ["*"]}),
        json!({"url": "https://169.254.169.254/latest/meta-data", "events": ["*"]}),
    ] {
        server.post("/webhooks", &token, body).await.expect(400);
    }
    let id = subscribe(&server, &token, "https://192.0.2.7/hook", &["device.*", "policy.updated"]).await;
    let path = format!("/webhooks/{id}");
    let reply = server.get(&path, &token).await;
    let tag = reply.header("etag").to_owned();
    let shown = reply.expect(200);
    assert_eq!((&shown["enabled"], &shown["events"]), (&json!(true), &json!(["device.*", "policy.updated"])));
    let changed = server.put(&path, &token, json!({"url": "https://192.0.2.8/", "events": ["*"]})).await.expect(200);
    assert_eq!((&changed["url"], &changed["events"]), (&json!("https://192.0.2.8/"), &json!(["*"])));
    server.put(&path, &token, json!({"url": "https://[::ffff:169.254.169.254]/"})).await.expect(400);
    server.put(&path, &token, json!({"events": ["nothing.*"]})).await.expect(400);
    for method in [Method::PUT, Method::DELETE] {
        let stale = server.request(method, &path).bearer_auth(&token).header("if-match", &tag).json(&json!({}));
        server.send(stale).await.expect(412);
    }
    let auditor = json!({"name": "Eve", "email": "eve@acme.example", "role": "auditor", "password": PASSWORD});
    server.post("/users", &token, auditor).await.expect(201);
    let auditor = crate::organizations::log_in(&server, "eve@acme.example").await;
    assert_eq!(server.get("/webhooks", &auditor).await.expect(200)["total"], 1);
    server.get(&format!("{path}/deliveries"), &auditor).await.expect(200);
    server.delete(&path, &auditor).await.expect(403);
    server.post(&format!("{path}/test"), &auditor, json!({})).await.expect(403);
    server.delete(&path, &token).await.expect(204);
    server.get(&path, &token).await.expect(404);
    for action in ["webhook.create", "webhook.update", "webhook.delete"] {
        assert_eq!(log(&server, &token, action).await.len(), 1, "{action}");
    }
    for number in 0..100 {
        subscribe(&server, &token, &format!("https://192.0.2.7/{number}"), &["webhook.test"]).await;
    }
    let more = json!({"url": "https://192.0.2.7/", "events": ["*"]});
    server.post("/webhooks", &token, more).await.expect(409);
}

/// As `README.md` has it: the example checks what is signed, in a language that shares no line with the appliance.
#[tokio::test]
async fn the_example_of_a_receiver_takes_what_is_signed_with_its_secret_and_nothing_else() {
    let server = start().await;
    let token = server.token().await;
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/receiver.py");
    let mut python = Command::new("python3")
        .args([file, "0"])
        .env("ZERO_SECRET", SECRET)
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3, for the example");
    let mut lines = BufReader::new(python.stdout.take().unwrap()).lines().map(Result::unwrap);
    let port = lines.next().unwrap();
    let url = format!("http://127.0.0.1:{port}/");
    let id = subscribe(&server, &token, &url, &["device.enrolled"]).await;
    let other = json!({"url": url, "events": ["device.enrolled"], "secret": "another secret of sixteen letters"});
    let other = text(&server.post("/webhooks", &token, other).await.expect(201)["id"]);
    let (device, _) = server.enroll(&token, "laptop").await;
    let printed: Value = serde_json::from_str(&lines.next().unwrap()).unwrap();
    assert_eq!(printed["data"]["device_id"], json!(device));
    deliveries_when(&server, &token, &id, |all| all[0]["state"] == "delivered").await;
    let tried = |all: &[Value]| !all[0]["attempts"].as_array().unwrap().is_empty();
    assert_eq!(deliveries_when(&server, &token, &other, tried).await[0]["attempts"][0]["status"], 401);
    python.kill().unwrap();
    python.wait().unwrap();
}

/// Without the setting that these tests need, this machine is out of reach: in every notation, and to deliveries of a
/// webhook that was made before.
#[tokio::test]
async fn the_machine_itself_is_out_of_reach_unless_a_setting_says_otherwise() {
    let server = Server::start().await;
    let token = server.token().await;
    for host in ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "0177.1", "[::1]", "[::ffff:7f00:1]", "0.0.0.0"] {
        let body = json!({"url": format!("http://{host}:9000/"), "events": ["*"]});
        let refused = server.post("/webhooks", &token, body).await.expect(400);
        assert_eq!(refused["errors"][0]["field"], "url", "{host}");
    }
}
