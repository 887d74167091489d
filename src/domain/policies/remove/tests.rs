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
use crate::store::Store;
use crate::store::write::Stamp;

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
        groups::put(tx, Group { id, organization_id, name, parent_id, policy_id, created_at, updated_at, revision })?;
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
    let store = Store::open(&folder.path().join("zero.redb"), &Config::default().store, ids).unwrap();
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
