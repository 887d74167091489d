//! Input is checked by the very JSON Schema that the OpenAPI document publishes for it, so the two cannot differ; all
//! that is wrong is named at once.

use std::marker::PhantomData;

use jsonschema::Validator;
use jsonschema::error::{TypeKind, ValidationErrorKind};
use jsonschema::paths::{Location, LocationSegment};
use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::error::FieldError;

/// Objects and arrays within each other in a request body, at most.
pub const MAX_NESTING: usize = 32;
/// Errors that one answer lists, at most.
const MAX_ERRORS: usize = 20;

/// JSON Schema 2020-12 as OpenAPI 3.1 embeds it.
pub fn generator() -> SchemaGenerator {
    let mut settings = SchemaSettings::draft2020_12();
    settings.definitions_path = "/components/schemas".into();
    settings.meta_schema = None;
    settings.into_generator()
}

/// Turns JSON into `T`, or into the list of what is wrong with it.
pub struct Checker<T> {
    validator: Validator,
    properties: Map<String, Value>,
    produces: PhantomData<fn() -> T>,
}

impl<T: JsonSchema + DeserializeOwned> Checker<T> {
    /// # Panics
    /// When the type's own schema is unusable, which shows at the first start of the build that has it.
    pub fn for_type() -> Self {
        let mut generator = SchemaSettings::draft2020_12().with(|s| s.inline_subschemas = true).into_generator();
        let schema = generator.root_schema_for::<T>().to_value();
        let validator = jsonschema::options()
            .should_validate_formats(true)
            .build(&schema)
            .unwrap_or_else(|error| panic!("the schema of {} is unusable: {error}", T::schema_name()));
        let properties = schema.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
        Self { validator, properties, produces: PhantomData }
    }

    pub fn check(&self, value: Value) -> Result<T, Vec<FieldError>> {
        let errors: Vec<_> = self.validator.iter_errors(&value).take(MAX_ERRORS).flat_map(|e| explain(&e)).collect();
        if !errors.is_empty() {
            return Err(errors);
        }
        // What a schema cannot say (an address pool, an e-mail's parts), the type's own reading does.
        T::deserialize(value).map_err(|cause| vec![FieldError::new("body", format!("cannot be read: {cause}"))])
    }

    /// Query parameters are text; their schema says which of them are numbers, booleans and lists.
    pub fn check_query(&self, query: &str) -> Result<T, Vec<FieldError>> {
        let mut values = Map::new();
        for (name, text) in form_pairs(query) {
            let kind = self.properties.get(&name).map_or("", |schema| type_of(schema));
            match (kind, values.get_mut(&name)) {
                ("array", Some(Value::Array(list))) => list.push(Value::String(text)),
                ("array", _) => {
                    values.insert(name, Value::Array(vec![Value::String(text)]));
                }
                (_, Some(_)) => return Err(vec![FieldError::new(name, "is given more than once")]),
                _ => {
                    values.insert(name, coerce(kind, text));
                }
            }
        }
        self.check(Value::Object(values))
    }
}

/// Reads a body: UTF-8, at most [`MAX_NESTING`] deep, then JSON.
pub fn parse(body: &[u8]) -> Result<Value, String> {
    if std::str::from_utf8(body).is_err() {
        return Err("the body is not UTF-8".into());
    }
    if nesting(body) > MAX_NESTING {
        return Err(format!("the body nests deeper than {MAX_NESTING} levels"));
    }
    serde_json::from_slice(body).map_err(|error| format!("the body is not JSON: {error}"))
}

