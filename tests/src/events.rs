//! Events of the engine's log: tests name them, as programs of operators do, and do not match their prose.

use serde_json::Value;

use crate::{Directory, Engine};

/// The setting that makes the log consist of events with names.
pub const JSON_LOG: [&str; 2] = ["--set", "engine.log_format=json"];

impl Engine {
    /// The same as [`Engine::start`], with a log of events.
    #[must_use]
    pub fn start_with_events(directory: &Directory, arguments: &[&str]) -> Self {
        Self::start(directory, &[&JSON_LOG, arguments].concat())
    }

    /// The next event of this name.
    pub fn event(&mut self, name: &str) -> Value {
        // In a value quotes are escaped.
        let line = self.line_with(&format!("\"event\":\"{name}\""));
        parse(&line)
    }

    /// The events that were read so far.
    pub fn events(&self) -> impl Iterator<Item = Value> {
        self.lines.iter().map(|line| parse(line))
    }
}

fn parse(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
}
