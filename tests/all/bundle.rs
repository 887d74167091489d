//! Signed updates, made as a release makes them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::json;
use zero::store::SCHEMA_VERSION;

pub struct Signer(Ed25519KeyPair);

impl Signer {
    pub fn new() -> Self {
        let key = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Self(Ed25519KeyPair::from_pkcs8(key.as_ref()).unwrap())
    }

    pub fn public_key(&self) -> String {
        STANDARD.encode(self.0.public_key().as_ref())
    }

    /// What a server needs to be told to take updates of this signer.
    pub fn settings(&self) -> Vec<(&'static str, &'static str)> {
        vec![("ZERO_UPDATE_PUBLIC_KEY", self.public_key().leak()), ("ZERO_UPDATE_READY_SECONDS", "20")]
    }

    pub fn sign(&self, manifest: &str) -> Vec<u8> {
        self.0.sign(manifest.as_bytes()).as_ref().to_vec()
    }

    /// A bundle of a new version that is the script `script`.
    pub fn bundle(&self, version: &str, script: &str) -> Vec<u8> {
        let manifest = manifest(version, script.as_bytes());
        let signature = self.sign(&manifest);
        pack(&[("manifest.json", manifest.as_bytes()), ("manifest.sig", &signature), ("zero", script.as_bytes())])
    }
}

pub fn target() -> String {
    format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS)
}

pub fn manifest(version: &str, binary: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, binary);
    let digest: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    json!({
        "format": 1, "version": version, "schema": SCHEMA_VERSION, "target": target(), "sha256": digest, "size": binary.len(),
    })
    .to_string()
}

pub fn pack(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, *bytes).unwrap();
    }
    tar.into_inner().unwrap()
}
