//! What an update comes in: a tar of three files in this order.
//!
//! | name | what |
//! |---|---|
//! | `manifest.json` | [`Manifest`]: which version it is, for which machines, and the binary's digest |
//! | `manifest.sig` | Ed25519 over the bytes of `manifest.json`: 64 bytes |
//! | `zero` | the binary |
//!
//! The signature is checked before anything of the manifest is believed, and the binary by the digest that was signed.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use ring::digest::{Context, SHA256};
use ring::signature::{ED25519, UnparsedPublicKey};
use semver::Version;
use serde::Deserialize;

use super::sync;
use crate::config::PublicKey;
use crate::error::with_remedy;
use crate::store::SCHEMA_VERSION;

pub const MANIFEST: &str = "manifest.json";
pub const SIGNATURE: &str = "manifest.sig";
pub const BINARY: &str = "zero";

/// A manifest, at most.
const LARGEST_MANIFEST: u64 = 16 << 10;
const FORMAT: u32 = 1;
const BUFFER: usize = 128 << 10;

/// What is signed. A later version may say more.
#[derive(Clone, Debug, Deserialize)]
pub struct Manifest {
    pub version: String,
    /// Of the data that this version keeps.
    pub schema: u64,
    /// As `zero version` prints it: `x86_64-linux`.
    pub target: String,
    /// Of the binary, in hexadecimal.
    sha256: String,
    /// Bytes of the binary.
    pub size: u64,
}

/// Why a bundle is not taken; nothing has been touched then.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    #[error(
        "there is no key to check updates with: this build has none built in. Set update.public_key to the key of \
         whoever signs them"
    )]
    NoKey,
    #[error("this is no update of zero: {0}")]
    NotABundle(String),
    #[error("the update is not signed: get it from where you trust it")]
    Unsigned,
    #[error(
        "the update is not signed by whom this appliance trusts (public key {0}): it was changed on its way, or is \
         somebody else's"
    )]
    Foreign(PublicKey),
    #[error("the update is in a format that this version does not know: update to a version in between first")]
    NewerFormat,
    #[error("the update is for {theirs}, and this machine is {ours}: get the one for {ours}")]
    Platform { theirs: String, ours: String },
    #[error("the update is version {theirs}, and {running} runs already: there is nothing to do")]
    Same { theirs: String, running: String },
    #[error(
        "the update is version {theirs}, older than {running}, which runs: newer data cannot be read by an older \
         version. To go back, restore a backup that was made with it"
    )]
    Older { theirs: String, running: String },
    #[error("the update is damaged: {0}. Get it again")]
    Damaged(String),
    #[error("cannot {action} {}: {}", path.display(), with_remedy(source))]
    Io { action: &'static str, path: PathBuf, source: io::Error },
}

fn failed(action: &'static str, path: &Path) -> impl Fn(io::Error) -> Refusal {
    move |source| Refusal::Io { action, path: path.into(), source }
}

/// This machine, as a manifest names it.
pub fn target() -> String {
    format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS)
}

/// Checks the bundle and puts what is in it into a folder of its own in `versions`.
pub fn unpack(bundle: &Path, versions: &Path, key: Option<PublicKey>, running: &str) -> Result<Manifest, Refusal> {
    let key = key.ok_or(Refusal::NoKey)?;
    let reading = File::open(bundle).map_err(failed("open", bundle))?;
    let mut archive = tar::Archive::new(reading);
    let mut entries = archive.entries().map_err(not_a_bundle)?;
    let manifest = whole(next(&mut entries, MANIFEST)?, LARGEST_MANIFEST)?;
    let signature = match next(&mut entries, SIGNATURE) {
        Err(Refusal::NotABundle(_)) => return Err(Refusal::Unsigned),
        entry => whole(entry?, 1024)?,
    };
    let described = check(&manifest, &signature, key)?;
    suits(&described, running)?;
    let binary = next(&mut entries, BINARY)?;

    let folder = versions.join(&described.version);
    let unfinished = versions.join(format!("{}.new", described.version));
    for old in [&folder, &unfinished] {
        remove(old).map_err(failed("remove", old))?;
    }
    let made = DirBuilder::new().recursive(true).mode(0o700).create(&unfinished);
    made.map_err(failed("make", &unfinished))?;
    let put = || {
        put(&unfinished.join(MANIFEST), &manifest)?;
        put(&unfinished.join(SIGNATURE), &signature)?;
        put_binary(binary, &unfinished.join(BINARY), &described)?;
        sync(&unfinished).map_err(failed("sync", &unfinished))?;
        fs::rename(&unfinished, &folder).map_err(failed("name", &folder))?;
        sync(versions).map_err(failed("sync", versions))
    };
    let done = put();
    if done.is_err() {
        // Under that name it is never run.
        let _ = remove(&unfinished);
    }
    done.map(|()| described)
}

/// Checks `binary` by what was unpacked into `folder` before, and gives it opened.
pub fn verify(folder: &Path, binary: &Path, key: Option<PublicKey>) -> Result<(Manifest, File), Refusal> {
    let read = |name: &str| {
        let path = folder.join(name);
        let mut bytes = Vec::new();
        let file = File::open(&path).map_err(failed("open", &path))?;
        file.take(LARGEST_MANIFEST).read_to_end(&mut bytes).map_err(failed("read", &path))?;
        Ok(bytes)
    };
    let manifest = check(&read(MANIFEST)?, &read(SIGNATURE)?, key.ok_or(Refusal::NoKey)?)?;
    let mut opened = File::open(binary).map_err(failed("open", binary))?;
    copy(&mut opened, &mut io::sink(), &manifest).map_err(|error| spoilt(error, binary))?;
    Ok((manifest, opened))
}

