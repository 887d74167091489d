//! What an update costs whoever asks meanwhile.

use std::fs;
use std::time::{Duration, Instant};

use crate::appliance::{Appliance, folder, program};
use crate::table::Table;
use crate::{Fallible, Plan, devices};

#[path = "../../tests/all/bundle.rs"]
mod bundle;

const VERSION: &str = "0.2.0";

pub async fn measure(plan: &Plan, table: &mut Table) -> Fallible<()> {
    let signer = bundle::Signer::new();
    let appliance = Appliance::set_up(&signer.settings()).await?;
    let fleet = devices::with_history(&appliance, plan.entries).await?;
    let call = appliance.get(&format!("/api/v1/devices/{}", fleet[fleet.len() / 2].id))?;

    let elsewhere = folder()?;
    let file = elsewhere.path().join("zero.update");
    fs::write(&file, signer.bundle(VERSION, &new_version()?))?;
    let mut update = appliance.command(&["update"])?;
    update.arg(&file);
    let before = Instant::now();
    let updating = tokio::task::spawn_blocking(move || update.output().map(|output| (output, before.elapsed())));
    let (mut longest, mut answers) = (Duration::ZERO, 0);
    while !updating.is_finished() {
        // A connection each, so that none of the old version's is in the way.
        let asked = Instant::now();
        appliance.client()?.connect().await?.send(call.clone()).await?;
        longest = longest.max(asked.elapsed());
        answers += 1;
    }
    let (output, took) = updating.await??;
    let said = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() || !said.contains(VERSION) {
        return Err(format!("zero update: {said}{}", String::from_utf8_lossy(&output.stderr)).into());
    }
    let figure = format!("update, {} devices, from the command to serving", fleet.len());
    table.at_most(&figure, 30.0, "s", took.as_secs_f64(), &format!("{} entries", plan.entries));
    let detail = format!("of {answers}, on a connection each; none failed");
    table.at_most("  the longest answer meanwhile", 2.0, "s", longest.as_secs_f64(), &detail);
    Ok(())
}

/// The release binary under another version's name, and as large as one.
fn new_version() -> Fallible<String> {
    let binary = program()?;
    let size = usize::try_from(fs::metadata(&binary)?.len())?;
    let binary = binary.display();
    let script = format!("#!/bin/sh\n[ \"$1\" = version ] && echo 'zero {VERSION}' && exit\nexec {binary} \"$@\"\n#");
    let missing = size.saturating_sub(script.len());
    Ok(script + &"x".repeat(missing))
}
