//! Who may sign in, as what, and who belongs with whom.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::sync::Arc;

use super::{Effect, Reach};
use crate::clock::Time;
use crate::ids::{GroupId, OrganizationId, PolicyId, RoleId, SessionId, UserId};
use crate::model::organization::Tier;
use crate::model::role::{Permissions, RoleRef};
use crate::model::session::SigningKey;
use crate::model::user::UserStatus;
use crate::store::resolution::{MAX_DEPTH, Policies, PolicyFacts};
use crate::store::users::folded;

#[derive(Clone, Debug)]
pub struct UserFacts {
    pub id: UserId,
    pub organization_id: OrganizationId,
    pub name: Arc<str>,
    pub email: Arc<str>,
    pub role: RoleRef,
    pub status: UserStatus,
    pub policy: Option<PolicyId>,
}

#[derive(Clone, Debug)]
pub struct RoleFacts {
    pub organization_id: OrganizationId,
    pub name: Arc<str>,
    pub permissions: Permissions,
}

#[derive(Clone, Debug)]
pub struct GroupFacts {
    pub organization_id: OrganizationId,
    pub name: Arc<str>,
    pub parent: Option<GroupId>,
    pub policy: Option<PolicyId>,
    /// The name in its form for comparison: which of two groups as near as each other counts first.
    pub order: Arc<str>,
}

#[derive(Clone, Copy, Debug)]
pub struct SessionFacts {
    pub user_id: UserId,
    pub expires_at: Time,
}

#[derive(Default)]
pub struct Directory {
    organizations: HashMap<OrganizationId, Tier>,
    users: HashMap<UserId, UserFacts>,
    users_by_organization: HashMap<OrganizationId, BTreeSet<UserId>>,
    roles: HashMap<RoleId, RoleFacts>,
    groups: HashMap<GroupId, GroupFacts>,
    members: HashMap<GroupId, BTreeSet<UserId>>,
    groups_by_user: HashMap<UserId, BTreeSet<GroupId>>,
    sessions: HashMap<SessionId, SessionFacts>,
    sessions_by_user: HashMap<UserId, BTreeSet<SessionId>>,
    signing_keys: Vec<SigningKey>,
    policies: Policies,
    default_policies: HashMap<OrganizationId, PolicyId>,
}

impl Directory {
    pub fn is_set_up(&self) -> bool {
        !self.organizations.is_empty()
    }

    pub fn tier(&self, organization: OrganizationId) -> Tier {
        self.organizations.get(&organization).copied().unwrap_or(Tier::Standard)
    }

    pub fn organizations(&self) -> impl Iterator<Item = OrganizationId> {
        self.organizations.keys().copied()
    }

    pub fn user(&self, id: UserId) -> Option<&UserFacts> {
        self.users.get(&id)
    }

    /// The organization's users, oldest first.
    pub fn users_of(&self, organization: OrganizationId) -> impl DoubleEndedIterator<Item = &UserFacts> {
        let ids = self.users_by_organization.get(&organization).into_iter().flatten();
        ids.filter_map(|id| self.users.get(id))
    }

    pub fn role(&self, id: RoleId) -> Option<&RoleFacts> {
        self.roles.get(&id)
    }

    /// What the role's holders may do; nothing for one that is gone.
    pub fn permissions(&self, role: RoleRef) -> Permissions {
        match role {
            RoleRef::BuiltIn(role) => role.permissions(),
            RoleRef::Custom(id) => self.role(id).map_or(Permissions::NONE, |role| role.permissions),
        }
    }

    /// What people call the role; empty for one that is gone.
    pub fn role_name(&self, role: RoleRef) -> &str {
        match role {
            RoleRef::BuiltIn(role) => role.as_str(),
            RoleRef::Custom(id) => self.role(id).map_or("", |role| &role.name),
        }
    }

    pub fn group(&self, id: GroupId) -> Option<&GroupFacts> {
        self.groups.get(&id)
    }

    /// These groups, and those within them.
    pub fn groups_within(&self, groups: &[GroupId]) -> Vec<GroupId> {
        let is_within = |group: &GroupId| {
            let around = std::iter::successors(Some(*group), |group| self.group(*group)?.parent).take(MAX_DEPTH + 1);
            around.into_iter().any(|group| groups.contains(&group))
        };
        self.groups.keys().copied().filter(is_within).collect()
    }

    /// Who is in the group directly, oldest first.
    pub fn members(&self, group: GroupId) -> impl Iterator<Item = UserId> {
        self.members.get(&group).into_iter().flatten().copied()
    }

    /// The groups that the user is in directly, oldest first.
    pub fn groups_of(&self, user: UserId) -> impl Iterator<Item = GroupId> {
        self.groups_by_user.get(&user).into_iter().flatten().copied()
    }

    pub fn policies(&self) -> &Policies {
        &self.policies
    }

    pub fn default_policy(&self, organization: OrganizationId) -> Option<PolicyId> {
        self.default_policies.get(&organization).copied()
    }

    /// The organization's policies, oldest first.
    pub fn policies_of(&self, organization: OrganizationId) -> impl Iterator<Item = (PolicyId, &PolicyFacts)> {
        self.policies.of(organization)
    }

    pub fn session(&self, id: SessionId) -> Option<SessionFacts> {
        self.sessions.get(&id).copied()
    }

