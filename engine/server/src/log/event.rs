//! Events of the engine itself: its start and end, its settings, its queue, its tables.

use std::fmt;

use super::line::Unshown;
use super::name::{self, EventName};
use super::value::{self, decimal};
use super::{Level, LogFormat, LogWriter, now};

/// Bytes of a message or another value at most.
const VALUE_SIZE_MAX: usize = 16 * 1024;
/// Bytes of an event, more or less, after which the rest of a list goes into another one.
const LIST_SIZE_MAX: usize = 24 * 1024;

/// An event being written; it ends when it is dropped. A line of text has the message alone, which says all that people
/// need; a line of JSON has the fields too.
#[derive(Debug)]
pub(crate) struct Event {
    writer: LogWriter,
    level: Level,
    name: EventName,
    message: String,
    unshown: Unshown,
}

impl Event {
    pub(super) fn begin(
        writer: LogWriter,
        level: Level,
        name: EventName,
        message: &dyn fmt::Display,
    ) -> Self {
        let message = message.to_string();
        let mut event = Self { writer, level, name, message, unshown: Unshown::default() };
        event.begin_line();
        event
    }

    fn begin_line(&mut self) {
        let message = std::mem::take(&mut self.message);
        match self.writer.format() {
            LogFormat::Text => self.push_lines(self.level.prefix(), &message),
            LogFormat::Json => {
                self.writer.lines += 1;
                self.writer.buffer.extend_from_slice(b"{\"time\":\"");
                self.writer.push_time(now());
                for piece in ["\",\"level\":\"", self.level.name(), "\",\"event\":\"", self.name.text(), "\""]
                {
                    self.writer.buffer.extend_from_slice(piece.as_bytes());
                }
                self.push_text("message", message.as_bytes());
            }
        }
        self.message = message;
    }

    /// Adds a line of text for each line of `message`.
    fn push_lines(&mut self, prefix: &str, message: &str) {
        for line in message.lines() {
            self.writer.lines += 1;
            self.writer.push_time(now());
            let buffer = &mut self.writer.buffer;
            // Its message has the program's name in it, since those who start the engine look for that.
            buffer.extend_from_slice(if self.name == name::READY { b" " } else { b" mailrace: " });
            buffer.extend_from_slice(prefix.as_bytes());
            value::push_text(buffer, line.as_bytes(), VALUE_SIZE_MAX);
            buffer.push(b'\n');
        }
    }

    /// Adds a text for programs.
    pub(crate) fn text(mut self, name: &'static str, value: impl AsRef<[u8]>) -> Self {
        if self.writer.format() == LogFormat::Json {
            self.push_text(name, value.as_ref());
        }
        self
    }

    /// Adds a number for programs.
    pub(crate) fn number(mut self, name: &'static str, value: u64) -> Self {
        if self.writer.format() == LogFormat::Json {
            self.push_key(name);
            self.writer.buffer.extend_from_slice(decimal(value, &mut [0; 20]));
        }
        self
    }

    /// Adds texts, of one or more lines each: in JSON an array of all lines, in text a line each. A long list goes on in
    /// another event of the same name.
    pub(crate) fn list<T: fmt::Display>(
        mut self,
        name: &'static str,
        texts: impl IntoIterator<Item = T>,
    ) -> Self {
        let mut is_open = false;
        let mut count = 0;
        for text in texts {
            for line in text.to_string().lines() {
                if self.writer.format() == LogFormat::Text {
                    self.push_lines("", line);
                    continue;
                }
                if is_open && self.writer.gathered() > LIST_SIZE_MAX {
                    self.writer.buffer.push(b']');
                    self.end_line();
                    self.begin_line();
                    is_open = false;
                }
                if is_open {
                    self.writer.buffer.push(b',');
                } else {
                    self.push_key(name);
                    self.writer.buffer.push(b'[');
                    (is_open, count) = (true, 0);
                }
                let line = line.as_bytes();
                self.unshown.push_json(&mut self.writer.buffer, name, Some(count), line, VALUE_SIZE_MAX);
                count += 1;
            }
        }
        if is_open {
            self.writer.buffer.push(b']');
        }
        self
    }

