//! Passes that check content against tables, and the actions of those tables (Postfix's header_checks(5)).

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::rejection::{Halt, Rejection};
use super::{Cleanup, Notice, Passes};
use crate::lookup::Maps;
use crate::message::header::field_name;

/// Decisions of checks about the whole message.
#[derive(Clone, Debug, Default)]
pub struct Decisions {
    /// HOLD: the message stays in the queue until it is released.
    pub is_held: bool,
    /// DISCARD: the message is accepted and dropped.
    pub is_discarded: bool,
    /// FILTER: `transport:destination`.
    pub content_filter: Option<Vec<u8>>,
    /// REDIRECT: replaces all recipients.
    pub redirect: Option<Vec<u8>>,
    /// BCC: additional recipients.
    pub copies: Vec<Vec<u8>>,
    /// The rest of the message is not checked.
    pub(super) is_settled: bool,
}

impl Decisions {
    /// Adds what an action says about the whole message; returns its name for the log. `None`: it says nothing.
    fn add(&mut self, word: &[u8], argument: &[u8]) -> Option<&'static str> {
        let has = |byte| memchr::memchr(byte, argument).is_some();
        Some(match word {
            b"FILTER" if has(b':') => {
                self.content_filter = Some(argument.to_owned());
                "filter"
            }
            b"PASS" => {
                self.is_settled = true;
                "pass"
            }
            b"DISCARD" => {
                self.is_discarded = true;
                self.is_settled = true;
                "discard"
            }
            b"REDIRECT" if has(b'@') => {
                self.redirect = Some(argument.to_owned());
                self.is_settled = true;
                "redirect"
            }
            b"BCC" if has(b'@') => {
                self.copies.push(argument.to_owned());
                "bcc"
            }
            _ => return None,
        })
    }
}

/// Action on a field or line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act<'a> {
    Keep,
    Drop,
    Replace(&'a [u8]),
    Prepend(&'a [u8]),
}

/// Subject of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    Header,
    Body,
}

impl Subject {
    const fn name(self) -> &'static str {
        match self {
            Self::Header => "header",
            Self::Body => "body",
        }
    }
}

impl Cleanup {
    /// Looks up a field or line and applies the action of its entry.
    pub(super) fn check<'a>(
        &mut self,
        surroundings: &mut Passes<'_, 'a>,
        maps: &'a Maps,
        subject: Subject,
        text: &[u8],
    ) -> Result<Act<'a>, Halt> {
        if maps.is_empty() || self.decisions.is_settled {
            return Ok(Act::Keep);
        }
        match maps.find(surroundings.arena, text, surroundings.asker())? {
            Some(action) => self.act(surroundings, action, subject, text),
            None => Ok(Act::Keep),
        }
    }

    fn act<'a>(
        &mut self,
        surroundings: &mut Passes<'_, 'a>,
        action: &'a [u8],
        subject: Subject,
        text: &[u8],
    ) -> Result<Act<'a>, Halt> {
        let (word, argument) = split_action(action);
        let mut memory = [0; 8];
        let word = upper(word, &mut memory);
        let is_line = subject == Subject::Body || field_name(argument).is_some();
        let mut note = |done: &'static str, argument: &[u8]| {
            surroundings.observer.noticed(&Notice { action: done, subject: subject.name(), text, argument });
        };
        match word {
            b"REJECT" => {
                let reason = with_status(argument);
                note("reject", &reason);
                return Err(Rejection::Content(reason.into()).into());
            }
            [b'4' | b'5', b'0'..=b'9', b'0'..=b'9'] => {
                let reason = with_class(word, argument);
                note("reject", &reason);
                return Err(Rejection::Content(reason.into()).into());
            }
            b"WARN" => note("warning", argument),
            b"INFO" => note("info", argument),
            b"HOLD" => {
                if !self.decisions.is_held {
                    note("hold", argument);
                }
                self.decisions.is_held = true;
            }
            b"PREPEND" if !argument.is_empty() && is_line => {
                note("prepend", argument);
                return Ok(Act::Prepend(argument));
            }
            b"REPLACE" if !argument.is_empty() && is_line => {
                note("replace", argument);
                return Ok(Act::Replace(argument));
            }
            b"STRIP" => {
                note("strip", argument);
                return Ok(Act::Drop);
            }
            b"IGNORE" => return Ok(Act::Drop),
            b"DUNNO" | b"OK" => {}
            _ => match self.decisions.add(word, argument) {
                Some(done) => note(done, argument),
                None => note("unusable action", action),
            },
        }
        Ok(Act::Keep)
    }
}

