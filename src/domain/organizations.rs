//! Organizations: one's own, and for those who run the appliance all of them.

use serde::{Deserialize, Serialize};

use super::authz::{Permissions, Role};
use super::links::IssuedLink;
use super::op::Op;
use super::passwords::Passwords;
use super::users::NewUser;
use super::{Services, accounts, names};
use crate::error::{Error, FieldError};
use crate::ids::OrganizationId;
use crate::model::organization::{Organization, OrganizationSettings, Tier};
use crate::model::role::RoleRef;
use crate::model::user::User;
use crate::store::audit::AuditEvent;
use crate::store::engine::Read;
use crate::store::write::{Audited, Stamp, Tx, Unaudited};
use crate::store::{memory, organizations, users};

/// An organization, and how much is in it.
pub struct SizedOrganization {
    pub organization: Organization,
    pub user_count: u64,
    pub device_count: u64,
}

#[derive(Clone, Debug)]
pub struct NewOrganization {
    pub name: String,
    pub tier: Tier,
    pub admin: NewAdmin,
}

/// The first admin of an organization.
#[derive(Clone, Debug)]
pub struct NewAdmin {
    pub name: String,
    pub email: String,
    /// `None`: pending, until they have chosen one.
    pub password: Option<String>,
}

/// A new organization with its first admin.
#[derive(Clone, Serialize, Deserialize)]
pub struct Founded {
    pub organization: Organization,
    pub admin: User,
    /// For an admin who has no password yet.
    pub invitation: Option<IssuedLink>,
}

/// `None` leaves a member as it is.
#[derive(Clone, Debug, Default)]
pub struct OrganizationChange {
    pub name: Option<String>,
    pub tier: Option<Tier>,
    pub settings: Option<OrganizationSettings>,
}

impl Services {
    pub fn organization(&self, id: OrganizationId) -> Result<Organization, Error> {
        find(&self.store.snapshot()?, id)
    }

    /// Oldest first: how many there are, and those from `offset` on.
    pub fn organizations(&self, offset: u64, limit: usize) -> Result<(u64, Vec<SizedOrganization>), Error> {
        let (total, found) = organizations::page(&self.store.snapshot()?, offset, limit)?;
        Ok((total, found.into_iter().map(|organization| self.sized(organization)).collect()))
    }

    pub fn sized(&self, organization: Organization) -> SizedOrganization {
        let fleet = self.store.memory().fleet(organization.id);
        let device_count = memory::read(&fleet).len();
        let user_count = self.store.memory().directory().user_count(organization.id);
        SizedOrganization { organization, user_count, device_count }
    }

    pub async fn create_organization(&self, op: &Op, new: NewOrganization) -> Result<Founded, Error> {
        check(&new)?;
        op.may_grant(Role::Admin.permissions())?;
        let password_hash = match &new.admin.password {
            Some(password) => Some(self.passwords.hash(password).await?),
            None => None,
        };
        let (by, delivery) = (op.clone(), self.delivery());
        self.store
            .write(op.stamp(), move |tx| {
                let now = tx.now();
                let organization = Organization {
                    id: tx.new_id(),
                    name: new.name.clone(),
                    tier: new.tier,
                    default_policy_id: None,
                    settings: OrganizationSettings::default(),
                    require_mfa_since: None,
                    require_mfa_until: None,
                    created_at: now,
                    updated_at: now,
                    revision: 1,
                };
                organizations::put(tx, organization.clone())?;
                let NewAdmin { name, email, .. } = &new.admin;
                let role = RoleRef::BuiltIn(Role::Admin);
                let made = super::users::make(tx, organization.id, name, email, role, password_hash.clone(), delivery)?;
                let NewUser { user: admin, invitation } = made;
                let event = AuditEvent::new("organization.create").on("organization", organization.id, &new.name);
                let event = event.detail("tier", new.tier.as_str()).detail("admin", admin.id.to_string());
                let created = AuditEvent::new("user.create").of(organization.id).on("user", admin.id, &admin.name);
                let created = created.detail("role", Role::Admin.as_str());
                let events = in_both_logs(&by, organization.id, event)?;
                Ok(events.and(created).map(|()| Founded { organization, admin, invitation }))
            })
            .await
    }

    pub async fn change_organization(
        &self,
        op: &Op,
        id: OrganizationId,
        change: OrganizationChange,
        revision: Option<u64>,
    ) -> Result<Organization, Error> {
        if let Some(name) = &change.name {
            names::require("name", name)?;
        }
        let (by, window) = (op.clone(), self.config.server.confirm);
        self.store
            .write(op.stamp(), move |tx| {
                let before = find(tx, id)?;
                if revision.is_some_and(|revision| revision != before.revision) {
                    return Err(Error::Stale);
                }
                let mut now = before.clone();
                let OrganizationChange { name, tier, settings } = change.clone();
                now.name = name.unwrap_or(now.name);
                now.tier = tier.unwrap_or(now.tier);
                now.settings = settings.unwrap_or(now.settings);
                if now.settings.require_mfa && !before.settings.require_mfa {
                    now.require_mfa_until = Some(tx.now().plus(window));
                }
                if now == before {
                    return Ok(Audited::without_entry(now, Unaudited::Unchanged));
                }
                touch(tx, &mut now)?;
                let mut event = AuditEvent::new("organization.update").on("organization", id, &now.name);
                if now.name != before.name {
                    event = event.detail("name", format!("{} → {}", before.name, now.name));
                }
                if now.tier != before.tier {
                    event = event.detail("tier", format!("{} → {}", before.tier, now.tier));
                }
                if now.settings != before.settings {
                    event = event.detail("settings", serde_json::to_value(&now.settings).map_err(Error::internal)?);
                }
                Ok(in_both_logs(&by, id, event)?.map(|()| now))
            })
            .await
    }

