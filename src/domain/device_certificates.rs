//! Devices that sign in with a certificate: which one is good, its renewal by the device itself, and its end.

use serde::{Deserialize, Serialize};

use super::authz::Permission;
use super::devices::{self, in_scope};
use super::op::{DevicePrincipal, Op, Presented, Principal};
use super::{DeviceCertificate, Services};
use crate::clock::Time;
use crate::error::Error;
use crate::ids::DeviceId;
use crate::model::device::{Certificate, Device, Status};
use crate::store::audit::AuditEvent;
use crate::store::devices as rows;
use crate::store::write::{Audited, Tx, Unaudited};

/// A new certificate for a device, not in use yet.
#[derive(Clone, Serialize, Deserialize)]
pub struct Renewed {
    pub certificate: String,
    pub ca_certificate: String,
    pub serial: String,
    pub expires_at: Time,
}

/// Which of its certificates a device has shown.
enum Shown {
    Current,
    Next,
}

fn which(device: &Device, shown: &Presented) -> Option<Shown> {
    let is =
        |certificate: &Option<Certificate>| certificate.as_ref().is_some_and(|c| c.fingerprint == shown.fingerprint);
    if is(&device.certificate) {
        return Some(Shown::Current);
    }
    is(&device.next_certificate).then_some(Shown::Next)
}

impl Services {
    /// The device whose certificate this is. The first use of a renewed one ends the one before it, in a commit of its
    /// own. `op` is nobody's.
    pub async fn identify_certificate(&self, op: &Op, shown: Presented) -> Result<DevicePrincipal, Error> {
        if op.now >= shown.expires_at {
            return Err(Error::Unauthenticated("this device's certificate has expired".into()));
        }
        let revoked = || Error::Unauthenticated("this device's certificate has been revoked or replaced".into());
        let device = rows::get(&self.store.snapshot()?, shown.organization_id, shown.device_id)?.ok_or_else(revoked)?;
        let is_new = matches!(which(&device, &shown).ok_or_else(revoked)?, Shown::Next);
        let principal = DevicePrincipal {
            id: device.id,
            organization_id: device.organization_id,
            name: device.device_name.into(),
            status: device.status,
        };
        if is_new {
            let op = Op { principal: Principal::Device(principal.clone()), ..op.clone() };
            self.store
                .write(op.stamp(), move |tx| {
                    let device = rows::get(tx, shown.organization_id, shown.device_id)?.ok_or_else(revoked)?;
                    match which(&device, &shown).ok_or_else(revoked)? {
                        Shown::Current => Ok(Audited::without_entry((), Unaudited::Unchanged)),
                        Shown::Next => take_up(tx, device),
                    }
                })
                .await?;
        }
        Ok(principal)
    }

    /// A certificate for the key in `csr`, for the device that asks. It is good at once; the one before it stays good
    /// until this one is used, or until its own end.
    pub async fn renew_device_certificate(&self, op: &Op, id: DeviceId, csr: &str) -> Result<Renewed, Error> {
        let me = op.device()?;
        if me.id != id {
            return Err(Error::NotFound("device"));
        }
        if matches!(me.status, Status::Suspended | Status::Wiped) {
            return Err(Error::Forbidden(format!("this device is {}", me.status)));
        }
        let DeviceCertificate { certificate_pem, ca_pem, certificate: new } =
            (self.issue_certificate)(csr, id, me.organization_id, op.now)?;
        let organization = me.organization_id;
        self.store
            .write(op.stamp(), move |tx| {
                let mut device = devices::find(tx, organization, id)?;
                let is_good = |old: &Certificate| tx.now() < old.expires_at;
                match device.certificate.as_ref().filter(|old| is_good(old)) {
                    Some(_) => device.next_certificate = Some(new.clone()),
                    None => (device.certificate, device.next_certificate) = (Some(new.clone()), None),
                }
                let event = AuditEvent::new("device.certificate.renew").on("device", id, &device.device_name);
                let event = event.detail("serial", new.serial.clone());
                devices::save(tx, &mut device)?;
                let Certificate { serial, expires_at, .. } = new.clone();
                let (certificate, ca_certificate) = (certificate_pem.clone(), ca_pem.clone());
                Ok(Audited::new(Renewed { certificate, ca_certificate, serial, expires_at }, event))
            })
            .await
    }

    /// Ends the device's certificates, if it has any, with the next request; its token stays good.
    pub async fn revoke_device_certificate(&self, op: &Op, id: DeviceId) -> Result<(), Error> {
        op.require(Permission::DevicesActions)?;
        let by = op.clone();
        self.store
            .write(op.stamp(), move |tx| {
                let mut device = in_scope(tx, &by, Permission::DevicesActions, id)?;
                let revoked = [device.certificate.take(), device.next_certificate.take()];
                let serials: Vec<String> =
                    revoked.into_iter().flatten().map(|certificate| certificate.serial).collect();
                if serials.is_empty() {
                    return Ok(Audited::without_entry((), Unaudited::Unchanged));
                }
                let event = AuditEvent::new("device.certificate.revoke").on("device", id, &device.device_name);
                let event = event.detail("serials", serials);
                devices::save(tx, &mut device)?;
                Ok(Audited::new((), event))
            })
            .await
    }
}

/// From now on the device has its next certificate, and no other.
fn take_up(tx: &mut Tx, mut device: Device) -> Result<Audited<()>, Error> {
    let next = device.next_certificate.take();
    let before = std::mem::replace(&mut device.certificate, next);
    let event = AuditEvent::new("device.certificate.replace").of(device.organization_id);
    let event = event.on("device", device.id, &device.device_name);
    let event = event.detail("retired_serial", before.map(|certificate| certificate.serial));
    devices::save(tx, &mut device)?;
    Ok(Audited::new((), event))
}
