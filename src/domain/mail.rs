//! Links that are mailed. What waits is a row, written with the link itself, so that no crash loses it; it goes when the
//! server has taken the mail, and a crash in between sends it once more under the same Message-ID.
//!
//! When to try again is in memory only: a server that is down costs no writes, and a restart tries at once.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::vec::IntoIter;

use super::Services;
use super::links::Delivery;
use crate::clock::Time;
use crate::error::Error;
use crate::ids::{MailId, fill_random};
use crate::model::link::Purpose;
use crate::model::mail::OutgoingMail;
use crate::model::user::UserStatus;
use crate::store::audit::AuditEvent;
use crate::store::write::{Audited, Stamp, Unaudited};
use crate::store::{organizations, outgoing_mail, users};

/// How long delivery is tried.
const PATIENCE: Duration = Duration::from_secs(24 * 60 * 60);
/// Mails that one step sends at most, two of them at a time.
const STEP: usize = 50;
/// The first wait after a failure, which doubles with every further one.
const FIRST_WAIT: u64 = 2;
const LONGEST_WAIT: u64 = 15 * 60;
/// Mails whose last failure is remembered; past this all are forgotten, and tried again sooner.
const REMEMBERED: usize = 10_000;

/// A message, ready to be sent.
#[derive(Clone, PartialEq)]
pub struct Letter {
    /// The same however often it is sent.
    pub id: MailId,
    pub name: String,
    pub email: String,
    pub subject: String,
    pub text: String,
    pub written_at: Time,
}

/// Why a letter was not sent; the text is for the log, and has nothing of the letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unsent {
    /// The server will not have it, now or later.
    Refused(String),
    /// The server will not have it now.
    Deferred(String),
    /// No letter can be sent now.
    Unreachable(String),
}

pub type SendLetter = dyn Fn(Letter) -> Pin<Box<dyn Future<Output = Result<(), Unsent>> + Send>> + Send + Sync;

pub(super) struct Mailer {
    send: Box<SendLetter>,
    schedule: Mutex<Schedule>,
}

#[derive(Default)]
struct Schedule {
    /// The server itself.
    server: Wait,
    /// Why the last letter that failed did.
    last_failure: Option<String>,
    mails: HashMap<MailId, Wait>,
}

#[derive(Clone, Copy, Default)]
struct Wait {
    failures: u32,
    until: Time,
}

impl Wait {
    /// Waits longer after each failure, and not as long as others do that failed at the same time.
    fn longer(&mut self, now: Time) {
        self.failures = self.failures.saturating_add(1);
        let span = FIRST_WAIT.saturating_mul(1 << (self.failures - 1).min(20)).min(LONGEST_WAIT);
        let mut noise = [0; 8];
        fill_random(&mut noise);
        self.until = now.plus(Duration::from_secs(span / 2 + u64::from_le_bytes(noise) % (span / 2 + 1)));
    }
}

impl Mailer {
    pub fn new(send: Box<SendLetter>) -> Self {
        Self { send, schedule: Mutex::default() }
    }

    fn schedule(&self) -> MutexGuard<'_, Schedule> {
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_paused(&self, now: Time) -> bool {
        now < self.schedule().server.until
    }

    /// Notes how it went with the mail.
    fn learn(&self, id: MailId, sent: &Result<(), Unsent>, now: Time) {
        let mut schedule = self.schedule();
        if let Err(Unsent::Deferred(why) | Unsent::Unreachable(why)) = sent
            && !why.is_empty()
        {
            schedule.last_failure = Some(why.clone());
        }
        match sent {
            Err(Unsent::Unreachable(_)) => return schedule.server.longer(now),
            Err(Unsent::Deferred(_)) => {
                if schedule.mails.len() >= REMEMBERED {
                    schedule.mails.clear();
                }
                schedule.mails.entry(id).or_default().longer(now);
            }
            Ok(()) | Err(Unsent::Refused(_)) => drop(schedule.mails.remove(&id)),
        }
        schedule.server = Wait::default();
    }
}

impl Services {
    pub(super) fn delivery(&self) -> Delivery {
        if self.mailer.is_some() { Delivery::Mailed } else { Delivery::ShownOnly }
    }

    /// Sends what waits and is due, and gives up what has waited too long.
    pub async fn deliver_mail(&self) -> Result<(), Error> {
        let now = self.now();
        let is_due = |mail: &OutgoingMail| match &self.mailer {
            _ if is_over(mail, now) => true,
            Some(mailer) => {
                let schedule = mailer.schedule();
                schedule.server.until <= now && schedule.mails.get(&mail.id).is_none_or(|wait| wait.until <= now)
            }
            None => false,
        };
        let due = outgoing_mail::waiting(&self.store.snapshot()?, STEP, is_due)?;
        let due = Mutex::new(due.into_iter());
        tokio::try_join!(self.deliver_all(&due), self.deliver_all(&due)).map(|_| ())
    }

    async fn deliver_all(&self, due: &Mutex<IntoIter<OutgoingMail>>) -> Result<(), Error> {
        loop {
            let next = due.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some(mail) = next else { return Ok(()) };
            self.deliver_one(mail).await?;
        }
    }

