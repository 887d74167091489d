//! Answers that are made while they are read.

use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::CONTENT_DISPOSITION;
use http::{HeaderValue, StatusCode};
use http_body::{Body, Frame};
use schemars::{Schema, SchemaGenerator};

use super::openapi::Operation;
use super::respond::{Answer, Reply};
use crate::error::Error;

/// A body in pieces, each of which is asked for when the one before has found room on its way: a slow reader holds one
/// piece in memory, and `net` ends it. An error cuts the connection, so that nobody takes a part for the whole.
pub struct Stream(Pin<Box<dyn futures_util::Stream<Item = Result<Bytes, Error>> + Send>>);

impl Stream {
    pub fn new(pieces: impl futures_util::Stream<Item = Result<Bytes, Error>> + Send + 'static) -> Self {
        Self(Box::pin(pieces))
    }
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Stream")
    }
}

impl Body for Stream {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        self.0.as_mut().poll_next(cx).map(|piece| {
            let piece = piece?;
            if let Err(error) = &piece {
                tracing::error!(%error, "an answer broke off half-way");
            }
            Some(piece.map(Frame::data))
        })
    }
}

/// What an answer may be, for the OpenAPI document.
pub trait MediaTypes: Send {
    const MEDIA_TYPES: &'static [&'static str];
}

/// 200 with a body that is made while it is read.
pub struct Streamed<M> {
    media_type: &'static str,
    /// What a browser saves it as.
    file_name: Option<String>,
    content: Stream,
    types: PhantomData<M>,
}

impl<M: MediaTypes> Streamed<M> {
    pub fn new(media_type: &'static str, content: Stream) -> Self {
        Self { media_type, file_name: None, content, types: PhantomData }
    }

    /// `name` is of plain characters, without quotes.
    pub fn saved_as(self, name: String) -> Self {
        Self { file_name: Some(name), ..self }
    }
}

impl<M: MediaTypes> Answer for Streamed<M> {
    const STATUS: StatusCode = StatusCode::OK;
    const DESCRIPTION: &'static str = "Request succeeded";

    fn schema(_: &mut SchemaGenerator) -> Option<(&'static str, Schema)> {
        None
    }

    fn into_reply(self) -> Reply {
        let mut reply = Reply::content(Self::STATUS, self.media_type, Bytes::new());
        let disposition = self.file_name.map(|name| HeaderValue::try_from(format!("attachment; filename=\"{name}\"")));
        if let Some(Ok(value)) = disposition {
            reply.headers.insert(CONTENT_DISPOSITION, value);
        }
        reply.stream = Some(self.content);
        reply
    }

    fn describe(operation: &mut Operation, generator: &mut SchemaGenerator) {
        operation.answer(Self::STATUS, Self::DESCRIPTION, Self::TAGGED, Self::schema(generator));
        operation.text_answer(Self::STATUS, M::MEDIA_TYPES);
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn what_fails_half_way_ends_in_an_error_and_not_in_an_end() {
        let pieces = [Ok(Bytes::from_static(b"half")), Err(Error::Internal("the disk is gone".into()))];
        let mut body = Stream::new(futures_util::stream::iter(pieces));
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "half");
        assert!(body.frame().await.unwrap().is_err());
    }
}
