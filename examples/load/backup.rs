//! What a backup with its proof costs while the appliance serves, and how long it takes to come back from it.

use std::time::{Duration, Instant};

use http::Method;
use serde_json::{Value, json};

use crate::appliance::{Appliance, folder};
use crate::client::{Call, Connection};
use crate::table::Table;
use crate::{Fallible, Plan, devices};

const MIB: f64 = 1024.0 * 1024.0;
/// Between requests: what is measured is how long one takes, not how many there can be.
const PAUSE: Duration = Duration::from_millis(2);

pub async fn measure(plan: &Plan, table: &mut Table) -> Fallible<()> {
    let appliance = Appliance::set_up(&[]).await?;
    let fleet = devices::with_history(&appliance, plan.entries).await?;
    // What is idle after such a burst is given back within seconds.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let call = appliance.get(&format!("/api/v1/devices/{}", fleet[fleet.len() / 2].id))?;
    let mut reader = appliance.client()?.connect().await?;
    let mut idle_times = Vec::new();
    while idle_times.len() < plan.requests {
        time(&mut reader, &call, &mut idle_times).await?;
    }
    let (idle, _) = appliance.server()?.memory()?;
    appliance.server()?.forget_peak()?;

    let mut maker = appliance.client()?.connect().await?;
    let make = Call::new(Method::POST, "/api/v1/system/backup", appliance.token())?.body(&json!({}));
    let before = Instant::now();
    let making = tokio::spawn(async move { maker.send(make).await });
    let mut times = Vec::new();
    while !making.is_finished() {
        time(&mut reader, &call, &mut times).await?;
    }
    let made: Value = serde_json::from_slice(&making.await??)?;
    let took = before.elapsed().as_secs_f64();
    let (_, peak) = appliance.server()?.memory()?;
    let load = std::fs::read_to_string("/proc/loadavg")?;
    let load = load.split(' ').next().unwrap_or_default();
    let count = fleet.len();
    let detail =
        format!("{} entries, {:.0} MiB of data, load {load}", plan.entries, appliance.file_bytes()? as f64 / MIB);
    table.at_most(&format!("backup with its proof, {count} devices"), 20.0, "s", took, &detail);
    let (was, is) = (p99(&mut idle_times), p99(&mut times));
    let detail = format!("{is:.0}/{was:.0} us, {} requests meanwhile", times.len());
    table.at_most("  GET one device meanwhile: p99 to idle", 3.0, "times", is / was, &detail);
    table.at_most("  memory above idle meanwhile", 64.0, "MiB", (peak as f64 - idle as f64) / MIB, "VmHWM to VmRSS");

    let file = appliance.backups().join(made["name"].as_str().ok_or("a backup has a name")?);
    let elsewhere = folder()?;
    let took = appliance.restore(&file, elsewhere.path())?;
    let detail = format!("{:.0} MiB of backup", std::fs::metadata(&file)?.len() as f64 / MIB);
    table.at_most("restoring it", 20.0, "s", took.as_secs_f64(), &detail);
    Ok(())
}

async fn time(connection: &mut Connection, call: &Call, times: &mut Vec<Duration>) -> Fallible<()> {
    let before = Instant::now();
    connection.send(call.clone()).await?;
    times.push(before.elapsed());
    tokio::time::sleep(PAUSE).await;
    Ok(())
}

/// In microseconds.
fn p99(times: &mut [Duration]) -> f64 {
    times.sort_unstable();
    times[(times.len() - 1) * 99 / 100].as_secs_f64() * 1e6
}
