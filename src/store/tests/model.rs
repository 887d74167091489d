//! Random changes to all resources, some refused after they have written, on a disk that loses power in between: the
//! tables, what hangs on them, memory and the audit log always say what a plain model in memory says.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::net::Ipv4Addr;
use std::ops::ControlFlow;

use proptest::prelude::*;
use proptest::sample::Index;
use ring::digest;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::*;
use crate::ids::{CommandId, DeviceId, EnrollmentTokenId, SessionId, UserId};
use crate::model::command::{Command, CommandStatus};
use crate::model::device::{Device, Status};
use crate::model::enrollment::EnrollmentToken;
use crate::model::samples::{new_command, new_device, new_session, new_token, new_user};
use crate::model::session::Session;
use crate::model::user::User;
use crate::store::engine::{Direction, Snapshot};
use crate::store::index::{Filter, Sort};
use crate::store::tables::{
    ADDRESSES, COMMANDS, DEVICES, DEVICES_BY_TOKEN, ENROLLMENT_TOKENS, ENROLLMENT_TOKENS_BY_HASH, HEARTBEATS, Key,
    KeyRange, OPEN_COMMANDS, SESSIONS, SESSIONS_BY_FAMILY, Table, USERS, USERS_BY_EMAIL,
};
use crate::store::write::Tx;
use crate::store::{commands, devices, enrollment_tokens, sessions, users};

/// A pool that is soon used up.
const POOL: (Ipv4Addr, Ipv4Addr) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 5));
const EMAILS: [&str; 4] = ["ann@acme.example", "ANN@acme.example", "bob@acme.example", "cy@acme.example"];
const STATUSES: [Status; 4] = [Status::Online, Status::Offline, Status::Suspended, Status::Wiped];
const COMMAND_STATUSES: [CommandStatus; 4] =
    [CommandStatus::Pending, CommandStatus::Delivered, CommandStatus::Succeeded, CommandStatus::Cancelled];

type DeviceKey = (OrganizationId, DeviceId);

/// What is done, before it is known to what.
#[derive(Clone, Debug)]
struct Step {
    kind: u8,
    pick: Index,
    n: usize,
    refuse: bool,
}

fn step() -> impl Strategy<Value = Step> {
    let parts = (0..14_u8, any::<Index>(), 0..4_usize, prop::bool::weighted(0.15));
    parts.prop_map(|(kind, pick, n, refuse)| Step { kind, pick, n, refuse })
}

#[derive(Clone, Copy, Debug)]
enum Then {
    GoOn,
    Close,
    LosePower,
}

fn then() -> impl Strategy<Value = Then> {
    prop::sample::select(vec![Then::GoOn, Then::Close, Then::LosePower])
}

/// One change, the same to the store and to the model.
#[derive(Clone, Debug)]
enum Change {
    AddUser(User),
    PutUser(User),
    PutSession(Session),
    EndSession(SessionId),
    Enroll(Box<Device>),
    AlterDevice(DeviceKey, Status, String),
    RevokeDevice(DeviceKey),
    DeleteDevice(DeviceKey),
    PutCommand(Command),
    AddToken(EnrollmentToken),
    UseToken(EnrollmentToken),
    DeleteToken(EnrollmentToken),
}

impl Change {
    fn organization(&self) -> Option<OrganizationId> {
        match self {
            Self::AddUser(user) | Self::PutUser(user) => Some(user.organization_id),
            Self::PutSession(session) => Some(session.organization_id),
            Self::EndSession(_) => None,
            Self::Enroll(device) => Some(device.organization_id),
            Self::AlterDevice(key, ..) | Self::RevokeDevice(key) | Self::DeleteDevice(key) => Some(key.0),
            Self::PutCommand(command) => Some(command.organization_id),
            Self::AddToken(token) | Self::UseToken(token) | Self::DeleteToken(token) => Some(token.organization_id),
        }
    }

