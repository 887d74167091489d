//! What it costs to verify and to export a long audit log.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http::Method;
use serde_json::{Value, json};

use crate::appliance::Appliance;
use crate::client::Call;
use crate::devices::{self, Until};
use crate::table::Table;
use crate::{CONNECTIONS, Fallible, Plan};

const MIB: f64 = 1024.0 * 1024.0;

pub async fn measure(plan: &Plan, table: &mut Table) -> Fallible<()> {
    let appliance = Appliance::set_up(&[]).await?;
    let mut crowd = appliance.client()?.crowd(CONNECTIONS * 4).await?;
    let (devices, _) = devices::enrol(&mut crowd, appliance.token(), 0, Until::Count(plan.entries / 10)).await?;
    // Each is suspended and resumed until the log is as long as it shall be.
    let calls = |status: &str| -> Fallible<Vec<Call>> {
        let change = |device: &devices::Device| {
            let path = format!("/api/v1/devices/{}/status", device.id);
            Ok(Call::new(Method::PUT, &path, appliance.token())?.body(&json!({"status": status})))
        };
        devices.iter().map(change).collect()
    };
    let changes = [calls("suspended")?, calls("online")?].map(Arc::new);
    for turn in 0..9 {
        let (calls, at) = (changes[turn % 2].clone(), Arc::new(AtomicUsize::new(0)));
        crowd.run(move || calls.get(at.fetch_add(1, Ordering::Relaxed)).cloned(), |_| ()).await?;
    }
    drop(crowd);

    let mut connection = appliance.client()?.connect().await?;
    let before = Instant::now();
    let verdict: Value = serde_json::from_slice(&connection.send(appliance.get("/api/v1/audit-logs/verify")?).await?)?;
    let took = before.elapsed().as_secs_f64();
    if verdict["valid"] != true {
        return Err(format!("the log does not verify: {verdict}").into());
    }
    let entries = verdict["entries"].as_u64().ok_or("a verdict counts the entries")?;
    let detail = format!("{entries} in {took:.1} s");
    table.at_least("verifying the audit log: entries a second", 300_000.0, entries as f64 / took, &detail);

    // What is idle after such a burst is given back within seconds.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let (idle, _) = appliance.server()?.memory()?;
    appliance.server()?.forget_peak()?;
    let before = Instant::now();
    let bytes = connection.drain(appliance.get("/api/v1/audit-logs/export?format=ndjson")?).await?;
    let took = before.elapsed().as_secs_f64();
    let (_, peak) = appliance.server()?.memory()?;
    let detail = format!("{entries} entries, {:.0} MiB in {took:.1} s", bytes as f64 / MIB);
    let above = (peak as f64 - idle as f64) / MIB;
    table.at_most("exporting the audit log: memory above idle", 32.0, "MiB", above, &detail);
    Ok(())
}
