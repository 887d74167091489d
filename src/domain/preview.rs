//! What a change to a policy would do to real devices, before it is made.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde_json::Value;

use super::Services;
use super::assignments::Targets;
use super::authz::Permission;
use super::op::Op;
use super::policies::{check_extends, checked, find};
use crate::clock::Time;
use crate::error::Error;
use crate::ids::{DeviceId, OrganizationId, PolicyId};
use crate::model::device::Compliance;
use crate::model::policy::{Policy, PolicyContent};
use crate::store::devices;
use crate::store::memory::{self, Memory};
use crate::store::resolution::{Effective, Policies, PolicyFacts, Resolver, Supposed};

/// Devices looked at while memory is held, so that nobody waits for a whole fleet.
const STEP: usize = 4096;
/// Ways in which settings change that one answer lists, at most.
const LISTED: usize = 500;

/// A change that is not made yet.
#[derive(Clone, Debug, Default)]
pub struct Proposal {
    /// The policy as it would be; `None`: as it is.
    pub content: Option<PolicyContent>,
    pub assign: Targets,
    pub unassign: Targets,
}

/// Which of the devices to show.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// Only those that would fall out of compliance.
    pub falling_out: bool,
    pub offset: u64,
    pub limit: usize,
}

/// A setting that would change; `None` where it is not set.
#[derive(Clone, Debug, PartialEq)]
pub struct SettingChange {
    pub path: Arc<str>,
    pub before: Option<Value>,
    pub after: Option<Value>,
}

pub struct ChangedDevice {
    pub id: DeviceId,
    pub name: String,
    pub settings: Vec<SettingChange>,
    pub compliance_before: Compliance,
    pub compliance_after: Compliance,
    /// What would be wrong, or is not reported.
    pub reasons: Vec<String>,
}

pub struct Preview {
    /// All devices of the organization.
    pub devices: u64,
    /// Those for which a setting would change.
    pub changed: u64,
    pub falling_out: u64,
    /// How many devices would be judged as what, among all.
    pub compliance: BTreeMap<Compliance, (u64, u64)>,
    /// Each way in which a setting would change, with the number of devices; the most frequent first.
    pub settings: Vec<(SettingChange, u64)>,
    /// How many devices the window is over, and those in it.
    pub matching: u64,
    pub examples: Vec<ChangedDevice>,
}

impl Services {
    pub async fn preview_policy(
        &self,
        op: &Op,
        id: PolicyId,
        mut proposal: Proposal,
        window: Window,
    ) -> Result<Preview, Error> {
        let organization = op.organization_id()?;
        let policy = find(&self.store.snapshot()?, organization, id)?;
        if let Some(content) = proposal.content.take() {
            proposal.content = Some(checked(content).await.map_err(in_policy)?);
        }
        {
            // What saving would refuse has no effect to show.
            let snapshot = self.store.snapshot()?;
            if let Some(content) = &proposal.content {
                check_extends(&snapshot, organization, id, content).map_err(in_policy)?;
            }
            proposal.assign.assignees(&snapshot, organization, "assign.")?;
            proposal.unassign.assignees(&snapshot, organization, "unassign.")?;
        }
        // Counts are about the policy; which devices they are, is for those who may see devices.
        let limit = if op.may(Permission::DevicesView) { window.limit } else { 0 };
        let window = Window { limit, ..window };
        let (memory, now) = (self.store.memory().clone(), op.now);
        let turn = self.surveys.clone().acquire_owned().await.map_err(Error::internal)?;
        let work = move || {
            // Kept to the end, also when nobody waits for the answer any more.
            let _turn = turn;
            survey(&memory, organization, &policy, &proposal, window, now)
        };
        let (mut preview, shown) = tokio::task::spawn_blocking(work).await.map_err(Error::internal)?;
        let snapshot = self.store.snapshot()?;
        for mut device in shown {
            if let Some(row) = devices::get(&snapshot, organization, device.id)? {
                device.name = row.device_name;
                preview.examples.push(device);
            }
        }
        Ok(preview)
    }
}

/// What is wrong with the proposed policy, by its place in the proposal.
fn in_policy(error: Error) -> Error {
    match error {
        Error::Invalid(mut errors) => {
            errors.iter_mut().for_each(|error| error.field.insert_str(0, "policy."));
            Error::Invalid(errors)
        }
        error => error,
    }
}

