//! Full TLS 1.3 handshakes a second, beside a bare server: with devices that show a certificate, and without.

use http::Method;
use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};

use crate::appliance::{Appliance, folder};
use crate::bare::{self, Replies};
use crate::client::{Call, Identity};
use crate::table::Table;
use crate::{CONNECTIONS, Fallible, Plan};

pub async fn measure(plan: &Plan, table: &mut Table) -> Fallible<()> {
    let bare_folder = folder()?;
    let bare = bare::start(bare_folder.path(), &Replies::new())?;
    let bare_ca = bare_folder.path().join("ca.pem");
    let off = Appliance::set_up(&[("ZERO_TLS_DEVICE_CERTIFICATES", "false")]).await?;
    let on = Appliance::set_up(&[]).await?;
    let device = enrol(&on).await?;
    let cases = [
        ("nobody is asked for a certificate", 0.8, &off, None),
        ("asked, and none is shown", 0.8, &on, None),
        ("a device's certificate is shown", 0.5, &on, Some(&device)),
    ];
    for (name, least, appliance, identity) in cases {
        let (mut ours, mut bares) = (0.0, 0.0);
        let ca = appliance.ca();
        // The first round warms both.
        for round in 0..=plan.rounds {
            let one = appliance.client()?.handshakes(&ca, identity, CONNECTIONS, plan.round).await?;
            let other = bare.client.handshakes(&bare_ca, None, CONNECTIONS, plan.round).await?;
            if round > 0 {
                ours += one;
                bares += other;
            }
        }
        let rounds = f64::from(plan.rounds);
        let detail = format!("{:.0}/s to {:.0}/s bare", ours / rounds, bares / rounds);
        table.at_least(&format!("full TLS 1.3 handshakes, {name}: rate to bare"), least, ours / bares, &detail);
    }
    Ok(())
}

/// A device with a certificate.
async fn enrol(appliance: &Appliance) -> Fallible<Identity> {
    let key = KeyPair::generate()?;
    let csr = CertificateParams::default().serialize_request(&key)?.pem()?;
    let new = json!({"device_name": "laptop", "platform": "linux", "agent_version": "1", "csr": csr});
    let call = Call::new(Method::POST, "/api/v1/devices/enroll", appliance.token())?.body(&new);
    let made = appliance.client()?.connect().await?.send(call).await?;
    let made: Value = serde_json::from_slice(&made)?;
    let certificate = made["certificate"].as_str().ok_or("there is no certificate")?.to_owned();
    Ok(Identity { certificate, key: key.serialize_pem() })
}
