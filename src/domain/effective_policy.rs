//! What holds for one device, and why.

use std::sync::Arc;

use super::Services;
use super::authz::Permission;
use super::devices::in_scope;
use super::op::Op;
use crate::error::Error;
use crate::ids::{DeviceId, PolicyId};
use crate::model::device::Device;
use crate::store::memory::Directory;
use crate::store::resolution::{Circumstances, Effective, Resolver};

pub use crate::store::resolution::Source;

pub struct EffectivePolicy {
    pub device: DeviceId,
    /// The policies that reach the device, the strongest first.
    pub assignments: Vec<NamedAssignment>,
    pub effective: Arc<Effective>,
    /// Names of the policies that settings are from, the extended ones included.
    pub names: Vec<(PolicyId, Arc<str>)>,
}

pub struct NamedAssignment {
    pub policy: PolicyId,
    pub name: Arc<str>,
    pub version: u64,
    pub source: Source,
    /// The name of the user or the group; `None` for the others, which need none.
    pub source_name: Option<Arc<str>>,
}

impl EffectivePolicy {
    pub fn name_of(&self, policy: PolicyId) -> &str {
        self.names.iter().find(|(id, _)| *id == policy).map_or("", |(_, name)| name)
    }
}

impl Services {
    pub fn effective_policy(&self, op: &Op, id: DeviceId) -> Result<EffectivePolicy, Error> {
        let device = in_scope(&self.store.snapshot()?, op, Permission::DevicesView, id)?;
        Ok(self.effective_policy_of(&device))
    }

    pub(super) fn effective_policy_of(&self, device: &Device) -> EffectivePolicy {
        let directory = self.store.memory().directory();
        let mut resolver = Resolver::new(&directory, device.organization_id);
        let (assignments, effective) = resolver.resolve(device.id, Circumstances::of(device));
        let assignments = assignments.iter().map(|assignment| {
            let facts = directory.policies().get(assignment.policy);
            NamedAssignment {
                policy: assignment.policy,
                name: facts.map(|facts| facts.name.clone()).unwrap_or_default(),
                version: facts.map_or(0, |facts| facts.version),
                source: assignment.source,
                source_name: name_of(&directory, assignment.source),
            }
        });
        let assignments = assignments.collect();
        let mut policies: Vec<PolicyId> = effective.settings.values().map(|resolved| resolved.policy).collect();
        policies.sort_unstable();
        policies.dedup();
        let named = |id: PolicyId| directory.policies().get(id).map(|facts| (id, facts.name.clone()));
        let names = policies.into_iter().filter_map(named).collect();
        EffectivePolicy { device: device.id, assignments, effective, names }
    }
}

fn name_of(directory: &Directory, source: Source) -> Option<Arc<str>> {
    match source {
        Source::User(user) => directory.user(user).map(|user| user.name.clone()),
        Source::Group(group) => directory.group(group).map(|group| group.name.clone()),
        Source::Device | Source::Default => None,
    }
}
