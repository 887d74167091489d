//! Lines on their way to a reader that may be slow, or gone.
//!
//! They gather in memory, and a thread of their own writes those of some milliseconds at once: a line costs whoever
//! logs it a copy, and neither a wake-up nor a system call. What there is no room for is lost, and counted.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// How long lines gather before they are written.
const GATHER: Duration = Duration::from_millis(5);

/// Bytes that are kept allocated for lines while there are few.
const KEPT: usize = 64 << 10;

#[derive(Clone)]
pub(super) struct Queue(Arc<Shared>);

struct Shared {
    /// Bytes that may wait.
    capacity: usize,
    lines: Mutex<Lines>,
    /// There are lines to write.
    arrived: Condvar,
    /// There is nothing left to write.
    written: Condvar,
}

#[derive(Default)]
struct Lines {
    waiting: Vec<u8>,
    /// Others have been taken, and are being written.
    writing: bool,
    lost: usize,
}

impl Queue {
    /// Starts the thread that writes to `out`; it ends with the process.
    pub(super) fn start(capacity: usize, out: impl Write + Send + 'static) -> io::Result<Self> {
        let lines = Mutex::default();
        let shared = Arc::new(Shared { capacity, lines, arrived: Condvar::new(), written: Condvar::new() });
        let queue = Self(shared.clone());
        thread::Builder::new().name("log".into()).spawn(move || shared.write_out(out))?;
        Ok(queue)
    }

    /// Takes a whole line, or loses it.
    pub(super) fn push(&self, line: &[u8]) {
        let mut lines = self.0.lock();
        if lines.waiting.len() + line.len() > self.0.capacity {
            lines.lost += 1;
            return;
        }
        let is_first = lines.waiting.is_empty();
        lines.waiting.extend_from_slice(line);
        drop(lines);
        if is_first {
            self.0.arrived.notify_one();
        }
    }

    /// How many lines have been lost so far.
    pub(super) fn lost(&self) -> usize {
        self.0.lock().lost
    }

    /// Waits until all lines are written, but no longer than `patience`.
    pub(super) fn flush(&self, patience: Duration) {
        let unwritten = |lines: &mut Lines| lines.writing || !lines.waiting.is_empty();
        // When patience ends first, the reader is stuck: there is nobody to tell.
        let _ = self.0.written.wait_timeout_while(self.0.lock(), patience, unwritten);
    }
}

impl Shared {
    fn write_out(&self, mut out: impl Write) {
        let mut batch = Vec::new();
        loop {
            let waiting = self.arrived.wait_while(self.lock(), |lines| lines.waiting.is_empty());
            drop(waiting);
            thread::sleep(GATHER);
            {
                let mut lines = self.lock();
                std::mem::swap(&mut lines.waiting, &mut batch);
                lines.writing = true;
            }
            // Nobody is left to tell when the log cannot be written.
            let _ = out.write_all(&batch).and_then(|()| out.flush());
            batch.clear();
            batch.shrink_to(KEPT);
            self.lock().writing = false;
            self.written.notify_all();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        // Whatever panicked while it held the lines has left whole ones.
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Takes nothing until it is let.
    struct Stuck {
        go: mpsc::Receiver<()>,
        taken: mpsc::Sender<Vec<u8>>,
    }

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.go.recv().map_err(io::Error::other)?;
            self.taken.send(bytes.to_vec()).map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_is_stuck_stops_nobody_and_costs_whole_lines_that_are_counted() {
        let ((go, let_go), (taken, read)) = (mpsc::channel(), mpsc::channel());
        let queue = Queue::start(20, Stuck { go: let_go, taken }).unwrap();
        for _ in 0..1000 {
            queue.push(b"123456789\n");
        }
        let lost = queue.lost();
        // Two may have been taken by the thread before the rest arrived.
        assert!((996..=998).contains(&lost), "{lost} are lost");
        queue.flush(Duration::from_millis(1));
        drop((0..1000).map(|_| go.send(())).collect::<Vec<_>>());
        queue.flush(Duration::from_secs(60));
        let written: Vec<u8> = read.try_iter().flatten().collect();
        assert_eq!(written, b"123456789\n".repeat(1000 - lost));
        queue.push(b"one more\n");
        queue.flush(Duration::from_secs(60));
        assert_eq!(read.try_recv().unwrap(), b"one more\n", "it goes on when the reader does");
    }
}
