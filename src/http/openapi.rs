//! The OpenAPI 3.1 document, made from the routes' declarations and their handlers' types.

use http::StatusCode;
use schemars::{Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::route::{Access, Route};
use super::router::BASE;
use super::schema::generator;

/// One operation while its parts describe themselves.
#[derive(Default)]
pub struct Operation {
    parameters: Vec<Value>,
    body: Option<Value>,
    responses: Map<String, Value>,
}

impl Operation {
    /// Adds every property of an object schema as a query parameter.
    pub fn query(&mut self, schema: &Schema) {
        let required = schema.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
        for (name, property) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
            let mut property = property.clone();
            let description = property.as_object_mut().and_then(|members| members.remove("description"));
            let mut parameter = json!({
                "name": name, "in": "query", "required": required.contains(&json!(name)), "schema": property,
            });
            if let Some(description) = description {
                parameter["description"] = description;
            }
            self.parameters.push(parameter);
        }
    }

    pub fn header(&mut self, name: &str, description: &str) {
        let schema = json!({"type": "string"});
        self.parameters.push(json!({
            "name": name, "in": "header", "required": false, "description": description, "schema": schema,
        }));
    }

    pub fn json_body(&mut self, schema: &Schema, required: bool) {
        self.body = Some(json!({"required": required, "content": {"application/json": {"schema": schema}}}));
    }

    pub fn text_body(&mut self, media_type: &str, description: &str) {
        let schema = json!({"type": "string", "description": description});
        self.body = Some(json!({"required": true, "content": {media_type: {"schema": schema}}}));
    }

    pub fn file_body(&mut self, media_type: &str) {
        self.body = Some(json!({"required": true, "content": {media_type: {}}}));
    }

    pub fn answer(&mut self, status: StatusCode, description: &str, tagged: bool, schema: Option<(&str, Schema)>) {
        let mut response = json!({"description": description, "headers": common_headers()});
        if tagged {
            response["headers"]["ETag"] = json!({"schema": {"type": "string"}});
        }
        if let Some((media_type, schema)) = schema {
            response["content"] = json!({media_type: {"schema": schema}});
        }
        self.responses.insert(status.as_str().into(), response);
    }

    /// Adds to an answer that its body is text of one of these types.
    pub fn text_answer(&mut self, status: StatusCode, media_types: &[&str]) {
        let schema = json!({"schema": {"type": "string"}});
        let content: Map<String, Value> = media_types.iter().map(|one| ((*one).into(), schema.clone())).collect();
        self.responses[status.as_str()]["content"] = content.into();
    }
}

fn common_headers() -> Value {
    let number = |description: &str| json!({"description": description, "schema": {"type": "integer"}});
    json!({
        "X-Request-Id": {"schema": {"type": "string", "format": "uuid"}},
        "X-RateLimit-Limit": number("Requests a minute"),
        "X-RateLimit-Remaining": number("Requests left now"),
        "X-RateLimit-Reset": number("Unix seconds at which the full quota is available again"),
    })
}

pub fn document(routes: &[Route]) -> Value {
    let mut generator = generator();
    let mut paths: Map<String, Value> = Map::new();
    for route in routes {
        let path = format!("{BASE}{}", route.path);
        let item = paths.entry(path).or_insert_with(|| json!({}));
        item[route.method.as_str().to_lowercase()] = operation(route, &mut generator);
    }
    let mut schemas = generator.take_definitions(true);
    schemas.insert("Error".into(), error_schema());
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Zero",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Device management in one's own house: the v1 API.",
        },
        "servers": [{"url": "/", "description": "The appliance that serves this document"}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": {
                "Error": {
                    "description": "Refused or failed",
                    "headers": common_headers(),
                    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
                },
            },
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "An access token, an API key, a device token or an enrolment token",
                },
                "certificate": {
                    "type": "mutualTLS",
                    "description": "A device's certificate, instead of its token",
                },
            },
        },
    })
}

fn operation(route: &Route, generator: &mut SchemaGenerator) -> Value {
    let mut operation = Operation::default();
    for name in path_parameters(route.path) {
        let schema = json!({"type": "string"});
        operation.parameters.push(json!({"name": name, "in": "path", "required": true, "schema": schema}));
    }
    route.endpoint.describe(&mut operation, generator);
    let mut value = json!({
        "operationId": operation_id(route),
        "tags": [route.path.split('/').nth(1).unwrap_or_default()],
        "responses": operation.responses,
    });
    // Every refusal has one shape, whatever its status.
    value["responses"]["default"] = json!({"$ref": "#/components/responses/Error"});
    if route.method == http::Method::POST {
        operation.header("Idempotency-Key", "The first answer under this key is given again for 24 hours");
    }
    if !operation.parameters.is_empty() {
        value["parameters"] = operation.parameters.into();
    }
    if let Some(body) = operation.body {
        value["requestBody"] = body;
    }
    if !route.access.is_public() {
        value["security"] = match route.access {
            Access::Device | Access::NeedsOrOwn { device: true, .. } => json!([{"bearer": []}, {"certificate": []}]),
            _ => json!([{"bearer": []}]),
        };
    }
    value["description"] = access_note(route.access).into();
    if let Access::Needs(permission) | Access::NeedsOrOwn { permission, .. } = route.access {
        value["x-permission"] = permission.as_str().into();
    }
    value
}

fn access_note(access: Access) -> String {
    match access {
        Access::Open => "Open to anyone.".into(),
        Access::Public => "Open to anyone, once the appliance is set up.".into(),
        Access::OwnAccount => "For every signed-in user, also before a required second factor is set up.".into(),
        Access::SignedIn => "For every signed-in user.".into(),
        Access::Device => "For the device itself.".into(),
        Access::Needs(permission) => format!("Needs the permission `{permission}`."),
        Access::NeedsOrOwn { permission, device: false } => {
            format!("Needs the permission `{permission}`, except for what is one's own.")
        }
        Access::NeedsOrOwn { permission, device: true } => {
            format!("Needs the permission `{permission}`, except for what is one's own and the device itself.")
        }
    }
}

fn path_parameters(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'))
}

/// `POST /devices/{id}/wipe` as `post_devices_id_wipe`.
fn operation_id(route: &Route) -> String {
    let words = route.path.split(['/', '-']).filter(|word| !word.is_empty()).map(|word| word.trim_matches(['{', '}']));
    std::iter::once(route.method.as_str().to_lowercase()).chain(words.map(Into::into)).collect::<Vec<_>>().join("_")
}

fn error_schema() -> Value {
    json!({
        "type": "object",
        "required": ["code", "message", "details"],
        "properties": {
            "code": {"type": "integer", "description": "The HTTP status"},
            "message": {"type": "string"},
            "details": {"type": "string", "description": "What is wrong and what to do; all field errors joined by `; `"},
            "request_id": {"type": "string", "format": "uuid"},
            "errors": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["field", "message"],
                    "properties": {"field": {"type": "string"}, "message": {"type": "string"}},
                },
            },
        },
    })
}
