//! `zero update`: gives the running server the bundle, and waits for what becomes of it.

use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::app::control::Client;
use crate::app::{StartError, failed};
use crate::config::Config;
use crate::domain::updates::LARGEST;
use crate::model::update::{UpdateOutcome, UpdateStep};

/// How often is asked.
const LOOK: Duration = Duration::from_millis(100);
/// How long the server may be away beyond the time of a new version to start.
const PATIENCE: Duration = Duration::from_secs(60);

/// Updates the appliance on this machine; `report` hears of each step.
///
/// # Errors
/// Why nothing was begun, or that nobody knows how it ended.
pub fn update(config: &Config, file: &Path, mut report: impl FnMut(UpdateStep)) -> Result<UpdateOutcome, StartError> {
    let data_dir = &config.server.data_dir;
    let unreadable = |error| failed(format_args!("{}: {error}", file.display()));
    let mut bundle = File::open(file).map_err(unreadable)?;
    if bundle.metadata().map_err(unreadable)?.len() > LARGEST {
        return Err(failed(format_args!("{} is larger than any update: nothing was changed", file.display())));
    }
    let mut server = Client::connect(data_dir).map_err(|error| {
        failed(format_args!(
            "no zero can be reached on {}: {error}. Start it first: it checks the update and makes it",
            data_dir.display()
        ))
    })?;
    let begun =
        server.update(&mut bundle).map_err(|error| failed(format_args!("the server did not answer: {error}")))?;
    let begun = begun.map_err(|why| failed(format_args!("{why}. Nothing was changed")))?;
    drop(server);
    report(begun.step);
    let (mut step, mut heard) = (begun.step, Instant::now());
    let patience = config.update.ready_within.saturating_mul(2) + PATIENCE;
    loop {
        match Client::connect(data_dir).and_then(|mut server| server.progress()) {
            Ok(progress) => {
                heard = Instant::now();
                if let Some(last) = progress.last.filter(|last| last.id == begun.id) {
                    return Ok(last);
                }
                match progress.under_way {
                    Some(now) if now.id == begun.id => {
                        if now.step != step {
                            step = now.step;
                            report(step);
                        }
                    }
                    _ => return Err(failed("the server was started anew meanwhile: nothing was changed")),
                }
            }
            Err(error) if heard.elapsed() > patience => {
                return Err(failed(format_args!(
                    "the server does not answer any more: {error}. Start it: what the update had begun is then finished \
                     or undone"
                )));
            }
            Err(_) => {}
        }
        std::thread::sleep(LOOK);
    }
}
