//! Everything that is held on a person, and nothing of others.

use std::collections::HashSet;
use std::sync::Arc;

use super::subject;
use crate::clock::Time;
use crate::domain::Services;
use crate::domain::accounts::Person;
use crate::domain::api_keys::ShownKey;
use crate::domain::devices::{Known, Seen};
use crate::domain::effective_policy::EffectivePolicy;
use crate::domain::op::Op;
use crate::error::Error;
use crate::ids::{GroupId, OrganizationId, UserId};
use crate::model::audit::{Actor, AuditEntry, Resource};
use crate::model::command::{Command, WipeIntent};
use crate::model::enrollment::EnrollmentToken;
use crate::model::link::Link;
use crate::model::session::Session;
use crate::store::audit::AuditEvent;
use crate::store::audit::{self, Part};
use crate::store::persons::Opener;
use crate::store::write::Audited;
use crate::store::{api_keys, commands, devices, enrollment_tokens, erasures, links, sessions};

/// Audit entries in one export at most: the newest.
const ENTRIES: usize = 10_000;
/// Devices in one export at most.
const DEVICES: usize = 1_000;
/// Commands of one device in one export at most: the newest.
const COMMANDS: usize = 1_000;

pub struct Export {
    pub exported_at: Time,
    pub person: Person,
    pub groups: Vec<(GroupId, Arc<str>)>,
    pub devices: Vec<ExportedDevice>,
    pub sessions: Vec<Session>,
    pub api_keys: Vec<ShownKey>,
    /// Those whose devices are the person's.
    pub enrollment_tokens: Vec<EnrollmentToken>,
    pub links: Vec<Link>,
    /// Of devices that were the person's, by serial number.
    pub waiting_wipes: Vec<(String, WipeIntent)>,
    /// Newest first.
    pub audit_entries: Vec<AuditEntry>,
    /// The members that do not have all there is.
    pub truncated: Vec<&'static str>,
}

pub struct ExportedDevice {
    pub seen: Seen,
    /// Newest first.
    pub commands: Vec<Command>,
    pub policy: EffectivePolicy,
}

impl Services {
    /// What is held on whoever asks, or with the permission on anybody of the organization. That it was asked for is in
    /// the audit log before any of it is answered.
    pub async fn export_person(&self, op: &Op, person: Option<UserId>) -> Result<Export, Error> {
        let by = op.clone();
        let write = self.store.write(op.stamp(), move |tx| {
            let user = subject(tx, &by, person)?;
            let event = AuditEvent::new("gdpr.export").on("user", user.id, &user.name);
            Ok(Audited::new(user, event))
        });
        let user = write.await?;
        let (organization, id) = (user.organization_id, user.id);
        let mut truncated = Vec::new();
        let snapshot = self.store.snapshot()?;
        let owned = devices::of_user(&snapshot, organization, id)?;
        let keys = api_keys::made_by(&snapshot, organization, id)?;
        let tokens = enrollment_tokens::of_user(&snapshot, organization, id)?;
        let open = sessions::of_user(&snapshot, organization, id)?.into_iter();
        let open = open.map(|id| sessions::get(&snapshot, id)).collect::<Result<Vec<_>, _>>()?;
        let links = links::of_user(&snapshot, organization, id)?;
        let waiting_wipes = erasures::wipe_intents(&snapshot, organization, id)?;
        let mut exported = Vec::new();
        for device in owned.iter().take(DEVICES) {
            // It may have been deleted meanwhile.
            let Some(device) = devices::get(&snapshot, organization, *device)? else { continue };
            let (total, commands) = commands::page(&snapshot, organization, device.id, 0, COMMANDS)?;
            if total > COMMANDS as u64 {
                truncated.push("commands");
            }
            let policy = self.effective_policy_of(&device);
            exported.push(ExportedDevice { seen: self.seen(Known::new(device)), commands, policy });
        }
        drop(snapshot);
        if owned.len() > DEVICES {
            truncated.push("devices");
        }
        let tokens_and_sessions = tokens.iter().map(|token| token.id.to_string());
        let tokens_and_sessions =
            tokens_and_sessions.chain(open.iter().flatten().map(|session| session.id.to_string()));
        let theirs = Theirs {
            person: id,
            keys: keys.iter().map(|key| key.id.to_string()).collect(),
            things: tokens_and_sessions.collect(),
            devices: owned.iter().map(ToString::to_string).collect(),
        };
        let (total, audit_entries) = self.entries_about(organization, theirs).await?;
        if total > ENTRIES as u64 {
            truncated.push("audit_entries");
        }
        truncated.dedup();
        let person = self.person(user);
        let groups = {
            let directory = self.store.memory().directory();
            let named = |id: &GroupId| directory.group(*id).map(|group| (*id, group.name.clone()));
            person.groups.iter().filter_map(named).collect()
        };
        Ok(Export {
            exported_at: op.now,
            person,
            groups,
            devices: exported,
            sessions: open.into_iter().flatten().collect(),
            api_keys: keys.into_iter().map(|key| self.shown_key(key)).collect(),
            enrollment_tokens: tokens,
            links,
            waiting_wipes,
            audit_entries,
            truncated,
        })
    }

