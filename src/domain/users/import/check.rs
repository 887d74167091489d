//! What each line of an import would do. Changes nothing.

use std::collections::{BTreeSet, HashMap};

use super::{Line, NewLine};
use crate::domain::accounts::check_email;
use crate::domain::authz::grantable_role;
use crate::domain::names;
use crate::domain::op::Op;
use crate::error::Error;
use crate::ids::OrganizationId;
use crate::model::role::RoleRef;
use crate::store::engine::Read;
use crate::store::groups;
use crate::store::users::{self, folded};

/// Groups that one line may name.
const MOST_GROUPS: usize = 100;
/// Groups that one import may make.
const MOST_NEW_GROUPS: usize = 1_000;

/// The role that each line's user gets, or what is wrong with the line.
pub(super) fn check(
    from: &impl Read,
    op: &Op,
    organization: OrganizationId,
    lines: &[Line],
) -> Result<Vec<Result<RoleRef, String>>, Error> {
    let mut seen = Seen::default();
    lines
        .iter()
        .map(|line| match &line.content {
            Ok(new) => seen.check(from, op, organization, line.number, new),
            Err(error) => Ok(Err(error.clone())),
        })
        .collect()
}

/// What earlier lines brought up.
#[derive(Default)]
struct Seen {
    roles: HashMap<String, Result<RoleRef, String>>,
    /// From the e-mail to the number of its line.
    emails: HashMap<String, u64>,
    new_groups: BTreeSet<String>,
}

impl Seen {
    fn check(
        &mut self,
        from: &impl Read,
        op: &Op,
        organization: OrganizationId,
        number: u64,
        new: &NewLine,
    ) -> Result<Result<RoleRef, String>, Error> {
        let mut errors = Vec::new();
        errors.extend(names::check("name", &new.name).err().map(|error| error.to_string()));
        errors.extend(check_email("email", &new.email).err().map(|error| error.to_string()));
        let email = folded(&new.email);
        if let Some(first) = self.emails.get(&email) {
            errors.push(format!("email is that of line {first} already"));
        } else if users::by_email(from, &new.email)?.is_some() {
            errors.push(format!("the e-mail {} is taken", new.email));
        }
        let role = self.role(from, op, organization, &new.role)?;
        errors.extend(role.clone().err());
        let new_groups = self.groups(from, organization, &new.groups, &mut errors)?;
        match role {
            Ok(role) if errors.is_empty() => {
                self.emails.insert(email, number);
                self.new_groups.extend(new_groups);
                Ok(Ok(role))
            }
            _ => Ok(Err(errors.join("; "))),
        }
    }

    fn role(
        &mut self,
        from: &impl Read,
        op: &Op,
        organization: OrganizationId,
        name: &str,
    ) -> Result<Result<RoleRef, String>, Error> {
        if let Some(known) = self.roles.get(name) {
            return Ok(known.clone());
        }
        let role = match grantable_role(from, op, organization, name) {
            Ok(role) => Ok(role),
            Err(Error::Invalid(errors)) => Err(errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")),
            Err(error @ Error::Forbidden(_)) => Err(error.to_string()),
            Err(error) => return Err(error),
        };
        self.roles.insert(name.into(), role.clone());
        Ok(role)
    }

    /// The groups of a line that there are not yet.
    fn groups(
        &self,
        from: &impl Read,
        organization: OrganizationId,
        names: &[String],
        errors: &mut Vec<String>,
    ) -> Result<Vec<String>, Error> {
        let mut new = Vec::new();
        if names.len() > MOST_GROUPS {
            errors.push(format!("groups must have at most {MOST_GROUPS} names"));
            return Ok(new);
        }
        for name in names {
            if let Err(error) = names::check("groups", name) {
                errors.push(error.to_string());
            } else if name.chars().any(char::is_control) {
                // Most likely the end of a quote that was forgotten lines ago.
                errors.push("groups has a name with a line break or another control character".into());
            } else if groups::by_name(from, organization, name)?.is_none() {
                new.push(folded(name));
            }
        }
        let more = new.iter().filter(|name| !self.new_groups.contains(*name)).count();
        if self.new_groups.len() + more > MOST_NEW_GROUPS {
            errors.push(format!("one import may make at most {MOST_NEW_GROUPS} groups"));
        }
        Ok(new)
    }
}
