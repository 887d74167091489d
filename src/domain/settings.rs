//! Settings that decide whether anybody still reaches the appliance. A change of them is in force at once, and goes back
//! by itself unless somebody confirms it over a connection that came in through it.
//!
//! What was confirmed is in a file of the data directory (`config::changed`), which the next start reads before there is a
//! database; what was not confirmed is in another one, which it throws away. So a crash leads back as well, and the
//! entries of the audit log come right before or after: a file and a row cannot be committed together.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::Services;
use super::authz::Permission;
use super::op::{Op, without_idempotency};
use crate::clock::Time;
use crate::config::{Change, Config, Loaded, Mistake, Mistakes, changed};
use crate::error::{Error, FieldError};
use crate::store::audit::AuditEvent;
use crate::store::write::{Audited, Stamp};

/// Puts settings into force, at once; an error says what is wrong with them, and nothing has changed.
pub type Enforce = dyn Fn(&Config) -> Result<Enforced, String> + Send + Sync;

/// What came of it.
pub struct Enforced {
    /// The number of the entrance through which connections come now; see [`Op::entrance`].
    pub entrance: u64,
    /// Leads back.
    pub undo: Box<dyn FnOnce() + Send>,
}

/// What is in force, and what of it waits to be confirmed.
pub struct Changeable {
    enforce: Box<Enforce>,
    state: Mutex<State>,
    news: Notify,
}

struct State {
    settings: Arc<Loaded>,
    waiting: Option<Waiting>,
}

struct Waiting {
    before: Arc<Loaded>,
    enforced: Enforced,
    /// By the machine's uptime: its clock may be set meanwhile.
    until: Instant,
    /// The same for people.
    shown_until: Time,
}

/// The settings in force.
pub struct SettingsInForce {
    pub settings: Arc<Loaded>,
    pub provisional: Option<Provisional>,
}

pub struct Provisional {
    pub until: Time,
    pub left: Duration,
}

