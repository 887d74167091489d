//! Backups on a schedule and on request: one at a time, proven before they count, the old ones let go.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, mpsc, oneshot};

use super::Services;
use super::authz::Permission;
use super::op::{Op, without_idempotency};
use crate::clock::Time;
use crate::config::Config;
use crate::error::Error;
use crate::model::backup::{Contents, ProvenBackup};
use crate::store::audit::AuditEvent;
use crate::store::backup::{self, BackupError, Guard, Protection, Saved};
use crate::store::ledger;
use crate::store::write::{Audited, Stamp};

/// Requests that may wait.
const WAITING: usize = 4;
/// How long whoever asked waits for the answer; the backup itself goes on.
const PATIENCE: Duration = Duration::from_secs(45);
/// How long after a failure a scheduled backup is tried again.
const AGAIN: Duration = Duration::from_secs(60 * 60);

const PREFIX: &str = "zero-";
const PLAIN: &str = ".backup";
const ENCRYPTED: &str = ".backup.age";

/// A backup in the folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    pub name: String,
    pub created_at: Time,
    pub bytes: u64,
    pub encrypted: bool,
}

/// What a request for a backup has come to.
#[derive(Clone, Debug)]
pub struct Made {
    pub backup: ProvenBackup,
    /// Whether the second folder has it too, or why not; `None` where there is none.
    pub second_copy: Option<Result<(), String>>,
}

/// A request for a backup, on its way to the task that makes them.
pub struct Asked {
    pub stamp: Stamp,
    pub answer: oneshot::Sender<Result<Made, Error>>,
}

pub struct Backups {
    asked: mpsc::Sender<Asked>,
    waiting: Mutex<mpsc::Receiver<Asked>>,
    turn: Mutex<()>,
    stop: Arc<AtomicBool>,
    failed_at: std::sync::Mutex<Option<Time>>,
}

impl Default for Backups {
    fn default() -> Self {
        let (asked, waiting) = mpsc::channel(WAITING);
        let (waiting, turn) = (Mutex::new(waiting), Mutex::default());
        Self { asked, waiting, turn, stop: Arc::default(), failed_at: std::sync::Mutex::default() }
    }
}

impl Backups {
    /// Ends the one under way.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Where backups are kept.
pub fn folder(config: &Config) -> PathBuf {
    config.backup.folder.clone().unwrap_or_else(|| config.server.data_dir.join("backups"))
}

/// Every folder with a ledger of erasures.
pub fn ledger_folders(config: &Config) -> Vec<PathBuf> {
    let mut folders = vec![config.server.data_dir.clone(), folder(config)];
    folders.extend(config.backup.second_folder.clone());
    folders
}

impl Services {
    /// Makes a backup now and proves it.
    ///
    /// # Errors
    /// Why there is none; that it is still under way, after a while.
    pub async fn request_backup(&self, op: &Op) -> Result<Made, Error> {
        op.require(Permission::SystemAdmin)?;
        let (answer, answered) = oneshot::channel();
        let asked = Asked { stamp: without_idempotency(op.stamp()), answer };
        let full = |_| Error::Conflict("enough backups are under way already".into());
        self.backups.asked.try_send(asked).map_err(full)?;
        match tokio::time::timeout(PATIENCE, answered).await {
            Ok(Ok(made)) => made,
            Ok(Err(_)) => Err(Error::Unavailable {
                message: "the appliance stops: there is no backup".into(),
                retry_after: Duration::from_secs(30),
            }),
            Err(_) => Err(Error::Unavailable {
                message: "the backup is still under way: GET /api/v1/system/backups shows it when it is proven".into(),
                retry_after: Duration::from_secs(60),
            }),
        }
    }

    /// Proven backups in the folder, newest first.
    pub async fn list_backups(&self, op: &Op) -> Result<Vec<Kept>, Error> {
        op.require(Permission::SystemAdmin)?;
        let folder = folder(&self.config);
        blocking(move || kept(&folder).map_err(|error| Error::internal(format_args!("the backups: {error}")))).await
    }

    /// When the newest proven backup was made.
    pub fn last_backup(&self) -> Result<Option<Time>, Error> {
        backup::last(&self.store.snapshot()?)
    }

    /// The next request for a backup.
    pub async fn backup_asked(&self) -> Option<Asked> {
        self.backups.waiting.lock().await.recv().await
    }

