//! The context of one operation, the same on every path that leads into the domain.

use std::net::IpAddr;
use std::sync::Arc;

use super::authz::{Permission, Permissions};
use crate::clock::Time;
use crate::error::Error;
use crate::ids::{ApiKeyId, DeviceId, EnrollmentTokenId, OrganizationId, RequestId, SessionId, UserId};
use crate::model::audit::{Actor, ActorType};
use crate::model::device::Status;
use crate::store::idempotency::Idempotency;
use crate::store::write::Stamp;

/// Who asks, under which request, from where, and when.
#[derive(Clone, Debug)]
pub struct Op {
    pub principal: Principal,
    pub request_id: RequestId,
    pub peer: IpAddr,
    /// Which entrance the connection came in through: settings that were changed since count one more.
    pub entrance: u64,
    pub now: Time,
    pub idempotency: Option<Idempotency>,
}

/// Who has proven to be whom.
#[derive(Clone, Debug)]
pub enum Principal {
    Anonymous,
    User(UserPrincipal),
    ApiKey(ApiKeyPrincipal),
    Device(DevicePrincipal),
    EnrollmentToken { id: EnrollmentTokenId, organization_id: OrganizationId, name: Arc<str> },
}

#[derive(Clone, Debug)]
pub struct UserPrincipal {
    pub id: UserId,
    pub organization_id: OrganizationId,
    pub name: Arc<str>,
    pub session_id: SessionId,
    pub permissions: Permissions,
    /// Must set up a second factor before anything else.
    pub must_enroll_mfa: bool,
}

/// A program that acts for the user who made its key.
#[derive(Clone, Debug)]
pub struct ApiKeyPrincipal {
    pub id: ApiKeyId,
    pub organization_id: OrganizationId,
    pub name: Arc<str>,
    /// The key's maker.
    pub user_id: UserId,
    pub permissions: Permissions,
    /// The maker must set up a second factor before anything else.
    pub must_enroll_mfa: bool,
}

#[derive(Clone, Debug)]
pub struct DevicePrincipal {
    pub id: DeviceId,
    pub organization_id: OrganizationId,
    pub name: Arc<str>,
    pub status: Status,
}

/// A client certificate of the devices' authority, whose key the client has proven to have. Whether it is still good for
/// anything is not said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Presented {
    pub device_id: DeviceId,
    pub organization_id: OrganizationId,
    /// SHA-256 of the whole certificate.
    pub fingerprint: [u8; 32],
    pub expires_at: Time,
}

/// Which devices of its organization a principal may see or act on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceScope {
    All,
    /// Those that belong to this user.
    OwnedBy(UserId),
    Only(DeviceId),
}

impl Principal {
    pub fn organization_id(&self) -> Option<OrganizationId> {
        match self {
            Self::Anonymous => None,
            Self::User(user) => Some(user.organization_id),
            Self::ApiKey(key) => Some(key.organization_id),
            Self::Device(device) => Some(device.organization_id),
            Self::EnrollmentToken { organization_id, .. } => Some(*organization_id),
        }
    }

    pub fn permissions(&self) -> Permissions {
        match self {
            Self::Anonymous | Self::Device(_) => Permissions::NONE,
            Self::User(user) => user.permissions,
            Self::ApiKey(key) => key.permissions,
            Self::EnrollmentToken { .. } => Permissions::of(&[Permission::DevicesEnroll]),
        }
    }

    /// Whether the organization's time for setting up a second factor is over for whoever is behind this.
    pub fn must_enroll_mfa(&self) -> bool {
        match self {
            Self::User(user) => user.must_enroll_mfa,
            Self::ApiKey(key) => key.must_enroll_mfa,
            Self::Anonymous | Self::Device(_) | Self::EnrollmentToken { .. } => false,
        }
    }

    /// The same for every session of one user, and for each key, device or token: rate limits and idempotency keys hang on it.
    pub fn key(&self) -> Option<[u8; 16]> {
        match self {
            Self::Anonymous => None,
            Self::User(user) => Some(*user.id.as_bytes()),
            Self::ApiKey(key) => Some(*key.id.as_bytes()),
            Self::Device(device) => Some(*device.id.as_bytes()),
            Self::EnrollmentToken { id, .. } => Some(*id.as_bytes()),
        }
    }

    pub fn actor(&self) -> Actor {
        let (kind, id, name) = match self {
            Self::Anonymous => return Actor { kind: ActorType::Anonymous, id: None, name: None },
            Self::User(user) => (ActorType::User, user.id.to_string(), &user.name),
            Self::ApiKey(key) => (ActorType::ApiKey, key.id.to_string(), &key.name),
            Self::Device(device) => (ActorType::Device, device.id.to_string(), &device.name),
            Self::EnrollmentToken { id, name, .. } => (ActorType::EnrollmentToken, id.to_string(), name),
        };
        Actor { kind, id: Some(id), name: Some(name.to_string()) }
    }
}

impl Op {
    /// What the store notes down with whatever this operation changes.
    pub fn stamp(&self) -> Stamp {
        Stamp {
            actor: self.principal.actor(),
            organization_id: self.principal.organization_id(),
            request_id: Some(self.request_id),
            source_ip: Some(self.peer),
            now: self.now,
            idempotency: self.idempotency.clone(),
        }
    }

    pub fn organization_id(&self) -> Result<OrganizationId, Error> {
        self.principal.organization_id().ok_or_else(Error::unauthenticated)
    }

    pub fn user(&self) -> Result<&UserPrincipal, Error> {
        match &self.principal {
            Principal::User(user) => Ok(user),
            _ => Err(Error::Forbidden("this is for signed-in users".into())),
        }
    }

    /// The user who asks, or for whom an API key does.
    pub fn acting_user(&self) -> Result<UserId, Error> {
        match &self.principal {
            Principal::ApiKey(key) => Ok(key.user_id),
            _ => self.user().map(|user| user.id),
        }
    }

    pub fn device(&self) -> Result<&DevicePrincipal, Error> {
        match &self.principal {
            Principal::Device(device) => Ok(device),
            _ => Err(Error::Forbidden("this is for the device itself".into())),
        }
    }

    pub fn may(&self, permission: Permission) -> bool {
        self.principal.permissions().contains(permission)
    }

    pub fn require(&self, permission: Permission) -> Result<(), Error> {
        if self.may(permission) { Ok(()) } else { Err(lacking(permission)) }
    }

    /// All devices for a holder of `permission`; otherwise a user's own, or the device itself.
    pub fn device_scope(&self, permission: Permission) -> Result<DeviceScope, Error> {
        match &self.principal {
            principal if principal.permissions().contains(permission) => Ok(DeviceScope::All),
            Principal::User(user) => Ok(DeviceScope::OwnedBy(user.id)),
            Principal::Device(device) => Ok(DeviceScope::Only(device.id)),
            Principal::Anonymous | Principal::ApiKey(_) | Principal::EnrollmentToken { .. } => Err(lacking(permission)),
        }
    }
}

pub fn lacking(permission: Permission) -> Error {
    Error::Forbidden(format!("this needs the permission {permission}"))
}

/// For writes that are not a request's outcome, such as a note that it was refused: they are not remembered as one.
pub fn without_idempotency(stamp: Stamp) -> Stamp {
    Stamp { idempotency: None, ..stamp }
}
