//! Every answer that any test receives is held against the OpenAPI document.

use std::sync::LazyLock;

use reqwest::Method;
use serde_json::{Value, json};

use crate::server::Reply;

static DOCUMENT: LazyLock<Value> = LazyLock::new(zero::app::openapi);

pub fn check(method: &Method, path: &str, reply: &Reply) {
    let response = match operation(method, path) {
        Some(operation) => {
            let responses = &operation["responses"];
            responses.get(reply.status.as_str()).unwrap_or(&responses["default"])
        }
        None => &json!({"$ref": "#/components/responses/Error"}),
    };
    let is_error = response.get("$ref").is_some();
    let response = match response.get("$ref").and_then(Value::as_str) {
        Some(reference) => DOCUMENT.pointer(&reference[1..]).expect("references lead somewhere"),
        None => response,
    };
    if reply.status == 304 {
        assert!(reply.text.is_empty());
        return;
    }
    let media_type = reply.headers.get("content-type").and_then(|value| value.to_str().ok()).unwrap_or("");
    if media_type != "application/json" && response["content"].get(media_type).is_some() {
        return;
    }
    let Some(schema) = response.pointer("/content/application~1json/schema") else {
        assert!(reply.text.is_empty(), "{method} {path}: a body that is not described: {}", reply.text);
        return;
    };
    let whole = json!({"allOf": [schema], "components": DOCUMENT["components"]});
    let validator = jsonschema::validator_for(&whole).expect("the document's schemas are valid");
    let body = reply.json();
    let errors: Vec<String> =
        validator.iter_errors(&body).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(errors.is_empty(), "{method} {path} {}: {errors:?} in {body}", reply.status);
    if is_error {
        assert_eq!(body["code"], reply.status.as_u16());
    }
    for header in ["x-request-id", "x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"] {
        reply.header(header);
    }
}

fn operation(method: &Method, path: &str) -> Option<&'static Value> {
    let segments: Vec<&str> = path.split('/').collect();
    let paths = DOCUMENT["paths"].as_object().unwrap();
    let mut fitting: Vec<_> = paths.iter().filter(|(template, _)| fits(template, &segments)).collect();
    // A path without parameters comes before one with.
    fitting.sort_by_key(|(template, _)| template.matches('{').count());
    fitting.first().and_then(|(_, item)| item.get(method.as_str().to_lowercase()))
}

fn fits(template: &str, segments: &[&str]) -> bool {
    let parts: Vec<&str> = template.split('/').collect();
    parts.len() == segments.len()
        && parts.iter().zip(segments).all(|(part, segment)| part.starts_with('{') || part == segment)
}
