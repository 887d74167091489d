//! Backups as their owners meet them: made under load, restored elsewhere, damaged, cut short, and with people in them
//! who have been erased since.

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::server::{EMAIL, Server, init, zero};

fn run(arguments: &[&str]) -> Output {
    zero(arguments).stdin(Stdio::null()).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), output.stderr.as_slice()].concat()).into_owned()
}

fn backup(data: &Path, file: &Path) -> Output {
    run(&["backup", "--data-dir", data.to_str().unwrap(), file.to_str().unwrap()])
}

fn restore(data: &Path, file: &Path, more: &[&str]) -> Output {
    run(&[&["restore", "--data-dir", data.to_str().unwrap(), file.to_str().unwrap()], more].concat())
}

fn works(output: Output) -> String {
    assert!(output.status.success(), "{}", said(&output));
    said(&output)
}

fn refused(output: Output, why: &str) {
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains(why), "{why:?} is not in {}", said(&output));
}

/// Everything that lists show, page after page, and the audit log's end.
async fn everything(server: &Server, token: &str) -> Value {
    let mut all = serde_json::Map::new();
    for list in ["/devices", "/users", "/groups", "/policies", "/roles", "/webhooks", "/enrollment-tokens", "/api-keys"]
    {
        let mut rows = Vec::new();
        for page in 1.. {
            let part = server.get(&format!("{list}?page={page}&page_size=100"), token).await.expect(200);
            rows.extend(part["data"].as_array().unwrap().clone());
            if page >= part["total_pages"].as_u64().unwrap() {
                break;
            }
        }
        all.insert(list.into(), rows.into());
    }
    all.insert("stats".into(), server.get("/stats", token).await.expect(200));
    all.into()
}

async fn proof(server: &Server, token: &str) -> Value {
    let proof = server.get("/audit-logs/verify", token).await.expect(200);
    assert_eq!(proof["valid"], true, "{proof}");
    proof
}

async fn fill(server: &Server, token: &str) {
    for name in ["one", "two", "three"] {
        server.enroll(token, name).await;
        server.post("/groups", token, json!({"name": name})).await.expect(201);
        let user = json!({"name": name, "email": format!("{name}@acme.example"), "role": "user"});
        server.post("/users", token, user).await.expect(201);
        server.post("/policies", token, json!({"name": name, "policy_data": {}})).await.expect(201);
        server.post("/api-keys", token, json!({"name": name, "role": "auditor"})).await.expect(201);
        server.post("/enrollment-tokens", token, json!({"name": name})).await.expect(201);
    }
}

#[tokio::test]
async fn a_backup_of_a_running_appliance_restores_to_the_same_lists_counts_and_log() {
    let server = Server::start().await;
    let token = server.token().await;
    fill(&server, &token).await;
    let (before, head) = (everything(&server, &token).await, proof(&server, &token).await);
    let data = server.folder.path().join("data");
    let file = server.folder.path().join("zero.backup");
    assert!(works(backup(&data, &file)).contains("proven"));
    refused(backup(&data, &file), "there already");
    let after = proof(&server, &token).await;
    assert_eq!(
        after["entries"].as_u64(),
        head["entries"].as_u64().map(|entries| entries + 1),
        "system.backup is noted"
    );

    // On another machine, as it were.
    let folder = TempDir::new().unwrap();
    let restored = folder.path().join("data");
    works(restore(&restored, &file, &[]));
    refused(restore(&restored, &file, &[]), "not empty");
    for key in ["ca.key", "ca.pem", "device-ca.key", "device-ca.pem"] {
        let (old, new) = (fs::read(data.join("tls").join(key)), fs::read(restored.join("tls").join(key)));
        assert_eq!(old.ok(), new.ok(), "{key}");
    }
    let other = Server::on(folder, Vec::new()).await;
    // The session is as good there as it was here: its key came with the backup.
    assert_eq!(everything(&other, &token).await, before);
    let log = other.get("/audit-logs?page_size=100", &token).await.expect(200);
    let log = log["data"].as_array().unwrap();
    let kept = log.iter().find(|entry| entry["seq"] == head["entries"]).expect("the last entry before the backup");
    assert_eq!(kept["hash"], head["head"], "the chain goes on from where it was");
    assert!(log.iter().any(|entry| entry["action"] == "system.restore"));
    proof(&other, &token).await;
    let setup = other.send(other.request(reqwest::Method::GET, "/setup")).await.expect(200);
    assert_eq!(setup["required"], false);
    refused(restore(&other.folder.path().join("data"), &file, &["--force"]), "another zero is running");
}

