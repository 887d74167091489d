//! Updates as whoever runs an appliance meets them: good ones, refused ones, ones that fail, and ones that are cut short.
//!
//! A "new version" is the binary under test behind a script, which says another version and may go wrong on purpose.

use std::fs;
use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use zero::store::SCHEMA_VERSION;

use crate::bundle::{Signer, manifest, pack, target};
use crate::server::{Server, binary, client, zero};

/// The binary under test as version `version`; `serving` is what it does first when it is to serve.
pub fn script(version: &str, serving: &str) -> String {
    format!(
        "#!/bin/sh\ncase \"$1\" in\nversion) echo \"zero {version}\"; exit 0;;\nserve) {serving} ;;\nesac\nexec {} \"$@\"\n",
        binary().display()
    )
}

/// Part of a script that is run only where the new version is to take over, not in the rehearsal.
pub fn when_tried(then: &str) -> String {
    format!("case \"$ZERO_HANDOVER\" in *tried*) {then} ;; esac")
}

pub fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), output.stderr.as_slice()].concat()).into_owned()
}

pub fn data(server: &Server) -> PathBuf {
    server.folder.path().join("data")
}

/// Runs `zero update` on a bundle.
pub async fn update(server: &Server, signer: &Signer, bundle: Vec<u8>) -> Output {
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

pub async fn progress(server: &Server, token: &str) -> Value {
    server.get("/system/update", token).await.expect(200)
}

pub async fn log(server: &Server, token: &str, action: &str) -> Vec<Value> {
    let entries = server.get(&format!("/audit-logs?action={action}"), token).await.expect(200);
    entries["data"].as_array().unwrap().clone()
}

/// What lies in the folder of updates beside what belongs there.
pub fn left_behind(server: &Server) -> Vec<String> {
    let files = fs::read_dir(data(server).join("update")).unwrap();
    let names = files.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name != "versions" && name != "state.json").collect()
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
        (signed(&ours.replace(&format!("\"schema\":{SCHEMA_VERSION}"), "\"schema\":1"), binary), "older than 0.1.0"),
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
