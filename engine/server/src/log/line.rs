//! Lines about mail, as workers write them.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use mailrace_core::message::date::Civil;
use mailrace_core::{QueueId, Sharer, Timestamp};

use super::shares::{Holder, Shares};
use super::value::{self, JSON_SIZE_MAX, TEXT_SIZE_MAX, decimal};
use super::waiting::{Counted, Waiting};
use super::{EventName, Level, LogFormat};

/// Bytes of a line's list of addresses at most; further ones go into further lines. Collectors cut long lines: journald
/// at 48 KiB.
const LIST_SIZE_MAX: usize = 24 * 1024;

/// Lines are handed over at this size at the latest: handing over each turn's lines costs more than writing them.
const LINES_TOGETHER: usize = 16 * 1024;

/// A thread's end of the log.
#[derive(Debug)]
pub struct LogWriter {
    waiting: Arc<Waiting>,
    format: LogFormat,
    pub(super) buffer: Vec<u8>,
    pub(super) lines: u64,
    stamp: Stamp,
    /// Whose the lines are that came while much waited.
    shares: Shares,
    /// Bytes of those that are written.
    written: Arc<AtomicU64>,
}

impl Clone for LogWriter {
    /// Another end of the same log, with nothing in it.
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.waiting), self.format)
    }
}

impl LogWriter {
    /// One whose lines are never read, for an engine that is simulated.
    #[must_use]
    pub fn unread() -> Self {
        Self::new(Arc::new(Waiting::with_bundles(1, 0)), LogFormat::Text)
    }

    pub(super) fn new(waiting: Arc<Waiting>, format: LogFormat) -> Self {
        let (shares, written) = (Shares::default(), Arc::default());
        Self { waiting, format, buffer: Vec::new(), lines: 0, stamp: Stamp::new(), shares, written }
    }

    pub(super) const fn format(&self) -> LogFormat {
        self.format
    }

