//! Durable enrolments a second: how much sharing commits gains over the store's one commit after another.

use std::time::Instant;

use crate::appliance::{Appliance, folder};
use crate::bare::Store;
use crate::devices::{Until, enrol};
use crate::table::Table;
use crate::{CONNECTIONS, Fallible, Plan};

pub async fn measure(plan: &Plan, table: &mut Table) -> Fallible<()> {
    let appliance = Appliance::set_up(&[]).await?;
    let folder = folder()?;
    let store = Store::create(folder.path())?;
    let mut crowd = appliance.client()?.crowd(CONNECTIONS).await?;
    let (mut enrolled, mut seconds, mut bare) = (0, 0.0, 0.0);
    for _ in 0..plan.rounds {
        let until = Until::Time(Instant::now() + plan.round);
        let (devices, took) = enrol(&mut crowd, appliance.token(), enrolled, until).await?;
        enrolled += devices.len();
        seconds += took.as_secs_f64();
        bare += tokio::task::block_in_place(|| store.commits_a_second(plan.round))? / f64::from(plan.rounds);
    }
    let rate = enrolled as f64 / seconds;
    let detail = format!("{rate:.0}/s to {bare:.0} commits/s");
    table.at_least("durable enrolments, 64 connections: times bare redb", 4.0, rate / bare, &detail);
    Ok(())
}