    /// Adds texts for programs.
    pub(crate) fn array<T: fmt::Display>(
        self,
        name: &'static str,
        texts: impl IntoIterator<Item = T>,
    ) -> Self {
        match self.writer.format() {
            LogFormat::Json => self.list(name, texts),
            LogFormat::Text => self,
        }
    }

    fn push_text(&mut self, name: &'static str, value: &[u8]) {
        self.push_key(name);
        self.unshown.push_json(&mut self.writer.buffer, name, None, value, VALUE_SIZE_MAX);
    }

    fn push_key(&mut self, name: &'static str) {
        for piece in [",\"", name, "\":"] {
            self.writer.buffer.extend_from_slice(piece.as_bytes());
        }
    }

    fn end_line(&mut self) {
        if self.writer.format() == LogFormat::Json {
            std::mem::take(&mut self.unshown).end(&mut self.writer.buffer);
        }
        self.writer.flush();
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        self.end_line();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::super::waiting::Waiting;
    use super::*;

    /// The lines of one event.
    fn lines(format: LogFormat, write: impl FnOnce(LogWriter)) -> Vec<String> {
        let waiting = Arc::new(Waiting::new(10_000_000));
        write(LogWriter::new(Arc::clone(&waiting), format));
        let written: Vec<u8> = std::iter::from_fn(|| waiting.take()).flatten().collect();
        String::from_utf8(written).unwrap().lines().map(str::to_owned).collect()
    }

    fn write_one(writer: LogWriter) {
        Event::begin(writer, Level::Error, name::RELOAD_FAILED, &"not reloaded:")
            .list("errors", ["a:1: one\na:2: two", "b: \u{1}"])
            .text("file", b"a\xff")
            .number("count", 2);
    }

    #[test]
    fn each_text_line_begins_with_the_time() {
        let lines = lines(LogFormat::Text, write_one);
        let wanted = [
            "Z mailrace: error: not reloaded:",
            "Z mailrace: a:1: one",
            "Z mailrace: a:2: two",
            "Z mailrace: b: ?",
        ];
        assert_eq!(lines.len(), wanted.len());
        assert!(lines.iter().zip(wanted).all(|(line, wanted)| &line[26..] == wanted), "{lines:?}");
    }

    #[test]
    fn a_json_line_also_has_the_fields() {
        let lines = lines(LogFormat::Json, write_one);
        assert_eq!(lines.len(), 1);
        let mut line: Value = serde_json::from_str(&lines[0]).unwrap();
        assert_eq!(line["time"].take().as_str().unwrap().len(), 27);
        let wanted = json!({
            "time": null,
            "level": "error",
            "event": "reload_failed",
            "message": "not reloaded:",
            "errors": ["a:1: one", "a:2: two", "b: \u{1}"],
            "file": "a\u{fffd}",
            "count": 2,
            "bytes": {"file": "61ff"},
        });
        assert_eq!(line, wanted);
    }

    #[test]
    fn the_ready_line_matches_its_documentation() {
        let ready = |writer| {
            drop(Event::begin(
                writer,
                Level::Info,
                name::READY,
                &"mailrace ready: listening on 192.0.2.1:25,",
            ))
        };
        assert_eq!(&lines(LogFormat::Text, ready)[0][26..], "Z mailrace ready: listening on 192.0.2.1:25,");
    }

    #[test]
    fn a_long_list_continues_in_another_event() {
        let errors: Vec<String> = (0..5000).map(|line| format!("access:{line}: bad pattern")).collect();
        let lines = lines(LogFormat::Json, |writer| {
            Event::begin(writer, Level::Error, name::RELOAD_FAILED, &"not reloaded:").list("errors", &errors);
        });
        assert!(lines.len() > 1 && lines.iter().all(|line| line.len() < 32 * 1024));
        let listed = lines.iter().flat_map(|line| {
            let line: Value = serde_json::from_str(line).unwrap();
            line["errors"].as_array().unwrap().clone()
        });
        assert!(listed.eq(errors.iter().map(|error| Value::from(error.as_str()))));
    }
}
