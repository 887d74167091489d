//! Verifying an organization's log while the appliance runs.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::domain::Services;
use crate::domain::op::Op;
use crate::error::Error;
use crate::ids::OrganizationId;
use crate::store::audit::verify::{Verdict, Verification};

/// Entries checked on one snapshot.
const STEP: u64 = 20_000;

/// Work on a whole log: how much is under way, by what it is and whose log.
#[derive(Clone, Default)]
pub struct Turns(Arc<Mutex<HashMap<(&'static str, OrganizationId), usize>>>);

/// Ends with its work.
pub struct Turn {
    turns: Turns,
    key: (&'static str, OrganizationId),
}

impl Turns {
    /// # Errors
    /// Too many, when `most` of it are under way.
    pub fn take(&self, what: &'static str, organization: OrganizationId, most: usize) -> Result<Turn, Error> {
        let key = (what, organization);
        let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let under_way = turns.entry(key).or_default();
        if *under_way >= most {
            let message = format!("{what} of this organization's audit log is under way: wait until it has ended");
            return Err(Error::TooMany { message, retry_after: Duration::from_secs(10) });
        }
        *under_way += 1;
        Ok(Turn { turns: self.clone(), key })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut turns = self.turns.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(under_way) = turns.get_mut(&self.key) {
            *under_way -= 1;
            if *under_way == 0 {
                turns.remove(&self.key);
            }
        }
    }
}

impl Services {
    /// Checks the whole log, in as many short transactions as it takes, away from the threads that serve requests.
    pub async fn verify_audit_log(&self, op: &Op) -> Result<Verdict, Error> {
        let organization = op.organization_id()?;
        let _turn = self.audit_turns.take("a verification", organization, 1)?;
        let reader = self.store.reader();
        let mut under_way = None;
        loop {
            let reader = reader.clone();
            let step = move || {
                let snapshot = reader.snapshot()?;
                let mut verification = match under_way {
                    Some(verification) => verification,
                    None => Verification::begin(&snapshot, organization)?,
                };
                let verdict = verification.step(&snapshot, STEP)?;
                Ok::<_, Error>((verification, verdict))
            };
            let (verification, verdict) = tokio::task::spawn_blocking(step).await.map_err(Error::internal)??;
            if let Some(verdict) = verdict {
                return Ok(verdict);
            }
            under_way = Some(verification);
        }
    }
}
