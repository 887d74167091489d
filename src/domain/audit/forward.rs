//! A copy of every organization's log, on its way to a collector elsewhere. At least once: the place in each log moves on
//! when the collector has what comes before it, and is written down now and then.
//!
//! What is copied cannot be erased. So it has no names unless the settings ask for them, and nothing at all of people who
//! have restricted the processing of their data: who they are decides when an entry's turn comes, and what was passed over
//! is not sent later.

use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::{Arc, PoisonError};

use tokio::sync::watch;

use crate::domain::Services;
use crate::error::Error;
use crate::ids::OrganizationId;
use crate::model::audit::AuditEntry;
use crate::store::audit::{self, AuditEvent, forwarded, retention};
use crate::store::engine::Read;
use crate::store::memory::Memory;
use crate::store::persons::Opener;
use crate::store::write::{Audited, Stamp, Unaudited};
use crate::store::{Reader, users};

pub use crate::store::audit::forwarded::Places;

/// Entries looked at on one snapshot.
const LOOKED_AT: u64 = 1_000;
/// Bytes of stored entries handed over at once: as soon as there are so many.
const HANDED_OVER: usize = 64 * 1024;

pub type Later<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// One connection to the collector.
pub trait Collector: Send {
    /// Returns once the collector has all of them.
    fn send(&mut self, entries: Vec<AuditEntry>) -> Later<'_, Result<(), String>>;
    /// Resolves when the connection has ended: why.
    fn gone(&mut self) -> Later<'_, String>;
}

pub type Connect = dyn Fn() -> Later<'static, Result<Box<dyn Collector>, String>> + Send + Sync;

/// What comes next.
#[derive(Default)]
pub struct Next {
    /// In the order of each log.
    pub entries: Vec<AuditEntry>,
    /// Where the copy has come to with them; none when all is copied.
    pub places: Places,
    /// Entries that were let go before they were sent: first and last.
    pub lost: Vec<(OrganizationId, u64, u64)>,
}

impl Services {
    /// Changes with every new entry of any log.
    pub fn all_news(&self) -> watch::Receiver<()> {
        self.store.memory().follow_all()
    }

    pub fn forwarded(&self) -> Result<Places, Error> {
        forwarded::places(&self.store.snapshot()?)
    }

    /// What comes after `places`; everything that is there of a log which has none. Each log has its turn, however far
    /// behind another is.
    pub async fn next_to_forward(&self, places: Places) -> Result<Next, Error> {
        let (reader, memory) = (self.store.reader(), self.store.memory().clone());
        let names = self.config.syslog.names;
        let read = tokio::task::spawn_blocking(move || next(&reader, &memory, &places, names));
        read.await.map_err(Error::internal)?
    }

    pub async fn note_forwarded(&self, places: Places) -> Result<(), Error> {
        let note = move |tx: &mut crate::store::write::Tx| {
            forwarded::put_places(tx, &places)?;
            Ok(Audited::without_entry((), Unaudited::Housekeeping))
        };
        self.store.write(Stamp::system(self.now()), note).await
    }

    /// Says in the organization's log that these of its entries are in no copy.
    pub async fn note_not_forwarded(&self, organization: OrganizationId, first: u64, last: u64) -> Result<(), Error> {
        let note = move |tx: &mut crate::store::write::Tx| {
            forwarded::put_places(tx, &Places::from([(organization, last)]))?;
            if crate::store::organizations::get(tx, organization)?.is_none() {
                return Ok(Audited::without_entry((), Unaudited::Housekeeping));
            }
            let event = AuditEvent::failed("system.syslog.skipped").of(organization);
            Ok(Audited::new((), event.detail("first", first).detail("last", last)))
        };
        self.store.write(Stamp::system(self.now()), note).await
    }

    /// Whether the collector is connected, or why not; `None` before the first attempt.
    pub fn collector(&self) -> Option<Result<(), String>> {
        self.collector.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn note_collector(&self, connection: Result<(), String>) {
        *self.collector.lock().unwrap_or_else(PoisonError::into_inner) = Some(connection);
    }

    /// Entries that wait to be sent.
    pub fn not_forwarded(&self, places: &Places) -> Result<u64, Error> {
        let snapshot = self.store.snapshot()?;
        let organizations: Vec<_> = self.store.memory().directory().organizations().collect();
        let mut waiting = 0;
        for organization in organizations {
            let begin = match places.get(&organization) {
                Some(place) => *place,
                None => retention::anchor(&snapshot, organization)?.seq,
            };
            waiting += audit::head(&snapshot, organization)?.seq.saturating_sub(begin);
        }
        Ok(waiting)
    }
}

fn next(reader: &Reader, memory: &Arc<Memory>, places: &Places, names: bool) -> Result<Next, Error> {
    let organizations: Vec<_> = memory.directory().organizations().collect();
    // A part for each, so that nobody waits for the end of another's log.
    let part = HANDED_OVER / organizations.len().max(1);
    let mut next = Next::default();
    for organization in organizations {
        let snapshot = reader.snapshot()?;
        let (head, anchor) =
            (audit::head(&snapshot, organization)?.seq, retention::anchor(&snapshot, organization)?.seq);
        let place = match places.get(&organization) {
            Some(place) if *place < anchor => {
                next.lost.push((organization, place + 1, anchor));
                anchor
            }
            Some(place) => *place,
            None => anchor,
        };
        if head <= place {
            continue;
        }
        let last = head.min(place + LOOKED_AT);
        let mut opener = Opener::new(&snapshot);
        let mut size = 0;
        let visit = |mut entry: AuditEntry, length| {
            if withhold_restricted(&snapshot, memory, &mut entry)? {
                if names {
                    opener.open(&mut entry)?;
                } else {
                    forwarded::remove_names(&mut entry);
                }
                next.entries.push(entry);
                size += length;
            }
            Ok(if size < part { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        };
        let seen = audit::oldest_first(&snapshot, organization, (place + 1, last), &[], |_| true, visit)?;
        next.places.insert(organization, seen);
    }
    Ok(next)
}

/// Takes out of the entry what names people whose data is not to be processed; false when it is about such a person, and
/// goes nowhere. Whoever acts on others is no reason to keep what was done from the collector, nor is the restriction
/// itself: else it would hide whoever restricts themselves first. The snapshot knows it of whoever is of this
/// organization: memory may be a moment behind.
fn withhold_restricted(from: &impl Read, memory: &Arc<Memory>, entry: &mut AuditEntry) -> Result<bool, Error> {
    let is_told = entry.action.starts_with("gdpr.");
    let mut kept = Vec::new();
    for part in std::mem::take(&mut entry.sealed) {
        let user = users::get(from, entry.organization_id, part.person)?;
        let is_restricted = match user {
            Some(user) => user.privacy.is_restricted(),
            None => memory.directory().is_restricted(part.person),
        };
        if !is_restricted {
            kept.push(part);
        } else if !is_told && part.fields.iter().any(|field| field != "actor.name") {
            return Ok(false);
        }
    }
    entry.sealed = kept;
    Ok(true)
}
