//! Records as they are when they are new, for tests.

use std::net::Ipv4Addr;

use super::audit::Actor;
use super::command::{Command, CommandStatus, CommandType};
use super::device::{Compliance, Device, Platform, Status};
use super::enrollment::EnrollmentToken;
use super::gdpr::Privacy;
use super::mfa::Mfa;
use super::organization::{Organization, OrganizationSettings, Tier};
use super::role::{Role, RoleRef};
use super::session::Session;
use super::user::{User, UserStatus};
use crate::clock::Time;
use crate::ids::{CommandId, DeviceId, EnrollmentTokenId, OrganizationId, SessionId, UserId};

pub const NOW: Time = Time::from_unix(1_800_000_000);

pub fn new_organization(id: OrganizationId) -> Organization {
    Organization {
        id,
        name: "Acme".into(),
        tier: Tier::Standard,
        default_policy_id: None,
        settings: OrganizationSettings::default(),
        require_mfa_since: None,
        require_mfa_until: None,
        created_at: NOW,
        updated_at: NOW,
        revision: 1,
    }
}

pub fn new_user(organization_id: OrganizationId, id: UserId, email: &str) -> User {
    let (name, role) = ("new".into(), RoleRef::BuiltIn(Role::User));
    let (created_at, updated_at) = (NOW, NOW);
    let status = UserStatus::Active;
    let (password_hash, last_login) = (None, None);
    let email = email.into();
    User {
        id,
        organization_id,
        email,
        name,
        role,
        status,
        password_hash,
        mfa: Mfa::default(),
        policy_id: None,
        privacy: Privacy::default(),
        last_login,
        created_at,
        updated_at,
        revision: 1,
    }
}

pub fn new_session(user: &User, id: SessionId, family_hash: [u8; 32]) -> Session {
    Session {
        id,
        user_id: user.id,
        organization_id: user.organization_id,
        family_hash,
        refresh_hash: family_hash,
        source_ip: Ipv4Addr::LOCALHOST.into(),
        user_agent: None,
        created_at: NOW,
        last_used_at: NOW,
        expires_at: NOW,
    }
}

pub fn new_device(organization_id: OrganizationId, id: DeviceId, user_id: Option<UserId>, token: [u8; 32]) -> Device {
    Device {
        id,
        organization_id,
        user_id,
        device_name: "new".into(),
        platform: Platform::Linux,
        agent_version: "1".into(),
        os_version: None,
        serial_number: None,
        hostname: None,
        status: Status::Pending,
        enrolled_at: NOW,
        policy_id: None,
        group_id: None,
        policy_version: None,
        // Not known before it is enrolled.
        vpn_ip: Ipv4Addr::UNSPECIFIED,
        wireguard_public_key: None,
        compliance: Compliance::Unknown,
        compliance_reasons: Vec::new(),
        posture: None,
        tags: Vec::new(),
        created_at: NOW,
        updated_at: NOW,
        revision: 1,
        token_hash: Some(token),
        token_expires_at: NOW,
        enrollment_token_id: None,
        certificate: None,
        next_certificate: None,
        leaving: None,
    }
}

pub fn new_command(
    (organization_id, device_id): (OrganizationId, DeviceId),
    id: CommandId,
    status: CommandStatus,
) -> Command {
    Command {
        id,
        organization_id,
        device_id,
        kind: CommandType::Lock,
        status,
        reason: None,
        requested_by: Actor::system(),
        created_at: NOW,
        delivered_at: None,
        completed_at: None,
        expires_at: None,
    }
}

pub fn new_token(organization_id: OrganizationId, id: EnrollmentTokenId, token_hash: [u8; 32]) -> EnrollmentToken {
    EnrollmentToken {
        id,
        organization_id,
        name: "new".into(),
        token_hash,
        max_uses: None,
        uses: 0,
        expires_at: None,
        user_id: None,
        policy_id: None,
        group_id: None,
        tags: Vec::new(),
        created_by: UserId::from_bytes([0; 16]),
        created_at: NOW,
    }
}