fn check(manifest: &[u8], signature: &[u8], key: PublicKey) -> Result<Manifest, Refusal> {
    if signature.is_empty() {
        return Err(Refusal::Unsigned);
    }
    let trusted = UnparsedPublicKey::new(&ED25519, key.0);
    trusted.verify(manifest, signature).map_err(|_| Refusal::Foreign(key))?;
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    let damaged = |error: serde_json::Error| Refusal::Damaged(format!("{MANIFEST}: {error}"));
    if serde_json::from_slice::<Format>(manifest).map_err(damaged)?.format != FORMAT {
        return Err(Refusal::NewerFormat);
    }
    let manifest: Manifest = serde_json::from_slice(manifest).map_err(damaged)?;
    // It becomes the name of a folder.
    let version = Version::parse(&manifest.version);
    version.map_err(|error| Refusal::Damaged(format!("its version {:?} is none: {error}", manifest.version)))?;
    Ok(manifest)
}

/// Whether it is for this machine, and newer than what runs.
fn suits(manifest: &Manifest, running: &str) -> Result<(), Refusal> {
    let (theirs, ours) = (manifest.target.clone(), target());
    if theirs != ours {
        return Err(Refusal::Platform { theirs, ours });
    }
    let (theirs, running) = (manifest.version.clone(), running.to_owned());
    match compare(&theirs, &running) {
        std::cmp::Ordering::Equal => Err(Refusal::Same { theirs, running }),
        std::cmp::Ordering::Less => Err(Refusal::Older { theirs, running }),
        // The same refusal that the data itself would meet, before anything is done.
        std::cmp::Ordering::Greater if manifest.schema < SCHEMA_VERSION => Err(Refusal::Older { theirs, running }),
        std::cmp::Ordering::Greater => Ok(()),
    }
}

/// Which of two versions is newer (Semantic Versioning, section 11). What is no version is older than any.
pub fn compare(one: &str, other: &str) -> std::cmp::Ordering {
    let parse = |text: &str| Version::parse(text).ok();
    match (parse(one), parse(other)) {
        (Some(one), Some(other)) => one.cmp_precedence(&other),
        (one, other) => one.is_some().cmp(&other.is_some()),
    }
}

type Entry<'a> = tar::Entry<'a, File>;

fn next<'a>(entries: &mut tar::Entries<'a, File>, name: &str) -> Result<Entry<'a>, Refusal> {
    let Some(entry) = entries.next() else {
        return Err(Refusal::NotABundle(format!("there is no {name} in it")));
    };
    let entry = entry.map_err(not_a_bundle)?;
    if &*entry.path_bytes() != name.as_bytes() || !entry.header().entry_type().is_file() {
        let there = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        return Err(Refusal::NotABundle(format!("there is {there:?} where {name} should be")));
    }
    Ok(entry)
}

fn whole(entry: Entry, most: u64) -> Result<Vec<u8>, Refusal> {
    let size = entry.size();
    if size > most {
        return Err(Refusal::NotABundle(format!("a file in it has {size} bytes, more than {most}")));
    }
    let mut bytes = Vec::new();
    entry.take(most).read_to_end(&mut bytes).map_err(not_a_bundle)?;
    if bytes.len() as u64 != size {
        return Err(Refusal::Damaged("it was cut short".into()));
    }
    Ok(bytes)
}

fn not_a_bundle(error: io::Error) -> Refusal {
    Refusal::NotABundle(error.to_string())
}

fn put(path: &Path, bytes: &[u8]) -> Result<(), Refusal> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let written = file.and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()));
    written.map_err(failed("write", path))
}

fn put_binary(mut from: Entry, path: &Path, manifest: &Manifest) -> Result<(), Refusal> {
    if from.size() != manifest.size {
        return Err(Refusal::Damaged(format!("its binary has {} bytes instead of {}", from.size(), manifest.size)));
    }
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let mut file = file.map_err(failed("write", path))?;
    copy(&mut from, &mut file, manifest).map_err(|error| spoilt(error, path))?;
    // Only what is whole can be run.
    let runnable = file.set_permissions(Permissions::from_mode(0o700));
    runnable.and_then(|()| file.sync_all()).map_err(failed("write", path))
}

enum Spoilt {
    Damaged(String),
    Io(&'static str, io::Error),
}

fn spoilt(error: Spoilt, path: &Path) -> Refusal {
    match error {
        Spoilt::Damaged(why) => Refusal::Damaged(why),
        Spoilt::Io(action, source) => Refusal::Io { action, path: path.into(), source },
    }
}

/// Copies a binary that must be the one of the manifest.
fn copy(from: &mut impl Read, to: &mut impl Write, manifest: &Manifest) -> Result<(), Spoilt> {
    let (mut context, mut length, mut buffer) = (Context::new(&SHA256), 0, vec![0; BUFFER]);
    loop {
        let read = from.read(&mut buffer).map_err(|error| Spoilt::Io("read", error))?;
        if read == 0 {
            break;
        }
        length += read as u64;
        if length > manifest.size {
            return Err(Spoilt::Damaged("its binary is longer than its manifest says".into()));
        }
        context.update(&buffer[..read]);
        to.write_all(&buffer[..read]).map_err(|error| Spoilt::Io("write", error))?;
    }
    if length < manifest.size {
        return Err(Spoilt::Damaged("it was cut short".into()));
    }
    let digest = crate::model::hex::Hex(context.finish().as_ref().to_vec()).to_string();
    if !digest.eq_ignore_ascii_case(&manifest.sha256) {
        return Err(Spoilt::Damaged("its binary is not the one that was signed".into()));
    }
    Ok(())
}

pub fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
