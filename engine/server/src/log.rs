//! Owns the log: lines that workers write into memory and one thread writes out, so that no worker ever waits for it.
//!
//! What a line holds from outside is made harmless here: control octets and broken UTF-8 never reach the output.

use std::fmt::Write as _;
use std::io::Write;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use mailrace_core::message::date::Civil;
use mailrace_core::{QueueId, Timestamp};

use waiting::Waiting;

pub use crate::config::LogFormat;

#[cfg(test)]
mod threads;
mod waiting;

/// What [`waiting`] is made of; its model has other primitives.
mod sync {
    pub(super) use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

    pub(super) use crossbeam::queue::ArrayQueue;
}

/// How often the writing thread looks for lines. Waking it would cost workers a system call.
const PERIOD: Duration = Duration::from_millis(20);
/// Octets that are written with one call, more or less.
const WRITE_SIZE: usize = 64 * 1024;
/// Octets of a value in a line at most.
const VALUE_SIZE_MAX: usize = 512;

/// A worker's end of the log.
#[derive(Debug)]
pub struct LogWriter {
    waiting: Arc<Waiting>,
    format: LogFormat,
    buffer: Vec<u8>,
    lines: u64,
    second: u64,
    /// The date and time of `second`, up to the point.
    stamp: String,
}

/// The thread that writes lines out.
#[derive(Debug)]
pub struct Logger {
    waiting: Arc<Waiting>,
    thread: JoinHandle<()>,
}

/// Starts the log: lines go to standard error. `memory`: octets of lines that may wait.
///
/// # Errors
/// No thread could be started.
pub fn start(format: LogFormat, memory: usize) -> std::io::Result<(LogWriter, Logger)> {
    let waiting = Arc::new(Waiting::new(memory));
    let writer = LogWriter::new(Arc::clone(&waiting), format);
    let mut own_writer = LogWriter::new(Arc::clone(&waiting), format);
    let shared = Arc::clone(&waiting);
    let thread = std::thread::Builder::new().name("log".to_owned()).spawn(move || {
        let mut reported = 0;
        let mut together = Vec::with_capacity(2 * WRITE_SIZE);
        loop {
            // Before the lines are taken: what was handed over before the end is among them.
            let is_stopping = shared.is_stopping();
            let lost = shared.lines_lost();
            if lost > reported {
                own_writer.line(now(), None, "warning").number("log_lines_lost", lost - reported);
                own_writer.flush();
                reported = lost;
            }
            write_out(&shared, &mut together);
            if is_stopping {
                return;
            }
            std::thread::park_timeout(PERIOD);
        }
    })?;
    Ok((writer, Logger { waiting, thread }))
}

impl Logger {
    /// Writes what is left and ends the thread. All writers must have flushed.
    pub fn stop(self) {
        self.waiting.stop();
        self.thread.thread().unpark();
        // It has nothing to tell.
        let _ = self.thread.join();
    }

    /// Lines that found no room, since the start.
    #[must_use]
    pub fn lines_lost(&self) -> LinesLost {
        LinesLost(Arc::clone(&self.waiting))
    }
}

/// Counts lines that found no room.
#[derive(Clone, Debug)]
pub struct LinesLost(Arc<Waiting>);

impl LinesLost {
    /// So many since the start.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.lines_lost()
    }
}

/// Writes to standard error all that waits.
fn write_out(waiting: &Waiting, together: &mut Vec<u8>) {
    let mut output = std::io::stderr().lock();
    while let Some(bundle) = waiting.take() {
        together.extend_from_slice(&bundle);
        waiting.give_back(bundle);
        if together.len() >= WRITE_SIZE || waiting.is_empty() {
            // There is nowhere to complain about a broken standard error.
            let _ = output.write_all(together);
            together.clear();
        }
    }
}

impl Clone for LogWriter {
    /// Another end of the same log, with nothing in it.
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.waiting), self.format)
    }
}

impl LogWriter {
    /// One whose lines nobody reads, for an engine that is simulated.
    #[must_use]
    pub fn unread() -> Self {
        Self::new(Arc::new(Waiting::with_bundles(1, 0)), LogFormat::Text)
    }

    const fn new(waiting: Arc<Waiting>, format: LogFormat) -> Self {
        Self { waiting, format, buffer: Vec::new(), lines: 0, second: u64::MAX, stamp: String::new() }
    }

