//! `zero restore`: everything is made and checked in a folder within the data directory first; then it takes the place
//! of what is there, under a marker that keeps a server from starting on one half of it.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, BufReader, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::folder::{DATA_FILE, LOCK_FILE, RESTORING, give_to_owner, take};
use super::{StartError, failed, update};
use crate::clock::{Clock, SystemClock, Time};
use crate::config::Config;
use crate::config::changed::{CHANGED_FILE, UNCONFIRMED_FILE};
use crate::domain::restore::{self, Aftermath};
use crate::ids::Ids;
use crate::store::backup::{self, BackupError, Guard, Keys, Restored, TLS_FOLDER};
use crate::store::ledger::{self, Entry};
use crate::store::{self, Store};

/// Beginning of the name of the folder in which a restore is made.
const STAGE: &str = ".restore-";
/// Beginning of the name of the folder that what was there before is kept in.
const REPLACED: &str = "replaced-";
/// What may lie in a folder that counts as empty: none of it is data of an appliance.
const HARMLESS: &[&str] =
    &[LOCK_FILE, "control.sock", "lost+found", "backups", update::FOLDER, ledger::FILE, CHANGED_FILE, UNCONFIRMED_FILE];

pub struct Wanted {
    pub file: PathBuf,
    pub keys: Keys,
    /// Restore also into a folder with data; that is kept aside.
    pub force: bool,
    pub end_sessions: bool,
    /// A further ledger of erasures.
    pub erasures: Option<PathBuf>,
}

pub struct Outcome {
    pub restored: Restored,
    pub aftermath: Aftermath,
    /// Where what was there before lies now.
    pub aside: Option<PathBuf>,
}

/// Restores a backup into the data directory. What was there is untouched until the backup is proven.
pub fn restore(config: &Config, wanted: &Wanted) -> Result<Outcome, StartError> {
    let data_dir = &config.server.data_dir;
    let file = File::open(&wanted.file)
        .map_err(|error| failed(format_args!("cannot open {}: {error}", wanted.file.display())))?;
    let _lock = take(data_dir)?;
    let was_cut_short = data_dir.join(RESTORING).exists();
    let present = in_place(data_dir).map_err(|error| unusable(data_dir, error))?;
    if !present.is_empty() && !wanted.force && !was_cut_short {
        return Err(failed(format_args!(
            "{} is not empty: nothing was changed. Give another folder, or --force to put what is there aside",
            data_dir.display()
        )));
    }
    clear_stages(data_dir).map_err(|error| unusable(data_dir, error))?;
    let erased = erasures(config, wanted)?;
    let stage = data_dir.join(format!("{STAGE}{:08x}", std::process::id()));
    let staged = stage_restore(config, wanted, file, &stage, erased);
    let given = staged.and_then(|staged| {
        give_to_owner(data_dir, &stage).map_err(|error| unusable(&stage, error))?;
        Ok(staged)
    });
    let (restored, aftermath) = match given {
        Ok(staged) => staged,
        Err(error) => {
            let _ = fs::remove_dir_all(&stage);
            return Err(error);
        }
    };
    let aside = swap(data_dir, &stage, &present, SystemClock::new().now()).map_err(|error| {
        failed(format_args!("cannot put the restored files in place: {error}. Run the same command again to finish"))
    })?;
    Ok(Outcome { restored, aftermath, aside })
}