    /// Keeps the second factor that everybody is required to have since a moment ago. Takes one who has it, which shows that
    /// somebody can sign in with one.
    pub async fn confirm_organization(&self, op: &Op, id: OrganizationId) -> Result<Organization, Error> {
        let by = op.acting_user()?;
        self.store
            .write(op.stamp(), move |tx| {
                let mut organization = find(tx, id)?;
                if organization.require_mfa_until.take_if(|until| tx.now() < *until).is_none() {
                    return Err(Error::Conflict("nothing waits to be confirmed, or its time is over".into()));
                }
                if !users::get(tx, id, by)?.is_some_and(|user| user.mfa_enabled()) {
                    let why = "you have no second factor yourself: set one up, and then require it of everybody";
                    return Err(Error::Conflict(why.into()));
                }
                touch(tx, &mut organization)?;
                let event = AuditEvent::new("organization.mfa.confirm").on("organization", id, &organization.name);
                Ok(Audited::new(organization, event))
            })
            .await
    }

    /// What nobody has confirmed in time is required no longer.
    pub async fn take_back_unconfirmed_mfa(&self) -> Result<(), Error> {
        let now = self.now();
        let over = self.store.memory().directory().unconfirmed_mfa(now);
        for id in over {
            let step = move |tx: &mut Tx| {
                let Some(mut organization) = organizations::get(tx, id)? else {
                    return Ok(Audited::without_entry((), Unaudited::Unchanged));
                };
                if organization.require_mfa_until.is_none_or(|until| tx.now() < until) {
                    return Ok(Audited::without_entry((), Unaudited::Unchanged));
                }
                organization.settings.require_mfa = false;
                touch(tx, &mut organization)?;
                let event = AuditEvent::new("organization.mfa.revert").of(id);
                let event = event.on("organization", id, &organization.name).detail("reason", "not confirmed in time");
                Ok(Audited::new((), event))
            };
            self.store.write(Stamp::system(now), step).await?;
            tracing::warn!(organization = %id, "a second factor is required no longer: it was not confirmed in time");
        }
        Ok(())
    }

    /// Deletes the organization with everything that is its own. Its log goes with it; what was deleted stands in the
    /// log of whoever did it.
    pub async fn delete_organization(&self, op: &Op, id: OrganizationId, revision: Option<u64>) -> Result<(), Error> {
        let by = op.clone();
        self.store
            .write(op.stamp(), move |tx| {
                let organization = find(tx, id)?;
                if by.organization_id()? == id {
                    return Err(Error::Conflict("this is your own organization".into()));
                }
                if revision.is_some_and(|revision| revision != organization.revision) {
                    return Err(Error::Stale);
                }
                may_act_on_all(tx, &by, id)?;
                let counts = organizations::delete(tx, id)?;
                let mut event = AuditEvent::new("organization.delete").on("organization", id, &organization.name);
                for (table, count) in counts.into_iter().filter(|(_, count)| *count > 0) {
                    event = event.detail(table, count);
                }
                Ok(Audited::new((), event))
            })
            .await
    }
}

fn touch(tx: &mut Tx, organization: &mut Organization) -> Result<(), Error> {
    organization.updated_at = tx.now();
    organization.revision += 1;
    organizations::put(tx, organization.clone())
}

fn find(from: &impl Read, id: OrganizationId) -> Result<Organization, Error> {
    organizations::get(from, id)?.ok_or(Error::NotFound("organization"))
}

fn check(new: &NewOrganization) -> Result<(), Error> {
    let admin = &new.admin;
    let password = admin.password.as_deref();
    let errors: Vec<FieldError> = [
        names::check("name", &new.name),
        names::check("admin.name", &admin.name),
        accounts::check_email("admin.email", &admin.email),
        password.map_or(Ok(()), |password| Passwords::check("admin.password", password)),
    ]
    .into_iter()
    .filter_map(Result::err)
    .collect();
    if errors.is_empty() { Ok(()) } else { Err(Error::Invalid(errors)) }
}

/// Deleting an organization deletes its users, so it takes what acting on each of them takes.
fn may_act_on_all(tx: &Tx, by: &Op, organization: OrganizationId) -> Result<(), Error> {
    let missing = users::permissions_held(tx, organization)? - by.principal.permissions();
    if missing == Permissions::NONE {
        return Ok(());
    }
    Err(Error::Forbidden(format!("users of this organization hold permissions that you do not: {missing}")))
}

/// What is done to an organization stands in its own log, and in that of whoever did it.
fn in_both_logs(by: &Op, id: OrganizationId, event: AuditEvent) -> Result<Audited<()>, Error> {
    let audited = Audited::new((), event.clone().of(id));
    Ok(if by.organization_id()? == id { audited } else { audited.and(event) })
}
