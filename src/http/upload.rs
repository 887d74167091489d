//! A request's body that is too large for memory: it goes to disk as it comes.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http_body_util::BodyExt;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};

use super::respond::Failure;
use crate::error::{Error, with_remedy};
use crate::ids::fill_random;

/// From one piece to the next, at most.
const PAUSE: Duration = Duration::from_secs(30);
/// From the first to the last, at most.
const WHOLE: Duration = Duration::from_secs(30 * 60);
/// Pieces that wait for the disk.
const WAITING: usize = 16;

/// A file that was sent. It is removed with its last owner.
#[derive(Clone)]
pub struct Upload(Arc<Kept>);

struct Kept(PathBuf);

impl Drop for Kept {
    fn drop(&mut self) {
        // Whoever has taken it has moved or removed it.
        let _ = fs::remove_file(&self.0);
    }
}

impl Upload {
    pub fn path(&self) -> &Path {
        &self.0.0
    }

    /// Receives up to `most` bytes into a new file in `folder`.
    pub(super) async fn receive<B>(body: &mut B, most: u64, folder: &Path) -> Result<Self, Failure>
    where
        B: http_body::Body<Data = Bytes> + Send + Unpin,
        B::Error: std::error::Error + Send + Sync + 'static,
    {
        let too_large = || {
            let details = format!("the file may have at most {most} bytes");
            Failure::new(StatusCode::PAYLOAD_TOO_LARGE, "request body too large", details)
        };
        if body.size_hint().lower() > most {
            return Err(too_large());
        }
        let mut random = [0; 8];
        fill_random(&mut random);
        let kept = Self(Arc::new(Kept(folder.join(format!("{:016x}.upload", u64::from_be_bytes(random))))));
        let (pieces, waiting) = mpsc::channel(WAITING);
        let path = kept.path().to_owned();
        let writing = tokio::task::spawn_blocking(move || write(&path, waiting));
        let sent = send(body, most, pieces).await;
        let written = writing.await.map_err(Error::internal)?;
        written.map_err(|error| {
            Failure::from(Error::Unavailable {
                message: format!("the file cannot be kept: {}; send it again after that", with_remedy(&error)),
                retry_after: Duration::from_secs(60),
            })
        })?;
        match sent {
            Ok(()) => Ok(kept),
            Err(Unsent::TooLarge) => Err(too_large()),
            Err(Unsent::BrokeOff(why)) => Err(Failure::new(StatusCode::BAD_REQUEST, "invalid request body", why)),
        }
    }
}

enum Unsent {
    TooLarge,
    BrokeOff(&'static str),
}

async fn send<B>(body: &mut B, most: u64, pieces: mpsc::Sender<Bytes>) -> Result<(), Unsent>
where
    B: http_body::Body<Data = Bytes> + Send + Unpin,
{
    let (mut length, end) = (0, Instant::now() + WHOLE);
    loop {
        let frame = timeout_at(end, timeout(PAUSE, body.frame())).await;
        let frame = frame.ok().and_then(Result::ok).ok_or(Unsent::BrokeOff("the body did not arrive in time"))?;
        let Some(frame) = frame else { return Ok(()) };
        let Ok(piece) = frame.map_err(|_| Unsent::BrokeOff("the body broke off"))?.into_data() else { continue };
        length += piece.len() as u64;
        if length > most {
            return Err(Unsent::TooLarge);
        }
        // The disk has failed; the writer says why.
        if pieces.send(piece).await.is_err() {
            return Ok(());
        }
    }
}

fn write(path: &Path, mut pieces: mpsc::Receiver<Bytes>) -> io::Result<()> {
    let mut file: File = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    while let Some(piece) = pieces.blocking_recv() {
        file.write_all(&piece)?;
    }
    Ok(())
}
