//! What arrives malformed, unknown or unasked gets its clear answer.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt;
use http_body::Frame;
use http_body_util::StreamBody;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use reqwest::Method;
use serde_json::json;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::server::{EMAIL, PASSWORD, Server, trusting};

#[tokio::test]
async fn every_route_refuses_strangers_and_every_error_has_the_one_shape() {
    let server = Server::start_with(&[("ZERO_LIMITS_UNAUTHENTICATED_PER_MINUTE", "1000")]).await;
    let document = server.send(server.request(Method::GET, "/openapi.json")).await.expect(200);
    assert_eq!(document["openapi"], "3.1.0");
    let public = [
        "/health",
        "/setup",
        "/openapi.json",
        "/auth/login",
        "/auth/refresh",
        "/auth/mfa/verify",
        "/auth/links/accept",
        "/auth/password/reset",
        "/system/ca",
        "/system/ca.pem",
        "/system/ca.der",
        "/system/ca.mobileconfig",
    ];
    let mut walked = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        let path = path.strip_prefix("/api/v1").unwrap();
        if public.contains(&path) {
            continue;
        }
        for method in methods.as_object().unwrap().keys() {
            let method: Method = method.to_uppercase().parse().unwrap();
            let concrete = path.replace("{id}", "01900000-0000-7000-8000-000000000000");
            let concrete = concrete.replace("{cid}", "01900000-0000-7000-8000-000000000000");
            for token in [None, Some("nonsense"), Some("zdt_nonsense"), Some("zak_nonsense")] {
                let request = server.request(method.clone(), &concrete);
                let request = token.into_iter().fold(request, |request, token| request.bearer_auth(token));
                let reply = server.send(request).await;
                assert_eq!(reply.status, 401, "{method} {path}");
                let error = reply.json();
                assert_eq!(error["code"], 401);
                assert!(error["message"].is_string() && error["details"].is_string());
                assert_eq!(error["request_id"], reply.header("x-request-id"));
                assert!(reply.header("x-ratelimit-limit") == "1000");
            }
            walked += 1;
        }
    }
    assert!(walked >= 20, "only {walked} routes were walked");
}

#[tokio::test]
async fn malformed_requests_are_named_for_what_they_are() {
    let server = Server::start().await;
    let admin = server.token().await;
    let enroll = |body: Vec<u8>, kind: &str| {
        let request = server.request(Method::POST, "/devices/enroll").bearer_auth(&admin);
        server.send(request.header("content-type", kind).body(body))
    };
    let json_type = "application/json";
    assert_eq!(enroll(b"{}".to_vec(), "text/plain").await.status, 415);
    assert_eq!(enroll(b"{".to_vec(), json_type).await.status, 400);
    let not_utf8 = enroll(b"{\"device_name\":\"\xff\"}".to_vec(), json_type).await.expect(400);
    assert!(not_utf8["details"].as_str().unwrap().contains("UTF-8"));
    let deep = enroll(["[".repeat(33), "]".repeat(33)].concat().into_bytes(), json_type).await.expect(400);
    assert!(deep["details"].as_str().unwrap().contains("32"));
    let too_large = enroll(vec![b' '; 1024 * 1024 + 1], json_type).await;
    assert_eq!((too_large.status.as_u16(), too_large.header("connection")), (413, "close"));
    let missing = enroll(br#"{"platform":"linux","agent":1}"#.to_vec(), json_type).await.expect(400);
    let details = missing["details"].as_str().unwrap();
    for part in ["device_name is required", "agent_version is required", "agent is not a known member"] {
        assert!(details.contains(part), "{details}");
    }
    let reply = server.delete("/devices", &admin).await;
    assert_eq!((reply.status.as_u16(), reply.header("allow")), (405, "GET, HEAD"));
    server.get("/nothing", &admin).await.expect(404);
    server.get("/devices/not-an-id", &admin).await.expect(404);
    let foreign = server.request(Method::GET, "/health").header("host", "evil.example");
    assert_eq!(server.send(foreign).await.status, 421);
}

/// What the network's edge refuses has all that other errors have: a support case starts with the request's id.
#[tokio::test]
async fn what_is_no_request_gets_an_error_like_any_other() {
    let server = Server::start().await;
    let in_clear = server.in_clear("GET /api/v1/health HTTP/1.1\r\nhost: zero.lan\r\n\r\n");
    let malformed = server.raw("nonsense\r\n\r\n");
    let too_large = server.raw(&format!("GET / HTTP/1.1\r\nhost: localhost\r\nx: {}\r\n\r\n", "y".repeat(20_000)));
    for (answer, status) in [(in_clear, 400), (malformed, 400), (too_large, 431)] {
        let (head, body) = answer.split_once("\r\n\r\n").expect("an answer");
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
        let header = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).expect(name);
        let error: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!((&error["code"], &error["request_id"]), (&json!(status), &json!(header("x-request-id: "))));
        assert!(error["message"].is_string() && error["details"].is_string());
        for name in ["x-ratelimit-limit: ", "x-ratelimit-remaining: ", "x-ratelimit-reset: "] {
            assert!(header(name).parse::<u64>().is_ok(), "{head}");
        }
    }
    let large_header = server.request(Method::GET, "/health").header("x", "y".repeat(20_000));
    assert_eq!(server.send(large_header).await.status, 431);
}