fn survey(
    memory: &Memory,
    organization: OrganizationId,
    policy: &Policy,
    proposal: &Proposal,
    window: Window,
    now: Time,
) -> (Preview, Vec<ChangedDevice>) {
    let mut supposed = Supposed::default();
    let policies = suppose(memory, policy, proposal, &mut supposed);
    let mut changes = Changes::default();
    let mut preview = Preview {
        devices: 0,
        changed: 0,
        falling_out: 0,
        compliance: Compliance::ALL.iter().map(|one| (*one, (0, 0))).collect(),
        settings: Vec::new(),
        matching: 0,
        examples: Vec::new(),
    };
    let mut shown = Vec::new();
    let fleet = memory.fleet(organization);
    let mut after = None;
    loop {
        let fleet = memory::read(&fleet);
        let directory = memory.directory();
        let mut as_is = Resolver::new(&directory, organization);
        let mut to_be = Resolver::supposing(&directory, organization, &policies, Some(&supposed));
        let mut looked = 0;
        for (id, circumstances, report, _) in fleet.judged_after(after).take(STEP) {
            looked += 1;
            after = Some(id);
            let old = as_is.resolve(id, circumstances).1;
            let new = to_be.resolve(id, circumstances).1;
            let (was, will_be) = (old.requirements.judge(report, now), new.requirements.judge(report, now));
            preview.devices += 1;
            preview.compliance.entry(was).or_default().0 += 1;
            preview.compliance.entry(will_be).or_default().1 += 1;
            if old.fingerprint == new.fingerprint {
                continue;
            }
            preview.changed += 1;
            let falls_out = will_be == Compliance::NonCompliant && was != will_be;
            preview.falling_out += u64::from(falls_out);
            let settings = changes.count(&old, &new);
            if window.falling_out && !falls_out {
                continue;
            }
            if preview.matching >= window.offset && shown.len() < window.limit {
                shown.push(ChangedDevice {
                    id,
                    name: String::new(),
                    settings: settings.to_vec(),
                    compliance_before: was,
                    compliance_after: will_be,
                    reasons: new.requirements.reasons(report, now),
                });
            }
            preview.matching += 1;
        }
        if looked < STEP {
            break;
        }
    }
    preview.settings = changes.summary();
    (preview, shown)
}

/// The policies as they would be; the assignments go into `supposed`.
fn suppose(memory: &Memory, policy: &Policy, proposal: &Proposal, supposed: &mut Supposed) -> Policies {
    let fleet = memory.fleet(policy.organization_id);
    let fleet = memory::read(&fleet);
    let directory = memory.directory();
    let mut policies = directory.policies().clone();
    if let Some(content) = &proposal.content {
        let changed = Policy { content: content.clone(), version: policy.version + 1, ..policy.clone() };
        policies.put(policy.id, PolicyFacts::of(&changed));
    }
    let has = |assigned: Option<PolicyId>| assigned == Some(policy.id);
    let unassign = &proposal.unassign;
    let mut taken = Targets { default: unassign.default, ..Targets::default() };
    taken.default &= has(directory.default_policy(policy.organization_id));
    let own = |id: &DeviceId| fleet.circumstances(*id).and_then(|(circumstances, _)| circumstances.policy);
    taken.devices = unassign.devices.iter().copied().filter(|id| has(own(id))).collect();
    let of_user = |id| directory.user(id).and_then(|user| user.policy);
    taken.users = unassign.users.iter().copied().filter(|id| has(of_user(*id))).collect();
    let of_group = |id| directory.group(id).and_then(|group| group.policy);
    taken.groups = unassign.groups.iter().copied().filter(|id| has(of_group(*id))).collect();
    taken.suppose(None, supposed);
    proposal.assign.suppose(Some(policy.id), supposed);
    policies
}

/// Ways in which settings change, each worked out once however many devices it happens to.
#[derive(Default)]
struct Changes(HashMap<(u128, u128), Change>);

/// The settings that change, and for how many devices.
struct Change {
    settings: Arc<[SettingChange]>,
    devices: u64,
}

impl Changes {
    fn count(&mut self, old: &Effective, new: &Effective) -> Arc<[SettingChange]> {
        let key = (old.fingerprint, new.fingerprint);
        let change = self.0.entry(key).or_insert_with(|| Change { settings: differences(old, new).into(), devices: 0 });
        change.devices += 1;
        change.settings.clone()
    }

    fn summary(self) -> Vec<(SettingChange, u64)> {
        let mut counts: Vec<(SettingChange, u64)> = Vec::new();
        let mut places: HashMap<String, usize> = HashMap::new();
        for Change { settings, devices } in self.0.into_values() {
            for setting in settings.iter() {
                let key = format!("{} {:?} {:?}", setting.path, setting.before, setting.after);
                let place = *places.entry(key).or_insert_with(|| {
                    counts.push((setting.clone(), 0));
                    counts.len() - 1
                });
                counts[place].1 += devices;
            }
        }
        counts.sort_by(|(a, many), (b, more)| more.cmp(many).then_with(|| a.path.cmp(&b.path)));
        counts.truncate(LISTED);
        counts
    }
}

fn differences(old: &Effective, new: &Effective) -> Vec<SettingChange> {
    let mut paths: Vec<&Arc<str>> = old.settings.keys().chain(new.settings.keys()).collect();
    paths.sort_unstable();
    paths.dedup();
    let value = |of: &Effective, path: &Arc<str>| of.settings.get(path).map(|resolved| resolved.value.clone());
    let changes = paths.into_iter().map(|path| SettingChange {
        path: path.clone(),
        before: value(old, path),
        after: value(new, path),
    });
    changes.filter(|change| change.before != change.after).collect()
}
