//! What people have asked for under the GDPR, and what is kept of those who asked to be erased.

use serde::{Deserialize, Serialize};

use super::named_values;
use crate::clock::Time;
use crate::ids::{DeviceId, ErasureId, OrganizationId, UserId};

named_values! {
    /// What a person objects to (article 21).
    pub enum Purpose {
        /// Being counted in statistics.
        Analytics = "analytics",
        /// Mails other than those about the own account's security.
        Notifications = "notifications",
        /// A history of how the person's devices have been judged.
        Profiling = "profiling",
    }
}

/// The person's data is kept, but not processed (article 18).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Restriction {
    pub since: Time,
    pub reason: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Objection {
    pub purpose: Purpose,
    pub since: Time,
    pub reason: Option<String>,
}

/// What a person has asked for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Privacy {
    pub restriction: Option<Restriction>,
    /// One a purpose at most, the oldest first.
    pub objections: Vec<Objection>,
}

impl Privacy {
    pub fn is_restricted(&self) -> bool {
        self.restriction.is_some()
    }

    pub fn objects_to(&self, purpose: Purpose) -> bool {
        self.objections.iter().any(|objection| objection.purpose == purpose)
    }
}

/// That a person was erased (article 17): what a restored backup has to do again. Names nobody.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Erasure {
    pub id: ErasureId,
    pub organization_id: OrganizationId,
    pub user_id: UserId,
    pub erased_at: Time,
    pub devices: Vec<ErasedDevice>,
    pub sessions_ended: u64,
    pub api_keys_ended: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ErasedDevice {
    pub id: DeviceId,
    pub wipe: ErasedWipe,
}

named_values! {
    /// How far the wipe of an erased person's device has got.
    pub enum ErasedWipe {
        /// The device stays enrolled, owned by nobody, until it has fetched and confirmed its wipe.
        Requested = "requested",
        /// The device has said that it is wiped.
        Confirmed = "confirmed",
        /// Unenrolled without its word; whoever enrols under its serial number gets the wipe first.
        WaitingForSerial = "waiting for serial",
        /// Unenrolled without its word, and nothing is known to find it by.
        NotReachable = "not reachable",
    }
}

/// The device of an erased person stays only to be wiped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leaving {
    pub erasure_id: ErasureId,
    /// When it is unenrolled even without its word.
    pub until: Time,
}
