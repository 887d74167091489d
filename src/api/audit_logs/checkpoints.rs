use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use schemars::JsonSchema;
use serde::Serialize;

use crate::api::paging::{PageQuery, page_of, window};
use crate::clock::Time;
use crate::domain::Services;
use crate::domain::op::Op;
use crate::error::Error;
use crate::http::extract::Query;
use crate::http::respond::{Created, Json, Page};
use crate::ids::OrganizationId;
use crate::model::audit::Checkpoint;
use crate::model::hex::Hex;

#[derive(Serialize, JsonSchema)]
pub(super) struct VerdictView {
    valid: bool,
    /// How many are as they were written, from the first one that the log still has.
    entries: u64,
    /// The hash of the last of them.
    head: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_broken: Option<BrokenView>,
}

#[derive(Serialize, JsonSchema)]
struct BrokenView {
    seq: u64,
    reason: String,
}

pub(super) async fn verify(services: &Services, op: Op) -> Result<Json<VerdictView>, Error> {
    let verdict = services.verify_audit_log(&op).await?;
    let first_broken = verdict.first_broken.map(|broken| BrokenView { seq: broken.seq, reason: broken.reason });
    let head = Hex(verdict.head.hash.to_vec()).to_string();
    Ok(Json(VerdictView { valid: first_broken.is_none(), entries: verdict.entries, head, first_broken }))
}

#[derive(Serialize, JsonSchema)]
pub(super) struct CheckpointView {
    organization_id: OrganizationId,
    /// The log's last entry at that time.
    seq: u64,
    /// That entry's hash.
    hash: Hex,
    time: Time,
    /// Ed25519 over five lines of text, each with a line feed: `zero audit checkpoint 1`, the organization, `seq`,
    /// `hash` and `time`.
    signature: Hex,
}

impl From<Checkpoint> for CheckpointView {
    fn from(Checkpoint { organization_id, seq, hash, time, signature }: Checkpoint) -> Self {
        Self { organization_id, seq, hash, time, signature }
    }
}

pub(super) async fn list(
    services: &Services,
    op: Op,
    Query(query): Query<PageQuery>,
) -> Result<Json<Page<CheckpointView>>, Error> {
    let (offset, limit) = window(query.page, query.page_size);
    let (total, found) = services.checkpoints(&op, offset, limit)?;
    Ok(Json(page_of(query.page, query.page_size, total, found.into_iter().map(Into::into).collect())))
}

pub(super) async fn make(services: &Services, op: Op) -> Result<Created<CheckpointView>, Error> {
    let made = services.make_checkpoint(&op).await?;
    Ok(Created { location: "/api/v1/audit-logs/checkpoints".into(), resource: made.into() })
}

#[derive(Serialize, JsonSchema)]
pub(super) struct KeyView {
    algorithm: &'static str,
    /// 32 bytes.
    public_key: Hex,
    /// The same as SubjectPublicKeyInfo (RFC 8410), for OpenSSL.
    pem: String,
}

pub(super) async fn key(services: &Services, _: Op) -> Result<Json<KeyView>, Error> {
    /// What comes before the key's bytes: a sequence of the algorithm's identifier and a bit string.
    const PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
    let key = services.checkpoint_key()?;
    let base64 = STANDARD.encode([&PREFIX[..], &key].concat());
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{base64}\n-----END PUBLIC KEY-----\n");
    Ok(Json(KeyView { algorithm: "Ed25519", public_key: Hex(key.to_vec()), pem }))
}
