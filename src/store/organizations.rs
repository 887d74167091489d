use std::collections::BTreeMap;
use std::ops::ControlFlow;

use super::engine::{Direction, Read};
use super::memory::Effect;
use super::sessions;
use super::tables::{
    self, DEVICES, DEVICES_BY_TOKEN, ENROLLMENT_TOKENS, ENROLLMENT_TOKENS_BY_HASH, KeyRange, LINK_OF_USER, LINKS,
    ORGANIZATIONS, SESSIONS_OF_USER, SUPER_ADMINS, USERS, USERS_BY_EMAIL,
};
use super::users::{folded, require_super_admin};
use super::write::Tx;
use crate::error::Error;
use crate::ids::OrganizationId;
use crate::model::organization::Organization;

/// Organizations that an appliance may have.
const MOST: u64 = 10_000;

pub fn get(from: &impl Read, id: OrganizationId) -> Result<Option<Organization>, Error> {
    ORGANIZATIONS.get(from, &id)
}

/// Oldest first: the number of organizations, and the part from `offset` on.
pub fn page(from: &impl Read, offset: u64, limit: usize) -> Result<(u64, Vec<Organization>), Error> {
    ORGANIZATIONS.page(from, KeyRange::all(), Direction::Ascending, offset, limit)
}

/// Stores an organization, new or changed; a conflict when it would be one too many.
pub fn put(tx: &mut Tx, organization: Organization) -> Result<(), Error> {
    if !ORGANIZATIONS.contains(tx, &organization.id)? {
        tx.require_space()?;
        if page(tx, 0, 0)?.0 >= MOST {
            return Err(Error::Conflict(format!("an appliance has at most {MOST} organizations")));
        }
    }
    tx.put(ORGANIZATIONS, &organization.id, &organization)?;
    tx.effect(Effect::Organization(organization));
    Ok(())
}

/// Removes the organization with every row that is its own, its audit log included; tells how many there were, by
/// table. A conflict when it would leave the appliance without a super admin.
///
/// Outcomes remembered for its people stay until they lapse, a day at most: they are sealed, and nobody is left to
/// ask for them.
pub fn delete(tx: &mut Tx, id: OrganizationId) -> Result<BTreeMap<&'static str, u64>, Error> {
    let mut counts = BTreeMap::new();
    // What leads to its rows from outside, while they still say what that is.
    let mut open = Vec::new();
    SESSIONS_OF_USER.scan(tx, KeyRange::prefix(&id), Direction::Ascending, |(.., session), ()| {
        open.push(session);
        ControlFlow::Continue(())
    })?;
    counts.insert("sessions", open.len() as u64);
    for session in open {
        sessions::delete(tx, session)?;
    }
    for hash in collect(tx, LINK_OF_USER, id, Some)? {
        tx.delete(LINKS, &hash)?;
    }
    for email in collect(tx, USERS, id, |user| Some(folded(&user.email)))? {
        tx.delete(USERS_BY_EMAIL, &email)?;
    }
    for hash in collect(tx, DEVICES, id, |device| device.token_hash)? {
        tx.delete(DEVICES_BY_TOKEN, &hash)?;
    }
    for hash in collect(tx, ENROLLMENT_TOKENS, id, |token| Some(token.token_hash))? {
        tx.delete(ENROLLMENT_TOKENS_BY_HASH, &hash)?;
    }
    for table in tables::ALL.iter().filter(|table| table.of_organization) {
        counts.insert(table.name, tx.delete_range(table.name, &KeyRange::prefix(&id))?);
    }
    if counts.get(SUPER_ADMINS.name).is_some_and(|count| *count > 0) {
        require_super_admin(tx)?;
    }
    tx.effect(Effect::OrganizationGone(id));
    Ok(counts)
}

