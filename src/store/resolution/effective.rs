//! One set of settings out of many policies.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use ring::digest;
use serde_json::Value;

use super::compliance::Requirements;
use crate::ids::PolicyId;

/// The settings of one policy, by path: `usb.allowed`.
pub type Settings = BTreeMap<Arc<str>, Value>;

/// The settings in a policy's data, which has them in sections.
pub fn settings(policy_data: &Value) -> Settings {
    let sections = policy_data.as_object().into_iter().flatten();
    let settings = sections.flat_map(|(section, settings)| {
        let settings = settings.as_object().into_iter().flatten();
        settings.filter(|(_, value)| !value.is_null()).map(move |(name, value)| {
            let path: Arc<str> = format!("{section}.{name}").into();
            (path, value.clone())
        })
    });
    settings.collect()
}

/// A setting in force.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolved {
    pub value: Value,
    /// Which of the device's assignments brought it, the strongest being 0.
    pub assignment: usize,
    /// The policy that says so: the assigned one, or one that it extends.
    pub policy: PolicyId,
}

/// What holds for all devices with the same policies in the same order.
#[derive(Debug, Default)]
pub struct Effective {
    pub settings: BTreeMap<Arc<str>, Resolved>,
    /// Tells apart settings in force, and nothing else: it changes exactly when one of them does.
    pub fingerprint: u128,
    pub requirements: Requirements,
}

impl Effective {
    /// `layers` come the strongest first, each with the assignment and the policy that it is from. What is set first
    /// stays.
    pub fn overlay<'a>(layers: impl Iterator<Item = (usize, PolicyId, &'a Settings)>) -> Self {
        let mut merged: BTreeMap<Arc<str>, Resolved> = BTreeMap::new();
        for (assignment, policy, settings) in layers {
            for (path, value) in settings {
                if let Entry::Vacant(place) = merged.entry(path.clone()) {
                    place.insert(Resolved { value: value.clone(), assignment, policy });
                }
            }
        }
        let requirements = Requirements::of(|path| merged.get(path).map(|resolved| &resolved.value));
        Self { fingerprint: fingerprint(&merged), requirements, settings: merged }
    }
}

fn fingerprint(settings: &BTreeMap<Arc<str>, Resolved>) -> u128 {
    let mut context = digest::Context::new(&digest::SHA256);
    for (path, resolved) in settings {
        // Lengths go along, so that no two different lists of settings are the same bytes.
        for part in [path.as_bytes(), resolved.value.to_string().as_bytes()] {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
    }
    let mut first = [0; 16];
    first.copy_from_slice(&context.finish().as_ref()[..16]);
    u128::from_be_bytes(first)
}
