//! Groups: people who belong together, within each other like folders.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::accounts::Person;
use super::authz::Permission;
use super::devices::check_policy;
use super::op::Op;
use super::{Services, names};
use crate::error::{Error, FieldError};
use crate::ids::{GroupId, OrganizationId, PolicyId, UserId};
use crate::model::group::Group;
use crate::store::audit::AuditEvent;
use crate::store::engine::Read;
use crate::store::index::Filter;
use crate::store::write::{Audited, Tx, Unaudited};
use crate::store::{groups, memory, users};

/// Groups within each other at most, the outermost included.
const MOST_LEVELS: usize = 32;
/// Mistakes that one answer names, and people whom one audit entry names, at most.
const NAMED: usize = 20;

/// A group and who is in it directly, oldest first.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Membership {
    pub group: Group,
    pub members: Vec<UserId>,
}

/// A group as it shall be.
#[derive(Clone, Debug)]
pub struct GroupDraft {
    pub name: String,
    pub parent_id: Option<GroupId>,
    /// `None` leaves it as it is; another one takes the permission to assign policies.
    pub policy_id: Option<Option<PolicyId>>,
    /// `None` leaves them as they are.
    pub members: Option<Vec<UserId>>,
}

#[derive(Clone, Debug, Default)]
pub struct GroupFilter {
    /// Part of the name, in whatever case.
    pub text: String,
    pub parent: Option<GroupId>,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct GroupOrder {
    /// By the time it was made, instead of by name.
    pub by_age: bool,
    pub descending: bool,
}

impl Services {
    /// How many groups match, and those from `offset` on, each with the number of people directly in it.
    pub fn groups(
        &self,
        op: &Op,
        filter: &GroupFilter,
        order: GroupOrder,
        offset: u64,
        limit: usize,
    ) -> Result<(u64, Vec<(Group, u64)>), Error> {
        let organization = op.organization_id()?;
        let text = users::folded(&filter.text);
        loop {
            let (total, page) = {
                let directory = self.store.memory().directory();
                let all = directory.groups_by_name(organization);
                let matching = all.filter(|(name, _, facts)| {
                    name.contains(&text) && filter.parent.is_none_or(|parent| facts.parent == Some(parent))
                });
                let mut ids: Vec<GroupId> = matching.map(|(_, id, _)| id).collect();
                if order.by_age {
                    ids.sort_unstable();
                }
                if order.descending {
                    ids.reverse();
                }
                let skip = usize::try_from(offset).unwrap_or(usize::MAX);
                let page: Vec<_> = ids.iter().skip(skip).take(limit).copied().collect();
                let page = page.into_iter().map(|id| (id, directory.member_count(id)));
                (ids.len() as u64, page.collect::<Vec<_>>())
            };
            let snapshot = self.store.snapshot()?;
            let found = page.iter().map(|(id, count)| Ok(groups::get(&snapshot, organization, *id)?.zip(Some(*count))));
            let found: Vec<_> = found.collect::<Result<Vec<_>, Error>>()?.into_iter().flatten().collect();
            // A row that is gone was deleted in a commit that memory is about to follow: look again.
            if found.len() == page.len() {
                return Ok((total, found));
            }
            std::thread::yield_now();
        }
    }

    pub fn group(&self, op: &Op, id: GroupId) -> Result<Membership, Error> {
        let group = find(&self.store.snapshot()?, op.organization_id()?, id)?;
        let members = self.store.memory().directory().members(id).collect();
        Ok(Membership { group, members })
    }

    /// How many devices belong to people in the group, or in one within it, or are in one of these themselves.
    pub fn group_device_count(&self, organization: OrganizationId, id: GroupId) -> u64 {
        let mut filter = Filter { groups: vec![id], ..Filter::default() };
        self.with_members(&mut filter);
        let fleet = self.store.memory().fleet(organization);
        memory::read(&fleet).count(&filter)
    }

