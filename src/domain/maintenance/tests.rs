//! What lapses, lapses on time, is said so in the audit log, and takes nothing else with it. The clock is the test's.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use tempfile::TempDir;

use super::*;
use crate::clock::{Clock, ManualClock, Time};
use crate::config::Config;
use crate::domain::DeviceCertificate;
use crate::domain::audit::AuditFilter;
use crate::domain::auth::LogIn;
use crate::domain::checkin::Report;
use crate::domain::devices::DeviceChange;
use crate::domain::enrollment::{Enrolled, NewDevice};
use crate::domain::op::{Op, Presented, Principal};
use crate::domain::setup::{self, NewAppliance};
use crate::domain::users::UserInput;
use crate::ids::{CommandId, Ids, RequestId, SessionId};
use crate::model::audit::AuditEntry;
use crate::model::command::{Command, CommandType};
use crate::model::device::{Certificate, Device, Platform};
use crate::model::gdpr::ErasedWipe;
use crate::store::Store;
use crate::store::write::Tx;

const START: Time = Time::from_unix(1_800_000_000);
const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const EMAIL: &str = "admin@acme.example";
const PASSWORD: &str = "correct horse battery";

struct Appliance {
    services: Services,
    clock: Arc<ManualClock>,
    ids: Arc<Ids>,
    folder: TempDir,
}

impl Appliance {
    async fn set_up() -> Self {
        let clock = Arc::new(ManualClock::at(START));
        let appliance = Self::on(TempDir::new().unwrap(), clock);
        let (organization, name, email, password) = ("Acme".into(), "Ann".into(), EMAIL.into(), PASSWORD.into());
        let new = NewAppliance { organization, name, email, password };
        setup::initialise(&appliance.services.store, new, START).await.unwrap();
        appliance
    }

    fn on(folder: TempDir, clock: Arc<ManualClock>) -> Self {
        let ids = Arc::new(Ids::new(clock.clone() as Arc<dyn Clock>));
        let config = Config::default();
        let store = Store::open(&folder.path().join("zero.redb"), &config.store, ids.clone(), clock.now()).unwrap();
        // Told apart by what asks for them.
        let issuer = Box::new(|csr: &str, _, _, now: Time| {
            let fingerprint = [csr.as_bytes()[0]; 32];
            let certificate = Certificate { fingerprint, serial: csr.into(), expires_at: now.plus(365 * DAY) };
            Ok(DeviceCertificate { certificate_pem: String::new(), ca_pem: String::new(), certificate })
        });
        let services = Services::new(store, config, ids.clone(), clock.clone(), issuer);
        Self { services, clock, ids, folder }
    }

    fn restart(self) -> Self {
        self.services.store.close();
        Self::on(self.folder, self.clock)
    }

    fn op(&self, principal: Principal) -> Op {
        let request_id: RequestId = self.ids.next();
        let peer = IpAddr::V4(Ipv4Addr::LOCALHOST);
        Op { principal, request_id, peer, entrance: 0, now: self.clock.now(), idempotency: None }
    }

    /// Signs in: the access token.
    async fn log_in(&self) -> String {
        let op = self.op(Principal::Anonymous);
        match self.services.log_in(&op, EMAIL, PASSWORD, None).await.unwrap() {
            LogIn::SignedIn(signed_in) => signed_in.token,
            LogIn::MfaRequired { .. } => panic!("no second factor was set up"),
        }
    }

    fn by(&self, token: &str) -> Op {
        self.op(self.services.identify(token, self.clock.now()).expect("the token is good"))
    }

    fn is_good(&self, token: &str) -> bool {
        self.services.identify(token, self.clock.now()).is_ok()
    }

    fn session(&self, token: &str) -> SessionId {
        self.by(token).user().unwrap().session_id
    }

    async fn pass(&self, time: Duration) {
        self.clock.advance(time);
        self.services.tidy().await.unwrap();
    }

    /// Entries of the audit log with this action, newest first.
    async fn log(&self, action: &str) -> Vec<AuditEntry> {
        let op = self.by(&self.log_in().await);
        let filter = AuditFilter { action: Some(action.into()), ..AuditFilter::default() };
        self.services.audit_log(&op, filter, 0, 1000).await.unwrap().1
    }