/// What `pick` takes from each of the organization's rows.
fn collect<K: tables::Key, V: serde::Serialize + serde::de::DeserializeOwned, T>(
    from: &impl Read,
    table: tables::Table<K, V>,
    organization: OrganizationId,
    pick: impl Fn(V) -> Option<T>,
) -> Result<Vec<T>, Error> {
    let mut found = Vec::new();
    table.scan(from, KeyRange::prefix(&organization), Direction::Ascending, |_, row| {
        found.extend(pick(row));
        ControlFlow::Continue(())
    })?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::ops::Bound;
    use std::sync::Arc;

    use super::*;
    use crate::clock::{ManualClock, Time};
    use crate::ids::{DeviceId, Ids, UserId};
    use crate::model::audit::Actor;
    use crate::model::command::{Command, CommandStatus, CommandType, WipeIntent};
    use crate::model::device::{Compliance, Device, Platform, Status};
    use crate::model::enrollment::EnrollmentToken;
    use crate::model::group::Group;
    use crate::model::link::{Link, Purpose};
    use crate::model::organization::{OrganizationSettings, Tier};
    use crate::model::role::{CustomRole, Permissions, RoleRef};
    use crate::model::session::Session;
    use crate::model::user::{User, UserStatus};
    use crate::store::audit::AuditEvent;
    use crate::store::engine::faults::Disk;
    use crate::store::engine::{Engine, Options};
    use crate::store::write::{Audited, Stamp};
    use crate::store::{Store, commands, devices, enrollment_tokens, groups, links, memory, roles, sessions, users};

    const NOW: Time = Time::from_unix(1_800_000_000);
    /// What belongs to the appliance, and not to an organization.
    const APPLIANCE: &[&str] = &["meta", "secrets", "signing_keys", "outcomes", "outcomes_by_expiry"];

    fn open(disk: &Disk) -> Store {
        let options = Options { cache_bytes: 1 << 20, verify_up_to_bytes: u64::MAX };
        let engine = Engine::open_on(disk.clone(), options).unwrap();
        Store::start(engine, Arc::new(Ids::new(Arc::new(ManualClock::at(NOW)))), Box::new(|| false)).unwrap()
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
            put(
                tx,
                Organization {
                    id,
                    name: "Acme".into(),
                    tier: Tier::Standard,
                    default_policy_id: None,
                    settings: OrganizationSettings::default(),
                    created_at: now,
                    updated_at: now,
                    revision: 1,
                },
            )?;
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
            let user = |tx: &Tx, name: &str, role| User {
                id: tx.new_id(),
                organization_id: id,
                email: format!("{name}@{seed}.example"),
                name: name.into(),
                role,
                status: UserStatus::Active,
                password_hash: None,
                policy_id: None,
                last_login: None,
                created_at: now,
                updated_at: now,
                revision: 1,
            };
            let (root, mover) = (user(tx, "root", RoleRef::SUPER_ADMIN), user(tx, "mover", RoleRef::Custom(role.id)));
            roles::put(tx, role)?;
            users::put(tx, root.clone())?;
            users::put(tx, mover.clone())?;
            let mut around = None;
            for name in ["Sales", "Sales North"] {
                let group = Group {
                    id: tx.new_id(),
                    organization_id: id,
                    name: name.into(),
                    parent_id: around,
                    policy_id: None,
                    created_at: now,
                    updated_at: now,
                    revision: 1,
                };
                around = Some(group.id);
                groups::put(tx, group.clone())?;
                groups::join(tx, id, group.id, mover.id)?;
            }
            let session = Session {
                id: tx.new_id(),
                user_id: root.id,
                organization_id: id,
                family_hash: hash(1),
                refresh_hash: hash(2),
                source_ip: Ipv4Addr::LOCALHOST.into(),
                user_agent: None,
                created_at: now,
                last_used_at: now,
                expires_at: now,
            };
            sessions::put(tx, session)?;
            let device = Device {
                id: tx.new_id(),
                organization_id: id,
                user_id: Some(mover.id),
                device_name: "laptop".into(),
                platform: Platform::Linux,
                agent_version: "1".into(),
                os_version: None,
                serial_number: None,
                hostname: None,
                status: Status::Online,
                enrolled_at: now,
                policy_id: None,
                policy_version: None,
                vpn_ip: Ipv4Addr::new(10, 0, 0, 1),
                wireguard_public_key: None,
                compliance: Compliance::Unknown,
                compliance_reasons: Vec::new(),
                posture: None,
                tags: Vec::new(),
                created_at: now,
                updated_at: now,
                revision: 1,
                token_hash: Some(hash(3)),
                token_expires_at: now,
                enrollment_token_id: None,
            };
            let command = Command {
                id: tx.new_id(),
                organization_id: id,
                device_id: device.id,
                kind: CommandType::Wipe,
                status: CommandStatus::Pending,
                reason: None,
                requested_by: Actor::system(),
                created_at: now,
                delivered_at: None,
                completed_at: None,
                expires_at: None,
            };
            commands::put(tx, &command)?;
            let intent = WipeIntent {
                device_id: device.id,
                device_name: "lost".into(),
                requested_by: Actor::system(),
                requested_at: now,
            };
            commands::put_wipe_intent(tx, id, "SN", &intent)?;
            let token = EnrollmentToken {
                id: tx.new_id(),
                organization_id: id,
                name: "kiosks".into(),
                token_hash: hash(4),
                max_uses: None,
                uses: 0,
                expires_at: None,
                user_id: None,
                tags: Vec::new(),
                created_by: root.id,
                created_at: now,
            };
            enrollment_tokens::insert(tx, &token)?;
            let link = Link {
                organization_id: id,
                user_id: mover.id,
                purpose: Purpose::Reset,
                token_hash: hash(5),
                created_at: now,
                expires_at: now,
            };
            links::put(tx, &link)?;
            let made = (id, root.id, device.id);
            devices::insert(tx, device)?;
            Ok(Audited::new(made, AuditEvent::new("organization.create").of(id)))
        };
        let made = store.write(Stamp::system(NOW), fill).await.unwrap();
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
        let mut waiting = store.memory().wait_for(device);
        erase(&store, owner, gone).await.unwrap();

        let after = dump(&store);
        for (table, rows) in &after {
            if !table.starts_with("audit") {
                assert_eq!(rows, &before[table], "{table} is not as it was");
            }
        }
        assert_eq!(after["audit"].len(), before["audit"].len() + 1, "the deletion itself is in the owner's log");
        assert_eq!(after["audit_heads"].len(), before["audit_heads"].len());
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
        let source: String = include_str!("tables.rs").split_whitespace().collect();
        let declared = source.split("=Table::new(\"").skip(1).map(|rest| rest.split('"').next().unwrap());
        let listed = tables::ALL.iter().map(|table| table.name);
        assert_eq!(declared.collect::<Vec<_>>(), listed.collect::<Vec<_>>(), "tables::ALL has them in their order");
    }
}