/// The service could not read what root has put into its directory.
#[test]
fn what_root_makes_in_the_directory_of_the_service_belongs_to_the_service() {
    if !rustix::process::geteuid().is_root() {
        return eprintln!("only root can give files away: not tested");
    }
    let (folder, owner) = (TempDir::new().unwrap(), Some(65534));
    let (data, file) = (folder.path().join("data"), folder.path().join("zero.backup"));
    fs::create_dir(&data).unwrap();
    chown(&data, owner, owner).unwrap();
    let foreign = || {
        let find = Command::new("find").arg(&data).args(["!", "-uid", "65534"]).output().unwrap();
        String::from_utf8(find.stdout).unwrap()
    };
    assert!(init(&data).status.success());
    assert_eq!(foreign(), "");
    works(backup(&data, &file));
    works(restore(&data, &file, &["--force"]));
    assert_eq!(foreign(), "");
    assert!(data.join("zero.redb").exists());
}

#[tokio::test]
async fn a_backup_under_load_is_of_one_moment_and_loses_nothing_acknowledged_before_it() {
    let server = Arc::new(Server::start().await);
    let token = server.token().await;
    let done = Arc::new(AtomicBool::new(false));
    let load = {
        let (server, token, done) = (server.clone(), token.clone(), done.clone());
        tokio::spawn(async move {
            let mut count = 0;
            while !done.load(Ordering::Relaxed) {
                let groups = json!({"name": format!("group {count}")});
                server.post("/groups", &token, groups).await.expect(201);
                count += 1;
            }
            count
        })
    };
    let mut acknowledged = Vec::new();
    for round in 0..3 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let groups = server.get("/groups", &token).await.expect(200)["total"].as_u64().unwrap();
        let (data, file) = (server.folder.path().join("data"), server.folder.path().join(format!("{round}.backup")));
        works(
            tokio::task::spawn_blocking({
                let file = file.clone();
                move || backup(&data, &file)
            })
            .await
            .unwrap(),
        );
        acknowledged.push((file, groups));
    }
    done.store(true, Ordering::Relaxed);
    let written = load.await.unwrap();
    for (file, at_least) in acknowledged {
        let folder = TempDir::new().unwrap();
        works(restore(&folder.path().join("data"), &file, &[]));
        let other = Server::on(folder, Vec::new()).await;
        let groups = other.get("/groups", &token).await.expect(200)["total"].as_u64().unwrap();
        assert!((at_least..=written).contains(&groups), "{at_least} to {written}: {groups}");
        proof(&other, &token).await;
    }
}

#[tokio::test]
async fn the_api_makes_proven_backups_lists_them_and_keeps_the_newest() {
    let server = Server::start_with(&[("ZERO_BACKUP_KEEP", "2")]).await;
    let token = server.token().await;
    let mut last = Value::Null;
    for _ in 0..3 {
        last = server.post("/system/backup", &token, json!({})).await.expect(200);
        assert!(last["records"].as_u64().unwrap() > 10, "{last}");
        assert_eq!(last["logs"].as_array().unwrap().len(), 1);
        tokio::time::sleep(Duration::from_millis(1100)).await;
    }
    let list = server.get("/system/backups", &token).await.expect(200);
    assert_eq!(list["total"], 2, "{list}");
    assert_eq!(list["data"][0]["name"], last["name"]);
    let folder = server.folder.path().join("data/backups");
    let mut names: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.retain(|name| name != "erasures.log");
    assert_eq!(names.len(), 2, "nothing unfinished is left: {names:?}");
    let file = folder.join(last["name"].as_str().unwrap());
    let elsewhere = TempDir::new().unwrap();
    works(restore(&elsewhere.path().join("data"), &file, &["--end-sessions"]));
    let other = Server::on(elsewhere, Vec::new()).await;
    assert_eq!(other.get("/devices", &token).await.status, 401, "sessions were to end");
    proof(&other, &other.token().await).await;
}

