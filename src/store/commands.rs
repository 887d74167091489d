use std::ops::ControlFlow;

use super::engine::{Direction, Read};
use super::memory::Effect;
use super::tables::{COMMANDS, KeyRange, OPEN_COMMANDS, WIPE_INTENTS};
use super::write::Tx;
use crate::clock::Time;
use crate::error::Error;
use crate::ids::{CommandId, DeviceId, OrganizationId};
use crate::model::command::{Command, CommandType, WipeIntent};

type Key = (OrganizationId, DeviceId, CommandId);

/// Commands looked at in one go.
const PART: usize = 5_000;

pub fn get(
    from: &impl Read,
    organization: OrganizationId,
    device: DeviceId,
    id: CommandId,
) -> Result<Option<Command>, Error> {
    COMMANDS.get(from, &(organization, device, id))
}

/// Stores a command, new or changed, and wakes the device when there is something new for it.
pub fn put(tx: &mut Tx, command: &Command) -> Result<(), Error> {
    let key = (command.organization_id, command.device_id, command.id);
    if command.status.is_open() {
        tx.put(OPEN_COMMANDS, &key, &())?;
    } else {
        tx.delete(OPEN_COMMANDS, &key)?;
    }
    tx.put(COMMANDS, &key, command)?;
    tx.effect(Effect::Wake(command.device_id));
    Ok(())
}

/// The commands that wait for the device's word, oldest first.
pub fn open(from: &impl Read, organization: OrganizationId, device: DeviceId) -> Result<Vec<Command>, Error> {
    let mut ids: Vec<CommandId> = Vec::new();
    OPEN_COMMANDS.scan(from, KeyRange::prefix(&(organization, device)), Direction::Ascending, |(_, _, id), ()| {
        ids.push(id);
        ControlFlow::Continue(())
    })?;
    let found = ids.into_iter().map(|id| COMMANDS.get(from, &(organization, device, id)));
    Ok(found.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
}

/// The device's latest wipe.
pub fn last_wipe(from: &impl Read, organization: OrganizationId, device: DeviceId) -> Result<Option<Command>, Error> {
    let mut found = None;
    COMMANDS.scan(from, KeyRange::prefix(&(organization, device)), Direction::Descending, |_, command| {
        if command.kind != CommandType::Wipe {
            return ControlFlow::Continue(());
        }
        found = Some(command);
        ControlFlow::Break(())
    })?;
    Ok(found)
}

/// All commands of a device, newest first: their number, and the part from `offset` on.
pub fn page(
    from: &impl Read,
    organization: OrganizationId,
    device: DeviceId,
    offset: u64,
    limit: usize,
) -> Result<(u64, Vec<Command>), Error> {
    COMMANDS.page(from, KeyRange::prefix(&(organization, device)), Direction::Descending, offset, limit)
}

/// Keys of open commands of all organizations after `after`, for the task that lets them expire.
pub fn open_after(from: &impl Read, after: Option<Key>, limit: usize) -> Result<Vec<Key>, Error> {
    let range = after.map_or_else(KeyRange::all, |key| KeyRange::all().after(&key));
    let mut keys = Vec::new();
    OPEN_COMMANDS.scan(from, range, Direction::Ascending, |key, ()| {
        keys.push(key);
        if keys.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    Ok(keys)
}

/// Where a search for commands that may go has come to: the last key, and how many of its device's stay so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Place {
    after: Option<Key>,
    ended: u64,
}

/// Looks on from `place` at a part of all commands, each device's newest first: those that ended before `cutoff`, or
/// after which the device has `most` newer ones. Wipes stay, as proof, for as long as their device does. `None` for the
/// place when that was all.
pub fn superseded(
    from: &impl Read,
    mut place: Place,
    cutoff: Time,
    most: u64,
) -> Result<(Vec<Key>, Option<Place>), Error> {
    let range = place.after.map_or_else(KeyRange::all, |key| KeyRange::all().before(&key));
    let (mut found, mut seen) = (Vec::new(), 0);
    COMMANDS.scan(from, range, Direction::Descending, |key, command| {
        if place.after.is_none_or(|(organization, device, _)| (organization, device) != (key.0, key.1)) {
            place.ended = 0;
        }
        place.after = Some(key);
        seen += 1;
        if command.kind != CommandType::Wipe
            && let Some(end) = command.completed_at.filter(|_| !command.status.is_open())
        {
            place.ended += u64::from(end >= cutoff);
            if end < cutoff || place.ended > most {
                found.push(key);
            }
        }
        if seen < PART { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    Ok((found, (seen == PART).then_some(place)))
}

pub fn forget(tx: &mut Tx, keys: &[Key]) -> Result<(), Error> {
    keys.iter().try_for_each(|key| tx.delete(COMMANDS, key).map(drop))
}

pub fn put_wipe_intent(
    tx: &mut Tx,
    organization: OrganizationId,
    serial: &str,
    intent: &WipeIntent,
) -> Result<(), Error> {
    tx.put(WIPE_INTENTS, &(organization, serial.to_lowercase()), intent)
}

/// The wipe that waits for this serial number, no longer waiting from this commit on.
pub fn take_wipe_intent(tx: &mut Tx, organization: OrganizationId, serial: &str) -> Result<Option<WipeIntent>, Error> {
    let key = (organization, serial.to_lowercase());
    let intent = tx.get(WIPE_INTENTS, &key)?;
    if intent.is_some() {
        tx.delete(WIPE_INTENTS, &key)?;
    }
    Ok(intent)
}
