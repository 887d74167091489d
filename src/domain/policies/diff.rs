//! What one version of a policy says differently from another.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::{Value, json};

use crate::error::Error;
use crate::model::policy::PolicyContent;

/// Longer values are left out where many changes stand together. In bytes of JSON.
const BRIEF: usize = 4096;

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    /// Such as `policy_data.usb.allowed`.
    pub path: String,
    /// Null for what was not set.
    pub before: Value,
    /// Null for what is not set any more.
    pub after: Value,
}

impl Change {
    /// This with a word in place of values that are too long to stand among others.
    pub fn brief(self) -> Self {
        let brief = |value: Value| match &value {
            Value::Array(items) if value.to_string().len() > BRIEF => json!(format!("({} items)", items.len())),
            _ => value,
        };
        Self { before: brief(self.before), after: brief(self.after), ..self }
    }
}

/// In order of the paths.
pub fn changes(before: &PolicyContent, after: &PolicyContent) -> Result<Vec<Change>, Error> {
    let before = serde_json::to_value(before).map_err(Error::internal)?;
    let after = serde_json::to_value(after).map_err(Error::internal)?;
    let mut found = Vec::new();
    compare(String::new(), Some(&before), Some(&after), &mut found);
    Ok(found)
}

fn compare(path: String, before: Option<&Value>, after: Option<&Value>, found: &mut Vec<Change>) {
    let objects = [before, after].into_iter().flatten().filter_map(Value::as_object);
    let names: BTreeSet<&String> = objects.flat_map(|object| object.keys()).collect();
    if names.is_empty() {
        if before != after {
            let value = |value: Option<&Value>| value.cloned().unwrap_or_default();
            found.push(Change { path, before: value(before), after: value(after) });
        }
        return;
    }
    for name in names {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        compare(path, before.and_then(|value| value.get(name)), after.and_then(|value| value.get(name)), found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(data: Value) -> PolicyContent {
        let policy_data = serde_json::from_value(data).unwrap();
        PolicyContent { name: "P".into(), description: String::new(), policy_data, extends: None, active: true }
    }

    #[test]
    fn a_diff_names_what_was_set_changed_and_unset() {
        let before = content(json!({"usb": {"allowed": true, "whitelist": ["046d:c52b"]}, "storage": {}}));
        let after = content(json!({"usb": {"allowed": false}, "storage": {"encryption_required": true}, "dlp": {}}));
        let changes = changes(&before, &PolicyContent { name: "Q".into(), ..after }).unwrap();
        let expected = [
            ("name", json!("P"), json!("Q")),
            ("policy_data.dlp", Value::Null, json!({})),
            ("policy_data.storage.encryption_required", Value::Null, json!(true)),
            ("policy_data.usb.allowed", json!(true), json!(false)),
            ("policy_data.usb.whitelist", json!(["046d:c52b"]), Value::Null),
        ];
        assert_eq!(changes, expected.map(|(path, before, after)| Change { path: path.into(), before, after }));
    }
}
