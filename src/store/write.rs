//! The one way to change anything: closures on one writer thread, many of them in one commit.
//!
//! A closure may run more than once, so it only computes and writes through its [`Tx`]. It has no way to wait, and
//! nothing it does is seen by anyone before the commit is on disk: tables, audit entries, the remembered outcome of an
//! idempotent request and the effects on memory come into force together.

use std::net::{IpAddr, Ipv4Addr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, oneshot};

use super::addresses::Addresses;
use super::audit::AuditEvent;
use super::engine::{Engine, EngineError, Read, Source, Transaction};
use super::idempotency::Idempotency;
use super::index::Judgement;
use super::memory::{Effect, Memory};
use super::persons::Keys;
use super::tables::{Key, KeyRange, Table};
use super::{audit, idempotency};
use crate::clock::Time;
use crate::error::Error;
use crate::ids::{Ids, OrganizationId, RequestId, WebhookId};
use crate::model::audit::Actor;
use crate::model::device::Device;
use crate::model::histogram::Histogram;
use crate::model::webhook::EventName;

/// Closures in one commit at most. More would make the first of them wait for little gain.
const BATCH: usize = 256;
/// Closures that may wait for the writer; whoever comes then waits outside.
pub(super) const QUEUE: usize = 1024;

/// Who changes something, on whose request, from where and when: what an audit entry says of its circumstances.
#[derive(Clone, Debug)]
pub struct Stamp {
    pub actor: Actor,
    pub organization_id: Option<OrganizationId>,
    pub request_id: Option<RequestId>,
    pub source_ip: Option<IpAddr>,
    pub now: Time,
    pub idempotency: Option<Idempotency>,
}

impl Stamp {
    /// The appliance acts by itself.
    pub fn system(now: Time) -> Self {
        let actor = Actor::system();
        Self { actor, organization_id: None, request_id: None, source_ip: None, now, idempotency: None }
    }
}

/// The value of a change together with what the audit log says of it. There is no other way to commit.
#[derive(Debug)]
pub struct Audited<T> {
    pub(super) value: T,
    pub(super) events: Vec<AuditEvent>,
}

/// Why a commit needs no audit entry. Each is a change that nobody is answerable for.
#[derive(Clone, Copy, Debug)]
pub enum Unaudited {
    /// Nothing was changed after all.
    Unchanged,
    /// When devices were last seen.
    Heartbeats,
    /// A command was handed to its device; the command itself says when.
    Delivery,
    /// How a device is judged now, for a person who has objected to a history of it.
    Verdict,
    /// A session goes on, or the appliance tidies up what has lapsed.
    Housekeeping,
}

impl<T> Audited<T> {
    pub fn new(value: T, event: AuditEvent) -> Self {
        Self { value, events: vec![event] }
    }

    pub fn without_entry(value: T, _reason: Unaudited) -> Self {
        Self { value, events: Vec::new() }
    }

    pub fn and(mut self, event: AuditEvent) -> Self {
        self.events.push(event);
        self
    }

    /// Adds what the log says of `other` to what it says of this.
    pub fn with(mut self, other: Audited<()>) -> Self {
        self.events.extend(other.events);
        self
    }

    /// All of it is `actor`'s doing, whoever the request came from.
    pub fn by(mut self, actor: &Actor) -> Self {
        self.events = self.events.into_iter().map(|event| event.by(actor.clone())).collect();
        self
    }

    /// Whether the log says nothing of it so far.
    pub fn is_silent(&self) -> bool {
        self.events.is_empty()
    }

    pub fn value(&self) -> &T {
        &self.value
    }

    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Audited<U> {
        Audited { value: change(self.value), events: self.events }
    }
}

/// One closure's view of the transaction: reads see what this batch has written so far.
pub struct Tx<'a> {
    transaction: &'a mut Transaction,
    addresses: &'a mut Addresses,
    person_keys: &'a mut Keys,
    ids: &'a Ids,
    memory: &'a Memory,
    stamp: &'a Stamp,
    space_is_low: bool,
    wrote: bool,
    effects: Vec<Effect>,
}

