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
    // CRs at the end of a record that was cut: an LF may follow.
    let mut crs = 0;
    loop {
        record.clear();
        record.resize(crs, b'\r');
        let limit = rules.record_size_max.saturating_sub(crs).max(1);
        let size_read =
            input.take(limit as u64).read_until(b'\n', &mut record).map_err(MessageError::Read)?;
        if record.is_empty() {
            break;
        }
        let is_line_end = record.last() == Some(&b'\n');
        let kept =
            record.iter().rposition(|octet| !matches!(octet, b'\r' | b'\n')).map_or(0, |last| last + 1);
        // Of a record of CRs alone none are kept for the next, which bounds their number.
        crs = if is_line_end || size_read < limit || kept == 0 { 0 } else { record.len() - kept };
        if is_line_end || crs > 0 {
            record.truncate(kept);
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
mod tests;
