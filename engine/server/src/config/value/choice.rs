//! Parameters whose value is one of several words.

use mailrace_core::smtp::BareNewline;

use super::{Refusal, Setting, wrong_type};
use crate::config::reader::Raw;
use crate::log::LogFormat;
use crate::tables::BadLines;

impl Setting for BareNewline {
    const KIND: &str = "`normalize`, `reject` or no";

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
    const KIND: &str = "`refuse` or `warn`";

    fn read(raw: &Raw) -> Result<Self, Refusal> {
        match raw {
            Raw::Text(text) if text == "refuse" => Ok(Self::Refuse),
            Raw::Text(text) if text == "warn" => Ok(Self::Warn),
            other => Err(wrong_type(other, "what to do with a table", "write \"refuse\" or \"warn\"")),
        }
    }
}

impl Setting for LogFormat {
    const KIND: &str = "`text` or `json`";

    fn read(raw: &Raw) -> Result<Self, Refusal> {
        match raw {
            Raw::Text(text) if text == "text" => Ok(Self::Text),
            Raw::Text(text) if text == "json" => Ok(Self::Json),
            other => Err(wrong_type(other, "a log format", "write \"text\" or \"json\"")),
        }
    }
}

/// Kernel interface of the workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoChoice {
    /// io_uring where it is available, else epoll.
    Auto,
    /// io_uring; startup fails without it.
    Ring,
    /// epoll, with threads for durable writes.
    Epoll,
}

impl Setting for IoChoice {
    const KIND: &str = "`auto`, `ring` or `epoll`";

    fn read(raw: &Raw) -> Result<Self, Refusal> {
        match raw {
            Raw::Text(text) if text == "auto" => Ok(Self::Auto),
            Raw::Text(text) if text == "ring" => Ok(Self::Ring),
            Raw::Text(text) if text == "epoll" => Ok(Self::Epoll),
            other => Err(wrong_type(other, "a kernel interface", "write \"auto\", \"ring\" or \"epoll\"")),
        }
    }
}

/// Whether queued mail is delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryChoice {
    /// If a parameter says where mail goes.
    Auto,
    /// Always.
    Yes,
    /// Never: mail stays in the queue.
    No,
}

impl Setting for DeliveryChoice {
    const KIND: &str = "`auto`, yes or no";

    fn read(raw: &Raw) -> Result<Self, Refusal> {
        match raw {
            Raw::Text(text) if text == "auto" => Ok(Self::Auto),
            Raw::Boolean(true) => Ok(Self::Yes),
            Raw::Boolean(false) => Ok(Self::No),
            Raw::Text(text) if text.eq_ignore_ascii_case("yes") => Ok(Self::Yes),
            Raw::Text(text) if text.eq_ignore_ascii_case("no") => Ok(Self::No),
            other => Err(wrong_type(other, "auto, yes or no", "write \"auto\", true or false")),
        }
    }
}

/// Storage backend of the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// Mailrace's own batch files.
    Spool,
}

impl Setting for Backend {
    const KIND: &str = "`spool`";

    fn read(raw: &Raw) -> Result<Self, Refusal> {
        match raw {
            Raw::Text(text) if text == "spool" => Ok(Self::Spool),
            Raw::Text(text) if text == "postfix" => {
                Err(Refusal::new("the backend \"postfix\" is not supported yet", "write \"spool\""))
            }
            other => Err(wrong_type(other, "a queue backend", "write \"spool\"")),
        }
    }
}
