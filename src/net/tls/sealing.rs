//! A key's file that tells nothing by itself: what opens it is elsewhere.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// How the file begins; PEM begins otherwise.
const HEAD: &str = "zero sealed key 1\n";

type Convert = dyn Fn(&[u8]) -> Result<Vec<u8>, String> + Send + Sync;

/// Seals and opens. Whoever gives it has the key for that.
pub struct Sealing {
    pub seal: Box<Convert>,
    /// An error says why not, as the end of a sentence.
    pub open: Box<Convert>,
}

impl Sealing {
    /// The text of a file.
    pub(super) fn seal(&self, text: &str) -> Result<String, String> {
        Ok(format!("{HEAD}{}\n", STANDARD.encode((self.seal)(text.as_bytes())?)))
    }

    /// What was sealed; `None` for what never was.
    pub(super) fn open(&self, text: &str) -> Result<Option<String>, String> {
        let Some(sealed) = text.strip_prefix(HEAD) else { return Ok(None) };
        let sealed = STANDARD.decode(sealed.trim_end()).map_err(|_| "it is cut short or was changed")?;
        let opened = String::from_utf8((self.open)(&sealed)?);
        opened.map(Some).map_err(|_| "what was sealed is no text".into())
    }
}
