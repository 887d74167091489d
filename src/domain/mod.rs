//! The rules: who may do what, what leads to what, and what the audit log says of it. Knows nothing of HTTP.

pub mod accounts;
pub mod audit;
pub mod auth;
pub mod authz;
pub mod bulk;
pub mod checkin;
pub mod commands;
pub mod devices;
pub mod enrollment;
pub mod enrollment_tokens;
mod lockout;
pub mod maintenance;
pub mod op;
mod passwords;
mod secrets;
pub mod sessions;
pub mod setup;
pub mod stats;
mod tokens;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;

use crate::clock::{Clock, Time};
use crate::config::Config;
use crate::error::Error;
use crate::ids::{DeviceId, Ids, OrganizationId};
use crate::model::organization::Tier;
use crate::store::Store;

use lockout::Lockout;
use passwords::Passwords;
use setup::SetupCode;
use tokens::Verifier;

/// A device certificate for the key in a signing request.
pub struct DeviceCertificate {
    pub certificate_pem: String,
    pub ca_pem: String,
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
    passwords: Passwords,
    tokens: Verifier,
    lockout: Lockout,
    setup_code: SetupCode,
    draining: watch::Sender<bool>,
    stuck: AtomicBool,
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
        Self {
            store,
            config,
            ids,
            clock,
            issue_certificate,
            passwords: Passwords::new(),
            tokens: Verifier::default(),
            lockout: Lockout::default(),
            setup_code,
            draining: watch::Sender::new(false),
            stuck: AtomicBool::new(false),
        }
    }

    pub fn is_set_up(&self) -> bool {
        self.store.memory().directory().is_set_up()
    }

    pub fn tier(&self, organization: OrganizationId) -> Tier {
        self.store.memory().directory().tier(organization)
    }

    pub fn now(&self) -> Time {
        self.clock.now()
    }

    /// The code that the first start prints; `None` once the appliance is set up.
    pub fn setup_code(&self) -> Option<&str> {
        (!self.is_set_up()).then(|| self.setup_code.text())
    }

    /// From now on nobody waits for news: what is held open answers.
    pub fn drain(&self) {
        self.draining.send_replace(true);
    }

    /// Whether a write could be committed.
    pub fn is_healthy(&self) -> bool {
        !*self.store.failed().borrow() && !self.stuck.load(Ordering::Relaxed)
    }
}
