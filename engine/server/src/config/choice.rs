//! Owns the parameters whose value is one of a few words.

use mailrace_core::smtp::BareNewline;

use crate::tables::BadLines;

use super::document::Raw;
use super::value::{Refusal, Setting, wrong_type};

impl Setting for BareNewline {
    fn read(raw: &Raw) -> Result<Self, Refusal> {
        let remedy = "write \"normalize\", \"reject\", true (as normalize) or false";
        match raw {
            Raw::Boolean(false) => Ok(Self::Accept),
            Raw::Boolean(true) => Ok(Self::Normalize),
            Raw::Text(text) if text.eq_ignore_ascii_case("no") => Ok(Self::Accept),
            Raw::Text(text) if text.eq_ignore_ascii_case("yes") => Ok(Self::Normalize),
            Raw::Text(text) if text.eq_ignore_ascii_case("normalize") => Ok(Self::Normalize),
            Raw::Text(text) if text.eq_ignore_ascii_case("reject") => Ok(Self::Reject),
            other => Err(wrong_type(other, "a mode for bare newlines", remedy)),
        }
    }
}

impl Setting for BadLines {
    fn read(raw: &Raw) -> Result<Self, Refusal> {
        match raw {
            Raw::Text(text) if text == "refuse" => Ok(Self::Refuse),
            Raw::Text(text) if text == "warn" => Ok(Self::Warn),
            other => Err(wrong_type(other, "what to do with a table", "write \"refuse\" or \"warn\"")),
        }
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// A line of text.
    #[default]
    Text,
    /// An object a line.
    Json,
}

impl Setting for LogFormat {
    fn read(raw: &Raw) -> Result<Self, Refusal> {
        match raw {
            Raw::Text(text) if text == "text" => Ok(Self::Text),
            Raw::Text(text) if text == "json" => Ok(Self::Json),
            other => Err(wrong_type(other, "a log format", "write \"text\" or \"json\"")),
        }
    }
}

/// How workers reach the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoChoice {
    /// io_uring where it is to be had, else epoll.
    Auto,
    /// io_uring, or no start.
    Ring,
    /// epoll and threads that write.
    Epoll,
}

impl Setting for IoChoice {
    fn read(raw: &Raw) -> Result<Self, Refusal> {
        match raw {
            Raw::Text(text) if text == "auto" => Ok(Self::Auto),
            Raw::Text(text) if text == "ring" => Ok(Self::Ring),
            Raw::Text(text) if text == "epoll" => Ok(Self::Epoll),
            other => Err(wrong_type(other, "a way to the kernel", "write \"auto\", \"ring\" or \"epoll\"")),
        }
    }
}

/// What keeps messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// Mailrace's own batch files.
    Spool,
}

impl Setting for Backend {
    fn read(raw: &Raw) -> Result<Self, Refusal> {
        match raw {
            Raw::Text(text) if text == "spool" => Ok(Self::Spool),
            Raw::Text(text) if text == "postfix" => {
                Err(Refusal::new("the backend \"postfix\" does not exist yet", "write \"spool\""))
            }
            other => Err(wrong_type(other, "a queue backend", "write \"spool\"")),
        }
    }
}
