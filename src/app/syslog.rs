//! Connects the copying of the audit log with the network.

use std::sync::Arc;

use crate::domain::audit::forward::{Collector, Connect, Later};
use crate::model::audit::{AuditEntry, AuditResult};
use crate::net::syslog::{Connection, Message, Severity, Syslog};

pub fn connect(syslog: Syslog) -> Arc<Connect> {
    let syslog = Arc::new(syslog);
    Arc::new(move || {
        let syslog = syslog.clone();
        Box::pin(async move { Ok(Box::new(Link(syslog.connect().await?)) as Box<dyn Collector>) })
    })
}

struct Link(Connection);

impl Collector for Link {
    fn send(&mut self, entries: Vec<AuditEntry>) -> Later<'_, Result<(), String>> {
        Box::pin(async move {
            let messages: Vec<_> = entries.into_iter().map(message).collect();
            self.0.send(&messages).await
        })
    }

    fn gone(&mut self) -> Later<'_, String> {
        Box::pin(self.0.gone())
    }
}

fn message(entry: AuditEntry) -> Message {
    let AuditEntry { seq, timestamp, organization_id, actor, action, resource, details, result, .. } = entry;
    let (kind, id, name) = resource.map_or((None, None, None), |r| (Some(r.kind), Some(r.id), r.name));
    let parameters = [
        ("organization", Some(organization_id.to_string())),
        ("seq", Some(seq.to_string())),
        ("action", Some(action.clone())),
        ("result", Some(result.as_str().into())),
        ("actor_type", Some(actor.kind.as_str().into())),
        ("actor_id", actor.id),
        ("actor_name", actor.name),
        ("resource_type", kind),
        ("resource_id", id),
        ("resource_name", name),
        ("source_ip", entry.source_ip.map(|address| address.to_string())),
        ("request_id", entry.request_id.map(|id| id.to_string())),
        ("hash", Some(entry.hash)),
    ];
    Message {
        severity: match result {
            AuditResult::Success => Severity::Informational,
            AuditResult::Failure => Severity::Warning,
        },
        time: timestamp.to_string(),
        id: action,
        parameters: parameters.into_iter().filter_map(|(name, value)| Some((name, value?))).collect(),
        text: serde_json::Value::Object(details).to_string(),
    }
}
