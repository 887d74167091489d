//! Resolution against a naive model, which follows the rules as they are written and keeps nothing ready.

use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};
use uuid::Uuid;

use super::*;
use crate::clock::Time;
use crate::model::group::Group;
use crate::model::organization::{Organization, Tier};
use crate::model::policy::PolicyContent;
use crate::model::role::{Role, RoleRef};
use crate::model::user::{User, UserStatus};
use crate::store::memory::{Effect, Memory};

const NOW: Time = Time::from_unix(1_800_000_000);
const POLICIES: u128 = 6;
const GROUPS: u128 = 6;

fn id<T: From<Uuid>>(n: u128) -> T {
    T::from(Uuid::from_u128(n + 1))
}

#[derive(Clone, Debug)]
struct World {
    /// Settings, what it extends (a policy with a smaller number), whether it is active.
    policies: Vec<(Value, Option<u128>, bool)>,
    /// Name, the group around it (one with a smaller number), policy.
    groups: Vec<(String, Option<u128>, Option<u128>)>,
    memberships: BTreeSet<u128>,
    user: Option<Option<u128>>,
    device: Option<u128>,
    device_group: Option<u128>,
    default: Option<u128>,
}

fn some_settings() -> impl Strategy<Value = Value> {
    let setting = (select(vec!["allowed", "audit_only"]), any::<bool>());
    let passcode = option::of(1..20u32);
    (vec(setting, 0..3), passcode).prop_map(|(usb, length)| {
        let usb: serde_json::Map<String, Value> = usb.into_iter().map(|(name, on)| (name.into(), on.into())).collect();
        match length {
            Some(length) => json!({"usb": usb, "compliance": {"passcode_min_length": length}}),
            None => json!({"usb": usb}),
        }
    })
}

fn some_world() -> impl Strategy<Value = World> {
    let policy = (some_settings(), option::of(0..POLICIES), prop::bool::weighted(0.8));
    let group = (select(vec!["a", "B", "c", "Ä"]), option::of(0..GROUPS), option::of(0..POLICIES));
    let memberships = prop::collection::btree_set(0..GROUPS, 0..4);
    let user = option::of(option::of(0..POLICIES));
    let rest = (option::of(0..POLICIES), option::of(0..GROUPS), option::of(0..POLICIES));
    let worlds = (vec(policy, POLICIES as usize), vec(group, GROUPS as usize), memberships, user, rest);
    worlds.prop_map(|(policies, groups, memberships, user, (device, device_group, default))| World {
        policies: numbered(policies)
            .map(|(at, (data, extends, active))| (data, extends.filter(|to| *to < at), active))
            .collect(),
        groups: numbered(groups)
            .map(|(at, (name, parent, policy))| (format!("{name}{at}"), parent.filter(|to| *to < at), policy))
            .collect(),
        memberships,
        user,
        device,
        device_group,
        default,
    })
}

fn numbered<T>(list: Vec<T>) -> impl Iterator<Item = (u128, T)> {
    list.into_iter().enumerate().map(|(at, item)| (at as u128, item))
}

impl World {
    /// The numbers of the policies that reach the device, the strongest first.
    fn reaching(&self) -> Vec<u128> {
        let mut found: Vec<u128> = self.device.into_iter().collect();
        let mut distances: BTreeMap<u128, usize> = BTreeMap::new();
        let direct = self.user.iter().flat_map(|_| self.memberships.iter().copied()).chain(self.device_group);
        for group in direct {
            let (mut at, mut distance) = (Some(group), 0);
            while let Some(group) = at {
                let nearest = distances.entry(group).or_insert(distance);
                *nearest = (*nearest).min(distance);
                at = self.groups[group as usize].1;
                distance += 1;
            }
        }
        found.extend(self.user.flatten());
        let mut groups: Vec<(usize, String, u128)> = distances
            .into_iter()
            .map(|(group, distance)| (distance, self.groups[group as usize].0.to_lowercase(), group))
            .collect();
        groups.sort();
        found.extend(groups.into_iter().filter_map(|(_, _, group)| self.groups[group as usize].2));
        found.extend(self.default);
        let mut once = Vec::new();
        for policy in found.into_iter().filter(|policy| self.policies[*policy as usize].2) {
            if !once.contains(&policy) {
                once.push(policy);
            }
        }
        once
    }

