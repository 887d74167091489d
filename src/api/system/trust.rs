//! What a machine needs to trust the appliance's own authority, in the form that its system takes.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::StatusCode;
use ring::digest::{SHA256, digest};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;
use uuid::{Builder, Uuid};

use crate::api::qr;
use crate::clock::Time;
use crate::domain::Services;
use crate::domain::op::Op;
use crate::domain::system::Trust;
use crate::error::Error;
use crate::http::extract;
use crate::http::respond::{Answer, Attachment, Json, Reply};

/// The appliance's own authority, and how to make a machine trust it.
#[derive(Serialize, JsonSchema)]
pub(super) struct TrustView {
    /// Compare it with what the appliance printed at its start: whoever could change this answer on its way could change
    /// the certificate as well.
    fingerprint_sha256: String,
    not_after: Time,
    /// PEM.
    certificate: String,
    downloads: Downloads,
    platforms: Vec<Platform>,
    /// A page with all this, for another machine to open; under the name by which this one came.
    page: String,
    /// The page's address as a QR code, an SVG image.
    qr_svg: String,
}

/// URLs that need no sign-in.
#[derive(Serialize, JsonSchema)]
struct Downloads {
    pem: String,
    der: String,
    /// A configuration profile, for Apple's systems.
    mobileconfig: String,
}

#[derive(Serialize, JsonSchema)]
struct Platform {
    /// `linux`, `windows`, `macos`, `ios`, `android` or `firefox`, which has a store of its own.
    platform: &'static str,
    title: &'static str,
    /// What to type, in order.
    commands: Vec<String>,
    /// What to do by hand.
    steps: Vec<String>,
}

pub(super) async fn overview(
    services: &Services,
    _: Op,
    extract::Host(host): extract::Host,
) -> Result<Json<TrustView>, Error> {
    let trust = services.trust()?;
    let at = |end: &str| format!("https://{host}/api/v1/system/ca.{end}");
    let page = format!("https://{host}/trust");
    let downloads = Downloads { pem: at("pem"), der: at("der"), mobileconfig: at("mobileconfig") };
    Ok(Json(TrustView {
        fingerprint_sha256: trust.fingerprint.clone(),
        not_after: trust.not_after,
        certificate: trust.pem.clone(),
        platforms: platforms(&downloads),
        downloads,
        qr_svg: qr::svg(&page)?,
        page,
    }))
}

fn platforms(downloads: &Downloads) -> Vec<Platform> {
    let Downloads { pem, der, mobileconfig } = downloads;
    // Nothing is trusted yet, so what has been fetched is compared before it is installed.
    let fetch = format!("curl -k -o zero-ca.pem {pem}");
    let compare = "openssl x509 -in zero-ca.pem -noout -fingerprint -sha256".to_owned();
    let fetched = |install: &[&str]| {
        let mut commands = vec![fetch.clone(), compare.clone()];
        commands.extend(install.iter().map(|&command| command.into()));
        commands
    };
    let by_hand = |steps: &[&str]| steps.iter().map(|&step| step.into()).collect::<Vec<String>>();
    vec![
        Platform {
            platform: "linux",
            title: "Debian, Ubuntu, Raspberry Pi OS",
            commands: fetched(&[
                "sudo install -m 644 zero-ca.pem /usr/local/share/ca-certificates/zero-ca.crt",
                "sudo update-ca-certificates",
            ]),
            steps: vec![],
        },
        Platform {
            platform: "linux",
            title: "Fedora, RHEL",
            commands: fetched(&[
                "sudo install -m 644 zero-ca.pem /etc/pki/ca-trust/source/anchors/zero-ca.pem",
                "sudo update-ca-trust",
            ]),
            steps: vec![],
        },
        Platform {
            platform: "windows",
            title: "Windows (as administrator)",
            commands: vec![
                format!("curl.exe -k -o zero-ca.der {der}"),
                "certutil -hashfile zero-ca.der SHA256".into(),
                "certutil -addstore -f Root zero-ca.der".into(),
            ],
            steps: vec![],
        },
        Platform {
            platform: "macos",
            title: "macOS",
            commands: fetched(&[
                "sudo security add-trusted-cert -d -r trustRoot -k /Library/Keychains/System.keychain zero-ca.pem",
            ]),
            steps: vec![],
        },
        Platform {
            platform: "ios",
            title: "iPhone, iPad",
            commands: vec![],
            steps: vec![
                format!("Open {mobileconfig} in Safari and allow the download."),
                "Settings, General, VPN & Device Management: install the profile.".into(),
                "Settings, General, About, Certificate Trust Settings: switch it on.".into(),
            ],
        },
        Platform {
            platform: "android",
            title: "Android",
            commands: vec![],
            steps: vec![
                format!("Download {der}."),
                "Settings, Security, Encryption & credentials, Install a certificate, CA certificate: choose the file."
                    .into(),
            ],
        },
        Platform {
            platform: "firefox",
            title: "Firefox",
            commands: vec![],
            steps: by_hand(&[
                "Settings, Privacy & Security, Certificates, View Certificates, Authorities, Import: choose zero-ca.pem.",
            ]),
        },
    ]
}

