use std::net::IpAddr;

use bytes::Bytes;
use futures_util::stream;
use schemars::JsonSchema;
use serde::Deserialize;

use super::formats::Format;
use crate::clock::Time;
use crate::domain::Services;
use crate::domain::audit::AuditFilter;
use crate::domain::audit::export::Export;
use crate::domain::op::Op;
use crate::error::Error;
use crate::http::extract::Query;
use crate::http::stream::{MediaTypes, Stream, Streamed};
use crate::model::audit::AuditResult;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ExportQuery {
    /// `ndjson`: an entry a line, as in the list, which `zero audit verify` verifies. `csv`: for spreadsheets, with an
    /// apostrophe before what they would take for a formula. `cef`: ArcSight's Common Event Format, for a SIEM.
    format: Format,
    from: Option<Time>,
    /// Exclusive.
    to: Option<Time>,
    /// An action, or with a dot at its end all that start with it: `auth.`.
    #[schemars(length(max = 100))]
    action: Option<String>,
    #[schemars(length(max = 100))]
    actor_id: Option<String>,
    #[schemars(length(max = 100))]
    resource_type: Option<String>,
    #[schemars(length(max = 100))]
    resource_id: Option<String>,
    result: Option<AuditResult>,
    source_ip: Option<IpAddr>,
}

pub(super) struct Formats;

impl MediaTypes for Formats {
    const MEDIA_TYPES: &'static [&'static str] = Format::MEDIA_TYPES;
}

pub(super) async fn export(
    services: &Services,
    op: Op,
    Query(query): Query<ExportQuery>,
) -> Result<Streamed<Formats>, Error> {
    let ExportQuery { format, from, to, action, actor_id, resource_type, resource_id, result, source_ip } = query;
    let filter = AuditFilter { from, to, action, actor_id, resource_type, resource_id, result, source_ip };
    let export = services.export_audit_log(&op, filter, format.as_str()).await?;
    let writing = Writing { export, format, begun: false };
    let content = Stream::new(stream::try_unfold(writing, |writing| async {
        tokio::task::spawn_blocking(|| writing.piece()).await.map_err(Error::internal)?
    }));
    let name = format!("audit-log-{}.{}", op.now.to_string().replace(':', ""), format.as_str());
    Ok(Streamed::new(format.media_type(), content).saved_as(name))
}

/// An export on its way into text.
struct Writing {
    export: Export,
    format: Format,
    begun: bool,
}

impl Writing {
    /// The next piece, and what is needed for the one after it.
    fn piece(mut self) -> Result<Option<(Bytes, Self)>, Error> {
        let mut text = if self.begun { Vec::new() } else { self.format.heading() };
        self.begun = true;
        let found = self.export.next_part()?;
        if found.is_none() && text.is_empty() {
            return Ok(None);
        }
        for entry in found.into_iter().flatten() {
            self.format.write(entry, &mut text)?;
        }
        Ok(Some((text.into(), self)))
    }
}
