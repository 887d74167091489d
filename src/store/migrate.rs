//! From the schema a file was written with to the one this version reads: forwards only.

use std::ops::ControlFlow;

use super::engine::{Direction, Engine, Read, Snapshot, Transaction};
use super::tables::{DEVICES, DEVICES_OF_USER, KeyRange, META, SESSIONS, SESSIONS_OF_USER, SUPER_ADMINS, USERS};
use super::{StoreError, seal};
use crate::error::Error;
use crate::model::role::RoleRef;
use crate::model::user::UserStatus;

/// The steps from version 1 on: the first leads to version 2. One that has been released is never changed.
const MIGRATIONS: &[Migration] = &[list_super_admins, list_what_users_have];

type Migration = fn(&mut Transaction) -> Result<(), Error>;

/// Version of what the tables hold. A file with a newer one is refused; an older one is migrated.
pub const SCHEMA_VERSION: u64 = 1 + MIGRATIONS.len() as u64;

const KEY: &str = "schema_version";

/// Looks at an existing file before it is opened for writing.
pub(super) fn accept(snapshot: &Snapshot) -> Result<(), String> {
    let version = version(snapshot).map_err(|error| error.to_string())?;
    match version {
        // The very first start was cut short before it could say what it made: there is nothing in it yet.
        None => Ok(()),
        Some(version) if version <= SCHEMA_VERSION => Ok(()),
        Some(version) => Err(format!(
            "it was written by a newer version of zero (schema {version}; this one reads up to {SCHEMA_VERSION}). \
             Start the newer version again, or restore a copy of the data made before the update."
        )),
    }
}

/// Brings the file to this version, in one transaction.
pub(super) fn prepare(engine: &Engine) -> Result<(), StoreError> {
    let before = version(&engine.snapshot().map_err(Error::from)?)?;
    if before == Some(SCHEMA_VERSION) {
        return Ok(());
    }
    let mut transaction = engine.begin().map_err(Error::from)?;
    match before {
        None => seal::make_secret(&mut transaction)?,
        Some(version) => {
            let done = usize::try_from(version.saturating_sub(1)).unwrap_or(usize::MAX);
            for migration in MIGRATIONS.iter().skip(done) {
                migration(&mut transaction)?;
            }
        }
    }
    META.put(&mut transaction, &KEY.into(), &SCHEMA_VERSION)?;
    transaction.commit().map_err(Error::from)?;
    Ok(())
}

/// To version 2, which knows the active super admins without looking at every user.
fn list_super_admins(transaction: &mut Transaction) -> Result<(), Error> {
    let mut found = Vec::new();
    USERS.scan(transaction, KeyRange::all(), Direction::Ascending, |key, user| {
        if user.role == RoleRef::SUPER_ADMIN && user.status == UserStatus::Active {
            found.push(key);
        }
        ControlFlow::Continue(())
    })?;
    found.iter().try_for_each(|key| SUPER_ADMINS.put(transaction, key, &()))
}

/// To a version that finds a user's sessions and devices without looking at all of them.
fn list_what_users_have(transaction: &mut Transaction) -> Result<(), Error> {
    let (mut sessions, mut devices) = (Vec::new(), Vec::new());
    SESSIONS.scan(transaction, KeyRange::all(), Direction::Ascending, |id, session| {
        sessions.push((session.organization_id, session.user_id, id));
        ControlFlow::Continue(())
    })?;
    DEVICES.scan(transaction, KeyRange::all(), Direction::Ascending, |(organization, id), device| {
        devices.extend(device.user_id.map(|user| (organization, user, id)));
        ControlFlow::Continue(())
    })?;
    sessions.iter().try_for_each(|key| SESSIONS_OF_USER.put(transaction, key, &()))?;
    devices.iter().try_for_each(|key| DEVICES_OF_USER.put(transaction, key, &()))
}

pub(super) fn version(from: &impl Read) -> Result<Option<u64>, Error> {
    META.get(from, &KEY.into())
}
