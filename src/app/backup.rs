//! `zero backup`: of a running appliance by way of its socket, of a stopped one from its file.

use std::path::Path;

use super::control::Client;
use super::folder::{self, DATA_FILE, lock_to_read};
use super::{StartError, failed, offline};
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::domain::backups::proven;
use crate::model::backup::ProvenBackup;
use crate::store;
use crate::store::backup::{self, Guard, Protection, Saved};
use crate::store::write::Stamp;

/// Makes a backup at `file` and proves it.
pub fn back_up(config: Config, file: &Path, protection: &Protection) -> Result<ProvenBackup, StartError> {
    let data_dir = &config.server.data_dir;
    if !data_dir.join(DATA_FILE).exists() {
        return Err(failed(format_args!("there is no appliance in {}", data_dir.display())));
    }
    let now = SystemClock::new().now();
    let made = |saved: Saved| ProvenBackup {
        name: file.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        created_at: now,
        bytes: saved.bytes,
        encrypted: !protection.is_none(),
        contents: saved.contents,
    };
    let guard = Guard::new(config.store.min_free);
    let Some(reading) = lock_to_read(data_dir)? else {
        let mut server = Client::connect(data_dir).map_err(|error| {
            failed(format_args!("a zero works on {}, but cannot be asked for a backup: {error}", data_dir.display()))
        })?;
        let saved = backup::save(file, protection, &guard, |to| server.backup(to));
        let outcome = saved.map(made).map_err(|error| error.to_string());
        let told = server.tell(outcome.as_ref().map_err(Clone::clone));
        let made = outcome.map_err(failed)?;
        // The backup is good all the same.
        told.map_err(|error| failed(format_args!("the backup is proven, but the server did not note it: {error}")))?;
        return Ok(made);
    };
    let looked = store::look(&data_dir.join(DATA_FILE), &config.store, |snapshot| {
        let saved = backup::files_of(data_dir)
            .and_then(|files| backup::save(file, protection, &guard, |to| backup::write(snapshot, &files, now, to)));
        Ok((saved, store::is_current(snapshot)?))
    });
    let (saved, is_current) = looked.map_err(failed)?;
    let made = made(saved.map_err(failed)?);
    drop(reading);
    // An older file is left as it is: to write to it would be to migrate it.
    if is_current {
        let noted = made.clone();
        let told = offline(&config, async |store, now| {
            let made = noted.clone();
            let is_set_up = store.memory().directory().is_set_up();
            if is_set_up {
                store.write(Stamp::system(now), move |tx| proven(tx, &made)).await?;
            }
            Ok(())
        });
        // The disk may be failing: then the backup is all there is.
        told.map_err(|error| failed(format_args!("the backup is proven, but the data do not note it: {error}")))?;
    }
    Ok(made)
}

/// What `zero export --salvage` has read.
pub use crate::store::salvage::Salvaged;

/// Reads what can be read of a damaged data file, to `out`, which must not exist.
pub fn salvage(config: &Config, out: &Path) -> Result<Salvaged, StartError> {
    let data_dir = &config.server.data_dir;
    let _reading = lock_to_read(data_dir)?.ok_or_else(|| {
        failed(format_args!("a zero is running on {}: its data is not damaged, or stop it first", data_dir.display()))
    })?;
    store::salvage::salvage(&data_dir.join(folder::DATA_FILE), out).map_err(failed)
}
