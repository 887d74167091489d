//! The way in for commands on the same machine while the server runs: a socket in the data directory.
//!
//! A command sends one line of JSON, [`Ask`]. A backup comes as chunks (length in four bytes, little-endian, then the
//! bytes) that end with an empty one, and a line of what was in it; the command proves it and says how that went in a
//! line, [`Told`], which the server notes in the audit log. Anything that fails is a chunk of length `FAILED`, then text.

use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use super::update;
use crate::domain::Services;
use crate::domain::status::Status;
use crate::domain::updates::{LARGEST, Progress, UnderWay};
use crate::error::with_remedy;
use crate::http::dispatch::Dispatch;
use crate::ids::fill_random;
use crate::model::backup::{Contents, ProvenBackup};
use crate::store::backup::{self, BackupError, Guard, Watch};
use crate::store::write::Stamp;

const SOCKET: &str = "control.sock";
/// Commands at a time.
const TURNS: usize = 2;
/// How long one side waits for the other to take or send something, while bytes flow.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a command may take to prove what it got.
const PROOF: Duration = Duration::from_secs(60 * 60);
const CHUNK: usize = 128 << 10;
const FAILED: u32 = u32::MAX;
/// Longest line, in bytes.
const LINE: u64 = 1 << 20;

#[derive(Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
enum Ask {
    Backup,
    Status,
    Metrics,
    /// A bundle follows, in chunks that end with an empty one; answered with a line, [`Begun`].
    Update,
    /// Answered with a line, [`Progress`].
    Progress,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Begun {
    UnderWay(UnderWay),
    Refused(String),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Told {
    Proven(ProvenBackup),
    Failed(String),
}

/// Listens, while the folder is locked. A path to it may be longer than a socket's may, so that it goes by the folder.
pub(super) fn listen(data_dir: &Path) -> io::Result<tokio::net::UnixListener> {
    let path = data_dir.join(SOCKET);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let folder = std::fs::File::open(data_dir)?;
    let listener = tokio::net::UnixListener::bind(by_folder(&folder))?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

fn by_folder(folder: &std::fs::File) -> String {
    format!("/proc/self/fd/{}/{SOCKET}", folder.as_raw_fd())
}

/// Answers commands of the same user, and of root, until it is dropped.
pub(super) async fn serve(listener: tokio::net::UnixListener, dispatch: Arc<Dispatch>) {
    let turns = Arc::new(Semaphore::new(TURNS));
    loop {
        let Ok(turn) = turns.clone().acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a command on this machine could not be heard");
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            }
        };
        let own = rustix::process::geteuid().as_raw();
        if !stream.peer_cred().is_ok_and(|peer| peer.uid() == own || peer.uid() == 0) {
            continue;
        }
        let Ok(stream) = stream.into_std() else { continue };
        let (dispatch, runtime) = (dispatch.clone(), Handle::current());
        tokio::task::spawn_blocking(move || {
            if let Err(error) = answer(stream, &dispatch, &runtime) {
                tracing::warn!(%error, "a command on this machine was not answered");
            }
            drop(turn);
        });
    }
}

fn answer(stream: UnixStream, dispatch: &Dispatch, runtime: &Handle) -> io::Result<()> {
    let services = &*dispatch.services;
    stream.set_nonblocking(false)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut lines = BufReader::new(stream.try_clone()?);
    match line(&mut lines)? {
        Ask::Backup => give_backup(stream, lines, services, runtime),
        Ask::Status => say(&stream, &services.status().map_err(io::Error::other)?),
        Ask::Update => take_update(&stream, lines, services, runtime),
        Ask::Progress => say(&stream, &services.updates.progress()),
        Ask::Metrics => say(&stream, &dispatch.requests.text(&services.status().map_err(io::Error::other)?)),
    }
}

fn give_backup(
    stream: UnixStream,
    mut lines: BufReader<UnixStream>,
    services: &Services,
    runtime: &Handle,
) -> io::Result<()> {
    let data_dir = services.data_dir();
    let given = runtime.block_on(services.write_heartbeats()).map_err(BackupError::from).and_then(|()| {
        let chunks = BufWriter::with_capacity(CHUNK, Chunks(&stream));
        let files = backup::files_of(data_dir)?;
        // The command watches the disk that it goes to.
        let guard = Guard { min_free: 0, ..services.backup_guard() };
        let mut watched = Watch::new(chunks, guard, data_dir);
        backup::write(&services.store.snapshot()?, &files, services.now(), &mut watched)
    });
    let contents = match given {
        Ok(contents) => contents,
        Err(error) => {
            fail(&stream, &error.to_string())?;
            let noted = services.note_failed_backup(Stamp::system(services.now()), error.to_string());
            return runtime.block_on(noted).map_err(io::Error::other);
        }
    };
    (&stream).write_all(&0_u32.to_le_bytes())?;
    say(&stream, &contents)?;
    stream.set_read_timeout(Some(PROOF))?;
    let told = line(&mut lines).unwrap_or_else(|_| Told::Failed("the command ended before it had proven it".into()));
    let stamp = Stamp::system(services.now());
    let noted = runtime.block_on(async {
        match told {
            Told::Proven(made) => services.note_proven_backup(stamp, &made).await,
            Told::Failed(why) => services.note_failed_backup(stamp, why).await,
        }
    });
    match noted {
        Ok(()) => (&stream).write_all(&0_u32.to_le_bytes()),
        Err(error) => fail(&stream, &error.to_string()),
    }
}

fn take_update(
    stream: &UnixStream,
    mut lines: BufReader<UnixStream>,
    services: &Services,
    runtime: &Handle,
) -> io::Result<()> {
    let received = update::inbox(services.data_dir()).and_then(|folder| tempfile(&folder)).and_then(|mut bundle| {
        receive_chunks(&mut lines, &mut bundle.file, LARGEST)?;
        Ok(bundle)
    });
    let begun = match received {
        Ok(bundle) => {
            let asked = services.ask_for_update(Stamp::system(services.now()), bundle.path.clone());
            runtime.block_on(asked).map_or_else(|error| Begun::Refused(error.to_string()), Begun::UnderWay)
        }
        Err(error) => {
            let why = with_remedy(&error);
            Begun::Refused(format!("the update cannot be kept in {}: {why}", services.data_dir().display()))
        }
    };
    say(stream, &begun)
}

/// A file that is removed in the end.
struct Temporary {
    path: std::path::PathBuf,
    file: std::fs::File,
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // Whoever took it has removed it.
        let _ = std::fs::remove_file(&self.path);
    }
}

