//! Which settings hold for a device, where each comes from, and whether the device complies: from memory alone, exact
//! after each commit.
//!
//! A policy reaches a device by assignment to the device itself, to its user, to a group around it, or as the
//! organization's default, in this order of strength. Groups count by distance: those that the user (or the device) is
//! in directly, then those around them; at the same distance by name. Each assigned policy stands for itself overlaid
//! on what it extends. All of that is overlaid setting by setting: for each, the strongest assignment that says
//! anything decides. A policy that is not active is passed over where it is assigned, though others may extend it.

mod compliance;
mod effective;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use super::index::Judgement;
use super::memory::Directory;
use crate::clock::Time;
use crate::ids::{DeviceId, GroupId, OrganizationId, PolicyId, UserId};
use crate::model::device::Device;
use crate::model::policy::Policy;

pub use compliance::{OsVersion, Report, Requirements};
pub use effective::{Effective, Resolved, Settings, settings};

/// How far `extends` and nested groups are followed. Longer chains are refused when they are made.
pub const MAX_DEPTH: usize = 32;
/// Combinations of policies whose settings are kept ready.
const COMBINATIONS: usize = 4096;

/// What decides which policies reach a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Circumstances {
    pub policy: Option<PolicyId>,
    pub user: Option<UserId>,
    /// A group that the device itself is in, beside those of its user.
    pub group: Option<GroupId>,
}

impl Circumstances {
    pub fn of(device: &Device) -> Self {
        Self { policy: device.policy_id, user: device.user_id, group: device.group_id }
    }
}

/// Where an assignment was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    Device,
    User(UserId),
    Group(GroupId),
    Default,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Assignment {
    pub policy: PolicyId,
    pub source: Source,
}

#[derive(Clone, Debug)]
pub struct PolicyFacts {
    pub organization_id: OrganizationId,
    pub name: Arc<str>,
    pub version: u64,
    pub extends: Option<PolicyId>,
    pub active: bool,
    pub settings: Arc<Settings>,
    pub created_at: Time,
    pub updated_at: Time,
}

impl PolicyFacts {
    pub fn of(policy: &Policy) -> Self {
        // A record of plain values is always JSON.
        let Policy { organization_id, content, version, created_at, updated_at, .. } = policy;
        let data = serde_json::to_value(&content.policy_data).unwrap_or_default();
        Self {
            organization_id: *organization_id,
            name: content.name.as_str().into(),
            version: *version,
            extends: content.extends,
            active: content.active,
            settings: Arc::new(settings(&data)),
            created_at: *created_at,
            updated_at: *updated_at,
        }
    }
}

/// All policies, and the settings that combinations of them come to.
#[derive(Debug, Default)]
pub struct Policies {
    facts: BTreeMap<PolicyId, PolicyFacts>,
    effective: Mutex<HashMap<Box<[PolicyId]>, Arc<Effective>>>,
}

/// Without what is kept ready.
impl Clone for Policies {
    fn clone(&self) -> Self {
        Self { facts: self.facts.clone(), effective: Mutex::default() }
    }
}

impl Policies {
    pub fn get(&self, id: PolicyId) -> Option<&PolicyFacts> {
        self.facts.get(&id)
    }

    /// The organization's, oldest first.
    pub fn of(&self, organization: OrganizationId) -> impl Iterator<Item = (PolicyId, &PolicyFacts)> {
        self.facts
            .iter()
            .filter(move |(_, facts)| facts.organization_id == organization)
            .map(|(id, facts)| (*id, facts))
    }

    pub fn put(&mut self, id: PolicyId, facts: PolicyFacts) {
        self.facts.insert(id, facts);
        self.forget();
    }

    pub fn remove(&mut self, id: PolicyId) {
        self.facts.remove(&id);
        self.forget();
    }

    fn forget(&mut self) {
        self.effective.get_mut().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// What the assigned policies come to, the strongest first.
    pub fn effective(&self, assigned: &[PolicyId]) -> Arc<Effective> {
        let mut ready = self.effective.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(effective) = ready.get(assigned) {
            return effective.clone();
        }
        let layers = assigned.iter().enumerate().flat_map(|(assignment, id)| {
            self.with_ancestors(*id).map(move |(policy, facts)| (assignment, policy, &*facts.settings))
        });
        let effective = Arc::new(Effective::overlay(layers));
        if ready.len() >= COMBINATIONS {
            ready.clear();
        }
        ready.insert(assigned.into(), effective.clone());
        effective
    }

    /// Whether any of the organization's policies makes verdicts that time alone may change.
    pub fn depend_on_time(&self, organization: OrganizationId) -> bool {
        self.of(organization).any(|(_, facts)| facts.settings.contains_key("compliance.update_required_within"))
    }

    /// The policy, what it extends, and so on.
    fn with_ancestors(&self, id: PolicyId) -> impl Iterator<Item = (PolicyId, &PolicyFacts)> {
        let found = |id| self.facts.get(&id).map(|facts| (id, facts));
        std::iter::successors(found(id), move |(_, facts)| facts.extends.and_then(found)).take(MAX_DEPTH)
    }
}

/// Assignments that are not made yet, for looking at what they would do.
#[derive(Clone, Debug, Default)]
pub struct Supposed {
    pub devices: HashMap<DeviceId, Option<PolicyId>>,
    pub users: HashMap<UserId, Option<PolicyId>>,
    pub groups: HashMap<GroupId, Option<PolicyId>>,
    pub default: Option<Option<PolicyId>>,
}

/// Finds what holds, with buffers that it uses again: a whole fleet is resolved by one.
pub struct Resolver<'a> {
    directory: &'a Directory,
    policies: &'a Policies,
    organization: OrganizationId,
    supposed: Option<&'a Supposed>,
    assignments: Vec<Assignment>,
    ids: Vec<PolicyId>,
    near: Vec<GroupId>,
    seen: Vec<GroupId>,
}

