//! What makes a principal of whoever has signed in: looked up anew with every request, and while an answer goes on.

use std::time::Duration;

use super::op::{ApiKeyPrincipal, Principal, UserPrincipal};
use crate::clock::Time;
use crate::ids::{SessionId, UserId};
use crate::model::user::UserStatus;
use crate::store::memory::{ApiKeyFacts, Directory, UserFacts};

/// The user in this session, as both are now; `None` when either is no good any more. `mfa_grace`: see
/// [`must_enroll_mfa`].
pub(super) fn user(
    directory: &Directory,
    mfa_grace: Duration,
    (user, session): (UserId, SessionId),
    now: Time,
) -> Option<UserPrincipal> {
    directory.session(session).filter(|session| session.user_id == user && now < session.expires_at)?;
    let user = directory.user(user).filter(|user| user.status == UserStatus::Active)?;
    Some(UserPrincipal {
        id: user.id,
        organization_id: user.organization_id,
        name: user.name.clone(),
        session_id: session,
        permissions: directory.permissions(user.role),
        must_enroll_mfa: must_enroll_mfa(directory, mfa_grace, user, now),
    })
}

/// The key and its maker, as both are now. A key is as good as its maker: it stops with their suspension, and shrinks
/// with their role.
pub(super) fn api_key(
    directory: &Directory,
    mfa_grace: Duration,
    key: &ApiKeyFacts,
    now: Time,
) -> Option<ApiKeyPrincipal> {
    let maker = directory.user(key.created_by).filter(|maker| maker.status == UserStatus::Active)?;
    (now < key.expires_at).then(|| ApiKeyPrincipal {
        id: key.id,
        organization_id: key.organization_id,
        name: key.name.clone(),
        user_id: maker.id,
        permissions: directory.api_key_permissions(key, maker),
        must_enroll_mfa: must_enroll_mfa(directory, mfa_grace, maker, now),
    })
}

/// What has become of a user or a key that signed in before; `None` when it would not be let in any more.
pub(super) fn again(directory: &Directory, mfa_grace: Duration, principal: &Principal, now: Time) -> Option<Principal> {
    let now_is = match principal {
        Principal::User(before) => Principal::User(user(directory, mfa_grace, (before.id, before.session_id), now)?),
        Principal::ApiKey(before) => {
            Principal::ApiKey(api_key(directory, mfa_grace, directory.api_key(before.id)?, now)?)
        }
        Principal::Anonymous | Principal::Device(_) | Principal::EnrollmentToken { .. } => return None,
    };
    (!now_is.must_enroll_mfa()).then_some(now_is)
}

/// Whether the time that the organization gives for setting up a second factor, `mfa_grace`, has run out on the user.
fn must_enroll_mfa(directory: &Directory, mfa_grace: Duration, user: &UserFacts, now: Time) -> bool {
    let since = directory.require_mfa_since(user.organization_id);
    !user.mfa_enabled && since.is_some_and(|since| now >= since.plus(mfa_grace))
}
