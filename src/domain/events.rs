//! What changes in an organization, while it changes. The audit log is the stream of events: whoever follows it is woken
//! by each commit and reads on from their place in it, so that nothing has to be kept for slow readers, and whoever was
//! cut off goes on where they were.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, sleep_until};

use super::Services;
use super::authz::{Permission, Permissions};
use super::op::{Op, Principal};
use super::principals::again;
use crate::clock::Clock;
use crate::error::Error;
use crate::ids::OrganizationId;
use crate::model::audit::AuditEntry;
use crate::model::webhook::EventName;
use crate::store::Reader;
use crate::store::audit::{self, retention};
use crate::store::memory::Memory;
use crate::store::outbox;
use crate::store::persons::Opener;

/// Streams at a time, in all.
const AT_A_TIME: usize = 256;
/// Streams of one organization at a time: there is room for others.
const OF_ORGANIZATION: usize = 192;
/// Streams of one user or key at a time.
const OF_ONE: usize = 8;
/// Streams that read from disk at a time: those far behind must not keep everybody else from it.
const READING: usize = 2;
/// At least so often something is sent, and it is looked at whether the principal is still good.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// A stream ends after so long, and its client shows its token anew: it may have lapsed, which the session does not.
const LIFE: Duration = Duration::from_secs(60 * 60);
/// Entries looked at on one snapshot.
const LOOKED_AT: u64 = 1_000;
/// Bytes of stored entries handed over at once: as soon as there are so many.
const HANDED_OVER: usize = 64 * 1024;

/// Whose a stream is: a user or key, of an organization.
type Owner = (OrganizationId, [u8; 16]);

/// The streams under way, by whose they are.
#[derive(Clone)]
pub struct Streams {
    under_way: Arc<Mutex<HashMap<Owner, usize>>>,
    reading: Arc<Semaphore>,
}

impl Default for Streams {
    fn default() -> Self {
        Self { under_way: Arc::default(), reading: Arc::new(Semaphore::new(READING)) }
    }
}

impl Streams {
    fn take(&self, key: Owner) -> Result<Place, Error> {
        let mut under_way = self.lock();
        let busy = |message: String| Error::TooMany { message, retry_after: Duration::from_secs(10) };
        if under_way.values().sum::<usize>() >= AT_A_TIME {
            return Err(busy(format!("{AT_A_TIME} streams of events are open: come back later")));
        }
        let of_organization = under_way.iter().filter(|((organization, _), _)| *organization == key.0);
        if of_organization.map(|(_, count)| count).sum::<usize>() >= OF_ORGANIZATION {
            return Err(busy(format!("{OF_ORGANIZATION} streams of this organization's events are open: close some")));
        }
        let own = under_way.entry(key).or_default();
        if *own >= OF_ONE {
            return Err(busy(format!("you have {OF_ONE} streams of events open: close one first")));
        }
        *own += 1;
        Ok(Place { streams: self.clone(), key })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Owner, usize>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends with its stream.
struct Place {
    streams: Streams,
    key: Owner,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut under_way = self.streams.lock();
        if let Some(own) = under_way.get_mut(&self.key) {
            *own -= 1;
            if *own == 0 {
                under_way.remove(&self.key);
            }
        }
    }
}

/// What a stream tells next.
pub enum News {
    /// What comes after entry `at` follows.
    Ready { at: u64 },
    /// What comes after entry `at` follows, which is not where the client was.
    Reset { at: u64, reason: &'static str },
    /// Oldest first, at least one.
    Happened(Vec<Happened>),
    /// Nothing has happened for a while.
    Quiet,
}

pub struct Happened {
    pub entry: AuditEntry,
    pub event: Option<EventName>,
    /// Whether whoever follows may know who did it.
    pub shows_actor: bool,
}

/// One stream: where it is, and for whom.
pub struct Following {
    source: Arc<Source>,
    head: watch::Receiver<u64>,
    draining: watch::Receiver<bool>,
    /// The newest entry when it began.
    began_at: u64,
    next: u64,
    first: Option<News>,
    end: Instant,
    place: Place,
}

impl Services {
    /// Follows the organization's audit log: after entry `last`, or from now on.
    ///
    /// # Errors
    /// Too many, when as many are open as may be; unavailable while the appliance stops.
    pub fn follow(&self, op: &Op, last: Option<&str>) -> Result<Following, Error> {
        let organization = op.organization_id()?;
        if *self.draining.borrow() {
            let message = "the appliance stops".into();
            return Err(Error::Unavailable { message, retry_after: Duration::from_secs(5) });
        }
        let place =
            self.streams.take((op.organization_id()?, op.principal.key().ok_or_else(Error::unauthenticated)?))?;
        let head = self.store.memory().follow(organization);
        let snapshot = self.store.snapshot()?;
        let newest = audit::head(&snapshot, organization)?.seq;
        let oldest = retention::anchor(&snapshot, organization)?.seq;
        let (at, refused) = match last.map(|last| last.trim().parse::<u64>()) {
            None => (newest, None),
            Some(Ok(last)) if last > newest => (newest, Some("Last-Event-ID names no event that has happened")),
            Some(Ok(last)) if last < oldest => (newest, Some(LET_GO)),
            Some(Ok(last)) => (last, None),
            Some(Err(_)) => (newest, Some("Last-Event-ID is not the id of an event")),
        };
        let first = refused.map_or(News::Ready { at }, |reason| News::Reset { at, reason });
        let source = Source {
            reader: self.store.reader(),
            memory: self.store.memory().clone(),
            clock: self.clock.clone(),
            mfa_grace: self.config.auth.mfa_grace,
            organization,
            principal: op.principal.clone(),
        };
        Ok(Following {
            source: Arc::new(source),
            head,
            draining: self.draining.subscribe(),
            began_at: newest,
            next: at + 1,
            first: Some(first),
            end: Instant::now() + LIFE,
            place,
        })
    }
}

const LET_GO: &str = "the events after Last-Event-ID are past the time that the audit log is kept for";

impl Following {
    /// Waits for what is next; `None` at the end: when the appliance stops, whoever follows would not be let in any
    /// more, or it has lasted for long enough.
    pub async fn next(&mut self) -> Result<Option<News>, Error> {
        let quiet = Instant::now() + HEARTBEAT;
        loop {
            if *self.draining.borrow() || Instant::now() >= self.end {
                return Ok(None);
            }
            if let Some(first) = self.first.take() {
                return Ok(Some(first));
            }
            // What is in memory by now says who may see these entries: no later one is read.
            let last = self.began_at.max(*self.head.borrow_and_update());
            if self.next <= last {
                let reading = self.place.streams.reading.clone().acquire_owned().await.map_err(Error::internal)?;
                let (source, next) = (self.source.clone(), self.next);
                let read = tokio::task::spawn_blocking(move || {
                    let _reading = reading;
                    source.read(next, last)
                });
                match read.await.map_err(Error::internal)?? {
                    Read::NoMore => return Ok(None),
                    Read::LetGo => {
                        self.next = last + 1;
                        return Ok(Some(News::Reset { at: last, reason: LET_GO }));
                    }
                    Read::Seen { through, happened } => {
                        self.next = through + 1;
                        if !happened.is_empty() {
                            return Ok(Some(News::Happened(happened)));
                        }
                    }
                }
                continue;
            }
            tokio::select! {
                changed = self.head.changed() => if changed.is_err() {
                    return Ok(None);
                },
                changed = self.draining.changed() => if changed.is_err() {
                    return Ok(None);
                },
                () = sleep_until(quiet.min(self.end)) => {
                    return Ok(self.source.principal().map(|_| News::Quiet));
                }
            }
        }
    }
}

/// Where the entries come from, and for whom.
struct Source {
    reader: Reader,
    memory: Arc<Memory>,
    clock: Arc<dyn Clock>,
    mfa_grace: Duration,
    organization: OrganizationId,
    /// As it was when the stream began.
    principal: Principal,
}

enum Read {
    /// Entries up to this one, those of them that may be told.
    Seen { through: u64, happened: Vec<Happened> },
    /// Some of them are gone from the log.
    LetGo,
    /// Whoever follows would not be let in any more.
    NoMore,
}

impl Source {
    /// Who follows, as they are now; `None` when they would not be let in.
    fn principal(&self) -> Option<Principal> {
        let now = again(&self.memory.directory(), self.mfa_grace, &self.principal, self.clock.now())?;
        let is_in = matches!(now, Principal::User(_)) || now.permissions().contains(Permission::DevicesView);
        is_in.then_some(now)
    }