    /// Begins a line about a message, or about none (`NOQUEUE`). It ends when it is dropped.
    pub fn line(&mut self, wall: Timestamp, id: Option<QueueId>, event: &'static str) -> Line<'_> {
        self.stamp(wall);
        self.lines += 1;
        let id = id.map(QueueId::text);
        let id = id.as_ref().map_or(&b"NOQUEUE"[..], |id| id);
        // Seven digits, of which the first gives way to the point.
        let fraction = decimal(1_000_000 + wall.unix_microseconds() % 1_000_000, &mut [0; 20]).to_owned();
        let fraction = fraction.get(1..).unwrap_or_default();
        let [before, between, behind, end] = match self.format {
            LogFormat::Text => ["", "Z mailrace: ", ": ", ""],
            LogFormat::Json => ["{\"time\":\"", "Z\",\"id\":\"", "\",\"event\":\"", "\""],
        };
        let stamp = self.stamp.as_bytes();
        for piece in [
            before.as_bytes(),
            stamp,
            b".",
            fraction,
            between.as_bytes(),
            id,
            behind.as_bytes(),
            event.as_bytes(),
            end.as_bytes(),
        ] {
            self.buffer.extend_from_slice(piece);
        }
        Line { writer: self, is_first: true }
    }

    /// Octets of lines that were not handed over yet.
    #[must_use]
    pub const fn gathered(&self) -> usize {
        self.buffer.len()
    }

    /// Hands the lines over to the thread that writes them; drops and counts them when too much waits there.
    pub fn flush(&mut self) {
        if self.buffer.is_empty() {
            return;
        }
        let bundle = std::mem::replace(&mut self.buffer, self.waiting.spare());
        self.waiting.hand_over(bundle, std::mem::take(&mut self.lines));
    }

    fn stamp(&mut self, wall: Timestamp) {
        if wall.unix_seconds() == self.second {
            return;
        }
        self.second = wall.unix_seconds();
        let Civil { year, month, day, hour, minute, second, .. } = Civil::new(wall, 0);
        self.stamp.clear();
        let _ = write!(self.stamp, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
    }
}

/// A line being written.
#[derive(Debug)]
pub struct Line<'a> {
    writer: &'a mut LogWriter,
    is_first: bool,
}

impl Line<'_> {
    /// Adds octets from outside.
    pub fn text(&mut self, name: &str, value: &[u8]) -> &mut Self {
        self.key(name);
        match self.writer.format {
            LogFormat::Text => clean(&mut self.writer.buffer, value, b""),
            LogFormat::Json => {
                self.writer.buffer.push(b'"');
                clean(&mut self.writer.buffer, value, b"\"\\");
                self.writer.buffer.push(b'"');
            }
        }
        self
    }

    /// Adds an address; in text with brackets.
    pub fn address(&mut self, name: &str, value: &[u8]) -> &mut Self {
        if self.writer.format == LogFormat::Json {
            return self.text(name, value);
        }
        self.key(name);
        self.writer.buffer.push(b'<');
        clean(&mut self.writer.buffer, value, b"");
        self.writer.buffer.push(b'>');
        self
    }

    /// Adds a number.
    pub fn number(&mut self, name: &str, value: u64) -> &mut Self {
        self.key(name);
        self.writer.buffer.extend_from_slice(decimal(value, &mut [0; 20]));
        self
    }

    fn key(&mut self, name: &str) {
        let [before, behind] = match self.writer.format {
            LogFormat::Text if self.is_first => [": ", "="],
            LogFormat::Text => [", ", "="],
            LogFormat::Json => [",\"", "\":"],
        };
        for piece in [before, name, behind] {
            self.writer.buffer.extend_from_slice(piece.as_bytes());
        }
        self.is_first = false;
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        let end: &[u8] = match self.writer.format {
            LogFormat::Text => b"\n",
            LogFormat::Json => b"}\n",
        };
        self.writer.buffer.extend_from_slice(end);
    }
}

/// What somebody else wrote, as a log line may hold it.
pub(crate) fn printable(text: &str) -> String {
    let mut buffer = Vec::with_capacity(text.len());
    clean(&mut buffer, text.as_bytes(), b"");
    String::from_utf8_lossy(&buffer).into_owned()
}

