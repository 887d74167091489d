//! A device checks in: it says how it is, and hears what waits for it.

use std::time::Duration;

use super::devices::{find, save, status_event};
use super::op::{DevicePrincipal, Op, without_idempotency};
use super::{Services, compliance};
use crate::error::Error;
use crate::ids::DeviceId;
use crate::model::command::{Command, CommandStatus};
use crate::model::device::{Device, Posture, Status};
use crate::store::audit::AuditEvent;
use crate::store::write::{Audited, Stamp, Unaudited};
use crate::store::{commands, devices};

/// What a device reports; members it leaves out stay as they are.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub agent_version: Option<String>,
    pub os_version: Option<String>,
    pub hostname: Option<String>,
    pub serial_number: Option<String>,
    pub posture: Option<Posture>,
    /// The version of its policy that the device has applied.
    pub policy_version: Option<u64>,
}

pub struct CheckedIn {
    /// What the device has to do, oldest first. Handed out again until it reports a result.
    pub commands: Vec<Command>,
    /// Tells the settings that the device should have from any others.
    pub fingerprint: u128,
    pub next_checkin: Duration,
}

impl Services {
    /// Answers at once when a command is new to the device, or its settings are others than the ones it `holds`;
    /// otherwise as soon as either happens, and after `wait` at the latest.
    pub async fn check_in(
        &self,
        op: &Op,
        id: DeviceId,
        report: Report,
        holds: Option<u128>,
        wait: Duration,
    ) -> Result<CheckedIn, Error> {
        let me = op.device()?.clone();
        if me.id != id {
            return Err(Error::NotFound("device"));
        }
        if me.status == Status::Wiped {
            return Err(Error::Forbidden("this device has been wiped".into()));
        }
        self.note(op, &me, report).await?;
        let deadline = tokio::time::Instant::now() + wait;
        let mut draining = self.draining.subscribe();
        let memory = self.store.memory();
        let before = memory.fingerprint(me.organization_id, id);
        let mut waiter = memory.wait_for(me.organization_id, id, before);
        let (open, fingerprint) = loop {
            let snapshot = self.store.snapshot()?;
            // It may have been deleted while it waited.
            devices::get(&snapshot, me.organization_id, id)?.ok_or_else(Error::unauthenticated)?;
            let open = commands::open(&snapshot, me.organization_id, id)?;
            drop(snapshot);
            let fingerprint = memory.fingerprint(me.organization_id, id);
            let is_new = open.iter().any(|command| command.status == CommandStatus::Pending)
                || fingerprint != before
                || holds.is_some_and(|holds| holds != fingerprint);
            if is_new || tokio::time::Instant::now() >= deadline || *draining.borrow_and_update() {
                break (open, fingerprint);
            }
            tokio::select! {
                () = waiter.woken() => {}
                () = tokio::time::sleep_until(deadline) => {}
                _ = draining.changed() => {}
            }
        };
        drop(waiter);
        let commands = self.deliver(op, &me, open).await?;
        Ok(CheckedIn { commands, fingerprint, next_checkin: self.config.devices.checkin })
    }

    /// Heartbeats stay in memory; what is new about the device is written. Nothing is kept while the processing of its
    /// owner's data is restricted.
    async fn note(&self, op: &Op, me: &DevicePrincipal, report: Report) -> Result<(), Error> {
        let device = find(&self.store.snapshot()?, me.organization_id, me.id)?;
        if self.is_restricted(&device) {
            return Ok(());
        }
        self.store.seen(me.organization_id, me.id, op.now);
        if device == updated(&device, &report) {
            return Ok(());
        }
        let (organization, id) = (me.organization_id, me.id);
        // A check-in may be repeated as it is, and what it hears is what waits now: nothing to remember.
        self.store
            .write(without_idempotency(op.stamp()), move |tx| {
                let before = find(tx, organization, id)?;
                let mut device = updated(&before, &report);
                if device == before {
                    return Ok(Audited::without_entry((), Unaudited::Unchanged));
                }
                let mut all = Audited::without_entry((), Unaudited::Unchanged);
                if device.status != before.status {
                    all = all.and(status_event(&before, device.status));
                }
                if device.policy_version != before.policy_version {
                    let event = AuditEvent::new("device.policy.sync").on("device", id, &device.device_name);
                    all = all.and(event.detail("version", device.policy_version));
                }
                if let Some(recorded) = compliance::record(tx, &mut device)? {
                    all = all.with(recorded);
                }
                if all.is_silent() {
                    let event = AuditEvent::new("device.update").on("device", id, &device.device_name);
                    all = all.and(event.detail("by", "check-in"));
                }
                save(tx, &mut device)?;
                Ok(all)
            })
            .await
    }

    /// Marks what is handed out as delivered, before it is.
    async fn deliver(&self, op: &Op, me: &DevicePrincipal, open: Vec<Command>) -> Result<Vec<Command>, Error> {
        if open.iter().all(|command| command.status != CommandStatus::Pending) {
            return Ok(open);
        }
        let (organization, id) = (me.organization_id, me.id);
        // The device may have waited for them since it asked.
        let stamp = Stamp { now: self.now(), ..without_idempotency(op.stamp()) };
        self.store
            .write(stamp, move |tx| {
                let mut open = commands::open(tx, organization, id)?;
                for command in open.iter_mut().filter(|command| command.status == CommandStatus::Pending) {
                    command.status = CommandStatus::Delivered;
                    command.delivered_at = Some(tx.now());
                    commands::put(tx, command)?;
                }
                Ok(Audited::without_entry(open, Unaudited::Delivery))
            })
            .await
    }
}

/// The device as it is after the report.
fn updated(device: &Device, report: &Report) -> Device {
    let mut device = device.clone();
    if matches!(device.status, Status::Pending | Status::Offline) {
        device.status = Status::Online;
    }
    if let Some(version) = &report.agent_version {
        device.agent_version.clone_from(version);
    }
    // Of an erased person's device nothing more is learnt than its wipe takes.
    let learns = device.leaving.is_none();
    for (member, reported) in [
        (&mut device.os_version, &report.os_version),
        (&mut device.hostname, if learns { &report.hostname } else { &None }),
        (&mut device.serial_number, &report.serial_number),
    ] {
        if reported.is_some() {
            member.clone_from(reported);
        }
    }
    if learns && report.posture.is_some() {
        device.posture.clone_from(&report.posture);
    }
    if report.policy_version.is_some() {
        device.policy_version = report.policy_version;
    }
    device
}
