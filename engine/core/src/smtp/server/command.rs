//! The verbs, and how a command line is parsed.

/// A known command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Helo,
    Ehlo,
    Mail,
    Rcpt,
    Data,
    Bdat,
    Rset,
    Noop,
    Vrfy,
    Expn,
    Help,
    Quit,
    Starttls,
    Auth,
    Etrn,
}

impl Verb {
    /// Returns its name in log lines.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Helo => "HELO",
            Self::Ehlo => "EHLO",
            Self::Mail => "MAIL",
            Self::Rcpt => "RCPT",
            Self::Data => "DATA",
            Self::Bdat => "BDAT",
            Self::Rset => "RSET",
            Self::Noop => "NOOP",
            Self::Vrfy => "VRFY",
            Self::Expn => "EXPN",
            Self::Help => "HELP",
            Self::Quit => "QUIT",
            Self::Starttls => "STARTTLS",
            Self::Auth => "AUTH",
            Self::Etrn => "ETRN",
        }
    }

    /// Whether a client may send more only after the reply (RFC 2920 §3.1), where Postfix insists on it.
    pub(super) const fn ends_group(self) -> bool {
        matches!(self, Self::Helo | Self::Ehlo | Self::Data | Self::Vrfy | Self::Noop)
    }

    /// Whether it counts as junk (`smtpd_junk_command_limit`).
    pub(super) const fn is_junk(self) -> bool {
        matches!(
            self,
            Self::Helo
                | Self::Ehlo
                | Self::Rset
                | Self::Noop
                | Self::Vrfy
                | Self::Expn
                | Self::Help
                | Self::Etrn
        )
    }
}

impl Verb {
    /// Returns the verb with this name, in any case.
    fn of(word: &[u8]) -> Option<Self> {
        // Its first four letters leave at most two candidates; shorter words are no verbs.
        let front = u32::from_be_bytes(*word.first_chunk()?) & !CASE;
        let verb = match &front.to_be_bytes() {
            b"MAIL" => Self::Mail,
            b"RCPT" => Self::Rcpt,
            b"DATA" => Self::Data,
            b"BDAT" => Self::Bdat,
            b"EHLO" => Self::Ehlo,
            b"HELO" => Self::Helo,
            b"RSET" => Self::Rset,
            b"QUIT" => Self::Quit,
            b"NOOP" => Self::Noop,
            b"VRFY" => Self::Vrfy,
            b"EXPN" => Self::Expn,
            b"HELP" => Self::Help,
            b"STAR" => Self::Starttls,
            b"AUTH" => Self::Auth,
            b"ETRN" => Self::Etrn,
            _ => return None,
        };
        word.eq_ignore_ascii_case(verb.name().as_bytes()).then_some(verb)
    }
}

/// The bit of each byte that makes a letter lower-case.
const CASE: u32 = 0x2020_2020;

/// A command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command<'a> {
    /// A verb and what follows it, without spaces at the ends.
    Known(Verb, &'a [u8]),
    /// Not SMTP: another protocol, or text of a message (`smtpd_forbidden_commands`).
    Forbidden,
    /// An unknown word.
    Unknown,
    /// No word at all.
    Empty,
    /// Bytes that no command may have.
    Malformed,
    /// Not UTF-8.
    BadUtf8,
}

/// Parses a line without its line end.
pub(super) fn parse(line: &[u8]) -> Command<'_> {
    // One vectorised pass finds what no usual line has.
    let is_plain = !line.iter().fold(false, |is_odd, octet| is_odd | !(b' '..0x7f).contains(octet));
    if !is_plain && core::str::from_utf8(line).is_err() {
        return Command::BadUtf8;
    }
    let line = line.trim_ascii();
    let end = memchr::memchr2(b' ', b'\t', line).unwrap_or(line.len());
    let (word, argument) = line.split_at_checked(end).unwrap_or((line, b""));
    let Some(first) = word.first() else { return Command::Empty };
    let verb = Verb::of(word);
    if is_plain && let Some(verb) = verb {
        return Command::Known(verb, argument.trim_ascii_start());
    }
    let is_other = [&b"CONNECT"[..], b"GET", b"POST"].iter().any(|other| word.eq_ignore_ascii_case(other));
    // `Subject:` and the like come from content that was smuggled or sent too early.
    let is_field = word.len() > 1 && word.ends_with(b":");
    if is_other || is_field || !first.is_ascii_alphabetic() {
        return Command::Forbidden;
    }
    if line.iter().any(|octet| octet.is_ascii_control() && *octet != b'\t') {
        return Command::Malformed;
    }
    verb.map_or(Command::Unknown, |verb| Command::Known(verb, argument.trim_ascii_start()))
}

/// Returns the text after `prefix` (`FROM:`, `TO:`), in any case.
pub(super) fn after<'a>(argument: &'a [u8], prefix: &[u8]) -> Option<&'a [u8]> {
    let (front, rest) = argument.split_at_checked(prefix.len())?;
    front.eq_ignore_ascii_case(prefix).then_some(rest)
}

/// Size and LAST of BDAT (RFC 3030 §2); `None` if it is neither.
pub(super) fn chunk(argument: &[u8]) -> Option<(u64, bool)> {
    let mut words = argument.split(|octet| matches!(octet, b' ' | b'\t')).filter(|word| !word.is_empty());
    let digits = words.next()?;
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let size = digits
        .iter()
        .try_fold(0u64, |size, digit| size.checked_mul(10)?.checked_add(u64::from(digit - b'0')))?;
    let is_last = match words.next() {
        None => false,
        Some(word) if word.eq_ignore_ascii_case(b"LAST") => true,
        Some(_) => return None,
    };
    words.next().is_none().then_some((size, is_last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distinguishes_commands() {
        assert_eq!(parse(b"mAIl fRoM:<a@b>"), Command::Known(Verb::Mail, b"fRoM:<a@b>"));
        assert_eq!(parse(b" NOOP  some text "), Command::Known(Verb::Noop, b"some text"));
        assert_eq!(parse(b"QUIT "), Command::Known(Verb::Quit, b""));
        assert_eq!(parse(b""), Command::Empty);
        assert_eq!(parse(b"XYZZY plugh"), Command::Unknown);
        for line in [
            &b"GET / HTTP/1.1"[..],
            b"post / HTTP/1.1",
            b"Subject: hello",
            b"\x16\x03\x01",
            b"250 Ok",
            b"<a@b>",
        ] {
            assert_eq!(parse(line), Command::Forbidden);
        }
        assert_eq!(parse(b"MAIL FROM:<a@b>\rRCPT"), Command::Malformed);
        assert_eq!(parse(b"MAIL FROM:<a\0b>"), Command::Malformed);
        assert_eq!(parse(b"MAIL FROM:<\xff@b>"), Command::BadUtf8);
    }

    #[test]
    fn parses_chunk_sizes() {
        assert_eq!(chunk(b"20"), Some((20, false)));
        assert_eq!(chunk(b"0  last"), Some((0, true)));
        for argument in [&b""[..], b"abc", b"-1", b"0 FIRST", b"0 LAST LAST", b"99999999999999999999999"] {
            assert_eq!(chunk(argument), None);
        }
    }
}
