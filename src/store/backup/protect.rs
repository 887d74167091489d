//! Encryption with `age`: to a passphrase, or to a recipient whose secret key this machine does not have.

use std::fmt;
use std::io::{self, BufRead, Read, Write};
use std::iter;

use age::secrecy::SecretString;
use age::stream::StreamWriter;
use age::{DecryptError, Decryptor, Encryptor, scrypt, x25519};

use super::BackupError;
use crate::config::{Recipient, Secret};

/// 2^15 times 1 KiB is 32 MiB of memory for a moment: what a Raspberry Pi can spare.
const WORK_FACTOR: u8 = 15;
/// Of a file made elsewhere: 1 GiB.
const MOST_WORK: u8 = 20;
const BEGINNING: &[u8] = b"age-encryption.org/";

/// How a backup is kept from being read by others.
#[derive(Clone, Debug)]
pub enum Protection {
    None,
    Passphrase(Secret),
    Recipient(Recipient),
}

/// What opens a backup.
#[derive(Clone)]
pub enum Keys {
    None,
    Passphrase(Secret),
    Identity(x25519::Identity),
}

impl Keys {
    /// A file as `age-keygen` makes it: comments, and a line `AGE-SECRET-KEY-1…`.
    pub fn identity(file: &str) -> Result<Self, BackupError> {
        let line = file.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
        let identity = line.and_then(|line| line.parse().ok());
        identity.map(Self::Identity).ok_or(BackupError::Locked("the identity file has no line AGE-SECRET-KEY-1…"))
    }
}

impl Protection {
    pub fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }

    /// Encrypts what goes to `to`, and gives what opens it: for a recipient a key of this one backup, which is forgotten
    /// once the backup is proven.
    pub(super) fn seal<W: Write>(&self, to: W) -> Result<(Sealed<W>, Keys), BackupError> {
        let failed = |cause: &dyn fmt::Display| crate::error::Error::Internal(format!("cannot encrypt: {cause}"));
        let (encryptor, keys) = match self {
            Self::None => return Ok((Sealed::Plain(to), Keys::None)),
            Self::Passphrase(passphrase) => {
                let mut recipient = scrypt::Recipient::new(SecretString::from(passphrase.expose().to_owned()));
                recipient.set_work_factor(WORK_FACTOR);
                let encryptor = Encryptor::with_recipients(iter::once(&recipient as &dyn age::Recipient));
                (encryptor, Keys::Passphrase(passphrase.clone()))
            }
            Self::Recipient(recipient) => {
                let own = x25519::Identity::generate();
                let own_recipient = own.to_public();
                let both = [recipient.key() as &dyn age::Recipient, &own_recipient];
                (Encryptor::with_recipients(both.into_iter()), Keys::Identity(own))
            }
        };
        let encryptor = encryptor.map_err(|error| failed(&error))?;
        Ok((Sealed::Age(Box::new(encryptor.wrap_output(to).map_err(|error| failed(&error))?)), keys))
    }
}

pub(super) enum Sealed<W: Write> {
    Plain(W),
    Age(Box<StreamWriter<W>>),
}

impl<W: Write> Sealed<W> {
    pub fn finish(self) -> io::Result<W> {
        match self {
            Self::Plain(to) => Ok(to),
            Self::Age(stream) => stream.finish(),
        }
    }
}

impl<W: Write> Write for Sealed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(to) => to.write(bytes),
            Self::Age(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(to) => to.flush(),
            Self::Age(stream) => stream.flush(),
        }
    }
}

/// What is in a backup that may be encrypted.
///
/// # Errors
/// When it is, and `keys` do not open it.
pub fn open<'a>(mut from: impl BufRead + 'a, keys: &Keys) -> Result<Box<dyn Read + 'a>, BackupError> {
    let start = from.fill_buf().map_err(|error| BackupError::Unreadable(error.to_string()))?;
    if !start.starts_with(BEGINNING) {
        return Ok(Box::new(from));
    }
    let wrong = |error: DecryptError| match error {
        DecryptError::Io(error) if error.kind() != io::ErrorKind::UnexpectedEof => {
            BackupError::Unreadable(error.to_string())
        }
        DecryptError::NoMatchingKeys | DecryptError::DecryptionFailed | DecryptError::KeyDecryptionFailed => {
            BackupError::Locked("this passphrase or identity does not open it")
        }
        DecryptError::ExcessiveWork { .. } => BackupError::Locked("its passphrase takes too much work to try"),
        other => BackupError::Damaged(format!("its encryption: {other}")),
    };
    let decryptor = Decryptor::new_buffered(from).map_err(wrong)?;
    let opened = match keys {
        Keys::None if decryptor.is_scrypt() => return Err(BackupError::Locked("give its passphrase")),
        Keys::None => return Err(BackupError::Locked("give the identity file of its recipient")),
        Keys::Passphrase(_) if !decryptor.is_scrypt() => {
            return Err(BackupError::Locked("to a recipient: give the identity file"));
        }
        Keys::Passphrase(passphrase) => {
            let mut identity = scrypt::Identity::new(SecretString::from(passphrase.expose().to_owned()));
            identity.set_max_work_factor(MOST_WORK);
            decryptor.decrypt(iter::once(&identity as &dyn age::Identity))
        }
        Keys::Identity(identity) => decryptor.decrypt(iter::once(identity as &dyn age::Identity)),
    };
    Ok(Box::new(opened.map_err(wrong)?))
}