    /// Makes the scheduled backup when it is due.
    pub async fn scheduled_backup(&self) -> Result<(), Error> {
        let (every, now) = (self.config.backup.every, self.now());
        let failed_at = *self.backups.failed_at.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let is_too_soon = failed_at.is_some_and(|failed| now.since(failed) < AGAIN && now >= failed);
        // One from the future comes of a clock that was wrong then or is wrong now: it counts for nothing.
        let last = self.last_backup()?.filter(|last| *last <= now);
        let is_due = !every.is_zero() && last.is_none_or(|last| now.since(last) >= every);
        if is_due && !is_too_soon {
            self.back_up(Stamp::system(now)).await?;
        }
        Ok(())
    }

    /// Makes a backup in the configured folder, proves and copies it, lets old ones go, and says so in the audit log.
    pub async fn back_up(&self, stamp: Stamp) -> Result<Made, Error> {
        let _turn = self.backups.turn.lock().await;
        let (folder, mut now) = (folder(&self.config), self.now());
        self.write_heartbeats().await?;
        let recipient = self.config.backup.recipient.clone();
        if folder.join(name(now, recipient.is_some())).exists() {
            // Its name has the second in which it was made, and another was made in this one.
            tokio::time::sleep(Duration::from_secs(1)).await;
            now = self.now();
        }
        let protection = recipient.map_or(Protection::None, Protection::Recipient);
        let guard = self.backup_guard();
        let (reader, data_dir) = (self.store.reader(), self.config.server.data_dir.clone());
        let (here, name) = (folder.clone(), name(now, !protection.is_none()));
        let path = folder.join(&name);
        let saved = blocking(move || {
            Ok(make_folder(&here).map_err(|source| unmade(&here, source)).and_then(|()| {
                clear_unfinished(&here);
                save(&path, &protection, &guard, &data_dir, now, || reader.snapshot())
            }))
        });
        let encrypted = self.config.backup.recipient.is_some();
        let saved = match saved.await? {
            Ok(saved) => saved,
            Err(error) => {
                *self.backups.failed_at.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(now);
                self.note_failed_backup(stamp, error.to_string()).await?;
                tracing::error!(%error, "there is no backup");
                return Err(refusal(error));
            }
        };
        let Saved { bytes, contents } = saved;
        let backup = ProvenBackup { name: name.clone(), created_at: now, bytes, encrypted, contents };
        self.note_proven_backup(stamp.clone(), &backup).await?;
        let second_copy = match self.config.backup.second_folder.clone() {
            Some(second) => Some(self.copy_backup(&folder, second, &name).await),
            None => None,
        };
        if let Some(Err(why)) = &second_copy {
            tracing::error!(why, "the backup was not copied to the second folder");
            self.note_failed_backup(stamp, format!("not copied to the second folder: {why}")).await?;
        }
        self.let_backups_go(second_copy.as_ref().is_some_and(Result::is_ok)).await;
        self.reconcile_ledger()?;
        tracing::info!(name, bytes, records = backup.contents.records(), "made and proved a backup");
        Ok(Made { backup, second_copy })
    }

    pub(crate) fn backup_guard(&self) -> Guard {
        Guard { stop: self.backups.stop.clone(), ..Guard::new(self.config.store.min_free) }
    }

    async fn copy_backup(&self, folder: &Path, second: PathBuf, name: &str) -> Result<(), String> {
        let (from, to, guard) = (folder.join(name), second.join(name), self.backup_guard());
        let copied = blocking(move || {
            if !second.is_dir() {
                // It may be a mount that is not there: a folder made in its place would be on the same disk.
                return Ok(Err(format!("{} is not there", second.display())));
            }
            clear_unfinished(&second);
            Ok(backup::copy(&from, &to, &guard).map_err(|error| error.to_string()))
        });
        copied.await.map_err(|error| error.to_string())?
    }

    /// Says in the audit log that there is a backup, and remembers when it was made.
    pub async fn note_proven_backup(&self, stamp: Stamp, made: &ProvenBackup) -> Result<(), Error> {
        let made = made.clone();
        self.store.write(stamp, move |tx| proven(tx, &made)).await
    }

    pub async fn note_failed_backup(&self, stamp: Stamp, why: String) -> Result<(), Error> {
        let event = move || AuditEvent::failed("system.backup").detail("reason", why.clone());
        self.store.write(stamp, move |_| Ok(Audited::new((), event()))).await
    }

