//! Devices that were read of late, decoded and rendered: a dashboard asks for the same ones again and again.

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::value::RawValue;

use crate::ids::{DeviceId, OrganizationId};
use crate::model::device::Device;

/// Devices that are kept, at most; one is rarely larger than 1 KiB. When there are too many, it starts anew.
const CAPACITY: usize = 1024;

/// A device as it is committed, with room for what it was last rendered as.
pub struct Known {
    device: Device,
    rendered: Mutex<Option<(u64, Arc<RawValue>)>>,
}

impl Known {
    pub fn new(device: Device) -> Arc<Self> {
        Arc::new(Self { device, rendered: Mutex::default() })
    }

    /// The device as JSON. `beside` tells apart what is shown beside the row: as long as it stays the same, so does what
    /// `render` made the last time.
    pub fn rendered(
        &self,
        beside: u64,
        render: impl FnOnce() -> serde_json::Result<Box<RawValue>>,
    ) -> serde_json::Result<Arc<RawValue>> {
        let mut rendered = self.rendered.lock().unwrap_or_else(PoisonError::into_inner);
        match &*rendered {
            Some((of, text)) if *of == beside => Ok(text.clone()),
            _ => {
                let text: Arc<RawValue> = render()?.into();
                *rendered = Some((beside, text.clone()));
                Ok(text)
            }
        }
    }
}

impl Deref for Known {
    type Target = Device;

    fn deref(&self) -> &Device {
        &self.device
    }
}

/// What it holds is what is committed: a commit that changes a device takes it out before anybody is told.
#[derive(Default)]
pub(super) struct Recent(Mutex<State>);

#[derive(Default)]
struct State {
    devices: HashMap<(OrganizationId, DeviceId), Arc<Known>>,
    /// Changes that there have ever been. What was read before one and arrives after it may be outdated.
    changes: u64,
}

/// When a reading began.
#[derive(Clone, Copy)]
pub(super) struct Began(u64);

impl Recent {
    /// Those of the devices that are known; the rest is to be read now.
    pub fn get(&self, organization: OrganizationId, ids: &[DeviceId]) -> (Vec<Option<Arc<Known>>>, Began) {
        let state = self.lock();
        let found = ids.iter().map(|id| state.devices.get(&(organization, *id)).cloned()).collect();
        (found, Began(state.changes))
    }

    /// Keeps what a reading has found, unless something changed meanwhile.
    pub fn keep(&self, began: Began, device: &Arc<Known>) {
        let mut state = self.lock();
        if state.changes != began.0 {
            return;
        }
        if state.devices.len() >= CAPACITY {
            state.devices.clear();
        }
        state.devices.insert((device.organization_id, device.id), device.clone());
    }

    pub fn changed(&self, organization: OrganizationId, id: DeviceId) {
        let mut state = self.lock();
        state.changes += 1;
        state.devices.remove(&(organization, id));
    }

    /// Drops all of an organization that is gone.
    pub fn forget(&self, organization: OrganizationId) {
        let mut state = self.lock();
        state.changes += 1;
        state.devices.retain(|(of, _), _| *of != organization);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that panics in here leaves a device behind that was not committed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::model::samples::new_device;

    fn device(number: u128) -> Arc<Known> {
        Known::new(new_device(Uuid::nil().into(), Uuid::from_u128(number).into(), None, [0; 32]))
    }

    #[test]
    fn a_change_makes_what_was_read_before_it_unknown_even_when_that_arrives_later() {
        let (recent, device) = (Recent::default(), device(1));
        let known = || recent.get(device.organization_id, &[device.id]).0[0].is_some();
        let (_, began) = recent.get(device.organization_id, &[device.id]);
        recent.keep(began, &device);
        assert!(known());
        recent.changed(device.organization_id, device.id);
        assert!(!known());
        recent.keep(began, &device);
        assert!(!known(), "a suspended device would be shown as it was, until it changes again");
    }

    #[test]
    fn memory_has_an_end_and_other_organizations_have_none_of_it() {
        let recent = Recent::default();
        let (_, began) = recent.get(Uuid::nil().into(), &[]);
        let devices: Vec<_> = (0..3 * CAPACITY as u128).map(device).collect();
        for device in &devices {
            recent.keep(began, device);
            assert!(recent.lock().devices.len() <= CAPACITY);
        }
        let last = devices[devices.len() - 1].id;
        assert!(recent.get(Uuid::nil().into(), &[last]).0[0].is_some());
        assert!(recent.get(Uuid::from_u128(9).into(), &[last]).0[0].is_none());
    }
}
