//! What a fleet that checks in every minute writes to a flash card in a day.
//!
//! Counted is what the process sends to the disk over whole periods of the heartbeat flush, from the middle of one to
//! the middle of a later one: so many flushes, and everything between them. Neither the log is counted (whoever
//! supervises the appliance keeps it) nor what the card makes of the writes.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, interval, sleep_until};

use crate::appliance::Appliance;
use crate::devices::{self, Until};
use crate::table::Table;
use crate::{CONNECTIONS, Fallible, Plan};

const DEVICES: usize = 1000;
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// The period that the appliance has by default.
const FLUSH: Duration = Duration::from_secs(300);
/// How early to look before a flush.
const MARGIN: Duration = Duration::from_secs(1);

pub async fn measure(plan: &Plan, table: &mut Table) -> Fallible<()> {
    let settings = [
        ("ZERO_STORE_HEARTBEAT_FLUSH_SECONDS", plan.flush_seconds),
        ("ZERO_DEVICES_OFFLINE_AFTER_SECONDS", "300"),
        ("ZERO_LOG_LEVEL", "warn"),
    ];
    let flush = Duration::from_secs(plan.flush_seconds.parse()?);
    let mut appliance = Appliance::set_up(&settings).await?;
    let mut crowd = appliance.client()?.crowd(CONNECTIONS).await?;
    let (fleet, _) = devices::enrol(&mut crowd, appliance.token(), 0, Until::Count(DEVICES)).await?;
    devices::check_in(&mut crowd, &fleet).await?;
    drop(crowd);
    // Stopping writes the first heartbeats, so that those counted meet rows that are there; and from a start on it is
    // known when flushes come.
    appliance.restart()?;
    let ready = Instant::now();
    let server = appliance.server()?;
    let fleet = keep_checking_in(&appliance, fleet, MINUTE.min(flush)).await?;

    sleep_until(ready + flush / 2).await;
    let before = server.written()?;
    let mut unprovoked = 0;
    for nth in 1..=plan.flushes {
        let middle = server.written()?;
        sleep_until(ready + flush * nth - MARGIN).await;
        unprovoked += server.written()? - middle;
        sleep_until(ready + flush * nth + flush / 2).await;
    }
    let written = (server.written()? - before) as f64;
    if fleet.is_finished() {
        return fleet.await?;
    }
    fleet.abort();

    let a_flush = written / f64::from(plan.flushes);
    let day = a_flush * (DAY.as_secs_f64() / FLUSH.as_secs_f64());
    let detail = format!("{:.0} kB a flush, {} flushes", a_flush / 1e3, plan.flushes);
    table.at_most("flash, 1,000 devices every minute: a day", 50.0, "MB", day / 1e6, &detail);
    table.at_most("flash, check-ins between two flushes", 0.0, "kB", unprovoked as f64 / 1e3, "nothing has changed");
    Ok(())
}

/// Each device checks in once in `period`, evenly spread; ends only with an error.
async fn keep_checking_in(
    appliance: &Appliance,
    fleet: Vec<devices::Device>,
    period: Duration,
) -> Fallible<JoinHandle<Fallible<()>>> {
    let mut connection = appliance.client()?.connect().await?;
    let mut ticks = interval(period / u32::try_from(fleet.len())?);
    Ok(tokio::spawn(async move {
        for device in fleet.iter().cycle() {
            ticks.tick().await;
            connection.send(devices::call(device)?).await?;
        }
        Ok(())
    }))
}