    async fn enroll(&self, name: &str) -> Enrolled {
        let new = NewDevice {
            device_name: name.into(),
            platform: Platform::Linux,
            agent_version: "1".into(),
            os_version: None,
            serial_number: None,
            hostname: None,
            csr: None,
            wireguard_public_key: None,
        };
        self.services.enroll(&self.by(&self.log_in().await), new).await.unwrap()
    }

    async fn command(&self, device: &Enrolled, kind: CommandType) -> CommandId {
        let op = self.by(&self.log_in().await);
        self.services.command(&op, device.device.id, kind, false).await.unwrap().id
    }

    async fn check_in(&self, device: &Enrolled) -> Vec<Command> {
        let op = self.by(&device.device_token);
        let checked_in = self.services.check_in(&op, device.device.id, Report::default(), None, Duration::ZERO).await;
        checked_in.unwrap().commands
    }

    fn status(&self, device: &Enrolled, id: CommandId) -> CommandStatus {
        let snapshot = self.services.store.snapshot().unwrap();
        commands::get(&snapshot, device.device.organization_id, device.device.id, id).unwrap().unwrap().status
    }
}

#[tokio::test]
async fn a_session_ends_when_its_refresh_token_lapses_and_not_before() {
    let appliance = Appliance::set_up().await;
    let first = appliance.log_in().await;
    let first_session = appliance.session(&first);
    appliance.pass(DAY - SECOND).await;
    assert!(appliance.is_good(&first), "its time is not over");
    let second_session = appliance.session(&appliance.log_in().await);
    appliance.pass(29 * DAY).await;
    let known = |id| appliance.services.store.memory().directory().session(id).is_some();
    let stored = |id| sessions::get(&appliance.services.store.snapshot().unwrap(), id).unwrap().is_some();
    assert!(known(first_session) && stored(first_session));

    appliance.pass(SECOND).await;
    assert!(!known(first_session) && !stored(first_session));
    assert!(known(second_session) && stored(second_session), "it was opened a day later");
    let log = appliance.log("auth.session.expired").await;
    assert_eq!(log.len(), 1);
    assert_eq!(log[0].resource.as_ref().unwrap().id, first_session.to_string());

    let appliance = appliance.restart();
    assert!(appliance.services.store.memory().directory().session(first_session).is_none());
}

#[tokio::test]
async fn the_signing_key_is_replaced_when_due_and_nobody_is_signed_out_by_it() {
    let appliance = Appliance::set_up().await;
    let keys = |appliance: &Appliance| -> Vec<String> {
        let directory = appliance.services.store.memory().directory();
        directory.signing_keys().iter().map(|key| key.id.clone()).collect()
    };
    let first = keys(&appliance);
    appliance.pass(30 * DAY - SECOND).await;
    assert_eq!(keys(&appliance), first, "it is not due");
    let before = appliance.log_in().await;
    appliance.pass(SECOND).await;
    let second = keys(&appliance);
    assert_eq!((second.len(), &second[1]), (2, &first[0]));
    assert!(appliance.is_good(&before), "what the old key signed is good for as long as it says");
    let after = appliance.log_in().await;
    appliance.pass(DAY - SECOND).await;
    assert!(!appliance.is_good(&before), "and no longer");
    assert!(appliance.is_good(&after));
    assert_eq!(keys(&appliance), second, "the new one is not due");
    assert_eq!(appliance.log("system.signing_key.rotate").await.len(), 1);

    let appliance = appliance.restart();
    assert_eq!(keys(&appliance), second, "a restart signs nobody out");
    assert!(appliance.is_good(&after));
    appliance.pass(29 * DAY + SECOND).await;
    let third = keys(&appliance);
    assert_eq!((third.len(), &third[1]), (2, &second[0]), "the first key signed nothing that is still good");
}

