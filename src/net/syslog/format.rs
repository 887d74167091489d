//! Syslog messages (RFC 5424), in frames that begin with their length (RFC 6587, 3.4.1; RFC 5425, 4.3).

use std::io::Write;

/// Bytes of a message, at most: what common collectors take.
pub const LONGEST: usize = 8 * 1024;
/// Bytes of a parameter's value before it is escaped.
const LONGEST_VALUE: usize = 256;
/// Log audit (RFC 5424, 6.2.1).
const FACILITY: u8 = 13;
/// The number that RFC 5612 sets aside for whoever has none of their own.
const ENTERPRISE: u32 = 32_473;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    Warning = 4,
    Informational = 6,
}

/// A message but for the names of this machine and program.
#[derive(Clone, Debug)]
pub struct Message {
    pub severity: Severity,
    /// RFC 3339.
    pub time: String,
    /// The kind of message.
    pub id: String,
    /// Names (at most 32 letters) and values, in order.
    pub parameters: Vec<(&'static str, String)>,
    pub text: String,
}

impl Message {
    /// Adds it as a frame. What is too long is cut: values first, then the text.
    pub fn write(&self, host: &str, into: &mut Vec<u8>) {
        let priority = FACILITY * 8 + self.severity as u8;
        let (host, id) = (printable(host, 255), printable(&self.id, 32));
        let mut message = format!("<{priority}>1 {} {host} zero - {id} [zero@{ENTERPRISE}", self.time);
        for (name, value) in &self.parameters {
            message.push(' ');
            message.push_str(name);
            message.push_str("=\"");
            for c in cut(value, LONGEST_VALUE).chars() {
                match c {
                    '"' | '\\' | ']' => message.extend(['\\', c]),
                    c if c.is_control() => message.push(' '),
                    c => message.push(c),
                }
            }
            message.push('"');
        }
        message.push_str("] ");
        // Text that is not marked as UTF-8 is taken for bytes of any kind (section 6.4).
        if !self.text.is_ascii() {
            message.push('\u{feff}');
        }
        let room = LONGEST.saturating_sub(message.len());
        message.extend(cut(&self.text, room).chars().map(|c| if c.is_control() { ' ' } else { c }));
        // Writing to memory does not fail.
        _ = write!(into, "{} ", message.len());
        into.extend_from_slice(message.as_bytes());
    }
}

/// At most `most` bytes of it, in whole characters.
fn cut(text: &str, most: usize) -> &str {
    &text[..text.floor_char_boundary(most)]
}

/// A field of the header, which is in printable ASCII without spaces; `-` stands for none.
fn printable(text: &str, most: usize) -> String {
    let found: String = text.chars().filter(char::is_ascii_graphic).take(most).collect();
    if found.is_empty() { "-".into() } else { found }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(parameters: Vec<(&'static str, String)>, text: &str) -> Message {
        let (time, id) = ("2026-11-24T12:00:00Z".into(), "device.wipe".into());
        Message { severity: Severity::Informational, time, id, parameters, text: text.into() }
    }

    fn written(message: &Message) -> String {
        let mut frame = Vec::new();
        message.write("zero.lan", &mut frame);
        let frame = String::from_utf8(frame).unwrap();
        let (length, rest) = frame.split_once(' ').unwrap();
        assert_eq!(length.parse::<usize>().unwrap(), rest.len(), "a wrong length would shift all that follows");
        rest.into()
    }

    #[test]
    fn what_stands_in_a_value_does_not_end_it() {
        let name = "a\"] [zero@32473 b=\"\\\n<1>";
        assert_eq!(
            written(&message(vec![("seq", "7".into()), ("name", name.into())], "{}")),
            "<110>1 2026-11-24T12:00:00Z zero.lan zero - device.wipe \
             [zero@32473 seq=\"7\" name=\"a\\\"\\] [zero@32473 b=\\\"\\\\ <1>\"] {}"
        );
        assert!(written(&message(Vec::new(), "ä")).ends_with("[zero@32473] \u{feff}ä"));
    }

    #[test]
    fn no_message_is_longer_than_collectors_take_and_none_ends_inside_a_character() {
        let long = "ü\"".repeat(10_000);
        let all: Vec<_> = (0..14).map(|_| ("parameter", long.clone())).collect();
        let text = written(&message(all, &long));
        assert!((LONGEST - 4..=LONGEST).contains(&text.len()), "{}", text.len());
    }
}
