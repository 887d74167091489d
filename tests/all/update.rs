//! Updates as whoever runs an appliance meets them: good ones, refused ones, ones that fail, and ones that are cut short.
//!
//! A "new version" is the binary under test behind a script, which says another version and may go wrong on purpose.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::pki::Pki;
use crate::server::{Server, binary, client, zero};

struct Signer(Ed25519KeyPair);

impl Signer {
    fn new() -> Self {
        let key = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Self(Ed25519KeyPair::from_pkcs8(key.as_ref()).unwrap())
    }

    fn public_key(&self) -> String {
        STANDARD.encode(self.0.public_key().as_ref())
    }

    /// What a server needs to be told to take updates of this signer.
    fn settings(&self) -> Vec<(&'static str, &'static str)> {
        vec![("ZERO_UPDATE_PUBLIC_KEY", self.public_key().leak()), ("ZERO_UPDATE_READY_SECONDS", "20")]
    }

    fn sign(&self, manifest: &str) -> Vec<u8> {
        self.0.sign(manifest.as_bytes()).as_ref().to_vec()
    }

    /// A bundle of a new version that is the script `script`.
    fn bundle(&self, version: &str, script: &str) -> Vec<u8> {
        let manifest = manifest(version, script.as_bytes());
        let signature = self.sign(&manifest);
        pack(&[("manifest.json", manifest.as_bytes()), ("manifest.sig", &signature), ("zero", script.as_bytes())])
    }
}

fn target() -> String {
    format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS)
}

fn manifest(version: &str, binary: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, binary);
    let digest: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    json!({
        "format": 1, "version": version, "schema": 3, "target": target(), "sha256": digest, "size": binary.len(),
    })
    .to_string()
}

fn pack(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, *bytes).unwrap();
    }
    tar.into_inner().unwrap()
}

/// The binary under test as version `version`; `serving` is what it does first when it is to serve.
fn script(version: &str, serving: &str) -> String {
    format!(
        "#!/bin/sh\ncase \"$1\" in\nversion) echo \"zero {version}\"; exit 0;;\nserve) {serving} ;;\nesac\nexec {} \"$@\"\n",
        binary().display()
    )
}

/// Part of a script that is run only where the new version is to take over, not in the rehearsal.
fn when_tried(then: &str) -> String {
    format!("case \"$ZERO_HANDOVER\" in *tried*) {then} ;; esac")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), output.stderr.as_slice()].concat()).into_owned()
}

fn data(server: &Server) -> PathBuf {
    server.folder.path().join("data")
}

/// Runs `zero update` on a bundle.
async fn update(server: &Server, signer: &Signer, bundle: Vec<u8>) -> Output {
    let (data, settings) = (data(server), signer.settings());
    let run = move || {
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("zero.update");
        fs::write(&file, bundle).unwrap();
        let mut update = zero(&["update", "--data-dir", data.to_str().unwrap(), file.to_str().unwrap()]);
        update.envs(settings).stdin(Stdio::null()).output().unwrap()
    };
    tokio::task::spawn_blocking(run).await.unwrap()
}

async fn progress(server: &Server, token: &str) -> Value {
    server.get("/system/update", token).await.expect(200)
}

async fn log(server: &Server, token: &str, action: &str) -> Vec<Value> {
    let entries = server.get(&format!("/audit-logs?action={action}"), token).await.expect(200);
    entries["data"].as_array().unwrap().clone()
}

#[tokio::test]
async fn a_good_update_serves_in_place_of_the_old_version_with_everything_there_was() {
    let signer = Signer::new();
    let server = Server::start_with(&signer.settings()).await;
    let token = server.token().await;
    let (device, _) = server.enroll(&token, "before").await;
    let began = Instant::now();
    let updated = update(&server, &signer, signer.bundle("0.2.0", &script("0.2.0", ":"))).await;
    let took = began.elapsed();
    assert!(updated.status.success(), "{}\n{}", said(&updated), server.log());
    assert!(said(&updated).contains("updated from 0.1.0 to 0.2.0"), "{}", said(&updated));
    assert!(took < Duration::from_secs(30), "{took:?}");
    server.get(&format!("/devices/{device}"), &token).await.expect(200);
    let now = progress(&server, &token).await;
    assert_eq!((&now["version"], &now["last"]["result"]), (&json!("0.2.0"), &json!("updated")), "{now}");
    let system = server.get("/system", &token).await.expect(200);
    assert_eq!(system["updated"], now["last"]);
    let finished = log(&server, &token, "system.update.finished").await;
    assert_eq!(finished[0]["details"], json!({"from": "0.1.0", "version": "0.2.0"}));
    assert_eq!(log(&server, &token, "system.update.started").await.len(), 1);
    eprintln!("updated in {took:?}");
}

