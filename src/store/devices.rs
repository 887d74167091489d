use std::net::Ipv4Addr;
use std::ops::ControlFlow;

use super::assignments::{self, Assignee};
use super::engine::{Direction, Read};
use super::memory::Effect;
use super::tables::{
    ADDRESSES, COMMANDS, DEVICES, DEVICES_BY_TOKEN, DEVICES_OF_USER, HEARTBEATS, KeyRange, LEAVING, OPEN_COMMANDS,
};
use super::write::Tx;
use crate::error::Error;
use crate::ids::{CommandId, DeviceId, OrganizationId, UserId};
use crate::model::device::Device;

pub fn get(from: &impl Read, organization: OrganizationId, id: DeviceId) -> Result<Option<Device>, Error> {
    DEVICES.get(from, &(organization, id))
}

pub fn by_token(from: &impl Read, token_hash: &[u8; 32]) -> Result<Option<Device>, Error> {
    match DEVICES_BY_TOKEN.get(from, token_hash)? {
        Some(key) => DEVICES.get(from, &key),
        None => Ok(None),
    }
}

pub fn exists(from: &impl Read, organization: OrganizationId, id: DeviceId) -> Result<bool, Error> {
    DEVICES.contains(from, &(organization, id))
}

/// Stores a new device together with its token and its address.
pub fn insert(tx: &mut Tx, device: Device) -> Result<(), Error> {
    tx.require_space()?;
    let key = (device.organization_id, device.id);
    let address = (device.organization_id, device.vpn_ip.to_bits());
    if ADDRESSES.contains(tx, &address)? {
        return Err(Error::Internal(format!("the address {} was to be given out twice", device.vpn_ip)));
    }
    tx.put(ADDRESSES, &address, &device.id)?;
    tx.addresses().take(device.organization_id, device.vpn_ip);
    if let Some(hash) = &device.token_hash {
        tx.put(DEVICES_BY_TOKEN, hash, &key)?;
    }
    put(tx, device)
}

/// Stores a device whose token and address have not changed.
pub fn put(tx: &mut Tx, device: Device) -> Result<(), Error> {
    let key = (device.organization_id, device.id);
    let before = DEVICES.get(tx, &key)?;
    let assigned = before.as_ref().and_then(|before| before.policy_id);
    assignments::follow(tx, device.organization_id, Assignee::Device(device.id), assigned, device.policy_id)?;
    let (owner, leaving) = before.map_or((None, None), |before| (before.user_id, before.leaving));
    match device.leaving {
        now if now == leaving => {}
        Some(now) => tx.put(LEAVING, &key, &now.until)?,
        None => drop(tx.delete(LEAVING, &key)?),
    }
    if owner != device.user_id {
        if let Some(before) = owner {
            tx.delete(DEVICES_OF_USER, &(device.organization_id, before, device.id))?;
        }
        if let Some(user) = device.user_id {
            tx.put(DEVICES_OF_USER, &(device.organization_id, user, device.id), &())?;
        }
    }
    tx.put(DEVICES, &key, &device)?;
    tx.effect(Effect::Device(Box::new(device)));
    Ok(())
}

/// The user's devices, oldest first.
pub fn of_user(from: &impl Read, organization: OrganizationId, user: UserId) -> Result<Vec<DeviceId>, Error> {
    let mut found = Vec::new();
    DEVICES_OF_USER.scan(from, KeyRange::prefix(&(organization, user)), Direction::Ascending, |(_, _, id), ()| {
        found.push(id);
        ControlFlow::Continue(())
    })?;
    Ok(found)
}

/// Makes the device's token and certificates worthless with this commit.
pub fn revoke_credentials(tx: &mut Tx, device: &mut Device) -> Result<(), Error> {
    (device.certificate, device.next_certificate) = (None, None);
    if let Some(hash) = device.token_hash.take() {
        tx.delete(DEVICES_BY_TOKEN, &hash)?;
    }
    Ok(())
}

/// Removes the device and everything that hangs on it: token, address, heartbeat, commands.
pub fn delete(tx: &mut Tx, mut device: Device) -> Result<(), Error> {
    revoke_credentials(tx, &mut device)?;
    assignments::follow(tx, device.organization_id, Assignee::Device(device.id), device.policy_id, None)?;
    let key = (device.organization_id, device.id);
    let mut commands: Vec<CommandId> = Vec::new();
    COMMANDS.scan(tx, KeyRange::prefix(&key), Direction::Ascending, |(_, _, id), _| {
        commands.push(id);
        ControlFlow::Continue(())
    })?;
    for id in commands {
        let key = (device.organization_id, device.id, id);
        tx.delete(COMMANDS, &key)?;
        tx.delete(OPEN_COMMANDS, &key)?;
    }
    tx.delete(ADDRESSES, &(device.organization_id, device.vpn_ip.to_bits()))?;
    tx.addresses().give_back(device.organization_id, device.vpn_ip);
    tx.delete(HEARTBEATS, &key)?;
    tx.delete(LEAVING, &key)?;
    if let Some(user) = device.user_id {
        tx.delete(DEVICES_OF_USER, &(device.organization_id, user, device.id))?;
    }
    tx.delete(DEVICES, &key)?;
    tx.effect(Effect::DeviceGone(device.organization_id, device.id));
    tx.effect(Effect::Wake(device.id));
    Ok(())
}

/// A free address between `first` and `last` for a device that [`insert`] stores next; `None` when all are in use.
pub fn free_address(
    tx: &mut Tx,
    organization: OrganizationId,
    first: Ipv4Addr,
    last: Ipv4Addr,
) -> Result<Option<Ipv4Addr>, Error> {
    tx.free_address(organization, first, last)
}
