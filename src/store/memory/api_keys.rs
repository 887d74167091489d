//! The API keys, as a request needs them: by the hash of what it shows.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use crate::clock::Time;
use crate::ids::{ApiKeyId, OrganizationId, UserId};
use crate::model::api_key::{ApiKey, KeyGrant};

#[derive(Debug, PartialEq)]
pub struct ApiKeyFacts {
    pub id: ApiKeyId,
    pub organization_id: OrganizationId,
    pub name: Arc<str>,
    pub grant: KeyGrant,
    pub created_by: UserId,
    pub expires_at: Time,
    hash: [u8; 32],
    last_used: LastUse,
}

impl ApiKeyFacts {
    pub fn last_used_at(&self) -> Option<Time> {
        let time = self.last_used.time.load(Ordering::Relaxed);
        (time != NEVER).then(|| Time::from_unix(time))
    }

    /// Notes a use; written later, together with others.
    pub fn used(&self, now: Time) {
        if self.last_used.time.fetch_max(now.unix(), Ordering::Relaxed) < now.unix() {
            self.last_used.is_new.store(true, Ordering::Release);
        }
    }
}

/// Changed by every request with the key, so it waits for no lock.
#[derive(Debug)]
struct LastUse {
    time: AtomicI64,
    /// Not written yet.
    is_new: AtomicBool,
}

/// Whether it has been written is nobody's business.
impl PartialEq for LastUse {
    fn eq(&self, other: &Self) -> bool {
        self.time.load(Ordering::Relaxed) == other.time.load(Ordering::Relaxed)
    }
}

const NEVER: i64 = i64::MIN;

#[derive(Debug, Default, PartialEq)]
pub(super) struct ApiKeys {
    keys: HashMap<ApiKeyId, ApiKeyFacts>,
    by_hash: HashMap<[u8; 32], ApiKeyId>,
}

impl ApiKeys {
    /// Drops all of the organization's.
    pub fn forget(&mut self, organization: OrganizationId) {
        self.keys.retain(|_, key| key.organization_id != organization);
        let Self { keys, by_hash } = self;
        by_hash.retain(|_, id| keys.contains_key(id));
    }

    pub fn get(&self, id: ApiKeyId) -> Option<&ApiKeyFacts> {
        self.keys.get(&id)
    }

    pub fn by_hash(&self, hash: &[u8; 32]) -> Option<&ApiKeyFacts> {
        self.by_hash.get(hash).and_then(|id| self.keys.get(id))
    }

    pub fn take_uses(&self) -> Vec<(OrganizationId, ApiKeyId, Time)> {
        let new = self.keys.values().filter(|key| key.last_used.is_new.swap(false, Ordering::Acquire));
        new.filter_map(|key| Some((key.organization_id, key.id, key.last_used_at()?))).collect()
    }

    pub fn insert(&mut self, key: ApiKey, last_used: Option<Time>) {
        self.by_hash.insert(key.key_hash, key.id);
        let last_used = AtomicI64::new(last_used.map_or(NEVER, Time::unix));
        let facts = ApiKeyFacts {
            id: key.id,
            organization_id: key.organization_id,
            name: key.name.into(),
            grant: key.grant,
            created_by: key.created_by,
            expires_at: key.expires_at,
            hash: key.key_hash,
            last_used: LastUse { time: last_used, is_new: AtomicBool::new(false) },
        };
        self.keys.insert(facts.id, facts);
    }

    pub fn remove(&mut self, id: ApiKeyId) {
        if let Some(key) = self.keys.remove(&id) {
            self.by_hash.remove(&key.hash);
        }
    }
}
