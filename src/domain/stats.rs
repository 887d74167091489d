//! Counts of the fleet, from the index alone.

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
        let fleet = self.store.memory().fleet(op.organization_id()?);
        let fleet = memory::read(&fleet);
        let status = |one| (one, fleet.count(&Filter { statuses: vec![one], ..Filter::default() }));
        let platform = |one| (one, fleet.count(&Filter { platforms: vec![one], ..Filter::default() }));
        let compliance = |one| (one, fleet.count(&Filter { compliances: vec![one], ..Filter::default() }));
        let today = op.now.unix() - op.now.unix().rem_euclid(DAY.as_secs().cast_signed());
        let day = |back: u64| {
            let start = Time::from_unix(today).minus(Duration::from_secs(back * DAY.as_secs()));
            (start, fleet.enrolled_between(start, start.plus(DAY)))
        };
        Ok(Stats {
            total: fleet.len(),
            by_status: Status::ALL.iter().copied().map(status).collect(),
            by_platform: Platform::ALL.iter().copied().map(platform).collect(),
            by_compliance: Compliance::ALL.iter().copied().map(compliance).collect(),
            enrolled: (0..DAYS).rev().map(day).collect(),
        })
    }
}
