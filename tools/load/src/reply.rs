//! Owns finding replies in received octets (RFC 5321 §4.2.1).

/// Collects reply lines; keeps only the unfinished one.
#[derive(Debug, Default)]
pub(crate) struct ReplyReader {
    partial: Vec<u8>,
}

/// A whole reply: the code and its last line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Reply<'a> {
    /// Three digits; 0 for a line that is no reply.
    pub(crate) code: u16,
    /// The last line, without its line end.
    pub(crate) line: &'a [u8],
}

impl ReplyReader {
    /// Hands each reply that is whole now to `take`, in order; stops when `take` says false.
    pub(crate) fn read(&mut self, mut octets: &[u8], mut take: impl FnMut(Reply<'_>) -> bool) {
        while let Some(at) = memchr::memchr(b'\n', octets) {
            let (line, rest) = octets.split_at(at + 1);
            octets = rest;
            let goes_on = if self.partial.is_empty() {
                reply(line).is_none_or(&mut take)
            } else {
                self.partial.extend_from_slice(line);
                let goes_on = reply(&self.partial).is_none_or(&mut take);
                self.partial.clear();
                goes_on
            };
            if !goes_on {
                return;
            }
        }
        // A server that never ends its line must not fill our memory.
        let room = LINE_SIZE_MAX.saturating_sub(self.partial.len());
        self.partial.extend_from_slice(&octets[..octets.len().min(room)]);
    }

    /// Forgets an unfinished line.
    pub(crate) fn reset(&mut self) {
        self.partial.clear();
    }
}

/// The reply that ends with this line; `None` for a line with more to follow.
fn reply(line: &[u8]) -> Option<Reply<'_>> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let code = match line {
        [_, _, _, b'-', ..] => return None,
        [a @ b'2'..=b'5', b @ b'0'..=b'9', c @ b'0'..=b'9']
        | [a @ b'2'..=b'5', b @ b'0'..=b'9', c @ b'0'..=b'9', b' ', ..] => {
            u16::from(a - b'0') * 100 + u16::from(b - b'0') * 10 + u16::from(c - b'0')
        }
        _ => 0,
    };
    Some(Reply { code, line })
}

const LINE_SIZE_MAX: usize = 4096;

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
        let octets = b"250-mx\r\n250-PIPELINING\r\n250 DSN\r\n354 go\r\n221\r\nnonsense\r\n";
        let expected = [(250, "250 DSN"), (354, "354 go"), (221, "221"), (0, "nonsense")];
        let expected = expected.map(|(code, line)| (code, line.to_owned()));
        assert_eq!(read_all(&[octets]), expected);
        for split in 1..octets.len() {
            let (a, b) = octets.split_at(split);
            assert_eq!(read_all(&[a, b]), expected, "split at {split}");
        }
        let single: Vec<&[u8]> = octets.chunks(1).collect();
        assert_eq!(read_all(&single), expected);
    }

    #[test]
    fn an_endless_line_is_bounded() {
        let mut reader = ReplyReader::default();
        for _ in 0..100 {
            reader.read(&[b'x'; 1000], |_| true);
        }
        assert_eq!(reader.partial.len(), LINE_SIZE_MAX);
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
}
