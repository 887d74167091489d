//! Permissions, and what the built-in roles hold.

use std::ops::BitOr;

use crate::model::named_values;

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

/// A set of permissions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Permissions(u32);

impl Permissions {
    pub const NONE: Self = Self(0);

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
}

impl BitOr for Permissions {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
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
            Self::SuperAdmin => Permissions::of(P::ALL),
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

/// What the holder of the named role may do; nothing for a role that does not exist (any more).
pub fn permissions_of(role: &str) -> Permissions {
    Role::parse(role).map_or(Permissions::NONE, Role::permissions)
}
