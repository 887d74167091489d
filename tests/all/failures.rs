//! A disk that fails under the running binary, and files that it must not touch.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde_json::{Value, json};

use crate::server::{Server, trusting};

fn connect(server: &Server) -> rustls::StreamOwned<rustls::ClientConnection, TcpStream> {
    let address = server.base.strip_prefix("https://localhost").unwrap();
    let config = trusting(&server.folder.path().join("data/tls/ca.pem"));
    let client = rustls::ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
    let socket = TcpStream::connect(format!("127.0.0.1{address}")).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    rustls::StreamOwned::new(client, socket)
}

#[tokio::test]
async fn a_disk_that_fails_is_said_to_and_costs_nothing_that_was_acknowledged() {
    let mut server = Server::start().await;
    let admin = server.token().await;
    let (kept, _) = server.enroll(&admin, "before").await;
    // A request under way, which a server that stops still answers.
    let mut waiting = connect(&server);
    waiting.write_all(b"GET /api/v1/health HTTP/1.1\r\n").unwrap();

    // From here on a write to the data file fails, as on a full disk.
    let limit = Rlimit { current: Some(4096), maximum: None };
    prlimit(Some(Pid::from_child(&server.process)), Resource::Fsize, limit).unwrap();
    let body = json!({"device_name": "after", "platform": "linux", "agent_version": "1"});
    let refused = server.post("/devices/enroll", &admin, body).await;
    assert_eq!(refused.header("retry-after"), "5");
    refused.expect(503);

    // It stops by itself; what is connected is told why.
    while TcpStream::connect(waiting.sock.peer_addr().unwrap()).is_ok() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    waiting.write_all(b"host: localhost\r\n\r\n").unwrap();
    let mut answer = String::new();
    waiting.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 503") && head.contains("retry-after: 5"), "{head}");
    let body: Value = serde_json::from_str(body).unwrap();
    assert_eq!(body["status"], "degraded");
    assert!(body["checks"]["database"].as_str().unwrap().contains("the disk has failed"), "{body}");
    assert_eq!(server.process.wait().unwrap().code(), Some(1));

    let server = server.crash_and_restart().await;
    let devices = server.get("/devices", &admin).await.expect(200);
    assert_eq!((&devices["total"], &devices["data"][0]["id"]), (&json!(1), &json!(kept)));
}