#[tokio::test]
async fn a_command_lapses_when_the_device_stays_silent_but_a_wipe_never_does() {
    let appliance = Appliance::set_up().await;
    let (silent, heard) = (appliance.enroll("silent").await, appliance.enroll("heard").await);
    let pending = appliance.command(&silent, CommandType::Lock).await;
    let wipe = appliance.command(&silent, CommandType::Wipe).await;
    let delivered = appliance.command(&heard, CommandType::Lock).await;
    assert_eq!(appliance.check_in(&heard).await.len(), 1);
    appliance.pass(30 * DAY - SECOND).await;
    assert_eq!(appliance.status(&silent, pending), CommandStatus::Pending);
    assert_eq!(appliance.status(&heard, delivered), CommandStatus::Delivered);

    appliance.pass(SECOND).await;
    assert_eq!(appliance.status(&silent, pending), CommandStatus::Expired);
    assert_eq!(appliance.status(&heard, delivered), CommandStatus::Expired);
    assert_eq!(appliance.status(&silent, wipe), CommandStatus::Pending);
    let log = appliance.log("device.command.expire").await;
    let mut named: Vec<_> = log.iter().map(|entry| entry.details["command_id"].as_str().unwrap()).collect();
    let mut lapsed = [pending.to_string(), delivered.to_string()];
    named.sort_unstable();
    lapsed.sort_unstable();
    assert_eq!(named, lapsed);

    assert_eq!(appliance.check_in(&heard).await, []);
    let left: Vec<_> = appliance.check_in(&silent).await.iter().map(|command| command.id).collect();
    assert_eq!(left, [wipe]);
    // The device did lock itself, and says so late.
    let op = appliance.by(&heard.device_token);
    appliance.services.report(&op, heard.device.id, delivered, CommandStatus::Succeeded, None).await.unwrap();
    assert_eq!(appliance.status(&heard, delivered), CommandStatus::Succeeded);
    appliance.pass(DAY).await;
    assert_eq!(appliance.log("device.command.expire").await.len(), 2, "each lapses once");
}

#[tokio::test]
async fn more_than_one_transaction_s_worth_of_commands_lapses_in_one_go() {
    let appliance = Appliance::set_up().await;
    let device = appliance.enroll("one").await;
    let first = appliance.command(&device, CommandType::Lock).await;
    let Device { id, organization_id, .. } = device.device;
    let copies = move |tx: &mut Tx| {
        let command = commands::get(tx, organization_id, id, first)?.ok_or(Error::NotFound("command"))?;
        for n in 0..2 * STEP {
            // Every other one is not due.
            let expires_at = command.expires_at.filter(|_| n % 2 == 0);
            commands::put(tx, &Command { id: tx.new_id(), expires_at, ..command.clone() })?;
        }
        Ok(Audited::without_entry((), Unaudited::Unchanged))
    };
    appliance.services.store.write(Stamp::system(START), copies).await.unwrap();
    appliance.pass(30 * DAY).await;
    let open = commands::open(&appliance.services.store.snapshot().unwrap(), organization_id, id).unwrap();
    assert_eq!(open.len(), STEP);
    assert!(open.iter().all(|command| command.expires_at.is_none()));
    assert_eq!(appliance.log("device.command.expire").await.len(), STEP + 1);
}

/// Of years of commands a device keeps the newest, what waits, and every wipe.
#[tokio::test]
async fn commands_that_ended_long_ago_are_forgotten_and_of_very_many_the_oldest() {
    let appliance = Appliance::set_up().await;
    let (busy, quiet) = (appliance.enroll("busy").await, appliance.enroll("quiet").await);
    let (first, wipe) =
        (appliance.command(&busy, CommandType::Lock).await, appliance.command(&busy, CommandType::Wipe).await);
    let last = appliance.command(&quiet, CommandType::Lock).await;
    let Device { id, organization_id, .. } = busy.device;
    let copies = move |tx: &mut Tx| {
        let command = commands::get(tx, organization_id, id, first)?.ok_or(Error::NotFound("command"))?;
        for _ in 0..MOST_COMMANDS + 20 {
            let ended = Command {
                id: tx.new_id(),
                status: CommandStatus::Succeeded,
                completed_at: Some(START),
                ..command.clone()
            };
            commands::put(tx, &ended)?;
        }
        Ok(Audited::without_entry((), Unaudited::Unchanged))
    };
    appliance.services.store.write(Stamp::system(START), copies).await.unwrap();
    let count = |device: &Enrolled| {
        let snapshot = appliance.services.store.snapshot().unwrap();
        commands::page(&snapshot, organization_id, device.device.id, 0, 0).unwrap().0
    };
    assert_eq!(count(&busy), MOST_COMMANDS + 22);
    appliance.services.forget_commands().await.unwrap();
    assert_eq!(count(&busy), MOST_COMMANDS + 2, "the newest that ended, and the two that wait");
    assert_eq!((appliance.status(&busy, first), count(&quiet)), (CommandStatus::Pending, 1));

    appliance.pass(31 * DAY).await;
    assert_eq!(appliance.status(&quiet, last), CommandStatus::Expired);
    appliance.clock.advance(350 * DAY);
    appliance.services.forget_commands().await.unwrap();
    assert_eq!(count(&busy), 2, "the wipe, and the one that lapsed less than a year ago");
    assert_eq!((appliance.status(&busy, wipe), count(&quiet)), (CommandStatus::Pending, 1));
    appliance.clock.advance(30 * DAY);
    appliance.services.forget_commands().await.unwrap();
    assert_eq!((count(&busy), count(&quiet)), (1, 0));
}

