//! The log: lines on standard error, text for people, JSON for machines.
//!
//! Lines are handed to a thread through a bounded queue. When standard error is read too slowly, lines are lost and
//! counted: no reader of the log can stop the server.

use std::io::{self, IsTerminal, Write};
use std::panic::PanicHookInfo;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tracing::level_filters::LevelFilter;
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry;

use crate::config::{LogConfig, LogFormat};

mod queue;

use queue::Queue;

/// Bytes of lines that may wait to be written; a line is rarely longer than 400.
const QUEUE: usize = 1 << 20;

/// How long the end of the process, or a last word, waits for what was logged before.
const PATIENCE: Duration = Duration::from_secs(1);

/// Keeps the log going. Dropping it writes out what waits, for at most a second.
pub struct Guard {
    json: bool,
    queue: Queue,
    reported: AtomicUsize,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.flush();
    }
}

/// Starts the log of this process, panics included.
///
/// # Errors
/// When the process has a log already, or cannot have a thread for it.
pub fn init(config: &LogConfig) -> io::Result<Guard> {
    let terminal = io::stderr().is_terminal();
    let json = match config.format {
        LogFormat::Auto => !terminal,
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    // https://no-color.org
    let colours = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let queue = Queue::start(QUEUE, io::stderr())?;
    let lines = queue.clone();
    let writer = move || OneLine(lines.clone());
    if json {
        tracing::subscriber::set_global_default(json_lines(config.level, writer)).map_err(io::Error::other)?;
    } else {
        let lines = text_lines(config.level, colours, writer);
        tracing::subscriber::set_global_default(lines).map_err(io::Error::other)?;
    }
    std::panic::set_hook(Box::new(log_panic));
    Ok(Guard { json, queue, reported: AtomicUsize::new(0) })
}

impl Guard {
    /// Logs how many lines have been lost since the last report, if any.
    pub fn report_lost(&self) {
        let lost = self.queue.lost();
        let lines = lost.saturating_sub(self.reported.swap(lost, Ordering::Relaxed));
        if lines > 0 {
            tracing::warn!(lines, "log lines were lost: standard error is read too slowly");
        }
    }

    /// Waits until what was logged before is written, for what is not a line of the log but comes after it.
    pub fn flush(&self) {
        self.queue.flush(PATIENCE);
    }

    /// Says why the process ends: to people in plain text, whatever the level; to machines as a line of the log.
    pub fn fatal(&self, what: &str, why: &dyn std::fmt::Display) {
        if self.json && tracing::enabled!(Level::ERROR) {
            tracing::error!(error = %why, "{what}");
        } else {
            self.flush();
            // Nobody is left to tell when standard error is closed.
            let _ = writeln!(io::stderr(), "zero: {what}: {why}");
        }
    }
}

fn text_lines<W>(level: LevelFilter, colours: bool, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt::layer().with_ansi(colours).with_target(false).with_writer(writer);
    registry().with(lines.with_filter(own(level)))
}

fn json_lines<W>(level: LevelFilter, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt::layer().json().flatten_event(true).with_writer(writer);
    registry().with(lines.with_filter(own(level)))
}

/// Our own events up to `level`; of a library's at most warnings, since below those libraries print what they handle:
/// headers, tokens, keys.
fn own<S: Subscriber>(level: LevelFilter) -> impl tracing_subscriber::layer::Filter<S> {
    let foreign = level.min(LevelFilter::WARN);
    filter_fn(move |event: &Metadata<'_>| {
        let ours = event.target() == "zero" || event.target().starts_with("zero::");
        *event.level() <= if ours { level } else { foreign }
    })
    .with_max_level_hint(level)
}

impl Write for Queue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Makes one line of each event, so that no value in it can pass for a line of its own.
struct OneLine<W>(W);

impl<W: Write> Write for OneLine<W> {
    /// Takes one whole event, which the formatter writes at once.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let (line, end) = event.strip_suffix(b"\n").map_or((event, &b""[..]), |line| (line, b"\n"));
        if memchr::memchr2(b'\n', b'\r', line).is_some() {
            let mut joined = Vec::with_capacity(event.len() + 16);
            for byte in line {
                match byte {
                    b'\n' => joined.extend(b"\\n"),
                    b'\r' => joined.extend(b"\\r"),
                    _ => joined.push(*byte),
                }
            }
            joined.extend(end);
            self.0.write_all(&joined)?;
        } else {
            self.0.write_all(event)?;
        }
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

fn log_panic(panic: &PanicHookInfo<'_>) {
    let message = panic.payload_as_str().unwrap_or("a value that is no text");
    let message = message.get(..message.floor_char_boundary(1024)).unwrap_or_default();
    let location = panic.location().map(ToString::to_string).unwrap_or_default();
    let thread = std::thread::current();
    tracing::error!(panic = message, location, thread = thread.name(), "a bug: the code panicked");
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Lines {
        fn writer(&self) -> impl Fn() -> OneLine<Lines> + Send + Sync + 'static {
            let lines = self.clone();
            move || OneLine(lines.clone())
        }

        fn read(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    #[test]
    fn a_library_never_says_more_than_warnings_whatever_the_level() {
        let lines = Lines::default();
        tracing::subscriber::with_default(json_lines(LevelFilter::TRACE, lines.writer()), || {
            tracing::trace!("ours");
            tracing::info!(target: "hyper::proto", "authorization: Bearer secret");
            tracing::info!(target: "zeroize", "not ours, though it starts the same");
            tracing::warn!(target: "hyper::proto", "theirs");
        });
        let text = lines.read();
        assert!(text.contains("ours") && text.contains("theirs"), "{text}");
        assert_eq!(text.lines().count(), 2, "{text}");
    }

    #[test]
    fn the_level_of_the_settings_decides_what_is_logged() {
        let lines = Lines::default();
        tracing::subscriber::with_default(text_lines(LevelFilter::ERROR, false, lines.writer()), || {
            tracing::warn!("quiet");
            tracing::warn!(target: "hyper::proto", "quiet");
            tracing::error!("loud");
        });
        assert!(lines.read().contains("loud") && !lines.read().contains("quiet"), "{}", lines.read());
    }

    #[test]
    fn a_value_cannot_forge_a_line_of_the_log() {
        let lines = Lines::default();
        tracing::subscriber::with_default(text_lines(LevelFilter::INFO, false, lines.writer()), || {
            tracing::info!(name = %"x\n2026-01-01T00:00:00Z  INFO everything is fine\r\n", "request");
        });
        assert_eq!(lines.read().lines().count(), 1, "{}", lines.read());
        assert!(lines.read().contains("x\\n2026"), "{}", lines.read());
    }

    #[test]
    fn json_lines_carry_their_fields_at_the_top() {
        let lines = Lines::default();
        tracing::subscriber::with_default(json_lines(LevelFilter::INFO, lines.writer()), || {
            tracing::info!(status = 200, "request");
        });
        let line: serde_json::Value = serde_json::from_str(&lines.read()).unwrap();
        assert_eq!(
            (&line["status"], &line["message"], &line["level"]),
            (&200.into(), &"request".into(), &"INFO".into())
        );
    }
}
