//! A dialogue as it is written in a file.

use crate::escape::unescape;

/// A line and what is wrong with it.
pub(crate) type Failure = (usize, String);

/// One dialogue.
#[derive(Debug, Default)]
pub(crate) struct Case {
    /// `# config:`, names and values with their lines.
    pub(crate) config: Vec<(usize, String, String)>,
    /// `# alias:`, keys and values of `virtual_alias_maps`.
    pub(crate) aliases: Vec<(String, String)>,
    /// `# client: trusted`.
    pub(crate) is_trusted: bool,
    /// `# pieces: no`: what the client sends comes as it is written, and not in pieces too.
    pub(crate) is_whole_only: bool,
    /// The steps with their lines.
    pub(crate) steps: Vec<(usize, Step)>,
}

/// One step.
#[derive(Debug)]
pub(crate) enum Step {
    /// `C:`
    Send(Vec<u8>),
    /// `S:`
    Reply(String),
    /// `STORAGE low` and `STORAGE ok`.
    Storage { is_low: bool },
    /// `VERDICT`: what the caller says of messages from here on.
    Verdict(Said),
    /// `TIMEOUT`: the client was silent for too long.
    TimeOut,
    /// `SHUTDOWN`
    ShutDown,
    /// `EXPECT-CLOSE` and `EXPECT-OPEN`.
    Closed(bool),
    /// `EXPECT-QUEUED`: messages since the beginning.
    Queued(usize),
    /// `EXPECT-CONTENT`: content of the message queued last.
    Content(Vec<u8>),
    /// `EXPECT-REJECTS`: the reasons that were reported since the beginning.
    Rejects(String),
    /// `EXPECT-DELAYS`: how often replies were held back since the beginning.
    Delays(usize),
}

/// What the caller says of a message that cleanup lets pass.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Said {
    Queued,
    WriteFailed,
    StorageFull,
}

impl Case {
    /// Reads a file.
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        let mut case = Self::default();
        for (line, text) in (1..).zip(text.lines()) {
            let read = match text.strip_prefix('#') {
                Some(comment) => case.header(line, comment),
                None if text.is_empty() => Ok(()),
                None => step(text).map(|step| case.steps.push((line, step))),
            };
            read.map_err(|message| (line, message))?;
        }
        Ok(case)
    }

    fn header(&mut self, line: usize, comment: &str) -> Result<(), String> {
        let Some((name, value)) = comment.trim().split_once(": ") else { return Ok(()) };
        let pair = || {
            let pair = value.split_once(' ').ok_or("expected a name and a value")?;
            Ok::<_, String>((pair.0.to_owned(), pair.1.to_owned()))
        };
        match (name, value) {
            ("config", _) => pair().map(|(name, value)| self.config.push((line, name, value)))?,
            ("alias", _) => self.aliases.push(pair()?),
            ("client", "trusted") => self.is_trusted = true,
            ("pieces", "no") => self.is_whole_only = true,
            ("title" | "from" | "note", _) => {}
            _ => return Err(format!("unknown header {name}: {value}")),
        }
        Ok(())
    }
}

fn step(text: &str) -> Result<Step, String> {
    let (word, argument) = text.split_once(' ').unwrap_or((text, ""));
    let count = || argument.parse().map_err(|_| format!("expected a number, not {argument:?}"));
    Ok(match (word, argument) {
        ("C:", _) => Step::Send(unescape(argument)?),
        ("S:", _) => Step::Reply(String::from_utf8(unescape(argument)?).map_err(|error| error.to_string())?),
        ("STORAGE", "low") => Step::Storage { is_low: true },
        ("STORAGE", "ok") => Step::Storage { is_low: false },
        ("VERDICT", "queued") => Step::Verdict(Said::Queued),
        ("VERDICT", "write-failed") => Step::Verdict(Said::WriteFailed),
        ("VERDICT", "storage-full") => Step::Verdict(Said::StorageFull),
        ("TIMEOUT", "") => Step::TimeOut,
        ("SHUTDOWN", "") => Step::ShutDown,
        ("EXPECT-CLOSE", "") => Step::Closed(true),
        ("EXPECT-OPEN", "") => Step::Closed(false),
        ("EXPECT-QUEUED", _) => Step::Queued(count()?),
        ("EXPECT-CONTENT", _) => Step::Content(unescape(argument)?),
        ("EXPECT-REJECTS", _) => Step::Rejects(argument.to_owned()),
        ("EXPECT-DELAYS", _) => Step::Delays(count()?),
        _ => return Err(format!("unknown step {text:?}")),
    })
}
