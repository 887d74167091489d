//! One action on many devices, with a result for each.

use serde::{Deserialize, Serialize};

use super::authz::Permission;
use super::op::Op;
use super::{Services, commands, devices};
use crate::error::Error;
use crate::ids::DeviceId;
use crate::model::command::CommandType;
use crate::model::device::Status;
use crate::model::named_values;
use crate::store::index::Filter;
use crate::store::memory;
use crate::store::write::{Audited, Unaudited};

/// Devices that one call may act on.
pub const MOST: usize = 1000;

named_values! {
    pub enum BulkAction {
        Lock = "lock",
        Unlock = "unlock",
        Wipe = "wipe",
        Suspend = "suspend",
        Resume = "resume",
        Delete = "delete",
    }
}

impl BulkAction {
    const fn permission(self) -> Permission {
        match self {
            Self::Wipe | Self::Delete => Permission::DevicesDelete,
            Self::Lock | Self::Unlock | Self::Suspend | Self::Resume => Permission::DevicesActions,
        }
    }
}

pub enum Selection {
    Ids(Vec<DeviceId>),
    Filter(Filter),
}

#[derive(Clone, Serialize, Deserialize)]
pub struct BulkResult {
    pub id: DeviceId,
    /// Why it was refused; `None` when it was done.
    pub error: Option<String>,
}

impl Services {
    pub async fn bulk(&self, op: &Op, action: BulkAction, selection: Selection) -> Result<Vec<BulkResult>, Error> {
        op.require(action.permission())?;
        let organization = op.organization_id()?;
        let ids = match selection {
            Selection::Ids(ids) => ids,
            Selection::Filter(mut filter) => {
                self.with_members(&mut filter);
                let fleet = self.store.memory().fleet(organization);
                let ids: Vec<_> = memory::read(&fleet).ids(&filter).take(MOST + 1).collect();
                if ids.len() > MOST {
                    return Err(Error::field("filter", format!("matches more than {MOST} devices: narrow it")));
                }
                ids
            }
        };
        let life = self.config.devices.command_life;
        self.store
            .write(op.stamp(), move |tx| {
                let mut results = Vec::with_capacity(ids.len());
                let mut all = Audited::without_entry((), Unaudited::Unchanged);
                for id in &ids {
                    // Each is refused before it writes anything, so that the others stand.
                    let done = devices::find(tx, organization, *id).and_then(|device| match action {
                        BulkAction::Lock => ended(commands::give(tx, device, CommandType::Lock, false, life)),
                        BulkAction::Unlock => ended(commands::give(tx, device, CommandType::Unlock, false, life)),
                        BulkAction::Wipe => ended(commands::give(tx, device, CommandType::Wipe, false, life)),
                        BulkAction::Suspend => ended(devices::set_status(tx, false, device, Status::Suspended)),
                        BulkAction::Resume => ended(devices::set_status(tx, false, device, Status::Online)),
                        BulkAction::Delete => devices::delete(tx, device),
                    });
                    let error = match done {
                        Ok(done) => {
                            all = all.with(done);
                            None
                        }
                        Err(error @ (Error::NotFound(_) | Error::Conflict(_))) => Some(error.to_string()),
                        Err(error) => return Err(error),
                    };
                    results.push(BulkResult { id: *id, error });
                }
                Ok(all.map(|()| results))
            })
            .await
    }
}

fn ended<T>(result: Result<Audited<T>, Error>) -> Result<Audited<()>, Error> {
    result.map(|audited| audited.map(|_| ()))
}
