//! Finds replies in received bytes (RFC 5321 4.2.1), and the extensions that a reply to EHLO offers.

/// Collects the lines of replies; keeps only those of an unfinished one.
#[derive(Debug, Default)]
pub(crate) struct ReplyReader {
    /// The lines before the last one of a reply, with their line ends.
    earlier: Vec<u8>,
    /// A line whose end has not come.
    partial: Vec<u8>,
}

/// A whole reply.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Reply<'a> {
    /// Three digits; [`UNINTELLIGIBLE`] for what is no reply.
    pub(crate) code: u16,
    /// The last line, without its line end.
    pub(crate) line: &'a [u8],
    /// The lines before it, with their line ends.
    pub(crate) earlier: &'a [u8],
}

/// The code of a line that is no reply, and of a line or a reply without end.
pub(crate) const UNINTELLIGIBLE: u16 = 0;

/// What a line says about the reply it is part of.
enum Line {
    /// More lines follow.
    Continues,
    /// It is the last one, with this code.
    Ends(u16),
}

impl ReplyReader {
    /// Hands each reply that is whole now to `take`, in order; stops when `take` says false.
    pub(crate) fn read(&mut self, mut bytes: &[u8], mut take: impl FnMut(Reply<'_>) -> bool) {
        while let Some(at) = memchr::memchr(b'\n', bytes) {
            let (line, rest) = bytes.split_at(at + 1);
            bytes = rest;
            let goes_on = if self.partial.is_empty() {
                read_line(line, &mut self.earlier, &mut take)
            } else {
                self.partial.extend_from_slice(line);
                let goes_on = read_line(&self.partial, &mut self.earlier, &mut take);
                self.partial.clear();
                goes_on
            };
            if !goes_on {
                return;
            }
        }
        self.partial.extend_from_slice(bytes);
        if self.partial.len() > LINE_SIZE_MAX {
            take(unintelligible(&self.partial));
            self.partial.clear();
        }
    }

    /// Forgets an unfinished reply.
    pub(crate) fn reset(&mut self) {
        self.earlier.clear();
        self.partial.clear();
    }
}

/// Understands one line with its end; false when `take` says so.
fn read_line(line: &[u8], earlier: &mut Vec<u8>, take: &mut impl FnMut(Reply<'_>) -> bool) -> bool {
    let text = line.strip_suffix(b"\n").unwrap_or(line);
    let text = text.strip_suffix(b"\r").unwrap_or(text);
    match parse(text) {
        _ if line.len() > LINE_SIZE_MAX || earlier.len() + line.len() > REPLY_SIZE_MAX => {
            take(unintelligible(text))
        }
        Line::Continues => {
            earlier.extend_from_slice(line);
            true
        }
        Line::Ends(code) => {
            let goes_on = take(Reply { code, line: text, earlier });
            earlier.clear();
            goes_on
        }
    }
}

fn parse(line: &[u8]) -> Line {
    let (code, rest) = match line {
        [a @ b'2'..=b'5', b @ b'0'..=b'9', c @ b'0'..=b'9', rest @ ..] => {
            (u16::from(a - b'0') * 100 + u16::from(b - b'0') * 10 + u16::from(c - b'0'), rest)
        }
        _ => return Line::Ends(UNINTELLIGIBLE),
    };
    match rest {
        [b'-', ..] => Line::Continues,
        [] | [b' ', ..] => Line::Ends(code),
        _ => Line::Ends(UNINTELLIGIBLE),
    }
}

fn unintelligible(line: &[u8]) -> Reply<'_> {
    Reply { code: UNINTELLIGIBLE, line: &line[..line.len().min(LINE_SIZE_MAX)], earlier: &[] }
}

/// The extensions of a server that matter to a client which offers a choice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Extensions {
    /// Commands may be sent in groups (RFC 2920).
    pub(crate) pipelining: bool,
    /// Content may be sent with BDAT (RFC 3030).
    pub(crate) chunking: bool,
}

impl Extensions {
    /// Those that a reply to EHLO offers: one keyword a line, in any case, after a first line with the server's name.
    pub(crate) fn offered_by(reply: &Reply<'_>) -> Self {
        let mut found = Self::default();
        let lines = reply.earlier.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        for line in lines.chain([reply.line]).skip(1) {
            let mut words = line.get(4..).unwrap_or_default().split(u8::is_ascii_whitespace);
            let keyword = words.next().unwrap_or_default();
            found.pipelining |= keyword.eq_ignore_ascii_case(b"PIPELINING");
            found.chunking |= keyword.eq_ignore_ascii_case(b"CHUNKING");
        }
        found
    }
}

