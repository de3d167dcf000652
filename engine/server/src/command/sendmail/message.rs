//! How a message is read: records of lines from standard input, as Postfix's `sendmail` reads them.

use std::fmt;
use std::io::{self, BufRead, Read};

use mailrace_core::submission::{FieldTooLong, HeaderRecipients};

/// How it is read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// A line that is a dot ends the message.
    pub(super) is_ended_by_dot: bool,
    /// Bytes of a record: a longer line is several (`line_length_limit`).
    pub(super) record_size_max: usize,
    /// Bytes of the message with CRLF line ends (`message_size_limit`); 0: any number.
    pub(super) size_max: u64,
}

/// Why a message is not read to its end.
#[derive(Debug)]
pub(super) enum MessageError {
    Read(io::Error),
    Write(io::Error),
    TooBig,
    Recipients(FieldTooLong),
}

impl fmt::Display for MessageError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(error) => write!(formatter, "error reading input: {error}"),
            Self::Write(error) => write!(formatter, "error writing queue file: {error}"),
            Self::TooBig => formatter.write_str("message file too big"),
            Self::Recipients(error) => write!(formatter, "unable to extract recipients: {error}"),
        }
    }
}

/// Copies the message from `input` to `write`, with LF line ends, and shows its lines to `recipients` if there is one
/// to take them.
///
/// Lines that begin with `From `, with any number of `>` before it, are left out at the top. All CRs before an LF are of
/// the line end (`sendmail_fix_line_endings` always).
///
/// # Errors
/// [`MessageError`].
pub(super) fn copy(
    input: &mut impl BufRead,
    rules: Rules,
    mut recipients: Option<&mut HeaderRecipients>,
    mut write: impl FnMut(&[u8]) -> io::Result<()>,
) -> Result<(), MessageError> {
    let mut record = Vec::new();
    let mut output = Vec::new();
    let (mut is_line_start, mut is_top, mut size) = (true, true, 0);
    loop {
        record.clear();
        let limit = u64::try_from(rules.record_size_max).unwrap_or(u64::MAX);
        if input.take(limit).read_until(b'\n', &mut record).map_err(MessageError::Read)? == 0 {
            break;
        }
        let is_line_end = record.last() == Some(&b'\n');
        if is_line_end {
            let kept = record.iter().rposition(|octet| !matches!(octet, b'\r' | b'\n'));
            record.truncate(kept.map_or(0, |last| last + 1));
        }
        is_top &= is_line_end && is_mailbox_line(&record);
        if is_top {
            continue;
        }
        if rules.is_ended_by_dot && is_line_start && record == b"." {
            break;
        }
        if let Some(recipients) = recipients.as_deref_mut() {
            recipients.record(&record, is_line_end).map_err(MessageError::Recipients)?;
        }
        size += record.len() as u64 + if is_line_end { 2 } else { 0 };
        if rules.size_max > 0 && size > rules.size_max {
            return Err(MessageError::TooBig);
        }
        output.extend_from_slice(&record);
        if is_line_end {
            output.push(b'\n');
        }
        if output.len() >= OUTPUT_SIZE {
            write(&output).map_err(MessageError::Write)?;
            output.clear();
        }
        is_line_start = is_line_end;
    }
    // The engine ends the last line.
    if rules.size_max > 0 && !is_line_start && size + 2 > rules.size_max {
        return Err(MessageError::TooBig);
    }
    write(&output).map_err(MessageError::Write)
}

/// Bytes that are written at once, more or less.
const OUTPUT_SIZE: usize = 64 * 1024;

fn is_mailbox_line(line: &[u8]) -> bool {
    let quotes = line.iter().take_while(|octet| **octet == b'>').count();
    line.get(quotes..).is_some_and(|rest| rest.starts_with(b"From "))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules = Rules { is_ended_by_dot: true, record_size_max: 20, size_max: 0 };

    fn copied(input: &str, rules: Rules) -> String {
        let mut output = Vec::new();
        let write = |octets: &[u8]| {
            output.extend_from_slice(octets);
            Ok(())
        };
        copy(&mut input.as_bytes(), rules, None, write).unwrap();
        String::from_utf8(output).unwrap()
    }

    /// Each was seen in Postfix 3.7.
    #[test]
    fn lines_are_read_as_postfix_reads_them() {
        for (input, wanted) in [
            ("a\r\nb\r\r\nc\rd\n\r\n", "a\nb\nc\rd\n\n"),
            ("no newline", "no newline"),
            ("end\r", "end\r"),
            ("From x\n>From y\n>>From z\nFrom\nS: x\n\nFrom x\n", "From\nS: x\n\nFrom x\n"),
            ("From a\r\nTo: x\r\n\r\nFrom b\r\n", "To: x\n\nFrom b\n"),
            ("\nFrom x\n", "\nFrom x\n"),
            (
                "From a line that is longer than a record\nS: x\n",
                "From a line that is longer than a record\nS: x\n",
            ),
            ("a\n.\r\nb\n", "a\n"),
            ("a\n.\nb\n", "a\n"),
            ("a\n..\n.b\n", "a\n..\n.b\n"),
            (".\nS: x\n", ""),
            ("a\n.", "a\n"),
            // The dot begins a record, but no line.
            ("12345678901234567890.\nb\n", "12345678901234567890.\nb\n"),
            ("", ""),
        ] {
            assert_eq!(copied(input, RULES), wanted, "{input:?}");
        }
        let rules = Rules { is_ended_by_dot: false, ..RULES };
        assert_eq!(copied("a\n.\nb\n", rules), "a\n.\nb\n");
    }

    #[test]
    fn stops_reading_a_message_that_is_too_big() {
        let rules = Rules { size_max: 10, ..RULES };
        for input in ["123456\n", "123456\n\n", "12345678", "12345678\n"] {
            assert_eq!(copied(input, rules), input);
        }
        for input in ["123456\nabc", "123456\na", "123456789", "123456789\n"] {
            let result = copy(&mut input.as_bytes(), rules, None, |_| Ok(()));
            assert!(matches!(result, Err(MessageError::TooBig)), "{input:?}: {result:?}");
        }
    }

    #[test]
    fn extracts_recipients_while_reading() {
        let mut recipients = HeaderRecipients::new(1000);
        let input = "From x\nTo: somebody@example.com, another@example.com\r\n\nTo: c\n";
        copy(&mut input.as_bytes(), RULES, Some(&mut recipients), |_| Ok(())).unwrap();
        assert_eq!(recipients.finish(), [&b"somebody@example.com"[..], b"another@example.com"]);
    }
}
