//! Updates that go wrong: new versions that fail or hang, kills and power cuts at each step, disks without room.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::bundle::{Signer, manifest};
use crate::pki::Pki;
use crate::server::{Server, zero};
use crate::update::{data, left_behind, log, progress, said, script, update, when_tried};

#[tokio::test]
async fn a_new_version_that_does_not_start_is_undone_and_the_old_one_says_why() {
    let signer = Signer::new();
    let mut settings = signer.settings();
    settings[1].1 = "2";
    let server = Server::start_with(&settings).await;
    let token = server.token().await;
    let (device, _) = server.enroll(&token, "before").await;
    let process = server.process.id();
    let copy = data(&server).join("update/zero.redb");
    let cases = [
        // In the rehearsal, while the old one serves.
        ("echo 'zero: cannot migrate: disk of lies' >&2; exit 1".to_owned(), "cannot migrate: disk of lies"),
        ("kill -SEGV $$".into(), "does not start on a copy"),
        ("/bin/sleep 600".into(), "within 2 s"),
        // When it takes over: it undoes that itself.
        (when_tried(&format!("echo damaged > {}", copy.display())), "it does not start"),
    ];
    for (serving, why) in cases {
        let undone = update(&server, &signer, signer.bundle("0.2.0", &script("0.2.0", &serving))).await;
        assert_eq!(undone.status.code(), Some(1), "{}", said(&undone));
        assert!(said(&undone).contains(why), "{why:?} is not in {}\n{}", said(&undone), server.log());
        assert!(said(&undone).contains("Version 0.1.0 serves"), "{}", said(&undone));
        let now = progress(&server, &token).await;
        assert_eq!((&now["version"], &now["last"]["result"]), (&json!("0.1.0"), &json!("undone")), "{now}");
        assert!(now["last"]["reason"].as_str().unwrap().contains(why), "{now}");
        server.get(&format!("/devices/{device}"), &token).await.expect(200);
        let log = log(&server, &token, "system.update.undone").await;
        assert_eq!(log[0]["details"]["version"], "0.2.0");
        assert!(log[0]["details"]["reason"].as_str().unwrap().contains(why), "{}", log[0]);
        assert!(!copy.exists() && fs::read_dir(data(&server).join("update/versions")).unwrap().count() == 0);
    }
    assert_eq!(server.process.id(), process, "it was started anew");
    // And a good one is taken afterwards.
    let updated = update(&server, &signer, signer.bundle("0.2.0", &script("0.2.0", ":"))).await;
    assert!(updated.status.success(), "{}", said(&updated));
}

/// It waits for a file that does not come until the old version reads it.
#[tokio::test]
async fn a_new_version_that_hangs_when_it_takes_over_makes_way_for_the_old_one_in_the_same_process() {
    let signer = Signer::new();
    let folder = TempDir::new().unwrap();
    let (read, whole) = (folder.path().join("authorities.pem"), folder.path().join("whole.pem"));
    fs::write(&read, Pki::new().root_pem).unwrap();
    fs::copy(&read, &whole).unwrap();
    let mut settings = signer.settings();
    settings[1].1 = "2";
    settings.push(("ZERO_WEBHOOKS_CA_FILE", read.to_str().unwrap().to_owned().leak()));
    let server = Server::start_with(&settings).await;
    let token = server.token().await;
    let (device, _) = server.enroll(&token, "before").await;
    let (read, whole) = (read.display(), whole.display());
    let hang = format!(
        "export PATH=/usr/bin:/bin; rm {read}; mkfifo {read}; \
         (sleep 4; cat {whole} > {read}; rm {read}; cp {whole} {read}) & "
    );
    let undone = update(&server, &signer, signer.bundle("0.2.0", &script("0.2.0", &when_tried(&hang)))).await;
    assert_eq!(undone.status.code(), Some(1), "{}", said(&undone));
    assert!(said(&undone).contains("was not ready within 2 s"), "{}\n{}", said(&undone), server.log());
    assert_eq!(progress(&server, &token).await["version"], "0.1.0");
    server.get(&format!("/devices/{device}"), &token).await.expect(200);
}

