use std::net::Ipv4Addr;
use std::ops::ControlFlow;

use super::engine::{Direction, Read};
use super::memory::Effect;
use super::tables::{
    ADDRESSES, COMMANDS, DEVICES, DEVICES_BY_TOKEN, DEVICES_OF_USER, HEARTBEATS, KeyRange, OPEN_COMMANDS,
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

/// Stores a new device together with its token and its address.
pub fn insert(tx: &mut Tx, device: Device) -> Result<(), Error> {
    tx.require_space()?;
    let key = (device.organization_id, device.id);
    tx.put(ADDRESSES, &(device.organization_id, device.vpn_ip.to_bits()), &device.id)?;
    if let Some(hash) = &device.token_hash {
        tx.put(DEVICES_BY_TOKEN, hash, &key)?;
    }
    put(tx, device)
}

pub fn put(tx: &mut Tx, device: Device) -> Result<(), Error> {
    let key = (device.organization_id, device.id);
    let owner = DEVICES.get(tx, &key)?.and_then(|before| before.user_id);
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

/// Makes the device's token worthless with this commit.
pub fn revoke_token(tx: &mut Tx, device: &mut Device) -> Result<(), Error> {
    if let Some(hash) = device.token_hash.take() {
        tx.delete(DEVICES_BY_TOKEN, &hash)?;
    }
    Ok(())
}

/// Removes the device and everything that hangs on it: token, address, heartbeat, commands.
pub fn delete(tx: &mut Tx, mut device: Device) -> Result<(), Error> {
    revoke_token(tx, &mut device)?;
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
    tx.delete(HEARTBEATS, &key)?;
    if let Some(user) = device.user_id {
        tx.delete(DEVICES_OF_USER, &(device.organization_id, user, device.id))?;
    }
    tx.delete(DEVICES, &key)?;
    tx.effect(Effect::DeviceGone(device.organization_id, device.id));
    tx.effect(Effect::Wake(device.id));
    Ok(())
}

/// A free address between `first` and `last`; `None` when all are taken.
///
/// Addresses are given out upwards, and only then from the gaps, so that a freed address rests before it is used again.
pub fn free_address(
    from: &impl Read,
    organization: OrganizationId,
    first: Ipv4Addr,
    last: Ipv4Addr,
) -> Result<Option<Ipv4Addr>, Error> {
    let (first, last) = (first.to_bits(), last.to_bits());
    let mut highest = None;
    let range = KeyRange::between(&(organization, first), &(organization, last));
    ADDRESSES.scan(from, range, Direction::Descending, |(_, used), _| {
        highest = Some(used);
        ControlFlow::Break(())
    })?;
    let free = match highest {
        None => Some(first),
        Some(highest) if highest < last => Some(highest + 1),
        Some(_) => first_gap(from, organization, first, last)?,
    };
    Ok(free.map(Into::into))
}

fn first_gap(from: &impl Read, organization: OrganizationId, first: u32, last: u32) -> Result<Option<u32>, Error> {
    let mut candidate = Some(first);
    let range = KeyRange::between(&(organization, first), &(organization, last));
    ADDRESSES.scan(from, range, Direction::Ascending, |(_, used), _| match candidate {
        Some(address) if address == used => {
            candidate = used.checked_add(1).filter(|next| *next <= last);
            ControlFlow::Continue(())
        }
        _ => ControlFlow::Break(()),
    })?;
    Ok(candidate)
}
