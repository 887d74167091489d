//! The ledger of commands. A command is what the device last said of it, and nothing better.

use std::time::Duration;

use super::Services;
use super::authz::Permission;
use super::devices::{self, find, in_scope, save, status_event};
use super::op::Op;
use crate::error::Error;
use crate::ids::{CommandId, DeviceId};
use crate::model::audit::Actor;
use crate::model::command::{Command, CommandStatus, CommandType, WipeIntent};
use crate::model::device::{Device, Status};
use crate::store::audit::AuditEvent;
use crate::store::commands;
use crate::store::devices::revoke_credentials;
use crate::store::write::{Audited, Tx, Unaudited};

impl CommandType {
    const fn action(self) -> &'static str {
        match self {
            Self::Wipe => "device.wipe",
            Self::Lock => "device.lock",
            Self::Unlock => "device.unlock",
        }
    }

    /// Who may give it. A wipe destroys, so it takes as much as a deletion.
    pub(super) const fn permission(self) -> Permission {
        match self {
            Self::Wipe => Permission::DevicesDelete,
            Self::Lock | Self::Unlock => Permission::DevicesActions,
        }
    }
}

impl Services {
    pub async fn command(&self, op: &Op, id: DeviceId, kind: CommandType, force: bool) -> Result<Command, Error> {
        let (by, life) = (op.clone(), self.config.devices.command_life);
        self.store
            .write(op.stamp(), move |tx| {
                let device = in_scope(tx, &by, kind.permission(), id)?;
                if force || kind == CommandType::Unlock {
                    by.require(kind.permission())?;
                }
                give(tx, device, kind, force, life)
            })
            .await
    }

    pub fn commands(&self, op: &Op, id: DeviceId, offset: u64, limit: usize) -> Result<(u64, Vec<Command>), Error> {
        let snapshot = self.store.snapshot()?;
        let device = in_scope(&snapshot, op, Permission::DevicesView, id)?;
        commands::page(&snapshot, device.organization_id, id, offset, limit)
    }

    /// The device's own word on a command. Repeating it changes nothing.
    pub async fn report(
        &self,
        op: &Op,
        id: DeviceId,
        command: CommandId,
        status: CommandStatus,
        reason: Option<String>,
    ) -> Result<Command, Error> {
        let me = op.device()?.clone();
        if me.id != id {
            return Err(Error::NotFound("device"));
        }
        self.store
            .write(op.stamp(), move |tx| {
                let found = commands::get(tx, me.organization_id, id, command)?;
                let mut command = found.ok_or(Error::NotFound("command"))?;
                match command.status {
                    CommandStatus::Pending => {
                        return Err(Error::Conflict("this command has not been delivered yet".into()));
                    }
                    same if same == status => return Ok(Audited::without_entry(command, Unaudited::Unchanged)),
                    CommandStatus::Succeeded | CommandStatus::Failed => {
                        return Err(Error::Conflict(format!("this command is {} already", command.status)));
                    }
                    // Late news is still the device's word.
                    CommandStatus::Delivered | CommandStatus::Expired | CommandStatus::Cancelled => {}
                }
                command.status = status;
                command.reason.clone_from(&reason);
                command.completed_at = Some(tx.now());
                commands::put(tx, &command)?;
                let mut device = find(tx, me.organization_id, id)?;
                let succeeded = status == CommandStatus::Succeeded;
                let action = command.kind.action();
                let event = if succeeded { AuditEvent::new(action) } else { AuditEvent::failed(action) };
                let event = event.on("device", id, &device.device_name).detail("command_id", command.id.to_string());
                let event = event.detail("state", if succeeded { "confirmed" } else { "failed" });
                let event = event.detail("reason", reason.clone());
                let mut result = Audited::new(command, event);
                if succeeded && result.value().kind == CommandType::Wipe && device.status != Status::Wiped {
                    result = result.and(status_event(&device, Status::Wiped));
                    device.status = Status::Wiped;
                    save(tx, &mut device)?;
                    if device.leaving.is_some() {
                        result = result.with(devices::delete(tx, device)?);
                    }
                }
                Ok(result)
            })
            .await
    }
}

/// Queues a command for the device. One that is open already is not queued twice.
pub(super) fn give(
    tx: &mut Tx,
    mut device: Device,
    kind: CommandType,
    force: bool,
    life: Duration,
) -> Result<Audited<Command>, Error> {
    if device.status == Status::Wiped {
        return Err(Error::Conflict("this device has been wiped".into()));
    }
    let event = || AuditEvent::new(kind.action()).on("device", device.id, &device.device_name);
    let open = commands::open(tx, device.organization_id, device.id)?;
    let same = open.iter().find(|command| command.kind == kind).cloned();
    let mut result = match same {
        Some(command) if !force => return Ok(Audited::without_entry(command, Unaudited::Unchanged)),
        Some(command) => Audited::without_entry(command, Unaudited::Unchanged),
        None => {
            let expires = (kind != CommandType::Wipe).then_some(life);
            let requested_by = tx.stamp().actor.clone();
            let command = new(tx, &device, kind, requested_by, expires);
            commands::put(tx, &command)?;
            let event = event().detail("state", "requested").detail("command_id", command.id.to_string());
            Audited::new(command, event)
        }
    };
    // A lock and an unlock that the device has not acted on contradict each other: the later one holds.
    let opposite = match kind {
        CommandType::Lock => Some(CommandType::Unlock),
        CommandType::Unlock => Some(CommandType::Lock),
        CommandType::Wipe => None,
    };
    for mut command in open.into_iter().filter(|command| Some(command.kind) == opposite) {
        command.status = CommandStatus::Cancelled;
        command.reason = Some(format!("a later {kind} took its place"));
        command.completed_at = Some(tx.now());
        commands::put(tx, &command)?;
    }
    if force {
        // Nobody has confirmed anything: the command stays open, and waits for the serial number to come back.
        if let Some(serial) = &device.serial_number {
            let intent = WipeIntent {
                device_id: device.id,
                user_id: device.user_id,
                device_name: device.device_name.clone(),
                requested_by: tx.stamp().actor.clone().unnamed(),
                requested_at: tx.now(),
            };
            commands::put_wipe_intent(tx, device.organization_id, serial, &intent)?;
        }
        result = result.and(event().detail("state", "forced").detail("note", "the device has not confirmed it"));
        result = result.and(status_event(&device, Status::Wiped).detail("forced", true));
        revoke_credentials(tx, &mut device)?;
        device.status = Status::Wiped;
        save(tx, &mut device)?;
    }
    Ok(result)
}

pub(super) fn new(
    tx: &Tx,
    device: &Device,
    kind: CommandType,
    requested_by: Actor,
    expires_in: Option<Duration>,
) -> Command {
    Command {
        id: tx.new_id(),
        organization_id: device.organization_id,
        device_id: device.id,
        kind,
        status: CommandStatus::Pending,
        reason: None,
        requested_by: requested_by.unnamed(),
        created_at: tx.now(),
        delivered_at: None,
        completed_at: None,
        expires_at: expires_in.map(|life| tx.now().plus(life)),
    }
}