/// One that cannot even undo itself is ended by the system.
#[tokio::test]
async fn a_new_version_that_is_stuck_before_it_runs_is_ended_and_the_next_start_is_the_old_one() {
    let signer = Signer::new();
    let mut settings = signer.settings();
    settings[1].1 = "2";
    let server = Server::start_with(&settings).await;
    let token = server.token().await;
    let hanging = script("0.2.0", &when_tried("exec /bin/sleep 600"));
    let bundle = signer.bundle("0.2.0", &hanging);
    let began = Instant::now();
    let updating = {
        let (data, settings) = (data(&server), signer.settings());
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("zero.update");
        fs::write(&file, bundle).unwrap();
        let mut command = zero(&["update", "--data-dir", data.to_str().unwrap(), file.to_str().unwrap()]);
        let child = command.envs(settings).stdin(Stdio::null()).spawn().unwrap();
        (folder, child)
    };
    let mut server = server;
    let ended = server.process.wait().unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&ended), Some(14), "the alarm");
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    // As whoever supervises it does.
    let server = server.crash_and_restart().await;
    let now = progress(&server, &token).await;
    assert_eq!((&now["version"], &now["last"]["result"]), (&json!("0.1.0"), &json!("undone")), "{now}");
    let (_folder, child) = updating;
    let told = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap()).await.unwrap();
    assert!(said(&told).contains("had not become ready within 2 s"), "{}", said(&told));
}

/// How far the update to `version` has come, by what lies in the data directory: a moment to kill at.
type Moment = fn(&Path, &str) -> bool;

const MOMENTS: &[(&str, Moment)] = &[
    ("received", |data, _| has(&data.join("update"), ".upload")),
    ("unpacked", |data, version| data.join("update/versions").join(version).exists()),
    ("backed up", |data, _| has(&data.join("backups"), ".partial")),
    ("copied", |data, _| data.join("update/rehearsal/zero.redb").exists()),
    ("rehearsed", |data, _| data.join("update/rehearsal/control.sock").exists()),
    ("copied again", |data, _| data.join("update/zero.redb").exists()),
    ("staged", |data, _| state(data).contains("\"staged\"")),
    ("tried", |data, _| state(data).contains("\"trying\"")),
    ("updated", |data, version| state(data).contains(&format!("\"current\":\"{version}\""))),
];

fn has(folder: &Path, end: &str) -> bool {
    let names = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.file_name());
    names.into_iter().any(|name| name.to_string_lossy().ends_with(end))
}

fn state(data: &Path) -> String {
    fs::read_to_string(data.join("update/state.json")).unwrap_or_default()
}

/// Kills the process at the moment, or when that was missed: it can be short. Tells whether it was met.
fn kill_at(process: u32, data: &Path, version: &str, moment: Moment) -> bool {
    let updated = MOMENTS[MOMENTS.len() - 1].1;
    let mut missed = None;
    let met = loop {
        if moment(data, version) {
            break true;
        }
        if missed.is_none() && updated(data, version) {
            missed = Some(Instant::now());
        }
        if missed.is_some_and(|missed| missed.elapsed() > Duration::from_millis(100)) {
            break false;
        }
        std::thread::sleep(Duration::from_micros(100));
    };
    let process = rustix::process::Pid::from_raw(process.cast_signed()).unwrap();
    rustix::process::kill_process(process, rustix::process::Signal::KILL).unwrap();
    met
}

#[tokio::test]
async fn killed_at_any_step_the_old_or_the_new_version_serves_with_all_that_was_acknowledged() {
    let signer = Signer::new();
    let mut server = Server::start_with(&signer.settings()).await;
    let token = server.token().await;
    let (mut version, mut acknowledged, mut met, mut updated) = ("0.1.0".to_owned(), 0, Vec::new(), Vec::new());
    for (step, (name, moment)) in MOMENTS.iter().enumerate() {
        let next = format!("0.2.{step}");
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("zero.update");
        fs::write(&file, signer.bundle(&next, &script(&next, ":"))).unwrap();
        let (process, data, to) = (server.process.id(), data(&server), next.clone());
        let mut command = zero(&["update", "--data-dir", data.to_str().unwrap(), file.to_str().unwrap()]);
        let mut updating = command.envs(signer.settings()).stdin(Stdio::null()).spawn().unwrap();
        let killing = std::thread::spawn(move || kill_at(process, &data, &to, *moment));
        // Enrols as fast as it can, up to the kill and into it.
        let mut enrolled: Vec<String> = Vec::new();
        while !killing.is_finished() {
            let body = json!({"device_name": "one of many", "platform": "linux", "agent_version": "1"});
            let request = server.request(reqwest::Method::POST, "/devices/enroll").bearer_auth(&token).json(&body);
            // A connection that the old version has closed acknowledges nothing; what waits ends with the kill.
            if let Ok(answer) = request.send().await
                && answer.status() == 201
                && let Ok(device) = answer.json::<Value>().await
            {
                enrolled.push(device["id"].as_str().unwrap().into());
            }
        }
        if killing.join().unwrap() {
            met.push(*name);
        }
        updating.kill().unwrap();
        updating.wait().unwrap();
        server = server.crash_and_restart().await;
        let now = progress(&server, &token).await;
        let serves = now["version"].as_str().unwrap().to_owned();
        assert!(serves == version || serves == next, "{name}: {serves} after {version} and {next}: {now}");
        if serves == next {
            updated.push(*name);
        }
        version = serves;
        acknowledged += enrolled.len() as u64;
        for id in &enrolled {
            let found = server.get(&format!("/devices/{id}"), &token).await;
            assert_eq!(found.status, 200, "{name}: a device that was acknowledged is lost");
        }
        let there = server.get("/devices?page_size=1", &token).await.expect(200)["total"].as_u64().unwrap();
        assert!(there >= acknowledged, "{name}: {there} of {acknowledged}");
        let proof = server.get("/audit-logs/verify", &token).await.expect(200);
        assert_eq!(proof["valid"], true, "{name}: {proof}");
        let left = left_behind(&server);
        assert!(left.is_empty(), "{name}: {left:?}");
    }
    eprintln!("killed when {met:?}; the new version served after {updated:?}; {acknowledged} devices acknowledged");
    for name in ["unpacked", "copied", "staged"] {
        assert!(met.contains(&name), "no kill when {name}: {met:?}");
    }
    assert!(!updated.contains(&"received") && updated.contains(&"updated"), "{updated:?}");
}