    /// Begins a line about a message, or about none (`NOQUEUE`). It ends when it is dropped.
    pub fn line(&mut self, wall: Timestamp, id: Option<QueueId>, event: EventName) -> Line<'_> {
        self.begin(wall, id, event, "", event.text())
    }

    /// Begins a line about a message as Postfix writes it, whose text does not name the event.
    pub(crate) fn bare_line(&mut self, wall: Timestamp, id: QueueId, event: EventName) -> Line<'_> {
        self.begin(wall, Some(id), event, "", "")
    }

    /// Begins a line about what an operator should change. `event`: its name in JSON; `message`: the same for people.
    pub(crate) fn trouble(
        &mut self,
        level: Level,
        wall: Timestamp,
        event: EventName,
        message: &'static str,
    ) -> Line<'_> {
        let mut line = self.begin(wall, None, event, level.prefix(), message);
        if line.writer.format == LogFormat::Json {
            line.text("level", level.name().as_bytes()).text("message", message.as_bytes());
        }
        line
    }

    fn begin(
        &mut self,
        wall: Timestamp,
        id: Option<QueueId>,
        event: EventName,
        prefix: &'static str,
        message: &'static str,
    ) -> Line<'_> {
        self.lines += 1;
        let start = self.buffer.len();
        let id = id.map(QueueId::text);
        let id = id.as_ref().map_or(&b"NOQUEUE"[..], |id| id);
        let pieces: [&[u8]; 6] = match self.format {
            LogFormat::Text => [b" mailrace: ", id, b": ", prefix.as_bytes(), message.as_bytes(), b""],
            LogFormat::Json => [b"\",\"id\":\"", id, b"\",\"event\":\"", event.text().as_bytes(), b"\"", b""],
        };
        if self.format == LogFormat::Json {
            self.buffer.extend_from_slice(b"{\"time\":\"");
        }
        self.stamp.push(&mut self.buffer, wall);
        pieces.iter().for_each(|piece| self.buffer.extend_from_slice(piece));
        Line {
            writer: self,
            start,
            whose: Whose::Engine,
            separator: if message.is_empty() { "" } else { ": " },
            unshown: Unshown::default(),
            #[cfg(debug_assertions)]
            keys: vec!["time", "id", "event"],
        }
    }

    /// Adds the time, as lines begin with it.
    pub(super) fn push_time(&mut self, wall: Timestamp) {
        self.stamp.push(&mut self.buffer, wall);
    }

    /// Bytes of lines that were not handed over yet.
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
        let (bytes, overhead) = self.shares.gathered();
        let counted = (bytes > 0).then(|| Counted { bytes, overhead, written: Arc::clone(&self.written) });
        let is_taken = self.waiting.hand_over(bundle, std::mem::take(&mut self.lines), counted);
        self.shares.handed_over(is_taken);
    }

    /// Whether waiting lines take more memory than is free for all, so that clients get shares.
    #[must_use]
    pub fn is_pressed(&self) -> bool {
        self.is_pressed_at(self.waiting.fill())
    }

    const fn is_pressed_at(&self, (waiting, limit): (usize, usize)) -> bool {
        waiting + self.buffer.len() > limit / 2
    }

    /// Bytes of lines that leave together, at this fill of what waits.
    fn together(&self, fill: (usize, usize)) -> usize {
        let least = self.waiting.bundle_size_min();
        if self.is_pressed_at(fill) { least } else { (fill.1 / 64).min(LINES_TOGETHER).max(least) }
    }

    /// Whether a line of `size` bytes at the end of the buffer gets in.
    fn admits(&mut self, whose: Whose, size: usize, fill: (usize, usize)) -> bool {
        let (holder, limit_in_16) = match whose {
            Whose::Engine => return true,
            Whose::Mail(sharer) => (Holder { sharer, is_mail: true }, 15),
            Whose::Client(sharer) => (Holder { sharer, is_mail: false }, 14),
        };
        if !self.is_pressed_at(fill) {
            return true;
        }
        self.shares.release(self.written.load(Ordering::Relaxed));
        let (waiting, limit) = fill;
        let used = waiting + self.buffer.len() - size;
        let room = (limit / 16 * limit_in_16).saturating_sub(used);
        let is_admitted = self.shares.admits(holder, size, room);
        if is_admitted {
            self.shares.hold(holder, size);
        }
        is_admitted
    }
}

/// Formats times; the date is formatted once a second.
#[derive(Debug)]
pub(super) struct Stamp {
    second: u64,
    /// The date and time of `second`, up to the point.
    text: String,
}

impl Stamp {
    pub(super) const fn new() -> Self {
        Self { second: u64::MAX, text: String::new() }
    }

    /// Adds `wall` as RFC 3339 has it, in microseconds.
    pub(super) fn push(&mut self, buffer: &mut Vec<u8>, wall: Timestamp) {
        if wall.unix_seconds() != self.second {
            self.second = wall.unix_seconds();
            let Civil { year, month, day, hour, minute, second, .. } = Civil::new(wall, 0);
            self.text.clear();
            let _ = write!(self.text, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
        }
        buffer.extend_from_slice(self.text.as_bytes());
        // Seven digits, of which the first gives way to the point.
        let mut digits = [0; 20];
        let fraction = decimal(1_000_000 + wall.unix_microseconds() % 1_000_000, &mut digits);
        buffer.push(b'.');
        buffer.extend_from_slice(fraction.get(1..).unwrap_or_default());
        buffer.push(b'Z');
    }
}

/// What JSON strings of a line do not say of their values, as the members of objects.
#[derive(Debug, Default)]
pub(super) struct Unshown {
    /// Names of values that were cut, with their sizes.
    sizes: Vec<u8>,
    /// Names of values that are not UTF-8, with their bytes.
    bytes: Vec<u8>,
}

impl Unshown {
    /// Adds `value` to the line as a JSON string, and notes what it does not show.
    pub(super) fn push_json(
        &mut self,
        buffer: &mut Vec<u8>,
        name: &str,
        index: Option<usize>,
        value: &[u8],
        size_max: usize,
    ) {
        let shown = value::push_json(buffer, value, size_max);
        let member = |members: &mut Vec<u8>| {
            members.extend_from_slice(if members.is_empty() { b"\"" } else { b",\"" });
            members.extend_from_slice(name.as_bytes());
            if let Some(index) = index {
                members.push(b'.');
                members.extend_from_slice(decimal(index as u64, &mut [0; 20]));
            }
            members.extend_from_slice(b"\":");
        };
        if shown.part.len() < value.len() {
            member(&mut self.sizes);
            self.sizes.extend_from_slice(decimal(value.len() as u64, &mut [0; 20]));
        }
        if !shown.is_exact {
            member(&mut self.bytes);
            self.bytes.push(b'"');
            value::push_hex(&mut self.bytes, shown.part);
            self.bytes.push(b'"');
        }
    }

