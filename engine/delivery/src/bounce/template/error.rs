//! What can be invalid in a file of templates.

use std::error::Error;
use std::fmt;

/// An invalid line in a file of templates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateError {
    /// Name of the file.
    pub file: Box<str>,
    /// Number of the line, from 1.
    pub line: usize,
    /// What is invalid there.
    pub problem: Problem,
}

/// What is invalid in a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// A line outside of templates that begins none.
    NoTemplate,
    /// A template with another name than the four.
    UnknownTemplate(Box<str>),
    /// A second template with this name.
    RepeatedTemplate(Box<str>),
    /// No `<<` and end marker after the name.
    NoMarker(Box<str>),
    /// The file ends before the line with this marker.
    Unterminated(Box<str>),
    /// A template without text.
    NoText(Box<str>),
    /// A field with another name than the four.
    UnknownField(Box<str>),
    /// A second field with this name.
    RepeatedField(Box<str>),
    /// Postmaster-Subject in a template of which postmasters get no copies.
    NoPostmasterCopy,
    /// A field without a value.
    EmptyField(Box<str>),
    /// A field with a value that is not printable ASCII.
    NonAsciiField(Box<str>),
    /// A field that goes on in the next line.
    FoldedField,
    /// A control character in the text.
    ControlCharacter,
    /// Text that is not ASCII, with Charset us-ascii.
    NonAsciiText,
    /// A dollar without a name after it.
    NoName,
    /// `${` or `$(` without its end.
    UnclosedName,
    /// `${name?text}` and the like.
    Conditional,
    /// A name that is not a parameter.
    UnknownParameter(Box<str>),
    /// A unit that a time is not shown in.
    UnknownUnit(Box<str>),
    /// A parameter with this value, which is not a time.
    NotATime(Box<str>, Box<str>),
}

impl Error for TemplateError {}

impl fmt::Display for TemplateError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}: {}", self.file, self.line, self.problem)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::NoTemplate => "no template begins here; expected a line such as failure_template = <<EOF",
            Self::NoPostmasterCopy => {
                "Postmaster-Subject is not used here; remove it: only failure_template and delay_template have it"
            }
            Self::FoldedField => {
                "the field continues on this line; write it on one line, and an empty line before the text"
            }
            Self::ControlCharacter => "the text has a control character; remove it",
            Self::NonAsciiText => "the text is not ASCII; add a field such as Charset: utf-8",
            Self::NoName => "a $ without a name; write the name of a parameter after it, or $$ for a dollar",
            Self::UnclosedName => "the name after $ has no end; write it as ${name}",
            Self::Conditional => "conditional expansions are not supported; write the text itself",
            Self::UnknownTemplate(name) => {
                return write!(
                    formatter,
                    "{name} is not a template; expected failure_template, delay_template, success_template or \
                     verify_template"
                );
            }
            Self::RepeatedTemplate(name) => {
                return write!(formatter, "{name} is here for the second time; remove one of them");
            }
            Self::NoMarker(name) => {
                return write!(
                    formatter,
                    "{name} has no end marker; write {name} = <<EOF, the template, and a line with EOF only"
                );
            }
            Self::Unterminated(marker) => {
                return write!(formatter, "the template has no end; add a line with {marker} only");
            }
            Self::NoText(name) => {
                return write!(formatter, "{name} has no text; write it after the fields and an empty line");
            }
            Self::UnknownField(name) => {
                return write!(
                    formatter,
                    "{name} is not a field of a template; expected Charset, From, Subject or Postmaster-Subject, \
                     or an empty line before the text"
                );
            }
            Self::RepeatedField(name) => {
                return write!(formatter, "{name} is here for the second time; remove one of them");
            }
            Self::EmptyField(name) => {
                return write!(formatter, "{name} has no value; write one, or remove the line");
            }
            Self::NonAsciiField(name) => {
                return write!(formatter, "{name} is not printable ASCII; write an encoded word (RFC 2047)");
            }
            Self::UnknownParameter(name) => {
                return write!(
                    formatter,
                    "${name} names no parameter; write the name of one, or $$ for a dollar"
                );
            }
            Self::UnknownUnit(name) => {
                return write!(
                    formatter,
                    "${name} has no unit; expected _seconds, _minutes, _hours, _days or _weeks at its end"
                );
            }
            Self::NotATime(name, value) => {
                return write!(formatter, "{name} is {value}, which is not a time; expected one such as 4h");
            }
        };
        formatter.write_str(text)
    }
}
