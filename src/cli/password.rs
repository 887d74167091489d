//! A password from standard input.

use std::io::{self, BufRead, BufReader, IsTerminal, Read, Write};

use crate::config::Secret;

/// Longest password that is read, in bytes.
const MAX_PASSWORD: u64 = 1024;

/// The first line of standard input; a terminal is told to type it.
pub(super) fn from_stdin() -> Result<Secret, String> {
    if io::stdin().is_terminal() {
        let _ = writeln!(io::stderr(), "Type the password (it will be visible), then Enter:");
    }
    read_password(io::stdin().lock())
}

/// The first line, without its end.
fn read_password(input: impl Read) -> Result<Secret, String> {
    let mut line = Vec::new();
    // Two more, for the line's end.
    let read = BufReader::new(input.take(MAX_PASSWORD + 2)).read_until(b'\n', &mut line);
    read.map_err(|error| format!("cannot read the password from standard input: {error}"))?;
    if line.pop_if(|last| *last == b'\n').is_some() {
        line.pop_if(|last| *last == b'\r');
    }
    if line.is_empty() {
        return Err("there is no password on standard input".into());
    }
    if line.len() as u64 > MAX_PASSWORD {
        return Err(format!("the password is longer than {MAX_PASSWORD} bytes"));
    }
    String::from_utf8(line).map(Secret::new).map_err(|_| "the password is not UTF-8 text".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(input: &[u8]) -> Result<String, String> {
        read_password(input).map(|password| password.expose().to_owned())
    }

    #[test]
    fn a_password_is_the_first_line_as_it_was_typed() {
        for input in ["  pass word ", "  pass word \n", "  pass word \r\n", "  pass word \nmore\n"] {
            assert_eq!(read(input.as_bytes()).as_deref(), Ok("  pass word "), "{input:?}");
        }
    }

    #[test]
    fn a_password_that_would_be_cut_or_changed_is_refused() {
        let longest = "x".repeat(1024);
        assert_eq!(read(format!("{longest}\r\n").as_bytes()).as_deref(), Ok(longest.as_str()));
        let too_long = "x".repeat(1025);
        for input in [too_long.as_bytes(), format!("{too_long}\n").as_bytes(), b"", b"\n", b"\xFF\n"] {
            assert!(read(input).is_err(), "{input:?}");
        }
    }
}