impl Tx<'_> {
    pub fn now(&self) -> Time {
        self.stamp.now
    }

    /// How the device is judged, and why, by the policies of the last commit.
    pub fn verdict(&self, device: &Device) -> (Judgement, Vec<String>) {
        self.memory.verdict(device, self.now())
    }

    /// Judges the organization's devices anew where time alone may change a verdict.
    pub fn judge_by_time(&mut self, organization: OrganizationId) {
        self.effect(Effect::TimePassed(organization));
    }

    pub fn stamp(&self) -> &Stamp {
        self.stamp
    }

    /// The organization's webhooks that are told of the event, as of the last commit.
    pub(super) fn subscribers(&self, organization: OrganizationId, event: EventName) -> Vec<WebhookId> {
        self.memory.directory().subscribers(organization, event)
    }

    pub fn new_id<T: From<uuid::Uuid>>(&self) -> T {
        self.ids.next()
    }

    pub fn get<K: Key, V: Serialize + DeserializeOwned>(
        &self,
        table: Table<K, V>,
        key: &K,
    ) -> Result<Option<V>, Error> {
        table.get(self, key)
    }

    pub(super) fn put<K: Key, V: Serialize + DeserializeOwned>(
        &mut self,
        table: Table<K, V>,
        key: &K,
        value: &V,
    ) -> Result<(), Error> {
        self.wrote = true;
        let value = rmp_serde::to_vec_named(value).map_err(Error::internal)?;
        Ok(self.transaction.put(table.name, &key.bytes(), &value)?)
    }

    pub(super) fn delete<K: Key, V: Serialize + DeserializeOwned>(
        &mut self,
        table: Table<K, V>,
        key: &K,
    ) -> Result<bool, Error> {
        self.wrote = true;
        Ok(self.transaction.delete(table.name, &key.bytes())?)
    }

    /// See [`Addresses::free`].
    pub(super) fn free_address(
        &mut self,
        organization: OrganizationId,
        first: Ipv4Addr,
        last: Ipv4Addr,
    ) -> Result<Option<Ipv4Addr>, Error> {
        self.addresses.free(&*self.transaction, organization, first, last)
    }

    /// To be told of each change of the table of addresses.
    pub(super) fn addresses(&mut self) -> &mut Addresses {
        self.addresses
    }

    /// To be told of each change of the table of persons.
    pub(super) fn person_keys(&mut self) -> &mut Keys {
        self.person_keys
    }

    /// Removes the rows of `range`; tells how many there were.
    pub(super) fn delete_range(&mut self, table: &'static str, range: &KeyRange) -> Result<u64, Error> {
        self.wrote = true;
        let (from, to) = range.bounds();
        Ok(self.transaction.delete_range(table, from, to)?)
    }

    /// What memory learns once this is committed.
    pub(super) fn effect(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    /// Refuses growth while the disk is nearly full, so that deletions and reports still find room.
    pub(super) fn require_space(&self) -> Result<(), Error> {
        if !self.space_is_low {
            return Ok(());
        }
        Err(Error::Unavailable {
            message: "the appliance's disk is nearly full: nothing new can be stored until space is freed".into(),
            retry_after: Duration::from_secs(60),
        })
    }
}

impl Read for Tx<'_> {
    fn source(&self) -> Source<'_> {
        self.transaction.source()
    }
}

/// A closure that waits for the writer, with the place its answer goes to.
pub(super) trait Job: Send {
    fn stamp(&self) -> &Stamp;
    /// Runs the change; its audit events are the caller's to append.
    fn run(&mut self, tx: &mut Tx) -> Result<(), Error>;
    /// The commit holds: answer with the value of the last run.
    fn succeed(self: Box<Self>);
    fn fail(self: Box<Self>, error: Error);
}

pub(super) struct Change<T, F> {
    pub stamp: Stamp,
    pub change: F,
    pub value: Option<T>,
    pub answer: oneshot::Sender<Result<T, Error>>,
}

impl<T, F> Job for Change<T, F>
where
    T: Serialize + DeserializeOwned + Send,
    F: Fn(&mut Tx) -> Result<Audited<T>, Error> + Send,
{
    fn stamp(&self) -> &Stamp {
        &self.stamp
    }

    fn run(&mut self, tx: &mut Tx) -> Result<(), Error> {
        if let Some(remembered) = idempotency::recall(tx)? {
            self.value = Some(remembered);
            return Ok(());
        }
        let audited = (self.change)(tx)?;
        for event in audited.events {
            audit::append(tx, event)?;
        }
        idempotency::remember(tx, &audited.value)?;
        self.value = Some(audited.value);
        Ok(())
    }

    fn succeed(self: Box<Self>) {
        let value = self.value.ok_or_else(|| Error::Internal("a change was committed without being run".into()));
        // Whoever asked may have gone; the change stands all the same.
        let _ = self.answer.send(value);
    }

    fn fail(self: Box<Self>, error: Error) {
        let _ = self.answer.send(Err(error));
    }
}

