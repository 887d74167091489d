//! A disk that fails under the running binary, and files that it must not touch.

use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde_json::{Value, json};

use tempfile::TempDir;

use crate::server::{Server, binary, init};

#[tokio::test]
async fn a_disk_that_fails_is_said_to_and_costs_nothing_that_was_acknowledged() {
    let mut server = Server::start().await;
    let admin = server.token().await;
    let (kept, _) = server.enroll(&admin, "before").await;
    // A request under way, which a server that stops still answers.
    let mut waiting = server.connect();
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

/// A folder that is set up.
fn set_up() -> TempDir {
    let folder = TempDir::new().unwrap();
    assert!(init(&folder.path().join("data")).status.success());
    folder
}

fn allow(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// Starts the server on a folder whose data file it must refuse; what it says on standard error.
fn refused(folder: &TempDir, mut serve: Command) -> String {
    let data = folder.path().join("data");
    let file = data.join("zero.redb");
    let before = fs::read(&file).unwrap();
    serve.args(["serve", "--data-dir", data.to_str().unwrap(), "--listen", "127.0.0.1:0"]).env_clear();
    let ended = serve.output().unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(ended.stdout.is_empty(), "it did not say that it is ready");
    assert!(fs::read(&file).unwrap() == before, "the file was changed");
    said
}

/// The binary as somebody whom permissions bind: they do not bind the administrator.
fn as_nobody(folder: &TempDir) -> Command {
    const NOBODY: u32 = 65534;
    if !rustix::process::geteuid().is_root() {
        return Command::new(binary());
    }
    let copy = folder.path().join("zero");
    fs::copy(binary(), &copy).unwrap();
    allow(folder.path(), 0o755);
    let mut command = Command::new(copy);
    command.uid(NOBODY).gid(NOBODY);
    command
}

#[test]
fn a_folder_or_a_file_that_cannot_be_written_is_named_and_left_alone() {
    let folder = set_up();
    let data = folder.path().join("data");
    let mut files: Vec<_> = fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.is_file());
    files.iter().for_each(|path| allow(path, 0o444));
    allow(&data, 0o555);
    let said = refused(&folder, as_nobody(&folder));
    assert!(said.contains(data.to_str().unwrap()) && said.contains("Permission denied"), "{said}");

    allow(&data, 0o777);
    allow(&data.join("zero.lock"), 0o666);
    let said = refused(&folder, as_nobody(&folder));
    assert!(said.contains(data.join("zero.redb").to_str().unwrap()) && said.contains("Permission denied"), "{said}");
}

#[test]
fn a_file_of_a_newer_version_is_named_as_such_and_left_alone() {
    let folder = set_up();
    let file = folder.path().join("data/zero.redb");
    let meta = redb::TableDefinition::<&[u8], &[u8]>::new("meta");
    let database = redb::Database::open(&file).unwrap();
    let transaction = database.begin_write().unwrap();
    let version = rmp_serde::to_vec(&99_u64).unwrap();
    let before = transaction.open_table(meta).unwrap().insert(&b"schema_version"[..], &*version).unwrap().is_some();
    assert!(before, "the version of the schema is kept elsewhere");
    transaction.commit().unwrap();
    drop(database);
    let said = refused(&folder, Command::new(binary()));
    assert!(said.contains("newer version of zero") && said.contains("schema 99"), "{said}");
}

#[test]
fn a_file_of_something_else_is_named_and_left_alone() {
    let folder = set_up();
    let file = folder.path().join("data/zero.redb");
    let good = fs::read(&file).unwrap();
    let garbage: Vec<u8> = (0..100_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let cases: [(&[u8], &str); 4] =
        [(b"", "empty"), (&good[..good.len() / 2], "damaged"), (&garbage, "not a"), (b"organization,name\n", "not a")];
    for (bytes, why) in cases {
        fs::write(&file, bytes).unwrap();
        let said = refused(&folder, Command::new(binary()));
        assert!(said.contains(file.to_str().unwrap()) && said.contains(why), "{why}: {said}");
    }
    fs::write(&file, good).unwrap();
}

/// On a disk that is nearly full, what frees space and what cannot wait goes on; all else is refused before the disk is.
#[tokio::test]
async fn a_nearly_full_disk_refuses_what_grows_and_lets_reads_deletions_and_wipes_go_on() {
    let mut server = Server::start().await;
    let admin = server.token().await;
    let (device, device_token) = server.enroll(&admin, "one").await;
    let (other, _) = server.enroll(&admin, "two").await;
    let keyed = |server: &Server, key: &str| {
        let request = server.request(reqwest::Method::POST, &format!("/devices/{device}/lock"));
        request.bearer_auth(&admin).header("Idempotency-Key", key).json(&json!({}))
    };
    let before = server.send(keyed(&server, "before")).await.expect(200);
    server.process.kill().unwrap();
    server.process.wait().unwrap();
    let folder = std::mem::replace(&mut server.folder, TempDir::new().unwrap());
    // A disk with less than a tebibyte free is nearly full.
    let server = Server::on(folder, vec![("ZERO_STORE_MIN_FREE_MIB", "1048576")]).await;
    let new = [
        ("/groups", json!({"name": "Marketing"})),
        ("/users", json!({"name": "Mia", "email": "mia@acme.example", "role": "user"})),
        ("/devices/enroll", json!({"device_name": "three", "platform": "linux", "agent_version": "1"})),
        ("/webhooks", json!({"url": "https://192.0.2.1/", "events": ["*"]})),
        ("/policies", json!({"name": "Base", "policy_data": {}})),
    ];
    for (path, body) in new {
        let refused = server.post(path, &admin, body).await.expect(503).to_string();
        assert!(refused.contains("nearly full"), "{path}: {refused}");
    }
    let refused = server.send(keyed(&server, "after")).await.expect(503).to_string();
    assert!(refused.contains("send the request without one"), "{refused}");
    assert_eq!(server.send(keyed(&server, "before")).await.expect(200)["id"], before["id"], "it is remembered still");
    server.get("/devices", &admin).await.expect(200);
    server.post(&format!("/devices/{device}/checkin"), &device_token, json!({})).await.expect(200);
    server.post(&format!("/devices/{device}/wipe"), &admin, json!({})).await.expect(200);
    server.delete(&format!("/devices/{other}"), &admin).await.expect(204);
    server.log_in().await;
}