    /// Ends the line's object.
    pub(super) fn end(&self, buffer: &mut Vec<u8>) {
        for (name, members) in [("sizes", &self.sizes), ("bytes", &self.bytes)] {
            if !members.is_empty() {
                for piece in [b",\"", name.as_bytes(), b"\":{", members, b"}"] {
                    buffer.extend_from_slice(piece);
                }
            }
        }
        buffer.extend_from_slice(b"}\n");
    }
}

/// Whose a line is, where there is not room for all. The engine's own lines have all of it, those about mail that was
/// accepted of a client fifteen sixteenths, and those about anything else that a client did fourteen.
#[derive(Clone, Copy, Debug)]
enum Whose {
    Engine,
    Mail(Sharer),
    Client(Sharer),
}

/// A line being written. No key is added twice.
#[derive(Debug)]
pub struct Line<'a> {
    writer: &'a mut LogWriter,
    /// Where it begins in the writer's buffer.
    start: usize,
    whose: Whose,
    /// What comes before the next key in text.
    separator: &'static str,
    unshown: Unshown,
    #[cfg(debug_assertions)]
    keys: Vec<&'static str>,
}

impl Line<'_> {
    /// The line is about what a client does, and counts for it.
    pub fn about_client(&mut self, sharer: Sharer) -> &mut Self {
        self.whose = Whose::Client(sharer);
        self
    }

    /// The line is about mail that was accepted of a client, and counts for it.
    pub fn about_mail(&mut self, sharer: Sharer) -> &mut Self {
        self.whose = Whose::Mail(sharer);
        self
    }

    /// Adds bytes from outside.
    pub fn text(&mut self, name: &'static str, value: &[u8]) -> &mut Self {
        self.text_up_to(name, value, TEXT_SIZE_MAX)
    }

    /// Adds bytes from outside; a line of text has `size_max` of them.
    pub fn text_up_to(&mut self, name: &'static str, value: &[u8], size_max: usize) -> &mut Self {
        self.key(name);
        let buffer = &mut self.writer.buffer;
        match self.writer.format {
            LogFormat::Text => value::push_text(buffer, value, size_max),
            LogFormat::Json => self.unshown.push_json(buffer, name, None, value, JSON_SIZE_MAX),
        }
        self
    }

    /// Adds an address; in text with brackets.
    pub fn address(&mut self, name: &'static str, value: &[u8]) -> &mut Self {
        self.key(name);
        self.push_address(name, None, value);
        self
    }

    /// Adds a word of the engine's own.
    pub(crate) fn word(&mut self, name: &'static str, value: &str) -> &mut Self {
        self.key(name);
        let quote = match self.writer.format {
            LogFormat::Text => "",
            LogFormat::Json => "\"",
        };
        for piece in [quote, value, quote] {
            self.writer.buffer.extend_from_slice(piece.as_bytes());
        }
        self
    }

    /// Adds words of the engine's own: in text alone, with a colon before `value` if there is one; in JSON under their names.
    pub(crate) fn words(
        &mut self,
        words: (&'static str, &str),
        value: Option<(&'static str, &str)>,
    ) -> &mut Self {
        if self.writer.format == LogFormat::Json {
            self.word(words.0, words.1);
            if let Some((name, value)) = value {
                self.word(name, value);
            }
            return self;
        }
        let colon = if value.is_some() { ": " } else { "" };
        for piece in [self.separator, words.1, colon, value.map_or("", |(_, value)| value)] {
            self.writer.buffer.extend_from_slice(piece.as_bytes());
        }
        self.separator = ", ";
        self
    }

    /// Adds a reason from outside: in text in parentheses after the value before it, in JSON as `reason`.
    pub(crate) fn reason(&mut self, value: &[u8]) -> &mut Self {
        match self.writer.format {
            LogFormat::Json => return self.text("reason", value),
            LogFormat::Text => {
                self.writer.buffer.extend_from_slice(b" (");
                value::push_text(&mut self.writer.buffer, value, TEXT_SIZE_MAX);
                self.writer.buffer.push(b')');
            }
        }
        self
    }

    /// Adds a list of addresses: in JSON an array, in text each with the name. Returns the number of them that it took:
    /// the rest needs another line.
    pub fn addresses<'v>(&mut self, name: &'static str, values: impl IntoIterator<Item = &'v [u8]>) -> usize {
        let end = self.writer.buffer.len() + LIST_SIZE_MAX;
        let mut count = 0;
        if self.writer.format == LogFormat::Json {
            self.key(name);
            self.writer.buffer.push(b'[');
        }
        for value in values {
            match self.writer.format {
                LogFormat::Json if count > 0 => self.writer.buffer.push(b','),
                LogFormat::Json => {}
                LogFormat::Text => self.separate(name),
            }
            self.push_address(name, Some(count), value);
            count += 1;
            if self.writer.buffer.len() >= end {
                break;
            }
        }
        if self.writer.format == LogFormat::Json {
            self.writer.buffer.push(b']');
        }
        count
    }

    /// Adds a number.
    pub fn number(&mut self, name: &'static str, value: u64) -> &mut Self {
        self.key(name);
        self.writer.buffer.extend_from_slice(decimal(value, &mut [0; 20]));
        self
    }

    fn push_address(&mut self, name: &'static str, index: Option<usize>, value: &[u8]) {
        let buffer = &mut self.writer.buffer;
        match self.writer.format {
            LogFormat::Json => self.unshown.push_json(buffer, name, index, value, JSON_SIZE_MAX),
            LogFormat::Text => {
                buffer.push(b'<');
                value::push_text(buffer, value, TEXT_SIZE_MAX);
                buffer.push(b'>');
            }
        }
    }

    fn key(&mut self, name: &'static str) {
        #[cfg(debug_assertions)]
        {
            debug_assert!(!self.keys.contains(&name), "{name} is there already");
            self.keys.push(name);
        }
        self.separate(name);
    }

    fn separate(&mut self, name: &'static str) {
        let [before, after] = match self.writer.format {
            LogFormat::Text => [self.separator, "="],
            LogFormat::Json => [",\"", "\":"],
        };
        for piece in [before, name, after] {
            self.writer.buffer.extend_from_slice(piece.as_bytes());
        }
        self.separator = ", ";
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        match self.writer.format {
            LogFormat::Text => self.writer.buffer.push(b'\n'),
            LogFormat::Json => self.unshown.end(&mut self.writer.buffer),
        }
        let size = self.writer.buffer.len() - self.start;
        let fill = self.writer.waiting.fill();
        if !self.writer.admits(self.whose, size, fill) {
            self.writer.buffer.truncate(self.start);
            self.writer.lines -= 1;
            self.writer.waiting.lose(1);
        } else if self.writer.gathered() >= self.writer.together(fill) {
            // What has not left is in no other writer's account of what waits.
            self.writer.flush();
        }
    }
}

#[cfg(test)]
mod tests;