fn tempfile(folder: &Path) -> io::Result<Temporary> {
    let mut random = [0; 8];
    fill_random(&mut random);
    let path = folder.join(format!("{:016x}.upload", u64::from_be_bytes(random)));
    let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
    Ok(Temporary { path, file })
}

/// Copies chunks up to the empty one.
fn receive_chunks(from: &mut impl Read, to: &mut impl Write, most: u64) -> io::Result<()> {
    let (mut chunk, mut total) = (vec![0; CHUNK], 0);
    loop {
        let mut length = [0; 4];
        from.read_exact(&mut length)?;
        let length = u32::from_le_bytes(length);
        if length == 0 {
            return Ok(());
        }
        total += u64::from(length);
        let part = chunk.get_mut(..length as usize).filter(|_| total <= most).ok_or(io::ErrorKind::FileTooLarge)?;
        from.read_exact(part)?;
        to.write_all(part)?;
    }
}

struct Chunks<'a>(&'a UnixStream);

impl Write for Chunks<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let bytes = &bytes[..bytes.len().min(CHUNK)];
        if !bytes.is_empty() {
            self.0.write_all(&(bytes.len() as u32).to_le_bytes())?;
            self.0.write_all(bytes)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

fn fail(mut stream: &UnixStream, why: &str) -> io::Result<()> {
    stream.write_all(&FAILED.to_le_bytes())?;
    writeln!(stream, "{}", why.replace('\n', " "))
}

fn say(mut stream: &UnixStream, what: &impl Serialize) -> io::Result<()> {
    writeln!(stream, "{}", serde_json::to_string(what)?)
}

fn line<T: serde::de::DeserializeOwned>(from: &mut impl BufRead) -> io::Result<T> {
    let mut line = String::new();
    from.take(LINE).read_line(&mut line)?;
    Ok(serde_json::from_str(&line)?)
}

/// The other side: a command that asks the server on the folder.
pub(super) struct Client {
    stream: UnixStream,
    lines: BufReader<UnixStream>,
}

impl Client {
    pub fn connect(data_dir: &Path) -> io::Result<Self> {
        let folder = std::fs::File::open(data_dir)?;
        let stream = UnixStream::connect(by_folder(&folder))?;
        stream.set_read_timeout(Some(2 * PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let lines = BufReader::with_capacity(CHUNK, stream.try_clone()?);
        Ok(Self { stream, lines })
    }

    pub fn status(&mut self) -> io::Result<Status> {
        say(&self.stream, &Ask::Status)?;
        line(&mut self.lines)
    }

    /// Has the server update to this bundle.
    pub fn update(&mut self, bundle: &mut impl Read) -> io::Result<Result<UnderWay, String>> {
        say(&self.stream, &Ask::Update)?;
        let mut chunks = BufWriter::with_capacity(CHUNK, Chunks(&self.stream));
        let sent = io::copy(bundle, &mut chunks).and_then(|_| chunks.flush());
        drop(chunks);
        // A server that takes no more says why.
        if sent.is_ok() {
            (&self.stream).write_all(&0_u32.to_le_bytes())?;
        }
        match line(&mut self.lines) {
            Ok(Begun::UnderWay(begun)) => Ok(Ok(begun)),
            Ok(Begun::Refused(why)) => Ok(Err(why)),
            Err(error) => Err(sent.err().unwrap_or(error)),
        }
    }

    pub fn progress(&mut self) -> io::Result<Progress> {
        say(&self.stream, &Ask::Progress)?;
        line(&mut self.lines)
    }

    /// What `/metrics` shows.
    pub fn metrics(&mut self) -> io::Result<String> {
        say(&self.stream, &Ask::Metrics)?;
        line(&mut self.lines)
    }

    /// Has the server write a backup to `to`; tells what is in it.
    pub fn backup(&mut self, to: &mut dyn Write) -> Result<Contents, BackupError> {
        self.receive(to).map_err(|error| match error.downcast::<BackupError>() {
            Ok(reason) => reason,
            Err(error) => BackupError::Unreadable(format!("the server gives none: {error}")),
        })
    }

    fn receive(&mut self, to: &mut dyn Write) -> io::Result<Contents> {
        say(&self.stream, &Ask::Backup)?;
        let mut chunk = vec![0; CHUNK];
        loop {
            match self.length()? {
                0 => return line(&mut self.lines),
                length => {
                    let part = chunk.get_mut(..length as usize).ok_or(io::ErrorKind::InvalidData)?;
                    self.lines.read_exact(part)?;
                    to.write_all(part)?;
                }
            }
        }
    }

    fn length(&mut self) -> io::Result<u32> {
        let mut length = [0; 4];
        self.lines.read_exact(&mut length)?;
        match u32::from_le_bytes(length) {
            FAILED => {
                let mut why = String::new();
                self.lines.by_ref().take(LINE).read_line(&mut why)?;
                Err(io::Error::other(why.trim().to_owned()))
            }
            length => Ok(length),
        }
    }

    /// Tells the server how it went, for its audit log.
    pub fn tell(&mut self, outcome: Result<&ProvenBackup, String>) -> io::Result<()> {
        let told = match outcome {
            Ok(made) => Told::Proven(made.clone()),
            Err(why) => Told::Failed(why),
        };
        say(&self.stream, &told)?;
        self.length().map(|_| ())
    }
}
