//! The reference of the API as a page: what the OpenAPI document says, for people.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::OnceLock;

use serde_json::Value;

use super::openapi::document;
use super::route::Route;

pub const PATH: &str = "/docs/api";

/// What `build` has put around it.
const FRAME: &str = include_str!(concat!(env!("OUT_DIR"), "/reference.html"));
const PLACE: &str = "<!-- reference -->";

/// The page of these routes, which are the same for as long as the process lives.
pub fn page(routes: &[Route]) -> &'static str {
    static PAGE: OnceLock<String> = OnceLock::new();
    PAGE.get_or_init(|| FRAME.replace(PLACE, &body(&document(routes))))
}

fn body(document: &Value) -> String {
    let mut page = String::from(
        "<h1>API</h1>\n<p>Every call of version 1. Bodies are JSON unless said otherwise; the same as a document for \
         programs (OpenAPI 3.1) is at <a href=\"/api/v1/openapi.json\">/api/v1/openapi.json</a>.</p>\n",
    );
    let mut groups: BTreeMap<&str, Vec<(&str, String, &Value)>> = BTreeMap::new();
    for (path, item) in members(&document["paths"]) {
        for (method, operation) in members(item) {
            let group = operation["tags"][0].as_str().unwrap_or_default();
            groups.entry(group).or_default().push((path, method.to_uppercase(), operation));
        }
    }
    // Writing to a string does not fail.
    let _ = writeln!(page, "<nav aria-label=\"On this page\">");
    for group in groups.keys() {
        let _ = writeln!(page, "<a href=\"#{group}\">{group}</a>");
    }
    let _ = writeln!(page, "<a href=\"#types\">types</a>\n</nav>");
    for (group, operations) in &groups {
        let _ = writeln!(page, "<h2 id=\"{group}\">{group}</h2>");
        for (path, method, operation) in operations {
            call(&mut page, path, method, operation);
        }
    }
    let _ = writeln!(page, "<h2 id=\"types\">Types</h2>");
    for (name, schema) in members(&document["components"]["schemas"]) {
        let _ = writeln!(page, "<h3 id=\"type-{name}\">{name}</h3>");
        description(&mut page, schema);
        match members(&schema["properties"]).next() {
            Some(_) => properties(&mut page, schema),
            None => drop(writeln!(page, "<p>{}</p>", kind(schema))),
        }
    }
    page
}

fn call(page: &mut String, path: &str, method: &str, operation: &Value) {
    let id = operation["operationId"].as_str().unwrap_or_default();
    let _ = writeln!(page, "<h3 id=\"{id}\"><code>{method} {}</code></h3>", escape(path));
    description(page, operation);
    let parameters = operation["parameters"].as_array().map(Vec::as_slice).unwrap_or_default();
    if !parameters.is_empty() {
        let _ = write!(page, "<div class=\"wide\"><table>\n<tr><th>Parameter</th><th>In</th><th>What</th></tr>\n");
        for parameter in parameters {
            let text = |name: &str| escape(parameter[name].as_str().unwrap_or_default());
            let (name, place, what) = (text("name"), text("in"), text("description"));
            let kind = kind(&parameter["schema"]);
            let _ = writeln!(page, "<tr><td><code>{name}</code></td><td>{place}</td><td>{kind}<br>{what}</td></tr>");
        }
        let _ = writeln!(page, "</table></div>");
    }
    let mut lines = contents(&operation["requestBody"]).map(|(media, kind)| format!("<li>takes {kind}{media}</li>"));
    let taken: String = lines.by_ref().collect();
    let given: String = members(&operation["responses"])
        .filter(|(status, _)| *status != "default")
        .map(|(status, response)| {
            let kinds: Vec<_> = contents(response).map(|(media, kind)| format!("{kind}{media}")).collect();
            let what = if kinds.is_empty() { "nothing".into() } else { kinds.join(" or ") };
            format!("<li>answers <code>{status}</code>: {what}</li>")
        })
        .collect();
    let _ = writeln!(page, "<ul>{taken}{given}</ul>");
}

