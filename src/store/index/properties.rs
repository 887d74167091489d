//! One set of slots for each property that a device can have.

use std::collections::BTreeMap;

use crate::ids::{GroupId, PolicyId, UserId};
use crate::model::device::{Compliance, Platform, Status};

use super::slots::Slots;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Property {
    Status(Status),
    Platform(Platform),
    Compliance(Compliance),
    User(UserId),
    /// The strongest policy in force.
    Policy(PolicyId),
    /// The policy assigned to the device itself.
    Assigned(PolicyId),
    /// A group that the device itself is in.
    Group(GroupId),
}

/// A property's number: devices remember their properties in 4 bytes each instead of 17.
pub(super) type Key = u32;

#[derive(Debug, Default)]
pub(super) struct Properties {
    keys: BTreeMap<Property, Key>,
    /// By key.
    sets: Vec<(Property, Slots)>,
    /// Keys that no device has, to be given out again.
    free: Vec<Key>,
}

impl Properties {
    /// The key of a property, new if need be. It holds until the last slot leaves the property.
    pub fn key(&mut self, property: Property) -> Key {
        *self.keys.entry(property).or_insert_with(|| {
            let entry = (property, Slots::default());
            match self.free.pop() {
                Some(key) => {
                    self.sets[key as usize] = entry;
                    key
                }
                None => {
                    self.sets.push(entry);
                    super::number(self.sets.len() - 1)
                }
            }
        })
    }

    pub fn of(&self, key: Key) -> Property {
        self.sets[key as usize].0
    }

    pub fn insert(&mut self, key: Key, slot: u32) {
        self.sets[key as usize].1.insert(slot);
    }

    pub fn remove(&mut self, key: Key, slot: u32) {
        let (property, slots) = &mut self.sets[key as usize];
        slots.remove(slot);
        if slots.is_empty() && self.keys.remove(property).is_some() {
            self.free.push(key);
        }
    }

    pub fn get(&self, property: Property) -> Option<&Slots> {
        self.keys.get(&property).map(|&key| &self.sets[key as usize].1)
    }

    /// Empties every set and keeps every key.
    pub fn clear(&mut self) {
        self.sets.iter_mut().for_each(|(_, slots)| *slots = Slots::default());
    }

    /// Frees the keys of properties that have no slot, and the memory kept for more of them.
    pub fn trim(&mut self) {
        self.sets.shrink_to_fit();
        let Self { keys, sets, free } = self;
        keys.retain(|_, key| {
            let used = !sets[*key as usize].1.is_empty();
            if !used {
                free.push(*key);
            }
            used
        });
    }
}

#[cfg(test)]
impl Properties {
    pub fn sizes(&self) -> Vec<(Property, u64)> {
        let spare = self.sets.len() - self.free.len();
        assert_eq!(spare, self.keys.len(), "every key is in use or free");
        self.keys.iter().map(|(&property, &key)| (property, self.sets[key as usize].1.len())).collect()
    }
}
