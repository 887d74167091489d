//! Counts of the fleet, from the index alone, without the devices of people who are not to be counted.

use std::time::Duration;

use super::Services;
use super::op::Op;
use crate::clock::Time;
use crate::error::Error;
use crate::model::device::{Compliance, Platform, Status};
use crate::store::index::Filter;
use crate::store::memory;

/// Days that enrolments are counted for.
const DAYS: u64 = 30;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

pub struct Stats {
    pub total: u64,
    pub by_status: Vec<(Status, u64)>,
    pub by_platform: Vec<(Platform, u64)>,
    pub by_compliance: Vec<(Compliance, u64)>,
    /// The beginning of each day, UTC, oldest first; devices deleted since are not counted.
    pub enrolled: Vec<(Time, u64)>,
}

impl Services {
    pub fn stats(&self, op: &Op) -> Result<Stats, Error> {
        let organization = op.organization_id()?;
        let without_users = self.store.memory().directory().uncounted(organization);
        let all = Filter { without_users, ..Filter::default() };
        let fleet = self.store.memory().fleet(organization);
        let fleet = memory::read(&fleet);
        let status = |one| (one, fleet.count(&Filter { statuses: vec![one], ..all.clone() }));
        let platform = |one| (one, fleet.count(&Filter { platforms: vec![one], ..all.clone() }));
        let compliance = |one| (one, fleet.count(&Filter { compliances: vec![one], ..all.clone() }));
        let today = op.now.unix() - op.now.unix().rem_euclid(DAY.as_secs().cast_signed());
        let day = |back: u64| {
            let start = Time::from_unix(today).minus(Duration::from_secs(back * DAY.as_secs()));
            (start, start.plus(DAY))
        };
        let days: Vec<(Time, Time)> = (0..DAYS).rev().map(day).collect();
        let enrolled = fleet.enrolled(&all, &days);
        Ok(Stats {
            total: fleet.count(&all),
            by_status: Status::ALL.iter().copied().map(status).collect(),
            by_platform: Platform::ALL.iter().copied().map(platform).collect(),
            by_compliance: Compliance::ALL.iter().copied().map(compliance).collect(),
            enrolled: days.into_iter().map(|(start, _)| start).zip(enrolled).collect(),
        })
    }
}