fn nesting(body: &[u8]) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0_usize, 0, false, false);
    for byte in body {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// Decodes `application/x-www-form-urlencoded`.
fn form_pairs(query: &str) -> impl Iterator<Item = (String, String)> {
    form_urlencoded::parse(query.as_bytes()).into_owned()
}

fn type_of(schema: &Value) -> &str {
    match schema.get("type") {
        Some(Value::String(kind)) => kind,
        Some(Value::Array(kinds)) => kinds.iter().filter_map(Value::as_str).find(|kind| *kind != "null").unwrap_or(""),
        _ => "",
    }
}

fn coerce(kind: &str, text: String) -> Value {
    match kind {
        "integer" => text.parse::<i64>().map_or(Value::String(text), Value::from),
        "boolean" => text.parse::<bool>().map_or(Value::String(text), Value::from),
        _ => Value::String(text),
    }
}

/// What an error of the schema means to whoever sent the request.
fn explain(error: &jsonschema::ValidationError) -> Vec<FieldError> {
    use ValidationErrorKind as Kind;
    let path = path_of(error.instance_path());
    let at = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    let message = match error.kind() {
        Kind::Required { property } => {
            return vec![FieldError::new(at(property.as_str().unwrap_or_default()), "is required")];
        }
        Kind::AdditionalProperties { unexpected } => {
            return unexpected.iter().map(|name| FieldError::new(at(name), "is not a known member")).collect();
        }
        Kind::Type { kind } => format!("must be {}", type_names(kind)),
        Kind::Enum { options } => format!("must be one of {}", list(options)),
        Kind::AnyOf { context } | Kind::OneOfNotValid { context } => match choices(error) {
            Some(words) => format!("must be one of {}", words.join(", ")),
            // An optional member is "its type or null": what is wrong with the value is what the type says.
            None => {
                let inner = context.iter().flatten().filter(|e| !is_null_branch(e));
                return inner.take(1).flat_map(explain).collect();
            }
        },
        Kind::MinLength { limit: 1 } => "must not be empty".into(),
        Kind::MinLength { limit } => format!("must have at least {limit} characters"),
        Kind::MaxLength { limit } => format!("must have at most {limit} characters"),
        Kind::Minimum { limit } => format!("must be at least {limit}"),
        Kind::Maximum { limit } => format!("must be at most {limit}"),
        Kind::MinItems { limit } => format!("must have at least {limit} items"),
        Kind::MaxItems { limit } => format!("must have at most {limit} items"),
        Kind::UniqueItems => "must not hold the same item twice".into(),
        Kind::Format { format } => match format.as_str() {
            "uuid" => "is not a UUID".into(),
            "date-time" => "is not an RFC 3339 time".into(),
            "ipv4" | "ipv6" => "is not an address".into(),
            "email" => "is not an e-mail address".into(),
            other => format!("is not a valid {other}"),
        },
        Kind::Pattern { pattern } => format!("does not match {pattern}"),
        _ => format!("is invalid: {}", error.masked()),
    };
    vec![FieldError::new(if path.is_empty() { "body".into() } else { path }, message)]
}

/// The words that would have been right, when nothing but words would: an enumeration whose values are described each
/// has a branch for each.
fn choices(error: &jsonschema::ValidationError) -> Option<Vec<String>> {
    use ValidationErrorKind as Kind;
    match error.kind() {
        Kind::Enum { options } => Some(options.as_array()?.iter().filter_map(Value::as_str).map(Into::into).collect()),
        Kind::Constant { expected_value } => Some(vec![expected_value.as_str()?.into()]),
        Kind::AnyOf { context } | Kind::OneOfNotValid { context } => {
            let branches = context.iter().flatten().filter(|inner| !is_null_branch(inner));
            branches
                .map(choices)
                .collect::<Option<Vec<_>>>()
                .map(|words| words.concat())
                .filter(|words| !words.is_empty())
        }
        _ => None,
    }
}

fn is_null_branch(error: &jsonschema::ValidationError) -> bool {
    matches!(error.kind(), ValidationErrorKind::Type { kind: TypeKind::Single(jsonschema::JsonType::Null) })
}

/// `/tags/2` as `tags[2]`.
fn path_of(location: &Location) -> String {
    location.into_iter().fold(String::new(), |path, segment| match segment {
        LocationSegment::Index(index) => format!("{path}[{index}]"),
        LocationSegment::Property(name) if path.is_empty() => name.to_string(),
        LocationSegment::Property(name) => format!("{path}.{name}"),
    })
}

fn type_names(kind: &TypeKind) -> String {
    match kind {
        TypeKind::Single(kind) => with_article(&kind.to_string()),
        TypeKind::Multiple(kinds) => {
            let names: Vec<_> = kinds.iter().map(|k| with_article(&k.to_string())).collect();
            names.join(" or ")
        }
    }
}

fn with_article(kind: &str) -> String {
    match kind {
        "null" => "null".into(),
        "array" | "integer" | "object" => format!("an {kind}"),
        _ => format!("a {kind}"),
    }
}

fn list(options: &Value) -> String {
    let names = options.as_array().into_iter().flatten().filter_map(Value::as_str);
    names.collect::<Vec<_>>().join(", ")
}
