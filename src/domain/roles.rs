//! Roles: the built-in ones, and those that an organization makes of permissions.

use super::authz::{Permissions, Role};
use super::op::Op;
use super::{Services, names};
use crate::error::Error;
use crate::ids::{OrganizationId, RoleId};
use crate::model::role::{CustomRole, RoleRef};
use crate::store::audit::AuditEvent;
use crate::store::engine::Read;
use crate::store::write::{Audited, Tx, Unaudited};
use crate::store::{roles, users};

/// A role that somebody may have.
pub enum AnyRole {
    BuiltIn(Role),
    Custom(CustomRole),
}

/// A role, and how many users have it.
pub struct HeldRole {
    pub role: AnyRole,
    pub user_count: u64,
}

/// A role as it shall be.
#[derive(Clone, Debug)]
pub struct RoleDraft {
    pub name: String,
    pub description: String,
    pub permissions: Permissions,
}

impl Role {
    pub const fn description(self) -> &'static str {
        match self {
            Self::SuperAdmin => "Everything, organizations and the appliance included",
            Self::Admin => "Devices, users, groups, policies, webhooks, API keys and audit of the organization",
            Self::HelpDesk => "Sees devices and users, locks and suspends devices, resets passwords, ends sessions",
            Self::Auditor => "Reads everything of the organization and changes nothing",
            Self::User => "Only themselves and their own devices",
        }
    }
}

impl Services {
    /// The built-in roles, then the organization's own by name: how many, and those from `offset` on.
    pub fn roles(&self, op: &Op, offset: u64, limit: usize) -> Result<(u64, Vec<HeldRole>), Error> {
        let organization = op.organization_id()?;
        let mut own = roles::all(&self.store.snapshot()?, organization)?;
        own.sort_by_cached_key(|role| users::folded(&role.name));
        let total = (Role::ALL.len() + own.len()) as u64;
        let built_in = Role::ALL.iter().copied().map(AnyRole::BuiltIn);
        let skip = usize::try_from(offset).unwrap_or(usize::MAX);
        let page = built_in.chain(own.into_iter().map(AnyRole::Custom)).skip(skip).take(limit);
        Ok((total, page.map(|role| self.held(organization, role)).collect()))
    }

    pub fn role(&self, op: &Op, id: RoleId) -> Result<CustomRole, Error> {
        find(&self.store.snapshot()?, op.organization_id()?, id)
    }

    pub fn held(&self, organization: OrganizationId, role: AnyRole) -> HeldRole {
        let reference = match &role {
            AnyRole::BuiltIn(role) => RoleRef::BuiltIn(*role),
            AnyRole::Custom(role) => RoleRef::Custom(role.id),
        };
        HeldRole { role, user_count: self.store.memory().directory().holders(organization, reference) }
    }

    pub async fn create_role(&self, op: &Op, draft: RoleDraft) -> Result<CustomRole, Error> {
        let organization = op.organization_id()?;
        check(&draft)?;
        op.may_grant(draft.permissions)?;
        self.store
            .write(op.stamp(), move |tx| {
                let (id, now) = (tx.new_id(), tx.now());
                let RoleDraft { name, description, permissions } = draft.clone();
                let role = CustomRole {
                    id,
                    organization_id: organization,
                    name,
                    description,
                    permissions,
                    created_at: now,
                    updated_at: now,
                    revision: 1,
                };
                roles::put(tx, role.clone())?;
                let event = AuditEvent::new("role.create").on("role", id, &role.name);
                let event = event.detail("added", list(permissions));
                Ok(Audited::new(role, event))
            })
            .await
    }

    pub async fn change_role(
        &self,
        op: &Op,
        id: RoleId,
        draft: RoleDraft,
        revision: Option<u64>,
    ) -> Result<CustomRole, Error> {
        check(&draft)?;
        let by = op.clone();
        self.store
            .write(op.stamp(), move |tx| {
                let before = mine(tx, &by, id, revision)?;
                by.may_grant(draft.permissions)?;
                let mut role = before.clone();
                let RoleDraft { name, description, permissions } = draft.clone();
                (role.name, role.description, role.permissions) = (name, description, permissions);
                if role == before {
                    return Ok(Audited::without_entry(role, Unaudited::Unchanged));
                }
                role.updated_at = tx.now();
                role.revision += 1;
                roles::put(tx, role.clone())?;
                let mut event = AuditEvent::new("role.update").on("role", id, &role.name);
                if role.name != before.name {
                    event = event.detail("name", format!("{} → {}", before.name, role.name));
                }
                if role.description != before.description {
                    event = event.detail("description", format!("{} → {}", before.description, role.description));
                }
                if role.permissions != before.permissions {
                    event = event.detail("added", list(role.permissions - before.permissions));
                    event = event.detail("removed", list(before.permissions - role.permissions));
                }
                Ok(Audited::new(role, event))
            })
            .await
    }

    pub async fn delete_role(&self, op: &Op, id: RoleId, revision: Option<u64>) -> Result<(), Error> {
        let by = op.clone();
        self.store
            .write(op.stamp(), move |tx| {
                let role = mine(tx, &by, id, revision)?;
                match roles::holders(tx, role.organization_id, id)? {
                    0 => {}
                    1 => return Err(Error::Conflict("one user has this role".into())),
                    count => return Err(Error::Conflict(format!("{count} users have this role"))),
                }
                roles::delete(tx, &role)?;
                let event = AuditEvent::new("role.delete").on("role", id, &role.name);
                Ok(Audited::new((), event.detail("removed", list(role.permissions))))
            })
            .await
    }
}

fn find(from: &impl Read, organization: OrganizationId, id: RoleId) -> Result<CustomRole, Error> {
    roles::get(from, organization, id)?.ok_or(Error::NotFound("role"))
}

/// The role, when whoever asks holds all that it gives: nobody edits what is above them.
fn mine(tx: &Tx, by: &Op, id: RoleId, revision: Option<u64>) -> Result<CustomRole, Error> {
    let role = find(tx, by.organization_id()?, id)?;
    if revision.is_some_and(|revision| revision != role.revision) {
        return Err(Error::Stale);
    }
    let missing = role.permissions - by.principal.permissions();
    if missing.is_empty() {
        return Ok(role);
    }
    Err(Error::Forbidden(format!("this role gives what you do not hold: {missing}")))
}

fn check(draft: &RoleDraft) -> Result<(), Error> {
    names::check("name", &draft.name).map_err(|error| Error::Invalid(vec![error]))
}

fn list(permissions: Permissions) -> Vec<&'static str> {
    permissions.iter().map(super::authz::Permission::as_str).collect()
}
