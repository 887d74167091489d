//! What an entry looks like in each format of the export.

use schemars::JsonSchema;
use serde::Deserialize;

use super::EntryView;
use crate::error::Error;
use crate::model::audit::{AuditEntry, AuditResult};

#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum Format {
    Ndjson,
    Csv,
    Cef,
}

const COLUMNS: [&str; 16] = [
    "seq",
    "timestamp",
    "id",
    "organization_id",
    "actor_type",
    "actor_id",
    "actor_name",
    "action",
    "resource_type",
    "resource_id",
    "resource_name",
    "result",
    "source_ip",
    "request_id",
    "details",
    "hash",
];

impl Format {
    pub const MEDIA_TYPES: &'static [&'static str] = &["application/x-ndjson", "text/csv", "text/plain"];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ndjson => "ndjson",
            Self::Csv => "csv",
            Self::Cef => "cef",
        }
    }

    pub fn media_type(self) -> &'static str {
        Self::MEDIA_TYPES[self as usize]
    }

    /// What comes before the first entry.
    pub fn heading(self) -> Vec<u8> {
        match self {
            Self::Csv => format!("{}\r\n", COLUMNS.join(",")).into_bytes(),
            Self::Ndjson | Self::Cef => Vec::new(),
        }
    }

    /// Appends the entry, whose names are open, as one line.
    pub fn write(self, entry: AuditEntry, to: &mut Vec<u8>) -> Result<(), Error> {
        match self {
            Self::Ndjson => {
                serde_json::to_writer(&mut *to, &EntryView::from(entry)).map_err(Error::internal)?;
                to.push(b'\n');
                Ok(())
            }
            Self::Csv => csv(entry, to),
            Self::Cef => {
                to.extend_from_slice(cef(entry)?.as_bytes());
                Ok(())
            }
        }
    }
}

fn csv(entry: AuditEntry, to: &mut Vec<u8>) -> Result<(), Error> {
    let (resource_type, resource_id, resource_name) = match entry.resource {
        Some(resource) => (resource.kind, resource.id, resource.name.unwrap_or_default()),
        None => Default::default(),
    };
    let cells: [String; COLUMNS.len()] = [
        entry.seq.to_string(),
        entry.timestamp.to_string(),
        entry.id.to_string(),
        entry.organization_id.to_string(),
        entry.actor.kind.to_string(),
        entry.actor.id.unwrap_or_default(),
        entry.actor.name.unwrap_or_default(),
        entry.action,
        resource_type,
        resource_id,
        resource_name,
        entry.result.to_string(),
        entry.source_ip.map(|address| address.to_string()).unwrap_or_default(),
        entry.request_id.map(|id| id.to_string()).unwrap_or_default(),
        serde_json::to_string(&entry.details).map_err(Error::internal)?,
        entry.hash,
    ];
    let mut writer = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(to);
    writer.write_record(cells.map(harmless)).map_err(Error::internal)?;
    writer.flush().map_err(Error::internal)
}

/// A spreadsheet takes what begins like this for a formula, and runs it.
fn harmless(cell: String) -> String {
    if cell.starts_with(['=', '+', '-', '@', '\t', '\r']) { format!("'{cell}") } else { cell }
}

/// ArcSight Common Event Format, revision 25: a header of fields between bars, then pairs of key and value.
fn cef(entry: AuditEntry) -> Result<String, Error> {
    let action = in_header(&entry.action);
    let severity = if entry.result == AuditResult::Failure { 6 } else { 3 };
    let mut line = format!("CEF:0|Zero|Zero|{}|{action}|{action}|{severity}|", env!("CARGO_PKG_VERSION"));
    let mut add = |key: &str, value: &str| {
        if !value.is_empty() {
            if !line.ends_with('|') {
                line.push(' ');
            }
            line.push_str(key);
            line.push('=');
            line.push_str(&in_value(value));
        }
    };
    add("rt", &(entry.timestamp.unix() * 1000).to_string());
    add("externalId", &entry.id.to_string());
    add("outcome", entry.result.as_str());
    add("spriv", entry.actor.kind.as_str());
    add("suid", entry.actor.id.as_deref().unwrap_or_default());
    add("suser", entry.actor.name.as_deref().unwrap_or_default());
    match entry.source_ip {
        Some(address @ std::net::IpAddr::V4(_)) => add("src", &address.to_string()),
        Some(address) => {
            add("c6a2Label", "Source IPv6 Address");
            add("c6a2", &address.to_string());
        }
        None => {}
    }
    add("cn1Label", "seq");
    add("cn1", &entry.seq.to_string());
    let (kind, id, name) = match entry.resource {
        Some(resource) => (resource.kind, resource.id, resource.name.unwrap_or_default()),
        None => Default::default(),
    };
    let request = entry.request_id.map(|id| id.to_string()).unwrap_or_default();
    let texts = [
        ("resourceType", kind),
        ("resourceId", id),
        ("resourceName", name),
        ("organizationId", entry.organization_id.to_string()),
        ("requestId", request),
        ("hash", entry.hash),
    ];
    for (number, (label, value)) in texts.iter().enumerate().filter(|(_, (_, value))| !value.is_empty()) {
        add(&format!("cs{}Label", number + 1), label);
        add(&format!("cs{}", number + 1), value);
    }
    if !entry.details.is_empty() {
        add("msg", &serde_json::to_string(&entry.details).map_err(Error::internal)?);
    }
    line.push('\n');
    Ok(line)
}

