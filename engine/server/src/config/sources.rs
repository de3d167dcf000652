//! Sources of a configuration: a file and command-line arguments.

use std::path::PathBuf;

use super::error::{ConfigError, ConfigErrors, Fault, Place};
use super::reader::{Document, Raw, Section};
use super::value::Setting;
use crate::log::LogFormat;

/// Sources of a configuration.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// Configuration file; without one, all parameters have their defaults.
    pub file: Option<PathBuf>,
    /// Replaces `engine.listen` unless empty.
    pub listen: Vec<String>,
    /// Replaces `queue.directory`.
    pub queue: Option<PathBuf>,
    /// Replaces `engine.io`.
    pub io: Option<String>,
    /// `NAME=VALUE` each; replaces the value in the file.
    pub set: Vec<String>,
}

impl Sources {
    /// Returns the log format, which is needed to log errors of the configuration; the default if it cannot be read.
    #[must_use]
    pub fn log_format(&self) -> LogFormat {
        let mut document = Document::default();
        if let Some(path) = &self.file {
            // Loading the whole configuration reports the errors.
            let _ = document.read_file(path);
        }
        for (name, value) in self.set.iter().filter_map(|setting| setting.split_once('=')) {
            document.set("--set", name.trim(), value.trim());
        }
        let given = document.get(Section::Engine, "log_format");
        given.and_then(|given| LogFormat::read(&given.raw).ok()).unwrap_or_default()
    }

    /// Reads the file and the arguments.
    pub(super) fn document(&self) -> Result<Document, ConfigErrors> {
        let mut document = Document::default();
        if let Some(path) = &self.file {
            document.read_file(path)?;
        }
        if !self.listen.is_empty() {
            document.put(Section::Engine, "listen", Raw::List(self.listen.clone()), "--listen");
        }
        if let Some(queue) = &self.queue {
            let queue = queue.to_string_lossy().into_owned();
            document.put(Section::Queue, "directory", Raw::Text(queue), "--queue");
        }
        if let Some(io) = &self.io {
            document.put(Section::Engine, "io", Raw::Text(io.clone()), "--io");
        }
        for setting in &self.set {
            let Some((name, value)) = setting.split_once('=') else {
                let fault = Fault::Value {
                    reason: format!("{setting:?} has no ="),
                    remedy: "write --set NAME=VALUE".to_owned(),
                };
                return Err(
                    ConfigError { place: Place::Argument("--set"), name: String::new(), fault }.into()
                );
            };
            document.set("--set", name.trim(), value.trim());
        }
        Ok(document)
    }
}

#[cfg(test)]
mod tests;