/// Whoever asks again and again meets a pause, not an error; the pause is what the figure is of.
#[tokio::test]
async fn nobody_is_refused_while_the_new_version_takes_over_and_the_pause_is_short() {
    let signer = Signer::new();
    let mut settings = signer.settings();
    settings.push(("ZERO_LIMITS_UNAUTHENTICATED_PER_MINUTE", "1000000"));
    let server = Server::start_with(&settings).await;
    let stop = Arc::new(AtomicBool::new(false));
    let asking = {
        let (url, ca, stop) =
            (format!("{}/api/v1/health", server.base), data(&server).join("tls/ca.pem"), stop.clone());
        tokio::spawn(async move {
            let (mut longest, mut answers) = (Duration::ZERO, 0);
            while !stop.load(Ordering::Relaxed) {
                // A connection each, so that none of an old process is in the way.
                let asked = Instant::now();
                client(&ca).get(&url).send().await.expect("an answer").error_for_status().unwrap();
                longest = longest.max(asked.elapsed());
                answers += 1;
            }
            (longest, answers)
        })
    };
    let updated = update(&server, &signer, signer.bundle("0.2.0", &script("0.2.0", ":"))).await;
    assert!(updated.status.success(), "{}\n{}", said(&updated), server.log());
    stop.store(true, Ordering::Relaxed);
    let (longest, answers) = asking.await.unwrap();
    eprintln!("the longest of {answers} answers took {longest:?}");
    assert!(longest < Duration::from_secs(2), "{longest:?}");
}

#[tokio::test]
async fn what_is_not_a_good_update_is_refused_with_the_reason_and_nothing_is_touched() {
    let (signer, other) = (Signer::new(), Signer::new());
    let server = Server::start_with(&signer.settings()).await;
    let token = server.token().await;
    let script = script("0.2.0", ":");
    let binary = script.as_bytes();
    let good = signer.bundle("0.2.0", &script);
    let signed = |manifest: &str, binary: &[u8]| {
        pack(&[("manifest.json", manifest.as_bytes()), ("manifest.sig", &signer.sign(manifest)), ("zero", binary)])
    };
    let ours = manifest("0.2.0", binary);
    let changed = manifest("0.2.0", b"another binary");
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (pack(&[("manifest.json", ours.as_bytes()), ("zero", binary)]), "not signed"),
        (pack(&[("manifest.json", ours.as_bytes()), ("manifest.sig", b""), ("zero", binary)]), "not signed"),
        (other.bundle("0.2.0", &script), "not signed by whom this appliance trusts"),
        (
            pack(&[("manifest.json", changed.as_bytes()), ("manifest.sig", &signer.sign(&ours)), ("zero", binary)]),
            "not signed by whom",
        ),
        (signed(&ours.replace(&target(), "riscv64-linux"), binary), "is for riscv64-linux, and this machine is"),
        (signed(&manifest("0.0.9", binary), binary), "older than 0.1.0"),
        (signed(&manifest("0.1.0", binary), binary), "runs already"),
        (signed(&ours.replace("\"schema\":3", "\"schema\":1"), binary), "older than 0.1.0"),
        (signed(&ours.replace("\"format\":1", "\"format\":2"), binary), "does not know"),
        (signed(&manifest("../../etc", binary), binary), "its version \"../../etc\" is none"),
        (signed(&ours, &script.replace("zero", "evil").into_bytes()), "not the one that was signed"),
        (signed(&ours, &binary[1..]), "bytes instead of"),
        (signed(&manifest("0.3.0", binary), binary), "says that it is version 0.2.0"),
        (good[..good.len() - 1500].to_vec(), "cut short"),
        (good[..300].to_vec(), "no update of zero"),
        (b"MZ, something else entirely".repeat(100), "no update of zero"),
        (Vec::new(), "no update of zero"),
    ];
    let count = cases.len();
    let file = fs::read(data(&server).join("zero.redb")).unwrap();
    for (bundle, why) in cases {
        let refused = update(&server, &signer, bundle).await;
        assert_eq!(refused.status.code(), Some(1), "{why}: {}", said(&refused));
        assert!(said(&refused).contains(why) && said(&refused).contains("Nothing was changed"), "{}", said(&refused));
    }
    let versions = fs::read_dir(data(&server).join("update/versions")).unwrap().count();
    assert_eq!(versions, 0, "what was refused is still there");
    assert!(!data(&server).join("backups").exists(), "a refused update has begun");
    assert_ne!(fs::read(data(&server).join("zero.redb")).unwrap(), file, "the audit log has no refusal");
    let log = log(&server, &token, "system.update.refused").await;
    assert_eq!(log.len(), count.min(20));
    assert!(log.iter().all(|entry| entry["result"] == "failure"));
    assert_eq!(progress(&server, &token).await["version"], "0.1.0");
}