/// Bars and backslashes are escaped; a header has no line breaks.
fn in_header(text: &str) -> String {
    text.replace('\\', "\\\\").replace('|', "\\|").replace(['\r', '\n'], " ")
}

/// Equal signs and backslashes are escaped, line breaks written as such.
fn in_value(text: &str) -> String {
    text.replace('\\', "\\\\").replace('=', "\\=").replace('\n', "\\n").replace('\r', "\\r")
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv6Addr};

    use super::*;
    use crate::clock::Time;
    use crate::ids::{AuditId, OrganizationId};
    use crate::model::audit::{Actor, ActorType, Resource};

    fn entry(name: &str) -> AuditEntry {
        AuditEntry {
            id: AuditId::from_bytes([1; 16]),
            seq: 7,
            timestamp: Time::from_unix(1_800_000_000),
            organization_id: OrganizationId::from_bytes([2; 16]),
            actor: Actor { kind: ActorType::User, id: Some("u".into()), name: Some(name.into()) },
            action: "device.wipe".into(),
            resource: Some(Resource { kind: "device".into(), id: "d".into(), name: Some(name.into()) }),
            details: [("note".to_owned(), name.into())].into_iter().collect(),
            source_ip: Some(IpAddr::V6(Ipv6Addr::LOCALHOST)),
            request_id: None,
            result: AuditResult::Failure,
            hash: "00".into(),
            sealed: Vec::new(),
        }
    }

    fn text(format: Format, name: &str) -> String {
        let mut text = format.heading();
        format.write(entry(name), &mut text).unwrap();
        String::from_utf8(text).unwrap()
    }

    /// A device named like a formula must not run on the auditor's machine.
    #[test]
    fn no_cell_of_the_csv_begins_like_a_formula_and_every_other_is_as_it_was() {
        for name in ["=cmd|' /C calc'!A0", "+1", "-1", "@SUM(A1)", "\tx", "\rx", "O'Hara, \"Ann\"\n"] {
            let text = text(Format::Csv, name);
            let mut reader = csv::Reader::from_reader(text.as_bytes());
            assert_eq!(reader.headers().unwrap().len(), COLUMNS.len());
            let row = reader.records().next().unwrap().unwrap();
            assert!(row.iter().all(|cell| !cell.starts_with(['=', '+', '-', '@', '\t', '\r'])), "{text}");
            assert_eq!(row[6].strip_prefix('\'').unwrap_or(&row[6]), name);
        }
    }

    #[test]
    fn cef_escapes_what_has_a_meaning_in_it_and_stays_one_line() {
        let text = text(Format::Cef, "a=b|c\\d\ne");
        assert!(text.starts_with("CEF:0|Zero|Zero|"), "{text}");
        assert_eq!(text.matches('\n').count(), 1);
        for part in ["|device.wipe|device.wipe|6|rt=1800000000000 ", " suser=a\\=b|c\\\\d\\ne ", " cn1Label=seq cn1=7 "]
        {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(text.contains(" c6a2Label=Source IPv6 Address c6a2=::1 ") && !text.contains(" src="));
        assert_eq!(in_header("a|b\\c\nd"), "a\\|b\\\\c d");
    }

    #[test]
    fn a_line_of_ndjson_is_an_entry_of_the_api() {
        let text = text(Format::Ndjson, "Ann\n");
        let line: serde_json::Value = serde_json::from_str(text.strip_suffix('\n').unwrap()).unwrap();
        assert_eq!(
            (&line["seq"], &line["actor"]["name"], &line["result"]),
            (&7.into(), &"Ann\n".into(), &"failure".into())
        );
        assert_eq!(serde_json::from_value::<AuditEntry>(line).unwrap(), entry("Ann\n"));
    }
}
