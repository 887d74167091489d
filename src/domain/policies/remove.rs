//! Deleting a policy, and what stands in its way.

use super::{find, inherit, replace, require_version};
use crate::domain::assignments::set;
use crate::domain::authz::Permission;
use crate::domain::op::Op;
use crate::domain::{Services, devices};
use crate::error::Error;
use crate::ids::{OrganizationId, PolicyId};
use crate::model::policy::{Policy, PolicyContent};
use crate::store::assignments::Assignee;
use crate::store::audit::AuditEvent;
use crate::store::engine::Read;
use crate::store::write::{Audited, Tx, Unaudited};
use crate::store::{assignments, groups, policies, users};

/// Names that a refusal lists of one kind, at most.
const MAX_NAMES: usize = 5;

impl Services {
    /// A policy in use is deleted only with another one to take its place wherever it was.
    pub async fn delete_policy(
        &self,
        op: &Op,
        id: PolicyId,
        reassign_to: Option<PolicyId>,
        version: Option<u64>,
    ) -> Result<(), Error> {
        let organization = op.organization_id()?;
        if reassign_to.is_some() {
            op.require(Permission::PoliciesAssign)?;
        }
        let delete = move |tx: &mut Tx| {
            let policy = find(tx, organization, id)?;
            require_version(&policy, version)?;
            let uses = Uses::of(tx, organization, id)?;
            let mut event = AuditEvent::new("policy.delete").on("policy", id, &policy.content.name);
            let mut moved = Audited::without_entry((), Unaudited::Unchanged);
            match reassign_to {
                Some(to) => {
                    if to == id || policies::get(tx, organization, to)?.is_none() {
                        return Err(Error::field("reassign_to", "names no other policy"));
                    }
                    event = event.detail("reassigned_to", to.to_string()).detail("uses", uses.describe(tx)?);
                    moved = uses.move_to(tx, &policy, to)?;
                }
                None if uses.is_empty() => {}
                None => {
                    let uses = uses.describe(tx)?.join("; ");
                    let way = "DELETE it with ?reassign_to= and the policy that takes its place";
                    return Err(Error::Conflict(format!("this policy is in use: {uses}. {way}")));
                }
            }
            policies::delete(tx, &policy)?;
            Ok(moved.and(event))
        };
        self.store.write(op.stamp(), delete).await
    }
}

/// Everything that names a policy.
struct Uses {
    organization: OrganizationId,
    extending: Vec<PolicyId>,
    assignees: Vec<Assignee>,
}

impl Uses {
    fn of(from: &impl Read, organization: OrganizationId, id: PolicyId) -> Result<Self, Error> {
        let extending = policies::extending(from, organization, id)?;
        Ok(Self { organization, extending, assignees: assignments::of(from, organization, id)? })
    }

    fn is_empty(&self) -> bool {
        self.extending.is_empty() && self.assignees.is_empty()
    }

    /// By what kind of thing the policy is used, and by which of them.
    fn describe(&self, from: &impl Read) -> Result<Vec<String>, Error> {
        let organization = self.organization;
        let (mut groups, mut users, mut devices, mut is_default) = (Vec::new(), Vec::new(), Vec::new(), false);
        for assignee in &self.assignees {
            match *assignee {
                Assignee::Organization => is_default = true,
                Assignee::Group(id) => groups.push(id),
                Assignee::User(id) => users.push(id),
                Assignee::Device(id) => devices.push(id),
            }
        }
        let mut uses = Vec::new();
        let policy = |id| Ok(policies::get(from, organization, id)?.map(|policy| policy.content.name));
        uses.extend(named("extended by", "policy", "policies", &self.extending, policy)?);
        let group = |id| Ok(groups::get(from, organization, id)?.map(|group| group.name));
        uses.extend(named("assigned to", "group", "groups", &groups, group)?);
        let user = |id| Ok(users::get(from, organization, id)?.map(|user| user.email));
        uses.extend(named("assigned to", "user", "users", &users, user)?);
        let device = |id| devices::find(from, organization, id).map(|device| Some(device.device_name));
        uses.extend(named("assigned to", "device", "devices", &devices, device)?);
        uses.extend(is_default.then(|| "the organization's default".into()));
        Ok(uses)
    }

    /// Puts `to` wherever `policy` was.
    fn move_to(&self, tx: &mut Tx, policy: &Policy, to: PolicyId) -> Result<Audited<()>, Error> {
        let organization = self.organization;
        let mut moved = Audited::without_entry((), Unaudited::Unchanged);
        for id in &self.extending {
            let over = find(tx, organization, *id)?;
            inherit::check_base(tx, organization, (*id, &over.content.name), to, "reassign_to")?;
            let content = PolicyContent { extends: Some(to), ..over.content.clone() };
            let note = format!("{} was deleted", policy.content.name);
            moved = moved.with(replace(tx, over, content, Some(note))?.map(|_| ()));
        }
        for assignee in &self.assignees {
            set(tx, organization, *assignee, Some(to))?;
        }
        Ok(moved)
    }
}