/// The thread that owns all writing.
pub(super) struct Writer {
    pub engine: Arc<Engine>,
    pub memory: Arc<Memory>,
    pub ids: Arc<Ids>,
    pub addresses: Addresses,
    pub person_keys: Keys,
    pub jobs: mpsc::Receiver<Box<dyn Job>>,
    pub space: Box<dyn FnMut() -> bool + Send>,
    pub commits: Arc<Commits>,
}

/// What commits cost.
pub(super) struct Commits {
    pub batches: Histogram<9>,
    pub micros: Histogram<10>,
}

impl Default for Commits {
    fn default() -> Self {
        const MICROS: [u64; 10] = [250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 100_000, 1_000_000, 10_000_000];
        Self { batches: Histogram::new(&[1, 2, 4, 8, 16, 32, 64, 128, 256]), micros: Histogram::new(&MICROS) }
    }
}

impl Writer {
    /// Works until every sender is gone, or the disk fails: then the error comes back, and nothing is written any more.
    pub fn run(mut self) -> Result<(), EngineError> {
        let mut batch = Vec::with_capacity(BATCH);
        while let Some(first) = self.jobs.blocking_recv() {
            batch.push(first);
            while batch.len() < BATCH {
                match self.jobs.try_recv() {
                    Ok(job) => batch.push(job),
                    Err(_) => break,
                }
            }
            if let Err(fault) = self.commit(&mut batch) {
                tracing::error!(%fault, "the database cannot be written: stopping");
                self.jobs.close();
                batch.drain(..).for_each(|job| job.fail(unwritable()));
                while let Some(job) = self.jobs.blocking_recv() {
                    job.fail(unwritable());
                }
                return Err(fault);
            }
        }
        Ok(())
    }

    /// Runs the batch in one transaction and answers everyone in it. A closure that fails after it has written takes
    /// the transaction with it; the others run again without it.
    fn commit(&mut self, batch: &mut Vec<Box<dyn Job>>) -> Result<(), EngineError> {
        let (space_is_low, began) = ((self.space)(), Instant::now());
        'again: loop {
            let mut transaction = self.engine.begin()?;
            let mut effects = Vec::new();
            let mut wrote = false;
            let mut now = Time::from_unix(0);
            let mut next = 0;
            while next < batch.len() {
                let job = &mut batch[next];
                let stamp = job.stamp().clone();
                let mut tx = Tx {
                    transaction: &mut transaction,
                    addresses: &mut self.addresses,
                    person_keys: &mut self.person_keys,
                    ids: &self.ids,
                    memory: &self.memory,
                    stamp: &stamp,
                    space_is_low,
                    wrote: false,
                    effects: Vec::new(),
                };
                let result = catch_unwind(AssertUnwindSafe(|| job.run(&mut tx)))
                    .unwrap_or_else(|_| Err(Error::Internal("a change panicked".into())));
                let Tx { wrote: has_written, effects: mut learnt, .. } = tx;
                // A failure of the disk ends the batch, and not just this closure.
                if let Some(fault) = transaction.fault() {
                    return Err(fault);
                }
                match result {
                    Ok(()) => {
                        wrote |= has_written;
                        now = now.max(stamp.now);
                        effects.append(&mut learnt);
                        next += 1;
                    }
                    Err(error) => {
                        batch.remove(next).fail(error);
                        if has_written {
                            self.addresses.abort();
                            self.person_keys.clear();
                            continue 'again;
                        }
                    }
                }
            }
            if wrote {
                transaction.commit()?;
                self.addresses.commit();
                self.commits.batches.observe(batch.len() as u64);
                self.commits.micros.observe(began.elapsed().as_micros() as u64);
            }
            self.memory.apply(effects, now);
            batch.drain(..).for_each(Job::succeed);
            return Ok(());
        }
    }
}

pub(super) fn unwritable() -> Error {
    Error::Unavailable {
        message: "the change could not be written to disk".into(),
        retry_after: Duration::from_secs(5),
    }
}
