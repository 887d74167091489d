use serde::{Deserialize, Serialize};

use super::link::Purpose;
use super::sealed::Sealed;
use crate::clock::Time;
use crate::ids::{MailId, OrganizationId, UserId};

/// A link that is to be mailed to its user. A user waits for one such mail at most, as they have one link at most.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OutgoingMail {
    /// The mail is recognised by it, should it arrive twice.
    pub id: MailId,
    pub organization_id: OrganizationId,
    pub user_id: UserId,
    pub purpose: Purpose,
    /// The link's secret.
    pub secret: Sealed,
    pub created_at: Time,
    /// When the link ends.
    pub expires_at: Time,
}
