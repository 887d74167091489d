//! The groups that a user is in.

use std::collections::BTreeSet;

use crate::error::{Error, FieldError};
use crate::ids::{GroupId, OrganizationId};
use crate::model::group::Group;
use crate::model::user::User;
use crate::store::engine::Read;
use crate::store::groups;
use crate::store::write::Tx;

pub type Groups = BTreeSet<GroupId>;

/// The groups of these names or ids; an error names each that there is not.
pub fn named(from: &impl Read, organization: OrganizationId, names: &[String]) -> Result<Groups, Error> {
    let (mut found, mut errors) = (Groups::new(), Vec::new());
    for (place, name) in names.iter().enumerate() {
        match by_id_or_name(from, organization, name)? {
            Some(group) => {
                found.insert(group.id);
            }
            None => errors.push(FieldError::new(format!("groups[{place}]"), format!("names no group: {name:?}"))),
        }
    }
    if errors.is_empty() { Ok(found) } else { Err(Error::Invalid(errors)) }
}

fn by_id_or_name(from: &impl Read, organization: OrganizationId, name: &str) -> Result<Option<Group>, Error> {
    let by_id = match GroupId::parse(name) {
        Some(id) => groups::get(from, organization, id)?,
        None => None,
    };
    match by_id {
        Some(group) => Ok(Some(group)),
        None => groups::by_name(from, organization, name),
    }
}

/// The groups that the user is in directly.
pub fn of(from: &impl Read, user: &User) -> Result<Groups, Error> {
    Ok(groups::of_user(from, user.organization_id, user.id)?.into_iter().collect())
}

/// What they are called, separated by commas.
pub fn names(from: &impl Read, organization: OrganizationId, ids: &Groups) -> Result<String, Error> {
    let found = ids.iter().map(|id| groups::get(from, organization, *id)).collect::<Result<Vec<_>, _>>()?;
    Ok(found.into_iter().flatten().map(|group| group.name).collect::<Vec<_>>().join(", "))
}

/// Makes these the groups that the user is in directly.
pub fn set(tx: &mut Tx, user: &User, wanted: &Groups) -> Result<(), Error> {
    let before = of(tx, user)?;
    for id in before.difference(wanted) {
        groups::leave(tx, user.organization_id, *id, user.id)?;
    }
    for id in wanted.difference(&before) {
        groups::join(tx, user.organization_id, *id, user.id)?;
    }
    let changed: Groups = before.symmetric_difference(wanted).copied().collect();
    touch(tx, user.organization_id, &changed)
}

/// A group's revision grows with each change of its members.
pub fn touch(tx: &mut Tx, organization: OrganizationId, ids: &Groups) -> Result<(), Error> {
    for id in ids {
        if let Some(mut group) = groups::get(tx, organization, *id)? {
            group.updated_at = tx.now();
            group.revision += 1;
            groups::put(tx, group)?;
        }
    }
    Ok(())
}
