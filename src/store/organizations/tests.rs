//! What is left of an organization that is gone.

use std::net::Ipv4Addr;
use std::ops::Bound;
use std::sync::Arc;

use super::*;
use crate::clock::ManualClock;
use crate::ids::{DeviceId, Ids, UserId};
use crate::model::api_key::{ApiKey, KeyGrant};
use crate::model::audit::Actor;
use crate::model::command::{CommandStatus, WipeIntent};
use crate::model::device::{Device, Status};
use crate::model::gdpr::{Erasure, Leaving};
use crate::model::group::Group;
use crate::model::link::{Link, Purpose};
use crate::model::policy::{Policy, PolicyContent, PolicyData};
use crate::model::role::{CustomRole, Permissions, RoleRef};
use crate::model::samples::{NOW, new_command, new_device, new_organization, new_session, new_token, new_user};
use crate::model::user::User;
use crate::model::webhook::{DeliveryState, Webhook};
use crate::store::audit::retention::Anchor;
use crate::store::audit::{AuditEvent, checkpoints};
use crate::store::engine::faults::Disk;
use crate::store::engine::{Engine, Options};
use crate::store::write::{Audited, Stamp};
use crate::store::{
    Store, api_keys, commands, devices, enrollment_tokens, erasures, groups, links, memory, outbox, outgoing_mail,
    policies, roles, sessions, users, webhooks,
};

/// What belongs to the appliance, and not to an organization.
const APPLIANCE: &[&str] = &["meta", "secrets", "signing_keys", "outcomes", "outcomes_by_expiry", "settings"];

fn open(disk: &Disk) -> Store {
    let options = Options { cache_bytes: 1 << 20, verify_up_to_bytes: u64::MAX };
    let engine = Engine::open_on(disk.clone(), options).unwrap();
    Store::start(engine, Arc::new(Ids::new(Arc::new(ManualClock::at(NOW)))), NOW, Box::new(|| false)).unwrap()
}

/// Every row of every table.
fn dump(store: &Store) -> BTreeMap<&'static str, BTreeMap<Vec<u8>, Vec<u8>>> {
    let snapshot = store.snapshot().unwrap();
    let rows = |table: &tables::Described| {
        let mut rows = BTreeMap::new();
        let all = (Bound::Unbounded, Bound::Unbounded);
        let mut note = |key: &[u8], value: &[u8]| {
            rows.insert(key.to_vec(), value.to_vec());
            ControlFlow::Continue(())
        };
        snapshot.scan(table.name, all.0, all.1, Direction::Ascending, &mut note).unwrap();
        (table.name, rows)
    };
    tables::ALL.iter().map(rows).collect()
}

/// Makes an organization with something in every table. `seed` makes its hashes its own.
async fn found(store: &Store, seed: u8) -> (OrganizationId, UserId, DeviceId) {
    let fill = move |tx: &mut Tx| {
        let (id, now) = (tx.new_id::<OrganizationId>(), tx.now());
        let hash = |kind: u8| [[seed; 16], [kind; 16]].concat().try_into().unwrap();
        put(tx, new_organization(id))?;
        let role = CustomRole {
            id: tx.new_id(),
            organization_id: id,
            name: "Mover".into(),
            description: String::new(),
            permissions: Permissions::NONE,
            created_at: now,
            updated_at: now,
            revision: 1,
        };
        let user = |tx: &Tx, name: &str| new_user(id, tx.new_id(), &format!("{name}@{seed}.example"));
        let root = User { role: RoleRef::SUPER_ADMIN, ..user(tx, "root") };
        let mover = User { role: RoleRef::Custom(role.id), ..user(tx, "mover") };
        roles::put(tx, role)?;
        users::put(tx, root.clone())?;
        users::put(tx, mover.clone())?;
        let mut base = None;
        for name in ["Base", "Mobile"] {
            let content = PolicyContent {
                name: name.into(),
                description: String::new(),
                policy_data: PolicyData::default(),
                extends: base,
                active: true,
            };
            let (created_at, updated_at) = (now, now);
            let policy = Policy { id: tx.new_id(), organization_id: id, content, version: 1, created_at, updated_at };
            base = Some(policy.id);
            policies::put(tx, policy, None)?;
        }
        let mut around = None;
        for name in ["Sales", "Sales North"] {
            let group = Group {
                id: tx.new_id(),
                organization_id: id,
                name: name.into(),
                parent_id: around,
                policy_id: base,
                created_at: now,
                updated_at: now,
                revision: 1,
            };
            around = Some(group.id);
            groups::put(tx, group.clone())?;
            groups::join(tx, id, group.id, mover.id)?;
        }
        sessions::put(tx, new_session(&root, tx.new_id(), hash(1)))?;
        let address = Ipv4Addr::new(10, 0, 0, 1);
        let device = new_device(id, tx.new_id(), Some(mover.id), hash(3));
        let erasure = Erasure {
            id: tx.new_id(),
            organization_id: id,
            user_id: tx.new_id(),
            erased_at: now,
            devices: Vec::new(),
            sessions_ended: 0,
            api_keys_ended: 0,
        };
        erasures::put(tx, &erasure)?;
        let leaving = Some(Leaving { erasure_id: erasure.id, until: now });
        let device = Device { vpn_ip: address, status: Status::Online, leaving, ..device };
        commands::put(tx, &new_command((id, device.id), tx.new_id(), CommandStatus::Pending))?;
        let intent = WipeIntent {
            device_id: device.id,
            user_id: device.user_id,
            device_name: "lost".into(),
            requested_by: Actor::system(),
            requested_at: now,
        };
        commands::put_wipe_intent(tx, id, "SN", &intent)?;
        enrollment_tokens::insert(tx, &new_token(id, tx.new_id(), hash(4)))?;
        let link = Link {
            organization_id: id,
            user_id: mover.id,
            purpose: Purpose::Reset,
            token_hash: hash(5),
            is_requested: false,
            created_at: now,
            expires_at: now,
        };
        links::put(tx, &link)?;
        links::put(tx, &Link { token_hash: hash(15), is_requested: true, ..link.clone() })?;
        outgoing_mail::put(tx, &link, "secret")?;
        let key = ApiKey {
            id: tx.new_id(),
            organization_id: id,
            name: "script".into(),
            prefix: "zak_".into(),
            key_hash: hash(6),
            grant: KeyGrant::Permissions(Permissions::NONE),
            created_by: root.id,
            created_at: now,
            expires_at: now,
        };
        api_keys::insert(tx, key)?;
        let webhook = tx.new_id();
        let webhook = Webhook {
            id: webhook,
            organization_id: id,
            url: "https://example.com/".into(),
            events: vec!["*".into()],
            enabled: true,
            disabled_reason: None,
            secret: webhooks::seal_secret(tx, webhook, "a secret of a webhook")?,
            previous_secret: None,
            created_at: now,
            updated_at: now,
            revision: 1,
        };
        for state in [DeliveryState::Pending, DeliveryState::Delivered] {
            let delivery = outbox::add_test(tx, id, webhook.id)?;
            if state != DeliveryState::Pending {
                outbox::end(tx, id, webhook.id, delivery, state)?;
            }
        }
        webhooks::put(tx, webhook)?;
        let made = (id, root.id, device.id);
        devices::insert(tx, device)?;
        checkpoints::make(tx, id)?;
        tx.put(tables::AUDIT_FORWARDED, &id, &1)?;
        tx.put(tables::AUDIT_ANCHORS, &id, &Anchor { seq: 0, hash: [0; 32] })?;
        let event = AuditEvent::new("organization.create").of(id);
        Ok(Audited::new(made, event.on("user", root.id, &root.name)))
    };
    let made = store.write(Stamp::system(NOW), fill).await.unwrap();
    store.memory().directory().api_key_by_hash(&[[seed; 16], [6; 16]].concat().try_into().unwrap()).unwrap().used(NOW);
    store.seen(made.0, made.2, NOW);
    store.flush_heartbeats(Stamp::system(NOW)).await.unwrap();
    made
}

