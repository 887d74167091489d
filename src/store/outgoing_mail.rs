//! What waits to be mailed: written with the link that it brings, and gone with that link.

use std::ops::ControlFlow;

use super::engine::{Direction, Read};
use super::seal;
use super::tables::{KeyRange, META, OUTGOING_MAIL};
use super::write::Tx;
use crate::error::Error;
use crate::ids::{OrganizationId, UserId};
use crate::model::link::Link;
use crate::model::mail::OutgoingMail;

/// Mails that may wait at a time.
const MOST: u64 = 10_000;
/// Where `META` has how many wait: counting them anew for each line of an import would take too long.
const COUNT: &str = "outgoing_mail";
const PURPOSE: &[u8] = b"outgoing mail";

/// Puts the link in the queue, with its secret sealed; false when too many wait already.
pub fn put(tx: &mut Tx, link: &Link, secret: &str) -> Result<bool, Error> {
    let waiting = tx.get(META, &COUNT.into())?.unwrap_or(0);
    if waiting >= MOST {
        return Ok(false);
    }
    let (organization_id, user_id) = (link.organization_id, link.user_id);
    delete(tx, organization_id, user_id)?;
    let id: crate::ids::MailId = tx.new_id();
    let secret = seal::seal(tx, PURPOSE, id.as_bytes(), secret.into())?;
    let Link { purpose, created_at, expires_at, .. } = *link;
    let mail = OutgoingMail { id, organization_id, user_id, purpose, secret, created_at, expires_at };
    tx.put(OUTGOING_MAIL, &(organization_id, user_id), &mail)?;
    count(tx, |waiting| waiting + 1)?;
    Ok(true)
}

/// Takes whatever waits for the user out of the queue.
pub fn delete(tx: &mut Tx, organization: OrganizationId, user: UserId) -> Result<(), Error> {
    // A delete counts as a write even when there is nothing to delete.
    if OUTGOING_MAIL.contains(tx, &(organization, user))? {
        tx.delete(OUTGOING_MAIL, &(organization, user))?;
        count(tx, |waiting| waiting.saturating_sub(1))?;
    }
    Ok(())
}

fn count(tx: &mut Tx, change: impl Fn(u64) -> u64) -> Result<(), Error> {
    let waiting = tx.get(META, &COUNT.into())?.unwrap_or(0);
    tx.put(META, &COUNT.into(), &change(waiting))
}

/// How many wait.
pub fn length(from: &impl Read) -> Result<u64, Error> {
    Ok(META.get(from, &COUNT.into())?.unwrap_or(0))
}

pub fn get(from: &impl Read, organization: OrganizationId, user: UserId) -> Result<Option<OutgoingMail>, Error> {
    OUTGOING_MAIL.get(from, &(organization, user))
}

/// Up to `limit` of what waits and is wanted.
pub fn waiting(
    from: &impl Read,
    limit: usize,
    wanted: impl Fn(&OutgoingMail) -> bool,
) -> Result<Vec<OutgoingMail>, Error> {
    let mut found = Vec::new();
    OUTGOING_MAIL.scan(from, KeyRange::all(), Direction::Ascending, |_, mail| {
        if wanted(&mail) {
            found.push(mail);
        }
        if found.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    Ok(found)
}

/// The secret that the mail brings.
pub fn secret(from: &impl Read, mail: &OutgoingMail) -> Result<String, Error> {
    let secret = seal::open(from, PURPOSE, mail.id.as_bytes(), mail.secret.clone())?;
    String::from_utf8(secret).map_err(|_| Error::Internal("a sealed link is no text".into()))
}