/// Makes the appliance of the backup in `stage`, checked, with erased people erased again.
fn stage_restore(
    config: &Config,
    wanted: &Wanted,
    file: File,
    stage: &Path,
    erased: Vec<Entry>,
) -> Result<(Restored, Aftermath), StartError> {
    let guard = Guard::new(config.store.min_free);
    let restored = backup::open(BufReader::new(file), &wanted.keys)
        .and_then(|opened| backup::load(opened, stage, &guard))
        .and_then(|restored| backup::prove(stage, &restored, None).map(|()| restored))
        .map_err(|error| match error {
            BackupError::Unproven(why) => failed(format_args!("the backup is damaged: {why}. Nothing was changed")),
            error => failed(error),
        })?;
    let clock = Arc::new(SystemClock::new());
    let ids = Arc::new(Ids::new(clock.clone() as Arc<dyn Clock>));
    let store = Store::open(&stage.join(DATA_FILE), &config.store, ids, clock.now()).map_err(failed)?;
    clock.raise_floor(store.clock_floor().map_err(failed)?);
    let runtime = tokio::runtime::Builder::new_current_thread().build().map_err(failed)?;
    let aftermath = runtime.block_on(restore::settle(
        &store,
        &erased,
        config.devices.command_life,
        wanted.end_sessions,
        restored.head.created_at,
        clock.now(),
    ));
    let known = store.snapshot().and_then(|snapshot| ledger::stored(&snapshot));
    store.close();
    let aftermath = aftermath.map_err(|error| failed(format_args!("{error}. Nothing was changed")))?;
    let known = known.map_err(failed)?;
    let both: Vec<Entry> = erased.into_iter().chain(known).collect();
    ledger::extend(&stage.join(ledger::FILE), &both).map_err(failed)?;
    sync(stage).map_err(failed)?;
    Ok((restored, aftermath))
}

/// What is known of erasures since the backup: from beside the data that is replaced, from its database, from beside the
/// backup, and from where the command says.
fn erasures(config: &Config, wanted: &Wanted) -> Result<Vec<Entry>, StartError> {
    let data_dir = &config.server.data_dir;
    let beside = wanted.file.parent().unwrap_or(Path::new("."));
    let mut files = vec![data_dir.join(ledger::FILE), beside.join(ledger::FILE)];
    if let Some(given) = &wanted.erasures {
        if !given.is_file() {
            return Err(failed(format_args!("{} is no file", given.display())));
        }
        files.push(given.clone());
    }
    let mut found = HashSet::new();
    for file in files {
        let read = ledger::read(&file).map_err(|error| {
            failed(format_args!(
                "{} cannot be read: {error}. It tells who was erased since the backup, so nothing is restored without it",
                file.display()
            ))
        })?;
        found.extend(read);
    }
    // A database that is damaged tells nothing: that is what the files are for.
    if let Ok(stored) = store::look(&data_dir.join(DATA_FILE), &config.store, ledger::stored) {
        found.extend(stored);
    }
    Ok(found.into_iter().collect())
}

/// Names of what lies in the folder and belongs to an appliance.
fn in_place(data_dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(data_dir)? {
        let name = entry?.file_name();
        let text = name.to_string_lossy();
        let is_ours = text.starts_with(STAGE) || text.starts_with(REPLACED) || text == RESTORING;
        if !is_ours && !HARMLESS.contains(&&*text) {
            found.push(PathBuf::from(name));
        }
    }
    Ok(found)
}

fn clear_stages(data_dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(data_dir)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(STAGE) {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

/// Puts aside what is there, and what is staged in its place. The marker says from before the first to after the last
/// step that the folder is not whole.
fn swap(data_dir: &Path, stage: &Path, present: &[PathBuf], now: Time) -> io::Result<Option<PathBuf>> {
    let marker = data_dir.join(RESTORING);
    File::create(&marker)?.sync_all()?;
    give_to_owner(data_dir, &marker)?;
    sync(data_dir)?;
    let mut aside = None;
    if !present.is_empty() {
        let time: String = now.to_string().chars().filter(|c| !matches!(c, '-' | ':')).collect();
        let free = (0..).map(|n| data_dir.join(format!("{REPLACED}{time}-{n}"))).find(|path| !path.exists());
        let folder = free.ok_or(ErrorKind::AlreadyExists)?;
        fs::create_dir(&folder)?;
        give_to_owner(data_dir, &folder)?;
        for name in present {
            fs::rename(data_dir.join(name), folder.join(name))?;
        }
        sync(&folder)?;
        sync(data_dir)?;
        aside = Some(folder);
    }
    for name in [TLS_FOLDER, ledger::FILE, DATA_FILE] {
        match fs::rename(stage.join(name), data_dir.join(name)) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    sync(data_dir)?;
    fs::remove_dir_all(stage)?;
    fs::remove_file(&marker)?;
    sync(data_dir)?;
    Ok(aside)
}

fn unusable(folder: &Path, error: io::Error) -> StartError {
    failed(format_args!("{}: {error}", folder.display()))
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
