//! What a fleet that checks in every minute writes to a flash card in a day.
//!
//! A day has a fixed number of flushes, however often devices check in, so that the bytes of one flush and of the time
//! in between say what a day writes. Flushes are made more frequent for the measurement. The log is not counted.

use std::time::Duration;

use crate::appliance::Appliance;
use crate::table::Table;
use crate::{CONNECTIONS, Fallible, Plan, devices};

const FLUSH: Duration = Duration::from_secs(20);
const FLUSHES_A_DAY: f64 = 86_400.0 / 300.0;

pub async fn measure(plan: &Plan, table: &mut Table) -> Fallible<()> {
    let settings = [("ZERO_STORE_HEARTBEAT_FLUSH_SECONDS", "20"), ("ZERO_LOG_LEVEL", "warn")];
    let appliance = Appliance::set_up(&settings).await?;
    let mut crowd = appliance.client()?.crowd(CONNECTIONS).await?;
    let (fleet, _) = devices::enrol(&mut crowd, appliance.token(), 0, devices::Until::Count(1000)).await?;
    devices::check_in(&mut crowd, &fleet).await?;
    drop(crowd);
    // What was just written is flushed before counting starts.
    tokio::time::sleep(FLUSH * 2).await;
    let server = appliance.server()?;
    // An empty flush writes too: what is written in between shows on an appliance that does not flush at all.
    let quiet =
        Appliance::set_up(&[("ZERO_STORE_HEARTBEAT_FLUSH_SECONDS", "3600"), ("ZERO_LOG_LEVEL", "warn")]).await?;

    let (before, quiet_before) = (server.written()?, quiet.server()?.written()?);
    let mut ticks = tokio::time::interval(FLUSH);
    for _ in 0..plan.flushes {
        ticks.tick().await;
        devices::check_in(&mut appliance.client()?.crowd(CONNECTIONS).await?, &fleet).await?;
    }
    ticks.tick().await;
    let busy = (server.written()? - before) as f64;

    let idle = (quiet.server()?.written()? - quiet_before) as f64 / (FLUSH * plan.flushes).as_secs_f64();
    let flush = (busy - idle * (FLUSH * plan.flushes).as_secs_f64()).max(0.0) / f64::from(plan.flushes);
    let day = (flush * FLUSHES_A_DAY + idle * 86_400.0) / 1e6;
    let detail = format!("{:.0} kB a flush, {:.2} kB/s idle", flush / 1e3, idle / 1e3);
    table.at_most("flash, 1,000 devices every minute: a day", 50.0, "MB", day, &detail);
    Ok(())
}
