//! Whether devices are as their policies require. The verdict itself is memory's, and always exact; what is written is
//! that it has changed, for the device's row and the audit log.

use super::Services;
use crate::clock::Time;
use crate::error::Error;
use crate::ids::OrganizationId;
use crate::model::device::Device;
use crate::model::gdpr::Purpose;
use crate::store::audit::AuditEvent;
use crate::store::write::{Audited, Stamp, Tx, Unaudited};
use crate::store::{devices, memory, users};

/// Devices recorded in one transaction at most.
const STEP: usize = 500;

impl Services {
    /// Records the verdicts that other changes than the device's own have led to: a policy, a group, time.
    pub async fn record_compliance(&self) -> Result<(), Error> {
        let now = self.now();
        let organizations: Vec<_> = self.store.memory().directory().organizations().collect();
        for organization in organizations {
            while self.record_step(organization, now).await? {}
        }
        Ok(())
    }

    /// Judges by time alone, where policies do.
    pub async fn judge_by_time(&self) -> Result<(), Error> {
        let organizations: Vec<_> = self.store.memory().directory().organizations().collect();
        self.store
            .write(Stamp::system(self.now()), move |tx| {
                organizations.iter().for_each(|organization| tx.judge_by_time(*organization));
                Ok(Audited::without_entry((), Unaudited::Unchanged))
            })
            .await
    }

    /// True when there may be more.
    async fn record_step(&self, organization: OrganizationId, now: Time) -> Result<bool, Error> {
        let fleet = self.store.memory().fleet(organization);
        let devices = memory::read(&fleet).unrecorded(STEP);
        if devices.is_empty() {
            return Ok(false);
        }
        let is_full = devices.len() == STEP;
        let recorded = self.store.write(Stamp::system(now), move |tx| {
            let mut all = Audited::without_entry((), Unaudited::Unchanged);
            let mut recorded = false;
            for id in &devices {
                let Some(mut device) = devices::get(tx, organization, *id)? else { continue };
                if let Some(noted) = record(tx, &mut device)? {
                    all = all.with(noted);
                    // No revision: nobody has edited the device.
                    devices::put(tx, device)?;
                    recorded = true;
                }
            }
            Ok(all.map(|()| recorded))
        });
        // Verdicts that are back to what they were leave nothing to record, and the set empties by itself.
        Ok(recorded.await? && is_full)
    }
}

/// Puts the verdict into the record when it is another than before, for whoever stores the device next. What it was
/// before is kept in the log only for those who have not objected to it.
pub(super) fn record(tx: &Tx, device: &mut Device) -> Result<Option<Audited<()>>, Error> {
    let (judgement, reasons) = tx.verdict(device);
    if judgement.compliance == device.compliance {
        return Ok(None);
    }
    let event = AuditEvent::new("device.compliance.change")
        .of(device.organization_id)
        .on("device", device.id, &device.device_name)
        .detail("from", device.compliance.as_str())
        .detail("to", judgement.compliance.as_str())
        .detail("reasons", reasons.clone());
    device.compliance = judgement.compliance;
    device.compliance_reasons = reasons;
    let owner = users::of_device(tx, device)?;
    let may_keep =
        owner.is_none_or(|owner| !owner.privacy.is_restricted() && !owner.privacy.objects_to(Purpose::Profiling));
    Ok(Some(match may_keep {
        true => Audited::new((), event),
        false => Audited::without_entry((), Unaudited::Verdict),
    }))
}