    /// Each setting with the policy that says so.
    fn settings(&self) -> BTreeMap<String, (Value, u128)> {
        let mut merged = BTreeMap::new();
        // The weakest first, each overlaid by the stronger ones.
        for assigned in self.reaching().into_iter().rev() {
            let mut lineage = vec![assigned];
            while let Some(base) = self.policies[*lineage.last().unwrap() as usize].1 {
                lineage.push(base);
            }
            for policy in lineage.into_iter().rev() {
                for (section, settings) in self.policies[policy as usize].0.as_object().unwrap() {
                    for (name, value) in settings.as_object().unwrap() {
                        merged.insert(format!("{section}.{name}"), (value.clone(), policy));
                    }
                }
            }
        }
        merged
    }

    fn memory(&self) -> Memory {
        let memory = Memory::default();
        let organization_id = id(0);
        let mut effects = vec![Effect::Organization(Organization {
            id: organization_id,
            name: "Acme".into(),
            tier: Tier::Standard,
            default_policy_id: self.default.map(id),
            created_at: NOW,
            updated_at: NOW,
            revision: 1,
        })];
        for (at, (data, extends, active)) in numbered(self.policies.clone()) {
            let content = PolicyContent {
                name: format!("policy {at}"),
                description: String::new(),
                policy_data: serde_json::from_value(data).unwrap(),
                extends: extends.map(id),
                active,
            };
            let policy = Policy { id: id(at), organization_id, content, version: 1, created_at: NOW, updated_at: NOW };
            effects.push(Effect::Policy(Box::new(policy)));
        }
        for (at, (name, parent, policy)) in numbered(self.groups.clone()) {
            effects.push(Effect::Group(Group {
                id: id(at),
                organization_id,
                name,
                parent_id: parent.map(id),
                policy_id: policy.map(id),
                created_at: NOW,
                updated_at: NOW,
                revision: 1,
            }));
        }
        if let Some(policy) = self.user {
            effects.push(Effect::User(User {
                id: id(0),
                organization_id,
                email: "a@acme.example".into(),
                name: "A".into(),
                role: RoleRef::BuiltIn(Role::User),
                status: UserStatus::Active,
                password_hash: None,
                policy_id: policy.map(id),
                last_login: None,
                created_at: NOW,
                updated_at: NOW,
                revision: 1,
            }));
            effects.extend(self.memberships.iter().map(|group| Effect::Joined(id(*group), id(0))));
        }
        memory.apply(effects, NOW);
        memory
    }

    fn circumstances(&self) -> Circumstances {
        Circumstances { policy: self.device.map(id), user: self.user.map(|_| id(0)), group: self.device_group.map(id) }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// A device that blocks USB although the policy nearest to it allows it.
    #[test]
    fn settings_and_where_they_come_from_are_those_of_the_rules(world in some_world()) {
        let memory = world.memory();
        let directory = memory.directory();
        let mut resolver = Resolver::new(&directory, id(0));
        let (assignments, effective) = resolver.resolve(id(0), world.circumstances());
        let reaching: Vec<PolicyId> = assignments.iter().map(|assignment| assignment.policy).collect();
        prop_assert_eq!(&reaching, &world.reaching().into_iter().map(id).collect::<Vec<PolicyId>>());
        let resolved: BTreeMap<String, (Value, PolicyId)> = effective
            .settings
            .iter()
            .map(|(path, resolved)| (path.to_string(), (resolved.value.clone(), resolved.policy)))
            .collect();
        let expected: BTreeMap<String, (Value, PolicyId)> =
            world.settings().into_iter().map(|(path, (value, policy))| (path, (value, id(policy)))).collect();
        prop_assert_eq!(resolved, expected);
    }

    /// A device that fetches settings it already has, or worse, keeps settings that have changed.
    #[test]
    fn the_fingerprint_changes_exactly_when_a_setting_does(one in some_world(), other in some_world()) {
        let values = |world: &World| -> BTreeMap<String, Value> {
            world.settings().into_iter().map(|(path, (value, _))| (path, value)).collect()
        };
        let fingerprint = |world: &World| {
            let memory = world.memory();
            let directory = memory.directory();
            Resolver::new(&directory, id(0)).resolve(id(0), world.circumstances()).1.fingerprint
        };
        prop_assert_eq!(values(&one) == values(&other), fingerprint(&one) == fingerprint(&other));
    }
}

#[test]
fn versions_compare_by_their_numbers_and_whatever_is_around_them() {
    let version = |text| OsVersion::parse(text);
    assert!(version("14.10") > version("14.9"));
    assert!(version("Ubuntu 24.04.1 LTS") > version("24.04"));
    assert!(version("10.0.22631") > version("10.0.19045"));
    assert_eq!(version("Debian GNU/Linux 12 (bookworm)"), version("12"));
    assert_eq!(version("rolling"), None);
}