    /// The address that was given out, for an enrolment.
    fn run(&self, tx: &mut Tx) -> Result<Option<Ipv4Addr>, Error> {
        let find = |tx: &Tx, (organization, id): DeviceKey| {
            devices::get(tx, organization, id)?.ok_or(Error::NotFound("device"))
        };
        match self.clone() {
            Self::AddUser(user) | Self::PutUser(user) => users::put(tx, user)?,
            Self::PutSession(session) => sessions::put(tx, session)?,
            Self::EndSession(id) => {
                sessions::delete(tx, id)?;
            }
            Self::Enroll(device) => {
                let free = devices::free_address(tx, device.organization_id, POOL.0, POOL.1)?;
                let vpn_ip = free.ok_or_else(|| Error::Conflict("the pool is used up".into()))?;
                devices::insert(tx, Device { vpn_ip, ..*device })?;
                return Ok(Some(vpn_ip));
            }
            Self::AlterDevice(key, status, name) => {
                let device = find(tx, key)?;
                devices::put(tx, Device { status, device_name: name, ..device })?;
            }
            Self::RevokeDevice(key) => {
                let mut device = find(tx, key)?;
                devices::revoke_credentials(tx, &mut device)?;
                devices::put(tx, device)?;
            }
            Self::DeleteDevice(key) => {
                let device = find(tx, key)?;
                devices::delete(tx, device)?;
            }
            Self::PutCommand(command) => {
                find(tx, (command.organization_id, command.device_id))?;
                commands::put(tx, &command)?;
            }
            Self::AddToken(token) => enrollment_tokens::insert(tx, &token)?,
            Self::UseToken(token) => enrollment_tokens::put(tx, &token)?,
            Self::DeleteToken(token) => enrollment_tokens::delete(tx, &token)?,
        }
        Ok(None)
    }
}

#[derive(Default)]
struct Model {
    organizations: Vec<OrganizationId>,
    users: BTreeMap<(OrganizationId, UserId), User>,
    sessions: BTreeMap<SessionId, Session>,
    devices: BTreeMap<DeviceKey, Device>,
    commands: BTreeMap<(OrganizationId, DeviceId, CommandId), Command>,
    tokens: BTreeMap<(OrganizationId, EnrollmentTokenId), EnrollmentToken>,
    /// As memory has it, and as the table has it.
    seen: BTreeMap<DeviceKey, Time>,
    written: BTreeMap<DeviceKey, i64>,
    /// Entries of the audit log.
    entries: BTreeMap<OrganizationId, u64>,
    /// All devices that there ever were: what is asked of one that is gone must be refused.
    ever: Vec<DeviceKey>,
    made: u8,
}

fn pick<K: Ord, V: Clone>(from: &BTreeMap<K, V>, at: &Index) -> Option<V> {
    (!from.is_empty()).then(|| from.values().nth(at.index(from.len())).cloned()).flatten()
}

impl Model {
    /// Never twice the same.
    fn hash(&mut self) -> [u8; 32] {
        self.made = self.made.checked_add(1).expect("a test has fewer steps");
        [self.made; 32]
    }