/// `assigned to the groups "A", "B" and 3 more`; nothing when there is none.
fn named<I: Copy>(
    how: &str,
    one: &str,
    many: &str,
    ids: &[I],
    name: impl Fn(I) -> Result<Option<String>, Error>,
) -> Result<Option<String>, Error> {
    if ids.is_empty() {
        return Ok(None);
    }
    let mut names = Vec::new();
    for id in ids.iter().take(MAX_NAMES) {
        names.extend(name(*id)?.map(|name| format!("{name:?}")));
    }
    let kind = if ids.len() == 1 { one } else { many };
    let more = ids.len() - names.len();
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    Ok(Some(format!("{how} the {kind} {}{more}", names.join(", "))))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::Arc;

    use super::*;
    use crate::clock::{ManualClock, Time};
    use crate::config::Config;
    use crate::ids::Ids;
    use crate::model::device::{Compliance, Device, Platform, Status};
    use crate::model::group::Group;
    use crate::model::organization::{Organization, Tier};
    use crate::model::policy::PolicyData;
    use crate::model::role::{Role, RoleRef};
    use crate::model::user::{User, UserStatus};
    use crate::store::write::Stamp;
    use crate::store::{Store, organizations};

    const NOW: Time = Time::from_unix(1_800_000_000);

    fn policy(tx: &mut Tx, organization_id: OrganizationId, name: &str) -> Result<Policy, Error> {
        let (description, policy_data) = (String::new(), PolicyData::default());
        let content = PolicyContent { name: name.into(), description, policy_data, extends: None, active: true };
        let id = tx.new_id();
        let policy = Policy { id, organization_id, content, version: 1, created_at: NOW, updated_at: NOW };
        policies::put(tx, policy.clone(), None)?;
        Ok(policy)
    }

    /// An organization, a user, two groups and a device that all have the policy.
    fn assign(tx: &mut Tx, organization_id: OrganizationId, policy: PolicyId) -> Result<(), Error> {
        let policy_id = Some(policy);
        let (created_at, updated_at, revision) = (NOW, NOW, 1);
        let (name, tier) = ("Acme".into(), Tier::Standard);
        let default_policy_id = policy_id;
        let id = organization_id;
        organizations::put(tx, Organization { id, name, tier, default_policy_id, created_at, updated_at, revision })?;
        for name in ["Sales", "Support"] {
            let (id, name, parent_id) = (tx.new_id(), name.into(), None);
            groups::put(
                tx,
                Group { id, organization_id, name, parent_id, policy_id, created_at, updated_at, revision },
            )?;
        }
        let user = User {
            id: tx.new_id(),
            organization_id,
            email: "ada@acme.example".into(),
            name: "Ada".into(),
            role: RoleRef::BuiltIn(Role::User),
            status: UserStatus::Active,
            password_hash: None,
            policy_id,
            last_login: None,
            created_at,
            updated_at,
            revision,
        };
        users::put(tx, user)?;
        let device = Device {
            id: tx.new_id(),
            organization_id,
            user_id: None,
            device_name: "kiosk".into(),
            platform: Platform::Linux,
            agent_version: "1".into(),
            os_version: None,
            serial_number: None,
            hostname: None,
            status: Status::Online,
            enrolled_at: NOW,
            policy_id,
            group_id: None,
            policy_version: None,
            vpn_ip: Ipv4Addr::LOCALHOST,
            wireguard_public_key: None,
            compliance: Compliance::Unknown,
            compliance_reasons: Vec::new(),
            posture: None,
            tags: Vec::new(),
            created_at,
            updated_at,
            revision,
            token_hash: None,
            token_expires_at: NOW,
            enrollment_token_id: None,
        };
        crate::store::devices::insert(tx, device)
    }

    #[tokio::test]
    async fn whatever_names_a_policy_is_named_and_moves_to_the_one_in_its_place() {
        let folder = tempfile::TempDir::new().unwrap();
        let ids = Arc::new(Ids::new(Arc::new(ManualClock::at(NOW))));
        let owner: OrganizationId = ids.next();
        let store = Store::open(&folder.path().join("zero.redb"), &Config::default().store, ids, NOW).unwrap();
        let stamp = Stamp { organization_id: Some(owner), ..Stamp::system(NOW) };
        let write = store.write(stamp, move |tx| {
            let (old, new) = (policy(tx, owner, "Old")?, policy(tx, owner, "New")?);
            assign(tx, owner, old.id)?;
            let before = Uses::of(tx, owner, old.id)?;
            let moved = before.move_to(tx, &old, new.id)?;
            let after = [Uses::of(tx, owner, old.id)?.describe(tx)?, Uses::of(tx, owner, new.id)?.describe(tx)?];
            Ok(moved.and(AuditEvent::new("policy.delete")).map(|()| after))
        });
        let [old, new] = write.await.unwrap();
        assert!(old.is_empty(), "{old:?}");
        let expected = [
            "assigned to the groups \"Sales\", \"Support\"",
            "assigned to the user \"ada@acme.example\"",
            "assigned to the device \"kiosk\"",
            "the organization's default",
        ];
        assert_eq!(new, expected);
    }

    #[test]
    fn a_refusal_names_a_few_and_counts_the_rest() {
        let name = |id: usize| Ok(Some(id.to_string()));
        let uses = named("assigned to", "group", "groups", &[1, 2, 3, 4, 5, 6, 7], name).unwrap().unwrap();
        assert_eq!(uses, r#"assigned to the groups "1", "2", "3", "4", "5" and 2 more"#);
        assert_eq!(named("assigned to", "group", "groups", &[], name), Ok(None));
    }
}
