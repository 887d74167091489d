//! What policies make of a device: derived from the device and from what is around it, so that either may change it.

use roaring::RoaringBitmap;

use super::properties::{Key, Property};
use super::{Fleet, missing_from};
use crate::ids::{DeviceId, PolicyId};
use crate::model::device::Compliance;
use crate::store::resolution::{Circumstances, Report};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// The strongest policy in force.
    pub policy: Option<PolicyId>,
    pub compliance: Compliance,
}

/// Of a device that nobody has judged.
impl Default for Judgement {
    fn default() -> Self {
        Self { policy: None, compliance: Compliance::Unknown }
    }
}

impl Fleet {
    /// What decides over the device's policies and compliance; `None` if there is no such device.
    pub fn circumstances(&self, id: DeviceId) -> Option<(Circumstances, Report)> {
        self.slot(id).map(|slot| self.facing(slot).0)
    }

    pub fn judgement(&self, id: DeviceId) -> Option<Judgement> {
        self.slot(id).map(|slot| self.facing(slot).1)
    }

    /// Each device, in order of creation: what decides, and what it is judged as now.
    pub fn judged(&self) -> impl Iterator<Item = (DeviceId, Circumstances, Report, Judgement)> {
        self.judged_after(None)
    }

    /// The same for those that come after this one.
    pub fn judged_after(
        &self,
        after: Option<DeviceId>,
    ) -> impl Iterator<Item = (DeviceId, Circumstances, Report, Judgement)> {
        let first = after.map_or(0, |after| super::number(self.ids.partition_point(|id| *id <= after)));
        self.live.range(first..).map(|slot| {
            let ((circumstances, report), judgement) = self.facing(slot);
            (self.ids[slot as usize], circumstances, report, judgement)
        })
    }

    /// `false` if there is no such device.
    pub fn judge(&mut self, id: DeviceId, judgement: Judgement) -> bool {
        let Some(slot) = self.slot(id) else { return false };
        let old = std::mem::take(&mut self.records[slot as usize].keys);
        let lasting = |key: &Key| !matches!(self.properties.of(*key), Property::Policy(_) | Property::Compliance(_));
        let mut keys: Vec<Key> = old.iter().copied().filter(lasting).collect();
        keys.push(self.properties.key(Property::Compliance(judgement.compliance)));
        keys.extend(judgement.policy.map(|policy| self.properties.key(Property::Policy(policy))));
        keys.sort_unstable();
        missing_from(&keys, &old).for_each(|key| self.properties.insert(key, slot));
        missing_from(&old, &keys).for_each(|key| self.properties.remove(key, slot));
        self.records[slot as usize].keys = keys.into_boxed_slice();
        self.note_unrecorded(slot);
        true
    }

    /// Up to `limit` devices whose compliance is not the one that their rows have, oldest first.
    pub fn unrecorded(&self, limit: usize) -> Vec<DeviceId> {
        self.unrecorded.iter().take(limit).map(|slot| self.ids[slot as usize]).collect()
    }

    fn facing(&self, slot: u32) -> ((Circumstances, Report), Judgement) {
        let mut circumstances = Circumstances::default();
        let mut judgement = Judgement::default();
        for key in &self.records[slot as usize].keys {
            match self.properties.of(*key) {
                Property::User(user) => circumstances.user = Some(user),
                Property::Assigned(policy) => circumstances.policy = Some(policy),
                Property::Group(group) => circumstances.group = Some(group),
                Property::Policy(policy) => judgement.policy = Some(policy),
                Property::Compliance(compliance) => judgement.compliance = compliance,
                Property::Status(_) | Property::Platform(_) => {}
            }
        }
        ((circumstances, self.reports[slot as usize]), judgement)
    }

    /// Comes after the slot's record and report have changed.
    pub(super) fn note_unrecorded(&mut self, slot: u32) {
        let (_, judgement) = self.facing(slot);
        if judgement.compliance == self.reports[slot as usize].recorded() {
            self.unrecorded.remove(slot);
        } else {
            self.unrecorded.insert(slot);
        }
    }

    pub(super) fn live_unrecorded(&self) -> RoaringBitmap {
        let is_unrecorded = |slot: &u32| self.facing(*slot).1.compliance != self.reports[*slot as usize].recorded();
        (0..super::number(self.ids.len())).filter(is_unrecorded).collect()
    }
}
