//! The fleet index: which devices match a filter, how many, and any page of them in any order, without reading a table.
//!
//! It is memory only: built at start from the tables, then changed after each commit. Each organization has a
//! [`Fleet`] of its own.
//!
//! A device has a *slot*, a small number. Slots ascend with ids, which ascend with time, so that a set of slots is
//! also a list of devices in order of creation. Everything else is sets of slots: one for each property that devices
//! share ([`properties`]), one for each three bytes of their texts ([`search`]), and lists of slots in other orders
//! ([`order`]).

mod build;
mod filter;
mod judgement;
mod order;
mod properties;
mod search;
mod slots;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use roaring::RoaringBitmap;

use crate::clock::Time;
use crate::ids::{DeviceId, GroupId, PolicyId, UserId};
use crate::model::device::{Compliance, Platform, Status};
use crate::store::resolution::Report;

pub use build::Builder;
pub use filter::{Filter, Page, Sort, SortKey};
pub use judgement::Judgement;

use order::{Order, Place, Wanted};
use properties::{Key, Properties, Property};
use search::{Query, Search};

/// What the index knows of a device.
///
/// Memory and time grow with the texts and the number of groups: the caller bounds both.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    pub id: DeviceId,
    pub status: Status,
    pub platform: Platform,
    /// What the device is judged as, which the row may not say yet.
    pub compliance: Compliance,
    pub user: Option<UserId>,
    /// The strongest policy in force.
    pub policy: Option<PolicyId>,
    /// The policy assigned to the device itself.
    pub assigned: Option<PolicyId>,
    /// Those that the device itself is in, whatever its user's.
    pub groups: &'a [GroupId],
    pub last_seen: Option<Time>,
    pub report: Report,
    pub name: &'a str,
    pub hostname: Option<&'a str>,
    pub serial: Option<&'a str>,
}

impl Facts<'_> {
    fn properties(&self) -> impl Iterator<Item = Property> {
        [Property::Status(self.status), Property::Platform(self.platform), Property::Compliance(self.compliance)]
            .into_iter()
            .chain(self.user.map(Property::User))
            .chain(self.policy.map(Property::Policy))
            .chain(self.assigned.map(Property::Assigned))
            .chain(self.groups.iter().copied().map(Property::Group))
    }

    fn record(&self, properties: &mut Properties) -> Record {
        let mut keys: Vec<Key> = self.properties().map(|property| properties.key(property)).collect();
        keys.sort_unstable();
        Record { text: search::text(self.name, self.hostname, self.serial), keys: keys.into_boxed_slice() }
    }
}

/// What a device has put into the sets, kept to take it out again. Empty in a dead slot.
#[derive(Debug, Default)]
struct Record {
    /// See [`search::text`].
    text: Box<[u8]>,
    /// Ascending.
    keys: Box<[Key]>,
}

/// When a device has never been seen.
const NEVER: Time = Time::from_unix(i64::MIN);

/// Fewer dead slots than this are not worth a rebuild. Low in tests, so that they rebuild.
const DEAD_MIN: usize = if cfg!(test) { 4 } else { 1024 };

/// When fewer than one in so many devices match, they are sorted rather than looked for in an order. Low in tests, so
/// that both happen.
const RARE: u64 = if cfg!(test) { 8 } else { 1024 };

/// The devices of one organization.
#[derive(Debug, Default)]
pub struct Fleet {
    /// By slot, ascending. Those of dead slots are still here.
    ids: Vec<DeviceId>,
    /// By slot.
    records: Vec<Record>,
    /// By slot.
    seen: Vec<Time>,
    /// By slot.
    reports: Vec<Report>,
    /// Live slots whose compliance is not the one that their rows have.
    unrecorded: RoaringBitmap,
    /// The slots that are not dead.
    live: RoaringBitmap,
    properties: Properties,
    search: Search,
    /// Live slots by name.
    by_name: Order,
    /// Live slots by last-seen time.
    by_seen: Order,
    /// Those of online devices only: among all, the long offline ones would be in the way of who fell silent.
    online_by_seen: Order,
}

impl Fleet {
    /// How many devices there are.
    pub fn len(&self) -> u64 {
        self.live.len()
    }

    pub fn is_empty(&self) -> bool {
        self.live.is_empty()
    }

    pub fn contains(&self, id: DeviceId) -> bool {
        self.slot(id).is_some()
    }

    /// When the device was last seen; `None` if never, or if there is no such device.
    pub fn last_seen(&self, id: DeviceId) -> Option<Time> {
        self.slot(id).map(|slot| self.seen[slot as usize]).filter(|&time| time != NEVER)
    }

