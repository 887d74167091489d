//! Behind a proxy: whom the appliance takes its clients for, and what it says when it cannot know.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::json;
use tokio::net::TcpSocket;

use crate::server::{EMAIL, PASSWORD, Server, trusting, zero};

/// Where the proxy of these tests is; the tests' own client is at 127.0.0.1.
const PROXY: &str = "127.0.0.2";
const BEHIND: [(&str, &str); 2] = [("ZERO_SERVER_TRUSTED_PROXIES", PROXY), ("ZERO_SERVER_PROXY_PROTOCOL", "true")];

/// A header of version 2 with this command and family, and what follows them.
fn header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    header.extend([0x20 | command, family]);
    header.extend((rest.len() as u16).to_be_bytes());
    header.extend(rest);
    header
}

/// Somebody at this address, with an addition that says nothing.
fn from(address: [u8; 4]) -> Vec<u8> {
    let mut rest = [address, [127, 0, 0, 1]].concat();
    rest.extend([0xC0, 0x00, 0x20, 0xFB]);
    rest.extend([0x04, 0x00, 0x02, 0x00, 0x00]);
    header(1, 0x11, &rest)
}

/// A connection from that address which begins with these bytes.
async fn connect(server: &Server, from: &str, first: &[u8]) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(from.parse().unwrap(), 0)).unwrap();
    let stream = socket.connect(SocketAddr::from(([127, 0, 0, 1], server.port()))).await.unwrap();
    let mut stream = stream.into_std().unwrap();
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(first).unwrap();
    stream
}