    /// What the step comes to; `None` when there is nothing that it could be done to.
    fn plan(&mut self, step: &Step, ids: &Ids) -> Option<Change> {
        let (at, n) = (&step.pick, step.n);
        let organization_id = self.organizations[at.index(self.organizations.len())];
        let device = || (!self.ever.is_empty()).then(|| self.ever[at.index(self.ever.len())]);
        Some(match step.kind {
            0 => Change::AddUser(new_user(organization_id, ids.next(), EMAILS[n])),
            1 => Change::PutUser(User { name: format!("name {n}"), ..pick(&self.users, at)? }),
            2 => {
                let user = pick(&self.users, at)?;
                Change::PutSession(new_session(&user, ids.next(), self.hash()))
            }
            3 => {
                let session = pick(&self.sessions, at)?;
                let expires_at = session.expires_at.plus(std::time::Duration::from_secs(n as u64));
                Change::PutSession(Session { expires_at, refresh_hash: self.hash(), ..session })
            }
            4 => Change::EndSession(pick(&self.sessions, at)?.id),
            5 | 6 => {
                let owner = pick(&self.users, at).filter(|user| user.organization_id == organization_id);
                let owner = owner.map(|user| user.id);
                Change::Enroll(Box::new(new_device(organization_id, ids.next(), owner, self.hash())))
            }
            7 => Change::AlterDevice(device()?, STATUSES[n], format!("device {n}")),
            8 => Change::RevokeDevice(device()?),
            9 => Change::DeleteDevice(device()?),
            10 => Change::PutCommand(new_command(device()?, ids.next(), CommandStatus::Pending)),
            11 => Change::PutCommand(Command { status: COMMAND_STATUSES[n], ..pick(&self.commands, at)? }),
            12 if n < 2 => Change::AddToken(new_token(organization_id, ids.next(), self.hash())),
            12 => {
                let token = pick(&self.tokens, at)?;
                Change::UseToken(EnrollmentToken { uses: token.uses + 1, ..token })
            }
            _ => Change::DeleteToken(pick(&self.tokens, at)?),
        })
    }

    /// Whether the store must accept the change; if so, it is made here.
    fn accepts(&mut self, change: &Change) -> bool {
        let device_of = |key: &DeviceKey| self.devices.get(key).cloned();
        match change.clone() {
            Change::AddUser(user) => {
                let email = user.email.to_lowercase();
                if self.users.values().any(|other| other.email.to_lowercase() == email) {
                    return false;
                }
                self.users.insert((user.organization_id, user.id), user);
            }
            Change::PutUser(user) => {
                self.users.insert((user.organization_id, user.id), user);
            }
            Change::PutSession(session) => {
                self.sessions.insert(session.id, session);
            }
            Change::EndSession(id) => {
                self.sessions.remove(&id);
            }
            Change::Enroll(device) => {
                let size = POOL.1.to_bits() - POOL.0.to_bits() + 1;
                let used = self.devices.keys().filter(|key| key.0 == device.organization_id).count();
                if used == size as usize {
                    return false;
                }
                let key = (device.organization_id, device.id);
                self.ever.push(key);
                self.devices.insert(key, *device);
            }
            Change::AlterDevice(key, status, device_name) => {
                let Some(device) = device_of(&key) else { return false };
                self.devices.insert(key, Device { status, device_name, ..device });
            }
            Change::RevokeDevice(key) => {
                let Some(device) = device_of(&key) else { return false };
                self.devices.insert(key, Device { token_hash: None, ..device });
            }
            Change::DeleteDevice(key) => {
                if self.devices.remove(&key).is_none() {
                    return false;
                }
                self.commands.retain(|command, _| (command.0, command.1) != key);
                self.seen.remove(&key);
                self.written.remove(&key);
            }
            Change::PutCommand(command) => {
                let device = (command.organization_id, command.device_id);
                if !self.devices.contains_key(&device) {
                    return false;
                }
                self.commands.insert((device.0, device.1, command.id), command);
            }
            Change::AddToken(token) | Change::UseToken(token) => {
                self.tokens.insert((token.organization_id, token.id), token);
            }
            Change::DeleteToken(token) => {
                self.tokens.remove(&(token.organization_id, token.id));
            }
        }
        let owner = change.organization().unwrap_or(self.organizations[0]);
        *self.entries.entry(owner).or_default() += 1;
        true
    }