    /// Adds the device, or replaces what is known of it. Its last-seen time only grows: the one here may be newer than
    /// the one in the tables, where heartbeats are written later.
    ///
    /// A new device older than others takes time in proportion to how many are newer. Ids are given out in ascending
    /// order, but may be committed a few places out of it.
    pub fn upsert(&mut self, facts: &Facts<'_>) {
        let slot = match self.ids.binary_search(&facts.id) {
            Ok(at) => number(at),
            Err(at) => self.make_room(at, facts.id),
        };
        let record = facts.record(&mut self.properties);
        let seen = facts.last_seen.unwrap_or(NEVER).max(self.seen[slot as usize]);
        self.leave_seen(slot);
        self.live.insert(slot);
        self.put_record(slot, record);
        self.seen[slot as usize] = seen;
        self.reports[slot as usize] = facts.report;
        self.note_unrecorded(slot);
        self.enter_seen(slot);
    }

    /// `false` if there is no such device.
    pub fn remove(&mut self, id: DeviceId) -> bool {
        let Some(slot) = self.slot(id) else { return false };
        self.leave_seen(slot);
        self.put_record(slot, Record::default());
        self.seen[slot as usize] = NEVER;
        self.live.remove(slot);
        self.unrecorded.remove(slot);
        self.rebuild_if_mostly_dead();
        true
    }

    /// The device was seen at this time; an earlier time than is known changes nothing. `false` if there is no such
    /// device.
    pub fn touch(&mut self, id: DeviceId, time: Time) -> bool {
        let Some(slot) = self.slot(id) else { return false };
        if time > self.seen[slot as usize] {
            self.leave_seen(slot);
            self.seen[slot as usize] = time;
            self.enter_seen(slot);
        }
        true
    }

    /// How many devices match.
    pub fn count(&self, filter: &Filter) -> u64 {
        self.matching(filter).len()
    }

    /// How many of those that match enrolled in each span, its end excluded, by the time in their ids.
    pub fn enrolled(&self, filter: &Filter, spans: &[(Time, Time)]) -> Vec<u64> {
        let matching = self.matching(filter);
        let first = |time: Time| {
            let millis = u64::try_from(time.unix()).unwrap_or(0).saturating_mul(1000);
            let mut id = [0; 16];
            id[..6].copy_from_slice(&millis.to_be_bytes()[2..]);
            number(self.ids.partition_point(|other| *other < DeviceId::from_bytes(id)))
        };
        spans.iter().map(|(from, to)| matching.range_cardinality(first(*from)..first(*to))).collect()
    }

    /// Those that match, in order of creation.
    pub fn ids(&self, filter: &Filter) -> impl Iterator<Item = DeviceId> {
        self.matching(filter).into_owned().into_iter().map(|slot| self.ids[slot as usize])
    }

    /// Up to `limit` of those that match, after the first `offset`.
    pub fn page(&self, filter: &Filter, sort: Sort, offset: u64, limit: usize) -> Page {
        let matching = self.matching(filter);
        let total = matching.len();
        let take = limit.min(usize::try_from(total.saturating_sub(offset)).unwrap_or(usize::MAX));
        if take == 0 {
            return Page { total, ids: Vec::new() };
        }
        // From whichever end is nearer.
        let after = total - offset - take as u64;
        let flip = after < offset;
        let place = if flip {
            Place { skip: after, take, backwards: !sort.descending }
        } else {
            Place { skip: offset, take, backwards: sort.descending }
        };
        let mut slots = match sort.key {
            SortKey::CreatedAt => by_creation(&matching, place),
            SortKey::LastSeen => self.by_order(&self.by_seen, seen_key(&self.seen), &matching, place),
            SortKey::DeviceName => self.by_order(&self.by_name, name_key(&self.records), &matching, place),
        };
        if flip {
            slots.reverse();
        }
        Page { total, ids: slots.into_iter().map(|slot| self.ids[slot as usize]).collect() }
    }

    /// Up to `limit` devices that are online and were last seen before this time, or never; the longest silent first.
    pub fn silent_since(&self, time: Time, limit: usize) -> Vec<DeviceId> {
        let silent = self.online_by_seen.iter().take_while(|&slot| self.seen[slot as usize] < time);
        silent.take(limit).map(|slot| self.ids[slot as usize]).collect()
    }

    /// The device's slot, unless it is dead.
    fn slot(&self, id: DeviceId) -> Option<u32> {
        self.ids.binary_search(&id).ok().map(number).filter(|&slot| self.live.contains(slot))
    }

