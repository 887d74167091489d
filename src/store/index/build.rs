//! A whole fleet at once: ten times faster than device by device.

use crate::clock::Time;
use crate::ids::DeviceId;
use crate::model::device::Status;
use crate::store::resolution::Report;

use super::order::Order;
use super::properties::{Properties, Property};
use super::search::Search;
use super::{DEAD_MIN, Facts, Fleet, NEVER, Record, name_key, number, seen_key};

#[derive(Debug)]
struct Row {
    id: DeviceId,
    record: Record,
    seen: Time,
    report: Report,
}

/// Collects devices, in whatever order, for a new [`Fleet`].
#[derive(Debug, Default)]
pub struct Builder {
    properties: Properties,
    rows: Vec<Row>,
}

impl Builder {
    /// Of two devices with one id, the later one counts.
    pub fn add(&mut self, facts: &Facts<'_>) {
        let record = facts.record(&mut self.properties);
        let seen = facts.last_seen.unwrap_or(NEVER);
        self.rows.push(Row { id: facts.id, record, seen, report: facts.report });
    }

    pub fn build(mut self) -> Fleet {
        // Stable, so that of rows with one id the last stays last.
        self.rows.sort_by_key(|row| row.id);
        self.rows.dedup_by(|later, kept| {
            let same = later.id == kept.id;
            if same {
                std::mem::swap(later, kept);
            }
            same
        });
        from_rows(self.properties, self.rows)
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
        let rows = ids.into_iter().zip(records).zip(seen.into_iter().zip(reports)).enumerate();
        let rows = rows
            .filter(|(at, _)| live.contains(number(*at)))
            .map(|(_, ((id, record), (seen, report)))| Row { id, record, seen, report })
            .collect();
        *self = from_rows(properties, rows);
    }
}

/// `rows` ascend by id; their keys are from `properties`, whose sets are empty.
fn from_rows(properties: Properties, rows: Vec<Row>) -> Fleet {
    let mut fleet = Fleet { properties, ..Fleet::default() };
    fleet.ids.reserve_exact(rows.len());
    fleet.records.reserve_exact(rows.len());
    fleet.seen.reserve_exact(rows.len());
    fleet.reports.reserve_exact(rows.len());
    for (at, Row { id, record, seen, report }) in rows.into_iter().enumerate() {
        let slot = number(at);
        record.keys.iter().for_each(|&key| fleet.properties.insert(key, slot));
        fleet.ids.push(id);
        fleet.records.push(record);
        fleet.seen.push(seen);
        fleet.reports.push(report);
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
