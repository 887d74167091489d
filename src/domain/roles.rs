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
    names::require("name", &draft.name)
}

fn list(permissions: Permissions) -> Vec<&'static str> {
    permissions.iter().map(super::authz::Permission::as_str).collect()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::Arc;

    use super::*;
    use crate::clock::{Clock, ManualClock, Time};
    use crate::config::Config;
    use crate::domain::auth::LogIn;
    use crate::domain::authz::Permission;
    use crate::domain::op::Principal;
    use crate::domain::passwords::hash_now;
    use crate::domain::setup::{self, NewAppliance};
    use crate::ids::Ids;
    use crate::model::user::{User, UserStatus};
    use crate::store::Store;
    use crate::store::write::Stamp;

    const PASSWORD: &str = "correct horse battery";

    fn draft(name: &str, permissions: &[Permission]) -> RoleDraft {
        RoleDraft { name: name.into(), description: String::new(), permissions: Permissions::of(permissions) }
    }

    #[tokio::test]
    async fn a_changed_role_holds_from_the_next_request_on_and_nobody_changes_one_above_them() {
        use Permission::{AuditView, RolesEdit, UsersView};
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::at(Time::from_unix(1_800_000_000)));
        let (config, ids) = (Config::default(), Arc::new(Ids::new(clock.clone())));
        let store = Store::open(&folder.path().join("zero.redb"), &config.store, ids.clone(), clock.now()).unwrap();
        let no_certificates = Box::new(|_: &str, _, _, _| Err(Error::internal("none here")));
        let services = Services::new(store, config, ids.clone(), clock.clone(), no_certificates);
        let (organization, name) = ("Acme".into(), "Root".into());
        let (email, password) = ("root@acme.example".into(), PASSWORD.into());
        let new = NewAppliance { organization, name, email, password };
        let root = setup::initialise(&services.store, new, clock.now()).await.unwrap().user;
        let op = |principal| {
            let (request_id, peer, now) = (ids.next(), Ipv4Addr::LOCALHOST.into(), clock.now());
            Op { principal, request_id, peer, entrance: 0, now, idempotency: None }
        };
        let sign_in = async |email: &str| match services
            .log_in(&op(Principal::Anonymous), email, PASSWORD, None)
            .await
            .unwrap()
        {
            LogIn::SignedIn(signed_in) => signed_in.token,
            LogIn::MfaRequired { .. } => panic!("no second factor was set up"),
        };
        let is = |token: &str| services.identify(token, clock.now()).unwrap();
        let root_token = sign_in("root@acme.example").await;
        let by_root = op(is(&root_token));

        let role = services.create_role(&by_root, draft("Clerk", &[UsersView, RolesEdit])).await.unwrap();
        let (id, hash) = (role.id, hash_now(PASSWORD).unwrap());
        let clerk = move |tx: &mut Tx| {
            let clerk = User {
                id: tx.new_id(),
                email: "clerk@acme.example".into(),
                name: "Clerk".into(),
                role: RoleRef::Custom(id),
                status: UserStatus::Active,
                password_hash: Some(hash.clone()),
                ..root.clone()
            };
            let event = AuditEvent::new("user.create").of(clerk.organization_id);
            users::put(tx, clerk)?;
            Ok(Audited::new((), event))
        };
        services.store.write(Stamp::system(clock.now()), clerk).await.unwrap();
        let token = sign_in("clerk@acme.example").await;
        assert_eq!(is(&token).permissions(), Permissions::of(&[UsersView, RolesEdit]));
        services.change_role(&by_root, id, draft("Clerk", &[RolesEdit]), None).await.unwrap();
        assert_eq!(is(&token).permissions(), Permissions::of(&[RolesEdit]));

        let above = services.create_role(&by_root, draft("Reader", &[AuditView, UsersView])).await.unwrap();
        let by_clerk = op(is(&token));
        let refused = services.create_role(&by_clerk, draft("Spy", &[AuditView])).await;
        assert!(matches!(refused, Err(Error::Forbidden(_))));
        let refused = services.change_role(&by_clerk, id, draft("Clerk", &[RolesEdit, AuditView]), None).await;
        assert!(matches!(refused, Err(Error::Forbidden(_))), "nor themselves up");
        let refused = services.change_role(&by_clerk, above.id, draft("Reader", &[]), None).await;
        assert!(matches!(refused, Err(Error::Forbidden(_))));
        assert!(matches!(services.delete_role(&by_clerk, above.id, None).await, Err(Error::Forbidden(_))));
        assert_eq!(services.role(&by_root, above.id).unwrap(), above);

        let in_use = services.delete_role(&by_root, id, None).await;
        assert_eq!(in_use, Err(Error::Conflict("one user has this role".into())));
        let (total, found) = services.roles(&by_root, 5, 10).unwrap();
        assert_eq!((total, found[0].user_count, found[1].user_count), (7, 1, 0));
    }
}