    /// The newest entries that the person has caused or that are about them or what is theirs, and how many there are.
    async fn entries_about(
        &self,
        organization: OrganizationId,
        theirs: Theirs,
    ) -> Result<(u64, Vec<AuditEntry>), Error> {
        let turn = self.exports.clone().acquire_owned().await.map_err(Error::internal)?;
        let snapshot = self.store.snapshot()?;
        let search = tokio::task::spawn_blocking(move || {
            // Kept to the end, also when nobody waits for the answer any more.
            let _turn = turn;
            let matches = |entry: &audit::Glance<'_>| {
                let resource = entry.resource.as_ref();
                entry.actor.id.is_some_and(|id| theirs.has(id)) || resource.is_some_and(|on| theirs.has(on.id))
            };
            let last = audit::head(&snapshot, organization)?.seq;
            let part = Part { offset: 0, limit: ENTRIES };
            let (total, found) = audit::search(&snapshot, organization, (1, last), &[], matches, part)?;
            let mut opener = Opener::new(&snapshot);
            let parts = found.into_iter().map(|mut entry| {
                entry.sealed.retain(|part| part.person == theirs.person);
                opener.open(&mut entry)?;
                Ok(theirs.part_of(entry))
            });
            Ok((total, parts.collect::<Result<Vec<_>, Error>>()?))
        });
        search.await.map_err(Error::internal)?
    }
}

/// The ids under which a person appears in the audit log.
struct Theirs {
    person: UserId,
    keys: HashSet<String>,
    /// Their sessions and enrolment tokens.
    things: HashSet<String>,
    /// These may have been somebody else's before.
    devices: HashSet<String>,
}

impl Theirs {
    fn has(&self, id: &str) -> bool {
        self.is_person(id) || self.things.contains(id) || self.devices.contains(id)
    }

    /// The person, or a program that acts for them.
    fn is_person(&self, id: &str) -> bool {
        UserId::parse(id) == Some(self.person) || self.keys.contains(id)
    }

    /// The entry without what it tells of others: who else has acted and from where, whom the person has acted on, and
    /// what became of a device when it may have been somebody else's.
    fn part_of(&self, mut entry: AuditEntry) -> AuditEntry {
        let is_by_person = entry.actor.id.as_deref().is_some_and(|id| self.is_person(id));
        let is_whole = match &entry.resource {
            None => is_by_person,
            Some(on) => UserId::parse(&on.id) == Some(self.person) || is_by_person && self.has(&on.id),
        };
        if !is_by_person {
            let id = entry.actor.id.filter(|id| self.devices.contains(id));
            entry.actor = Actor { kind: entry.actor.kind, id, name: None };
            entry.source_ip = None;
        }
        if !is_whole {
            entry.details.clear();
            entry.resource = entry.resource.map(|resource| Resource { name: None, ..resource });
        }
        entry
    }
}