#[tokio::test]
async fn whoever_was_erased_stays_erased_whatever_backup_is_restored() {
    let server = Server::start().await;
    let token = server.token().await;
    let user =
        json!({"name": "Gone Person", "email": "gone@acme.example", "role": "user", "password": "a long password"});
    let user = server.post("/users", &token, user).await.expect(201);
    let path = format!("/gdpr/delete?user_id={}", user["id"].as_str().unwrap());
    let data = server.folder.path().join("data");
    let file = server.folder.path().join("zero.backup");
    works(backup(&data, &file));
    server.delete(&path, &token).await.expect(200);
    let ledger = data.join("erasures.log");
    assert!(fs::read_to_string(&ledger).unwrap().contains(user["id"].as_str().unwrap()));

    let check = async |folder: TempDir| {
        let other = Server::on(folder, Vec::new()).await;
        let users = other.get("/users", &token).await.expect(200);
        assert_eq!(users["total"], 1, "{users}");
        let log = other.get("/audit-logs?page_size=100", &token).await;
        assert!(!log.text.contains("Gone Person") && !log.text.contains("gone@acme"), "{}", log.text);
        proof(&other, &token).await;
        assert!(fs::read_to_string(other.folder.path().join("data/erasures.log")).unwrap().contains("user_id"));
    };
    // By the ledger that was saved elsewhere.
    let (folder, kept) = (TempDir::new().unwrap(), server.folder.path().join("kept.log"));
    fs::copy(&ledger, &kept).unwrap();
    let restored = works(restore(&folder.path().join("data"), &file, &["--erasures", kept.to_str().unwrap()]));
    assert!(restored.contains("people erased again: 1"), "{restored}");
    check(folder).await;
    // By the one that lies beside the backup.
    let (folder, beside) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    fs::copy(&ledger, beside.path().join("erasures.log")).unwrap();
    fs::copy(&file, beside.path().join("zero.backup")).unwrap();
    works(restore(&folder.path().join("data"), &beside.path().join("zero.backup"), &[]));
    check(folder).await;
    // By the data that is replaced, also when its ledger is lost.
    let mut server = server;
    server.process.kill().unwrap();
    server.process.wait().unwrap();
    fs::remove_file(&ledger).unwrap();
    let restored = works(restore(&data, &file, &["--force"]));
    assert!(restored.contains("people erased again: 1") && restored.contains("replaced-"), "{restored}");
    let folder = std::mem::replace(&mut server.folder, TempDir::new().unwrap());
    check(folder).await;
}

#[test]
fn an_encrypted_backup_opens_with_its_passphrase_or_identity_and_nothing_else() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    assert!(init(&data).status.success());
    let with_input = |arguments: &[&str], input: &str| {
        use std::io::Write;
        let mut child = zero(arguments).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    };
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (secret, data) = (path("secret.age"), data.to_str().unwrap());
    works(with_input(&["backup", "--data-dir", data, "--passphrase-stdin", &secret], "open sesame\n"));
    assert!(!String::from_utf8_lossy(&fs::read(&secret).unwrap()).contains("zerobak"));
    let to = path("a");
    refused(run(&["restore", "--data-dir", &to, &secret]), "passphrase");
    refused(with_input(&["restore", "--data-dir", &to, "--passphrase-stdin", &secret], "wrong\n"), "does not open it");
    works(with_input(&["restore", "--data-dir", &to, "--passphrase-stdin", &secret], "open sesame\n"));

    const RECIPIENT: &str = "age1t7rxyev2z3rw82stdlrrepyc39nvn86l5078zqkf5uasdy86jp6svpy7pa";
    const IDENTITY: &str = "AGE-SECRET-KEY-1GQ9778VQXMMJVE8SK7J6VT8UJ4HDQAJUVSFCWCM02D8GEWQ72PVQ2Y5J33\n";
    let sealed = path("sealed.age");
    works(run(&["backup", "--data-dir", data, "--recipient", RECIPIENT, &sealed]));
    let (identity, to) = (path("key.txt"), path("b"));
    fs::write(&identity, format!("# a comment\n{IDENTITY}")).unwrap();
    refused(run(&["restore", "--data-dir", &to, &sealed]), "identity");
    works(run(&["restore", "--data-dir", &to, "--identity", &identity, &sealed]));
    let wrong = run(&["backup", "--data-dir", data, "--recipient", "age1", &path("c")]);
    assert_eq!(wrong.status.code(), Some(2));
}

/// Kills of each, at moments spread over the whole run.
const KILLS: u32 = 25;

