//! How far an organization's log has been copied to a collector elsewhere.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use super::{PERSONAL, chain};
use crate::error::Error;
use crate::ids::OrganizationId;
use crate::model::audit::AuditEntry;
use crate::store::engine::{Direction, Read};
use crate::store::tables::{AUDIT_FORWARDED, KeyRange, ORGANIZATIONS};
use crate::store::write::Tx;

/// By organization, the newest entry that has been received.
pub type Places = BTreeMap<OrganizationId, u64>;

pub fn places(from: &impl Read) -> Result<Places, Error> {
    let mut places = Places::new();
    AUDIT_FORWARDED.scan(from, KeyRange::all(), Direction::Ascending, |organization, seq| {
        places.insert(organization, seq);
        ControlFlow::Continue(())
    })?;
    Ok(places)
}

/// An organization that is gone meanwhile has no place.
pub fn put_places(tx: &mut Tx, places: &Places) -> Result<(), Error> {
    for (organization, seq) in places {
        if ORGANIZATIONS.contains(tx, organization)? {
            tx.put(AUDIT_FORWARDED, organization, seq)?;
        }
    }
    Ok(())
}

/// Leaves of a stored entry, whose sealed parts are not open, what has nobody's name in it.
pub fn remove_names(entry: &mut AuditEntry) {
    for field in ["actor.name"].iter().chain(PERSONAL) {
        chain::take(entry, field);
    }
}