/// The certificate as it is written between machines.
pub(super) struct Pem(String);

pub(super) struct Der(Vec<u8>);

/// A configuration profile that installs the certificate.
pub(super) struct Profile(String);

macro_rules! file {
    ($type:ident, $media_type:literal, $schema:tt) => {
        impl Answer for $type {
            const STATUS: StatusCode = StatusCode::OK;
            const DESCRIPTION: &'static str = "The certificate of the appliance's own authority";

            fn schema(_: &mut SchemaGenerator) -> Option<(&'static str, Schema)> {
                Some(($media_type, json_schema!($schema)))
            }

            fn into_reply(self) -> Reply {
                Reply::content(Self::STATUS, $media_type, Bytes::from(self.0))
            }
        }
    };
}

file!(Pem, "application/x-pem-file", { "type": "string" });
file!(Der, "application/x-x509-ca-cert", { "type": "string", "format": "binary" });
file!(Profile, "application/x-apple-aspen-config", { "type": "string" });

fn saved_as<A>(name: &str, answer: A) -> Attachment<A> {
    Attachment { name: name.into(), answer }
}

pub(super) async fn pem(services: &Services, _: Op) -> Result<Attachment<Pem>, Error> {
    Ok(saved_as("zero-ca.pem", Pem(services.trust()?.pem.clone())))
}

pub(super) async fn der(services: &Services, _: Op) -> Result<Attachment<Der>, Error> {
    Ok(saved_as("zero-ca.der", Der(services.trust()?.der.clone())))
}

pub(super) async fn profile(services: &Services, _: Op) -> Result<Attachment<Profile>, Error> {
    Ok(saved_as("zero-ca.mobileconfig", Profile(mobileconfig(services.trust()?))))
}

/// The identifiers follow from the certificate, so that installing it again replaces it.
fn mobileconfig(trust: &Trust) -> String {
    let id = |purpose: &str| -> Uuid {
        let hash = digest(&SHA256, &[purpose.as_bytes(), &trust.der].concat());
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&hash.as_ref()[..16]);
        Builder::from_random_bytes(bytes).into_uuid()
    };
    let (profile, payload, content) = (id("profile"), id("certificate"), STANDARD.encode(&trust.der));
    format!(
        r#"<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
<dict>
  <key>PayloadType</key><string>Configuration</string>
  <key>PayloadVersion</key><integer>1</integer>
  <key>PayloadIdentifier</key><string>zero.ca.{profile}</string>
  <key>PayloadUUID</key><string>{profile}</string>
  <key>PayloadDisplayName</key><string>Zero: trust this appliance</string>
  <key>PayloadDescription</key><string>Installs the certificate of the appliance's own authority.</string>
  <key>PayloadContent</key>
  <array>
    <dict>
      <key>PayloadType</key><string>com.apple.security.root</string>
      <key>PayloadVersion</key><integer>1</integer>
      <key>PayloadIdentifier</key><string>zero.ca.{payload}</string>
      <key>PayloadUUID</key><string>{payload}</string>
      <key>PayloadDisplayName</key><string>Zero local CA</string>
      <key>PayloadCertificateFileName</key><string>zero-ca.der</string>
      <key>PayloadContent</key><data>{content}</data>
    </dict>
  </array>
</dict>
</plist>
"#
    )
}
