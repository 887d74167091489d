//! When devices were last seen and API keys last used: gathered in memory, written together.
//!
//! A commit costs a card tens of kilobytes however little it holds, so a fleet's heartbeats share a few commits an
//! hour. What a power cut costs is how recently that was, never a change of its state.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::CLOCK_FLOOR;
use super::api_keys::{self, Uses};
use super::tables::{DEVICES, HEARTBEATS, META};
use super::write::{Audited, Tx, Unaudited};
use crate::clock::Time;
use crate::error::Error;
use crate::ids::{DeviceId, OrganizationId};

pub(super) type Noted = HashMap<(OrganizationId, DeviceId), Time>;

/// At most one entry a device.
#[derive(Default)]
pub(super) struct Heartbeats(Mutex<Noted>);

impl Heartbeats {
    pub fn note(&self, organization: OrganizationId, device: DeviceId, now: Time) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert((organization, device), now);
    }

    pub fn take(&self) -> Noted {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

pub(super) fn store(tx: &mut Tx, noted: &Noted, uses: &Uses) -> Result<Audited<()>, Error> {
    // In order of the keys, so that each page is touched once.
    let mut keys: Vec<_> = noted.keys().collect();
    keys.sort_unstable();
    for key in keys {
        // A device deleted meanwhile leaves nothing behind.
        if DEVICES.contains(tx, key)? {
            tx.put(HEARTBEATS, key, &noted[key].unix())?;
        }
    }
    api_keys::store_uses(tx, uses)?;
    let now = tx.now().unix().unsigned_abs();
    tx.put(META, &CLOCK_FLOOR.into(), &now)?;
    Ok(Audited::without_entry((), Unaudited::Heartbeats))
}