    /// Removes all but the newest backups, of which there is always one.
    async fn let_backups_go(&self, second_has_one: bool) {
        let mut folders = vec![folder(&self.config)];
        folders.extend(self.config.backup.second_folder.clone().filter(|_| second_has_one));
        let keep = self.config.backup.keep.max(1) as usize;
        let done = blocking(move || {
            for folder in folders {
                for old in kept(&folder).map_err(Error::internal)?.into_iter().skip(keep) {
                    fs::remove_file(folder.join(&old.name)).map_err(Error::internal)?;
                    tracing::info!(name = old.name, "let an old backup go");
                }
            }
            Ok(())
        });
        if let Err(error) = done.await {
            tracing::warn!(%error, "old backups could not be removed");
        }
    }

    /// Brings the files beside the data and the backups up to what the database knows of erasures.
    pub fn reconcile_ledger(&self) -> Result<(), Error> {
        self.ledger.add(&ledger::stored(&self.store.snapshot()?)?);
        Ok(())
    }
}

/// What the log and the database say of a proven backup.
pub fn proven(tx: &mut crate::store::write::Tx, made: &ProvenBackup) -> Result<Audited<()>, Error> {
    backup::note(tx, made.created_at)?;
    let event = AuditEvent::new("system.backup")
        .detail("name", made.name.clone())
        .detail("bytes", made.bytes)
        .detail("records", made.contents.records())
        .detail("encrypted", made.encrypted);
    Ok(Audited::new((), event))
}

/// Writes and proves a backup of what `snapshot` gives, which is held no longer than writing takes.
pub fn save(
    path: &Path,
    protection: &Protection,
    guard: &Guard,
    data_dir: &Path,
    now: Time,
    snapshot: impl FnOnce() -> Result<crate::store::engine::Snapshot, Error>,
) -> Result<Saved, BackupError> {
    let files = backup::files_of(data_dir)?;
    backup::save(path, protection, guard, |to| -> Result<Contents, BackupError> {
        backup::write(&snapshot()?, &files, now, to)
    })
}

fn refusal(error: BackupError) -> Error {
    match error {
        BackupError::GivenUp(_) | BackupError::Full { .. } => {
            Error::Unavailable { message: error.to_string(), retry_after: Duration::from_secs(60) }
        }
        BackupError::Exists(_) => Error::Conflict("a backup was made this very second".into()),
        error => Error::Conflict(format!("there is no backup: {error}")),
    }
}

fn unmade(folder: &Path, source: io::Error) -> BackupError {
    BackupError::Io { action: "make", path: folder.into(), source }
}

fn make_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// `zero-20261124T130501Z.backup`
fn name(now: Time, encrypted: bool) -> String {
    let time: String = now.to_string().chars().filter(|c| !matches!(c, '-' | ':')).collect();
    format!("{PREFIX}{time}{}", if encrypted { ENCRYPTED } else { PLAIN })
}

fn parse(name: &str) -> Option<(Time, bool)> {
    let rest = name.strip_prefix(PREFIX)?;
    let (time, encrypted) = match rest.strip_suffix(ENCRYPTED) {
        Some(time) => (time, true),
        None => (rest.strip_suffix(PLAIN)?, false),
    };
    let part = |from: usize, to: usize| time.get(from..to);
    let text = format!(
        "{}-{}-{}T{}:{}:{}Z",
        part(0, 4)?,
        part(4, 6)?,
        part(6, 8)?,
        part(9, 11)?,
        part(11, 13)?,
        part(13, 15)?
    );
    Time::parse(&text).filter(|found| self::name(*found, encrypted) == name).map(|found| (found, encrypted))
}

/// Backups in `folder` under the names that scheduled ones have, newest first.
pub fn kept(folder: &Path) -> io::Result<Vec<Kept>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut kept = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some((created_at, encrypted)) = parse(&name) else { continue };
        kept.push(Kept { name, created_at, bytes: entry.metadata()?.len(), encrypted });
    }
    kept.sort_by(|one, other| (other.created_at, &other.name).cmp(&(one.created_at, &one.name)));
    Ok(kept)
}

/// Removes what an earlier process left of backups that it did not finish.
fn clear_unfinished(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let gone = match name.strip_suffix(".partial").map(|name| (name, false)) {
            Some(found) => Some(found),
            None => name.strip_suffix(".proof").map(|name| (name, true)),
        };
        let gone = match gone {
            Some((name, is_folder)) if parse(name).is_some() => match is_folder {
                true => fs::remove_dir_all(&path),
                false => fs::remove_file(&path),
            },
            _ => continue,
        };
        if let Err(error) = gone {
            tracing::warn!(path = %path.display(), %error, "what is left of a backup cannot be removed");
        }
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(Error::internal)?
}