    /// A user's sessions, oldest first.
    pub fn sessions_of(&self, user: UserId) -> impl DoubleEndedIterator<Item = SessionId> {
        self.sessions_by_user.get(&user).into_iter().flatten().copied()
    }

    pub fn lapsed_sessions(&self, now: Time, limit: usize) -> Vec<SessionId> {
        self.sessions.iter().filter(|(_, s)| s.expires_at <= now).map(|(id, _)| *id).take(limit).collect()
    }

    /// Newest first; tokens are signed with the first.
    pub fn signing_keys(&self) -> &[SigningKey] {
        &self.signing_keys
    }

    /// Whose policies or compliance the effect may change, seen before it is applied.
    pub(super) fn reach(&self, effect: &Effect) -> Option<(OrganizationId, Reach)> {
        match effect {
            Effect::Organization(organization) => {
                let changes = self.default_policy(organization.id) != organization.default_policy_id;
                changes.then_some((organization.id, Reach::All))
            }
            Effect::User(user) => {
                let changes = self.user(user.id).and_then(|facts| facts.policy) != user.policy_id;
                changes.then(|| (user.organization_id, Reach::user(user.id)))
            }
            Effect::Joined(group, user) | Effect::Left(group, user) => {
                let organization = self.group(*group)?.organization_id;
                Some((organization, Reach::user(*user)))
            }
            // Nobody is in a new group yet, and nothing refers to a new policy.
            Effect::Group(group) => {
                let facts = self.group(group.id)?;
                let changes = facts.policy != group.policy_id
                    || facts.parent != group.parent_id
                    || *facts.order != folded(&group.name);
                changes.then_some((group.organization_id, Reach::All))
            }
            Effect::GroupGone(group) => Some((self.group(*group)?.organization_id, Reach::All)),
            Effect::Policy(policy) => self.policies.get(policy.id).map(|facts| (facts.organization_id, Reach::All)),
            Effect::TimePassed(organization) => {
                self.policies.depend_on_time(*organization).then_some((*organization, Reach::All))
            }
            _ => None,
        }
    }

    pub(super) fn apply(&mut self, effect: Effect) {
        match effect {
            Effect::Organization(organization) => {
                self.organizations.insert(organization.id, organization.tier);
                match organization.default_policy_id {
                    Some(policy) => self.default_policies.insert(organization.id, policy),
                    None => self.default_policies.remove(&organization.id),
                };
            }
            Effect::User(user) => {
                insert(&mut self.users_by_organization, user.organization_id, user.id);
                let facts = UserFacts {
                    id: user.id,
                    organization_id: user.organization_id,
                    name: user.name.into(),
                    email: user.email.into(),
                    role: user.role,
                    status: user.status,
                    policy: user.policy_id,
                };
                self.users.insert(user.id, facts);
            }
            Effect::UserGone(user) => {
                if let Some(facts) = self.users.remove(&user) {
                    remove(&mut self.users_by_organization, facts.organization_id, user);
                }
            }
            Effect::Role(role) => {
                let (organization_id, permissions) = (role.organization_id, role.permissions);
                let facts = RoleFacts { organization_id, name: role.name.into(), permissions };
                self.roles.insert(role.id, facts);
            }
            Effect::RoleGone(role) => {
                self.roles.remove(&role);
            }
            Effect::Group(group) => {
                let facts = GroupFacts {
                    organization_id: group.organization_id,
                    order: folded(&group.name).into(),
                    name: group.name.into(),
                    parent: group.parent_id,
                    policy: group.policy_id,
                };
                self.groups.insert(group.id, facts);
            }
            Effect::GroupGone(group) => {
                self.groups.remove(&group);
            }
            Effect::Policy(policy) => self.policies.put(policy.id, PolicyFacts::of(&policy)),
            Effect::PolicyGone(policy) => self.policies.remove(policy),
            Effect::Joined(group, user) => {
                insert(&mut self.members, group, user);
                insert(&mut self.groups_by_user, user, group);
            }
            Effect::Left(group, user) => {
                remove(&mut self.members, group, user);
                remove(&mut self.groups_by_user, user, group);
            }
            Effect::Session(session) => {
                insert(&mut self.sessions_by_user, session.user_id, session.id);
                let facts = SessionFacts { user_id: session.user_id, expires_at: session.expires_at };
                self.sessions.insert(session.id, facts);
            }
            Effect::SessionGone(session) => {
                if let Some(facts) = self.sessions.remove(&session) {
                    remove(&mut self.sessions_by_user, facts.user_id, session);
                }
            }
            Effect::SigningKeys(keys) => self.signing_keys = keys,
            Effect::Device(_) | Effect::DeviceGone(..) | Effect::Wake(_) | Effect::TimePassed(_) => {}
        }
    }
}

fn insert<K: Hash + Eq, V: Ord>(sets: &mut HashMap<K, BTreeSet<V>>, key: K, value: V) {
    sets.entry(key).or_default().insert(value);
}

/// An empty set leaves nothing behind.
fn remove<K: Hash + Eq, V: Ord>(sets: &mut HashMap<K, BTreeSet<V>>, key: K, value: V) {
    if let Some(set) = sets.get_mut(&key) {
        set.remove(&value);
        if set.is_empty() {
            sets.remove(&key);
        }
    }
}
