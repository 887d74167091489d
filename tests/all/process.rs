//! The binary as its users meet it: commands, signals, kills, damaged files.

use std::fs::Permissions;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use serde_json::json;
use tempfile::TempDir;

use crate::server::{Server, init, trusting, zero};

#[test]
fn init_refuses_a_folder_that_is_set_up_and_serve_a_file_that_is_damaged() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    assert!(init(&data).status.success());
    let again = init(&data);
    assert_eq!(again.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&again.stderr).contains("set up already"));

    let file = data.join("zero.redb");
    let good = std::fs::read(&file).unwrap();
    let mut flipped = good.clone();
    flipped[0] ^= 1;
    for damaged in [Vec::new(), good[..good.len() / 2].to_vec(), vec![0; good.len()], flipped] {
        std::fs::write(&file, &damaged).unwrap();
        let serve = zero(&["serve", "--data-dir", data.to_str().unwrap(), "--listen", "127.0.0.1:0"]).output().unwrap();
        assert_eq!(serve.status.code(), Some(1));
        assert!(!serve.stderr.is_empty());
        assert!(std::fs::read(&file).unwrap() == damaged, "the file was changed");
    }
}

/// As a volume or a mounted disk is handed over.
#[test]
fn an_empty_folder_for_the_data_is_closed_to_other_users_and_one_with_something_in_it_is_left() {
    for (there, mode) in [(None, 0o700), (Some("of somebody"), 0o755)] {
        let data = TempDir::new().unwrap();
        std::fs::set_permissions(data.path(), Permissions::from_mode(0o755)).unwrap();
        if let Some(name) = there {
            std::fs::write(data.path().join(name), "").unwrap();
        }
        assert!(init(data.path()).status.success());
        assert_eq!(data.path().metadata().unwrap().permissions().mode() & 0o777, mode, "{there:?}");
    }
}

#[test]
fn commands_say_what_is_wrong_and_what_they_are() {
    assert!(zero(&["version"]).output().unwrap().status.success());
    let document = zero(&["openapi"]).output().unwrap();
    let document: serde_json::Value = serde_json::from_slice(&document.stdout).unwrap();
    assert_eq!(document["openapi"], "3.1.0");
    let wrong =
        zero(&["check-config"]).env("ZERO_LOG_LEVEL", "loud").env("ZERO_STORE_CACHE_MIB", "0").output().unwrap();
    assert_eq!(wrong.status.code(), Some(2));
    let text = String::from_utf8_lossy(&wrong.stderr);
    assert!(text.contains("ZERO_LOG_LEVEL") && text.contains("ZERO_STORE_CACHE_MIB"), "{text}");
}

#[tokio::test]
async fn a_second_server_on_the_folder_is_refused_and_a_signal_ends_the_first_in_order() {
    let mut server = Server::start().await;
    let data = server.folder.path().join("data");
    let second = zero(&["serve", "--data-dir", data.to_str().unwrap(), "--listen", "127.0.0.1:0"])
        .stdout(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&second.stderr).contains("another zero is running"));
    let pid = rustix::process::Pid::from_child(&server.process);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert!(server.process.wait().unwrap().success());
}

/// With a request under way that takes half a minute, the first signal waits and the second does not.
#[test]
fn a_second_signal_ends_the_process_at_once_and_the_log_says_so() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    assert!(init(&data).status.success());
    let mut process =
        zero(&["serve", "--data-dir", data.to_str().unwrap(), "--listen", "127.0.0.1:0"]).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(process.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let port = line.trim().rsplit(':').next().unwrap().parse::<u16>().unwrap();
    let config = trusting(&data.join("tls/ca.pem"));
    let client = rustls::ClientConnection::new(config.into(), "localhost".try_into().unwrap()).unwrap();
    let mut under_way = rustls::StreamOwned::new(client, TcpStream::connect(("127.0.0.1", port)).unwrap());
    // Its body never comes.
    let head = "POST /api/v1/auth/login HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\n\r\n";
    under_way.write_all(head.as_bytes()).unwrap();
    let pid = rustix::process::Pid::from_child(&process);
    let mut log = BufReader::new(process.stderr.take().unwrap()).lines().map(Result::unwrap);
    for said in ["told to stop: finishing", "told to stop again"] {
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        assert!(log.any(|line| line.contains(said)), "the log does not say: {said}");
    }
    assert_eq!(process.wait().unwrap().code(), Some(1));
}

