//! Everything the appliance keeps: typed tables over one engine, one writer, and what of it is held in memory.

mod addresses;
pub mod api_keys;
pub mod assignments;
pub mod audit;
pub mod backup;
pub mod commands;
pub mod devices;
pub mod engine;
pub mod enrollment_tokens;
pub mod erasures;
pub mod groups;
pub mod heartbeats;
pub mod idempotency;
pub mod index;
pub mod ledger;
pub mod links;
pub mod memory;
mod migrate;
pub mod organizations;
pub mod outbox;
pub mod outgoing_mail;
pub mod persons;
pub mod policies;
pub mod recent;
pub mod resolution;
pub mod roles;
pub mod salvage;
pub mod seal;
pub mod sessions;
pub mod settings;
pub mod tables;
#[cfg(test)]
mod tests;
pub mod users;
pub mod webhooks;
pub mod write;

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, oneshot, watch};

pub use migrate::SCHEMA_VERSION;

use addresses::Addresses;
use engine::{Direction, Engine, OpenError, Options, Snapshot};
use heartbeats::Heartbeats;
use memory::{Effect, Memory, StoredFacts};
use recent::Known;
use resolution::Resolver;
use tables::{
    API_KEY_USES, API_KEYS, AUDIT_HEADS, DEVICES, GROUPS, HEARTBEATS, KeyRange, MEMBERS, META, ORGANIZATIONS, POLICIES,
    ROLES, SESSIONS, SIGNING_KEYS, USERS, WEBHOOK_STATES, WEBHOOKS,
};
use write::{Audited, Change, Job, QUEUE, Stamp, Tx, Writer};

use crate::clock::Time;
use crate::config::StoreConfig;
use crate::error::Error;
use crate::ids::{ApiKeyId, DeviceId, Ids, OrganizationId};
use crate::model::histogram::Reading;
use crate::turns;

/// Name in [`META`] of the latest time this appliance has lived through.
const CLOCK_FLOOR: &str = "clock_floor";
/// Name in [`META`] of when it was last looked whether the data file can be made shorter.
const SPACE_LOOKED_AT: &str = "space_looked_at";
/// How long a start after that does not look again: a look reads every page.
const LOOK_AGAIN: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// Unused bytes from which on compaction is worth the time and the writing, when they are half of the file besides.
const WORTHWHILE: u64 = 64 << 20;

pub struct Store {
    engine: Arc<Engine>,
    memory: Arc<Memory>,
    heartbeats: Heartbeats,
    jobs: mpsc::Sender<Box<dyn Job>>,
    failed: watch::Receiver<bool>,
    writer: std::thread::JoinHandle<()>,
    commits: Arc<write::Commits>,
}

impl Store {
    /// Opens the data file, or makes it, and reads into memory what is kept there.
    ///
    /// # Errors
    /// What is wrong with the file and what to do; the file is then as it was.
    pub fn open(path: &Path, config: &StoreConfig, ids: Arc<Ids>, now: Time) -> Result<Self, StoreError> {
        let engine = Engine::open(path, options(config), migrate::accept)?;
        let space = space_watch(path, config.min_free);
        Self::start(engine, ids, now, space)
    }

    fn start(
        mut engine: Engine,
        ids: Arc<Ids>,
        now: Time,
        space: Box<dyn FnMut() -> bool + Send>,
    ) -> Result<Self, StoreError> {
        migrate::prepare(&engine)?;
        give_back(&mut engine, now, WORTHWHILE)?;
        let memory = Arc::new(Memory::default());
        load(&engine.snapshot().map_err(Error::from)?, &memory, &ids, now)?;
        let engine = Arc::new(engine);
        let (jobs, queue) = mpsc::channel(QUEUE);
        let (failing, failed) = watch::channel(false);
        let addresses = Addresses::default();
        let person_keys = persons::Keys::default();
        let (shared, known) = (engine.clone(), memory.clone());
        let commits = Arc::new(write::Commits::default());
        let counted = commits.clone();
        let writer =
            Writer { engine: shared, memory: known, ids, addresses, person_keys, jobs: queue, space, commits: counted };
        let keep = engine.clone();
        let writer = std::thread::Builder::new().name("zero-writer".into()).spawn(move || {
            turns::aside();
            if writer.run().is_err() {
                // Closing a database whose disk fails would write to it once more.
                std::mem::forget(keep);
                failing.send_replace(true);
            }
        });
        let writer = writer.map_err(|cause| Error::Internal(format!("no thread for the writer: {cause}")))?;
        Ok(Self { engine, memory, heartbeats: Heartbeats::default(), jobs, failed, writer, commits })
    }

