//! A device enrols: it gets its token, its address and, for a signing request, its certificate.

use base64::Engine;
use serde::{Deserialize, Serialize};

use super::authz::Permission;
use super::devices::check_user;
use super::op::{Op, Principal};
use super::{Services, commands, names, secrets};
use crate::error::Error;
use crate::ids::{DeviceId, EnrollmentTokenId, GroupId, PolicyId, UserId};
use crate::model::command::CommandType;
use crate::model::device::{Compliance, Device, Platform, Status};
use crate::store::audit::AuditEvent;
use crate::store::write::{Audited, Tx};
use crate::store::{commands as ledger, devices, enrollment_tokens, policies, users};

#[derive(Clone, Debug)]
pub struct NewDevice {
    pub device_name: String,
    pub platform: Platform,
    pub agent_version: String,
    pub os_version: Option<String>,
    pub serial_number: Option<String>,
    pub hostname: Option<String>,
    pub csr: Option<String>,
    pub wireguard_public_key: Option<String>,
}

#[derive(Clone, Serialize, Deserialize)]
pub struct Enrolled {
    pub device: Device,
    pub device_token: String,
    pub certificate: Option<String>,
    pub ca_certificate: Option<String>,
}

impl Services {
    pub async fn enroll(&self, op: &Op, new: NewDevice) -> Result<Enrolled, Error> {
        op.require(Permission::DevicesEnroll)?;
        let organization = op.organization_id()?;
        names::require("device_name", &new.device_name)?;
        if let Some(key) = &new.wireguard_public_key {
            check_wireguard_key(key)?;
        }
        let id: DeviceId = self.ids.next();
        let issued = new.csr.as_deref().map(|csr| (self.issue_certificate)(csr, id, organization, op.now));
        let (certificate, ca_certificate, issued) = match issued.transpose()? {
            Some(issued) => (Some(issued.certificate_pem), Some(issued.ca_pem), Some(issued.certificate)),
            None => (None, None, None),
        };
        let (device_token, token_hash) = secrets::make(secrets::DEVICE);
        let config = self.config.devices.clone();
        let principal = op.principal.clone();
        self.store
            .write(op.stamp(), move |tx| {
                let grant = Grant::of(tx, &principal)?;
                let (first, last) = (config.address_pool.network(), config.address_pool.broadcast());
                let (first, last) = ((first.to_bits() + 1).into(), (last.to_bits() - 1).into());
                let free = devices::free_address(tx, organization, first, last)?;
                let vpn_ip = free.ok_or_else(|| Error::Conflict("the pool of device addresses is used up".into()))?;
                let now = tx.now();
                let device = Device {
                    id,
                    organization_id: organization,
                    user_id: grant.user_id,
                    device_name: new.device_name.clone(),
                    platform: new.platform,
                    agent_version: new.agent_version.clone(),
                    os_version: new.os_version.clone(),
                    serial_number: new.serial_number.clone(),
                    hostname: new.hostname.clone(),
                    status: Status::Pending,
                    enrolled_at: now,
                    policy_id: grant.policy_id,
                    group_id: grant.group_id,
                    policy_version: None,
                    vpn_ip,
                    wireguard_public_key: new.wireguard_public_key.clone(),
                    compliance: Compliance::Unknown,
                    compliance_reasons: Vec::new(),
                    posture: None,
                    tags: grant.tags,
                    created_at: now,
                    updated_at: now,
                    revision: 1,
                    token_hash: Some(token_hash),
                    token_expires_at: now.plus(config.token_life),
                    enrollment_token_id: grant.token,
                    certificate: issued.clone(),
                    next_certificate: None,
                    leaving: None,
                };
                devices::insert(tx, device.clone())?;
                let event = AuditEvent::new("device.enroll").on("device", id, &device.device_name);
                let event = event.detail("platform", device.platform.as_str());
                let mut enrolled = Audited::new((), event);
                if let Some(serial) = &device.serial_number
                    && let Some(intent) = ledger::take_wipe_intent(tx, organization, serial)?
                {
                    let wipe = commands::new(tx, &device, CommandType::Wipe, intent.requested_by, None);
                    ledger::put(tx, &wipe)?;
                    let event = AuditEvent::new("device.wipe").on("device", id, &device.device_name);
                    enrolled = enrolled.and(
                        event
                            .detail("state", "requested")
                            .detail("reason", "an earlier wipe of this serial number was never confirmed"),
                    );
                }
                let (certificate, ca_certificate) = (certificate.clone(), ca_certificate.clone());
                let device_token = device_token.clone();
                Ok(enrolled.map(|()| Enrolled { device, device_token, certificate, ca_certificate }))
            })
            .await
    }
}

/// What the enrolling principal brings along.
#[derive(Default)]
struct Grant {
    user_id: Option<UserId>,
    policy_id: Option<PolicyId>,
    group_id: Option<GroupId>,
    tags: Vec<String>,
    token: Option<EnrollmentTokenId>,
}

impl Grant {
    /// Counts a use of an enrolment token in the transaction that needs it.
    fn of(tx: &mut Tx, principal: &Principal) -> Result<Self, Error> {
        match principal {
            Principal::User(super::op::UserPrincipal { id, organization_id, .. })
            | Principal::ApiKey(super::op::ApiKeyPrincipal { user_id: id, organization_id, .. }) => {
                // The user may have been deleted since the request was let in.
                let owner = users::get(tx, *organization_id, *id)?.ok_or_else(Error::unauthenticated)?;
                Ok(Self { user_id: Some(owner.id), ..Self::default() })
            }
            Principal::EnrollmentToken { id, organization_id, .. } => {
                let token = enrollment_tokens::get(tx, *organization_id, *id)?.filter(|t| t.is_usable(tx.now()));
                let mut token = token.ok_or_else(|| {
                    Error::Unauthenticated("the enrolment token has expired or has been used up".into())
                })?;
                check_user(tx, *organization_id, token.user_id)?;
                token.uses += 1;
                enrollment_tokens::put(tx, &token)?;
                // A token may outlive the policy and the group that it names: its devices enrol without them.
                let exists = |id: &PolicyId| policies::get(tx, *organization_id, *id).map(|found| found.is_some());
                let policy_id = match token.policy_id {
                    Some(id) if exists(&id)? => Some(id),
                    _ => None,
                };
                let (user_id, group_id, tags) = (token.user_id, token.group_id, token.tags);
                Ok(Self { user_id, policy_id, group_id, tags, token: Some(token.id) })
            }
            Principal::Anonymous | Principal::Device(_) => Err(super::op::lacking(Permission::DevicesEnroll)),
        }
    }
}

/// A WireGuard public key is 32 bytes in base64.
fn check_wireguard_key(key: &str) -> Result<(), Error> {
    let bytes = base64::engine::general_purpose::STANDARD.decode(key);
    if bytes.is_ok_and(|bytes| bytes.len() == 32) {
        return Ok(());
    }
    Err(Error::field("wireguard_public_key", "must be 32 bytes in base64"))
}