/// What is answered to a request on the connection; nothing where it is closed instead.
fn ask(server: &Server, stream: TcpStream, request: &str) -> Option<String> {
    let config = trusting(&server.folder.path().join("data/tls/ca.pem"));
    let client = rustls::ClientConnection::new(config.into(), "localhost".try_into().unwrap()).unwrap();
    let mut stream = rustls::StreamOwned::new(client, stream);
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

/// Signs in over the connection: what stands in the audit log is where it came from.
fn sign_in(server: &Server, stream: TcpStream) -> Option<String> {
    let body = json!({"email": EMAIL, "password": PASSWORD}).to_string();
    let length = body.len();
    let request = format!(
        "POST /api/v1/auth/login HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\n\
         x-forwarded-for: 198.51.100.66\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    ask(server, stream, &request)
}

/// The log is written a moment after what it tells.
async fn logs(server: &Server, line: &str) {
    let started = Instant::now();
    while !server.log().contains(line) {
        assert!(started.elapsed() < Duration::from_secs(20), "the log does not say {line:?}: {}", server.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn last_source(server: &Server, admin: &str) -> String {
    let log = server.get("/audit-logs?action=auth.login.success&page_size=1", admin).await.expect(200);
    log["data"][0]["source_ip"].as_str().unwrap().into()
}

#[tokio::test]
async fn limits_and_audit_see_the_client_that_a_trusted_proxy_names_and_nobody_else_can_name_one() {
    let server = Server::start_with(&BEHIND).await;
    let admin = server.token().await;
    let cases: [(Vec<u8>, &str); 4] = [
        (from([203, 0, 113, 9]), "203.0.113.9"),
        // An IPv6 client.
        (header(1, 0x21, &[&[0x20, 1, 0x0D, 0xB8], [0; 32].as_slice()].concat()), "2001:db8::"),
        // The proxy itself: its own header of HTTP is believed, as everywhere.
        (header(0, 0x00, &[]), "198.51.100.66"),
        // A socket of UNIX has no address.
        (header(1, 0x31, &[b'/'; 216]), "198.51.100.66"),
    ];
    for (first, expected) in cases {
        let answer = sign_in(&server, connect(&server, PROXY, &first).await).expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 200"), "{expected}: {answer}");
        assert_eq!(last_source(&server, &admin).await, expected);
    }
    // Everybody else speaks for themselves.
    let answer = sign_in(&server, connect(&server, "127.0.0.3", &[]).await).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(last_source(&server, &admin).await, "127.0.0.3");
    assert_eq!(sign_in(&server, connect(&server, "127.0.0.3", &from([203, 0, 113, 9])).await), None);
    logs(&server, "closed a connection with a PROXY header").await;
}

#[tokio::test]
async fn a_trusted_proxy_that_does_not_say_whom_it_speaks_for_is_not_served() {
    let server = Server::start_with(&BEHIND).await;
    let mut version_3 = from([203, 0, 113, 9]);
    version_3[12] = 0x31;
    let wrong: [&[u8]; 5] = [
        b"",
        b"PROXY TCP4 203.0.113.9 127.0.0.1 49152 8443\r\n",
        &version_3,
        // Too long, and too short for an address.
        &header(1, 0x11, &[0; 4000]),
        &header(1, 0x11, &[0; 4]),
    ];
    for first in wrong {
        let stream = connect(&server, PROXY, first).await;
        assert_eq!(sign_in(&server, stream), None, "{first:?}");
    }
    logs(&server, "closed a connection of a trusted proxy").await;
}

#[tokio::test]
async fn each_client_behind_a_proxy_has_its_own_number_of_connections() {
    let mut settings = BEHIND.to_vec();
    settings.push(("ZERO_SERVER_CONNECTIONS_PER_ADDRESS", "2"));
    let server = Server::start_with(&settings).await;
    let health = "GET /api/v1/health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    // Held open before TLS begins.
    let mut held = Vec::new();
    for _ in 0..2 {
        held.push(connect(&server, PROXY, &from([203, 0, 113, 9])).await);
    }
    for (client, is_served) in [([203, 0, 113, 10], true), ([203, 0, 113, 9], false)] {
        let answer = ask(&server, connect(&server, PROXY, &from(client)).await, health);
        assert_eq!(answer.is_some_and(|answer| answer.starts_with("HTTP/1.1 200")), is_served, "{client:?}");
    }
}

#[tokio::test]
async fn whoever_forgot_to_name_the_proxy_is_told_which_setting_has_which_value() {
    let server = Server::start_with(&[("ZERO_LIMITS_UNAUTHENTICATED_PER_MINUTE", "1000")]).await;
    let admin = server.token().await;
    let findings = async || {
        let request =
            server.request(Method::GET, "/system").bearer_auth(&admin).header("x-forwarded-for", "203.0.113.9");
        server.send(request).await.expect(200)["findings"].clone()
    };
    assert_eq!(findings().await, json!([]));
    for _ in 0..100 {
        let request = server.request(Method::GET, "/health").header("x-forwarded-for", "203.0.113.9");
        server.send(request).await.expect(200);
    }
    let found = findings().await;
    assert_eq!((found.as_array().unwrap().len(), &found[0]["check"]), (1, &"trusted_proxies".into()), "{found}");
    let setting = r#"server.trusted_proxies = ["127.0.0.1"]"#;
    assert!(found[0]["remedy"].as_str().unwrap().contains(setting), "{found}");
    let data = server.folder.path().join("data");
    let doctor = zero(&["doctor", "--data-dir", data.to_str().unwrap()]).output().unwrap();
    assert!(String::from_utf8_lossy(&doctor.stdout).contains(setting), "{doctor:?}");
    logs(&server, "set server.trusted_proxies").await;
    let told = server.log().lines().filter(|line| line.contains("set server.trusted_proxies")).count();
    assert_eq!(told, 1, "one line");
}

#[tokio::test]
async fn links_begin_with_what_people_reach_and_not_with_what_the_proxy_does() {
    let server = Server::start_with(&[
        ("ZERO_SERVER_NAMES", "zero.example.com"),
        ("ZERO_SERVER_PUBLIC_URL", "https://zero.example.com"),
    ])
    .await;
    let admin = server.token().await;
    let mia = json!({"name": "Mia", "email": "mia@acme.example", "role": "user"});
    let made = server.post("/users", &admin, mia).await.expect(201);
    let link = made["invitation"]["url"].as_str().unwrap();
    assert!(link.starts_with("https://zero.example.com/invite#"), "{link}");
}
