//! What people may call things.

use crate::error::FieldError;

/// A name is shown, sorted and compared: spaces at its ends or control characters would make two look like one.
pub(super) fn check(field: &str, name: &str) -> Result<(), FieldError> {
    if name.trim() == name && !name.is_empty() && !name.chars().any(char::is_control) {
        return Ok(());
    }
    Err(FieldError::new(field, "must not be empty, nor begin or end with a space, nor hold control characters"))
}
