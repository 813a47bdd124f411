//! A queue between a log and its reader, so that no thread that logs waits for the reader.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use parking_lot::{Condvar, Mutex, MutexGuard};
use prometheus_client::metrics::counter::Counter;

/// The most bytes of lines that may wait for the reader.
const WAITING: usize = 4 * 1024 * 1024;

/// The memory that a line takes in addition to its bytes.
const LINE: usize = 64;

/// How long the last lines may take when the process ends.
const FLUSH: Duration = Duration::from_secs(2);

static LOST: LazyLock<Counter> = LazyLock::new(Counter::default);

/// Counts the lines of the log that this process has lost.
pub(crate) fn lost() -> Counter {
    LOST.clone()
}

/// The writer of log lines. It takes each line at once. If too many lines wait, it drops the new line and counts it.
#[derive(Debug, Clone)]
pub struct LogQueue(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Counts lost lines.
    lost: Counter,
    /// Reports how many lines were lost in a row, once there is room again.
    report: fn(u64),
    state: Mutex<State>,
    /// Notified when there are lines.
    more: Condvar,
    /// Notified when all lines are written.
    written: Condvar,
}

#[derive(Debug, Default)]
struct State {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    /// Whether a line is being written.
    writing: bool,
    /// Lost lines that the log has not reported yet.
    untold: u64,
}

/// Ends a log. Dropping it writes the waiting lines, if the reader takes them within 2 s.
#[derive(Debug)]
#[must_use = "without it the last lines are lost"]
pub struct LastLines(LogQueue);

impl LastLines {
    /// Logs why the process ends.
    pub fn say(&self, line: &str) {
        self.0.push(line.as_bytes());
    }
}

impl Drop for LastLines {
    fn drop(&mut self) {
        self.0.finish();
    }
}

impl LogQueue {
    /// Starts a thread that writes the lines of the log to `reader`.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(reader: impl io::Write + Send + 'static) -> io::Result<(Self, LastLines)> {
        let report = |lines| {
            tracing::warn!(lines, "lines of this log were lost, as it was not read for a while");
        };
        let queue = Self::of("log", reader, lost(), report)?;
        let last = LastLines(queue.clone());
        Ok((queue, last))
    }

    /// Starts a thread with this name that writes lines to `reader`. Lost lines are counted by `lost`, and reported by
    /// `report` afterwards.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub(crate) fn of(
        name: &str,
        reader: impl io::Write + Send + 'static,
        lost: Counter,
        report: fn(u64),
    ) -> io::Result<Self> {
        let queue = Self(Arc::new(Shared {
            lost,
            report,
            state: Mutex::default(),
            more: Condvar::new(),
            written: Condvar::new(),
        }));
        let ours = queue.clone();
        std::thread::Builder::new().name(name.to_owned()).spawn(move || ours.write_all_to(reader))?;
        Ok(queue)
    }

    fn write_all_to(&self, mut reader: impl io::Write) {
        loop {
            let line = self.next();
            if reader.write_all(&line).and_then(|()| reader.flush()).is_err() {
                self.0.lost.inc();
            }
            let mut state = self.state();
            state.writing = false;
            if !state.lines.is_empty() {
                continue;
            }
            self.0.written.notify_all();
            let lines = std::mem::take(&mut state.untold);
            drop(state);
            if lines > 0 {
                (self.0.report)(lines);
            }
        }
    }

    fn next(&self) -> Vec<u8> {
        let mut state = self.state();
        loop {
            if let Some(line) = state.lines.pop_front() {
                state.bytes -= line.len() + LINE;
                state.writing = true;
                return line;
            }
            self.0.more.wait(&mut state);
        }
    }

    /// Takes a line.
    pub(crate) fn push(&self, line: &[u8]) {
        let mut state = self.state();
        let bytes = line.len() + LINE;
        if state.bytes + bytes > WAITING {
            state.untold += 1;
            drop(state);
            self.0.lost.inc();
            return;
        }
        state.bytes += bytes;
        state.lines.push_back(line.to_vec());
        drop(state);
        self.0.more.notify_one();
    }

    /// Waits until all lines are written, but at most 2 s.
    pub(crate) fn finish(&self) {
        self.flush(FLUSH);
    }

    fn flush(&self, bound: Duration) {
        let under_way = |state: &mut State| state.writing || !state.lines.is_empty();
        self.0.written.wait_while_for(&mut self.state(), under_way, bound);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock()
    }
}

/// Each call of `write` is one line.
impl io::Write for LogQueue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _, pipe};

    use super::*;

    #[test]
    fn who_logs_never_waits_and_what_fits_is_read_in_order() {
        let (mut reader, writer) = pipe().expect("a pipe");
        let (mut queue, last) = LogQueue::start(writer).expect("a thread");
        let before = lost().get();
        let line = |number: u64| format!("{number:01000}\n");
        let count = 3 * WAITING as u64 / 1000;
        for number in 0..count {
            queue.write_all(line(number).as_bytes()).expect("it takes all");
        }
        let lost = lost().get() - before;
        assert!(lost > count / 2 && lost < count, "{lost} of {count}");
        let kept = count - lost;
        let mut read = vec![0; 1001];
        for number in 0..kept {
            reader.read_exact(&mut read).expect("a line");
            assert_eq!(read, line(number).as_bytes());
        }
        queue.write_all(b"last").expect("it takes all");
        drop(last);
        reader.read_exact(&mut read[..4]).expect("a line");
        assert_eq!(&read[..4], b"last");
    }

    #[test]
    fn the_end_waits_for_no_reader() {
        let (_reader, writer) = pipe().expect("a pipe");
        let (mut queue, last) = LogQueue::start(writer).expect("a thread");
        // Dropping it would wait for the reader.
        let _last = std::mem::ManuallyDrop::new(last);
        for _ in 0..100 {
            queue.write_all(&[b'x'; 4096]).expect("it takes all");
        }
        queue.flush(Duration::from_millis(1));
        assert!(!queue.state().lines.is_empty());
    }
}
