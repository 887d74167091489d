//! A whole fleet at once: ten times faster than device by device.

use crate::clock::Time;
use crate::ids::DeviceId;
use crate::model::device::Status;
use crate::store::resolution::Report;

use super::order::Order;
use super::properties::{Properties, Property};
use super::search::Search;
use super::{DEAD_MIN, Facts, Fleet, NEVER, Record, name_key, number, seen_key};

/// Collects devices, in whatever order, for a new [`Fleet`].
#[derive(Debug, Default)]
pub struct Builder {
    properties: Properties,
    rows: Rows,
}

/// By column, as the fleet keeps them: in order of their ids, nothing has to be moved.
#[derive(Debug, Default)]
struct Rows {
    ids: Vec<DeviceId>,
    records: Vec<Record>,
    seen: Vec<Time>,
    reports: Vec<Report>,
}

impl Builder {
    /// Of two devices with one id, the later one counts.
    pub fn add(&mut self, facts: &Facts<'_>) {
        self.rows.ids.push(facts.id);
        self.rows.records.push(facts.record(&mut self.properties));
        self.rows.seen.push(facts.last_seen.unwrap_or(NEVER));
        self.rows.reports.push(facts.report);
    }

    pub fn build(mut self) -> Fleet {
        if !self.rows.ids.is_sorted_by(|id, next| id < next) {
            self.rows.sort();
        }
        from_rows(self.properties, self.rows)
    }
}

impl Rows {
    fn sort(&mut self) {
        let mut rows: Vec<_> = std::mem::take(self).into_iter().collect();
        // Stable, so that of rows with one id the last stays last.
        rows.sort_by_key(|(id, _)| *id);
        rows.dedup_by(|later, kept| {
            let same = later.0 == kept.0;
            if same {
                std::mem::swap(later, kept);
            }
            same
        });
        *self = rows.into_iter().collect();
    }

    fn into_iter(self) -> impl Iterator<Item = Row> {
        self.ids.into_iter().zip(self.records.into_iter().zip(self.seen.into_iter().zip(self.reports)))
    }
}

type Row = (DeviceId, (Record, (Time, Report)));

impl FromIterator<Row> for Rows {
    fn from_iter<I: IntoIterator<Item = Row>>(rows: I) -> Self {
        let (ids, (records, (seen, reports))) = rows.into_iter().unzip();
        Self { ids, records, seen, reports }
    }
}

impl Fleet {
    /// Drops dead slots when they are more than half of all: each device removed pays for one that moves.
    pub(super) fn rebuild_if_mostly_dead(&mut self) {
        let live = self.len() as usize;
        let dead = self.ids.len() - live;
        if dead < DEAD_MIN || dead <= live {
            return;
        }
        let Self { ids, records, seen, reports, live, mut properties, .. } = std::mem::take(self);
        properties.clear();
        let rows = Rows { ids, records, seen, reports }.into_iter().enumerate();
        let rows = rows.filter(|(at, _)| live.contains(number(*at))).map(|(_, row)| row).collect();
        *self = from_rows(properties, rows);
    }
}

/// `rows` ascend by id; their keys are from `properties`, whose sets are empty.
fn from_rows(properties: Properties, Rows { ids, records, seen, reports }: Rows) -> Fleet {
    let mut fleet = Fleet { properties, ids, records, seen, reports, ..Fleet::default() };
    fleet.ids.shrink_to_fit();
    fleet.records.shrink_to_fit();
    fleet.seen.shrink_to_fit();
    fleet.reports.shrink_to_fit();
    for (at, record) in fleet.records.iter().enumerate() {
        let slot = number(at);
        record.keys.iter().for_each(|&key| fleet.properties.insert(key, slot));
    }
    fleet.properties.trim();
    fleet.unrecorded = fleet.live_unrecorded();
    fleet.search = Search::new(fleet.records.iter().map(|record| &*record.text));
    let slots = 0..number(fleet.ids.len());
    fleet.live = slots.clone().collect();
    fleet.by_name = Order::new(slots.clone(), name_key(&fleet.records));
    fleet.by_seen = Order::new(slots, seen_key(&fleet.seen));
    if let Some(online) = fleet.properties.get(Property::Status(Status::Online)) {
        fleet.online_by_seen = Order::new(online.bitmap().iter(), seen_key(&fleet.seen));
    }
    fleet
}