/// A reply's line may have 512 bytes (RFC 5321 4.5.3.1.5); servers that write more are understood within reason.
const LINE_SIZE_MAX: usize = 4096;
/// Of the lines of one reply together.
const REPLY_SIZE_MAX: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(pieces: &[&[u8]]) -> Vec<(u16, String)> {
        let mut reader = ReplyReader::default();
        let mut found = Vec::new();
        for piece in pieces {
            reader.read(piece, |reply| {
                found.push((reply.code, String::from_utf8_lossy(reply.line).into_owned()));
                true
            });
        }
        found
    }

    #[test]
    fn only_the_last_line_of_a_reply_counts() {
        let bytes = b"250-mx\r\n250-PIPELINING\r\n250 DSN\r\n354 go\r\n221\r\nnonsense\r\n";
        let expected = [(250, "250 DSN"), (354, "354 go"), (221, "221"), (0, "nonsense")];
        let expected = expected.map(|(code, line)| (code, line.to_owned()));
        assert_eq!(read_all(&[bytes]), expected);
        for split in 1..bytes.len() {
            let (a, b) = bytes.split_at(split);
            assert_eq!(read_all(&[a, b]), expected, "split at {split}");
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(read_all(&single), expected);
    }

    #[test]
    fn what_is_no_reply_is_unintelligible() {
        for line in [
            "",
            "25",
            "abc-def",
            "150 no",
            "650 no",
            "250x",
            "2\u{0}0 ok",
            "\u{0}",
            " 250 ok",
            "HTTP/1.1 400",
        ] {
            assert_eq!(read_all(&[format!("{line}\r\n").as_bytes()])[0].0, UNINTELLIGIBLE, "{line:?}");
        }
    }

    #[test]
    fn an_endless_line_is_bounded_and_no_reply() {
        let mut reader = ReplyReader::default();
        let mut codes = Vec::new();
        for _ in 0..100 {
            reader.read(&[b'2'; 1000], |reply| {
                assert!(reply.line.len() <= LINE_SIZE_MAX);
                codes.push(reply.code);
                false
            });
            assert!(reader.partial.len() <= LINE_SIZE_MAX);
        }
        assert!(codes.contains(&UNINTELLIGIBLE));
        let whole = [b"250 ".to_vec(), vec![b'x'; LINE_SIZE_MAX], b"\r\n".to_vec()].concat();
        assert_eq!(read_all(&[&whole])[0].0, UNINTELLIGIBLE);
    }

    #[test]
    fn endless_lines_are_bounded_and_no_reply() {
        let mut reader = ReplyReader::default();
        let mut codes = Vec::new();
        for _ in 0..10_000 {
            reader.read(b"250-and more\r\n", |reply| {
                codes.push(reply.code);
                false
            });
            assert!(reader.earlier.len() <= REPLY_SIZE_MAX);
        }
        assert_eq!(codes.first(), Some(&UNINTELLIGIBLE));
    }

    #[test]
    fn reading_stops_when_told() {
        let mut reader = ReplyReader::default();
        let mut count = 0;
        reader.read(b"250 a\r\n421 b\r\n250 c\r\n", |reply| {
            count += 1;
            reply.code != 421
        });
        assert_eq!(count, 2);
    }

    #[test]
    fn keywords_are_read_in_any_case_from_every_line_but_the_first() {
        let extensions = |text: &str| {
            let mut found = None;
            ReplyReader::default().read(text.as_bytes(), |reply| {
                found = Some(Extensions::offered_by(&reply));
                true
            });
            found.unwrap()
        };
        let offer = |pipelining, chunking| Extensions { pipelining, chunking };
        assert_eq!(extensions("250-mx\r\n250-PIPELINING\r\n250 CHUNKING\r\n"), offer(true, true));
        assert_eq!(extensions("250-mx\n250-pipelining\n250 Chunking x\n"), offer(true, true));
        assert_eq!(extensions("250-PIPELINING\r\n250 SIZE 1\r\n"), offer(false, false));
        assert_eq!(extensions("250 CHUNKING\r\n"), offer(false, false));
        assert_eq!(extensions("250-mx\r\n250-XCHUNKING\r\n250\r\n"), offer(false, false));
    }
}
