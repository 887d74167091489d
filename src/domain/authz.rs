//! Who may do what to whom: nobody grants what they do not hold, nor acts on someone who holds what they lack.

use super::op::Op;
use crate::error::Error;
use crate::ids::OrganizationId;
use crate::model::role::RoleRef;
use crate::model::user::User;
use crate::store::engine::Read;
use crate::store::roles;

pub use crate::model::role::{Permission, Permissions, Role};

impl Op {
    /// Refuses to give `permissions` to anybody, unless whoever asks holds them all.
    pub fn may_grant(&self, permissions: Permissions) -> Result<(), Error> {
        let missing = permissions - self.principal.permissions();
        if missing.is_empty() {
            return Ok(());
        }
        Err(Error::Forbidden(format!("you cannot grant what you do not hold: {missing}")))
    }

    /// Refuses to edit, reset, suspend or delete somebody who may do what whoever asks may not.
    pub fn may_act_on(&self, from: &impl Read, user: &User) -> Result<(), Error> {
        let missing = roles::permissions(from, user.organization_id, user.role)? - self.principal.permissions();
        if missing.is_empty() {
            return Ok(());
        }
        Err(Error::Forbidden(format!("this user holds permissions that you do not: {missing}")))
    }
}

/// The role of that name, when whoever asks may give it.
pub fn grantable_role(from: &impl Read, op: &Op, organization: OrganizationId, name: &str) -> Result<RoleRef, Error> {
    let role = roles::by_name(from, organization, name)?;
    let role = role.ok_or_else(|| Error::field("role", format!("names no role: {name:?}")))?;
    op.may_grant(roles::permissions(from, organization, role)?)?;
    Ok(role)
}