    fn matching(&self, filter: &Filter) -> Cow<'_, RoaringBitmap> {
        let mut found = None;
        for alternatives in filter.kinds() {
            let sets = alternatives.into_iter().filter_map(|property| self.properties.get(property));
            found = Some(intersect(found, slots::union(sets)));
        }
        if let Some(query) = Query::new(&filter.text) {
            let mut hits = intersect(found, self.search.candidates(&query));
            if query.must_verify() && !hits.is_empty() {
                let finder = query.finder();
                let hit = |slot: &u32| finder.find(&self.records[*slot as usize].text).is_some();
                hits = Cow::Owned(RoaringBitmap::from_sorted_iter(hits.iter().filter(hit)).unwrap_or_default());
            }
            found = Some(hits);
        }
        let found = found.unwrap_or(Cow::Borrowed(&self.live));
        if filter.without_users.is_empty() {
            return found;
        }
        let left_out = filter.without_users.iter().filter_map(|user| self.properties.get(Property::User(*user)));
        Cow::Owned(&*found - &*slots::union(left_out))
    }

    /// The slots that match at this place in an order. There are several ways to the same answer, because the long way
    /// is a step for each slot of the order.
    fn by_order<K: Ord>(
        &self,
        order: &Order,
        key: impl Fn(u32) -> K,
        matching: &RoaringBitmap,
        place: Place,
    ) -> Vec<u32> {
        let (total, all) = (matching.len(), self.len());
        if total == all {
            order.page(Wanted::All, place)
        } else if total <= all / RARE {
            Order::new(matching.iter(), key).page(Wanted::All, place)
        } else {
            order.page(Wanted::new(matching), place)
        }
    }

    /// Replaces a slot's record, and what it has put into the sets.
    fn put_record(&mut self, slot: u32, new: Record) {
        let old = std::mem::take(&mut self.records[slot as usize]);
        let (fresh, stale) = (missing_from(&new.keys, &old.keys), missing_from(&old.keys, &new.keys));
        fresh.for_each(|key| self.properties.insert(key, slot));
        stale.for_each(|key| self.properties.remove(key, slot));
        let changed = old.text != new.text;
        if changed && !old.text.is_empty() {
            self.search.remove(slot, &old.text);
            self.records[slot as usize].text = old.text;
            self.by_name.remove(slot, name_key(&self.records));
        }
        self.records[slot as usize] = new;
        if changed && !self.records[slot as usize].text.is_empty() {
            self.search.insert(slot, &self.records[slot as usize].text);
            self.by_name.insert(slot, name_key(&self.records));
        }
    }

    /// Gives a new id its slot, dead still; the slots after it move up by one.
    fn make_room(&mut self, at: usize, id: DeviceId) -> u32 {
        self.ids.insert(at, id);
        self.records.push(Record::default());
        self.seen.push(NEVER);
        self.reports.push(Report::default());
        for slot in (at..self.ids.len() - 1).rev() {
            self.move_up(number(slot));
        }
        number(at)
    }

    fn move_up(&mut self, slot: u32) {
        if !self.live.remove(slot) {
            return;
        }
        let above = slot + 1;
        let Record { text, keys } = &self.records[slot as usize];
        let copy = Record { text: text.clone(), keys: keys.clone() };
        self.leave_seen(slot);
        // First there, then not here: a property without slots in between would lose its key.
        self.put_record(above, copy);
        self.put_record(slot, Record::default());
        self.seen.swap(slot as usize, above as usize);
        self.reports.swap(slot as usize, above as usize);
        self.live.insert(above);
        self.unrecorded.remove(slot);
        self.note_unrecorded(above);
        self.enter_seen(above);
    }

    /// Takes a slot out of the orders by time. Comes before its time or its status change.
    fn leave_seen(&mut self, slot: u32) {
        self.by_seen.remove(slot, seen_key(&self.seen));
        if self.is_online(slot) {
            self.online_by_seen.remove(slot, seen_key(&self.seen));
        }
    }

    fn enter_seen(&mut self, slot: u32) {
        self.by_seen.insert(slot, seen_key(&self.seen));
        if self.is_online(slot) {
            self.online_by_seen.insert(slot, seen_key(&self.seen));
        }
    }

    fn is_online(&self, slot: u32) -> bool {
        self.properties.get(Property::Status(Status::Online)).is_some_and(|online| online.contains(slot))
    }
}

fn seen_key(seen: &[Time]) -> impl Fn(u32) -> (Time, u32) {
    |slot| (seen[slot as usize], slot)
}

fn name_key<'a>(records: &'a [Record]) -> impl Fn(u32) -> (&'a [u8], u32) {
    |slot| (search::name(&records[slot as usize].text), slot)
}

fn intersect<'a>(found: Option<Cow<'a, RoaringBitmap>>, set: Cow<'a, RoaringBitmap>) -> Cow<'a, RoaringBitmap> {
    match found {
        None => set,
        Some(found) => Cow::Owned(&*found & &*set),
    }
}

fn by_creation(slots: &RoaringBitmap, Place { skip, take, backwards }: Place) -> Vec<u32> {
    let first = if backwards { slots.len() - skip - take as u64 } else { skip };
    // A set of 32-bit numbers has no more than 2^32 of them, and `first` is before its last.
    let Some(start) = u32::try_from(first).ok().and_then(|nth| slots.select(nth)) else { return Vec::new() };
    let mut found: Vec<u32> = slots.range(start..).take(take).collect();
    if backwards {
        found.reverse();
    }
    found
}

/// What of one ascending list is not in another.
fn missing_from(list: &[Key], other: &[Key]) -> impl Iterator<Item = Key> {
    list.iter().copied().filter(|key| other.binary_search(key).is_err())
}

/// A slot as it is written in sets.
fn number(at: usize) -> u32 {
    u32::try_from(at).expect("four billion devices of a hundred bytes do not fit into memory")
}