    /// Who is in the group directly, oldest first: how many, and those from `offset` on.
    pub fn group_members(&self, op: &Op, id: GroupId, offset: u64, limit: usize) -> Result<(u64, Vec<Person>), Error> {
        let Membership { group, members } = self.group(op, id)?;
        let snapshot = self.store.snapshot()?;
        let skip = usize::try_from(offset).unwrap_or(usize::MAX);
        let page = members.iter().skip(skip).take(limit);
        let found = page.map(|id| users::get(&snapshot, group.organization_id, *id));
        let found = found.collect::<Result<Vec<_>, _>>()?.into_iter().flatten();
        Ok((members.len() as u64, found.map(|user| self.person(user)).collect()))
    }

    pub async fn create_group(&self, op: &Op, draft: GroupDraft) -> Result<Membership, Error> {
        let organization = op.organization_id()?;
        check(&draft)?;
        let by = op.clone();
        self.store
            .write(op.stamp(), move |tx| {
                let (id, now) = (tx.new_id(), tx.now());
                let group = Group {
                    id,
                    organization_id: organization,
                    name: draft.name.clone(),
                    parent_id: draft.parent_id,
                    policy_id: draft.policy_id.flatten(),
                    created_at: now,
                    updated_at: now,
                    revision: 1,
                };
                check_place(tx, &group)?;
                may_assign(tx, &by, &group, None)?;
                let change = Change::between(tx, &group, draft.members.as_deref().unwrap_or_default())?;
                groups::put(tx, group.clone())?;
                change.apply(tx, &group)?;
                let event = AuditEvent::new("group.create").on("group", id, &group.name);
                let mut event = event.detail("parent_id", group.parent_id.map(|id| id.to_string()));
                if let Some(policy) = group.policy_id {
                    event = event.detail("policy_id", policy.to_string());
                }
                let event = change.tell(event);
                Ok(Audited::new(Membership { group, members: change.after }, event))
            })
            .await
    }

    pub async fn change_group(
        &self,
        op: &Op,
        id: GroupId,
        draft: GroupDraft,
        revision: Option<u64>,
    ) -> Result<Membership, Error> {
        check(&draft)?;
        let members = draft.members.clone();
        self.edit_group(op, id, Some(draft), members, revision).await
    }

    pub async fn set_group_members(
        &self,
        op: &Op,
        id: GroupId,
        members: Vec<UserId>,
        revision: Option<u64>,
    ) -> Result<Membership, Error> {
        self.edit_group(op, id, None, Some(members), revision).await
    }

    async fn edit_group(
        &self,
        op: &Op,
        id: GroupId,
        draft: Option<GroupDraft>,
        members: Option<Vec<UserId>>,
        revision: Option<u64>,
    ) -> Result<Membership, Error> {
        let organization = op.organization_id()?;
        let by = op.clone();
        let write = self.store.write(op.stamp(), move |tx| {
            let before = find(tx, organization, id)?;
            if revision.is_some_and(|revision| revision != before.revision) {
                return Err(Error::Stale);
            }
            let mut group = before.clone();
            if let Some(GroupDraft { name, parent_id, policy_id, .. }) = &draft {
                (group.name, group.parent_id) = (name.clone(), *parent_id);
                group.policy_id = policy_id.unwrap_or(group.policy_id);
            }
            may_assign(tx, &by, &group, before.policy_id)?;
            if group.parent_id != before.parent_id {
                check_place(tx, &group)?;
            }
            let change = match &members {
                Some(members) => Change::between(tx, &group, members)?,
                None => Change { after: groups::members(tx, organization, id)?, ..Change::default() },
            };
            if group == before && change.is_empty() {
                let same = Membership { group, members: change.after };
                return Ok(Audited::without_entry(same, Unaudited::Unchanged));
            }
            group.updated_at = tx.now();
            group.revision += 1;
            groups::put(tx, group.clone())?;
            change.apply(tx, &group)?;
            let mut event = AuditEvent::new("group.update").on("group", id, &group.name);
            if group.name != before.name {
                event = event.detail("name", format!("{} → {}", before.name, group.name));
            }
            if group.parent_id != before.parent_id {
                event = event.detail("parent_id", moved(before.parent_id, group.parent_id));
            }
            if group.policy_id != before.policy_id {
                event = event.detail("policy_id", moved(before.policy_id, group.policy_id));
            }
            event = change.tell(event);
            Ok(Audited::new(Membership { group, members: change.after }, event))
        });
        write.await
    }