    fn read(&self, next: u64, last: u64) -> Result<Read, Error> {
        let snapshot = self.reader.snapshot()?;
        if next <= retention::anchor(&snapshot, self.organization)?.seq {
            return Ok(Read::LetGo);
        }
        let Some(principal) = self.principal() else { return Ok(Read::NoMore) };
        let permissions = principal.permissions();
        let shows_actor = permissions.contains(Permission::UsersView) || permissions.contains(Permission::AuditView);
        let last = last.min(next.saturating_add(LOOKED_AT - 1));
        let mut opener = Opener::new(&snapshot);
        let (mut happened, mut size) = (Vec::new(), 0);
        let visit = |mut entry: AuditEntry, length| {
            if may_know(&principal, permissions, &entry) {
                opener.open(&mut entry)?;
                let event = outbox::named(&entry.action, &entry.details, entry.result);
                happened.push(Happened { entry, event, shows_actor });
                size += length;
            }
            Ok(if size < HANDED_OVER { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        };
        let through = audit::oldest_first(&snapshot, self.organization, (next, last), &[], |_| true, visit)?;
        Ok(Read::Seen { through, happened })
    }
}

/// Whether an entry may be told: to whoever may view what it is about, and to users what happens to their own devices.
fn may_know(principal: &Principal, permissions: Permissions, entry: &AuditEntry) -> bool {
    let needed = match entry.resource.as_ref().map_or("", |resource| resource.kind.as_str()) {
        "device" => Permission::DevicesView,
        "policy" => Permission::PoliciesView,
        "user" | "group" | "role" => Permission::UsersView,
        "webhook" => Permission::WebhooksView,
        _ => Permission::AuditView,
    };
    permissions.contains(needed) || (needed == Permission::DevicesView && names(entry, principal))
}

/// Whether the entry's resource belonged to the user when it was written: then its name is sealed for them.
fn names(entry: &AuditEntry, principal: &Principal) -> bool {
    let Principal::User(me) = principal else { return false };
    let is_its_name = |field: &String| field == "resource.name";
    entry.sealed.iter().any(|part| part.person == me.id && part.fields.iter().any(is_its_name))
}