/// A log that may have so many entries keeps the newest, and still verifies.
#[tokio::test]
async fn a_log_that_is_too_long_loses_its_oldest_entries_and_says_so() {
    let mut appliance = Appliance::set_up().await;
    appliance.services.config.audit.most_entries = 40;
    let enrolled = async |from: u32, to: u32| {
        for number in from..to {
            appliance.enroll(&number.to_string()).await;
        }
        appliance.services.expire_audit_logs().await.unwrap();
    };
    enrolled(0, 10).await;
    assert!(appliance.log("audit.retention").await.is_empty());
    enrolled(10, 30).await;
    let told = appliance.log("audit.retention").await;
    assert_eq!((told.len(), &told[0].details["kept"]), (1, &serde_json::json!(40)));
    let op = appliance.by(&appliance.log_in().await);
    let (left, entries) = appliance.services.audit_log(&op, AuditFilter::default(), 0, 1000).await.unwrap();
    // The newest 40, what tells of it, and the sign-ins since.
    assert!((41..=44).contains(&left), "{left}");
    assert_eq!(entries.last().unwrap().seq, told[0].details["through"].as_u64().unwrap() + 1);
    let proof = appliance.services.verify_audit_log(&op).await.unwrap();
    assert_eq!(proof.first_broken, None);
}

#[tokio::test]
async fn nobody_is_declared_offline_before_the_appliance_has_listened_itself() {
    let appliance = Appliance::set_up().await;
    let device = appliance.enroll("one").await;
    appliance.check_in(&device).await;
    let appliance = appliance.restart();
    let status = || {
        let snapshot = appliance.services.store.snapshot().unwrap();
        devices::get(&snapshot, device.device.organization_id, device.device.id).unwrap().unwrap().status
    };
    let patience = Config::default().devices.offline_after;
    appliance.clock.advance(patience - SECOND);
    appliance.services.mark_offline().await.unwrap();
    assert_eq!(status(), Status::Online);
    appliance.clock.advance(2 * SECOND);
    appliance.services.mark_offline().await.unwrap();
    assert_eq!(status(), Status::Offline);
    assert_eq!(appliance.log("device.status.change").await.len(), 2);
}

#[tokio::test]
async fn an_erased_persons_device_waits_thirty_days_for_its_wipe_and_then_goes_unconfirmed() {
    let appliance = Appliance::set_up().await;
    let device = appliance.enroll("Cy's laptop").await;
    let op = appliance.by(&appliance.log_in().await);
    let (name, email, role, password) = ("Cy".into(), "cy@acme.example".into(), "user".into(), Some(PASSWORD.into()));
    let new = UserInput { name, email, role, groups: None, password };
    let (person, _) = appliance.services.create_user(&op, new).await.unwrap();
    let given = DeviceChange { user_id: Some(Some(person.user.id)), ..DeviceChange::default() };
    appliance.services.change_device(&op, device.device.id, given, None).await.unwrap();
    appliance.services.erase(&op, Some(person.user.id)).await.unwrap();

    let wipe = |appliance: &Appliance, token: &str| {
        appliance.services.erasures(&appliance.by(token), 0, 10).unwrap().1[0].devices[0].wipe
    };
    appliance.pass(30 * DAY - SECOND).await;
    // A wipe that failed is no reason to stay longer, nor to be called wiped.
    let commands = appliance.check_in(&device).await;
    let by = appliance.by(&device.device_token);
    let failed = (commands[0].id, CommandStatus::Failed, None);
    appliance.services.report(&by, device.device.id, failed.0, failed.1, failed.2).await.unwrap();
    assert_eq!(wipe(&appliance, &appliance.log_in().await), ErasedWipe::Requested);
    appliance.pass(SECOND).await;
    assert!(!appliance.is_good(&device.device_token));
    assert_eq!(wipe(&appliance, &appliance.log_in().await), ErasedWipe::NotReachable);
    let entry = &appliance.log("device.unenroll").await[0];
    assert_eq!(entry.details["wipe"], "not reachable");
    assert!(entry.resource.as_ref().unwrap().name.as_deref().unwrap().starts_with("erased-"));
}

