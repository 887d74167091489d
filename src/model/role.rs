//! Permissions, the built-in roles, and roles that an organization makes of permissions.

use std::fmt;
use std::ops::{BitAnd, BitOr, Sub};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::named_values;
use crate::clock::Time;
use crate::ids::{OrganizationId, RoleId};

named_values! {
    pub enum Permission {
        DevicesView = "devices.view",
        DevicesEnroll = "devices.enroll",
        DevicesEdit = "devices.edit",
        DevicesActions = "devices.actions",
        DevicesDelete = "devices.delete",
        PoliciesView = "policies.view",
        PoliciesEdit = "policies.edit",
        PoliciesAssign = "policies.assign",
        UsersView = "users.view",
        UsersEdit = "users.edit",
        UsersSupport = "users.support",
        RolesEdit = "roles.edit",
        WebhooksView = "webhooks.view",
        WebhooksEdit = "webhooks.edit",
        ApiKeysEdit = "api_keys.edit",
        AuditView = "audit.view",
        AuditExport = "audit.export",
        GdprAdmin = "gdpr.admin",
        OrganizationEdit = "organization.edit",
        OrganizationsAdmin = "organizations.admin",
        SystemAdmin = "system.admin",
    }
}

/// A set of permissions. Stored by their names, so that a new permission shifts none of the old.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Permissions(u32);

impl Permissions {
    pub const NONE: Self = Self(0);
    pub const ALL: Self = Self::of(Permission::ALL);

    pub const fn of(list: &[Permission]) -> Self {
        let (mut bits, mut next) = (0, 0);
        while next < list.len() {
            bits |= 1 << list[next] as u32;
            next += 1;
        }
        Self(bits)
    }

    pub const fn contains(self, permission: Permission) -> bool {
        self.0 & (1 << permission as u32) != 0
    }

    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub fn iter(self) -> impl Iterator<Item = Permission> {
        Permission::ALL.iter().copied().filter(move |permission| self.contains(*permission))
    }
}

impl BitOr for Permissions {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitAnd for Permissions {
    type Output = Self;

    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

/// Those of the first that the second lacks.
impl Sub for Permissions {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

/// The names, separated by commas.
impl fmt::Display for Permissions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.iter().map(Permission::as_str).collect();
        f.write_str(&names.join(", "))
    }
}

impl FromIterator<Permission> for Permissions {
    fn from_iter<I: IntoIterator<Item = Permission>>(list: I) -> Self {
        list.into_iter().fold(Self::NONE, |set, permission| set | Self::of(&[permission]))
    }
}

impl Serialize for Permissions {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for Permissions {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Vec::<Permission>::deserialize(from).map(Self::from_iter)
    }
}

named_values! {
    pub enum Role {
        SuperAdmin = "super_admin",
        Admin = "admin",
        HelpDesk = "help_desk",
        Auditor = "auditor",
        User = "user",
    }
}

impl Role {
    pub const fn permissions(self) -> Permissions {
        use Permission as P;
        match self {
            Self::SuperAdmin => Permissions::ALL,
            Self::Admin => Permissions::of(&[
                P::DevicesView,
                P::DevicesEnroll,
                P::DevicesEdit,
                P::DevicesActions,
                P::DevicesDelete,
                P::PoliciesView,
                P::PoliciesEdit,
                P::PoliciesAssign,
                P::UsersView,
                P::UsersEdit,
                P::UsersSupport,
                P::RolesEdit,
                P::WebhooksView,
                P::WebhooksEdit,
                P::ApiKeysEdit,
                P::AuditView,
                P::AuditExport,
                P::GdprAdmin,
                P::OrganizationEdit,
            ]),
            Self::HelpDesk => Permissions::of(&[P::DevicesView, P::DevicesActions, P::UsersView, P::UsersSupport]),
            Self::Auditor => Permissions::of(&[
                P::DevicesView,
                P::PoliciesView,
                P::UsersView,
                P::WebhooksView,
                P::AuditView,
                P::AuditExport,
            ]),
            Self::User => Permissions::of(&[P::DevicesEnroll]),
        }
    }
}

/// The role that somebody has: one of the built-in ones, or one of the organization's own. Stored as a name or an id,
/// so that a role may be renamed without touching its holders.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RoleRef {
    BuiltIn(Role),
    Custom(RoleId),
}

impl RoleRef {
    pub const SUPER_ADMIN: Self = Self::BuiltIn(Role::SuperAdmin);

    fn parse(text: &str) -> Option<Self> {
        Role::parse(text).map(Self::BuiltIn).or_else(|| RoleId::parse(text).map(Self::Custom))
    }
}

impl Serialize for RoleRef {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::BuiltIn(role) => to.serialize_str(role.as_str()),
            Self::Custom(id) => to.collect_str(id),
        }
    }
}

impl<'de> Deserialize<'de> for RoleRef {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom(format!("{text:?} is no role")))
    }
}

/// A role that an organization has made of permissions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CustomRole {
    pub id: RoleId,
    pub organization_id: OrganizationId,
    /// Unique within the organization, whatever its case; never that of a built-in role.
    pub name: String,
    pub description: String,
    pub permissions: Permissions,
    pub created_at: Time,
    pub updated_at: Time,
    pub revision: u64,
}
