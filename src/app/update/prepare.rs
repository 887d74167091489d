//! An update up to the switch, all of it while the old version serves.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::handover::{Handover, Role, binary_of};
use super::state::{Places, Stage, State, Switch};
use super::switch::refresh;
use super::{bundle, sync};
use crate::config::Config;
use crate::domain::Services;
use crate::domain::status::Disk;
use crate::domain::updates::{Asked, UnderWay, Updates};
use crate::error::Error;
use crate::ids::fill_random;
use crate::model::update::{UpdateOutcome, UpdateResult, UpdateStep};
use crate::store::backup::{self, BackupError};

/// How often is looked whether a process has ended.
const LOOK: Duration = Duration::from_millis(10);
/// How long a binary may take to say which version it is.
const VERSION: Duration = Duration::from_secs(10);
/// How much of the end of what a new version says is looked at, in bytes.
const LAST_WORDS: u64 = 2048;

/// What an update is made with.
#[derive(Clone)]
pub struct Updater {
    pub config: Config,
    pub config_file: Option<PathBuf>,
    pub handover: Handover,
}

impl Updater {
    pub fn known(&self) -> Updates {
        Updates::new(self.handover.running().into(), self.config.update.key().is_some(), None)
    }

    /// Makes the updates that are asked for, until one is ready to take over.
    pub async fn run(self, services: Arc<Services>) {
        while let Some(asked) = services.updates.asked().await {
            if self.update(&services, asked).await {
                services.updates.switch();
                return std::future::pending().await;
            }
        }
    }

