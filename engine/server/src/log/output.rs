//! The writing end of the log: what becomes of lines when standard error takes none.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use super::waiting::Waiting;
use super::{Event, Level, LogFormat, LogWriter, name};

/// Bytes that are written with one call at most. A slow reader's progress shows after each call.
const WRITE_SIZE: usize = 16 * 1024;

/// Where lines go.
pub(super) trait Sink {
    /// Writes some of `bytes`, at least one, and waits for that if it has to.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize>;
}

/// Standard error, without the lock that the standard library has around it.
///
/// Its mode is left alone: O_NONBLOCK would hold for all processes that have the same pipe or terminal. Where another
/// one has set it, this waits as for any other.
#[derive(Debug)]
pub(super) struct StandardError;

impl Sink for StandardError {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let stderr = io::stderr();
        loop {
            match rustix::io::write(stderr.as_fd(), bytes) {
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    // Interrupted or not, the write tells.
                    let _ = poll(&mut [PollFd::new(&stderr, PollFlags::OUT)], None);
                }
                result => return Ok(result?),
            }
        }
    }
}

/// The thread's view of the log.
#[derive(Debug)]
pub(super) struct Output<S> {
    sink: S,
    waiting: Arc<Waiting>,
    format: LogFormat,
    progress: Arc<AtomicU64>,
    /// Lines that were taken, of which `written` bytes are out.
    taken: Vec<u8>,
    written: usize,
    /// Lost lines that were reported.
    reported: u64,
}

impl<S: Sink> Output<S> {
    pub(super) const fn new(
        sink: S,
        waiting: Arc<Waiting>,
        format: LogFormat,
        progress: Arc<AtomicU64>,
    ) -> Self {
        Self { sink, waiting, format, progress, taken: Vec::new(), written: 0, reported: 0 }
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.waiting.is_stopping()
    }

    /// Writes all that waits, and then how many lines were lost before that.
    ///
    /// # Errors
    /// Those of the sink. What was not written is kept, so no line is ever cut; newer lines wait until it is written
    /// room for them.
    pub(super) fn write_waiting(&mut self) -> io::Result<()> {
        loop {
            self.write_taken()?;
            // Before the queue is found empty: what was lost before that is missing after what is in the queue.
            let lost = self.waiting.lines_lost();
            while self.taken.len() < WRITE_SIZE
                && let Some(bundle) = self.waiting.take()
            {
                self.taken.extend_from_slice(&bundle);
                self.waiting.give_back(bundle);
            }
            if self.taken.is_empty() {
                if lost == self.reported {
                    return Ok(());
                }
                self.report(lost);
            }
        }
    }

    fn write_taken(&mut self) -> io::Result<()> {
        while let Some(rest) = self.taken.get(self.written..)
            && !rest.is_empty()
        {
            let count = self.sink.write(rest.get(..WRITE_SIZE).unwrap_or(rest))?;
            if count == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            self.written += count;
            self.progress.fetch_add(count as u64, Ordering::Relaxed);
        }
        self.taken.clear();
        self.written = 0;
        Ok(())
    }

    /// Adds a line to what is to be written: the queue may be full again.
    fn report(&mut self, lost: u64) {
        let lines = lost - self.reported;
        let own = Arc::new(Waiting::with_bundles(1, usize::MAX));
        let writer = LogWriter::new(Arc::clone(&own), self.format);
        let message =
            format!("log_lines_lost={lines}: standard error was read too slowly, or log_memory is too small");
        Event::begin(writer, Level::Warning, name::LOG_LINES_LOST, &message).number("lines", lines);
        self.taken.extend(std::iter::from_fn(|| own.take()).flatten());
        self.reported = lost;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    /// A sink that takes as much as the test sets with each call, or fails.
    #[derive(Default)]
    struct Scripted {
        script: VecDeque<io::Result<usize>>,
        written: Vec<u8>,
    }

    impl Sink for Scripted {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            assert!(bytes.len() <= WRITE_SIZE);
            let count = self.script.pop_front().unwrap_or(Ok(usize::MAX))?.min(bytes.len());
            self.written.extend_from_slice(&bytes[..count]);
            Ok(count)
        }
    }

    fn output(script: impl IntoIterator<Item = io::Result<usize>>, size_max: usize) -> Output<Scripted> {
        let sink = Scripted { script: script.into_iter().collect(), written: Vec::new() };
        Output::new(sink, Arc::new(Waiting::new(size_max)), LogFormat::Json, Arc::default())
    }

    fn hand_over(output: &Output<Scripted>, numbers: std::ops::Range<u32>) {
        for number in numbers {
            output.waiting.hand_over(format!("{{\"line\":{number}}}\n").into_bytes(), 1, None);
        }
    }

    fn full() -> io::Error {
        io::ErrorKind::StorageFull.into()
    }

    #[test]
    fn a_disk_that_was_full_truncates_no_line() {
        let mut output = output([Ok(3), Err(full()), Ok(4), Err(full())], 1000);
        hand_over(&output, 0..3);
        assert!(output.write_waiting().is_err());
        assert_eq!(output.sink.written, b"{\"l");
        hand_over(&output, 3..5);
        assert!(output.write_waiting().is_err());
        output.write_waiting().unwrap();
        let text: String = (0..5).map(|number| format!("{{\"line\":{number}}}\n")).collect();
        assert_eq!(String::from_utf8(output.sink.written).unwrap(), text);
        assert_eq!(output.progress.load(Ordering::Relaxed), text.len() as u64);
    }

    #[test]
    fn reports_lost_lines_after_the_lines_that_waited() {
        let mut output = output([Err(full())], 30);
        hand_over(&output, 0..10);
        assert!(output.write_waiting().is_err());
        hand_over(&output, 10..20);
        output.write_waiting().unwrap();
        hand_over(&output, 20..21);
        output.write_waiting().unwrap();
        let written = String::from_utf8(output.sink.written.clone()).unwrap();
        let lines: Vec<serde_json::Value> =
            written.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let events: Vec<_> = lines.iter().map(|line| &line["event"]).collect();
        let at = events.iter().position(|event| *event == "log_lines_lost").unwrap();
        assert_eq!(at, lines.len() - 2, "{written}");
        assert_eq!(lines[at]["lines"].as_u64().unwrap(), output.waiting.lines_lost());
        assert_eq!(lines.len() - 2 + usize::try_from(output.waiting.lines_lost()).unwrap(), 20);
    }
}