    fn check(&self, store: &Store) {
        let snapshot = &store.snapshot().unwrap();
        same(snapshot, USERS, self.users.clone());
        same(snapshot, USERS_BY_EMAIL, turned(&self.users, |user| Some(user.email.to_lowercase())));
        same(snapshot, SESSIONS, self.sessions.clone());
        same(snapshot, SESSIONS_BY_FAMILY, turned(&self.sessions, |session| Some(session.family_hash)));
        same(snapshot, DEVICES, self.devices.clone());
        same(snapshot, DEVICES_BY_TOKEN, turned(&self.devices, |device| device.token_hash));
        let addresses = self.devices.values().map(|d| ((d.organization_id, d.vpn_ip.to_bits()), d.id));
        same(snapshot, ADDRESSES, addresses.collect());
        same(snapshot, HEARTBEATS, self.written.clone());
        same(snapshot, COMMANDS, self.commands.clone());
        let open = self.commands.iter().filter(|(_, command)| command.status.is_open());
        same(snapshot, OPEN_COMMANDS, open.map(|(key, _)| (*key, ())).collect());
        same(snapshot, ENROLLMENT_TOKENS, self.tokens.clone());
        same(snapshot, ENROLLMENT_TOKENS_BY_HASH, turned(&self.tokens, |token| Some(token.token_hash)));
        for organization in &self.organizations {
            check_audit(snapshot, *organization, self.entries[organization]);
            self.check_fleet(store, *organization);
        }
        self.check_directory(store);
    }

    fn check_directory(&self, store: &Store) {
        let directory = store.memory().directory();
        for user in self.users.values() {
            let facts = directory.user(user.id).expect("memory knows every user");
            assert_eq!((&*facts.name, facts.organization_id), (&*user.name, user.organization_id));
            let sessions = self.sessions.values().filter(|session| session.user_id == user.id);
            assert!(directory.sessions_of(user.id).eq(sessions.clone().map(|session| session.id)));
            for session in sessions {
                assert_eq!(directory.session(session.id).map(|facts| facts.expires_at), Some(session.expires_at));
            }
        }
        let end = Time::from_unix(i64::MAX);
        let known: BTreeSet<SessionId> = directory.lapsed_sessions(end, usize::MAX).into_iter().collect();
        assert!(known.iter().eq(self.sessions.keys()), "memory knows a session that has ended");
    }

    fn check_fleet(&self, store: &Store, organization: OrganizationId) {
        let fleet = store.memory().fleet(organization);
        let fleet = memory::read(&fleet);
        let mine = || self.devices.values().filter(|device| device.organization_id == organization);
        let holds = |filter: Filter, keep: &dyn Fn(&Device) -> bool| {
            let wanted: Vec<DeviceId> = mine().rev().filter(|device| keep(device)).map(|device| device.id).collect();
            let page = fleet.page(&filter, Sort::default(), 0, 100);
            assert_eq!((page.total, page.ids), (wanted.len() as u64, wanted), "{filter:?}");
        };
        holds(Filter::default(), &|_| true);
        for status in Status::ALL {
            holds(Filter { statuses: vec![*status], ..Filter::default() }, &|device| device.status == *status);
        }
        for user in self.users.values() {
            holds(Filter { users: vec![user.id], ..Filter::default() }, &|device| device.user_id == Some(user.id));
        }
        for text in ["device", "device 1", "new"] {
            holds(Filter { text: text.into(), ..Filter::default() }, &|device| device.device_name.contains(text));
        }
        for device in mine() {
            assert_eq!(fleet.last_seen(device.id), self.seen.get(&(organization, device.id)).copied());
        }
    }
}

/// The rows by what `key` says of them, which is how a second table finds them.
fn turned<K: Ord + Copy, V, L: Ord>(rows: &BTreeMap<K, V>, key: impl Fn(&V) -> Option<L>) -> BTreeMap<L, K> {
    rows.iter().filter_map(|(id, row)| Some((key(row)?, *id))).collect()
}

fn same<K, V>(snapshot: &Snapshot, table: Table<K, V>, wanted: BTreeMap<K, V>)
where
    K: Key + Ord + Debug,
    V: Serialize + DeserializeOwned + PartialEq + Debug,
{
    let mut found = BTreeMap::new();
    let all = table.scan(snapshot, KeyRange::all(), Direction::Ascending, |key, row| {
        found.insert(key, row);
        ControlFlow::Continue(())
    });
    all.unwrap();
    assert_eq!(found, wanted, "table {}", table.name);
}