    /// What is committed now. Keep it short: while it lives, no page it sees is used again.
    pub fn snapshot(&self) -> Result<Snapshot, Error> {
        Ok(self.engine.snapshot()?)
    }

    /// For what reads on after the request that asked for it.
    pub fn reader(&self) -> Reader {
        Reader(self.engine.clone())
    }

    pub fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }

    /// The devices with these ids as they are committed, `None` for one that is not there. Those read of late are
    /// still in memory.
    pub fn devices(&self, organization: OrganizationId, ids: &[DeviceId]) -> Result<Vec<Option<Arc<Known>>>, Error> {
        let recent = self.memory.recent();
        let (mut found, began) = recent.get(organization, ids);
        if found.iter().all(Option::is_some) {
            return Ok(found);
        }
        let snapshot = self.snapshot()?;
        for (id, place) in ids.iter().zip(&mut found).filter(|(_, known)| known.is_none()) {
            *place = devices::get(&snapshot, organization, *id)?.map(Known::new);
            if let Some(device) = place {
                recent.keep(began, device);
            }
        }
        Ok(found)
    }

    /// Runs `change` in the next commit and returns its value once that is on disk.
    ///
    /// `change` may run several times; only its last run counts. One operation makes one write, which is also what an
    /// `Idempotency-Key` remembers.
    ///
    /// # Errors
    /// What `change` refused with; unavailable when the disk failed.
    pub async fn write<T, F>(&self, stamp: Stamp, change: F) -> Result<T, Error>
    where
        T: Serialize + DeserializeOwned + Send + 'static,
        F: Fn(&mut Tx) -> Result<Audited<T>, Error> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let job = Box::new(Change { stamp, change, value: None, answer });
        self.jobs.send(job).await.map_err(|_| write::unwritable())?;
        answered.await.map_err(|_| write::unwritable())?
    }

    /// Notes that the device was heard of; written later, together with others.
    pub fn seen(&self, organization: OrganizationId, device: DeviceId, now: Time) {
        if memory::write(&self.memory.fleet(organization)).touch(device, now) {
            self.heartbeats.note(organization, device, now);
        }
    }

    /// Writes the heartbeats and uses of keys noted since the last time, and how late it is.
    pub async fn flush_heartbeats(&self, stamp: Stamp) -> Result<(), Error> {
        let noted = self.heartbeats.take();
        let uses = self.memory.directory().take_api_key_uses();
        self.write(stamp, move |tx| heartbeats::store(tx, &noted, &uses)).await
    }

    /// Becomes true when the disk has failed: nothing can be written any more.
    pub fn failed(&self) -> watch::Receiver<bool> {
        self.failed.clone()
    }

    /// The latest time known to have passed.
    pub fn clock_floor(&self) -> Result<Time, Error> {
        clock_floor(&self.snapshot()?)
    }

    /// How many changes there were in a commit, and how many microseconds commits took, since the start.
    pub fn commits(&self) -> (Reading, Reading) {
        (self.commits.batches.read(), self.commits.micros.read())
    }

    /// Changes that wait for the writer.
    pub fn waiting_writes(&self) -> u64 {
        self.jobs.max_capacity().saturating_sub(self.jobs.capacity()) as u64
    }

    pub fn traffic(&self) -> engine::Traffic {
        self.engine.traffic()
    }

    /// Waits for the last commit and closes the file.
    pub fn close(self) {
        drop(self.jobs);
        if self.writer.join().is_err() {
            tracing::error!("the writer panicked");
        }
        if *self.failed.borrow() {
            std::mem::forget(self.engine);
            return;
        }
        if let Ok(engine) = Arc::try_unwrap(self.engine)
            && let Err(error) = engine.close()
        {
            tracing::error!(%error, "the database could not be closed in order");
        }
    }
}

