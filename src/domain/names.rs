//! What people may call things.

use crate::error::{Error, FieldError};

/// Characters of a name, at most.
const MOST: usize = 200;

/// A name is any text of 1 to 200 characters that is not only blank, kept as it was given. Whoever shows it takes care
/// that it is not taken for markup.
pub(super) fn check(field: &str, name: &str) -> Result<(), FieldError> {
    if name.trim().is_empty() || name.chars().nth(MOST).is_some() {
        return Err(FieldError::new(field, format!("must have 1 to {MOST} characters, not only blanks")));
    }
    Ok(())
}

/// Refuses the name by itself, where nothing else is wrong with the input.
pub(super) fn require(field: &str, name: &str) -> Result<(), Error> {
    check(field, name).map_err(|error| Error::Invalid(vec![error]))
}
