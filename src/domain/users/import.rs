//! Many users at once. What each line would do is found out first and changes nothing; then all of it is done, or
//! none, in one transaction.

mod check;

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::groups::{self, Groups};
use super::{NewUser, make};
use crate::domain::Services;
use crate::domain::links::{Delivery, IssuedLink};
use crate::domain::op::Op;
use crate::error::Error;
use crate::ids::{GroupId, OrganizationId, UserId};
use crate::model::group::Group;
use crate::model::role::RoleRef;
use crate::store::users::folded;
use crate::store::write::{Audited, Tx, Unaudited};
use crate::store::{self, audit::AuditEvent};

/// Lines that one import may have.
pub const MOST: usize = 10_000;

/// One line of what is to be imported, or what is wrong with it already.
#[derive(Clone, Debug)]
pub struct Line {
    /// Where it starts in the file, from 1.
    pub number: u64,
    pub content: Result<NewLine, String>,
}

#[derive(Clone, Debug)]
pub struct NewLine {
    pub name: String,
    pub email: String,
    /// A role's name.
    pub role: String,
    /// Names of groups; those that there are not are made.
    pub groups: Vec<String>,
}

#[derive(Clone, Copy, Debug)]
pub struct ImportOptions {
    /// Changes nothing.
    pub dry_run: bool,
    /// Imports all lines or, when one of them is wrong, none.
    pub atomic: bool,
}

#[derive(Clone, Serialize, Deserialize)]
pub struct LineResult {
    pub number: u64,
    pub email: Option<String>,
    pub outcome: Outcome,
}

#[derive(Clone, Serialize, Deserialize)]
pub enum Outcome {
    Created {
        id: UserId,
        invitation: Option<IssuedLink>,
    },
    /// Nothing is wrong with it, but nothing was to be changed.
    Valid,
    Failed(String),
}

impl Services {
    /// Imports the lines: a result for each, in their order.
    pub async fn import_users(
        &self,
        op: &Op,
        lines: Vec<Line>,
        options: ImportOptions,
    ) -> Result<Vec<LineResult>, Error> {
        let organization = op.organization_id()?;
        let (by, delivery) = (op.clone(), self.delivery());
        if options.dry_run {
            let snapshot = self.store.snapshot()?;
            // A long list takes a while to check, which is no work for a thread that serves requests.
            let check = move || {
                let checked = check::check(&snapshot, &by, organization, &lines)?;
                Ok(lines.iter().zip(checked).map(|(line, role)| unchanged(line, role.map(|_| ()))).collect())
            };
            return tokio::task::spawn_blocking(check).await.map_err(Error::internal)?;
        }
        self.store
            .write(op.stamp(), move |tx| {
                let checked = check::check(tx, &by, organization, &lines)?;
                if options.atomic && checked.iter().any(Result::is_err) {
                    let results = lines.iter().zip(checked).map(|(line, role)| unchanged(line, role.map(|_| ())));
                    return Ok(Audited::without_entry(results.collect(), Unaudited::Unchanged));
                }
                create(tx, organization, &lines, checked, delivery)
            })
            .await
    }
}

fn create(
    tx: &mut Tx,
    organization: OrganizationId,
    lines: &[Line],
    checked: Vec<Result<RoleRef, String>>,
    delivery: Delivery,
) -> Result<Audited<Vec<LineResult>>, Error> {
    let mut all = Audited::without_entry((), Unaudited::Unchanged);
    let mut results = Vec::with_capacity(lines.len());
    let mut known: HashMap<String, GroupId> = HashMap::new();
    let mut changed = Groups::new();
    for (line, role) in lines.iter().zip(checked) {
        let (new, role) = match (&line.content, role) {
            (Ok(new), Ok(role)) => (new, role),
            (_, role) => {
                results.push(unchanged(line, role.map(|_| ())));
                continue;
            }
        };
        let mut joined = Groups::new();
        for name in &new.groups {
            let (id, made) = group(tx, organization, name, &mut known)?;
            joined.insert(id);
            all = made.into_iter().fold(all, Audited::and);
        }
        let NewUser { user, invitation } = make(tx, organization, &new.name, &new.email, role, None, delivery)?;
        for id in &joined {
            store::groups::join(tx, organization, *id, user.id)?;
        }
        changed.extend(&joined);
        let event = AuditEvent::new("user.create").on("user", user.id, &user.name).detail("source", "import");
        let event = event.detail("role", new.role.as_str()).detail("status", user.status.as_str());
        all = all.and(event.detail("groups", new.groups.join(", ")));
        let outcome = Outcome::Created { id: user.id, invitation };
        results.push(LineResult { number: line.number, email: Some(user.email), outcome });
    }
    groups::touch(tx, organization, &changed)?;
    Ok(all.map(|()| results))
}

/// The group of that name; a new one, with what the log says of it, when there is none.
fn group(
    tx: &mut Tx,
    organization_id: OrganizationId,
    name: &str,
    known: &mut HashMap<String, GroupId>,
) -> Result<(GroupId, Option<AuditEvent>), Error> {
    let key = folded(name);
    if let Some(id) = known.get(&key) {
        return Ok((*id, None));
    }
    let (id, event) = match store::groups::by_name(tx, organization_id, name)? {
        Some(group) => (group.id, None),
        None => {
            let (id, now) = (tx.new_id(), tx.now());
            let (parent_id, policy_id) = (None, None);
            let name = name.to_owned();
            let event = AuditEvent::new("group.create").on("group", id, &name).detail("source", "import");
            let group = Group {
                id,
                organization_id,
                name,
                parent_id,
                policy_id,
                created_at: now,
                updated_at: now,
                revision: 1,
            };
            store::groups::put(tx, group)?;
            (id, Some(event))
        }
    };
    known.insert(key, id);
    Ok((id, event))
}

fn unchanged(line: &Line, checked: Result<(), String>) -> LineResult {
    let outcome = checked.map_or_else(Outcome::Failed, |()| Outcome::Valid);
    let email = line.content.as_ref().ok().map(|new| new.email.clone());
    LineResult { number: line.number, email, outcome }
}