/// What a body may be: its media type, unless it is JSON, and what is in it.
fn contents(of: &Value) -> impl Iterator<Item = (String, String)> {
    members(&of["content"]).map(|(media, content)| {
        let media = if media == "application/json" { String::new() } else { format!(" as {}", escape(media)) };
        (media, kind(&content["schema"]))
    })
}

fn description(page: &mut String, of: &Value) {
    if let Some(text) = of["description"].as_str() {
        let _ = writeln!(page, "<p>{}</p>", code(&escape(text)));
    }
}

fn properties(page: &mut String, schema: &Value) {
    let required = schema["required"].as_array();
    let _ = write!(page, "<div class=\"wide\"><table>\n<tr><th>Member</th><th>What</th></tr>\n");
    for (name, property) in members(&schema["properties"]) {
        let is_required = required.is_some_and(|names| names.iter().any(|required| required == name));
        let optional = if is_required { "" } else { " <span class=\"soft\">(optional)</span>" };
        let what = property["description"].as_str().map(|text| format!("<br>{}", code(&escape(text))));
        let (name, kind, what) = (escape(name), kind(property), what.unwrap_or_default());
        let _ = writeln!(page, "<tr><td><code>{name}</code>{optional}</td><td>{kind}{what}</td></tr>");
    }
    let _ = writeln!(page, "</table></div>");
}

/// What a value is, in words, with links to types that have a name.
fn kind(schema: &Value) -> String {
    if let Some(name) = schema["$ref"].as_str().and_then(|path| path.rsplit('/').next()) {
        return format!("<a href=\"#type-{name}\">{name}</a>");
    }
    for list in ["oneOf", "anyOf", "allOf"] {
        if let Some(kinds) = schema[list].as_array() {
            return kinds.iter().map(kind).collect::<Vec<_>>().join(" or ");
        }
    }
    let literal = |value: &Value| format!("<code>{}</code>", escape(&value.to_string()));
    if let Some(values) = schema["enum"].as_array() {
        return values.iter().map(literal).collect::<Vec<_>>().join(", ");
    }
    if !schema["const"].is_null() {
        return literal(&schema["const"]);
    }
    let one = |name: &str| match name {
        "array" => format!("list of {}", kind(&schema["items"])),
        "object" if schema["additionalProperties"].is_object() => {
            format!("object of {}", kind(&schema["additionalProperties"]))
        }
        "object" => {
            let names: Vec<_> = members(&schema["properties"])
                .map(|(name, property)| format!("<code>{}</code> {}", escape(name), kind(property)))
                .collect();
            if names.is_empty() { "object".into() } else { format!("object: {}", names.join(", ")) }
        }
        name => escape(name),
    };
    let mut words = match &schema["type"] {
        Value::String(name) => one(name),
        Value::Array(names) => names.iter().filter_map(Value::as_str).map(one).collect::<Vec<_>>().join(" or "),
        _ => "anything".into(),
    };
    const BOUNDS: [(&str, &str); 9] = [
        ("format", ""),
        ("minimum", "at least"),
        ("maximum", "at most"),
        ("minLength", "characters at least"),
        ("maxLength", "characters at most"),
        ("minItems", "items at least"),
        ("maxItems", "items at most"),
        ("default", "default"),
        ("pattern", "pattern"),
    ];
    for (bound, name) in BOUNDS {
        if let Some(value) = schema.get(bound).filter(|value| !value.is_null()) {
            let value = value.as_str().map_or_else(|| value.to_string(), Into::into);
            let _ = write!(words, ", {name} {}", escape(&value));
        }
    }
    words
}

fn members(of: &Value) -> impl Iterator<Item = (&str, &Value)> {
    of.as_object().into_iter().flatten().map(|(name, value)| (name.as_str(), value))
}

/// What stands between backticks as code.
fn code(text: &str) -> String {
    let parts = text.split('`').enumerate();
    parts.map(|(number, part)| if number % 2 == 1 { format!("<code>{part}</code>") } else { part.into() }).collect()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