async fn erase(store: &Store, by: OrganizationId, id: OrganizationId) -> Result<(), Error> {
    let stamp = Stamp { organization_id: Some(by), ..Stamp::system(NOW) };
    let write = store.write(stamp, move |tx| {
        delete(tx, id)?;
        Ok(Audited::new((), AuditEvent::new("organization.delete")))
    });
    write.await
}

#[tokio::test]
async fn a_deleted_organization_leaves_nothing_in_any_table_nor_in_memory() {
    let disk = Disk::holding(Vec::new());
    let store = open(&disk);
    let (owner, ..) = found(&store, 1).await;
    let before = dump(&store);
    let (gone, user, device) = found(&store, 2).await;
    let filled = dump(&store);
    for table in tables::ALL.iter().filter(|table| !APPLIANCE.contains(&table.name)) {
        let (before, filled) = (before[table.name].len(), filled[table.name].len());
        assert!(filled > before, "`found` makes no row of {}: have it make one", table.name);
    }
    let mut waiting = store.memory().wait_for(gone, device, 0);
    erase(&store, owner, gone).await.unwrap();

    let after = dump(&store);
    for (table, rows) in &after {
        if !table.starts_with("audit") {
            assert_eq!(rows, &before[table], "{table} is not as it was");
        }
    }
    assert_eq!(after["audit"].len(), before["audit"].len() + 1, "the deletion itself is in the owner's log");
    for table in ["audit_heads", "audit_anchors", "audit_checkpoints", "audit_forwarded"] {
        assert_eq!(after[table].len(), before[table].len());
    }
    tokio::time::timeout(std::time::Duration::from_secs(5), waiting.woken()).await.unwrap();
    {
        // Memory is what a fresh start would read.
        let fresh = open(&Disk::holding(disk.bytes()));
        let directory = store.memory().directory();
        assert_eq!(*directory, *fresh.memory().directory());
        assert_eq!(directory.organizations().collect::<Vec<_>>(), [owner]);
        assert!(memory::read(&store.memory().fleet(gone)).is_empty());
        assert_eq!(memory::read(&store.memory().fleet(owner)).len(), 1);
    }

    // Whatever its people had under way finds it gone, and brings nothing of it back.
    let late = Stamp { organization_id: Some(gone), ..Stamp::system(NOW) };
    let late = store.write(late, move |tx| {
        groups::join(tx, gone, tx.new_id(), user)?;
        Ok(Audited::new((), AuditEvent::new("group.update")))
    });
    assert!(matches!(late.await, Err(Error::Unauthenticated(_))));
    assert_eq!(dump(&store), after);
    assert!(matches!(erase(&store, owner, owner).await, Err(Error::Conflict(_))), "the last super admin stays");
    assert_eq!(dump(&store), after);
}

#[test]
fn every_table_is_in_the_list_of_all() {
    let source: String = include_str!("../tables.rs").split_whitespace().collect();
    let declared = source.split("=Table::new(\"").skip(1).map(|rest| rest.split('"').next().unwrap());
    let listed = tables::ALL.iter().map(|table| table.name);
    assert_eq!(declared.collect::<Vec<_>>(), listed.collect::<Vec<_>>(), "tables::ALL has them in their order");
}
