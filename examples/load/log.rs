//! What it costs to verify and to export a long audit log.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::appliance::Appliance;
use crate::devices;
use crate::table::Table;
use crate::{Fallible, Plan};

const MIB: f64 = 1024.0 * 1024.0;

pub async fn measure(plan: &Plan, table: &mut Table) -> Fallible<()> {
    let appliance = Appliance::set_up(&[]).await?;
    devices::with_history(&appliance, plan.entries).await?;

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