impl<'a> Resolver<'a> {
    pub fn new(directory: &'a Directory, organization: OrganizationId) -> Self {
        Self::supposing(directory, organization, directory.policies(), None)
    }

    /// As things would be with other policies and assignments.
    pub fn supposing(
        directory: &'a Directory,
        organization: OrganizationId,
        policies: &'a Policies,
        supposed: Option<&'a Supposed>,
    ) -> Self {
        let (assignments, ids, near, seen) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { directory, policies, organization, supposed, assignments, ids, near, seen }
    }

    pub fn organization(&self) -> OrganizationId {
        self.organization
    }

    /// The policies that reach the device, the strongest first, and what they come to.
    pub fn resolve(&mut self, device: DeviceId, at: Circumstances) -> (&[Assignment], Arc<Effective>) {
        self.assignments.clear();
        let supposed = self.supposed;
        let own = supposed.and_then(|s| s.devices.get(&device).copied()).unwrap_or(at.policy);
        self.assign(own, Source::Device);
        if let Some(user) = at.user {
            let assigned = supposed.and_then(|s| s.users.get(&user).copied());
            let assigned = assigned.unwrap_or_else(|| self.directory.user(user).and_then(|user| user.policy));
            self.assign(assigned, Source::User(user));
        }
        self.assign_groups(at);
        let default = supposed.and_then(|s| s.default);
        let default = default.unwrap_or_else(|| self.directory.default_policy(self.organization));
        self.assign(default, Source::Default);

        self.ids.clear();
        self.ids.extend(self.assignments.iter().map(|assignment| assignment.policy));
        (&self.assignments, self.policies.effective(&self.ids))
    }

    /// What the device is judged as.
    pub fn judge(&mut self, device: DeviceId, at: Circumstances, report: Report, now: Time) -> Judgement {
        let (assignments, effective) = self.resolve(device, at);
        let policy = assignments.first().map(|assignment| assignment.policy);
        Judgement { policy, compliance: effective.requirements.judge(report, now) }
    }

    /// What the device is judged as, and what is wrong or missing.
    pub fn verdict(&mut self, device: &Device, now: Time) -> (Judgement, Vec<String>) {
        let (assignments, effective) = self.resolve(device.id, Circumstances::of(device));
        let policy = assignments.first().map(|assignment| assignment.policy);
        let report = Report::of(device);
        let compliance = effective.requirements.judge(report, now);
        (Judgement { policy, compliance }, effective.requirements.reasons(report, now))
    }

    fn assign_groups(&mut self, at: Circumstances) {
        let direct = at.user.into_iter().flat_map(|user| self.directory.groups_of(user)).chain(at.group);
        self.near.clear();
        self.near.extend(direct);
        self.seen.clear();
        while !self.near.is_empty() {
            self.near.retain(|group| !self.seen.contains(group));
            let directory = self.directory;
            self.near.sort_unstable_by_key(|group| (directory.group(*group).map(|group| &*group.order), *group));
            self.near.dedup();
            self.seen.extend(&self.near);
            for place in 0..self.near.len() {
                let group = self.near[place];
                let assigned = self.supposed.and_then(|s| s.groups.get(&group).copied());
                let assigned = assigned.unwrap_or_else(|| directory.group(group).and_then(|group| group.policy));
                self.assign(assigned, Source::Group(group));
            }
            // From each to the group around it.
            for group in &mut self.near {
                *group = directory.group(*group).and_then(|facts| facts.parent).unwrap_or(*group);
            }
        }
    }

    /// A policy that is assigned twice counts where it is stronger.
    fn assign(&mut self, policy: Option<PolicyId>, source: Source) {
        let Some(policy) = policy else { return };
        let is_active = self.policies.get(policy).is_some_and(|facts| facts.active);
        if is_active && self.assignments.iter().all(|assignment| assignment.policy != policy) {
            self.assignments.push(Assignment { policy, source });
        }
    }
}