#[tokio::test]
async fn an_appliance_without_a_key_takes_no_update_and_says_what_to_do() {
    let signer = Signer::new();
    let server = Server::start().await;
    let token = server.token().await;
    assert_eq!(progress(&server, &token).await["key"], false);
    let refused = update(&server, &signer, signer.bundle("0.2.0", &script("0.2.0", ":"))).await;
    assert!(said(&refused).contains("update.public_key"), "{}", said(&refused));
}

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
    ("in place", |data, _| data.join("update/before.redb").exists()),
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

/// What lies in the folder of updates beside what belongs there.
fn left_behind(server: &Server) -> Vec<String> {
    let files = fs::read_dir(data(server).join("update")).unwrap();
    let names = files.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name != "versions" && name != "state.json").collect()
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
        ("trying", |folder, data| fs::write(folder.join("before.redb"), data).unwrap(), "0.2.0", "updated"),
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
        assert!(!folder.join("zero.redb").exists() && !folder.join("before.redb").exists(), "{stage}");
    }
}

#[tokio::test]
async fn an_update_is_uploaded_by_whoever_administers_the_system() {
    let signer = Signer::new();
    let server = Server::start_with(&signer.settings()).await;
    let token = server.token().await;
    let post = |bundle: Vec<u8>, media_type: &str| {
        let request = server.request(reqwest::Method::POST, "/system/update").bearer_auth(&token);
        server.send(request.header("content-type", media_type).body(bundle))
    };
    let bundle = signer.bundle("0.2.0", &script("0.2.0", ":"));
    post(bundle.clone(), "text/plain").await.expect(415);
    let refused = post(Signer::new().bundle("0.2.0", &script("0.2.0", ":")), "application/octet-stream").await;
    assert!(refused.expect(409)["details"].as_str().unwrap().contains("not signed by whom"));
    let head = format!(
        "POST /api/v1/system/update HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n\
         content-type: application/octet-stream\r\ncontent-length: 999999999999\r\n\r\n"
    );
    assert!(server.raw(&head).starts_with("HTTP/1.1 413"));

    let begun = post(bundle, "application/octet-stream").await.expect(200);
    assert_eq!(begun["to"], "0.2.0");
    let now = loop {
        let now = progress(&server, &token).await;
        if now["last"]["id"] == begun["id"] {
            break now;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!((&now["version"], &now["last"]["result"]), (&json!("0.2.0"), &json!("updated")), "{now}");
    let started = log(&server, &token, "system.update.started").await;
    assert_eq!(started[0]["actor"]["type"], "user", "{}", started[0]);
    assert!(left_behind(&server).is_empty(), "{:?}", left_behind(&server));
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

/// Commands are of the version that keeps the data, whichever is installed.
#[tokio::test]
async fn the_installed_binary_goes_on_as_the_version_that_serves_and_only_when_that_is_signed() {
    let signer = Signer::new();
    let server = Server::start_with(&signer.settings()).await;
    let token = server.token().await;
    let marked = server.folder.path().join("marked");
    let script = format!(
        "#!/bin/sh\n[ \"$1\" = version ] && echo zero 0.2.0 && exit\necho \"$1\" >> {}\nexec {} \"$@\"\n",
        marked.display(),
        binary().display()
    );
    let updated = update(&server, &signer, signer.bundle("0.2.0", &script)).await;
    assert!(updated.status.success(), "{}", said(&updated));
    fs::remove_file(&marked).unwrap();
    let doctor = || {
        let data = data(&server);
        let mut doctor = zero(&["doctor", "--data-dir", data.to_str().unwrap()]);
        doctor.envs(signer.settings()).stdin(Stdio::null()).output().unwrap()
    };
    doctor();
    assert_eq!(fs::read_to_string(&marked).unwrap(), "doctor\n");
    fs::remove_file(&marked).unwrap();
    if rustix::process::geteuid().is_root() {
        // Of somebody else, who could put another in its place meanwhile: a copy of it is run.
        let nobody = Some(65534);
        std::os::unix::fs::chown(data(&server).join("update/versions/0.2.0/zero"), nobody, nobody).unwrap();
        doctor();
        assert_eq!(fs::read_to_string(&marked).unwrap(), "doctor\n");
        fs::remove_file(&marked).unwrap();
    }
    // Whoever can write there cannot have it run.
    let file = data(&server).join("update/versions/0.2.0/zero");
    fs::write(&file, script.replace("exec", "true; exec")).unwrap();
    assert!(said(&doctor()).contains("is not the one that was signed") || said(&doctor()).contains("longer"));
    assert!(!marked.exists());
    let server = server.crash_and_restart().await;
    assert_eq!(progress(&server, &token).await["version"], "0.1.0");
}
