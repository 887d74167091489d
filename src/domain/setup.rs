//! The first organization and its super admin.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::lockout::Attempted;
use super::op::Op;
use super::passwords::{self, Passwords};
use super::{Services, accounts, names, secrets, tokens};
use crate::clock::Time;
use crate::config::Host;
use crate::error::{Error, FieldError};
use crate::model::audit::{Actor, ActorType};
use crate::model::gdpr::Privacy;
use crate::model::mfa::Mfa;
use crate::model::organization::{Organization, OrganizationSettings, Tier};
use crate::model::role::RoleRef;
use crate::model::settings::Settings;
use crate::model::user::{User, UserStatus};
use crate::store::audit::AuditEvent;
use crate::store::tables::{KeyRange, ORGANIZATIONS};
use crate::store::write::{Audited, Stamp, Tx};
use crate::store::{Store, organizations, sessions, settings, users};

/// How long the code is good for.
const LIFE: Duration = Duration::from_secs(60 * 60);

/// Proves that whoever sets the appliance up can read what it printed at its start.
pub struct SetupCode {
    text: String,
    expires_at: Time,
}

impl SetupCode {
    pub fn new(now: Time) -> Self {
        // 60 bits.
        let text = secrets::readable(12);
        Self { text, expires_at: now.plus(LIFE) }
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    fn check(&self, code: &str, now: Time) -> Result<(), Error> {
        // Compared as hashes, so that time tells nothing of where they differ.
        let given = secrets::hash(&code.trim().to_uppercase());
        if given != secrets::hash(&self.text) {
            return Err(Error::Unauthenticated("the setup code is wrong".into()));
        }
        if now >= self.expires_at {
            return Err(Error::Unauthenticated(
                "the setup code has expired: restart the appliance for a new one".into(),
            ));
        }
        Ok(())
    }
}

/// What setting up takes.
#[derive(Clone)]
pub struct NewAppliance {
    pub organization: String,
    pub name: String,
    pub email: String,
    pub password: String,
}

#[derive(Clone, Serialize, Deserialize)]
pub struct SetUp {
    pub organization: Organization,
    pub user: User,
}

impl Services {
    /// Sets the appliance up for the holder of the setup code. It answers to `names` as well, from now on.
    pub async fn set_up(&self, op: &Op, code: &str, new: NewAppliance, names: &[String]) -> Result<SetUp, Error> {
        // With an Idempotency-Key this may be the setup itself, sent again: the transaction tells.
        if self.is_set_up() && op.idempotency.is_none() {
            return Err(already());
        }
        self.lockout.check(&Attempted::Setup, op.peer, op.now)?;
        if let Err(error) = self.setup_code.check(code, op.now) {
            self.lockout.failed(&Attempted::Setup, op.peer, op.now);
            return Err(error);
        }
        let (names, wrong) = hosts(names);
        check(&new, wrong)?;
        let hash = self.passwords.hash(&new.password).await?;
        let made = self.store.write(op.stamp(), move |tx| create(tx, &new, &hash, &names)).await?;
        self.look_at_certificates();
        Ok(made)
    }
}

/// Sets the appliance up on the machine itself.
pub async fn initialise(store: &Store, new: NewAppliance, now: Time) -> Result<SetUp, Error> {
    if store.memory().directory().is_set_up() {
        return Err(already());
    }
    check(&new, Vec::new())?;
    let hash = passwords::hash_now(&new.password)?;
    store.write(Stamp::system(now), move |tx| create(tx, &new, &hash, &[])).await
}

fn already() -> Error {
    Error::Conflict("the appliance is set up already".into())
}

/// The names as a URL writes them, and what is wrong with the others.
fn hosts(names: &[String]) -> (Vec<String>, Vec<FieldError>) {
    let (mut hosts, mut wrong) = (Vec::new(), Vec::new());
    for (at, name) in names.iter().enumerate() {
        match Host::parse(name.trim()) {
            Some(host) => hosts.push(host.to_string()),
            None => wrong.push(FieldError::new(
                format!("names[{at}]"),
                "must be a DNS name in its ASCII form or an IP address, without port or wildcard",
            )),
        }
    }
    (hosts, wrong)
}

/// `errors`: what was found before.
fn check(new: &NewAppliance, mut errors: Vec<FieldError>) -> Result<(), Error> {
    for (field, value) in [("organization", &new.organization), ("name", &new.name)] {
        errors.extend(names::check(field, value).err());
    }
    errors.extend(accounts::check_email("email", &new.email).err());
    errors.extend(Passwords::check("password", &new.password).err());
    if errors.is_empty() { Ok(()) } else { Err(Error::Invalid(errors)) }
}

fn create(tx: &mut Tx, new: &NewAppliance, password_hash: &str, names: &[String]) -> Result<Audited<SetUp>, Error> {
    if ORGANIZATIONS.page(tx, KeyRange::all(), crate::store::engine::Direction::Ascending, 0, 1)?.0 > 0 {
        return Err(already());
    }
    let now = tx.now();
    let organization = Organization {
        id: tx.new_id(),
        name: new.organization.clone(),
        tier: Tier::Standard,
        default_policy_id: None,
        settings: OrganizationSettings::default(),
        require_mfa_since: None,
        require_mfa_until: None,
        created_at: now,
        updated_at: now,
        revision: 1,
    };
    let user = User {
        id: tx.new_id(),
        organization_id: organization.id,
        email: new.email.clone(),
        name: new.name.clone(),
        role: RoleRef::SUPER_ADMIN,
        status: UserStatus::Active,
        password_hash: Some(password_hash.into()),
        mfa: Mfa::default(),
        policy_id: None,
        privacy: Privacy::default(),
        last_login: None,
        created_at: now,
        updated_at: now,
        revision: 1,
    };
    organizations::put(tx, organization.clone())?;
    users::put(tx, user.clone())?;
    settings::put(tx, Settings { names: names.to_vec() })?;
    sessions::set_signing_keys(tx, &[], vec![tokens::new_signing_key(now)])?;
    let actor = Actor { kind: ActorType::User, id: Some(user.id.to_string()), name: Some(user.name.clone()) };
    let setup = AuditEvent::new("system.setup").by(actor.clone()).of(organization.id);
    let mut setup = setup.on("organization", organization.id, &organization.name);
    if !names.is_empty() {
        setup = setup.detail("names", names);
    }
    let created = AuditEvent::new("user.create").by(actor).of(organization.id).on("user", user.id, &user.name);
    let created = created.detail("role", "super_admin");
    Ok(Audited::new(SetUp { organization, user }, setup).and(created))
}