/// Checks that `act` knows the action of a table entry.
///
/// `action` is a value of a table such as `header_checks`.
///
/// # Errors
/// Returns why the action is invalid.
pub fn check_action(action: &[u8]) -> Result<(), String> {
    let (word, argument) = split_action(action);
    let mut memory = [0; 8];
    let missing = match upper(word, &mut memory) {
        b"REJECT" | b"WARN" | b"INFO" | b"PASS" | b"DISCARD" | b"HOLD" | b"STRIP" | b"IGNORE" | b"DUNNO"
        | b"OK" => {
            return Ok(());
        }
        [b'4' | b'5', b'0'..=b'9', b'0'..=b'9'] => return Ok(()),
        b"FILTER" if memchr::memchr(b':', argument).is_some() => return Ok(()),
        b"REDIRECT" | b"BCC" if memchr::memchr(b'@', argument).is_some() => return Ok(()),
        b"PREPEND" | b"REPLACE" if !argument.is_empty() => return Ok(()),
        b"FILTER" => "transport:destination",
        b"REDIRECT" | b"BCC" => "address",
        b"PREPEND" | b"REPLACE" => "text",
        _ => {
            let word = String::from_utf8_lossy(word.get(..WORD_SHOWN_MAX).unwrap_or(word));
            return Err(format!("{word:?} is not an action"));
        }
    };
    Err(format!("{} has no {missing}", String::from_utf8_lossy(word)))
}

/// Maximum number of bytes of an unknown action that messages show.
const WORD_SHOWN_MAX: usize = 40;

/// Splits an action into its word and its argument.
fn split_action(action: &[u8]) -> (&[u8], &[u8]) {
    let size = action.iter().position(|octet| matches!(octet, b' ' | b'\t')).unwrap_or(action.len());
    let (word, argument) = action.split_at_checked(size).unwrap_or((action, b""));
    (word, argument.trim_ascii_start())
}

/// Returns a word in upper case, cut at the size of `memory`, which holds all known words.
fn upper<'m>(word: &[u8], memory: &'m mut [u8; 8]) -> &'m [u8] {
    let Some(place) = memory.get_mut(..word.len()) else { return b"" };
    place.copy_from_slice(word);
    place.make_ascii_uppercase();
    place
}

/// Returns the text of a refusal with an enhanced status code.
fn with_status(argument: &[u8]) -> Vec<u8> {
    let default: &[u8] = b"5.7.1 ";
    if argument.is_empty() {
        return [default, b"message content rejected"].concat();
    }
    match status_size(argument) {
        Some(_) if argument.starts_with(b"4") || argument.starts_with(b"5") => argument.to_owned(),
        // A refusal cannot have the class of success.
        Some(_) => [b"4", argument.get(1..).unwrap_or_default()].concat(),
        None => [default, argument].concat(),
    }
}

/// Returns the text of a refusal whose entry has a reply code, which determines the class of the enhanced status code.
fn with_class(code: &[u8], argument: &[u8]) -> Vec<u8> {
    let class = code.get(..1).unwrap_or_default();
    match status_size(argument) {
        Some(_) => [class, argument.get(1..).unwrap_or_default()].concat(),
        None if argument.is_empty() => [class, b".7.1 message content rejected"].concat(),
        None => [class, b".7.1 ", argument].concat(),
    }
}

/// Returns the size in bytes of the enhanced status code at the start of a text (RFC 3463 §2).
fn status_size(text: &[u8]) -> Option<usize> {
    let end = text.iter().position(|octet| matches!(octet, b' ' | b'\t')).unwrap_or(text.len());
    let status = text.get(..end)?;
    let mut parts = status.split(|octet| *octet == b'.');
    let is_number = |part: Option<&[u8]>, size_max: usize| {
        part.is_some_and(|part| (1..=size_max).contains(&part.len()) && part.iter().all(u8::is_ascii_digit))
    };
    let class = parts.next();
    let is_class = matches!(class, Some(b"2" | b"4" | b"5"));
    let is_status =
        is_class && is_number(parts.next(), 3) && is_number(parts.next(), 3) && parts.next().is_none();
    is_status.then_some(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_actions() {
        for action in
            ["REJECT", "reject x", "450 4.7.1 x", "FILTER a:b", "BCC a@b", "PREPEND X: y", "dunno", "OK"]
        {
            assert_eq!(check_action(action.as_bytes()), Ok(()), "{action}");
        }
        for (action, reason) in [
            ("REJEKT spam", "\"REJEKT\" is not an action"),
            ("", "\"\" is not an action"),
            ("600 x", "\"600\" is not an action"),
            ("FILTER smtp", "FILTER has no transport:destination"),
            ("redirect joe", "redirect has no address"),
            ("PREPEND", "PREPEND has no text"),
        ] {
            assert_eq!(check_action(action.as_bytes()), Err(reason.to_owned()), "{action}");
        }
    }

    #[test]
    fn refusals_have_a_status() {
        for (argument, reason) in [
            ("", "5.7.1 message content rejected"),
            ("go away", "5.7.1 go away"),
            ("4.7.2 later", "4.7.2 later"),
            ("5.7.2", "5.7.2"),
            ("2.0.0 fine", "4.0.0 fine"),
            ("5.7 x", "5.7.1 5.7 x"),
        ] {
            assert_eq!(with_status(argument.as_bytes()), reason.as_bytes(), "{argument}");
        }
        assert_eq!(with_class(b"450", b"later"), b"4.7.1 later");
        assert_eq!(with_class(b"554", b"4.1.2 x"), b"5.1.2 x");
    }
}