/// Adds `value`, cut if it is long, with control octets and broken UTF-8 as `?`; a backslash before those of `escaped`.
fn clean(buffer: &mut Vec<u8>, value: &[u8], escaped: &[u8]) {
    let (value, rest) = value.split_at(value.len().min(VALUE_SIZE_MAX));
    let is_plain = value.iter().all(|octet| (b' '..0x7f).contains(octet) && !escaped.contains(octet));
    if is_plain {
        buffer.extend_from_slice(value);
    } else {
        for chunk in value.utf8_chunks() {
            for letter in chunk.valid().chars() {
                if letter.is_control() || is_misleading(letter) {
                    buffer.push(b'?');
                    continue;
                }
                if u8::try_from(letter).is_ok_and(|octet| escaped.contains(&octet)) {
                    buffer.push(b'\\');
                }
                buffer.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
            }
            buffer.extend(chunk.invalid().iter().map(|_| b'?'));
        }
    }
    if !rest.is_empty() {
        buffer.extend_from_slice(b"...");
    }
}

/// Letters that end a line for some programs, or turn the order of those that follow: a line would not show what it says.
const fn is_misleading(letter: char) -> bool {
    matches!(
        letter,
        '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    )
}

/// The digits of `number`; a line has several, and the formatting of the standard library costs as much as the rest.
pub(crate) fn decimal(mut number: u64, digits: &mut [u8; 20]) -> &[u8] {
    let mut start = digits.len();
    for (index, place) in digits.iter_mut().enumerate().rev() {
        *place = b'0' + u8::try_from(number % 10).unwrap_or(0);
        number /= 10;
        start = index;
        if number == 0 {
            break;
        }
    }
    digits.get(start..).unwrap_or_default()
}

/// The time for lines of threads that have no engine.
#[must_use]
pub fn now() -> Timestamp {
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_unix_microseconds(u64::try_from(since_epoch.as_micros()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn writer(format: LogFormat, octets_max: usize) -> LogWriter {
        LogWriter::new(Arc::new(Waiting::new(octets_max)), format)
    }

    #[test]
    fn what_others_wrote_stays_on_its_line() {
        assert_eq!(
            printable("FATAL: no\nmailrace: all is well\u{202e}\r"),
            "FATAL: no?mailrace: all is well??"
        );
        assert!(printable(&"x".repeat(100_000)).len() < 10_000);
    }

    const WALL: Timestamp = Timestamp::from_unix_microseconds(1_700_000_000_000_042);

    fn write_one(writer: &mut LogWriter) {
        writer
            .line(WALL, None, "reject")
            .address("from", b"a\"b\r\n\xff@example.com")
            .number("size", 7)
            .text("helo", "grün\u{1}\u{2028}\u{202e}\u{9b}\\".as_bytes());
    }

    #[test]
    fn a_line_of_text_is_harmless() {
        let mut writer = writer(LogFormat::Text, 1000);
        write_one(&mut writer);
        let line = String::from_utf8(writer.buffer.clone()).unwrap();
        assert_eq!(
            line,
            "2023-11-14T22:13:20.000042Z mailrace: NOQUEUE: reject: from=<a\"b???@example.com>, size=7, helo=grün????\\\n"
        );
    }

    #[test]
    fn a_line_of_json_is_json() {
        let mut writer = writer(LogFormat::Json, 1000);
        write_one(&mut writer);
        let line: serde_json::Value = serde_json::from_slice(&writer.buffer).unwrap();
        assert_eq!(line["from"], "a\"b???@example.com");
        assert_eq!(line["size"], 7);
        assert_eq!(line["helo"], "grün????\\");
    }

    #[test]
    fn numbers_have_their_digits() {
        for number in [0, 9, 10, 1_000_001, u64::MAX] {
            assert_eq!(decimal(number, &mut [0; 20]), number.to_string().as_bytes());
        }
    }

    #[test]
    fn lines_without_room_are_counted() {
        let mut writer = writer(LogFormat::Text, 300);
        for _ in 0..10 {
            write_one(&mut writer);
            writer.flush();
        }
        assert_eq!(writer.waiting.lines_lost(), 8);
        assert_eq!(std::iter::from_fn(|| writer.waiting.take()).count(), 2);
    }
}