/// What is left of a killed one is whole or not there.
#[test]
fn a_backup_or_a_restore_that_is_killed_leaves_what_was_there_and_can_be_repeated() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    assert!(init(&data).status.success());
    let good = folder.path().join("good.backup");
    works(backup(&data, &good));
    let spawn = |arguments: &[&str]| -> std::process::Child {
        zero(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    let started = std::time::Instant::now();
    works(backup(&data, &folder.path().join("timed.backup")));
    let takes = started.elapsed();
    for step in 0..KILLS {
        let file = folder.path().join(format!("{step}.backup"));
        let mut child = spawn(&["backup", "--data-dir", data.to_str().unwrap(), file.to_str().unwrap()]);
        std::thread::sleep(takes * step / (KILLS - 1));
        child.kill().unwrap();
        child.wait().unwrap();
        if file.exists() {
            works(restore(&folder.path().join(format!("{step}")), &file, &[]));
        } else {
            works(backup(&data, &file));
        }
    }
    let target = folder.path().join("target");
    let (into, from) = (target.to_str().unwrap(), good.to_str().unwrap());
    let started = std::time::Instant::now();
    works(restore(&target, &good, &[]));
    let takes = started.elapsed();
    for step in 0..KILLS {
        let mut child = spawn(&["restore", "--force", "--data-dir", into, from]);
        std::thread::sleep(takes * step / (KILLS - 1));
        child.kill().unwrap();
        child.wait().unwrap();
        // Either the folder is whole, or it says that it is not and the same command makes it so.
        if target.join("restoring").exists() {
            refused(
                run(&["serve", "--data-dir", into, "--listen", "127.0.0.1:0"]),
                "run zero restore with the same file again",
            );
            works(restore(&target, &good, &[]));
        }
        let verified = works(run(&["audit", "verify", "--data-dir", into]));
        assert!(verified.contains("valid"), "{verified}");
        assert!(target.join("tls/ca.key").exists() || !data.join("tls/ca.key").exists());
    }
}

#[test]
fn a_full_disk_leaves_no_backup_and_no_trace() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    assert!(init(&data).status.success());
    let target = folder.path().join("target");
    fs::create_dir(&target).unwrap();
    let size = {
        let file = folder.path().join("whole.backup");
        works(backup(&data, &file));
        fs::metadata(file).unwrap().len()
    };
    for blocks in (0..size.div_ceil(512)).step_by((size.div_ceil(512) / 6).max(1) as usize) {
        let command = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" backup --data-dir \"$1\" \"$2\"");
        let output = Command::new("/bin/sh")
            .args(["-c", &command])
            .arg(crate::server::binary())
            .args([&data, &target.join("full.backup")])
            .env_clear()
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        let left: Vec<PathBuf> = fs::read_dir(&target).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(left.is_empty(), "{left:?} after {}", said(&output));
    }
}

#[test]
fn salvage_reads_what_can_be_read_and_names_what_cannot() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    assert!(init(&data).status.success());
    let (file, out) = (data.join("zero.redb"), folder.path().join("out"));
    let export = || {
        let _ = fs::remove_file(&out);
        run(&["export", "--salvage", "--data-dir", data.to_str().unwrap(), out.to_str().unwrap()])
    };
    works(export());
    let whole = fs::read_to_string(&out).unwrap();
    assert!(whole.contains(EMAIL) && whole.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()));
    let good = fs::read(&file).unwrap();
    let mut found = 0;
    for page in (1..good.len() / 4096).step_by(7) {
        let mut damaged = good.clone();
        damaged[page * 4096..][..4096].fill(0xA5);
        fs::write(&file, &damaged).unwrap();
        let output = export();
        assert!(matches!(output.status.code(), Some(0 | 1)), "page {page}: {:?} {}", output.status, said(&output));
        assert!(fs::read(&file).unwrap() == damaged, "the file was changed");
        found += usize::from(out.exists() && fs::metadata(&out).unwrap().len() > 0);
    }
    assert!(found > 0, "something is read of most files");
}

/// An ACME server counts accounts and certificates: whoever loses them waits for days.
#[test]
fn the_account_with_an_acme_server_comes_back_and_stays_private() {
    use std::os::unix::fs::PermissionsExt;
    let folder = TempDir::new().unwrap();
    let (data, target, file) =
        (folder.path().join("data"), folder.path().join("target"), folder.path().join("one.backup"));
    assert!(init(&data).status.success());
    fs::create_dir_all(data.join("tls/acme")).unwrap();
    for (name, text) in [("account.key", "an account"), ("certificate.pem", "a key and its certificate")] {
        fs::write(data.join("tls/acme").join(name), text).unwrap();
    }
    works(backup(&data, &file));
    works(restore(&target, &file, &[]));
    for name in ["account.key", "certificate.pem"] {
        let (before, after) = (data.join("tls/acme").join(name), target.join("tls/acme").join(name));
        assert_eq!(fs::read(&before).unwrap(), fs::read(&after).unwrap());
        assert_eq!(fs::metadata(&after).unwrap().permissions().mode() & 0o777, 0o600, "{name}");
    }
}