#[tokio::test]
async fn limits_count_strangers_by_address_and_nobody_else_for_them() {
    let server = Server::start_with(&[("ZERO_LIMITS_UNAUTHENTICATED_PER_MINUTE", "5")]).await;
    let admin = server.token().await;
    let mut last = 0;
    for _ in 0..8 {
        last = server.send(server.request(Method::GET, "/health")).await.status.as_u16();
    }
    assert_eq!(last, 429);
    let refused = server.send(server.request(Method::GET, "/health")).await;
    assert!(refused.header("retry-after").parse::<u64>().unwrap() >= 1);
    assert_eq!(refused.header("x-ratelimit-remaining"), "0");
    server.get("/auth/me", &admin).await.expect(200);
}

#[tokio::test]
async fn a_refresh_token_is_good_once_and_its_theft_ends_the_session() {
    let server = Server::start().await;
    let first = server.log_in().await;
    let refresh = |token: &serde_json::Value| {
        server.send(server.request(Method::POST, "/auth/refresh").json(&json!({"refresh_token": token})))
    };
    let second = refresh(&first["refresh_token"]).await.expect(200);
    let token = second["token"].as_str().unwrap();
    server.get("/auth/me", token).await.expect(200);
    refresh(&first["refresh_token"]).await.expect(401);
    server.get("/auth/me", token).await.expect(401);
    refresh(&second["refresh_token"]).await.expect(401);
}

/// Otherwise whoever has stolen a token needs the key alone to be handed the owner's next one.
#[tokio::test]
async fn a_spent_refresh_token_ends_the_session_also_under_the_same_idempotency_key() {
    let server = Server::start().await;
    let first = server.log_in().await;
    let refresh = || {
        let request = server.request(Method::POST, "/auth/refresh").header("Idempotency-Key", "one");
        server.send(request.json(&json!({"refresh_token": first["refresh_token"]})))
    };
    let second = refresh().await.expect(200);
    refresh().await.expect(401);
    server.get("/auth/me", second["token"].as_str().unwrap()).await.expect(401);
}

#[tokio::test]
async fn logging_out_and_changing_the_password_end_sessions_at_once() {
    let server = Server::start().await;
    let (one, two) = (server.token().await, server.token().await);
    assert_eq!(server.get("/auth/sessions", &one).await.expect(200)["total"], 2);
    let body = json!({"current_password": PASSWORD, "new_password": "another good password"});
    server.post("/auth/password", &one, body).await.expect(204);
    server.get("/auth/me", &two).await.expect(401);
    server.get("/auth/me", &one).await.expect(200);
    server.post("/auth/logout", &one, json!({})).await.expect(204);
    server.get("/auth/me", &one).await.expect(401);
}

#[tokio::test]
async fn guessing_is_stopped_after_five_failures() {
    let server = Server::start().await;
    let log_in = |email: &str, password: &str| {
        let body = json!({"email": email, "password": password});
        server.send(server.request(Method::POST, "/auth/login").json(&body))
    };
    let unknown = log_in("nobody@acme.example", "wrong wrong wrong").await.expect(401);
    for _ in 0..5 {
        let wrong = log_in(EMAIL, "wrong wrong wrong").await.expect(401);
        assert_eq!((&wrong["message"], &unknown["message"]), (&json!("invalid credentials"), &wrong["message"]));
    }
    let locked = log_in(EMAIL, PASSWORD).await;
    assert!(locked.header("retry-after").parse::<u64>().unwrap() > 800);
    assert_eq!(locked.expect(429)["message"], "too many login attempts, try again in 15 minutes");
}

/// curl 7.88, for one, shows no answer when the stream is closed while it still sends.
#[tokio::test]
async fn an_answer_over_http2_waits_a_moment_for_what_the_client_still_sends() {
    let server = Server::start().await;
    let post = async |body| {
        let mut tls = trusting(&server.folder.path().join("data/tls/ca.pem"));
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let socket = TcpStream::connect(("127.0.0.1", server.port())).await.unwrap();
        let stream = TlsConnector::from(Arc::new(tls)).connect("localhost".try_into().unwrap(), socket).await.unwrap();
        let (mut client, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let request = http::Request::post(format!("{}/api/v1/devices/enroll", server.base));
        let request = request.header("authorization", "Bearer nonsense").body(StreamBody::new(body)).unwrap();
        let asked = Instant::now();
        assert_eq!(client.send_request(request).await.unwrap().status(), 401);
        asked.elapsed()
    };
    let part = || Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"{")));
    let pause = Duration::from_millis(300);
    let slow = futures_util::stream::once(async move {
        tokio::time::sleep(pause).await;
        part()
    });
    assert!(post(slow.boxed()).await >= pause);
    let endless = futures_util::stream::iter([part()]).chain(futures_util::stream::pending());
    assert!(post(endless.boxed()).await < Duration::from_secs(5));
}
