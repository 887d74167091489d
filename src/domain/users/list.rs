//! Lists of users, found in memory: only the rows of the page are read.

use std::cmp::Ordering;

use crate::domain::Services;
use crate::domain::accounts::Person;
use crate::domain::op::Op;
use crate::error::Error;
use crate::ids::{GroupId, UserId};
use crate::model::user::{User, UserStatus};
use crate::store::memory::{Directory, UserFacts};
use crate::store::{roles, users};

/// Which users; what is `None` or empty does not narrow.
#[derive(Clone, Debug, Default)]
pub struct UserFilter {
    pub status: Option<UserStatus>,
    /// A role's name.
    pub role: Option<String>,
    /// Those who are in it directly.
    pub group: Option<GroupId>,
    /// Part of the name or the e-mail, in whatever case.
    pub text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserSortKey {
    Name,
    Email,
    CreatedAt,
}

#[derive(Clone, Copy, Debug)]
pub struct UserSort {
    pub key: UserSortKey,
    pub descending: bool,
}

impl UserSort {
    /// Ids grow with time, so they settle what the key leaves open and stand for the time a user was made.
    fn compare(self, a: &UserFacts, b: &UserFacts) -> Ordering {
        let by_key = match self.key {
            UserSortKey::Name => a.name_key.cmp(&b.name_key),
            UserSortKey::Email => a.email_key.cmp(&b.email_key),
            UserSortKey::CreatedAt => Ordering::Equal,
        };
        let order = by_key.then(a.id.cmp(&b.id));
        if self.descending { order.reverse() } else { order }
    }
}

impl Services {
    /// How many users match, and those from `offset` on.
    pub fn users(
        &self,
        op: &Op,
        filter: &UserFilter,
        sort: UserSort,
        offset: u64,
        limit: usize,
    ) -> Result<(u64, Vec<Person>), Error> {
        let organization = op.organization_id()?;
        let role = match &filter.role {
            Some(name) => {
                let role = roles::by_name(&self.store.snapshot()?, organization, name)?;
                Some(role.ok_or_else(|| Error::field("role", format!("names no role: {name:?}")))?)
            }
            None => None,
        };
        let text = users::folded(&filter.text);
        let matches = |directory: &Directory, user: &UserFacts| {
            filter.status.is_none_or(|status| user.status == status)
                && role.is_none_or(|role| user.role == role)
                && filter.group.is_none_or(|group| directory.is_member(group, user.id))
                && (user.name_key.contains(&text) || user.email_key.contains(&text))
        };
        loop {
            let (total, ids) = {
                let directory = self.store.memory().directory();
                let found = directory.users_of(organization).filter(|user| matches(&directory, user)).collect();
                page(found, sort, offset, limit)
            };
            let snapshot = self.store.snapshot()?;
            let rows = ids.iter().map(|id| users::get(&snapshot, organization, *id));
            let rows: Vec<User> = rows.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect();
            // A row that is gone was deleted in a commit that memory is about to follow: look again.
            if rows.len() == ids.len() {
                return Ok((total, rows.into_iter().map(|user| self.person(user)).collect()));
            }
            std::thread::yield_now();
        }
    }
}

/// Puts in order only what comes up to the end of the page.
fn page(mut found: Vec<&UserFacts>, sort: UserSort, offset: u64, limit: usize) -> (u64, Vec<UserId>) {
    let total = found.len();
    let first = usize::try_from(offset).unwrap_or(usize::MAX).min(total);
    let end = first.saturating_add(limit).min(total);
    if end < total {
        found.select_nth_unstable_by(end, |a, b| sort.compare(a, b));
    }
    found.truncate(end);
    found.sort_unstable_by(|a, b| sort.compare(a, b));
    (total as u64, found[first..].iter().map(|user| user.id).collect())
}