/// What systemd is told by a unit of the type notify with a watchdog.
#[test]
fn the_service_manager_hears_that_the_appliance_is_ready_lives_and_stops() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("notify");
    let manager = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
    let hear = || {
        let mut said = [0; 256];
        let length = manager.recv(&mut said).expect("a word from the appliance");
        String::from_utf8_lossy(&said[..length]).trim().to_owned()
    };
    let data = folder.path().join("data");
    assert!(init(&data).status.success());
    let mut process = zero(&["serve", "--data-dir", data.to_str().unwrap(), "--listen", "127.0.0.1:0"])
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "400000")
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let heard: Vec<String> = (0..4).map(|_| hear()).collect();
    assert_eq!(heard, ["READY=1", "WATCHDOG=1", "WATCHDOG=1", "WATCHDOG=1"]);
    let pid = rustix::process::Pid::from_child(&process);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    while hear() != "STOPPING=1" {}
    assert!(process.wait().unwrap().success());
}

/// Hashing a password takes 19 MiB for a moment. Kept by every thread that ever did it, that is more than a Raspberry Pi
/// has.
#[tokio::test]
async fn logins_leave_no_memory_behind() {
    let server = Server::start().await;
    let kib = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", server.process.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.split_whitespace().next().unwrap().parse::<u64>().unwrap()
    };
    server.log_in().await;
    let before = kib();
    for _ in 0..4 {
        server.log_in().await;
    }
    assert!(kib() < before + 10 * 1024, "{before} KiB after one login, {} after five", kib());
}

#[tokio::test]
async fn nothing_acknowledged_is_lost_to_twenty_kills_under_load() {
    let mut server = Server::start_with(&[("ZERO_LIMITS_AUTHENTICATED_PER_MINUTE", "1000000")]).await;
    let admin = server.token().await;
    let mut acknowledged: Vec<String> = Vec::new();
    for round in 0..20 {
        let body = |n: usize| json!({"device_name": format!("{round}-{n}"), "platform": "linux", "agent_version": "1"});
        let kill_after = 5 + round * 3;
        let pid = rustix::process::Pid::from_child(&server.process);
        let (done, mut answers) = tokio::sync::mpsc::unbounded_channel::<String>();
        let mut clients = tokio::task::JoinSet::new();
        for client in 0..4 {
            let (done, request) = (done.clone(), server.request(reqwest::Method::POST, "/devices/enroll"));
            let request = request.bearer_auth(&admin);
            let bodies: Vec<_> = (0..100).map(|n| body(client * 100 + n)).collect();
            clients.spawn(async move {
                for body in bodies {
                    let request = request.try_clone().unwrap().json(&body);
                    let Ok(response) = request.send().await else { return };
                    let Ok(device) = response.json::<serde_json::Value>().await else { return };
                    let _ = done.send(device["id"].as_str().unwrap().into());
                }
            });
        }
        drop(done);
        let mut here = 0;
        while let Some(id) = answers.recv().await {
            acknowledged.push(id);
            here += 1;
            if here == kill_after {
                rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
            }
        }
        clients.join_all().await;
        server = server.crash_and_restart().await;
    }
    for id in &acknowledged {
        server.get(&format!("/devices/{id}"), &admin).await.expect(200);
    }
    // Each enrolment and its audit entry stand or fall together.
    let devices = server.get("/devices", &admin).await.expect(200)["total"].as_u64().unwrap();
    let log = server.get("/audit-logs?action=device.enroll", &admin).await.expect(200);
    assert_eq!(log["total"].as_u64().unwrap(), devices);
    assert!(devices >= acknowledged.len() as u64 && acknowledged.len() >= 20 * 5);
}
