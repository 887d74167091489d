//! Keys with which programs act for the users who made them.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::authz::{Permissions, grantable_role};
use super::op::Op;
use super::{Services, names, secrets};
use crate::clock::Time;
use crate::error::Error;
use crate::ids::{ApiKeyId, OrganizationId};
use crate::model::api_key::{ApiKey, KeyGrant};
use crate::store::api_keys;
use crate::store::audit::AuditEvent;
use crate::store::write::{Audited, Tx};

/// Keys of one organization, expired ones included: bounds what is held in memory.
const MOST: u64 = 1_000;
/// Characters of a key that are kept to recognize it by: the prefix of its kind, and four of 43 random ones.
const RECOGNIZABLE: usize = 8;

#[derive(Clone, Debug)]
pub struct NewApiKey {
    pub name: String,
    /// Name of a role. This or `permissions`, never both.
    pub role: Option<String>,
    pub permissions: Option<Permissions>,
    pub expires_in_days: Option<u32>,
}

/// A new key, with the only copy of its secret.
#[derive(Clone, Serialize, Deserialize)]
pub struct IssuedKey {
    pub record: ApiKey,
    pub key: String,
}

/// A key, as people see one.
pub struct ShownKey {
    pub record: ApiKey,
    /// What the role is called; `None` for a key with permissions of its own, or whose role is gone.
    pub role: Option<String>,
    pub last_used_at: Option<Time>,
}

impl Services {
    pub async fn create_api_key(&self, op: &Op, new: NewApiKey) -> Result<IssuedKey, Error> {
        names::require("name", &new.name)?;
        let (organization_id, created_by) = (op.organization_id()?, op.acting_user()?);
        let (key, key_hash) = secrets::make(secrets::API_KEY);
        let days = |days: u32| Duration::from_secs(u64::from(days) * 24 * 60 * 60);
        let life = new.expires_in_days.map_or(self.config.auth.api_key_life, days);
        let by = op.clone();
        self.store
            .write(op.stamp(), move |tx| {
                if api_keys::count(tx, organization_id)? >= MOST {
                    return Err(Error::Conflict(format!("there are {MOST} API keys already: delete some first")));
                }
                let grant = grant(tx, &by, organization_id, &new)?;
                let now = tx.now();
                let record = ApiKey {
                    id: tx.new_id(),
                    organization_id,
                    name: new.name.clone(),
                    grant,
                    prefix: key[..RECOGNIZABLE].into(),
                    key_hash,
                    created_by,
                    created_at: now,
                    expires_at: now.plus(life),
                };
                api_keys::insert(tx, record.clone())?;
                let event = AuditEvent::new("api_key.create").on("api_key", record.id, &record.name);
                let may = match (&new.role, grant) {
                    (_, KeyGrant::Permissions(permissions)) => event.detail("permissions", permissions.to_string()),
                    (role, KeyGrant::Role(_)) => event.detail("role", role.clone()),
                };
                let event = may.detail("expires_at", record.expires_at.to_string());
                Ok(Audited::new(IssuedKey { record, key: key.clone() }, event))
            })
            .await
    }

    pub fn api_keys(&self, op: &Op, offset: u64, limit: usize) -> Result<(u64, Vec<ShownKey>), Error> {
        let (total, found) = api_keys::page(&self.store.snapshot()?, op.organization_id()?, offset, limit)?;
        Ok((total, found.into_iter().map(|key| self.shown_key(key)).collect()))
    }

    /// The key, with what memory knows beside the row.
    pub fn shown_key(&self, record: ApiKey) -> ShownKey {
        let directory = self.store.memory().directory();
        let role = match record.grant {
            KeyGrant::Role(role) => Some(directory.role_name(role).to_owned()).filter(|name| !name.is_empty()),
            KeyGrant::Permissions(_) => None,
        };
        let last_used_at = directory.api_key(record.id).and_then(|key| key.last_used_at());
        ShownKey { record, role, last_used_at }
    }

    pub async fn delete_api_key(&self, op: &Op, id: ApiKeyId) -> Result<(), Error> {
        let organization = op.organization_id()?;
        self.store
            .write(op.stamp(), move |tx| {
                let key = api_keys::get(tx, organization, id)?.ok_or(Error::NotFound("API key"))?;
                api_keys::delete(tx, &key)?;
                Ok(Audited::new(
                    (),
                    AuditEvent::new("api_key.delete").on("api_key", id, &key.name).about(key.created_by),
                ))
            })
            .await
    }
}

/// What the new key may do, when whoever makes it may do as much.
fn grant(tx: &Tx, op: &Op, organization: OrganizationId, new: &NewApiKey) -> Result<KeyGrant, Error> {
    match (&new.role, new.permissions) {
        (Some(role), None) => grantable_role(tx, op, organization, role).map(KeyGrant::Role),
        (None, Some(permissions)) => op.may_grant(permissions).map(|()| KeyGrant::Permissions(permissions)),
        _ => Err(Error::field("role", "or permissions says what the key may do: give exactly one of them")),
    }
}