/// The log has an entry for each change and its hashes make one chain, computed here as its description says.
fn check_audit(snapshot: &Snapshot, organization: OrganizationId, wanted: u64) {
    let head = audit::head(snapshot, organization).unwrap();
    assert_eq!(head.seq, wanted);
    let mut entries = Vec::new();
    let all = audit::newest_first(snapshot, organization, 1, u64::MAX, |entry| {
        entries.push(entry);
        ControlFlow::Continue(())
    });
    all.unwrap();
    entries.reverse();
    let mut before = [0; 32].to_vec();
    for (seq, mut entry) in (1..).zip(entries) {
        assert_eq!(entry.seq, seq);
        let hash = std::mem::take(&mut entry.hash);
        let text = serde_json::to_vec(&entry).unwrap();
        before = digest::digest(&digest::SHA256, &[before, text].concat()).as_ref().to_vec();
        assert_eq!(hash, before.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
    }
    assert_eq!(before, head.hash);
}

async fn write(store: &Store, owner: OrganizationId, change: Change, refuse: bool) -> Result<Option<Ipv4Addr>, Error> {
    let run = move |tx: &mut Tx| {
        let given = change.run(tx)?;
        if refuse {
            return Err(Error::Conflict("refused after writing".into()));
        }
        Ok(Audited::new(given, AuditEvent::new("test.change")))
    };
    store.write(stamp(owner), run).await
}

/// Sends the steps together, so that they share commits; the writer takes them in order.
async fn batch(store: &Store, model: &mut Model, ids: &Ids, steps: &[Step]) {
    let mut planned = Vec::new();
    for step in steps {
        let Some(change) = model.plan(step, ids) else { continue };
        let accepted = !step.refuse && model.accepts(&change);
        planned.push((change, step.refuse, accepted));
    }
    let writes = planned.iter().map(|(change, refuse, _)| {
        write(store, change.organization().unwrap_or(model.organizations[0]), change.clone(), *refuse)
    });
    let results = futures_util::future::join_all(writes).await;
    for ((change, _, accepted), result) in planned.iter().zip(results) {
        assert_eq!(result.is_ok(), *accepted, "{change:?}: {result:?}");
        if let (Change::Enroll(device), Ok(Some(given))) = (change, result)
            && let Some(device) = model.devices.get_mut(&(device.organization_id, device.id))
        {
            assert!((POOL.0..=POOL.1).contains(&given));
            device.vpn_ip = given;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn tables_indexes_memory_and_the_audit_log_agree_with_a_plain_model(
        rounds in prop::collection::vec((prop::collection::vec(step(), 1..20), any::<Index>(), then()), 1..8)
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut disk = Disk::holding(Vec::new());
        let mut store = open(&disk);
        let ids = Ids::new(Arc::new(ManualClock::at(NOW)));
        let mut model = Model::default();
        for _ in 0..2 {
            let made = runtime.block_on(organization(&store));
            model.organizations.push(made);
            model.entries.insert(made, 1);
        }
        for (round, (steps, heard, then)) in rounds.iter().enumerate() {
            runtime.block_on(batch(&store, &mut model, &ids, steps));
            model.check(&store);
            // A heartbeat is known at once, and outlives the process when it has been written.
            let now = NOW.plus(std::time::Duration::from_secs(round as u64));
            if let Some(device) = pick(&model.devices, heard) {
                store.seen(device.organization_id, device.id, now);
                model.seen.insert((device.organization_id, device.id), now);
            }
            if steps.len() % 2 == 0 {
                runtime.block_on(store.flush_heartbeats(Stamp::system(now))).unwrap();
                model.written = model.seen.iter().map(|(key, time)| (*key, time.unix())).collect();
            }
            match then {
                Then::GoOn => {}
                Then::Close => {
                    store.close();
                    store = open(&disk);
                }
                Then::LosePower => {
                    disk = disk.after_power_cut(disk.events(), || false);
                    store = open(&disk);
                }
            }
            if !matches!(then, Then::GoOn) {
                model.seen = model.written.iter().map(|(key, time)| (*key, Time::from_unix(*time))).collect();
            }
            model.check(&store);
        }
    }
}
