//! What a list of devices is asked for.

use crate::ids::{DeviceId, GroupId, PolicyId, UserId};
use crate::model::device::{Compliance, Platform, Status};

use super::properties::Property;

/// Which devices. Values of one kind are alternatives, kinds narrow each other; an empty kind does not narrow.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    pub statuses: Vec<Status>,
    pub platforms: Vec<Platform>,
    pub compliances: Vec<Compliance>,
    pub users: Vec<UserId>,
    /// Devices of these users do not match, whatever else does.
    pub without_users: Vec<UserId>,
    pub policies: Vec<PolicyId>,
    pub groups: Vec<GroupId>,
    /// Users in the groups, whose devices count as the groups' own.
    pub members: Vec<UserId>,
    /// Part of the name, the hostname or the serial number, in whatever case. Empty text is part of everything.
    pub text: String,
}

impl Filter {
    /// The kinds that narrow, each as its alternatives.
    pub(super) fn kinds(&self) -> impl Iterator<Item = Vec<Property>> {
        fn kind<T: Copy>(values: &[T], property: fn(T) -> Property) -> Vec<Property> {
            values.iter().copied().map(property).collect()
        }
        let mut groups = kind(&self.groups, Property::Group);
        groups.extend(self.members.iter().copied().map(Property::User));
        [
            kind(&self.statuses, Property::Status),
            kind(&self.platforms, Property::Platform),
            kind(&self.compliances, Property::Compliance),
            kind(&self.users, Property::User),
            kind(&self.policies, Property::Policy),
            groups,
        ]
        .into_iter()
        .filter(|alternatives| !alternatives.is_empty())
    }
}

/// What a list is ordered by. Equal values are ordered by id, so that the pages of an unchanged fleet never repeat or
/// skip a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SortKey {
    /// The time in the device's id.
    CreatedAt,
    /// A device never seen comes before all others.
    LastSeen,
    /// Lower-cased, by code points.
    DeviceName,
}

/// `descending` is the exact reverse of ascending. The default is newest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sort {
    pub key: SortKey,
    pub descending: bool,
}

impl Default for Sort {
    fn default() -> Self {
        Self { key: SortKey::CreatedAt, descending: true }
    }
}

/// Some of the devices that match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// How many match in all.
    pub total: u64,
    /// Empty past the end.
    pub ids: Vec<DeviceId>,
}