/// Makes the data file shorter when that is worth it. What was deleted leaves pages that are used again, but a file that
/// has once been long stays so by itself.
fn give_back(engine: &mut Engine, now: Time, worthwhile: u64) -> Result<(), Error> {
    let looked = META.get(&engine.snapshot()?, &SPACE_LOOKED_AT.into())?;
    let looked = looked.map(|looked| Time::from_unix(looked.cast_signed())).filter(|looked| *looked <= now);
    if looked.is_some_and(|looked| now.since(looked) < LOOK_AGAIN) {
        return Ok(());
    }
    let (used, before) = (engine.used_bytes()?, engine.traffic().file_bytes);
    if before.saturating_sub(used) >= worthwhile && used < before / 2 {
        tracing::info!(bytes = before, used, "much of the data file is unused: it is made shorter");
        engine.compact()?;
        tracing::info!(bytes = engine.traffic().file_bytes, "the data file was made shorter");
    }
    let mut transaction = engine.begin()?;
    META.put(&mut transaction, &SPACE_LOOKED_AT.into(), &now.unix().unsigned_abs())?;
    Ok(transaction.commit()?)
}

/// The latest time that the data knows to have passed.
pub fn clock_floor(snapshot: &Snapshot) -> Result<Time, Error> {
    let mut floor = META.get(snapshot, &CLOCK_FLOOR.into())?.map_or(0, u64::cast_signed);
    AUDIT_HEADS.scan(snapshot, KeyRange::all(), Direction::Ascending, |_, head| {
        floor = floor.max(head.timestamp.unix());
        ControlFlow::Continue(())
    })?;
    Ok(Time::from_unix(floor))
}

fn options(config: &StoreConfig) -> Options {
    Options {
        cache_bytes: usize::try_from(config.cache).unwrap_or(usize::MAX),
        verify_up_to_bytes: config.verify_at_start,
    }
}

/// Reads from a data file that nobody has open, and writes nothing.
pub fn look<T>(
    path: &Path,
    config: &StoreConfig,
    read: impl FnOnce(&Snapshot) -> Result<T, Error>,
) -> Result<T, StoreError> {
    let mut outcome = None;
    engine::look(path, options(config), |snapshot| {
        migrate::accept(snapshot)?;
        outcome = Some(read(snapshot));
        Ok(())
    })?;
    Ok(outcome.ok_or_else(|| Error::Internal("the file was not looked at".into()))??)
}

/// Whether the data is of this version's schema.
pub fn is_current(snapshot: &Snapshot) -> Result<bool, Error> {
    Ok(migrate::version(snapshot)? == Some(migrate::SCHEMA_VERSION))
}

/// Reads what is committed, one short snapshot after the other.
#[derive(Clone)]
pub struct Reader(Arc<Engine>);

impl Reader {
    pub fn snapshot(&self) -> Result<Snapshot, Error> {
        Ok(self.0.snapshot()?)
    }
}

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Read(#[from] Error),
}