    /// Whether the new version may take over.
    async fn update(&self, services: &Arc<Services>, asked: Asked) -> bool {
        let Asked { stamp, bundle, answer } = asked;
        let checked = {
            let updater = self.clone();
            blocking(move || updater.check(&bundle)).await
        };
        let manifest = match checked {
            Ok(manifest) => manifest,
            Err(why) => {
                tracing::warn!(why, "refused an update");
                let noted = services.note_update_refused(stamp, why.clone()).await;
                let _ = answer.send(Err(noted.err().unwrap_or(Error::Conflict(why))));
                return false;
            }
        };
        let to = manifest.version.clone();
        let mut under_way = UnderWay { id: new_id(), to: to.clone(), step: UpdateStep::BackingUp };
        let noted = services.note_update_started(stamp.clone(), to.clone()).await;
        if let Err(error) = noted {
            let _ = answer.send(Err(error));
            return false;
        }
        services.updates.set_under_way(under_way.clone());
        let _ = answer.send(Ok(under_way.clone()));
        let prepared = async {
            // A backup is named by its second.
            if services.last_backup().ok().flatten() == Some(services.now()) {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            services.back_up(stamp).await.map_err(|error| format!("there is no backup to go back to: {error}"))?;
            under_way.step = UpdateStep::Rehearsing;
            services.updates.set_under_way(under_way.clone());
            let (updater, rehearsing, version) = (self.clone(), services.clone(), to.clone());
            blocking(move || updater.rehearse(&rehearsing, &version)).await?;
            let (updater, id) = (self.clone(), under_way.id.clone());
            blocking(move || updater.stage(id, to)).await
        };
        match prepared.await {
            Ok(()) => {
                under_way.step = UpdateStep::Switching;
                services.updates.set_under_way(under_way);
                true
            }
            Err(reason) => {
                self.undo(services, under_way, reason).await;
                false
            }
        }
    }

    fn places(&self) -> Places {
        Places::new(&self.config.server.data_dir)
    }

    /// Takes the bundle apart. Nothing of it has been run then.
    fn check(&self, file: &Path) -> Result<bundle::Manifest, String> {
        let places = self.places();
        if places.read().map_err(|error| error.to_string())?.switch.is_some() {
            // Another copy of the data would be taken for that of the switch before.
            return Err(
                "how the update before has ended could not be written: make room, then start the appliance again"
                    .into(),
            );
        }
        let unpacked =
            places.make().map_err(|error| format!("{}: {error}", places.versions().display())).and_then(|()| {
                self.check_room(&places, fs::metadata(file).map_or(0, |metadata| metadata.len()))?;
                let (versions, key) = (places.versions(), self.config.update.key());
                bundle::unpack(file, &versions, key, self.handover.running()).map_err(|refusal| refusal.to_string())
            });
        let _ = fs::remove_file(file);
        let manifest = unpacked?;
        let runs = binary_of(&places, &manifest.version, &self.config).and_then(|binary| version_of(&binary)).and_then(
            |says| match says == manifest.version {
                true => Ok(()),
                false => Err(format!("its binary says that it is version {says}")),
            },
        );
        runs.map(|()| manifest.clone()).map_err(|why| {
            let _ = bundle::remove(&places.version(&manifest.version));
            format!("version {} cannot run here: {why}", manifest.version)
        })
    }

    /// Backup and proof, rehearsal and last copy each take the room of the data.
    fn check_room(&self, places: &Places, binary: u64) -> Result<(), String> {
        let data = fs::metadata(places.data_file()).map_or(0, |metadata| metadata.len());
        let disk = Disk::of(places.data_dir(), self.config.store.min_free);
        let wanted = disk.min_free_bytes.saturating_add(binary).saturating_add(data.saturating_mul(3));
        if disk.free_bytes >= wanted {
            return Ok(());
        }
        let mebibytes = |bytes: u64| bytes.div_ceil(1 << 20);
        Err(format!(
            "{} has {} MiB free and an update needs {} MiB: make room, then try again",
            places.data_dir().display(),
            mebibytes(disk.free_bytes),
            mebibytes(wanted)
        ))
    }

    /// Starts the new version on a copy of the data, up to where it would serve.
    fn rehearse(&self, services: &Services, version: &str) -> Result<(), String> {
        let places = self.places();
        let folder = places.rehearsal();
        bundle::remove(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let made = self.copy_data(services, &folder).map_err(|error| format!("the data cannot be copied: {error}"));
        let rehearsed = made.and_then(|()| self.start(services, &places, &folder, version));
        let _ = bundle::remove(&folder);
        rehearsed
    }

    /// One consistent state of the data, in a folder of its own.
    fn copy_data(&self, services: &Services, folder: &Path) -> Result<(), BackupError> {
        let (mut from, to) = io::pipe().map_err(|error| Error::Internal(error.to_string()))?;
        let guard = services.backup_guard();
        let files = backup::files_of(services.data_dir())?;
        let snapshot = services.store.snapshot()?;
        let now = services.now();
        std::thread::scope(|scope| {
            let writing = scope.spawn(move || backup::write(&snapshot, &files, now, &mut io::BufWriter::new(to)));
            let loaded = backup::load(&mut from, folder, &guard);
            drop(from);
            let written = writing.join().map_err(|_| Error::Internal("the copy broke down".into()))?;
            // What could not be loaded cannot be written to its end either.
            loaded.and_then(|_| written.map(|_| ()))
        })
    }

    fn start(&self, services: &Services, places: &Places, folder: &Path, version: &str) -> Result<(), String> {
        let io = |error: io::Error| format!("the new version cannot be run: {error}");
        let binary = binary_of(places, version, &self.config)?;
        let log = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(places.rehearsal_log());
        let mut log = log.map_err(io)?;
        let mut command = Command::new(binary);
        command.arg("serve").arg("--data-dir").arg(folder).args(["--listen", "127.0.0.1:0"]);
        if let Some(file) = &self.config_file {
            command.arg("--config").arg(file);
        }
        let installed = self.handover.installed.clone();
        let handover =
            Handover { version: Some(version.into()), installed, role: Role::Rehearses, ..Handover::default() };
        handover.give(&mut command).map_err(io)?;
        for service_managers in ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID"] {
            command.env_remove(service_managers);
        }
        command.env("ZERO_LOG_FORMAT", "text").stderr(log.try_clone().map_err(io)?).stdout(Stdio::null());
        let within = self.config.update.ready_within;
        let ended = run(&mut command, within, || services.is_draining()).map_err(io)?;
        match ended {
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(format!(
                "the new version does not start on a copy of the data ({status}): {}",
                last_words(&mut log)
            )),
            None if services.is_draining() => Err("the appliance was stopped meanwhile: update again".into()),
            None => Err(format!(
                "the new version was not ready on a copy of the data within {} s (update.ready_seconds): {}",
                within.as_secs(),
                last_words(&mut log)
            )),
        }
    }

    /// Notes that the new version takes over. Most of the data is copied before, so that little is left to do while
    /// nobody serves.
    fn stage(&self, id: String, to: String) -> Result<(), String> {
        let places = self.places();
        let staged = || -> io::Result<()> {
            match refresh(&places.data_file(), &places.copy()) {
                // It was shortened meanwhile; the last copy is made later.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
                copied => copied?,
            }
            let from = self.handover.running().to_owned();
            let state = places.read()?;
            places.write(&State { switch: Some(Switch { id, from, to, stage: Stage::Staged, reason: None }), ..state })
        };
        staged().map_err(|error| format!("{}: {error}", places.folder().display()))
    }

    /// Leaves everything as it was, and says why.
    async fn undo(&self, services: &Services, under_way: UnderWay, reason: String) {
        tracing::error!(reason, version = under_way.to, "the update was undone: nothing was changed");
        let (id, to, from) = (under_way.id, under_way.to, self.handover.running().to_owned());
        let (result, reason, at) = (UpdateResult::Undone, Some(reason), services.now());
        let outcome = UpdateOutcome { id, from, to, result, reason, at };
        let noted = services.note_update_ended(outcome.clone()).await;
        let places = self.places();
        let _ = fs::remove_file(places.copy());
        let _ = bundle::remove(&places.version(&outcome.to));
        let unnoted = noted.is_err();
        let written = places
            .read()
            .and_then(|state| places.write(&State { switch: None, last: Some(outcome.clone()), unnoted, ..state }));
        if let Err(error) = written {
            tracing::warn!(%error, "the end of the update cannot be noted");
        }
        services.updates.set_ended(outcome);
    }
}

/// Runs a command until it ends; `None` when it is ended after `within`, or by `stop`.
fn run(command: &mut Command, within: Duration, stop: impl Fn() -> bool) -> io::Result<Option<ExitStatus>> {
    // It and all that it starts end with this process, and with this function.
    command.stdin(Stdio::null()).process_group(0);
    // SAFETY: prctl may be called between fork and exec.
    unsafe {
        command.pre_exec(|| {
            rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
            Ok(())
        });
    }
    let mut child = command.spawn()?;
    let deadline = Instant::now() + within;
    let ended = loop {
        match child.try_wait() {
            Ok(None) if Instant::now() >= deadline || stop() => break Ok(None),
            Ok(None) => std::thread::sleep(LOOK),
            ended => break ended,
        }
    };
    if !matches!(ended, Ok(Some(_))) {
        end(&mut child)?;
    }
    ended
}

fn end(child: &mut Child) -> io::Result<()> {
    let group = rustix::process::Pid::from_child(child);
    let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    child.kill()?;
    child.wait().map(|_| ())
}

/// Which version a binary says that it is.
fn version_of(binary: &Path) -> Result<String, String> {
    let io = |error: io::Error| format!("{}: {error}", binary.display());
    let (mut said, to) = io::pipe().map_err(io)?;
    let mut command = Command::new(binary);
    command.arg("version").env_clear().stdout(to).stderr(Stdio::null());
    let ended = run(&mut command, VERSION, || false).map_err(io)?;
    drop(command);
    let mut text = String::new();
    match ended {
        Some(status) if status.success() => said.read_to_string(&mut text).map_err(io)?,
        Some(status) => return Err(format!("it does not say its version ({status})")),
        None => return Err("it does not say its version".into()),
    };
    let version = text.lines().next().and_then(|line| line.strip_prefix("zero "));
    version.map(Into::into).ok_or_else(|| "it does not say its version".into())
}

fn last_words(log: &mut File) -> String {
    let mut text = Vec::new();
    let length = log.metadata().map_or(0, |metadata| metadata.len());
    let read = log.seek(SeekFrom::Start(length.saturating_sub(LAST_WORDS)));
    let _ = read.and_then(|_| log.take(LAST_WORDS).read_to_end(&mut text));
    let text = String::from_utf8_lossy(&text);
    text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it said nothing").trim().to_owned()
}

fn new_id() -> String {
    let mut random = [0; 8];
    fill_random(&mut random);
    format!("{:016x}", u64::from_be_bytes(random))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, String> + Send + 'static) -> Result<T, String> {
    tokio::task::spawn_blocking(work).await.map_err(|error| error.to_string())?
}

/// Makes the folder that bundles are received in.
pub fn inbox(data_dir: &Path) -> io::Result<PathBuf> {
    let folder = data_dir.join(super::state::FOLDER);
    DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
    sync(data_dir)?;
    Ok(folder)
}