/// A log that says online, offline, online every few minutes is the history of check-ins that there must not be.
#[tokio::test]
async fn a_restricted_persons_device_becomes_offline_once_and_its_check_ins_leave_no_trace() {
    let appliance = Appliance::set_up().await;
    let device = appliance.enroll("one").await;
    appliance.check_in(&device).await;
    let me = || async { appliance.by(&appliance.log_in().await) };
    appliance.services.restrict(&me().await, None, true, None).await.unwrap();
    for _ in 0..3 {
        appliance.clock.advance(Config::default().devices.offline_after + SECOND);
        appliance.services.mark_offline().await.unwrap();
        appliance.check_in(&device).await;
    }
    let seen = appliance.services.device(&me().await, device.device.id).unwrap();
    assert_eq!((seen.device.status, seen.last_seen, seen.restricted), (Status::Offline, Some(START), true));
    let changes = appliance.log("device.status.change").await;
    assert_eq!(changes.iter().map(|entry| entry.details["to"].clone()).collect::<Vec<_>>(), ["offline", "online"]);
}

/// As one does that wakes without a battery, or takes a wrong word of a time server.
#[tokio::test]
async fn a_clock_that_jumps_declares_nobody_offline_and_ends_nothing_until_it_has_gone_on_for_long() {
    const YEARS: i64 = 10 * 365 * 24 * 60 * 60;
    let appliance = Appliance::set_up().await;
    let token = appliance.log_in().await;
    let device = appliance.enroll("one").await;
    appliance.check_in(&device).await;
    appliance.clock.advance(10 * 60 * SECOND);
    appliance.check_in(&device).await;
    appliance.services.mark_offline().await.unwrap();
    appliance.services.tidy().await.unwrap();
    let status = || {
        let snapshot = appliance.services.store.snapshot().unwrap();
        devices::get(&snapshot, device.device.organization_id, device.device.id).unwrap().unwrap().status
    };
    for step in [YEARS, -YEARS] {
        appliance.clock.jump(step);
        appliance.services.mark_offline().await.unwrap();
        appliance.services.tidy().await.unwrap();
        assert_eq!(status(), Status::Online, "after a jump by {step} seconds");
    }
    assert!(appliance.is_good(&token), "the clock was put right, and all is as before");
    // Whoever is silent is offline soon, and what has lapsed goes when the time has been steady for an hour.
    appliance.clock.jump(YEARS);
    appliance.services.mark_offline().await.unwrap();
    appliance.pass(6 * 60 * SECOND).await;
    appliance.services.mark_offline().await.unwrap();
    assert_eq!(status(), Status::Offline);
    let sessions = || crate::store::sessions::some(&appliance.services.store.snapshot().unwrap(), 9).unwrap().len();
    assert!(sessions() > 0, "what lapsed by a jump is kept for an hour");
    appliance.pass(60 * 60 * SECOND).await;
    assert_eq!(sessions(), 0);
}

#[tokio::test]
async fn a_devices_certificate_ends_on_time_also_on_a_connection_that_stays_open() {
    let appliance = Appliance::set_up().await;
    let enrolled = appliance.enroll("laptop").await;
    let (id, organization_id) = (enrolled.device.id, enrolled.device.organization_id);
    let shown = |csr: &str, made_at: Time| Presented {
        device_id: id,
        organization_id,
        fingerprint: [csr.as_bytes()[0]; 32],
        expires_at: made_at.plus(365 * DAY),
    };
    let sign_in = async |shown| {
        let op = appliance.op(Principal::Anonymous);
        appliance.services.identify_certificate(&op, shown).await.is_ok()
    };
    let renew = async |csr| {
        let by = appliance.by(&enrolled.device_token);
        appliance.services.renew_device_certificate(&by, id, csr).await.unwrap();
    };
    renew("first").await;
    appliance.clock.advance(364 * DAY);
    let renewed_at = appliance.clock.now();
    assert!(sign_in(shown("first", START)).await);
    renew("second").await;
    appliance.clock.advance(DAY);
    assert!(!sign_in(shown("first", START)).await, "past its end, though the new one has not been used");
    assert!(sign_in(shown("second", renewed_at)).await);
    assert_eq!(appliance.log("device.certificate.replace").await.len(), 1);
    appliance.clock.advance(364 * DAY);
    assert!(!sign_in(shown("second", renewed_at)).await);
}
