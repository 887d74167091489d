//! Tokens that let devices enrol.

use serde::{Deserialize, Serialize};

use super::authz::Permission;
use super::devices::{check_group, check_policy, check_user};
use super::op::Op;
use super::{Services, names, secrets};
use crate::error::Error;
use crate::ids::{EnrollmentTokenId, GroupId, PolicyId, UserId};
use crate::model::enrollment::EnrollmentToken;
use crate::store::audit::AuditEvent;
use crate::store::enrollment_tokens;
use crate::store::write::Audited;

#[derive(Clone, Debug)]
pub struct NewEnrollmentToken {
    pub name: String,
    pub max_uses: Option<u32>,
    pub expires_in_days: Option<u32>,
    pub user_id: Option<UserId>,
    pub policy_id: Option<PolicyId>,
    pub group_id: Option<GroupId>,
    pub tags: Vec<String>,
}

/// A new token, with the only copy of its secret.
#[derive(Clone, Serialize, Deserialize)]
pub struct Issued {
    pub record: EnrollmentToken,
    pub token: String,
}

impl Services {
    pub async fn create_enrollment_token(&self, op: &Op, new: NewEnrollmentToken) -> Result<Issued, Error> {
        names::require("name", &new.name)?;
        let (organization_id, created_by) = (op.organization_id()?, op.acting_user()?);
        // It lets devices enrol.
        op.require(Permission::DevicesEnroll)?;
        if new.policy_id.is_some() {
            op.require(Permission::PoliciesAssign)?;
        }
        let (token, token_hash) = secrets::make(secrets::ENROLLMENT);
        self.store
            .write(op.stamp(), move |tx| {
                check_user(tx, organization_id, new.user_id)?;
                check_policy(tx, organization_id, new.policy_id)?;
                check_group(tx, organization_id, new.group_id)?;
                let now = tx.now();
                let life = |days: u32| std::time::Duration::from_secs(u64::from(days) * 24 * 60 * 60);
                let record = EnrollmentToken {
                    id: tx.new_id(),
                    organization_id,
                    name: new.name.clone(),
                    token_hash,
                    max_uses: new.max_uses,
                    uses: 0,
                    expires_at: new.expires_in_days.map(|days| now.plus(life(days))),
                    user_id: new.user_id,
                    policy_id: new.policy_id,
                    group_id: new.group_id,
                    tags: new.tags.clone(),
                    created_by,
                    created_at: now,
                };
                enrollment_tokens::insert(tx, &record)?;
                let event = AuditEvent::new("enrollment_token.create").on("enrollment_token", record.id, &record.name);
                Ok(Audited::new(Issued { record, token: token.clone() }, event))
            })
            .await
    }

    pub fn enrollment_tokens(&self, op: &Op, offset: u64, limit: usize) -> Result<(u64, Vec<EnrollmentToken>), Error> {
        enrollment_tokens::page(&self.store.snapshot()?, op.organization_id()?, offset, limit)
    }

    pub async fn delete_enrollment_token(&self, op: &Op, id: EnrollmentTokenId) -> Result<(), Error> {
        let organization = op.organization_id()?;
        self.store
            .write(op.stamp(), move |tx| {
                let token = enrollment_tokens::get(tx, organization, id)?;
                let token = token.ok_or(Error::NotFound("enrolment token"))?;
                enrollment_tokens::delete(tx, &token)?;
                let event = AuditEvent::new("enrollment_token.delete")
                    .on("enrollment_token", id, &token.name)
                    .about(token.user_id);
                Ok(Audited::new((), event))
            })
            .await
    }
}