/// What is said of each changed setting: before and after.
type Differences = Vec<(&'static str, String)>;

impl Changeable {
    pub fn new(settings: Loaded, enforce: Box<Enforce>) -> Self {
        let state = State { settings: Arc::new(settings), waiting: None };
        Self { enforce, state: Mutex::new(state), news: Notify::new() }
    }

    pub fn settings(&self) -> Arc<Loaded> {
        self.state().settings.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No invariant spans more than one assignment.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Services {
    fn changeable(&self) -> Result<&Changeable, Error> {
        self.changeable.as_ref().ok_or(Error::NotFound("settings"))
    }

    pub fn settings_in_force(&self, op: &Op) -> Result<SettingsInForce, Error> {
        op.require(Permission::SystemAdmin)?;
        let state = self.changeable()?.state();
        let provisional = state.waiting.as_ref().map(|waiting| Provisional {
            until: waiting.shown_until,
            left: waiting.until.saturating_duration_since(Instant::now()),
        });
        Ok(SettingsInForce { settings: state.settings.clone(), provisional })
    }

    /// Puts the change into force until it is confirmed or its time is over.
    pub async fn change_settings(&self, op: &Op, change: Change) -> Result<(), Error> {
        op.require(Permission::SystemAdmin)?;
        let changeable = self.changeable()?;
        // From here to the audit log nothing waits: whoever asked may go away in between, and what is in force without
        // being looked after would stay so.
        let differences = {
            let mut state = changeable.state();
            if state.waiting.is_some() {
                let why = "another change waits to be confirmed: confirm it, or wait until it has gone back";
                return Err(Error::Conflict(why.into()));
            }
            let (next, text) = state.settings.change(change).map_err(in_fields)?;
            let differences = differences(&state.settings, &next);
            if differences.is_empty() {
                return Ok(());
            }
            changed::put_unconfirmed(self.data_dir(), &text).map_err(Error::internal)?;
            let enforced = match (changeable.enforce)(&next.config) {
                Ok(enforced) => enforced,
                Err(why) => {
                    changed::discard(self.data_dir()).map_err(Error::internal)?;
                    return Err(Error::field("settings", format!("cannot be taken into force: {why}")));
                }
            };
            let window = self.config.server.confirm;
            let before = std::mem::replace(&mut state.settings, Arc::new(next));
            let (until, shown_until) = (Instant::now() + window, self.now().plus(window));
            state.waiting = Some(Waiting { before, enforced, until, shown_until });
            differences
        };
        changeable.news.notify_one();
        let noted = self.note_settings(op.stamp(), "system.settings.change", differences).await;
        if noted.is_err() {
            self.go_back(None);
        }
        noted
    }

    /// Keeps what is in force.
    pub async fn confirm_settings(&self, op: &Op) -> Result<(), Error> {
        op.require(Permission::SystemAdmin)?;
        let changeable = self.changeable()?;
        let waits_for = || {
            let state = changeable.state();
            let waiting = state.waiting.as_ref().filter(|waiting| Instant::now() < waiting.until)?;
            Some(waiting.enforced.entrance)
        };
        let nothing = || Error::Conflict("no change of settings waits to be confirmed, or its time is over".into());
        let entrance = waits_for().ok_or_else(nothing)?;
        if op.entrance < entrance {
            let why = "this connection was there before the settings: confirm them over a new one, which shows that they \
                       let people in";
            return Err(Error::Conflict(why.into()));
        }
        self.note_settings(without_idempotency(op.stamp()), "system.settings.confirm", Vec::new()).await?;
        let mut state = changeable.state();
        if state.waiting.as_ref().is_none_or(|waiting| waiting.enforced.entrance != entrance) {
            return Err(nothing());
        }
        changed::confirm(self.data_dir()).map_err(Error::internal)?;
        state.waiting = None;
        Ok(())
    }

    /// Waits until a change has not been confirmed in time, and takes it back.
    pub async fn take_back_unconfirmed(&self) -> Result<(), Error> {
        let Some(changeable) = &self.changeable else { return std::future::pending().await };
        loop {
            let until = changeable.state().waiting.as_ref().map(|waiting| waiting.until);
            match until {
                None => changeable.news.notified().await,
                Some(until) if until > Instant::now() => tokio::time::sleep_until(until).await,
                Some(_) => break,
            }
        }
        let Some(differences) = self.go_back(Some(Instant::now())) else { return Ok(()) };
        tracing::warn!("the changed settings were not confirmed in time: those of before are in force again");
        self.note_revert(differences, "not confirmed in time").await
    }

    /// Throws away what the last run did not see confirmed; before this one serves anybody.
    pub async fn discard_unconfirmed(&self) -> Result<(), Error> {
        if !changed::discard(self.data_dir()).map_err(Error::internal)? || !self.is_set_up() {
            return Ok(());
        }
        tracing::warn!("settings that were changed in the last run were not confirmed: those of before are in force");
        self.note_revert(Vec::new(), "started again before it was confirmed").await
    }

    /// The settings of before, unless what waits has time left at `now`; tells what that changes.
    fn go_back(&self, now: Option<Instant>) -> Option<Differences> {
        let changeable = self.changeable.as_ref()?;
        let mut state = changeable.state();
        let waiting = state.waiting.take_if(|waiting| now.is_none_or(|now| waiting.until <= now))?;
        (waiting.enforced.undo)();
        let differences = differences(&state.settings, &waiting.before);
        state.settings = waiting.before;
        // What is left behind goes with the next change or the next start.
        if let Err(error) = changed::discard(self.data_dir()) {
            tracing::error!(%error, file = changed::UNCONFIRMED_FILE, "cannot be removed");
        }
        Some(differences)
    }

    async fn note_revert(&self, differences: Differences, reason: &'static str) -> Result<(), Error> {
        let mut details = differences;
        details.push(("reason", reason.into()));
        self.note_settings(Stamp::system(self.now()), "system.settings.revert", details).await
    }

    async fn note_settings(&self, stamp: Stamp, action: &'static str, details: Differences) -> Result<(), Error> {
        let event = move || {
            let event = AuditEvent::new(action);
            details.iter().fold(event, |event, (key, value)| event.detail(key, value.clone()))
        };
        self.store.write(stamp, move |_| Ok(Audited::new((), event()))).await
    }
}

fn differences(before: &Loaded, after: &Loaded) -> Differences {
    let both = before.changeable().zip(after.changeable());
    let both = both.filter(|(before, after)| before != after);
    both.map(|((member, before), (_, after))| (member, format!("{before} → {after}"))).collect()
}

/// Each mistake with the member of the request that it is in.
fn in_fields(Mistakes(mistakes): Mistakes) -> Error {
    let field = |message: &str| {
        let (key, what) = message.split_once(' ')?;
        Some(FieldError::new(changed::member_of(key)?, what))
    };
    let of =
        |mistake: &Mistake| field(&mistake.message).unwrap_or_else(|| FieldError::new("settings", mistake.to_string()));
    Error::Invalid(mistakes.iter().map(of).collect())
}