    async fn deliver_one(&self, mail: OutgoingMail) -> Result<(), Error> {
        let now = self.now();
        if is_over(&mail, now) {
            let why = self.mailer.as_ref().and_then(|mailer| mailer.schedule().last_failure.clone());
            let why = why.unwrap_or_else(|| "the log has why".into());
            return self.conclude(mail, Err(format!("it could not be delivered in time; {why}"))).await;
        }
        let Some(mailer) = self.mailer.as_ref().filter(|mailer| !mailer.is_paused(now)) else { return Ok(()) };
        // Nothing is held while the server is talked to: whatever changes meanwhile, `conclude` finds out.
        let Some(letter) = self.letter(&mail)? else {
            mailer.learn(mail.id, &Err(Unsent::Deferred(String::new())), now);
            return Ok(());
        };
        let sent = (mailer.send)(letter).await;
        mailer.learn(mail.id, &sent, self.now());
        let (id, user) = (mail.id, mail.user_id);
        match sent {
            Ok(()) => {
                tracing::info!(mail = %id, %user, "mail was sent");
                self.conclude(mail, Ok(())).await
            }
            Err(Unsent::Refused(reason)) => {
                tracing::warn!(mail = %id, %user, %reason, "the mail server refuses a mail: it is given up");
                self.conclude(mail, Err(reason)).await
            }
            Err(Unsent::Deferred(reason)) => {
                tracing::warn!(mail = %id, %user, %reason, "a mail is not accepted yet: it is tried again");
                Ok(())
            }
            Err(Unsent::Unreachable(reason)) => {
                tracing::warn!(%reason, "mail cannot be sent: it waits, and is tried again");
                Ok(())
            }
        }
    }

    /// What the mail says. `None` while its link is no good: the user is suspended, or it was replaced a moment ago.
    fn letter(&self, mail: &OutgoingMail) -> Result<Option<Letter>, Error> {
        let snapshot = self.store.snapshot()?;
        let current = outgoing_mail::get(&snapshot, mail.organization_id, mail.user_id)?;
        let user = users::get(&snapshot, mail.organization_id, mail.user_id)?;
        let organization = organizations::get(&snapshot, mail.organization_id)?;
        let (Some(current), Some(user), Some(organization)) = (current, user, organization) else { return Ok(None) };
        if current.id != mail.id || user.status == UserStatus::Suspended {
            return Ok(None);
        }
        let url = self.url_of(mail.purpose, &outgoing_mail::secret(&snapshot, mail)?);
        let (name, organization) = (one_line(&user.name), one_line(&organization.name));
        let until = clock_time(mail.expires_at);
        let (subject, text) = match mail.purpose {
            Purpose::Invitation => (
                format!("Your account at {organization}"),
                format!(
                    "Hello {name},\n\nyou have an account at {organization} in Zero, the device management. Choose your \
                     password here:\n\n{url}\n\nThe link can be used once, until {until}. If it has ended, ask your \
                     administrator for another.\n"
                ),
            ),
            Purpose::Reset => (
                format!("A new password for your account at {organization}"),
                format!(
                    "Hello {name},\n\nsomebody, probably you, wants a new password for your account at {organization} \
                     in Zero, the device management. Choose it here:\n\n{url}\n\nThe link can be used once, until \
                     {until}. If you do not want another password, ignore this mail.\n"
                ),
            ),
        };
        Ok(Some(Letter { id: mail.id, name, email: user.email, subject, text, written_at: mail.created_at }))
    }

    /// Takes the mail out of the queue; the log has how it ended.
    async fn conclude(&self, mail: OutgoingMail, outcome: Result<(), String>) -> Result<(), Error> {
        let write = self.store.write(Stamp::system(self.now()), move |tx| {
            let (organization, user) = (mail.organization_id, mail.user_id);
            let is_waiting = outgoing_mail::get(tx, organization, user)?.is_some_and(|waiting| waiting.id == mail.id);
            if is_waiting {
                outgoing_mail::delete(tx, organization, user)?;
            }
            // What was sent was sent, even if its link was used or replaced before this.
            let user = users::get(tx, organization, user)?.filter(|_| is_waiting || outcome.is_ok());
            let Some(user) = user else { return Ok(Audited::without_entry((), Unaudited::Unchanged)) };
            let event = match &outcome {
                Ok(()) => AuditEvent::new("system.mail.send"),
                Err(reason) => AuditEvent::failed("system.mail.send").detail("reason", reason.as_str()),
            };
            let event = event.of(organization).on("user", user.id, &user.name);
            Ok(Audited::new((), event.detail("mail", mail.purpose.as_str()).detail("mail_id", mail.id.to_string())))
        });
        write.await
    }
}

fn is_over(mail: &OutgoingMail, now: Time) -> bool {
    now >= mail.expires_at || now.since(mail.created_at) >= PATIENCE
}

/// Text as part of a line: nobody's name makes a header or a paragraph of its own.
fn one_line(text: &str) -> String {
    let shown: String = text.chars().filter(|c| c.is_whitespace() || !c.is_control()).collect();
    shown.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// To the minute, for people.
fn clock_time(time: Time) -> String {
    let text = time.to_string();
    match (text.get(..10), text.get(11..16)) {
        (Some(day), Some(minute)) => format!("{day} {minute} UTC"),
        _ => text,
    }
}

#[cfg(test)]
mod tests;
