//! Server-sent events (WHATWG HTML, section 9.2).

use std::marker::PhantomData;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;

use super::respond::{Answer, Reply};
use super::stream::Stream;
use crate::error::Error;

const MEDIA_TYPE: &str = "text/event-stream";

/// Says that the connection lives, to whatever is on the way; clients pass over it.
pub const COMMENT: &[u8] = b": \n\n";

/// Asks the client to wait so long, in milliseconds, before it connects anew.
pub fn write_retry(milliseconds: u32, text: &mut Vec<u8>) {
    text.extend_from_slice(format!("retry: {milliseconds}\n").as_bytes());
}

/// Adds an event. `name` is one line; JSON has no line breaks of its own.
pub fn write(id: u64, name: &str, data: &impl Serialize, text: &mut Vec<u8>) -> Result<(), Error> {
    text.extend_from_slice(format!("id: {id}\nevent: {name}\ndata: ").as_bytes());
    serde_json::to_writer(&mut *text, data).map_err(Error::internal)?;
    text.extend_from_slice(b"\n\n");
    Ok(())
}

/// 200 with a stream of events whose data are JSON, `T` each.
pub struct Events<T> {
    content: Stream,
    data: PhantomData<fn() -> T>,
}

impl<T> Events<T> {
    /// `content` is made with the functions of this module.
    pub fn new(content: Stream) -> Self {
        Self { content, data: PhantomData }
    }
}

impl<T: JsonSchema> Answer for Events<T> {
    const STATUS: StatusCode = StatusCode::OK;
    const DESCRIPTION: &'static str = "Server-sent events, without an end";

    fn schema(generator: &mut SchemaGenerator) -> Option<(&'static str, Schema)> {
        let data = generator.subschema_for::<T>();
        let about = "The data of each event is one line of JSON";
        Some((MEDIA_TYPE, json_schema!({"type": "string", "description": about, "contentSchema": data})))
    }

    fn into_reply(self) -> Reply {
        let mut reply = Reply::content(Self::STATUS, MEDIA_TYPE, Bytes::new());
        // nginx would gather events until it has a page of them.
        reply.headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
        reply.stream = Some(self.content);
        reply
    }
}
