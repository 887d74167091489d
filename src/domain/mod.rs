//! The rules: who may do what, what leads to what, and what the audit log says of it. Knows nothing of HTTP.

pub mod accounts;
pub mod api_keys;
pub mod assignments;
pub mod audit;
pub mod auth;
pub mod authz;
pub mod backups;
pub mod bulk;
mod challenges;
pub mod checkin;
pub mod commands;
pub mod compliance;
pub mod device_certificates;
pub mod devices;
pub mod diagnosis;
pub mod effective_policy;
pub mod enrollment;
pub mod enrollment_tokens;
pub mod events;
pub mod gdpr;
pub mod groups;
pub mod links;
mod lockout;
pub mod mail;
pub mod maintenance;
pub mod mfa;
mod names;
pub mod op;
pub mod organizations;
mod passwords;
pub mod policies;
pub mod preview;
mod principals;
pub mod recovery;
mod resets;
pub mod restore;
pub mod roles;
mod secrets;
pub mod sessions;
pub mod settings;
pub mod setup;
pub mod stats;
pub mod status;
pub mod system;
mod timekeeping;
mod tokens;
pub mod updates;
pub mod users;
pub mod webhooks;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::{Semaphore, watch};

use crate::clock::{Clock, Time};
use crate::config::Config;
use crate::error::Error;
use crate::ids::{DeviceId, Ids, OrganizationId};
use crate::model::device::Certificate;
use crate::model::organization::Tier;
use crate::store::Store;
use crate::store::ledger::Ledger;

use backups::Backups;
use challenges::Challenges;
use lockout::Lockout;
use mail::Mailer;
use passwords::Passwords;
use setup::SetupCode;
use tokens::Verifier;
use updates::Updates;
use webhooks::target::{Nowhere, Surroundings, Targets};

/// A device certificate for the key in a signing request.
pub struct DeviceCertificate {
    pub certificate_pem: String,
    pub ca_pem: String,
    pub certificate: Certificate,
}

/// Issues certificates to devices; an error says what is wrong with the request.
pub type IssueCertificate =
    dyn Fn(&str, DeviceId, OrganizationId, Time) -> Result<DeviceCertificate, Error> + Send + Sync;

/// What the domain works with, made once.
pub struct Services {
    pub store: Store,
    config: Config,
    ids: Arc<Ids>,
    clock: Arc<dyn Clock>,
    issue_certificate: Box<IssueCertificate>,
    port: u16,
    passwords: Passwords,
    tokens: Verifier,
    lockout: Lockout,
    challenges: Challenges,
    setup_code: SetupCode,
    mailer: Option<Mailer>,
    edge: Option<system::Edge>,
    changeable: Option<settings::Changeable>,
    targets: Arc<Targets>,
    draining: watch::Sender<bool>,
    stuck: AtomicBool,
    /// Turns at reading through the whole audit log: whoever asks for more at a time waits.
    audit_searches: Arc<Semaphore>,
    /// Turns at the same for an export of one's own data: everybody may ask for one, and shall not hold up the others.
    exports: Arc<Semaphore>,
    /// Turns at previewing a policy on the whole fleet.
    surveys: Arc<Semaphore>,
    audit_turns: audit::proof::Turns,
    streams: events::Streams,
    backups: Backups,
    pub updates: Updates,
    timekeeper: timekeeping::Timekeeper,
    ledger: Ledger,
    collector: Mutex<Option<Result<(), String>>>,
}

impl Services {
    pub fn new(
        store: Store,
        config: Config,
        ids: Arc<Ids>,
        clock: Arc<dyn Clock>,
        issue_certificate: Box<IssueCertificate>,
    ) -> Self {
        let setup_code = SetupCode::new(clock.now());
        let ledger = Ledger::new(backups::ledger_folders(&config));
        let nowhere = Surroundings {
            find: Box::new(|host| {
                let address = host.trim_matches(['[', ']']).parse();
                let found = address.map(|address| vec![address]);
                Box::pin(async { found.map_err(|_| Nowhere::Unknown("there is no network".into())) })
            }),
            is_own: Box::new(|_| false),
            port: 0,
        };
        let targets = Arc::new(Targets::new(config.webhooks.clone(), nowhere));
        Self {
            store,
            config,
            ids,
            clock,
            issue_certificate,
            port: 0,
            passwords: Passwords::new(),
            tokens: Verifier::default(),
            lockout: Lockout::default(),
            challenges: Challenges::default(),
            setup_code,
            mailer: None,
            edge: None,
            changeable: None,
            targets,
            draining: watch::Sender::new(false),
            stuck: AtomicBool::new(false),
            audit_searches: Arc::new(Semaphore::new(1)),
            exports: Arc::new(Semaphore::new(1)),
            surveys: Arc::new(Semaphore::new(1)),
            audit_turns: audit::proof::Turns::default(),
            streams: events::Streams::default(),
            backups: Backups::default(),
            updates: Updates::new(env!("CARGO_PKG_VERSION").into(), false, None),
            timekeeper: timekeeping::Timekeeper::default(),
            ledger,
            collector: Mutex::default(),
        }
    }

    /// Listening there.
    pub fn at(self, port: u16) -> Self {
        Self { port, ..self }
    }

    /// Mails links, by way of `send`. Without it they are shown only.
    pub fn mailing(self, send: Box<mail::SendLetter>) -> Self {
        Self { mailer: Some(Mailer::new(send)), ..self }
    }

    /// Behind this edge, whose certificates clients see.
    pub fn behind(self, edge: system::Edge) -> Self {
        Self { edge: Some(edge), ..self }
    }

    /// With settings that can be changed while it runs.
    pub fn changing(self, settings: settings::Changeable) -> Self {
        Self { changeable: Some(settings), ..self }
    }

    /// On this network: where webhooks may lead.
    pub fn within(self, targets: Arc<Targets>) -> Self {
        Self { targets, ..self }
    }

    /// Known to be of this version, with this past of updates.
    pub fn updating(self, updates: Updates) -> Self {
        Self { updates, ..self }
    }

    pub fn is_set_up(&self) -> bool {
        self.store.memory().directory().is_set_up()
    }

    pub fn tier(&self, organization: OrganizationId) -> Tier {
        self.store.memory().directory().tier(organization)
    }

    pub fn data_dir(&self) -> &std::path::Path {
        &self.config.server.data_dir
    }

    pub fn now(&self) -> Time {
        self.clock.now()
    }

    /// The code that the first start prints; `None` once the appliance is set up.
    pub fn setup_code(&self) -> Option<&str> {
        (!self.is_set_up()).then(|| self.setup_code.text())
    }

    pub fn is_draining(&self) -> bool {
        *self.draining.borrow()
    }

    /// From now on nobody waits for news: what is held open answers.
    pub fn drain(&self) {
        self.draining.send_replace(true);
        self.backups.stop();
    }

    /// Why a write could not be committed; `None` when it could.
    pub fn ailment(&self) -> Option<&'static str> {
        if *self.store.failed().borrow() {
            return Some("the disk has failed: nothing is written until the appliance has been started again");
        }
        self.stuck.load(Ordering::Relaxed).then_some("the disk hangs: a write has been waiting for too long")
    }
}
