//! Who may sign in, as what, and who belongs with whom.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hash;
use std::sync::Arc;

use super::api_keys::{ApiKeyFacts, ApiKeys};
use super::webhooks::Webhooks;
use super::{Effect, Reach};
use crate::clock::Time;
use crate::ids::{ApiKeyId, GroupId, OrganizationId, PolicyId, RoleId, SessionId, UserId, WebhookId};
use crate::model::api_key::KeyGrant;
use crate::model::gdpr::Purpose;
use crate::model::organization::{Organization, Tier};
use crate::model::role::{Permissions, RoleRef};
use crate::model::session::SigningKey;
use crate::model::settings::Settings;
use crate::model::user::UserStatus;
use crate::model::webhook::EventName;
use crate::store::resolution::{MAX_DEPTH, Policies, PolicyFacts};
use crate::store::users::folded;

#[derive(Clone, Copy, Debug, PartialEq)]
struct OrganizationFacts {
    tier: Tier,
    require_mfa_since: Option<Time>,
    require_mfa_until: Option<Time>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct UserFacts {
    pub id: UserId,
    pub organization_id: OrganizationId,
    pub name: Arc<str>,
    pub email: Arc<str>,
    /// Name and e-mail in the form for comparison.
    pub name_key: Arc<str>,
    pub email_key: Arc<str>,
    pub role: RoleRef,
    pub status: UserStatus,
    pub policy: Option<PolicyId>,
    pub mfa_enabled: bool,
    pub restricted: bool,
    pub objections: Box<[Purpose]>,
}

impl UserFacts {
    /// Whether statistics leave the user's devices out.
    fn is_uncounted(&self) -> bool {
        self.restricted || self.objections.contains(&Purpose::Analytics)
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct RoleFacts {
    pub organization_id: OrganizationId,
    pub name: Arc<str>,
    pub permissions: Permissions,
}

#[derive(Clone, Debug, PartialEq)]
pub struct GroupFacts {
    pub organization_id: OrganizationId,
    pub name: Arc<str>,
    pub parent: Option<GroupId>,
    pub policy: Option<PolicyId>,
    /// The name in its form for comparison: which of two groups as near as each other counts first.
    pub order: Arc<str>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SessionFacts {
    pub user_id: UserId,
    pub expires_at: Time,
}

#[derive(Debug, Default, PartialEq)]
pub struct Directory {
    organizations: HashMap<OrganizationId, OrganizationFacts>,
    users: HashMap<UserId, UserFacts>,
    users_by_organization: HashMap<OrganizationId, BTreeSet<UserId>>,
    /// Whose devices statistics leave out.
    uncounted: HashMap<OrganizationId, BTreeSet<UserId>>,
    holders: HashMap<(OrganizationId, RoleRef), u64>,
    roles: HashMap<RoleId, RoleFacts>,
    groups: HashMap<GroupId, GroupFacts>,
    /// By the name in its form for comparison.
    groups_by_organization: HashMap<OrganizationId, BTreeMap<String, GroupId>>,
    members: HashMap<GroupId, BTreeSet<UserId>>,
    groups_by_user: HashMap<UserId, BTreeSet<GroupId>>,
    sessions: HashMap<SessionId, SessionFacts>,
    sessions_by_user: HashMap<UserId, BTreeSet<SessionId>>,
    api_keys: ApiKeys,
    signing_keys: Vec<SigningKey>,
    settings: Settings,
    policies: Policies,
    default_policies: HashMap<OrganizationId, PolicyId>,
    webhooks: Webhooks,
}

impl Directory {
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    pub fn is_set_up(&self) -> bool {
        !self.organizations.is_empty()
    }

    pub fn tier(&self, organization: OrganizationId) -> Tier {
        self.organizations.get(&organization).map_or(Tier::Standard, |organization| organization.tier)
    }

    /// Since when the organization's people need a second factor; `None` when they need none.
    pub fn require_mfa_since(&self, organization: OrganizationId) -> Option<Time> {
        self.organizations.get(&organization).and_then(|organization| organization.require_mfa_since)
    }

    /// The organizations whose people were told to have a second factor, which nobody has confirmed by `now`.
    pub fn unconfirmed_mfa(&self, now: Time) -> Vec<OrganizationId> {
        let is_over = |facts: &OrganizationFacts| facts.require_mfa_until.is_some_and(|until| until <= now);
        self.organizations.iter().filter(|(_, facts)| is_over(facts)).map(|(id, _)| *id).collect()
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

    /// Whether the processing of the user's data is restricted: nothing about them is sent to webhooks or a SIEM,
    /// counted in statistics, or kept of their devices' check-ins.
    pub fn is_restricted(&self, user: UserId) -> bool {
        self.user(user).is_some_and(|user| user.restricted)
    }

    pub fn has_objected(&self, user: UserId, purpose: Purpose) -> bool {
        self.user(user).is_some_and(|user| user.objections.contains(&purpose))
    }

    /// Whether the user may be sent mails other than those about their own account's security: an invitation or a link
    /// for another password is sent in any case.
    pub fn may_notify(&self, user: UserId) -> bool {
        !self.is_restricted(user) && !self.has_objected(user, Purpose::Notifications)
    }

    /// Whose devices the organization's statistics leave out.
    pub fn uncounted(&self, organization: OrganizationId) -> Vec<UserId> {
        self.uncounted.get(&organization).into_iter().flatten().copied().collect()
    }

    pub fn user_count(&self, organization: OrganizationId) -> u64 {
        self.users_by_organization.get(&organization).map_or(0, |users| users.len() as u64)
    }

    /// How many of the organization's users have the role.
    pub fn holders(&self, organization: OrganizationId, role: RoleRef) -> u64 {
        self.holders.get(&(organization, role)).copied().unwrap_or(0)
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

    pub fn is_member(&self, group: GroupId, user: UserId) -> bool {
        self.members.get(&group).is_some_and(|members| members.contains(&user))
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

    /// The organization's groups by name, each with the name in its form for comparison.
    pub fn groups_by_name(
        &self,
        organization: OrganizationId,
    ) -> impl DoubleEndedIterator<Item = (&str, GroupId, &GroupFacts)> {
        let groups = self.groups_by_organization.get(&organization).into_iter().flatten();
        groups.filter_map(|(name, id)| self.groups.get(id).map(|facts| (name.as_str(), *id, facts)))
    }

    /// Who is in the group directly, oldest first.
    pub fn members(&self, group: GroupId) -> impl Iterator<Item = UserId> {
        self.members.get(&group).into_iter().flatten().copied()
    }

    pub fn member_count(&self, group: GroupId) -> u64 {
        self.members.get(&group).map_or(0, |members| members.len() as u64)
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

    pub fn api_key(&self, id: ApiKeyId) -> Option<&ApiKeyFacts> {
        self.api_keys.get(id)
    }

    pub fn api_key_by_hash(&self, hash: &[u8; 32]) -> Option<&ApiKeyFacts> {
        self.api_keys.by_hash(hash)
    }

    /// What the key may do: no more than its maker may now.
    pub fn api_key_permissions(&self, key: &ApiKeyFacts, maker: &UserFacts) -> Permissions {
        let granted = match key.grant {
            KeyGrant::Role(role) => self.permissions(role),
            KeyGrant::Permissions(permissions) => permissions,
        };
        granted & self.permissions(maker.role)
    }

    /// The keys used since the last call, and when.
    pub(in crate::store) fn take_api_key_uses(&self) -> Vec<(OrganizationId, ApiKeyId, Time)> {
        self.api_keys.take_uses()
    }

    /// The organization's webhooks that are told of the event.
    pub fn subscribers(&self, organization: OrganizationId, event: EventName) -> Vec<WebhookId> {
        self.webhooks.subscribers(organization, event)
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
                let Organization { id, tier, require_mfa_since, require_mfa_until, default_policy_id, .. } =
                    organization;
                self.organizations.insert(id, OrganizationFacts { tier, require_mfa_since, require_mfa_until });
                match default_policy_id {
                    Some(policy) => self.default_policies.insert(id, policy),
                    None => self.default_policies.remove(&id),
                };
            }
            Effect::OrganizationGone(organization) => self.forget(organization),
            Effect::User(user) => {
                insert(&mut self.users_by_organization, user.organization_id, user.id);
                let facts = UserFacts {
                    mfa_enabled: user.mfa_enabled(),
                    id: user.id,
                    organization_id: user.organization_id,
                    name_key: folded(&user.name).into(),
                    email_key: folded(&user.email).into(),
                    name: user.name.into(),
                    email: user.email.into(),
                    role: user.role,
                    status: user.status,
                    policy: user.policy_id,
                    restricted: user.privacy.is_restricted(),
                    objections: user.privacy.objections.iter().map(|objection| objection.purpose).collect(),
                };
                if facts.is_uncounted() {
                    insert(&mut self.uncounted, user.organization_id, user.id);
                } else {
                    remove(&mut self.uncounted, user.organization_id, user.id);
                }
                *self.holders.entry((user.organization_id, user.role)).or_default() += 1;
                if let Some(before) = self.users.insert(user.id, facts) {
                    self.release(before.organization_id, before.role);
                }
            }
            Effect::UserGone(user) => {
                if let Some(facts) = self.users.remove(&user) {
                    remove(&mut self.users_by_organization, facts.organization_id, user);
                    remove(&mut self.uncounted, facts.organization_id, user);
                    self.release(facts.organization_id, facts.role);
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
                let names = self.groups_by_organization.entry(group.organization_id).or_default();
                let order: Arc<str> = folded(&group.name).into();
                names.insert(order.to_string(), group.id);
                let facts = GroupFacts {
                    organization_id: group.organization_id,
                    order,
                    name: group.name.into(),
                    parent: group.parent_id,
                    policy: group.policy_id,
                };
                if let Some(before) = self.groups.insert(group.id, facts) {
                    self.forget_name(group.id, &before);
                }
            }
            Effect::GroupGone(group) => {
                if let Some(before) = self.groups.remove(&group) {
                    self.forget_name(group, &before);
                }
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
            Effect::ApiKey(key, last_used) => self.api_keys.insert(key, last_used),
            Effect::ApiKeyGone(key) => self.api_keys.remove(key),
            Effect::SigningKeys(keys) => self.signing_keys = keys,
            Effect::Settings(settings) => self.settings = settings,
            Effect::Webhook(webhook) => self.webhooks.put(webhook),
            Effect::WebhookGone(organization, webhook) => self.webhooks.remove(organization, webhook),
            Effect::Device(_)
            | Effect::DeviceGone(..)
            | Effect::Wake(_)
            | Effect::ToSend(..)
            | Effect::Logged(..)
            | Effect::TimePassed(_) => {}
        }
    }
}

impl Directory {
    fn release(&mut self, organization: OrganizationId, role: RoleRef) {
        if let Some(count) = self.holders.get_mut(&(organization, role)) {
            *count -= 1;
            if *count == 0 {
                self.holders.remove(&(organization, role));
            }
        }
    }

    /// The name that a group had, unless it still has it, or another has it by now.
    fn forget_name(&mut self, id: GroupId, before: &GroupFacts) {
        if self.groups.get(&id).is_some_and(|now| now.order == before.order) {
            return;
        }
        if let Some(names) = self.groups_by_organization.get_mut(&before.organization_id)
            && names.get(&*before.order) == Some(&id)
        {
            names.remove(&*before.order);
            if names.is_empty() {
                self.groups_by_organization.remove(&before.organization_id);
            }
        }
    }

    fn forget(&mut self, organization: OrganizationId) {
        self.organizations.remove(&organization);
        self.uncounted.remove(&organization);
        for user in self.users_by_organization.remove(&organization).unwrap_or_default() {
            self.users.remove(&user);
            self.groups_by_user.remove(&user);
            for session in self.sessions_by_user.remove(&user).unwrap_or_default() {
                self.sessions.remove(&session);
            }
        }
        for group in self.groups_by_organization.remove(&organization).unwrap_or_default().into_values() {
            self.groups.remove(&group);
            self.members.remove(&group);
        }
        self.roles.retain(|_, role| role.organization_id != organization);
        self.holders.retain(|(of, _), _| *of != organization);
        self.api_keys.forget(organization);
        self.policies.forget_all(organization);
        self.default_policies.remove(&organization);
        self.webhooks.forget(organization);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::gdpr::{Objection, Privacy, Restriction};
    use crate::model::samples::{NOW, new_user};
    use crate::model::user::User;

    /// Webhooks, the SIEM and mails ask here: a person who said no would be told of to others, or written to.
    #[test]
    fn whoever_restricts_or_objects_is_known_to_have_until_they_take_it_back() {
        let (organization, id) = (OrganizationId::from_bytes([1; 16]), UserId::from_bytes([2; 16]));
        let plain = new_user(organization, id, "ann@acme.example");
        let restriction = Some(Restriction { since: NOW, reason: None });
        let objection = |purpose| Privacy {
            objections: vec![Objection { purpose, since: NOW, reason: None }],
            ..Privacy::default()
        };
        let cases = [
            (Privacy::default(), (false, true, true)),
            (Privacy { restriction, ..Privacy::default() }, (true, false, false)),
            (objection(Purpose::Notifications), (false, false, true)),
            (objection(Purpose::Analytics), (false, true, false)),
            (objection(Purpose::Profiling), (false, true, true)),
            (Privacy::default(), (false, true, true)),
        ];
        let mut directory = Directory::default();
        for (privacy, expected) in cases {
            directory.apply(Effect::User(User { privacy: privacy.clone(), ..plain.clone() }));
            let is_counted = directory.uncounted(organization).is_empty();
            assert_eq!((directory.is_restricted(id), directory.may_notify(id), is_counted), expected, "{privacy:?}");
            for purpose in Purpose::ALL {
                assert_eq!(directory.has_objected(id, *purpose), privacy.objects_to(*purpose));
            }
        }
        directory.apply(Effect::User(User { privacy: objection(Purpose::Analytics), ..plain }));
        directory.apply(Effect::UserGone(id));
        assert!(directory.uncounted(organization).is_empty() && !directory.is_restricted(id));
    }
}