/// The moments between two steps on disk, made by hand.
#[tokio::test]
async fn after_a_power_cut_between_any_two_steps_one_version_serves_with_the_data() {
    let signer = Signer::new();
    let mut server = Server::start_with(&signer.settings()).await;
    let token = server.token().await;
    let updated = update(&server, &signer, signer.bundle("0.2.0", &script("0.2.0", ":"))).await;
    assert!(updated.status.success(), "{}", said(&updated));
    let (device, _) = server.enroll(&token, "before").await;
    let folder = data(&server).join("update");
    let switch =
        |stage: &str| json!({"switch": {"id": "1", "from": "0.1.0", "to": "0.2.0", "stage": stage}}).to_string();
    let good = |folder: &Path| fs::read(folder.parent().unwrap().join("zero.redb")).unwrap();
    type Leave = fn(&Path, Vec<u8>);
    let cases: [(&str, Leave, &str, &str); 5] = [
        ("staged", |_, _| (), "0.2.0", "updated"),
        (
            "staged",
            |folder, data| fs::write(folder.join("zero.redb"), &data[..data.len() / 3]).unwrap(),
            "0.2.0",
            "updated",
        ),
        ("trying", |folder, data| fs::write(folder.join("zero.redb"), data).unwrap(), "0.1.0", "undone"),
        ("trying", |folder, _| fs::write(folder.join("zero.redb"), "half of it").unwrap(), "0.1.0", "undone"),
        // The data file is that of the new version already.
        ("trying", |_, _| (), "0.2.0", "updated"),
    ];
    for (stage, leave, version, result) in cases {
        let bundle = folder.join("versions/0.2.0");
        server.process.kill().unwrap();
        server.process.wait().unwrap();
        if !bundle.exists() {
            // Undone before: as it was unpacked.
            fs::create_dir_all(&bundle).unwrap();
            let script = script("0.2.0", ":");
            let manifest = manifest("0.2.0", script.as_bytes());
            fs::write(bundle.join("manifest.sig"), signer.sign(&manifest)).unwrap();
            fs::write(bundle.join("manifest.json"), manifest).unwrap();
            fs::write(bundle.join("zero"), script).unwrap();
            fs::set_permissions(bundle.join("zero"), fs::Permissions::from_mode(0o700)).unwrap();
        }
        leave(&folder, good(&folder));
        fs::write(folder.join("state.json"), switch(stage)).unwrap();
        fs::write(folder.join("state.json.new"), "{\"cut sh").unwrap();
        server = server.crash_and_restart().await;
        let now = progress(&server, &token).await;
        assert_eq!((&now["version"], &now["last"]["result"]), (&json!(version), &json!(result)), "{stage}: {now}");
        server.get(&format!("/devices/{device}"), &token).await.expect(200);
        assert!(!folder.join("zero.redb").exists(), "{stage}");
    }
}

#[tokio::test]
async fn a_disk_without_room_for_the_update_refuses_it_and_serves_on() {
    let signer = Signer::new();
    let server = Server::start_with(&signer.settings()).await;
    let token = server.token().await;
    let large = format!("{}#{}", script("0.2.0", ":"), "x".repeat(20 << 20));
    // From here on a file cannot grow past this, as on a full disk.
    let limit = rustix::process::Rlimit { current: Some(16 << 20), maximum: None };
    let process = rustix::process::Pid::from_child(&server.process);
    rustix::process::prlimit(Some(process), rustix::process::Resource::Fsize, limit).unwrap();
    let refused = update(&server, &signer, signer.bundle("0.2.0", &large)).await;
    assert_eq!(refused.status.code(), Some(1));
    assert!(said(&refused).contains("File too large"), "{}", said(&refused));
    server.enroll(&token, "after").await;
    assert_eq!(progress(&server, &token).await["version"], "0.1.0");
}
