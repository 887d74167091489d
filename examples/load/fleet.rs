//! What a large fleet costs: lists, starts and memory, beside a small one and an empty appliance.

use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::appliance::Appliance;
use crate::client::{Call, Connection};
use crate::table::Table;
use crate::{CONNECTIONS, Fallible, Plan, devices, rates};

const MIB: f64 = 1024.0 * 1024.0;
const SMALL: usize = 1000;
/// Each takes 19 MiB for a moment.
const LOGINS: usize = 6;
/// Requests to one fleet before it is the other's turn: what else the machine does then hits both.
const TURN: usize = 100;

pub async fn measure(plan: &Plan, table: &mut Table) -> Fallible<()> {
    let mut small = Appliance::set_up(&[]).await?;
    for _ in 1..LOGINS {
        small.log_in().await?;
    }
    let (idle, _) = small.server()?.memory()?;
    table.at_most(&format!("memory, idle after setup and {LOGINS} logins"), 20.0, "MiB", idle as f64 / MIB, "VmRSS");
    start(&mut small, plan, table, "start to ready, no devices", 100.0)?;
    devices::populate(&small, SMALL).await?;

    let mut large = Appliance::set_up(&[]).await?;
    let before = Instant::now();
    let fleet = devices::populate(&large, plan.devices).await?;
    let took = before.elapsed().as_secs_f64();
    let count = fleet.len();
    let (now, peak) = reading(&large, plan, &fleet[count / 2].id).await?;
    let detail = format!("VmRSS; enrolled in {took:.0} s, peak {:.0} MiB", peak / MIB);
    table.at_most(&format!("memory, {count} devices just enrolled, GET and list"), 64.0, "MiB", now / MIB, &detail);
    start(&mut large, plan, table, &format!("start to ready, {count} devices"), 1000.0)?;
    table.note("its data file", &format!("{:.0} MiB", large.file_bytes()? as f64 / MIB));

    lists(&small, &large, plan, table, count).await?;

    let (now, peak) = reading(&large, plan, &fleet[count / 2].id).await?;
    let detail = format!("VmHWM; then {:.0} MiB VmRSS", now / MIB);
    table.at_most(&format!("memory, {count} devices, GET and list"), 64.0, "MiB", peak / MIB, &detail);
    Ok(())
}

/// Memory in use at the end of some rounds of reading, in bytes, and the most that ever was.
async fn reading(appliance: &Appliance, plan: &Plan, device: &str) -> Fallible<(f64, f64)> {
    let mut crowd = appliance.client()?.crowd(CONNECTIONS).await?;
    for path in [format!("/api/v1/devices/{device}"), list(1), list(last_page(appliance).await?)] {
        rates::run(&mut crowd, &appliance.get(&path)?, plan.round).await?;
    }
    let (now, peak) = appliance.server()?.memory()?;
    Ok((now as f64, peak as f64))
}

/// The median of some starts on the same data.
fn start(appliance: &mut Appliance, plan: &Plan, table: &mut Table, figure: &str, target: f64) -> Fallible<()> {
    let times: Result<Vec<_>, _> = (0..plan.starts).map(|_| appliance.restart()).collect();
    let mut times = times?;
    times.sort_unstable();
    let millis = |time: Duration| time.as_secs_f64() * 1e3;
    let slowest = format!("slowest {:.0}", millis(times[times.len() - 1]));
    table.at_most(figure, target, "ms", millis(times[times.len() / 2]), &slowest);
    Ok(())
}

async fn lists(small: &Appliance, large: &Appliance, plan: &Plan, table: &mut Table, count: usize) -> Fallible<()> {
    for last in [false, true] {
        let call = async |appliance: &Appliance| {
            let page = if last { last_page(appliance).await? } else { 1 };
            appliance.get(&list(page))
        };
        let (small_call, large_call) = (call(small).await?, call(large).await?);
        let mut small_connection = small.client()?.connect().await?;
        let mut large_connection = large.client()?.connect().await?;
        let (mut small_times, mut large_times) = (Vec::new(), Vec::new());
        for _ in 0..plan.requests / TURN {
            time(&mut small_connection, &small_call, &mut small_times).await?;
            time(&mut large_connection, &large_call, &mut large_times).await?;
        }
        small_times.sort_unstable();
        large_times.sort_unstable();
        let micros = |times: &[Duration], percent: usize| times[(times.len() - 1) * percent / 100].as_secs_f64() * 1e6;
        let (small_p99, large_p99) = (micros(&small_times, 99), micros(&large_times, 99));
        let detail = format!(
            "{large_p99:.0}/{small_p99:.0} us; median {:.0}/{:.0}",
            micros(&large_times, 50),
            micros(&small_times, 50)
        );
        let page = if last { "last page" } else { "page 1" };
        let figure = format!("list by two filters, {page}: p99 {count} to {SMALL}");
        table.at_most(&figure, 1.5, "times", large_p99 / small_p99, &detail);
    }
    Ok(())
}

async fn time(connection: &mut Connection, call: &Call, times: &mut Vec<Duration>) -> Fallible<()> {
    for _ in 0..TURN {
        let before = Instant::now();
        connection.send(call.clone()).await?;
        times.push(before.elapsed());
    }
    Ok(())
}

fn list(page: usize) -> String {
    format!("/api/v1/devices?status=pending&platform=linux&page={page}&page_size=20")
}

async fn last_page(appliance: &Appliance) -> Fallible<usize> {
    #[derive(Deserialize)]
    struct Page {
        total_pages: usize,
    }
    let reply = appliance.client()?.connect().await?.send(appliance.get(&list(1))?).await?;
    Ok(serde_json::from_slice::<Page>(&reply)?.total_pages)
}