fn load(snapshot: &Snapshot, memory: &Memory, ids: &Ids, now: Time) -> Result<(), Error> {
    let mut effects = Vec::new();
    let each = Direction::Ascending;
    ORGANIZATIONS.scan(snapshot, KeyRange::all(), each, |_, organization| {
        effects.push(Effect::Organization(organization));
        ControlFlow::Continue(())
    })?;
    USERS.scan(snapshot, KeyRange::all(), each, |_, user| {
        effects.push(Effect::User(user));
        ControlFlow::Continue(())
    })?;
    ROLES.scan(snapshot, KeyRange::all(), each, |_, role| {
        effects.push(Effect::Role(role));
        ControlFlow::Continue(())
    })?;
    GROUPS.scan(snapshot, KeyRange::all(), each, |_, group| {
        effects.push(Effect::Group(group));
        ControlFlow::Continue(())
    })?;
    MEMBERS.scan(snapshot, KeyRange::all(), each, |(_, group, user), ()| {
        effects.push(Effect::Joined(group, user));
        ControlFlow::Continue(())
    })?;
    POLICIES.scan(snapshot, KeyRange::all(), each, |_, policy| {
        effects.push(Effect::Policy(Box::new(policy)));
        ControlFlow::Continue(())
    })?;
    SESSIONS.scan(snapshot, KeyRange::all(), each, |_, session| {
        effects.push(Effect::Session(session));
        ControlFlow::Continue(())
    })?;
    let mut uses: HashMap<ApiKeyId, Time> = HashMap::new();
    API_KEY_USES.scan(snapshot, KeyRange::all(), each, |(_, key), time| {
        uses.insert(key, Time::from_unix(time));
        ControlFlow::Continue(())
    })?;
    API_KEYS.scan(snapshot, KeyRange::all(), each, |(_, id), key| {
        effects.push(Effect::ApiKey(key, uses.get(&id).copied()));
        ControlFlow::Continue(())
    })?;
    WEBHOOKS.scan(snapshot, KeyRange::all(), each, |_, webhook| {
        effects.push(Effect::Webhook(webhook));
        ControlFlow::Continue(())
    })?;
    WEBHOOK_STATES.scan(snapshot, KeyRange::all(), each, |(organization, webhook), state| {
        effects.extend((state.pending > 0).then_some(Effect::ToSend(organization, webhook)));
        ControlFlow::Continue(())
    })?;
    let mut keys = Vec::new();
    SIGNING_KEYS.scan(snapshot, KeyRange::all(), each, |_, key| {
        keys.push(key);
        ControlFlow::Continue(())
    })?;
    keys.sort_by_key(|key| std::cmp::Reverse(key.created_at));
    effects.push(Effect::SigningKeys(keys));
    effects.push(Effect::Settings(settings::get(snapshot)?));
    memory.apply(effects, now);
    load_fleets(snapshot, memory, ids, now)
}

fn load_fleets(snapshot: &Snapshot, memory: &Memory, ids: &Ids, now: Time) -> Result<(), Error> {
    let mut seen = Vec::new();
    HEARTBEATS.scan(snapshot, KeyRange::all(), Direction::Ascending, |key, time| {
        seen.push((key, Time::from_unix(time)));
        ControlFlow::Continue(())
    })?;
    // Both tables are in the order of the same keys.
    let mut seen = seen.into_iter().peekable();
    let directory = memory.directory();
    let mut resolver: Option<Resolver> = None;
    let mut builders: HashMap<OrganizationId, index::Builder> = HashMap::new();
    DEVICES.scan_stored(snapshot, KeyRange::all(), Direction::Ascending, |key, device| {
        let (organization, id) = key;
        ids.start_after(id.as_bytes());
        while seen.next_if(|(other, _)| *other < key).is_some() {}
        let last_seen = seen.next_if(|(other, _)| *other == key).map(|(_, time)| time);
        let device: StoredFacts = DEVICES.decode(device)?;
        let resolver = match &mut resolver {
            Some(resolver) if resolver.organization() == organization => resolver,
            other => other.insert(Resolver::new(&directory, organization)),
        };
        builders.entry(organization).or_default().add(&device.facts(resolver, id, last_seen, now));
        Ok(ControlFlow::Continue(()))
    })?;
    for (organization, builder) in builders {
        memory.adopt_fleet(organization, builder.build());
    }
    Ok(())
}

/// Tells whether less than `min_free` bytes are left where the data lies; looks at most once a second.
fn space_watch(path: &Path, min_free: u64) -> Box<dyn FnMut() -> bool + Send> {
    let directory = path.parent().unwrap_or(path).to_owned();
    let mut looked: Option<(Instant, bool)> = None;
    Box::new(move || match looked {
        Some((when, is_low)) if when.elapsed() < Duration::from_secs(1) => is_low,
        before => {
            let free = rustix::fs::statvfs(&directory).map(|stat| stat.f_bavail * stat.f_frsize);
            let is_low = free.is_ok_and(|free| free < min_free);
            if is_low && !before.is_some_and(|(_, was_low)| was_low) {
                tracing::error!(path = %directory.display(), ?free, min_free, "the disk is nearly full");
            }
            looked = Some((Instant::now(), is_low));
            is_low
        }
    })
}