    pub async fn delete_group(&self, op: &Op, id: GroupId, revision: Option<u64>) -> Result<(), Error> {
        let organization = op.organization_id()?;
        self.store
            .write(op.stamp(), move |tx| {
                let group = find(tx, organization, id)?;
                if revision.is_some_and(|revision| revision != group.revision) {
                    return Err(Error::Stale);
                }
                let within = groups::children(tx, organization, id)?;
                if !within.is_empty() {
                    let named = within.iter().take(NAMED).map(|id| find(tx, organization, *id).map(|group| group.name));
                    let mut named = named.collect::<Result<Vec<_>, _>>()?.join(", ");
                    if within.len() > NAMED {
                        named += ", …";
                    }
                    return Err(Error::Conflict(format!("groups within this one must go or move first: {named}")));
                }
                let members = groups::members(tx, organization, id)?.len();
                groups::delete(tx, &group)?;
                let event = AuditEvent::new("group.delete").on("group", id, &group.name);
                Ok(Audited::new((), event.detail("members_removed", members)))
            })
            .await
    }
}

fn find(from: &impl Read, organization: OrganizationId, id: GroupId) -> Result<Group, Error> {
    groups::get(from, organization, id)?.ok_or(Error::NotFound("group"))
}

fn check(draft: &GroupDraft) -> Result<(), Error> {
    names::require("name", &draft.name)
}

/// Refuses another policy than `before` to whoever may not assign policies, and one that there is not.
fn may_assign(tx: &Tx, by: &Op, group: &Group, before: Option<PolicyId>) -> Result<(), Error> {
    if group.policy_id == before {
        return Ok(());
    }
    by.require(Permission::PoliciesAssign)?;
    check_policy(tx, group.organization_id, group.policy_id)
}

fn moved<I: ToString>(before: Option<I>, after: Option<I>) -> String {
    let text = |id: Option<I>| id.map_or("none".into(), |id| id.to_string());
    format!("{} → {}", text(before), text(after))
}

/// Refuses a place within itself, within too many others, or within none that there is.
fn check_place(tx: &Tx, group: &Group) -> Result<(), Error> {
    let organization = group.organization_id;
    let mut path = vec![group.name.clone()];
    let mut next = group.parent_id;
    while let Some(id) = next {
        if id == group.id {
            path.push(group.name.clone());
            return Err(Error::field("parent_id", format!("makes a cycle: {}", path.join(" → "))));
        }
        let around = groups::get(tx, organization, id)?;
        let around = around.ok_or_else(|| Error::field("parent_id", "names no group"))?;
        path.push(around.name);
        next = around.parent_id;
    }
    let mut levels = path.len();
    let mut within = groups::children(tx, organization, group.id)?;
    while levels <= MOST_LEVELS && !within.is_empty() {
        levels += 1;
        let below = within.iter().map(|id| groups::children(tx, organization, *id));
        within = below.collect::<Result<Vec<_>, _>>()?.concat();
    }
    if levels <= MOST_LEVELS {
        return Ok(());
    }
    Err(Error::field("parent_id", format!("puts more than {MOST_LEVELS} groups within each other")))
}

/// From the people who are in a group to those who shall be.
#[derive(Default)]
struct Change {
    after: Vec<UserId>,
    added: Vec<UserId>,
    removed: Vec<UserId>,
}

impl Change {
    /// Names every one of `wanted` who is nobody, or is there already.
    fn between(tx: &Tx, group: &Group, wanted: &[UserId]) -> Result<Self, Error> {
        let before: BTreeSet<UserId> = groups::members(tx, group.organization_id, group.id)?.into_iter().collect();
        let mut after = BTreeSet::new();
        let mut errors = Vec::new();
        for (at, id) in wanted.iter().enumerate() {
            if !after.insert(*id) {
                errors.push(FieldError::new(format!("members[{at}]"), format!("names {id} once more")));
            } else if !before.contains(id) && !users::exists(tx, group.organization_id, *id)? {
                errors.push(FieldError::new(format!("members[{at}]"), "names no user"));
            }
            if errors.len() == NAMED {
                break;
            }
        }
        if !errors.is_empty() {
            return Err(Error::Invalid(errors));
        }
        let (added, removed) = (after.difference(&before).copied(), before.difference(&after).copied());
        Ok(Self { added: added.collect(), removed: removed.collect(), after: after.into_iter().collect() })
    }

    fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty()
    }

    fn apply(&self, tx: &mut Tx, group: &Group) -> Result<(), Error> {
        self.removed.iter().try_for_each(|user| groups::leave(tx, group.organization_id, group.id, *user))?;
        self.added.iter().try_for_each(|user| groups::join(tx, group.organization_id, group.id, *user))
    }

    /// How many came and went, and who the first of them are.
    fn tell(&self, mut event: AuditEvent) -> AuditEvent {
        for (count, names, users) in
            [("members_added", "added", &self.added), ("members_removed", "removed", &self.removed)]
        {
            if !users.is_empty() {
                let first: Vec<String> = users.iter().take(NAMED).map(ToString::to_string).collect();
                event = event.detail(count, users.len()).detail(names, first);
            }
        }
        event
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clock::ManualClock;
    use crate::config::StoreConfig;
    use crate::ids::Ids;
    use crate::model::samples::{NOW, new_organization, new_user};
    use crate::store::write::Stamp;
    use crate::store::{Store, organizations};

    fn populate(tx: &mut Tx) -> Result<Audited<(Group, Vec<UserId>)>, Error> {
        let (created_at, updated_at, revision) = (NOW, NOW, 1);
        let organization = new_organization(tx.new_id());
        let organization_id = organization.id;
        organizations::put(tx, organization)?;
        let mut people = Vec::new();
        for number in 0..10_000 {
            let user = new_user(organization_id, tx.new_id(), &format!("{number}@acme.example"));
            people.push(user.id);
            users::put(tx, user)?;
        }
        let name = "Everybody".into();
        let (parent_id, policy_id) = (None, None);
        let group =
            Group { id: tx.new_id(), organization_id, name, parent_id, policy_id, created_at, updated_at, revision };
        groups::put(tx, group.clone())?;
        Ok(Audited::new((group, people), AuditEvent::new("organization.create").of(organization_id)))
    }

    /// Every write of the appliance waits while one runs, so a whole company must join and leave quickly.
    #[tokio::test]
    async fn ten_thousand_people_join_and_leave_in_one_transaction_each() {
        let folder = tempfile::tempdir().unwrap();
        let ids = Arc::new(Ids::new(Arc::new(ManualClock::at(NOW))));
        let store = Store::open(&folder.path().join("zero.redb"), &StoreConfig::default(), ids, NOW).unwrap();
        let (group, people) = store.write(Stamp::system(NOW), populate).await.unwrap();
        let id = group.id;
        let set = |wanted: Vec<UserId>| {
            let group = group.clone();
            let change = move |tx: &mut Tx| {
                let change = Change::between(tx, &group, &wanted)?;
                change.apply(tx, &group)?;
                let event = AuditEvent::new("group.update").of(group.organization_id);
                Ok(Audited::new((change.added.len(), change.removed.len()), change.tell(event)))
            };
            store.write(Stamp::system(NOW), change)
        };
        let started = std::time::Instant::now();
        assert_eq!(set(people.clone()).await, Ok((10_000, 0)));
        assert_eq!(store.memory().directory().member_count(id), 10_000);
        assert_eq!(set(people[1..].to_vec()).await, Ok((0, 1)));
        assert_eq!(set(people[..5000].to_vec()).await, Ok((1, 5000)));
        assert_eq!(set(Vec::new()).await, Ok((0, 5000)));
        assert_eq!(store.memory().directory().member_count(id), 0);
        assert!(started.elapsed().as_secs() < 10, "four changes took {:?}", started.elapsed());
    }
}
