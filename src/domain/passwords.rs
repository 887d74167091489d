//! Passwords: Argon2id (RFC 9106), 19 MiB and two passes, on few threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};
use tokio::sync::Semaphore;

use crate::error::{Error, FieldError};

/// Shortest password, in characters.
pub const MIN_LENGTH: usize = 12;
/// Longest password, in bytes: more costs time and gains nothing.
pub const MAX_LENGTH: usize = 1024;

/// Computations at a time. Each takes 19 MiB and a core for some tens of milliseconds.
const AT_A_TIME: usize = 2;
/// Computations that may wait for their turn.
const WAITING: usize = 32;

pub struct Passwords {
    turns: Arc<Semaphore>,
    inside: Arc<AtomicUsize>,
    /// The hash of a password that nobody has, so that an unknown user takes as long as a known one.
    dummy: String,
}

impl Passwords {
    pub fn new() -> Self {
        // Of the same cost as a real one; nothing has this value.
        let dummy = "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        Self { turns: Arc::new(Semaphore::new(AT_A_TIME)), inside: Arc::default(), dummy: dummy.into() }
    }

    /// Refuses a password that is too easy to guess or too long, naming `field`.
    pub fn check(field: &str, password: &str) -> Result<(), FieldError> {
        if password.chars().count() < MIN_LENGTH {
            return Err(FieldError::new(field, format!("must have at least {MIN_LENGTH} characters")));
        }
        if password.len() > MAX_LENGTH {
            return Err(FieldError::new(field, format!("must have at most {MAX_LENGTH} bytes")));
        }
        Ok(())
    }

    pub async fn hash(&self, password: &str) -> Result<String, Error> {
        let password = password.to_owned();
        self.in_turn(move || hash_now(&password)).await?
    }

    /// Whether `password` is the one behind `hash`; without a hash it takes as long and is false.
    pub async fn verify(&self, password: &str, hash: Option<&str>) -> Result<bool, Error> {
        if password.len() > MAX_LENGTH {
            return Ok(false);
        }
        let known = hash.is_some();
        let (password, hash) = (password.to_owned(), hash.unwrap_or(&self.dummy).to_owned());
        let matches = self.in_turn(move || {
            let parsed = PasswordHash::new(&hash).map_err(Error::internal)?;
            Ok::<_, Error>(argon2().verify_password(password.as_bytes(), &parsed).is_ok())
        });
        Ok(matches.await?? && known)
    }

    async fn in_turn<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
        let inside = Inside::enter(self.inside.clone())?;
        let turn = self.turns.clone().acquire_owned().await.map_err(Error::internal)?;
        let work = move || {
            // Kept to the end, also when whoever asked has gone: the memory is in use until then.
            let _held = (inside, turn);
            work()
        };
        tokio::task::spawn_blocking(work).await.map_err(Error::internal)
    }
}

/// Hashes on this thread; for commands that have nothing else to do.
pub fn hash_now(password: &str) -> Result<String, Error> {
    argon2().hash_password(password.as_bytes()).map(|hash| hash.to_string()).map_err(Error::internal)
}

fn argon2() -> Argon2<'static> {
    let params = Params::new(19 * 1024, 2, 1, None).expect("these parameters are within Argon2's bounds");
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

/// A place among those who compute or wait.
struct Inside(Arc<AtomicUsize>);

impl Inside {
    fn enter(count: Arc<AtomicUsize>) -> Result<Self, Error> {
        let before = count.fetch_add(1, Ordering::Relaxed);
        let place = Self(count);
        if before < AT_A_TIME + WAITING {
            return Ok(place);
        }
        Err(Error::Unavailable { message: "too many sign-ins at once".into(), retry_after: Duration::from_secs(2) })
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_right_password_of_a_known_user_is_right() {
        let passwords = Passwords::new();
        let hash = passwords.hash("correct horse battery").await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
        assert!(passwords.verify("correct horse battery", Some(&hash)).await.unwrap());
        assert!(!passwords.verify("correct horse batterx", Some(&hash)).await.unwrap());
        assert!(!passwords.verify("correct horse battery", None).await.unwrap());
    }
}
