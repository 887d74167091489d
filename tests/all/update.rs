//! Updates as whoever runs an appliance meets them: good ones, refused ones, ones that fail, and ones that are cut short.
//!
//! A "new version" is the binary under test behind a script, which says another version and may go wrong on purpose.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::server::{Server, binary, zero};

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
fn update(data: &Path, signer: &Signer, bundle: &[u8]) -> Output {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("zero.update");
    fs::write(&file, bundle).unwrap();
    zero(&["update", "--data-dir", data.to_str().unwrap(), file.to_str().unwrap()])
        .envs(signer.settings())
        .stdin(Stdio::null())
        .output()
        .unwrap()
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
    let updated = update(&data(&server), &signer, &signer.bundle("0.2.0", &script("0.2.0", ":")));
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
